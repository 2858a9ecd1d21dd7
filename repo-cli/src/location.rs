//! Where a repository lies: the text after `--repo` becomes a path.

use crate::exit::Failure;
use std::path::PathBuf;

/// Reads a location: a path, or a `file://` URL.
///
/// # Errors
/// Any other scheme.
pub fn parse(text: &str) -> Result<PathBuf, Failure> {
    if text.is_empty() {
        return Err(Failure::usage("the repository's location is empty; give a path"));
    }
    if let Some(rest) = text.strip_prefix("file://") {
        let path = rest.strip_prefix("localhost").unwrap_or(rest);
        return match percent_decode(path) {
            Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
            _ => Err(Failure::usage(format!("{text:?} is no file URL; write file:///absolute/path, or just the path"))),
        };
    }
    match scheme(text) {
        Some(scheme) => Err(Failure::usage(format!(
            "{text:?} is a {scheme} location, and this version knows local paths only; write ./{text} if it is a path"
        ))),
        None => Ok(PathBuf::from(text)),
    }
}

/// Returns what stands before the colon in `s3:bucket` or `rest:http://host`; one letter may be a path's.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    is_scheme.then_some(scheme)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail.get(2..)?;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_file_urls_are_local() {
        for (text, path) in [
            ("/backup/app", "/backup/app"),
            ("relative/dir", "relative/dir"),
            ("./s3:bucket", "./s3:bucket"),
            ("/odd:name", "/odd:name"),
            ("c:", "c:"),
            ("file:///backup/my%20app", "/backup/my app"),
            ("file://localhost/backup", "/backup"),
        ] {
            assert_eq!(parse(text).expect(text), PathBuf::from(path));
        }
    }

    #[test]
    fn other_places_are_refused_with_what_is_known() {
        for text in
            ["s3://bucket/x", "s3:bucket", "rest:http://host", "sftp:user@host:/x", "", "file://host/x", "file:///%zz"]
        {
            let failure = parse(text).expect_err(text);
            assert_eq!(failure.exit, crate::exit::Exit::Usage, "{text:?}");
        }
    }
}
