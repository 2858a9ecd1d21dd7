//! As much of BSON as an archive needs: how long a document is, and its outermost elements.
//!
//! A whole BSON library brings dates, decimals and random numbers along; what is stored here are the server's own bytes, and
//! nobody looks deeper into them than `_id`. Layout: bsonspec.org, version 1.1.

/// A document of nothing but its length and its end.
pub(super) const LENGTH_MIN: usize = 5;

/// What an element holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Bool(bool),
    Int32(i32),
    Int64(i64),
    /// Anything else.
    Other,
}

/// An outermost element of a document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Element<'a> {
    pub name: &'a [u8],
    /// The byte that tells what it is.
    pub kind: u8,
    /// Its value as it is stored.
    pub bytes: &'a [u8],
}

impl<'a> Element<'a> {
    pub fn value(&self) -> Value<'a> {
        match (self.kind, self.bytes) {
            // A length, the text and a zero.
            (0x02, [_, _, _, _, text @ .., 0]) => std::str::from_utf8(text).map_or(Value::Other, Value::Text),
            (0x08, [byte]) => Value::Bool(*byte == 1),
            (0x10, bytes) => bytes.try_into().map_or(Value::Other, |bytes| Value::Int32(i32::from_le_bytes(bytes))),
            (0x12, bytes) => bytes.try_into().map_or(Value::Other, |bytes| Value::Int64(i64::from_le_bytes(bytes))),
            _ => Value::Other,
        }
    }
}

/// Goes over the outermost elements of a document; an element that can't be is `None` inside, and the last.
pub(super) fn elements(document: &[u8]) -> impl Iterator<Item = Option<Element<'_>>> {
    let is_whole = document.len() >= LENGTH_MIN && length(document) == Some(document.len());
    let mut rest = if is_whole { Some(&document[4..]) } else { None };
    let mut is_first = true;
    std::iter::from_fn(move || {
        if std::mem::take(&mut is_first) && !is_whole {
            return Some(None);
        }
        match rest.take()? {
            [0] => None,
            bytes => {
                let split = split_element(bytes);
                rest = split.map(|(_, after)| after);
                Some(split.map(|(element, _)| element))
            }
        }
    })
}

/// Returns the first element of that name; `None` if there is none, or the document is broken before it.
pub(super) fn find<'a>(document: &'a [u8], name: &str) -> Option<Element<'a>> {
    elements(document).map_while(|element| element).find(|element| element.name == name.as_bytes())
}

/// Returns the length that a document announces.
pub(super) fn length(document: &[u8]) -> Option<usize> {
    let bytes = document.first_chunk()?;
    usize::try_from(i32::from_le_bytes(*bytes)).ok()
}

fn split_element(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&kind, rest) = bytes.split_first()?;
    let (name, rest) = split_cstring(rest)?;
    let (bytes, rest) = rest.split_at_checked(value_length(kind, rest)?)?;
    Some((Element { name, kind, bytes }, rest))
}

fn split_cstring(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn value_length(kind: u8, rest: &[u8]) -> Option<usize> {
    let announced = || length(rest);
    Some(match kind {
        0x06 | 0x0A | 0x7F | 0xFF => 0,
        0x08 => 1,
        0x10 => 4,
        0x01 | 0x09 | 0x11 | 0x12 => 8,
        0x07 => 12,
        0x13 => 16,
        // Text, code and symbols: the length before the text is that of the text and its zero.
        0x02 | 0x0D | 0x0E => 4 + announced().filter(|length| *length > 0)?,
        0x03 | 0x04 => announced().filter(|length| *length >= LENGTH_MIN)?,
        // Code with variables, which has its own length in it.
        0x0F => announced().filter(|length| *length >= 4 + LENGTH_MIN + LENGTH_MIN)?,
        0x05 => 5 + announced()?,
        0x0C => 4 + 12 + announced()?,
        0x0B => {
            let (pattern, after) = split_cstring(rest)?;
            let (options, _) = split_cstring(after)?;
            pattern.len() + options.len() + 2
        }
        _ => return None,
    })
}

/// Writes a document, for the few that an archive's framing needs.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn text(mut self, name: &str, text: &str) -> Self {
        self.begin(0x02, name);
        let length = i32::try_from(text.len() + 1).expect("what we write is short");
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self
    }

    pub fn bool(mut self, name: &str, value: bool) -> Self {
        self.begin(0x08, name);
        self.bytes.push(value.into());
        self
    }

    pub fn int32(mut self, name: &str, value: i32) -> Self {
        self.begin(0x10, name);
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn int64(mut self, name: &str, value: i64) -> Self {
        self.begin(0x12, name);
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn finish(self) -> Vec<u8> {
        let length = i32::try_from(self.bytes.len() + LENGTH_MIN).expect("what we write is short");
        [&length.to_le_bytes()[..], &self.bytes, &[0]].concat()
    }

    fn begin(&mut self, kind: u8, name: &str) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let document = Writer::default().text("a", "ä").bool("b", true).int32("c", -3).int64("d", 1 << 40).finish();
        assert_eq!(length(&document), Some(document.len()));
        let values: Vec<_> = elements(&document).map(|element| element.expect("good").value()).collect();
        assert_eq!(values, [Value::Text("ä"), Value::Bool(true), Value::Int32(-3), Value::Int64(1 << 40)]);
        assert_eq!(find(&document, "c").map(|element| element.value()), Some(Value::Int32(-3)));
        assert_eq!(find(&document, "e"), None);
    }

    #[test]
    fn every_kind_of_element_is_stepped_over() {
        let text = |text: &[u8]| [&(text.len() as i32 + 1).to_le_bytes()[..], text, &[0]].concat();
        let empty = Writer::default().finish();
        let code = text(b"x");
        let scoped = [&((4 + code.len() + empty.len()) as i32).to_le_bytes()[..], &code, &empty].concat();
        let kinds: Vec<(u8, Vec<u8>)> = vec![
            (0x01, vec![0; 8]),
            (0x02, text(b"hello")),
            (0x03, empty.clone()),
            (0x04, empty.clone()),
            (0x05, [&3_i32.to_le_bytes()[..], &[0, 1, 2, 3]].concat()),
            (0x06, vec![]),
            (0x07, vec![7; 12]),
            (0x08, vec![1]),
            (0x09, vec![0; 8]),
            (0x0A, vec![]),
            (0x0B, b"^a\0i\0".to_vec()),
            (0x0C, [text(b"ns"), vec![1; 12]].concat()),
            (0x0D, text(b"f()")),
            (0x0E, text(b"s")),
            (0x0F, scoped),
            (0x10, vec![0; 4]),
            (0x11, vec![0; 8]),
            (0x12, vec![0; 8]),
            (0x13, vec![0; 16]),
            (0x7F, vec![]),
            (0xFF, vec![]),
        ];
        let mut body = Vec::new();
        for (kind, value) in &kinds {
            body.extend_from_slice(&[*kind, b'n', 0]);
            body.extend_from_slice(value);
        }
        let document = [&((body.len() + 5) as i32).to_le_bytes()[..], &body, &[0]].concat();
        let found: Vec<_> =
            elements(&document).map(|element| element.map(|element| (element.kind, element.bytes.to_vec()))).collect();
        assert_eq!(found, kinds.into_iter().map(Some).collect::<Vec<_>>());
        for cut in 0..document.len() {
            assert!(elements(&document[..cut]).any(|element| element.is_none()), "cut at {cut}");
        }
    }
}
