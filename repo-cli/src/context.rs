//! What every command needs: the repository that the flags mean, and how to speak.

use crate::args::Global;
use crate::exit::Failure;
use crate::progress::{Meter, Work};
use crate::{output, runtime, secret};
use dedump_core::{Credential, OpenOptions, Repository, Store, StoreOptions};

/// The global flags, ready for use.
pub struct Context {
    global: Global,
}

impl Context {
    /// Creates the context of these flags.
    pub fn new(global: Global) -> Self {
        Context { global }
    }

    /// Returns whether the result is to be JSON.
    pub fn json(&self) -> bool {
        self.global.json
    }

    /// Returns whether reports are unwanted.
    pub fn quiet(&self) -> bool {
        self.global.quiet
    }

    /// Returns the flags that say where the secret is.
    pub fn secret(&self) -> secret::SecretFlags {
        self.global.secret()
    }

    /// Returns how many threads to use; 0 stands for one a core.
    pub fn threads_n(&self) -> usize {
        self.global.threads.map_or(0, usize::from)
    }

    /// Returns where the repository lies, as the user said it.
    ///
    /// # Errors
    /// Nobody said where.
    pub fn location(&self) -> Result<&str, Failure> {
        let missing = || Failure::usage("which repository? say --repo LOCATION, or set DEDUMP_REPO");
        self.global.repo.as_deref().ok_or_else(missing)
    }

    /// Returns how its store is to be reached.
    pub fn store_options(&self) -> StoreOptions {
        self.global.store_options()
    }

    /// Returns somebody who shows how far the work is, or nobody.
    pub fn meter(&self, work: Work) -> Meter {
        if self.global.quiet || self.global.json { Meter::silent() } else { Meter::create(work) }
    }

    /// Returns such a somebody who has started already.
    pub fn started_meter(&self, work: Work) -> Meter {
        let meter = self.meter(work);
        meter.start();
        meter
    }

    /// Finds the store, and gets the secret. Asks on the terminal if it must, so not inside a runtime that listens for
    /// signals: Ctrl-C at a prompt ends the process.
    ///
    /// # Errors
    /// There is no such place, or no secret.
    pub fn opening(&self) -> Result<Opening, Failure> {
        let store = Store::at(self.location()?, &self.store_options())?;
        Ok(Opening { store, credential: secret::existing(self.secret())? })
    }

    /// Opens the repository and runs `work` with it; see [`runtime::run`].
    ///
    /// # Errors
    /// The repository cannot be opened; those of `work`; an interruption.
    pub fn with_repository<T>(
        &self,
        stands: &str,
        work: impl AsyncFnOnce(Repository) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.with_opening(self.opening()?, stands, work)
    }

    /// Like [`Context::with_repository`], where more has to be asked in between.
    ///
    /// # Errors
    /// Likewise.
    pub fn with_opening<T>(
        &self,
        opening: Opening,
        stands: &str,
        work: impl AsyncFnOnce(Repository) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let all = async { work(opening.open(self).await?).await };
        runtime::run(all, Some(opening.store.clone()), stands)
    }

    /// Prints the result: JSON if that is asked for, else text.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn print(
        &self,
        json: impl FnOnce() -> serde_json::Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.json() { output::print_json(&json()) } else { output::print(&text()) }
    }

    /// Prints a report on work done: like [`Context::print`], and nothing if nobody wants to know.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn report(
        &self,
        json: impl FnOnce() -> serde_json::Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.quiet() && !self.json() { Ok(()) } else { self.print(json, text) }
    }
}

/// What opens a repository.
pub struct Opening {
    store: Store,
    credential: Credential,
}

impl Opening {
    /// Returns the secret.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Opens it.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub async fn open(&self, context: &Context) -> Result<Repository, Failure> {
        let options = OpenOptions { threads_n: context.threads_n() };
        Ok(Repository::open(self.store.clone(), &self.credential, options).await?)
    }
}

/// Returns who runs this: `user@host`.
pub fn user_at_host() -> String {
    let user = nix::unistd::geteuid();
    let name = nix::unistd::User::from_uid(user).ok().flatten().map_or_else(|| user.to_string(), |user| user.name);
    format!("{name}@{}", host_name())
}

/// Returns this machine's name.
pub fn host_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}
