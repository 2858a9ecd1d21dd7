//! Each part of a backup and of a restore alone, on one thread, over the same text.
//!
//! What counts is the processor time of the thread that does it, in seconds a GB (10^9 bytes) of the text: it changes
//! little when somebody else takes a core meanwhile.

use crate::Result;
use crate::pipeline::{chunks, copy, cut, hash};
use crate::timing::{secs, thread_secs};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce, Tag};
use dedump_core::internals::compress::{Compressor, Effort};
use dedump_core::limits;
use std::fs::File;
use std::hint::black_box;
use std::io::{PipeReader, Read, Write};
use std::path::Path;
use zstd::bulk;

/// How blobs are compressed: as dedump does it by itself, and at two levels of zstd.
pub const EFFORTS: [(&str, Effort); 3] =
    [("quick", Effort::Quick), ("level 1", Effort::Level(1)), ("level 3", Effort::Level(3))];

/// What dedump makes a pipe hold, and reads from it in one piece.
const PIPE_BYTES: usize = 1 << 20;

/// Seconds a GB of the text.
#[derive(Debug, Default, Clone, Copy)]
pub struct Alone {
    pub pipe_read: f64,
    pub pipe_write: f64,
    /// By the clock, both ends at work.
    pub pipe_wall: f64,
    pub copy: f64,
    pub cut: f64,
    pub hash_chunks: f64,
    pub hash_stream: f64,
    /// For each of [`EFFORTS`].
    pub packed: [Packed; EFFORTS.len()],
}

/// Seconds a GB of the text, of what is done with it once it is compressed.
#[derive(Debug, Default, Clone, Copy)]
pub struct Packed {
    /// Compressed bytes, of the text's.
    pub share: f64,
    pub compress: f64,
    pub inflate: f64,
    pub seal: f64,
    pub open: f64,
    /// Hashing packs, whose names that makes.
    pub name: f64,
    pub write: f64,
    /// By the clock, until the disk has it.
    pub write_wall: f64,
    pub read: f64,
}

/// The text, and room for what becomes of it.
pub struct Bench<'a> {
    text: &'a [u8],
    folder: &'a Path,
    efforts: Vec<Packing>,
}

/// Blobs of one effort, back to back.
struct Packing {
    compressor: Compressor,
    blobs: Vec<Blob>,
    bytes: Vec<u8>,
    filled: usize,
    /// What is read back from the file.
    back: Vec<u8>,
}

/// What one blob holds: its plaintext's length and its own. Equal lengths: it does not compress, and is stored as is.
#[derive(Clone, Copy)]
struct Blob {
    plain_bytes: usize,
    bytes: usize,
}

impl<'a> Bench<'a> {
    /// Creates a bench for this text, which writes into that folder, and does what only the first time costs.
    ///
    /// # Errors
    /// zstd has no memory.
    pub fn create(text: &'a [u8], folder: &'a Path) -> Result<Self> {
        let chunks = chunks(text, &cut(text));
        let mut efforts = Vec::new();
        for (_, effort) in EFFORTS {
            let mut packing = Packing::create(effort, &chunks)?;
            packing.compress(text)?;
            packing.back = vec![1; packing.filled];
            efforts.push(packing);
        }
        Ok(Bench { text, folder, efforts })
    }

    /// Measures every part once.
    ///
    /// # Errors
    /// A part that fails, or does not give back what it got.
    pub fn round(&mut self) -> Result<Alone> {
        let gb = self.text.len() as f64 / 1e9;
        let (pipe_wall, pipe) = secs(|| through_pipe(self.text));
        let (pipe_read, pipe_write) = pipe?;
        let (copy_secs, ()) = thread_secs(|| copy(self.text))?;
        let (cut_secs, lengths) = thread_secs(|| cut(self.text))?;
        let chunks = chunks(self.text, &lengths);
        let (hash_chunks, ()) = thread_secs(|| hash(&chunks))?;
        let (hash_stream, _) = thread_secs(|| black_box(blake3::hash(self.text)))?;
        let mut packed = [Packed::default(); EFFORTS.len()];
        for (packing, packed) in self.efforts.iter_mut().zip(&mut packed) {
            *packed = packing.round(self.text, &self.folder.join("packed"))?;
        }
        Ok(Alone {
            pipe_read: pipe_read / gb,
            pipe_write: pipe_write / gb,
            pipe_wall: pipe_wall / gb,
            copy: copy_secs / gb,
            cut: cut_secs / gb,
            hash_chunks: hash_chunks / gb,
            hash_stream: hash_stream / gb,
            packed,
        })
    }
}

impl Packing {
    /// Creates what an effort needs for blobs of these chunks, as dedump gathers them.
    fn create(effort: Effort, chunks: &[&[u8]]) -> Result<Self> {
        let compressor = Compressor::new(effort)?;
        let mut blobs: Vec<Blob> = Vec::new();
        for chunk in chunks {
            match blobs.last_mut() {
                Some(blob) if blob.plain_bytes + chunk.len() <= limits::BLOB_PLAIN_BYTES_TARGET => {
                    blob.plain_bytes += chunk.len();
                }
                _ => blobs.push(Blob { plain_bytes: chunk.len(), bytes: 0 }),
            }
        }
        let room = blobs.iter().map(|blob| blob.plain_bytes).sum();
        Ok(Packing { compressor, blobs, bytes: vec![0; room], filled: 0, back: Vec::new() })
    }

    fn round(&mut self, text: &[u8], file: &Path) -> Result<Packed> {
        let gb = text.len() as f64 / 1e9;
        let (compress, done) = thread_secs(|| self.compress(text))?;
        done?;
        let (seal, tags) = thread_secs(|| self.seal())?;
        let tags = tags?;
        let (name, ()) = thread_secs(|| self.name())?;
        // Once before, so that the pages that the file takes are not dear to one level and cheap to the next.
        self.write(file)?;
        std::fs::remove_file(file)?;
        let (write_wall, write) = secs(|| thread_secs(|| self.write(file)));
        let (write, done) = write?;
        done?;
        // Once before: nothing of it is in the page cache.
        self.read(file)?;
        let (read, done) = thread_secs(|| self.read(file))?;
        done?;
        std::fs::remove_file(file)?;
        if self.back != self.bytes[..self.filled] {
            return Err("the disk gave back something else".into());
        }
        let (open, done) = thread_secs(|| self.open(&tags))?;
        done?;
        let (inflate, done) = thread_secs(|| self.inflate(text))?;
        done?;
        let [compress, inflate, seal, open, name, write, write_wall, read] =
            [compress, inflate, seal, open, name, write, write_wall, read].map(|secs| secs / gb);
        let share = self.filled as f64 / text.len().max(1) as f64;
        Ok(Packed { share, compress, inflate, seal, open, name, write, write_wall, read })
    }

    fn compress(&mut self, mut text: &[u8]) -> Result<()> {
        self.filled = 0;
        for blob in &mut self.blobs {
            let (plain, rest) = text.split_at(blob.plain_bytes);
            let (_, encoded) = self.compressor.compress(plain)?;
            blob.bytes = encoded.len();
            self.bytes[self.filled..self.filled + blob.bytes].copy_from_slice(&encoded);
            self.filled += blob.bytes;
            text = rest;
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<Vec<Tag>> {
        let (cipher, mut rest) = (cipher(), &mut self.bytes[..self.filled]);
        let mut tags = Vec::with_capacity(self.blobs.len());
        for (number, blob) in self.blobs.iter().enumerate() {
            let (bytes, after) = rest.split_at_mut(blob.bytes);
            let tag = cipher.encrypt_inout_detached(&nonce(number), b"", bytes.into());
            tags.push(tag.map_err(|_| "a blob could not be sealed")?);
            rest = after;
        }
        Ok(tags)
    }

    fn open(&mut self, tags: &[Tag]) -> Result<()> {
        let (cipher, mut rest) = (cipher(), &mut self.bytes[..self.filled]);
        for (number, (blob, tag)) in self.blobs.iter().zip(tags).enumerate() {
            let (bytes, after) = rest.split_at_mut(blob.bytes);
            let opened = cipher.decrypt_inout_detached(&nonce(number), b"", bytes.into(), tag);
            opened.map_err(|_| "a seal is broken")?;
            rest = after;
        }
        Ok(())
    }

    fn name(&self) {
        for pack in self.bytes[..self.filled].chunks(limits::DATA_PACK_BYTES_TARGET) {
            black_box(blake3::hash(pack));
        }
    }

    /// Past the page cache, which is cheaper; through it where the file system can't.
    fn write(&self, path: &Path) -> Result<()> {
        const WRITE_BYTES: usize = 1 << 20;
        const ALIGNMENT: usize = 4096;
        let mut file = create_direct(path).or_else(|_| File::create(path))?;
        let mut buffer = vec![0; WRITE_BYTES + ALIGNMENT];
        let start = buffer.as_ptr().align_offset(ALIGNMENT);
        let aligned = &mut buffer[start..start + WRITE_BYTES];
        for piece in self.bytes[..self.filled].chunks(WRITE_BYTES) {
            aligned[..piece.len()].copy_from_slice(piece);
            file.write_all(&aligned[..piece.len().next_multiple_of(ALIGNMENT)])?;
        }
        file.set_len(self.filled as u64)?;
        Ok(file.sync_all()?)
    }

    fn read(&mut self, path: &Path) -> Result<()> {
        Ok(File::open(path)?.read_exact(&mut self.back)?)
    }

    fn inflate(&self, text: &[u8]) -> Result<()> {
        let mut decompressor = bulk::Decompressor::new()?;
        let longest = self.blobs.iter().map(|blob| blob.plain_bytes).max().unwrap_or(0);
        let (mut plain, mut at, mut plain_at) = (vec![0; longest], 0, 0);
        for blob in &self.blobs {
            let bytes = &self.bytes[at..at + blob.bytes];
            if blob.bytes == blob.plain_bytes {
                plain[..bytes.len()].copy_from_slice(bytes);
            } else {
                decompressor.decompress_to_buffer(bytes, &mut plain[..blob.plain_bytes])?;
            }
            // The whole of it is compared nowhere: that would be measured, too.
            if plain[..16.min(blob.plain_bytes)] != text[plain_at..plain_at + 16.min(blob.plain_bytes)] {
                return Err("a blob inflates to something else".into());
            }
            at += blob.bytes;
            plain_at += blob.plain_bytes;
        }
        Ok(())
    }
}

fn cipher() -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(&Key::from([7; 32]))
}

fn nonce(number: usize) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&(number as u64).to_le_bytes());
    Nonce::from(nonce)
}

/// Sends a text through a pipe; returns the processor time of who reads it, and of who writes it.
fn through_pipe(text: &[u8]) -> Result<(f64, f64)> {
    let (mut reader, mut writer) = std::io::pipe()?;
    enlarge(&reader);
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || thread_secs(|| writer.write_all(text)));
        let (read_secs, read) = thread_secs(move || drain(&mut reader))?;
        let (write_secs, written) = writing.join().expect("a measurement does not panic")?;
        written?;
        if read? != text.len() as u64 {
            return Err("a pipe gave back something else".into());
        }
        Ok((read_secs, write_secs))
    })
}

/// Creates a file whose writes pass the page cache by.
#[cfg(target_os = "linux")]
fn create_direct(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = nix::fcntl::OFlag::O_DIRECT.bits();
    File::options().write(true).create(true).truncate(true).custom_flags(flags).open(path)
}

#[cfg(not(target_os = "linux"))]
fn create_direct(_: &Path) -> std::io::Result<File> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// As dedump does it with its standard input.
#[cfg(target_os = "linux")]
fn enlarge(pipe: &PipeReader) {
    use nix::fcntl::{FcntlArg, fcntl};
    // Refused to users who have used up their share of pipe memory: then it is refused to dedump, too.
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as i32));
}

#[cfg(not(target_os = "linux"))]
fn enlarge(_: &PipeReader) {}

/// Reads to the end and throws it away; returns how much it was.
///
/// # Errors
/// Those of the reader.
pub fn drain(reader: &mut impl Read) -> std::io::Result<u64> {
    let (mut piece, mut bytes_n) = (vec![0; PIPE_BYTES], 0);
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok(bytes_n),
            read => bytes_n += read as u64,
        }
        black_box(&mut piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Text;

    /// Text that compresses, and as much that does not.
    fn half_and_half() -> Vec<u8> {
        let mut bytes = Text::new(1, 3 << 20).collect();
        let mut noise = vec![0; 3 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        bytes.extend(noise);
        bytes
    }

    #[test]
    fn every_part_gives_back_what_it_got_and_takes_time() {
        let (text, folder) = (half_and_half(), tempfile::tempdir().expect("a folder"));
        let mut bench = Bench::create(&text, folder.path()).expect("sets up");
        assert!(bench.efforts[0].blobs.iter().any(|blob| blob.bytes == blob.plain_bytes), "noise is stored as it is");
        for _ in 0..2 {
            let alone = bench.round().expect("measures");
            assert!(alone.pipe_read > 0.0 && alone.cut > 0.0 && alone.hash_stream > 0.0, "{alone:?}");
            for packed in alone.packed {
                assert!(packed.share > 0.5 && packed.share < 0.8, "{packed:?}");
                assert!(packed.compress > 0.0 && packed.inflate > 0.0 && packed.open > 0.0, "{packed:?}");
            }
        }
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let (text, folder) = (half_and_half(), tempfile::tempdir().expect("a folder"));
        let mut bench = Bench::create(&text, folder.path()).expect("sets up");
        let packing = &mut bench.efforts[0];
        let tags = packing.seal().expect("seals");
        packing.bytes[100] ^= 1;
        assert!(packing.open(&tags).is_err());
    }
}
