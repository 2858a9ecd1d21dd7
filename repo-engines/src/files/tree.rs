//! The stream `tree`: what was backed up, one JSON object a line, so that it can be read without dedump.
//!
//! The first line is the [`Header`]; each other line is an [`Entry`], sorted by path bytes, where a slash counts as the lowest
//! byte: so a directory stands right before what is in it. What is no UTF-8 is `{"hex":"…"}` in place of a string.
//!
//! A file's bytes are `size` bytes at `offset` of the stream `content` of the same part. With `extents`, they are only those at
//! these offsets of the file, each with its length, one after another; all else is holes, which read as zeros.

use dedump_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

/// The stream's name below the engine's part.
pub(super) const TREE: &str = "tree";
/// The version of the format that is written, and the newest one that is read.
pub(super) const VERSION: u32 = 1;
/// Length of a line that a reader accepts, at most: 64 KiB of attributes and a million extents fit.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where a file with holes has bytes: offset and length of each extent.
pub(super) type Extents = Vec<(u64, u64)>;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// The format's version.
    pub dedump_tree: u32,
    /// What was asked for, each with its absolute path.
    pub roots: Vec<Raw>,
}

/// A file, a directory, or whatever else has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Its absolute path.
    pub path: Raw,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The lower 12 bits of its mode, in octal digits.
    #[serde(with = "octal")]
    pub mode: u32,
    /// Its owner's number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// The owner's name on the host, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Raw>,
    /// The group's name, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Raw>,
    /// When it was last written to: seconds since 1970 UTC, rounded down, and nanoseconds.
    pub mtime: (i64, u32),
    /// A file's length, in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// What a symbolic link says; the path of the file that a hard link is another name of, which comes before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Raw>,
    /// Whether it had other names, that hard links after it may be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub linked: bool,
    /// A device's major and minor number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
    /// Extended attributes, access control lists among them; sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<(Raw, Raw)>,
    /// Where a file with holes has bytes: offset and length of each extent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extents: Option<Extents>,
    /// The stream that its bytes are in, below the engine's part; none if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Where they begin in that stream.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offset: u64,
}

impl Entry {
    /// Returns how many bytes of it are stored; `None` if no file has so many.
    pub fn stored_bytes(&self) -> Option<u64> {
        match &self.extents {
            None => Some(self.size),
            Some(extents) => extents.iter().try_fold(0u64, |sum, (_, bytes)| sum.checked_add(*bytes)),
        }
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Another name of what an entry before is.
    Hardlink,
    /// A named pipe.
    Fifo,
    /// A device that is read byte by byte.
    CharDevice,
    /// A device that is read block by block.
    BlockDevice,
}

/// Bytes that are mostly text: a name, or an attribute's value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub(super) struct Raw(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Hex { hex: String },
}

impl From<Raw> for Text {
    fn from(raw: Raw) -> Text {
        match String::from_utf8(raw.0) {
            Ok(text) => Text::Plain(text),
            Err(error) => {
                let hex = error.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                Text::Hex { hex }
            }
        }
    }
}

impl TryFrom<Text> for Raw {
    type Error = &'static str;

    fn try_from(text: Text) -> Result<Raw, Self::Error> {
        let hex = match text {
            Text::Plain(text) => return Ok(Raw(text.into_bytes())),
            Text::Hex { hex } => hex.into_bytes(),
        };
        let digit = |digit: &u8| char::from(*digit).to_digit(16);
        let byte = |pair: &[u8]| match pair {
            [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
            _ => None,
        };
        hex.chunks(2).map(byte).collect::<Option<_>>().map(Raw).ok_or("an odd string of hex digits")
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", show(&self.0))
    }
}

/// Returns a path as messages have it: in one line, whatever it holds.
pub(super) fn show(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    if text.chars().any(|c| c.is_control() || c == '\u{fffd}' || c == ' ') {
        format!("{:?}", Cow::as_ref(&text))
    } else {
        text.into_owned()
    }
}

/// Compares paths as the stream sorts them.
pub(super) fn order(a: &[u8], b: &[u8]) -> Ordering {
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    a.iter().map(key).cmp(b.iter().map(key))
}

/// Returns the path of what is called `name` in a directory.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let separator: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
    [directory, separator, name].concat()
}

/// Returns whether a path is that of a directory, or of something below it.
pub(super) fn is_in(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || directory.ends_with(b"/"))
}

/// Appends a line.
pub(super) fn write_line(line: &impl Serialize, into: &mut Vec<u8>) -> Result<()> {
    serde_json::to_writer(&mut *into, line)
        .map_err(|error| Error::DumpFailed(format!("a line of the tree cannot be written: {error}")))?;
    into.push(b'\n');
    Ok(())
}

/// Reads the first line.
///
/// # Errors
/// [`Error::NewerFormat`]; [`Error::Damaged`].
pub(super) fn read_header(line: &[u8]) -> Result<Header> {
    let header: Header = serde_json::from_slice(line).map_err(|error| damaged(format!("its first line: {error}")))?;
    if header.dedump_tree > VERSION {
        let version = u16::try_from(header.dedump_tree).unwrap_or(u16::MAX);
        return Err(Error::NewerFormat { object: "the tree of files".to_owned(), version, known: VERSION as u16 });
    }
    Ok(header)
}

/// Reads an entry's line.
///
/// # Errors
/// [`Error::Damaged`].
pub(super) fn read_entry(line: &[u8]) -> Result<Entry> {
    serde_json::from_slice(line).map_err(|error| damaged(format!("a line of it: {error}")))
}

/// Returns the error of a tree that is not as it should be.
pub(super) fn damaged(why: impl fmt::Display) -> Error {
    Error::Damaged { object: "the tree of files".to_owned(), why: why.to_string() }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A mode as octal digits, as `chmod` takes them.
mod octal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{mode:04o}"))
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<u32, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777);
        mode.ok_or_else(|| D::Error::custom(format!("{text:?} is no mode")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &[u8]) -> Entry {
        Entry {
            path: Raw(path.to_vec()),
            kind: Kind::File,
            mode: 0o4755,
            uid: 0,
            gid: 7,
            user: Some(Raw(b"root".to_vec())),
            group: None,
            mtime: (-1, 999_999_999),
            size: 5,
            target: None,
            linked: false,
            device: None,
            xattrs: vec![(Raw(b"user.a".to_vec()), Raw(vec![0xff, 0]))],
            extents: Some(vec![(0, 2), (4, 1)]),
            content: Some("content/x".to_owned()),
            offset: 3,
        }
    }

    #[test]
    fn a_line_is_json_and_comes_back() {
        for path in [&b"/a/b"[..], b"/new\nline \"x\"", b"/\xff\xfe", "/\u{fffd}ä".as_bytes()] {
            let mut line = Vec::new();
            write_line(&entry(path), &mut line).expect("writes");
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(read_entry(&line).expect("reads"), entry(path));
        }
        let mut line = Vec::new();
        write_line(&entry(b"/\xff"), &mut line).expect("writes");
        let text = String::from_utf8(line).expect("a line is UTF-8");
        let expected = r#"{"path":{"hex":"2fff"},"type":"file","mode":"4755","uid":0,"gid":7,"user":"root","mtime":[-1,999999999],"size":5,"xattrs":[["user.a",{"hex":"ff00"}]],"extents":[[0,2],[4,1]],"content":"content/x","offset":3}"#;
        assert_eq!(text.trim_end(), expected);
    }

    #[test]
    fn a_directory_stands_right_before_what_is_in_it() {
        let mut paths = [&b"/a-b"[..], b"/a/b", b"/a", b"/a b", b"/a/b/c", b"/\x01", b"/"];
        paths.sort_by(|a, b| order(a, b));
        assert_eq!(paths, [&b"/"[..], b"/\x01", b"/a", b"/a/b", b"/a/b/c", b"/a b", b"/a-b"]);
        assert!(is_in(b"/a/b", b"/a") && is_in(b"/a", b"/a") && is_in(b"/a", b"/") && !is_in(b"/ab", b"/a"));
    }

    #[test]
    fn a_line_that_says_too_much_is_damage() {
        for bad in ["", "{}", "[]", r#"{"hex":"0"}"#] {
            assert!(matches!(read_entry(bad.as_bytes()), Err(Error::Damaged { .. })), "{bad:?}");
        }
        assert!(matches!(read_header(br#"{"dedump_tree":2,"roots":[]}"#), Err(Error::NewerFormat { .. })));
        let mut line = Vec::new();
        write_line(&entry(b"/a"), &mut line).expect("writes");
        let line = String::from_utf8(line).expect("a line is UTF-8");
        for (good, bad) in [("4755", "14755"), ("4755", "9"), ("ff00", "ff0"), ("ff00", "fg00"), ("file", "socket")] {
            assert!(read_entry(line.replace(good, bad).as_bytes()).is_err(), "{bad}");
        }
    }
}
