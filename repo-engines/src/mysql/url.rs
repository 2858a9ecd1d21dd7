//! `mysql://` and `mariadb://` URLs, with the password taken out.

use super::client::Flavour;
use crate::percent;
use dedump_core::{Error, Result};
use std::ffi::OsString;
use std::fmt;

/// Where a server is, and the password if the URL had one.
#[derive(Clone, PartialEq, Eq)]
pub struct MysqlUrl {
    user: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    database: Option<String>,
    /// What follows the question mark, decoded; no password among it.
    parameters: Vec<(String, String)>,
    password: Option<String>,
}

/// What the parameters of a URL may be called.
const PARAMETERS: [&str; 5] = ["socket", "tls", "ssl-ca", "ssl-cert", "ssl-key"];

impl MysqlUrl {
    /// Reads a URL: `mysql://USER:PASSWORD@HOST:PORT/DATABASE?PARAMETERS`. Everything but the scheme may be left out: the client
    /// tools' own option files say the rest. The parameters are `socket=PATH`, `tls=off`, `on` or `verify`, `ssl-ca=FILE`,
    /// `ssl-cert=FILE` and `ssl-key=FILE`.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it is none. The password is not in the message.
    pub fn parse(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("mysql://").or_else(|| text.strip_prefix("mariadb://"));
        let rest = rest.ok_or_else(|| invalid("it does not begin with mysql:// or mariadb://"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
        let (place, database) = path.split_once('/').unwrap_or((path, ""));
        if database.contains('/') {
            return Err(invalid("a slash is in the database's name; write %2F for one"));
        }
        let (user, password) = match authority {
            None => (None, None),
            Some(words) => match words.split_once(':') {
                None => (Some(words), None),
                Some((user, password)) => (Some(user), Some(password)),
            },
        };
        let (host, port) = host_and_port(place)?;
        let some = |text: &str| if text.is_empty() { Ok(None) } else { decode(text).map(Some) };
        let mut url = MysqlUrl {
            user: some(user.unwrap_or_default())?,
            host,
            port,
            database: some(database)?,
            parameters: Vec::new(),
            password: some(password.unwrap_or_default())?,
        };
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').ok_or_else(|| invalid("a parameter has no value"))?;
            match (name, decode(value)?) {
                ("password", value) => url.password = Some(value),
                ("tls", value) if !["off", "on", "verify"].contains(&value.as_str()) => {
                    return Err(invalid("tls is off, on or verify"));
                }
                (name, value) if PARAMETERS.contains(&name) => url.parameters.push((name.to_owned(), value)),
                _ => return Err(invalid("it has a parameter that is not known; see --help")),
            }
        }
        Ok(url)
    }

    /// Returns the URL of another database of the same server.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        MysqlUrl { database: Some(name.to_owned()), ..self.clone() }
    }

    /// Returns the database's name; none stands for all databases, as `*` does.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref().filter(|name| *name != "*")
    }

    /// Returns the password that was in the URL.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Returns the URL without a password, for people.
    pub fn without_password(&self) -> String {
        let user = self.user.as_deref().map_or_else(String::new, |user| format!("{}@", percent::encode(user)));
        let host = match self.host.as_deref() {
            Some(host) if host.contains(':') => format!("[{host}]"),
            Some(host) => percent::encode(host),
            None => String::new(),
        };
        let port = self.port.map_or_else(String::new, |port| format!(":{port}"));
        let database = self.database.as_deref().map_or_else(String::new, |name| match name {
            "*" => "*".to_owned(),
            name => percent::encode(name),
        });
        let mut text = format!("mysql://{user}{host}{port}/{database}");
        for (number, (name, value)) in self.parameters.iter().enumerate() {
            text.push(if number == 0 { '?' } else { '&' });
            text.push_str(&format!("{name}={}", percent::encode(value)));
        }
        text
    }

    /// Returns the host, for people: `db1:3307`, or `local` for a socket.
    pub fn host(&self) -> String {
        match (self.host.as_deref(), self.port) {
            (None, None) => "local".to_owned(),
            _ if self.parameter("socket").is_some() => "local".to_owned(),
            (host, None) => host.unwrap_or("localhost").to_owned(),
            (host, Some(port)) => format!("{}:{port}", host.unwrap_or("localhost")),
        }
    }

    /// Returns what the client tools of this flavour are told of the server; no password.
    pub(super) fn arguments(&self, flavour: Flavour) -> Vec<OsString> {
        let mut words = Vec::new();
        words.extend(self.user.as_ref().map(|user| format!("--user={user}")));
        words.extend(self.host.as_ref().map(|host| format!("--host={host}")));
        words.extend(self.port.map(|port| format!("--port={port}")));
        let is_named_local = self.host.as_deref().is_none_or(|host| host == "localhost");
        if self.port.is_some() && is_named_local && self.parameter("socket").is_none() {
            // Or the tools would take the usual socket and forget the port.
            words.push("--protocol=tcp".to_owned());
        }
        for (name, value) in &self.parameters {
            match (name.as_str(), value.as_str(), flavour) {
                ("tls", "off", Flavour::MariaDb) => words.push("--skip-ssl".to_owned()),
                ("tls", "on", Flavour::MariaDb) => words.push("--ssl".to_owned()),
                ("tls", _, Flavour::MariaDb) => words.extend(["--ssl", "--ssl-verify-server-cert"].map(str::to_owned)),
                ("tls", "off", Flavour::MySql) => words.push("--ssl-mode=DISABLED".to_owned()),
                ("tls", "on", Flavour::MySql) => words.push("--ssl-mode=REQUIRED".to_owned()),
                ("tls", _, Flavour::MySql) => words.push("--ssl-mode=VERIFY_IDENTITY".to_owned()),
                (name, value, _) => words.push(format!("--{name}={value}")),
            }
        }
        words.into_iter().map(OsString::from).collect()
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for MysqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MysqlUrl").field(&self.without_password()).finish()
    }
}

fn host_and_port(text: &str) -> Result<(Option<String>, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.contains(',') {
        return Err(invalid("it names several hosts; each server is a source of its own"));
    }
    let port = match port {
        None | Some("") => None,
        Some(port) => Some(port.parse().map_err(|_| invalid("its port is no number from 1 to 65535"))?),
    };
    Ok((if host.is_empty() { None } else { Some(decode(host)?) }, port))
}

fn decode(text: &str) -> Result<String> {
    let bytes = percent::decode(text).ok_or_else(|| invalid("two hexadecimal digits must follow %"))?;
    let text = String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8"))?;
    if text.contains(['\0', '\n', '\r']) {
        return Err(invalid("it has a line break or a zero byte in it"));
    }
    Ok(text)
}

fn invalid(why: &str) -> Error {
    Error::Invalid(format!("that MySQL URL can't be: {why}; write it like mysql://USER@HOST:3306/DATABASE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let check = |text: &str, without: &str, password: Option<&str>, database: Option<&str>, host: &str| {
            let url = MysqlUrl::parse(text).expect(text);
            assert_eq!(url.without_password(), without);
            assert_eq!((url.password(), url.database(), url.host().as_str()), (password, database, host), "{text}");
            assert!(!format!("{url:?}").contains("s3cret"));
            let told = url.arguments(Flavour::MariaDb);
            assert!(told.iter().all(|word| !word.to_string_lossy().contains("s3cret")), "{told:?}");
            assert_eq!(MysqlUrl::parse(&url.without_password()).expect("again").without_password(), without);
        };
        check("mysql://", "mysql:///", None, None, "local");
        check("mariadb://me@db1/app", "mysql://me@db1/app", None, Some("app"), "db1");
        check("mysql://me:s3cret%40x@db1:3307/*", "mysql://me@db1:3307/*", Some("s3cret@x"), None, "db1:3307");
        check(
            "mysql://me:a@s3cret@[::1]:7/a%2Fb?tls=verify",
            "mysql://me@[::1]:7/a%2Fb?tls=verify",
            Some("a@s3cret"),
            Some("a/b"),
            "::1:7",
        );
        check(
            "mysql:///x?socket=/run/my.sock&password=s3cret",
            "mysql:///x?socket=%2Frun%2Fmy.sock",
            Some("s3cret"),
            Some("x"),
            "local",
        );
    }

    #[test]
    fn what_is_no_url_is_refused_without_showing_a_password() {
        for bad in [
            "postgres://x",
            "mysql://me:s3cret@h/a/b",
            "mysql://me:s3cret%zz@h",
            "mysql://h/a?s3cret",
            "mysql://h/a?passwd=s3cret",
            "mysql://:s3cret@h:x",
            "mysql://:s3cret@a,b",
            "mysql://:s3cret%0A@a",
            "mysql://:s3cret@h?tls=perhaps",
        ] {
            let message = MysqlUrl::parse(bad).expect_err(bad).to_string();
            assert!(message.contains("that MySQL URL can't be") && !message.contains("s3cret"), "{message}");
        }
    }

    #[test]
    fn a_port_of_this_machine_is_no_socket() {
        let told = |text: &str, flavour| {
            let words = MysqlUrl::parse(text).expect(text).arguments(flavour);
            words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told("mysql://localhost:3307/", Flavour::MariaDb), "--host=localhost --port=3307 --protocol=tcp");
        assert_eq!(told("mysql://localhost/", Flavour::MariaDb), "--host=localhost");
        assert_eq!(told("mysql://u@h/?tls=verify", Flavour::MySql), "--user=u --host=h --ssl-mode=VERIFY_IDENTITY");
        assert_eq!(told("mysql://h/?tls=off", Flavour::MariaDb), "--host=h --skip-ssl");
    }
}
