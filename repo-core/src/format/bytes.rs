//! Reads fixed little-endian layouts out of hostile bytes: every step checks the length first.

/// What is left to read. Errors are a reason in words; the caller names the object.
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor(bytes)
    }

    pub(super) fn take(&mut self, bytes_n: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(bytes_n).ok_or_else(|| {
            format!("it ends early: {bytes_n} more bytes were announced, and {} are left", self.0.len())
        })?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) =
            self.0.split_first_chunk().ok_or_else(|| format!("it ends early, {} bytes from its end", self.0.len()))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, String> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, String> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads a count of entries of at least `entry_bytes` each, and checks that so many can still follow.
    pub(super) fn count(&mut self, entry_bytes: usize) -> Result<usize, String> {
        let count = self.u32()? as usize;
        if count > self.0.len() / entry_bytes {
            return Err(format!("it announces {count} entries, more than it can hold"));
        }
        Ok(count)
    }

    pub(super) fn zeros(&mut self, bytes_n: usize) -> Result<(), String> {
        if self.take(bytes_n)?.iter().any(|byte| *byte != 0) {
            return Err("reserved bytes are not zero".to_owned());
        }
        Ok(())
    }

    /// Ends the reading: what is left must be zero bytes, the padding.
    pub(super) fn end_padded(mut self) -> Result<(), String> {
        self.zeros(self.0.len()).map_err(|_| "its padding is not zero".to_owned())
    }

    /// Ends the reading: nothing may be left.
    pub(super) fn end(self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err(format!("{} bytes are left over", self.0.len())) }
    }

    pub(super) fn rest_bytes_n(&self) -> usize {
        self.0.len()
    }
}

/// Length on disk of something in memory, where a limit keeps it below 4 GiB.
pub(super) fn len_u32(length: usize) -> u32 {
    u32::try_from(length).expect("limits keep the lengths of stored objects below 4 GiB")
}

/// Count on disk of something in memory, where a limit keeps it below 65,536.
pub(super) fn len_u16(length: usize) -> u16 {
    u16::try_from(length).expect("limits keep counts within a blob or node below 65,536")
}

/// Appends zero bytes until the length, counting `extra` more that will follow, is a multiple of `unit`.
pub(super) fn pad(bytes: &mut Vec<u8>, extra: usize, unit: usize) {
    let padded = (bytes.len() + extra).next_multiple_of(unit);
    bytes.resize(padded - extra, 0);
}
