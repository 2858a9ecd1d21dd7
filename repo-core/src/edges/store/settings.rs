//! How a store is to be reached and treated: what a caller may ask for, and what of it can't be.

use super::location::Provider;
use super::retry::Patience;
use crate::format::names::{META, PACKS};
use crate::words::error::{Error, Result};
use crate::words::limits::{DATA_PACK_BYTES_TARGET, STORE_CONNECTIONS, STORE_REQUEST_SECS_MAX, STORE_RETRY_SECS_MAX};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

/// How to reach a store. Of a directory only [`StoreOptions::verify_uploads`] matters, and storage classes are refused.
///
/// A request that fails on the way, or that the store answers with 5xx, 408 or 429, is made again: some ten times, with pauses
/// that grow to 15 s and differ, and none begins later than 180 s
/// ([`STORE_RETRY_SECS_MAX`](crate::limits::STORE_RETRY_SECS_MAX)) after the first; the setting `retry_timeout` says
/// otherwise. A store that asks for fewer requests (503, 429) gets fewer from all that use this store and its clones,
/// and `Retry-After` is kept up to 60 s. One request may take 300 s
/// ([`STORE_REQUEST_SECS_MAX`](crate::limits::STORE_REQUEST_SECS_MAX)) with its body, longer under a limit; the
/// setting `timeout` says otherwise. So a store that accepts and never answers ends in an error after `timeout` twice and
/// `retry_timeout` once, at most.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Settings of the provider's by their names, such as `endpoint`, `region` or `timeout` (like `30s` or `5m`), and
    /// `retry_timeout`; they come before the environment's.
    pub settings: BTreeMap<String, String>,
    /// Whether an endpoint without TLS will do.
    pub allow_http: bool,
    /// Requests under way at once, at most.
    pub connections_max: usize,
    /// Bytes a second of all objects that are written, at most; `None` is as fast as it goes.
    pub upload_bytes_per_sec_max: Option<NonZeroU64>,
    /// Bytes a second of all objects that are read, at most; `None` is as fast as it goes.
    pub download_bytes_per_sec_max: Option<NonZeroU64>,
    /// The provider's storage class, by the prefix of the objects that are put into it: `packs` or `meta`.
    pub storage_classes: BTreeMap<String, String>,
    /// Whether every object is read back once it is written, and compared, before it counts.
    pub verify_uploads: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            settings: BTreeMap::new(),
            allow_http: false,
            connections_max: STORE_CONNECTIONS,
            upload_bytes_per_sec_max: None,
            download_bytes_per_sec_max: None,
            storage_classes: BTreeMap::new(),
            verify_uploads: false,
        }
    }
}

/// The setting that is ours and not the provider's.
pub(super) const RETRY_TIMEOUT: &str = "retry_timeout";

impl StoreOptions {
    /// Returns the settings that are the provider's.
    pub(super) fn of_provider(&self) -> impl Iterator<Item = (&String, &String)> {
        self.settings.iter().filter(|(name, _)| *name != RETRY_TIMEOUT)
    }

    /// Returns how long the store is asked again.
    pub(super) fn patience(&self) -> Result<Patience> {
        let time_max = match self.settings.get(RETRY_TIMEOUT) {
            Some(text) => seconds(text)?,
            None => Duration::from_secs(STORE_RETRY_SECS_MAX),
        };
        Ok(Patience { time_max, ..Patience::default() })
    }

    /// Returns the seconds that a request may take: under a limit, as much more as four packs side by side need.
    pub(super) fn request_secs_max(&self) -> u64 {
        let slowest = self.upload_bytes_per_sec_max.into_iter().chain(self.download_bytes_per_sec_max).min();
        STORE_REQUEST_SECS_MAX + slowest.map_or(0, |rate| 4 * DATA_PACK_BYTES_TARGET as u64 / rate)
    }

    /// Sees that the storage classes can be; of what a class is called, the store knows more.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub(super) fn check_classes(&self, provider: Option<Provider>) -> Result<()> {
        for (prefix, class) in &self.storage_classes {
            let refused = |why: String| Err(Error::Invalid(format!("storage class {prefix}={class} can't be: {why}")));
            let Some(provider) = provider else {
                return refused("a directory has no storage classes; leave it out".to_owned());
            };
            if ![PACKS, META].contains(&prefix.as_str()) {
                return refused(format!("only {PACKS} and {META} are worth one; every run reads the rest"));
            }
            if class.is_empty() || class.contains(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))) {
                return refused("a class is a word of the provider's, like GLACIER_IR, NEARLINE or Cool".to_owned());
            }
            if !must_be_thawed(provider, class) {
                continue;
            }
            if prefix != PACKS {
                return refused(format!(
                    "what is in it must be thawed before it is read, and every listing, check and prune reads {prefix}; \
                     name a class that is read at once"
                ));
            }
            if self.verify_uploads {
                return refused("what is in it can't be read back; leave out --verify-uploads".to_owned());
            }
        }
        Ok(())
    }

    /// Returns the storage class for an object; `None` is the bucket's own.
    pub(super) fn class_of(&self, name: &str) -> Option<&String> {
        self.storage_classes.get(name.split_once('/')?.0)
    }
}

/// Returns whether objects of a class can be read only once they were asked for, hours before.
fn must_be_thawed(provider: Provider, class: &str) -> bool {
    match provider {
        Provider::S3 => ["GLACIER", "DEEP_ARCHIVE"].iter().any(|cold| class.eq_ignore_ascii_case(cold)),
        Provider::Azure => class.eq_ignore_ascii_case("Archive"),
        Provider::Gcs => false,
    }
}

/// Reads a length of time as settings have it: `30s`, `5 minutes`, `1m 30s`, `250ms`.
///
/// # Errors
/// [`Error::Invalid`].
pub(super) fn seconds(text: &str) -> Result<Duration> {
    let refused = || Error::Invalid(format!("{text:?} is no length of time; write it like 30s or 5m"));
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(refused());
    }
    while !rest.is_empty() {
        let digits_n = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
        let (number, tail) = rest.split_at(digits_n);
        let tail = tail.trim_start();
        let unit_n = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_n);
        let unit_ms: u64 = match unit {
            "ms" | "msec" | "millis" => 1,
            "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
            "h" | "hr" | "hour" | "hours" => 3_600_000,
            _ => return Err(refused()),
        };
        let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms)).ok_or_else(refused)?;
        total = total.checked_add(Duration::from_millis(ms)).ok_or_else(refused)?;
        rest = tail.trim_start();
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_class(prefix: &str, class: &str) -> StoreOptions {
        let storage_classes = BTreeMap::from([(prefix.to_owned(), class.to_owned())]);
        StoreOptions { storage_classes, ..StoreOptions::default() }
    }

    #[test]
    fn storage_classes_are_for_what_is_large_and_seldom_read() {
        for (prefix, class, provider) in [
            ("packs", "GLACIER_IR", Provider::S3),
            ("meta", "STANDARD_IA", Provider::S3),
            ("packs", "DEEP_ARCHIVE", Provider::S3),
            ("packs", "Archive", Provider::Azure),
            ("meta", "ARCHIVE", Provider::Gcs),
        ] {
            with_class(prefix, class).check_classes(Some(provider)).expect("it can be");
        }
        for (prefix, class, provider, part) in [
            ("packs", "GLACIER_IR", None, "a directory has no storage classes"),
            ("snapshots", "GLACIER_IR", Some(Provider::S3), "only packs and meta"),
            ("packs", "two words", Some(Provider::S3), "a word of the provider's"),
            ("packs", "", Some(Provider::Gcs), "a word of the provider's"),
            ("meta", "glacier", Some(Provider::S3), "must be thawed"),
            ("meta", "archive", Some(Provider::Azure), "must be thawed"),
        ] {
            let why = with_class(prefix, class).check_classes(provider).expect_err(class).to_string();
            assert!(why.contains(part), "{why}");
        }
        let options = StoreOptions { verify_uploads: true, ..with_class("packs", "GLACIER") };
        let why = options.check_classes(Some(Provider::S3)).expect_err("both").to_string();
        assert!(why.contains("can't be read back"), "{why}");
    }

    #[test]
    fn an_objects_class_is_that_of_its_prefix() {
        let options = with_class("packs", "GLACIER_IR");
        assert_eq!(options.class_of("packs/00aa").map(String::as_str), Some("GLACIER_IR"));
        for name in ["meta/00aa", "config", "packsx/00"] {
            assert_eq!(options.class_of(name), None, "{name}");
        }
    }

    #[test]
    fn lengths_of_time_are_read_or_refused() {
        for (text, ms) in
            [("30s", 30_000), ("5 minutes", 300_000), ("1m 30s", 90_000), ("250ms", 250), ("1h30m", 5_400_000)]
        {
            assert_eq!(seconds(text).expect(text), Duration::from_millis(ms), "{text}");
        }
        for text in ["", "30", "s", "-1s", "soon", "99999999999999999999s", "1.5s"] {
            assert!(seconds(text).is_err(), "{text:?}");
        }
        let mut options = StoreOptions::default();
        assert_eq!(options.patience().expect("it can be").time_max.as_secs(), STORE_RETRY_SECS_MAX);
        options.settings.insert(RETRY_TIMEOUT.to_owned(), "7s".to_owned());
        assert_eq!(options.patience().expect("it can be").time_max.as_secs(), 7);
        assert_eq!(options.of_provider().count(), 0);
    }

    #[test]
    fn a_limit_leaves_time_for_packs() {
        let mut options = StoreOptions::default();
        assert_eq!(options.request_secs_max(), STORE_REQUEST_SECS_MAX);
        options.upload_bytes_per_sec_max = NonZeroU64::new(100 * 1024);
        options.download_bytes_per_sec_max = NonZeroU64::new(1 << 30);
        assert!(options.request_secs_max() > STORE_REQUEST_SECS_MAX + 1_000);
    }
}
