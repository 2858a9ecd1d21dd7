//! Temporary files that hold what memory should not: without a name, sealed, gone with the process.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use std::fs::File;
use std::io::{self, Result};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Bytes of one frame, at most, before they are sealed.
pub(super) const FRAME_BYTES: usize = 64 * 1024;
/// The frame's length and its number.
const HEAD_BYTES: usize = 12;

/// A file of frames, each sealed under a key that only this process has. It is made when the first one is written.
pub(crate) struct Spill {
    folder: PathBuf,
    open: Option<(File, ChaCha20Poly1305)>,
    end: u64,
    /// Frames that were ever sealed: none gets the number of another, even after [`Spill::clear`].
    frames_n: u64,
    sealed: Vec<u8>,
}

/// A part of a file, from one frame to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub start: u64,
    pub end: u64,
}

impl Spill {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Spill { folder: folder.into(), open: None, end: 0, frames_n: 0, sealed: Vec::new() }
    }

    /// Returns how long the file is.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Appends a frame.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.open.is_none() {
            let mut key = Key::default();
            getrandom::fill(&mut key)
                .map_err(|error| io::Error::other(format!("the system gave no random bytes: {error}")))?;
            let file = tempfile::tempfile_in(&self.folder).map_err(|error| self.cannot("create", &error))?;
            self.open = Some((file, ChaCha20Poly1305::new(&key)));
        }
        let (file, cipher) = self.open.as_ref().expect("it was just made");
        self.sealed.clear();
        self.sealed.extend_from_slice(bytes);
        let number = self.frames_n.to_le_bytes();
        cipher
            .encrypt_in_place(&nonce(number), &[], &mut self.sealed)
            .map_err(|_| io::Error::other("a frame is too long"))?;
        let sealed_n = u32::try_from(self.sealed.len()).expect("a frame is short").to_le_bytes();
        let frame = [&sealed_n[..], &number, &self.sealed].concat();
        file.write_all_at(&frame, self.end).map_err(|error| self.cannot("write", &error))?;
        self.end += frame.len() as u64;
        self.frames_n += 1;
        Ok(())
    }

    /// Reads the frame at a place; returns where the next one is.
    pub fn read(&self, at: u64, bytes: &mut Vec<u8>) -> Result<u64> {
        let (file, cipher) = self.open.as_ref().expect("what is read was written");
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, at).map_err(|error| self.cannot("read", &error))?;
        let [a, b, c, d, number @ ..] = head;
        let sealed_n = u32::from_le_bytes([a, b, c, d]);
        if sealed_n as usize > 2 * FRAME_BYTES {
            return Err(self.changed());
        }
        bytes.resize(sealed_n as usize, 0);
        file.read_exact_at(bytes, at + HEAD_BYTES as u64).map_err(|error| self.cannot("read", &error))?;
        cipher.decrypt_in_place(&nonce(number), &[], bytes).map_err(|_| self.changed())?;
        Ok(at + HEAD_BYTES as u64 + u64::from(sealed_n))
    }

    /// Forgets everything that was written.
    pub fn clear(&mut self) -> Result<()> {
        if let Some((file, _)) = &self.open {
            file.set_len(0).map_err(|error| self.cannot("empty", &error))?;
        }
        self.end = 0;
        Ok(())
    }

    fn changed(&self) -> io::Error {
        io::Error::other(format!("a temporary file in {} is not what was written", self.folder.display()))
    }

    fn cannot(&self, action: &str, error: &io::Error) -> io::Error {
        let folder = self.folder.display();
        io::Error::other(format!(
            "cannot {action} a temporary file in {folder}: {error}; name a folder with room for as much as the server has"
        ))
    }
}

fn nonce(number: [u8; 8]) -> Nonce {
    let mut nonce = Nonce::default();
    nonce[..8].copy_from_slice(&number);
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_are_no_plain_text() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spill = Spill::new(folder.path());
        spill.append(b"a secret that nobody may read").expect("writes");
        let second = spill.end();
        spill.append(b"another").expect("writes");
        assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 0, "it has a name");
        let (file, _) = spill.open.as_ref().expect("it was made");
        let mut stored = vec![0; usize::try_from(spill.end()).expect("short")];
        file.read_exact_at(&mut stored, 0).expect("reads");
        assert!(!stored.windows(6).any(|window| window == b"secret"));
        let mut bytes = Vec::new();
        assert_eq!(spill.read(0, &mut bytes).expect("reads"), second);
        assert_eq!(bytes, b"a secret that nobody may read");
        file.write_all_at(&[stored[20] ^ 1], 20).expect("writes");
        assert!(spill.read(0, &mut bytes).expect_err("changed").to_string().contains("not what was written"));
    }
}
