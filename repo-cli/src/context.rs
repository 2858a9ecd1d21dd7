//! What every command needs: the repository that the flags mean, and how to speak.

use crate::args::Global;
use crate::exit::Failure;
use crate::progress::{Meter, Work};
use crate::{human, json, output, runtime, secret};
use dedump_core::{Cache, Credential, OpenOptions, Repository, Requests, Store, StoreOptions};
use std::cell::RefCell;
use std::path::PathBuf;

/// The global flags, ready for use.
pub struct Context {
    global: Global,
    /// The stores that were used, whose requests are reported.
    stores: RefCell<Vec<Store>>,
}

impl Context {
    /// Creates the context of these flags.
    pub fn new(global: Global) -> Self {
        Context { global, stores: RefCell::default() }
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
        Ok(Opening::create(self, store, secret::existing(self.secret())?))
    }

    /// Like [`Context::opening`], for a repository that is only read: storage classes are another's.
    ///
    /// # Errors
    /// Likewise.
    pub fn opening_to_read(&self) -> Result<Opening, Failure> {
        let mut options = self.store_options();
        options.storage_classes.clear();
        let store = Store::at(self.location()?, &options)?;
        Ok(Opening::create(self, store, secret::existing(self.secret())?))
    }

    /// Returns the cache to use with a store: where the user says, or in the usual place if the store is far away.
    fn cache(&self, store: &Store) -> Option<Cache> {
        let folder = match &self.global.cache_dir {
            _ if self.global.no_cache => None,
            Some(folder) => Some(folder.clone()),
            None if store.is_near() => None,
            None => usual_cache(|name| std::env::var_os(name)),
        };
        Some(Cache::new(folder?, self.global.cache_size << 20))
    }

    /// Counts the requests to a store in among those that are reported.
    pub fn count(&self, store: &Store) {
        self.stores.borrow_mut().push(store.clone());
    }

    /// Returns the requests so far to stores that are far away; `None` if there is none of those.
    fn requests(&self) -> Option<Requests> {
        let stores = self.stores.borrow();
        let far = stores.iter().filter(|store| !store.is_near()).map(Store::requests);
        far.reduce(|sum, one| sum.and(&one))
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
        let result = runtime::run(all, Some(opening.store.clone()), stands);
        opening.complain();
        result
    }

    /// Prints the result: JSON if that is asked for, else text; and how many requests it took, if a store is far away. An array
    /// has no place for that.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn print(
        &self,
        json: impl FnOnce() -> serde_json::Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let requests = self.requests();
        if !self.json() {
            return output::print(&(text() + &requests.as_ref().map(requests_line).unwrap_or_default()));
        }
        let mut value = json();
        if let (Some(requests), Some(fields)) = (requests, value.as_object_mut()) {
            // A prune has its own, of a part of its work.
            let name = if fields.contains_key("requests") { "requests_all" } else { "requests" };
            fields.insert(name.to_owned(), json::requests(&requests));
        }
        output::print_json(&value)
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
    cache: Option<Cache>,
}

impl Opening {
    /// Returns what opens the repository in a store.
    pub fn create(context: &Context, store: Store, credential: Credential) -> Opening {
        let cache = context.cache(&store);
        Opening { store, credential, cache }
    }

    /// Returns the store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the secret.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Opens it. Its requests are reported from now on.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub async fn open(&self, context: &Context) -> Result<Repository, dedump_core::Error> {
        context.count(&self.store);
        let options = OpenOptions { threads_n: context.threads_n(), cache: self.cache.clone() };
        Repository::open(self.store.clone(), &self.credential, options).await
    }

    /// Warns if the cache keeps nothing any more.
    pub fn complain(&self) {
        if let Some(problem) = self.cache.as_ref().and_then(Cache::take_problem) {
            output::warning(&problem);
        }
    }

    /// Returns it for those who look at the store alone.
    pub fn without_cache(self) -> Opening {
        Opening { cache: None, ..self }
    }
}

/// Returns the folder where the caches of the user's programs are, by the XDG Base Directory Specification 0.8.
fn usual_cache(env: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    // A path that is not absolute is to be ignored.
    let path = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|home| home.join(".cache")));
    caches.map(|caches| caches.join("dedump"))
}

fn requests_line(requests: &Requests) -> String {
    let heads = match requests.heads_n {
        0 => String::new(),
        heads_n => format!("{} head, ", human::count(heads_n)),
    };
    let [lists, reads, writes, deletes] =
        [requests.lists_n, requests.reads_n, requests.writes_n, requests.deletes_n].map(human::count);
    let (down, up) = (human::bytes(requests.bytes_read), human::bytes(requests.bytes_written));
    format!("requests  {lists} list, {reads} read, {heads}{writes} write, {deletes} delete; {down} down, {up} up\n")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_cache_is_where_the_environment_says() {
        let with = |xdg: Option<&str>, home: Option<&str>| {
            let (xdg, home) = (xdg.map(Into::into), home.map(Into::into));
            usual_cache(|name| if name == "HOME" { home.clone() } else { xdg.clone() })
        };
        assert_eq!(with(Some("/x"), Some("/home/me")), Some("/x/dedump".into()));
        for xdg in [None, Some(""), Some("relative")] {
            assert_eq!(with(xdg, Some("/home/me")), Some("/home/me/.cache/dedump".into()));
        }
        assert_eq!(with(None, None), None);
    }

    #[test]
    fn requests_are_told_in_a_line() {
        let requests = Requests {
            lists_n: 12,
            reads_n: 3100,
            heads_n: 0,
            writes_n: 40,
            deletes_n: 1,
            bytes_read: 12_700_000,
            bytes_written: 0,
        };
        let line = "requests  12 list, 3,100 read, 40 write, 1 delete; 12.1 MiB down, 0 B up\n";
        assert_eq!(requests_line(&requests), line);
        assert!(requests_line(&Requests { heads_n: 2, ..requests }).contains("read, 2 head, 40 write"));
    }
}
