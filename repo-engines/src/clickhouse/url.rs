//! `clickhouse://` URLs, with the password taken out.

use crate::percent;
use dedump_core::{Error, Result};
use std::fmt;

const PORT: u16 = 8123;
const PORT_TLS: u16 = 8443;

/// Where a server's HTTP interface is, and the password if the URL had one.
#[derive(Clone, PartialEq, Eq)]
pub struct ClickHouseUrl {
    host: String,
    port: u16,
    is_tls: bool,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
}

impl ClickHouseUrl {
    /// Reads a URL: `clickhouse://USER:PASSWORD@HOST:PORT/DATABASE`, `clickhouses://` for HTTPS, or `?secure=true` behind it.
    /// Everything but the host may be left out.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it is none of these. The password is not in the message.
    pub fn parse(text: &str) -> Result<Self> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid("it does not begin with clickhouse://"))?;
        let mut is_tls = match scheme {
            "clickhouse" | "clickhouse+http" => false,
            "clickhouses" | "clickhouse+https" => true,
            _ => return Err(invalid("it does not begin with clickhouse:// or clickhouses://")),
        };
        if rest.contains('#') {
            return Err(invalid("it has a #; encode one in a password as %23"));
        }
        let (authority, place) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
        let (place, query) = place.split_once('?').unwrap_or((place, ""));
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("secure", "true" | "1")) => is_tls = true,
                Some(("secure", "false" | "0")) => {}
                _ => return Err(invalid("it has a parameter other than secure; encode a ? in a password as %3F")),
            }
        }
        let (address, path) = place.split_once('/').unwrap_or((place, ""));
        if path.contains('/') {
            return Err(invalid("a database's name has no slash; encode one as %2F"));
        }
        let (user, password) = match authority {
            None => (None, None),
            Some(authority) => {
                let (user, password) = authority.split_once(':').unwrap_or((authority, ""));
                (decoded(user)?, decoded(password)?)
            }
        };
        let (host, port) = host_and_port(address, if is_tls { PORT_TLS } else { PORT })?;
        Ok(ClickHouseUrl { host, port, is_tls, user, password, database: decoded(path)? })
    }

    /// Returns the database.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
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
        let scheme = if self.is_tls { "clickhouses" } else { "clickhouse" };
        let user = self.user.as_deref().map_or_else(String::new, |user| format!("{}@", percent::encode(user)));
        let database = self.database.as_deref().map_or_else(String::new, |name| format!("/{}", percent::encode(name)));
        format!("{scheme}://{user}{}:{}{database}", self.bracketed(), self.port)
    }

    /// Returns the host, for people.
    pub fn host(&self) -> String {
        match (self.port, self.is_tls) {
            (PORT, false) | (PORT_TLS, true) => self.host.clone(),
            (port, _) => format!("{}:{port}", self.bracketed()),
        }
    }

    /// Returns the URL of the whole server.
    pub(super) fn without_database(&self) -> Self {
        ClickHouseUrl { database: None, ..self.clone() }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("{}://{}:{}/", if self.is_tls { "https" } else { "http" }, self.bracketed(), self.port)
    }

    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

impl fmt::Debug for ClickHouseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClickHouseUrl").field(&self.without_password()).finish()
    }
}

fn host_and_port(text: &str, usual: u16) -> Result<(String, u16)> {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None | Some("") => usual,
        Some(port) => port.parse().map_err(|_| invalid("its port is no number from 1 to 65535"))?,
    };
    if host.contains([',', '/']) {
        return Err(invalid("it names several hosts; each server is a source of its own"));
    }
    Ok((decoded(host)?.unwrap_or_else(|| "127.0.0.1".to_owned()), port))
}

/// Returns what an encoded text stands for; nothing for none.
fn decoded(text: &str) -> Result<Option<String>> {
    let bytes = percent::decode(text).ok_or_else(|| invalid("two hexadecimal digits must follow %"))?;
    let text = String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8"))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn invalid(why: &str) -> Error {
    Error::Invalid(format!("that ClickHouse URL can't be: {why}; write it like clickhouse://USER@HOST:8123/DATABASE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let check = |text: &str, without: &str, password: Option<&str>, database: Option<&str>, host: &str| {
            let url = ClickHouseUrl::parse(text).expect(text);
            assert_eq!(url.without_password(), without);
            assert_eq!((url.password(), url.database(), url.host().as_str()), (password, database, host), "{text}");
            assert!(!format!("{url:?}").contains("s3cret"));
            assert_eq!(ClickHouseUrl::parse(&url.without_password()).expect("again").without_password(), without);
        };
        check("clickhouse://", "clickhouse://127.0.0.1:8123", None, None, "127.0.0.1");
        check("clickhouse://db1/app", "clickhouse://db1:8123/app", None, Some("app"), "db1");
        check("clickhouses://me:s3cret%40x@db1/", "clickhouses://me@db1:8443", Some("s3cret@x"), None, "db1");
        check("clickhouse://me:s3cret@h:1?secure=true", "clickhouses://me@h:1", Some("s3cret"), None, "h:1");
        check(
            "clickhouse://a:b/c?s3cret@[::1]:7/d%2Fe",
            "clickhouse://a@[::1]:7/d%2Fe",
            Some("b/c?s3cret"),
            Some("d/e"),
            "[::1]:7",
        );
    }

    #[test]
    fn what_is_no_url_is_refused_without_showing_a_password() {
        for bad in [
            "http://:s3cret@h",
            "s3cret",
            "clickhouse://:s3cret@h:x",
            "clickhouse://:s3cret@h/x/y",
            "clickhouse://:s3cret@h?tls=1",
            "clickhouse://:s3cret@a,b",
            "clickhouse://:s3cret%ff@h",
            "clickhouse://:s3cret#@h",
        ] {
            let message = ClickHouseUrl::parse(bad).expect_err(bad).to_string();
            assert!(message.contains("that ClickHouse URL can't be") && !message.contains("s3cret"), "{message}");
        }
    }
}
