//! Where a store lies: the text that names it.

use crate::words::error::{Error, Result};
use std::path::PathBuf;

/// Where a store lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// A directory of this machine.
    Local(PathBuf),
    /// A part of a bucket.
    Bucket {
        /// Who keeps it.
        provider: Provider,
        /// The bucket, or Azure's container.
        bucket: String,
        /// What the names of all objects begin with; without slashes around it, empty for the whole bucket.
        prefix: String,
    },
}

/// Who keeps buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Provider {
    /// Amazon S3, and all that speak its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Location {
    /// Reads a location: a path, a `file://` URL, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`.
    ///
    /// # Errors
    /// [`Error::Invalid`]: any other text.
    pub(super) fn parse(text: &str) -> Result<Location> {
        if text.is_empty() {
            return Err(Error::Invalid("the repository's location is empty; give a path or a URL".to_owned()));
        }
        if let Some(rest) = text.strip_prefix("file://") {
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            return match percent_decode(path) {
                Some(path) if path.starts_with('/') => Ok(Location::Local(PathBuf::from(path))),
                _ => Err(Error::Invalid(format!(
                    "{text:?} is no file URL; write file:///absolute/path, or just the path"
                ))),
            };
        }
        let Some((scheme, rest)) = split_scheme(text) else { return Ok(Location::Local(PathBuf::from(text))) };
        let provider = match scheme {
            "s3" | "s3a" => Provider::S3,
            "gs" => Provider::Gcs,
            "az" | "azure" | "abfs" | "abfss" => Provider::Azure,
            _ => {
                return Err(Error::Invalid(format!(
                    "{text:?} is a {scheme} location, which dedump does not know: a path, file://, s3://, gs:// or az://; \
                     write ./{text} if it is a path"
                )));
            }
        };
        let refused =
            |why: &str| Error::Invalid(format!("{text:?} {why}; write {scheme}://{}/PREFIX", provider.bucket()));
        let rest = rest.strip_prefix("//").ok_or_else(|| refused("lacks the //"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(refused(&format!("names no {}", provider.bucket().to_lowercase())));
        }
        if bucket.contains(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))) {
            return Err(refused("names no bucket that can be: credentials and hosts do not belong into it"));
        }
        let prefix = prefix.trim_matches('/');
        if prefix.split('/').any(|part| part == ".." || part == "." || (part.is_empty() && !prefix.is_empty())) {
            return Err(refused("has an empty part, or one of dots alone, in its prefix"));
        }
        if prefix.contains(|c: char| !(c.is_ascii_alphanumeric() || "-_.=/".contains(c))) {
            return Err(refused("has a prefix with other signs than letters, digits and -_.=/"));
        }
        Ok(Location::Bucket { provider, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl Provider {
    /// Returns what stands for a bucket's name in messages.
    pub(super) fn bucket(self) -> &'static str {
        if self == Provider::Azure { "CONTAINER" } else { "BUCKET" }
    }
}

/// Returns what stands before and after the colon in `s3:bucket` or `rest:http://host`; one letter may be a path's.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    is_scheme.then_some((scheme, rest))
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
            assert_eq!(Location::parse(text).expect(text), Location::Local(PathBuf::from(path)));
        }
    }

    #[test]
    fn urls_name_buckets() {
        for (text, provider, bucket, prefix) in [
            ("s3://backups", Provider::S3, "backups", ""),
            ("s3://backups/", Provider::S3, "backups", ""),
            ("s3://backups/db/app/", Provider::S3, "backups", "db/app"),
            ("gs://backups_1/db", Provider::Gcs, "backups_1", "db"),
            ("az://container/year=2026", Provider::Azure, "container", "year=2026"),
        ] {
            let expected = Location::Bucket { provider, bucket: bucket.to_owned(), prefix: prefix.to_owned() };
            assert_eq!(Location::parse(text).expect(text), expected);
        }
    }

    #[test]
    fn other_places_are_refused_with_what_is_known() {
        for text in [
            "",
            "s3:bucket",
            "s3://",
            "s3:///x",
            "s3://key:secret@bucket/x",
            "s3://b/../x",
            "s3://b/a//b",
            "s3://b/a b",
            "rest:http://host",
            "sftp:user@host:/x",
            "https://bucket.s3.amazonaws.com",
            "file://host/x",
            "file:///%zz",
        ] {
            let error = Location::parse(text).expect_err(text);
            assert!(matches!(error, Error::Invalid(_)), "{text:?}");
        }
    }
}
