//! `sqlite:///path` URLs.

use crate::percent;
use dedump_core::{Error, Result};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Returns the absolute path that a URL names.
///
/// # Errors
/// [`Error::Invalid`]: it names none.
pub(super) fn parse(url: &str) -> Result<PathBuf> {
    let invalid = |why: &str| Error::Invalid(format!("that SQLite URL can't be: {why}; write it like sqlite:///PATH"));
    let path = url.strip_prefix("sqlite://").ok_or_else(|| invalid("it does not begin with sqlite://"))?;
    if !path.starts_with('/') {
        return Err(invalid("the path must be absolute, so that three slashes stand in a row"));
    }
    if path.contains(['?', '#']) {
        return Err(invalid("it takes no parameters; write %3F and %23 for ? and # in a name"));
    }
    let bytes = percent::decode(path).ok_or_else(|| invalid("two hexadecimal digits must follow %"))?;
    if bytes.contains(&0) {
        return Err(invalid("there is a zero byte in it"));
    }
    let path = PathBuf::from(OsString::from_vec(bytes));
    if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(invalid("it names no file"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_absolute_path() {
        for (url, path) in
            [("sqlite:///a/b.db", "/a/b.db"), ("sqlite:///a%20b%3F/%25", "/a b?/%"), ("sqlite:///ü", "/ü")]
        {
            assert_eq!(parse(url).expect(url), PathBuf::from(path));
        }
        for bad in [
            "sqlite://a.db",
            "sqlite:/a",
            "/a",
            "sqlite:///",
            "sqlite:///a/",
            "sqlite:///a?b=c",
            "sqlite:///%0",
            "sqlite:///%00",
            "sqlite:///a/..",
        ] {
            let why = parse(bad).expect_err(bad).to_string();
            assert!(why.contains("write it like sqlite:///PATH"), "{why}");
        }
    }
}
