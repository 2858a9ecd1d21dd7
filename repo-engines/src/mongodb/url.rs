//! `mongodb://` URLs, as MongoDB's drivers have them, with the password taken out.

use crate::percent;
use dedump_core::{Error, Result};
use std::fmt;

/// Where a server or a cluster is, and the password if the URL had one.
#[derive(Clone, PartialEq, Eq)]
pub struct MongoUrl {
    /// `mongodb` or `mongodb+srv`.
    scheme: &'static str,
    /// As it is in the URL.
    user: Option<String>,
    password: Option<String>,
    hosts: String,
    database: Option<String>,
    /// What follows the question mark.
    query: String,
}

impl MongoUrl {
    /// Reads a URL: `mongodb://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE?OPTIONS`, or `mongodb+srv://`. Everything but the host
    /// may be left out.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it is none of these. The password is not in the message.
    pub fn parse(text: &str) -> Result<Self> {
        let schemes = [("mongodb+srv://", "mongodb+srv"), ("mongodb://", "mongodb")];
        let (rest, scheme) = schemes
            .iter()
            .find_map(|(prefix, scheme)| Some((text.strip_prefix(prefix)?, *scheme)))
            .ok_or_else(|| invalid("it does not begin with mongodb:// or mongodb+srv://"))?;
        if text.contains(char::is_control) {
            return Err(invalid("it has a control character; encode it as %0A is"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        if hosts.is_empty() || hosts.split(',').any(|host| host.trim().is_empty()) {
            return Err(invalid("it names no host, as in mongodb://db1/shop"));
        }
        let (user, password) = match authority.map(|authority| authority.split_once(':').unwrap_or((authority, ""))) {
            None => (None, None),
            Some(("", _)) => return Err(invalid("it has a password and no user")),
            Some((user, password)) => (Some(user), Some(password).filter(|password| !password.is_empty())),
        };
        if user
            .into_iter()
            .chain(password)
            .any(|part| part.contains(['/', '@', ':']) || percent::decode(part).is_none())
        {
            return Err(invalid("encode the : / @ and % of its user and password as %3A %2F %40 and %25"));
        }
        let database = percent::decode(database).and_then(|name| String::from_utf8(name).ok());
        let database = database.ok_or_else(|| invalid("the name of the database is not UTF-8"))?;
        if database.contains(['/', '\\', ' ', '"', '.', '$']) {
            return Err(invalid("no database can be called so"));
        }
        Ok(MongoUrl {
            scheme,
            user: user.map(str::to_owned),
            password: password.map(str::to_owned),
            hosts: hosts.to_owned(),
            database: Some(database).filter(|name| !name.is_empty()),
            query: query.to_owned(),
        })
    }

    /// Returns the name of the database; `None` stands for all of them.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Returns the URL without password and options, for people.
    pub fn without_password(&self) -> String {
        let user = self.user.as_deref().map_or_else(String::new, |user| format!("{user}@"));
        let database = self.database.as_deref().map_or_else(String::new, |name| format!("/{}", percent::encode(name)));
        format!("{}://{user}{}{database}", self.scheme, self.hosts)
    }

    /// Returns the hosts, for people.
    pub fn host(&self) -> String {
        self.hosts.clone()
    }

    /// Returns the URL of the whole server; the user is still looked for where it was.
    pub(super) fn of_server(&self) -> Self {
        let mut url = MongoUrl { database: None, ..self.clone() };
        if let (Some(_), Some(database)) = (&self.user, &self.database)
            && !self.has_option("authSource")
        {
            let option = format!("authSource={}", percent::encode(database));
            url.query = if self.query.is_empty() { option } else { format!("{}&{option}", self.query) };
        }
        url
    }

    /// Returns the URL of one database, or of all.
    pub(super) fn of_database(&self, name: Option<&str>) -> Self {
        let mut url = self.of_server();
        if url.user.is_some() && !url.has_option("authSource") {
            let option = "authSource=admin";
            url.query = if url.query.is_empty() { option.to_owned() } else { format!("{}&{option}", url.query) };
        }
        MongoUrl { database: name.map(str::to_owned), ..url }
    }

    /// Returns all of it, with a password that is given besides.
    ///
    /// # Errors
    /// [`Error::Invalid`]: there is a password and nobody whose it is.
    pub(super) fn with_password(&self, password: Option<&str>) -> Result<String> {
        let password = self.password.clone().or_else(|| password.map(percent::encode));
        let authority = match (&self.user, password) {
            (Some(user), Some(password)) => format!("{user}:{password}@"),
            (Some(user), None) => format!("{user}@"),
            (None, None) => String::new(),
            (None, Some(_)) => {
                return Err(invalid("a password is given, and the URL names no user, as in mongodb://USER@HOST"));
            }
        };
        let database = self.database.as_deref().map(percent::encode).unwrap_or_default();
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        Ok(format!("{}://{authority}{}/{database}{query}", self.scheme, self.hosts))
    }

    fn has_option(&self, name: &str) -> bool {
        self.query.split('&').filter_map(|option| option.split_once('=')).any(|(key, _)| key.eq_ignore_ascii_case(name))
    }
}

impl fmt::Debug for MongoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MongoUrl").field(&self.without_password()).finish()
    }
}

fn invalid(why: &str) -> Error {
    Error::Invalid(format!("the URL of MongoDB can't be: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_put_together() {
        let url = MongoUrl::parse("mongodb://me:s%40cret@a:27017,b/shop?replicaSet=rs0").expect("good");
        assert_eq!(url.database(), Some("shop"));
        assert_eq!(url.host(), "a:27017,b");
        assert_eq!(url.without_password(), "mongodb://me@a:27017,b/shop");
        assert!(!format!("{url:?}").contains("cret"));
        let all = "mongodb://me:s%40cret@a:27017,b/shop?replicaSet=rs0";
        assert_eq!(url.with_password(None).expect("good"), all);
        let other = url.of_database(Some("copy")).with_password(None).expect("good");
        assert_eq!(other, "mongodb://me:s%40cret@a:27017,b/copy?replicaSet=rs0&authSource=shop");
        let server = MongoUrl::parse("mongodb://me@a").expect("good");
        let one = server.of_database(Some("shop")).with_password(Some("p/w")).expect("good");
        assert_eq!(one, "mongodb://me:p%2Fw@a/shop?authSource=admin");
        assert!(MongoUrl::parse("mongodb://a").expect("good").with_password(Some("x")).is_err());
    }

    #[test]
    fn what_is_no_url_is_refused_without_its_password() {
        for text in [
            "mysql://a",
            "mongodb://",
            "mongodb:///shop",
            "mongodb://me:s3cret:x@a/shop",
            "mongodb://:s3cret@a",
            "mongodb://me:s3cret%@a",
            "mongodb://me:s3cret@a,,b",
            "mongodb://me:s3cret@a/no.dots",
            "mongodb://me:s3cret@a/b\n",
        ] {
            let error = MongoUrl::parse(text).expect_err(text).to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
