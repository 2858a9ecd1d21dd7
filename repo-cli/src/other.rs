//! The second repository of a command: where a copy goes, or what a new one is to be like.

use crate::context::{Context, Opening};
use crate::exit::Failure;
use crate::secret::{self, SecretFlags, Variables};
use dedump_core::{Credential, Repository, Store};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the flags say of it.
#[derive(Debug, Clone)]
pub struct Other {
    /// Where it lies.
    pub location: String,
    /// Where its secret is to be had from.
    pub secret: SecretFlags,
    /// The variables that may say so, too.
    pub variables: &'static Variables,
    /// Settings of its store.
    pub settings: Vec<(String, String)>,
    /// A file with more of them, which no other user need see.
    pub settings_file: Option<PathBuf>,
    /// What it is for.
    pub purpose: Purpose,
}

/// What a second repository is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It is written to.
    Written,
    /// It is written to, and every object is read back.
    Verified,
    /// It is only read: storage classes are the first one's.
    Read,
}

impl Other {
    /// Finds its secret and the settings of its store. Where it has no secret of its own, that of the first repository is
    /// tried.
    ///
    /// # Errors
    /// They can't be had, or can't be; nor can its location.
    pub fn opening(self, context: &Context, first: &Credential) -> Result<OtherOpening, Failure> {
        let own = secret::own(self.secret, self.variables)?;
        let mut store_options = context.store_options();
        // Those of the command line are the first repository's.
        store_options.settings = self.settings_file.as_deref().map(read_settings).transpose()?.unwrap_or_default();
        store_options.settings.extend(self.settings);
        match self.purpose {
            Purpose::Written => {}
            Purpose::Verified => store_options.verify_uploads = true,
            Purpose::Read => store_options.storage_classes.clear(),
        }
        let is_own = own.is_some();
        let store = Store::at(&self.location, &store_options).map_err(|error| named(&self.location, error.into()))?;
        let opening = Opening::create(context, store, own.unwrap_or_else(|| first.clone()));
        Ok(OtherOpening { location: self.location, opening, is_own, variables: self.variables })
    }
}

/// All that is needed to open it.
pub struct OtherOpening {
    location: String,
    opening: Opening,
    is_own: bool,
    variables: &'static Variables,
}

impl OtherOpening {
    /// Returns where it lies, as the user said it.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Returns what opens it.
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// Opens it.
    ///
    /// # Errors
    /// As [`Repository::open`], with its name.
    pub async fn open(&self, context: &Context) -> Result<Repository, Failure> {
        self.opening.open(context).await.map_err(|error| {
            let is_wrong_key = matches!(error, dedump_core::Error::WrongKey { .. });
            let mut failure = named(&self.location, error.into());
            if is_wrong_key && !self.is_own {
                let [password_file, ..] = self.variables.flags;
                failure.message += &format!(
                    "; it is the secret of the first repository, since no other was given: see {password_file} and its kin"
                );
            }
            failure
        })
    }
}

/// There are two repositories, so a message must say which.
fn named(location: &str, failure: Failure) -> Failure {
    if failure.message.contains(location) {
        return failure;
    }
    Failure { message: format!("{location}: {}", failure.message), ..failure }
}

/// Reads settings of a store, a line each: `key = value`, and `#` before remarks.
fn read_settings(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let bytes = secret::read(path, "file of settings")?;
    let text = String::from_utf8_lossy(&bytes);
    let mut settings = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // Not the line: it may hold a secret.
        let (key, value) = line.split_once('=').ok_or_else(|| {
            Failure::usage(format!("{}: line {number} is no setting; write key = value", path.display()))
        })?;
        settings.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    Ok(settings)
}
