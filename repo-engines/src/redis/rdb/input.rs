//! Reads an RDB's bytes: counts them, sums them up, and decodes lengths and strings.

use super::{Out, Result, SMALL_BYTES_MAX, Stop, lzf};
use crate::sort::SortKey;
use crc_fast::{CrcAlgorithm, Digest};
use std::io::Read;

const BUFFER_BYTES: usize = 64 * 1024;

/// Bytes that are read once, from front to back.
pub(in crate::redis) struct Input<R> {
    source: R,
    buffer: Box<[u8]>,
    /// What of the buffer was taken, and what there is.
    at: usize,
    filled: usize,
    /// What of the buffer is in the checksum.
    summed: usize,
    crc: Digest,
    /// Bytes before those in the buffer.
    before: u64,
}

/// A length, or a mark that a string is stored in another way.
enum Length {
    Of(u64),
    Special(u8),
}

impl<R: Read> Input<R> {
    pub fn new(source: R) -> Self {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Input { source, buffer, at: 0, filled: 0, summed: 0, crc: new_crc(), before: 0 }
    }

    /// Returns where the bytes came from.
    pub fn into_source(self) -> R {
        self.source
    }

    /// Returns how many bytes were taken.
    pub fn position(&self) -> u64 {
        self.before + self.at as u64
    }

    /// Returns the checksum of all bytes that were taken.
    pub fn crc(&mut self) -> u64 {
        self.sum_up();
        self.crc.finalize()
    }

    /// Returns the error for bytes that can't be here.
    pub fn bad(&self, why: impl Into<String>) -> Stop {
        Stop::Bad { at: self.position(), why: why.into() }
    }

    /// Returns whether nothing follows.
    pub fn is_at_end(&mut self) -> Result<bool> {
        Ok(self.at == self.filled && !self.refill()?)
    }

    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.piece(1)?[0])
    }

    /// Takes between 1 and `bytes_max` bytes.
    pub fn piece(&mut self, bytes_max: usize) -> Result<&[u8]> {
        if self.at == self.filled && !self.refill()? {
            return Err(Stop::Ended { at: self.position() });
        }
        let start = self.at;
        self.at += bytes_max.min(self.filled - start);
        Ok(&self.buffer[start..self.at])
    }

    pub fn exact<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (mut bytes, mut filled) = ([0; N], 0);
        while filled < N {
            let piece = self.piece(N - filled)?;
            bytes[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        }
        Ok(bytes)
    }

    /// Copies so many bytes as they are.
    pub fn copy(&mut self, bytes_n: u64, out: &mut dyn Out) -> Result<()> {
        self.each(bytes_n, &mut |piece| out.write(piece))
    }

    fn each(&mut self, bytes_n: u64, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut left = bytes_n;
        while left > 0 {
            let piece = self.piece(usize::try_from(left).unwrap_or(usize::MAX))?;
            left -= piece.len() as u64;
            take(piece)?;
        }
        Ok(())
    }

    /// Reads a length.
    pub fn length(&mut self) -> Result<u64> {
        match self.any_length()? {
            Length::Of(length) => Ok(length),
            Length::Special(_) => Err(self.bad("a string is where a length must be")),
        }
    }

    /// Copies a length, and returns it.
    pub fn copy_length(&mut self, out: &mut dyn Out) -> Result<u64> {
        let length = self.length()?;
        write_length(length, out)?;
        Ok(length)
    }

    /// Copies a string, unpacked.
    pub fn copy_string(&mut self, out: &mut dyn Out) -> Result<()> {
        self.string(out, None)
    }

    /// Copies a string, unpacked, and notes its text as what the entry is sorted by.
    pub fn copy_key(&mut self, out: &mut dyn Out, key: &mut SortKey) -> Result<()> {
        self.string(out, Some(key))
    }

    /// Reads a string that is short.
    pub fn small_string(&mut self) -> Result<Vec<u8>> {
        let mut text = Small(Vec::new());
        self.text(&mut text)?;
        Ok(text.0)
    }

    /// Copies a string's text, without its length; that of a number, if it is stored as one.
    pub fn text(&mut self, out: &mut dyn Out) -> Result<()> {
        match self.any_length()? {
            Length::Of(length) => self.copy(length, out),
            Length::Special(3) => {
                let (packed_n, bytes_n) = (self.length()?, self.length()?);
                lzf::unpack(self, packed_n, bytes_n, &mut |piece| out.write(piece))
            }
            Length::Special(kind) => out.write(self.integer(kind)?.1.to_string().as_bytes()),
        }
    }

    fn string(&mut self, out: &mut dyn Out, mut key: Option<&mut SortKey>) -> Result<()> {
        let mut take = |piece: &[u8], out: &mut dyn Out| {
            if let Some(key) = &mut key {
                key.extend(piece);
            }
            out.write(piece)
        };
        match self.any_length()? {
            Length::Of(length) => {
                write_length(length, out)?;
                self.each(length, &mut |piece| take(piece, out))
            }
            Length::Special(3) => {
                let (packed_n, bytes_n) = (self.length()?, self.length()?);
                write_length(bytes_n, out)?;
                lzf::unpack(self, packed_n, bytes_n, &mut |piece| take(piece, out))
            }
            Length::Special(kind) => {
                let (bytes, number) = self.integer(kind)?;
                if let Some(key) = key {
                    key.extend(number.to_string().as_bytes());
                }
                out.write(&bytes)
            }
        }
    }

    /// Reads a string that is a number; returns its bytes too.
    fn integer(&mut self, kind: u8) -> Result<(Vec<u8>, i64)> {
        let (bytes, number) = match kind {
            0 => {
                let byte = self.exact::<1>()?;
                (byte.to_vec(), i64::from(i8::from_le_bytes(byte)))
            }
            1 => {
                let bytes = self.exact::<2>()?;
                (bytes.to_vec(), i64::from(i16::from_le_bytes(bytes)))
            }
            2 => {
                let bytes = self.exact::<4>()?;
                (bytes.to_vec(), i64::from(i32::from_le_bytes(bytes)))
            }
            _ => return Err(self.bad(format!("strings are not stored in way {kind}"))),
        };
        Ok(([&[0xc0 | kind][..], &bytes].concat(), number))
    }

    fn any_length(&mut self) -> Result<Length> {
        let first = self.byte()?;
        Ok(match (first >> 6, first) {
            (0, _) => Length::Of(u64::from(first)),
            (1, _) => Length::Of(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            (2, 0x80) => Length::Of(u32::from_be_bytes(self.exact()?).into()),
            (2, 0x81) => Length::Of(u64::from_be_bytes(self.exact()?)),
            (3, _) => Length::Special(first & 0x3f),
            _ => return Err(self.bad("a length is of no known kind")),
        })
    }

    /// Reads on; returns whether there was anything.
    fn refill(&mut self) -> Result<bool> {
        self.sum_up();
        self.before += self.filled as u64;
        (self.at, self.filled, self.summed) = (0, 0, 0);
        self.filled = loop {
            match self.source.read(&mut self.buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        Ok(self.filled > 0)
    }

    fn sum_up(&mut self) {
        self.crc.update(&self.buffer[self.summed..self.at]);
        self.summed = self.at;
    }
}

/// Holds a string that is short.
struct Small(Vec<u8>);

impl Out for Small {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if (self.0.len() + bytes.len()) as u64 > SMALL_BYTES_MAX {
            return Err(Stop::Unknown(format!("the RDB has a field of more than {SMALL_BYTES_MAX} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Returns an empty CRC-64 as Redis has it, of Jones' polynomial.
pub(in crate::redis) fn new_crc() -> Digest {
    Digest::new(CrcAlgorithm::Crc64Redis)
}

/// Writes a length in its shortest form.
pub(in crate::redis) fn write_length(length: u64, out: &mut dyn Out) -> Result<()> {
    match length {
        0..0x40 => out.write(&[length as u8]),
        0x40..0x4000 => out.write(&(0x4000 | length as u16).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            out.write(&[0x80])?;
            out.write(&(length as u32).to_be_bytes())
        }
        _ => {
            out.write(&[0x81])?;
            out.write(&length.to_be_bytes())
        }
    }
}

/// Writes a string as servers store it: as a number where it looks like one, otherwise as it is.
pub(in crate::redis) fn write_short_string(text: &[u8], out: &mut dyn Out) -> Result<()> {
    let number =
        std::str::from_utf8(text).ok().filter(|text| text.len() <= 11).and_then(|text| text.parse::<i32>().ok());
    match number.filter(|number| number.to_string().as_bytes() == text) {
        Some(number) => match (i8::try_from(number), i16::try_from(number)) {
            (Ok(number), _) => out.write(&[&[0xc0][..], &number.to_le_bytes()].concat()),
            (_, Ok(number)) => out.write(&[&[0xc1][..], &number.to_le_bytes()].concat()),
            _ => out.write(&[&[0xc2][..], &number.to_le_bytes()].concat()),
        },
        None => {
            write_length(text.len() as u64, out)?;
            out.write(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_come_back_in_their_shortest_form() {
        for length in [0, 63, 64, 16383, 16384, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX] {
            let mut bytes = Vec::new();
            write_length(length, &mut bytes).expect("memory");
            assert_eq!(Input::new(&bytes[..]).length().expect("a length"), length);
        }
        let long = [0x80, 0, 0, 0, 5];
        let mut short = Vec::new();
        Input::new(&long[..]).copy_length(&mut short).expect("a length");
        assert_eq!(short, [5]);
        for bad in [&[0x82][..], &[0xbf], &[0xc3], &[0x80, 0]] {
            assert!(Input::new(bad).length().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn short_strings_are_stored_as_servers_do() {
        for text in ["", "x", "007", "-0", "+1", "1 ", "2147483648", "99999999999"] {
            let mut stored = Vec::new();
            write_short_string(text.as_bytes(), &mut stored).expect("memory");
            assert_eq!(stored, [&[text.len() as u8], text.as_bytes()].concat(), "{text:?}");
        }
        for (text, bytes_n) in [("0", 2), ("-128", 2), ("128", 3), ("-32768", 3), ("32768", 5), ("-2147483648", 5)] {
            let mut stored = Vec::new();
            write_short_string(text.as_bytes(), &mut stored).expect("memory");
            assert_eq!(stored.len(), bytes_n, "{text}");
            assert_eq!(Input::new(&stored[..]).small_string().expect("a string"), text.as_bytes());
        }
    }

    #[test]
    fn the_checksum_is_that_of_redis() {
        // "Test vector" of the server's own crc64.c.
        let mut input = Input::new(&b"123456789"[..]);
        input.exact::<9>().expect("nine bytes");
        assert_eq!(input.crc(), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn packed_strings_are_unpacked() {
        let unpack = |packed: &[u8], bytes_n: u8| {
            let bytes = [&[0xc3, packed.len() as u8, bytes_n], packed].concat();
            let mut out = Vec::new();
            Input::new(&bytes[..]).copy_string(&mut out).map(|()| out)
        };
        // "a", and 19 bytes from one back.
        assert_eq!(unpack(&[0, b'a', 0xe0, 10, 0], 20).expect("good"), [&[20][..], &[b'a'; 20]].concat());
        assert_eq!(unpack(&[2, b'a', b'b', b'c', 0x20, 2], 6).expect("good"), b"\x06abcabc");
        for (packed, bytes_n) in [(&[0, b'a', 0x20, 1][..], 4), (&[0, b'a'], 2), (&[0, b'a'], 0), (&[5, b'a'], 6)] {
            assert!(unpack(packed, bytes_n).is_err(), "{packed:?}");
        }
    }
}
