//! `postgres://` URLs, as libpq reads them, with the password taken out.
//!
//! The rest goes to the client tools as it is, so everything that libpq understands works: several hosts, sockets, service
//! files, TLS. PostgreSQL manual, "Connection URIs".

use crate::percent;
pub(super) use crate::percent::encode;
use dedump_core::{Error, Result};
use std::fmt;

/// Where a database is, and the password if the URL had one.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    /// User and hosts, as they were written.
    authority: String,
    /// The database's name, decoded.
    database: Option<String>,
    /// What follows the question mark, without a password.
    parameters: Vec<String>,
    password: Option<String>,
}

impl PostgresUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it is none of PostgreSQL's. The password is not in the message.
    pub fn parse(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let rest = rest.ok_or_else(|| invalid("it does not begin with postgres://"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').map_or((rest, None), |(front, path)| (front, Some(path)));
        if database.is_some_and(|path| path.contains('/')) {
            return Err(invalid("a slash is in the database's name; write %2F for one, also in a socket's folder"));
        }
        let (user, hosts) = authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
        let (user, password) = match user.map(|user| user.split_once(':').map_or((user, None), |(u, p)| (u, Some(p)))) {
            None => (None, None),
            Some((user, password)) => (Some(user), password.map(decode).transpose()?),
        };
        let mut url = PostgresUrl {
            authority: user.map_or_else(|| hosts.to_owned(), |user| format!("{user}@{hosts}")),
            database: database.filter(|path| !path.is_empty()).map(decode).transpose()?,
            parameters: Vec::new(),
            password,
        };
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("password", value)) => url.password = Some(decode(value)?),
                Some(("dbname", value)) => url.database = Some(decode(value)?),
                Some(_) => url.parameters.push(parameter.to_owned()),
                None => return Err(invalid("a parameter has no value")),
            }
        }
        Ok(url)
    }

    /// Returns the URL of another database of the same server.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        PostgresUrl { database: Some(name.to_owned()), ..self.clone() }
    }

    /// Returns the database's name; libpq takes the user's name where there is none.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Returns the password that was in the URL.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Returns the URL without a password, for the client tools and for people.
    pub fn without_password(&self) -> String {
        let mut text =
            format!("postgres://{}/{}", self.authority, self.database.as_deref().map_or_else(String::new, encode));
        for (number, parameter) in self.parameters.iter().enumerate() {
            text.push(if number == 0 { '?' } else { '&' });
            text.push_str(parameter);
        }
        text
    }

    /// Returns the hosts, for people: `db1`, or `local` for a socket.
    pub fn host(&self) -> String {
        let hosts = self.authority.rsplit_once('@').map_or(self.authority.as_str(), |(_, hosts)| hosts);
        let named = self.parameters.iter().find_map(|parameter| parameter.strip_prefix("host="));
        match if hosts.is_empty() { named.unwrap_or_default() } else { hosts } {
            host if is_socket(host) => "local".to_owned(),
            host => decode(host).unwrap_or_else(|_| host.to_owned()),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresUrl").field(&self.without_password()).finish()
    }
}

/// Returns whether a host is a folder with a socket in it, or the usual one.
fn is_socket(host: &str) -> bool {
    host.is_empty() || host.starts_with('/') || host.starts_with("%2F") || host.starts_with("%2f")
}

fn invalid(why: &str) -> Error {
    Error::Invalid(format!("that PostgreSQL URL can't be: {why}; write it like postgres://USER@HOST:5432/DATABASE"))
}

pub(super) fn decode(text: &str) -> Result<String> {
    let bytes = percent::decode(text).ok_or_else(|| invalid("two hexadecimal digits must follow %"))?;
    String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_handed_on_without_its_password() {
        let check = |text: &str, without: &str, password: Option<&str>, database: Option<&str>, host: &str| {
            let url = PostgresUrl::parse(text).expect(text);
            assert_eq!(url.without_password(), without);
            assert_eq!((url.password(), url.database(), url.host().as_str()), (password, database, host), "{text}");
            assert!(!format!("{url:?}").contains("s3cret"));
            assert_eq!(PostgresUrl::parse(&url.without_password()).expect("again").without_password(), without);
        };
        check("postgres://db1/app", "postgres://db1/app", None, Some("app"), "db1");
        check(
            "postgresql://me:s3cret%20x@db1:5433/app",
            "postgres://me@db1:5433/app",
            Some("s3cret x"),
            Some("app"),
            "db1:5433",
        );
        check("postgres://", "postgres:///", None, None, "local");
        check(
            "postgres:///a%20b?host=/run/pg&password=s3cret",
            "postgres:///a%20b?host=/run/pg",
            Some("s3cret"),
            Some("a b"),
            "local",
        );
        check(
            "postgres://a,b:1/x?sslmode=require&dbname=y",
            "postgres://a,b:1/y?sslmode=require",
            None,
            Some("y"),
            "a,b:1",
        );
        check("postgres://u@%2Frun%2Fpg/x", "postgres://u@%2Frun%2Fpg/x", None, Some("x"), "local");
    }

    #[test]
    fn what_is_no_url_is_refused_without_showing_a_password() {
        for bad in
            ["mysql://x", "postgres://me:s3cret@h/a/b", "postgres://h/%zz", "postgres://h/a?s3cret", "postgres://h/%ff"]
        {
            let message = PostgresUrl::parse(bad).expect_err(bad).to_string();
            assert!(message.contains("that PostgreSQL URL can't be") && !message.contains("s3cret"), "{message}");
        }
    }

    #[test]
    fn another_database_keeps_the_rest() {
        let url = PostgresUrl::parse("postgres://me@h/app?sslmode=require").expect("good");
        assert_eq!(url.with_database("a/b").without_password(), "postgres://me@h/a%2Fb?sslmode=require");
    }
}
