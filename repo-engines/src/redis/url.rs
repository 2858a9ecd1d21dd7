//! `redis://` URLs, as the clients of Redis and Valkey have them, with the password taken out.

use dedump_core::{Error, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::fmt;
use std::path::PathBuf;

const PORT: u16 = 6379;
/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where a server is, and the password if the URL had one.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    address: Address,
    is_tls: bool,
    user: Option<String>,
    password: Option<String>,
    database: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Host(String, u16),
    Socket(PathBuf),
}

impl RedisUrl {
    /// Reads a URL: `redis://USER:PASSWORD@HOST:PORT/DATABASE`, `rediss://` for TLS, `unix:///PATH?db=NUMBER` for a socket; with
    /// `valkey://` and `valkeys://` for the first two. Everything but the host may be left out, and where only one word stands
    /// before the `@` it is a user; a password alone is written `:PASSWORD@`.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it is none of these. The password is not in the message.
    pub fn parse(text: &str) -> Result<Self> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid("it does not begin with redis://"))?;
        let is_tls = match scheme {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            "unix" | "redis+unix" | "redis-socket" => return Self::parse_socket(rest),
            _ => return Err(invalid("it does not begin with redis:// or rediss://")),
        };
        if rest.contains(['?', '#']) {
            return Err(invalid("it has parameters; encode a ? or # in a password as %3F or %23"));
        }
        let (authority, path) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
        let (host, database) = path.split_once('/').unwrap_or((path, ""));
        let (user, password) = credentials(authority)?;
        Ok(RedisUrl { address: host_and_port(host)?, is_tls, user, password, database: number(database)? })
    }

    fn parse_socket(rest: &str) -> Result<Self> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.rsplit_once('@').map_or((None, rest), |(user, path)| (Some(user), path));
        let (user, password) = credentials(authority)?;
        let path = decoded(path)?;
        if !path.starts_with('/') {
            return Err(invalid("a socket needs an absolute path, as in unix:///run/redis/redis.sock"));
        }
        let mut url = RedisUrl { address: Address::Socket(path.into()), is_tls: false, user, password, database: None };
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("db", value)) => url.database = number(value)?,
                Some(("password" | "pass", value)) => url.password = Some(decoded(value)?),
                Some(("user", value)) => url.user = Some(decoded(value)?),
                _ => return Err(invalid("it has a parameter other than db, user and password")),
            }
        }
        Ok(url)
    }

    /// Returns the number of the database.
    pub fn database(&self) -> Option<u64> {
        self.database
    }

    /// Returns the URL of the whole server.
    pub(super) fn without_database(&self) -> Self {
        RedisUrl { database: None, ..self.clone() }
    }

    /// Returns the user's name.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Returns the password that was in the URL.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Returns the URL without a password, for people.
    pub fn without_password(&self) -> String {
        let user =
            self.user.as_deref().map_or_else(String::new, |user| format!("{}@", utf8_percent_encode(user, RESERVED)));
        match &self.address {
            Address::Host(host, port) => {
                let scheme = if self.is_tls { "rediss" } else { "redis" };
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let database = self.database.map_or_else(String::new, |database| format!("/{database}"));
                format!("{scheme}://{user}{host}:{port}{database}")
            }
            Address::Socket(path) => {
                let database = self.database.map_or_else(String::new, |database| format!("?db={database}"));
                format!("unix://{user}{}{database}", path.display())
            }
        }
    }

    /// Returns the host, for people: `db1:6379`, or `local` for a socket.
    pub fn host(&self) -> String {
        match &self.address {
            Address::Host(host, port) if *port == PORT => host.clone(),
            Address::Host(host, port) => format!("{host}:{port}"),
            Address::Socket(_) => "local".to_owned(),
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisUrl").field(&self.without_password()).finish()
    }
}

fn credentials(authority: Option<&str>) -> Result<(Option<String>, Option<String>)> {
    let Some(authority) = authority else { return Ok((None, None)) };
    let (user, password) = authority.split_once(':').map_or((authority, None), |(user, word)| (user, Some(word)));
    let user = Some(user).filter(|user| !user.is_empty()).map(decoded).transpose()?;
    Ok((user, password.filter(|password| !password.is_empty()).map(decoded).transpose()?))
}

fn host_and_port(text: &str) -> Result<Address> {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None | Some("") => PORT,
        Some(port) => port.parse().map_err(|_| invalid("its port is no number from 1 to 65535"))?,
    };
    if host.contains([',', '/']) {
        return Err(invalid("it names several hosts; each server is a source of its own"));
    }
    let host = if host.is_empty() { "127.0.0.1".to_owned() } else { decoded(host)? };
    Ok(Address::Host(host, port))
}

fn number(text: &str) -> Result<Option<u64>> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| invalid("the database behind the slash is no number")),
    }
}

fn decoded(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| invalid("it is not UTF-8"))?;
    Ok(decoded.into_owned())
}

fn invalid(why: &str) -> Error {
    Error::Invalid(format!("that Redis URL can't be: {why}; write it like redis://USER@HOST:6379/0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let check = |text: &str, without: &str, user: Option<&str>, password: Option<&str>, database, host: &str| {
            let url = RedisUrl::parse(text).expect(text);
            assert_eq!(url.without_password(), without);
            assert_eq!((url.user(), url.password()), (user, password), "{text}");
            assert_eq!((url.database(), url.host().as_str()), (database, host), "{text}");
            assert!(!format!("{url:?}").contains("s3cret"));
            assert_eq!(RedisUrl::parse(&url.without_password()).expect("again").without_password(), without);
        };
        check("redis://", "redis://127.0.0.1:6379", None, None, None, "127.0.0.1");
        check("redis://db1/3", "redis://db1:6379/3", None, None, Some(3), "db1");
        check("rediss://:s3cret%40x@db1:1/", "rediss://db1:1", None, Some("s3cret@x"), None, "db1:1");
        check("valkey://me:s3cret@db1", "redis://me@db1:6379", Some("me"), Some("s3cret"), None, "db1");
        check("redis://me@[::1]:7/0", "redis://me@[::1]:7/0", Some("me"), None, Some(0), "::1:7");
        check("redis://:a/b@s3cret@h", "redis://h:6379", None, Some("a/b@s3cret"), None, "h");
        check(
            "unix:///run/r.sock?db=2&password=s3cret",
            "unix:///run/r.sock?db=2",
            None,
            Some("s3cret"),
            Some(2),
            "local",
        );
    }

    #[test]
    fn what_is_no_url_is_refused_without_showing_a_password() {
        for bad in [
            "http://:s3cret@h",
            "s3cret",
            "redis://:s3cret@h:x",
            "redis://:s3cret@h/x",
            "redis://:s3cret@h?tls=1",
            "redis://:s3cret@a,b",
            "redis://:s3cret%ff@h",
            "unix://s3cret",
            "unix:///a?s3cret",
        ] {
            let message = RedisUrl::parse(bad).expect_err(bad).to_string();
            assert!(message.contains("that Redis URL can't be") && !message.contains("s3cret"), "{message}");
        }
    }
}
