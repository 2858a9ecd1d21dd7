//! The handle of an open repository: its store, its keys, its threads. It stays small; what can be done with a
//! repository are functions of the operations floor.

use super::known::Known;
use super::probe::probe;
use crate::crafts::chunker::ChunkerParams;
use crate::crafts::crypto::keys::{Keys, Secret, Secrets};
use crate::crafts::crypto::slot::{Argon2Params, SlotKeys};
use crate::edges::cache::{Cache, Hint, RepositoryCache};
use crate::edges::cpu::Cpu;
use crate::edges::store::{Created, Store};
use crate::edges::system::{now_ms, random};
use crate::format::config::ConfigRecord;
use crate::format::header::Header;
use crate::format::names::{self, PackKind};
use crate::format::record::{self, Record, Sealer};
use crate::format::slot::{self, SlotKind, SlotLabel};
use crate::words::error::{Error, Result};
use crate::words::id::{RepositoryId, SlotId};
use crate::words::limits::{
    DATA_PACK_BYTES_TARGET, DATA_PACK_BYTES_TARGET_NEAR, META_PACK_BYTES_TARGET, RECORD_BYTES_MAX,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The program that writes, with its version, as stored objects name it.
pub const PROGRAM: &str = concat!("dedump ", env!("CARGO_PKG_VERSION"));

/// What opens a repository.
#[derive(Clone)]
pub enum Credential {
    /// A passphrase; costs an Argon2id run to try.
    Passphrase(Zeroizing<Vec<u8>>),
    /// The 32 random bytes of a key file; costs nothing to try.
    KeyFile(Secret),
}

impl Credential {
    /// Creates the credential of a passphrase.
    pub fn passphrase(passphrase: impl Into<Vec<u8>>) -> Self {
        Credential::Passphrase(Zeroizing::new(passphrase.into()))
    }

    /// Creates a new key file's credential, from the system's random numbers.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn generate_key_file() -> Result<Self> {
        Ok(Credential::KeyFile(Secret(random()?)))
    }

    /// Reads a key file: one line, `dedump-key-1:` and 64 hex digits.
    ///
    /// # Errors
    /// [`Error::Invalid`]: not a key file.
    pub fn from_key_file_text(text: &str) -> Result<Self> {
        text.trim()
            .strip_prefix(KEY_FILE_PREFIX)
            .and_then(|digits| digits.parse::<crate::words::id::ChunkId>().ok())
            .map(|bytes| Credential::KeyFile(Secret(bytes.0)))
            .ok_or_else(|| {
                Error::Invalid("it is no key file of dedump; make one with `dedump key generate`".to_owned())
            })
    }

    /// Returns the text of a key file, or `None` for a passphrase.
    pub fn to_key_file_text(&self) -> Option<Zeroizing<String>> {
        let Credential::KeyFile(secret) = self else { return None };
        // With room for all of it: a string that grows would leave a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_PREFIX.len() + 65));
        text.push_str(KEY_FILE_PREFIX);
        for byte in secret.0 {
            text.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or_default()));
        }
        text.push('\n');
        Some(text)
    }

    fn name(&self) -> &'static str {
        match self {
            Credential::Passphrase(_) => "passphrase",
            Credential::KeyFile(_) => "key file",
        }
    }
}

const KEY_FILE_PREFIX: &str = "dedump-key-1:";

/// How a repository is made.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// How streams are cut, unless a backup asks otherwise.
    pub chunker: ChunkerParams,
    /// What a passphrase costs to try.
    pub argon2: Argon2Params,
    /// Name of the first key slot.
    pub label: String,
    /// The host that creates it.
    pub host: String,
    /// Threads for processor work; 0 stands for one a core.
    pub threads_n: usize,
    /// A repository that is to name and cut chunks in the same way, so that blobs can be copied as they are; its chunker is
    /// taken, too. Nothing else is shared: neither opens what the other sealed.
    pub like: Option<Repository>,
}

/// How a repository is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Threads for processor work; 0 stands for one a core.
    pub threads_n: usize,
    /// A local cache of what never changes in the repository. A store on the local disk needs none.
    pub cache: Option<Cache>,
}

/// An open repository. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    pub(crate) store: Store,
    pub(crate) keys: Arc<Keys>,
    pub(crate) cpu: Cpu,
    pub(crate) cache: Option<RepositoryCache>,
    pub(crate) known: Arc<Known>,
    id: RepositoryId,
    config: Arc<ConfigRecord>,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repository({} at {})", self.id.short(), self.store.location())
    }
}

impl Repository {
    /// Creates a repository in an empty store, with one key slot.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`]: there is one. [`Error::Invalid`]: impossible options. [`Error::UnfitStore`]: the store does
    /// not keep what a repository rests on. [`Error::Store`].
    pub async fn create(store: Store, credential: &Credential, options: CreateOptions) -> Result<Repository> {
        let cpu = Cpu::create(options.threads_n)?;
        if store.get(names::CONFIG, RECORD_BYTES_MAX).await?.is_some() {
            return Err(already_exists(&store));
        }
        probe(&store).await?;
        let (chunker, naming) = match &options.like {
            Some(like) => (like.config.chunker, like.keys.secrets().naming.clone()),
            None => (options.chunker, Secret(random()?)),
        };
        let config = ConfigRecord { created_ms: now_ms(), program: PROGRAM.to_owned(), chunker: chunker.checked()? };
        let secrets = Secrets { naming, epochs: BTreeMap::from([(1, Secret(random()?))]) };
        let keys = Keys::derive(secrets).expect("there is an epoch");
        let id = RepositoryId(random()?);
        let config_bytes = record::seal(Sealer { repository: id, keys: &keys }, names::CONFIG, random()?, &config)?;
        let repository = Repository::new(store, (id, keys), cpu, config);

        // The slot first: a config makes a repository, and one that nobody can open would be in the way.
        let label = SlotLabel { label: options.label, created_ms: now_ms(), host: options.host };
        let slot = add_slot(&repository, credential, options.argon2, label).await?;
        match repository.store.create(names::CONFIG, config_bytes.into()).await? {
            Created::Yes => Ok(repository),
            Created::Taken => {
                repository.store.delete(&names::slot(slot)).await?;
                Err(already_exists(&repository.store))
            }
        }
    }

    /// Opens a repository with a passphrase or key file.
    ///
    /// With a cache that opened the location before, this takes one request: for the key slot, so that a key that was removed
    /// opens no more, and a repository in another's place is not taken for it.
    ///
    /// # Errors
    /// [`Error::NotARepository`], [`Error::WrongKey`], [`Error::NewerFormat`], [`Error::Damaged`], [`Error::Store`].
    pub async fn open(store: Store, credential: &Credential, options: OpenOptions) -> Result<Repository> {
        let cpu = Cpu::create(options.threads_n)?;
        if let Some(cache) = &options.cache
            && let Some(repository) = open_again(&store, credential, cache, &cpu).await?
        {
            return Ok(repository);
        }
        let not_a_repository = || Error::NotARepository { location: store.location().to_owned() };
        let config_bytes = store.get(names::CONFIG, RECORD_BYTES_MAX).await?.ok_or_else(not_a_repository)?;
        let (header, _) = Header::decode(names::CONFIG, &config_bytes)?;
        let id = header.repository;
        let (slot, secrets) = unlock(&store, id, credential, &cpu).await?;
        let keys = derive_keys(secrets)?;
        let config: ConfigRecord = record::open(Sealer { repository: id, keys: &keys }, names::CONFIG, &config_bytes)?;
        let repository = Repository::new(store, (id, keys), cpu, config);
        let Some(cache) = options.cache else { return Ok(repository) };
        let repository = repository.with_cache(cache);
        if let Some(cache) = &repository.cache {
            cache.keep(names::CONFIG, config_bytes).await;
            cache.set_hint(repository.location(), slot).await;
        }
        Ok(repository)
    }

    fn new(store: Store, (id, keys): (RepositoryId, Keys), cpu: Cpu, config: ConfigRecord) -> Repository {
        let (keys, config) = (Arc::new(keys), Arc::new(config));
        Repository { store, keys, cpu, cache: None, known: Arc::default(), id, config }
    }

    /// Returns the repository with a local cache; see [`OpenOptions::cache`].
    pub fn with_cache(self, cache: Cache) -> Repository {
        Repository { cache: Some(cache.of(self.id)), ..self }
    }

    /// Returns the repository as whoever judges the store sees it: without the cache, and knowing nothing yet.
    pub(crate) fn without_cache(&self) -> Repository {
        Repository { cache: None, known: Arc::default(), ..self.clone() }
    }

    /// Returns how many bytes fill a pack.
    pub fn pack_bytes_target(&self, kind: PackKind) -> usize {
        match kind {
            PackKind::Data if self.store.is_near() => DATA_PACK_BYTES_TARGET_NEAR,
            PackKind::Data => DATA_PACK_BYTES_TARGET,
            PackKind::Meta => META_PACK_BYTES_TARGET,
        }
    }

    /// Returns the repository's id.
    pub fn id(&self) -> RepositoryId {
        self.id
    }

    /// Returns what was fixed when the repository was created.
    pub fn config(&self) -> &ConfigRecord {
        &self.config
    }

    /// Returns how messages name the store.
    pub fn location(&self) -> &str {
        self.store.location()
    }

    pub(crate) fn sealer(&self) -> Sealer<'_> {
        Sealer { repository: self.id, keys: &self.keys }
    }

    /// Seals a record under a salt of its own.
    pub(crate) fn seal<T: Record>(&self, name: &str, record: &T) -> Result<bytes::Bytes> {
        Ok(record::seal(self.sealer(), name, random()?, record)?.into())
    }

    /// Reads and opens a record that never changes and that a listing has, from the cache if it is there; `None` if it is gone.
    pub(crate) async fn read_listed<T: Record>(&self, name: &str) -> Result<Option<T>> {
        let open = |bytes: &[u8]| record::open(self.sealer(), name, bytes);
        if let Some(cache) = &self.cache
            && let Some(bytes) = cache.get(name, RECORD_BYTES_MAX).await
        {
            match open(&bytes) {
                Ok(record) => return Ok(Some(record)),
                // Whatever is wrong is wrong with the copy; the store's own may be whole.
                Err(_) => cache.forget(name).await,
            }
        }
        let Some(bytes) = self.store.get(name, RECORD_BYTES_MAX).await? else { return Ok(None) };
        let record = open(&bytes)?;
        if let Some(cache) = &self.cache {
            cache.keep(name, bytes).await;
        }
        Ok(Some(record))
    }

    /// Reads and opens a record; `None` if there is none of that name.
    pub(crate) async fn read<T: Record>(&self, name: &str) -> Result<Option<T>> {
        match self.store.get(name, RECORD_BYTES_MAX).await? {
            Some(bytes) => record::open(self.sealer(), name, &bytes).map(Some),
            None => Ok(None),
        }
    }
}

/// Puts a new key slot.
///
/// # Errors
/// [`Error::Invalid`]: an empty passphrase or impossible parameters. [`Error::Store`].
pub(crate) async fn add_slot(
    repository: &Repository,
    credential: &Credential,
    params: Argon2Params,
    label: SlotLabel,
) -> Result<SlotId> {
    let id = SlotId(random()?);
    let salt: [u8; 32] = random()?;
    let kind = match credential {
        Credential::Passphrase(passphrase) if passphrase.is_empty() => {
            return Err(Error::Invalid("the passphrase is empty; give one, or use a key file".to_owned()));
        }
        Credential::Passphrase(_) => SlotKind::Passphrase(params),
        Credential::KeyFile(_) => SlotKind::KeyFile,
    };
    let slot_keys = derive(&repository.cpu, credential.clone(), kind, salt).await?;
    let name = names::slot(id);
    let slot = (kind, &slot_keys, salt);
    let bytes = slot::seal(repository.sealer(), &name, slot, (&label, random()?))?;
    match repository.store.create(&name, bytes.into()).await? {
        Created::Yes => Ok(id),
        Created::Taken => Err(Error::Conflict(format!("{name} is taken; try again"))),
    }
}

/// Opens the repository that opened at this location before, by the same slot and with the config that is cached; `None` if
/// anything of that is not as it was. What the cache says is only where to look: the slot is the store's, and opens by the
/// credential; the config never changes, and opens by the slot's keys.
async fn open_again(store: &Store, credential: &Credential, cache: &Cache, cpu: &Cpu) -> Result<Option<Repository>> {
    let Some(Hint { repository: id, slot }) = cache.hint(store.location()).await else { return Ok(None) };
    let cache = cache.of(id);
    let Some(config_bytes) = cache.get(names::CONFIG, RECORD_BYTES_MAX).await else { return Ok(None) };
    let name = names::slot(slot);
    let slot_bytes = match store.get(&name, RECORD_BYTES_MAX).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) if error.is_damage() => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok(Some(secrets)) = try_slot(&name, id, &slot_bytes, credential, cpu).await else { return Ok(None) };
    let Ok(keys) = derive_keys(secrets) else { return Ok(None) };
    match record::open(Sealer { repository: id, keys: &keys }, names::CONFIG, &config_bytes) {
        Ok(config) => {
            let repository = Repository::new(store.clone(), (id, keys), cpu.clone(), config);
            Ok(Some(Repository { cache: Some(cache), ..repository }))
        }
        Err(_) => {
            cache.forget(names::CONFIG).await;
            Ok(None)
        }
    }
}

fn derive_keys(secrets: Secrets) -> Result<Keys> {
    Keys::derive(secrets).ok_or_else(|| Error::damaged(names::KEYS, "a key slot holds no key epoch"))
}

/// Tries the credential on every slot of its kind; returns the one that opened, and what it holds.
async fn unlock(
    store: &Store,
    repository: RepositoryId,
    credential: &Credential,
    cpu: &Cpu,
) -> Result<(SlotId, Secrets)> {
    let (mut slots_n, mut sound_n, mut first_damage) = (0, 0, None);
    let mut slots = Vec::new();
    for listed in store.list(names::KEYS).await? {
        let Some(id) = names::parse::<SlotId>(names::KEYS, &listed.name) else { continue };
        match store.get(&listed.name, RECORD_BYTES_MAX).await {
            Ok(Some(bytes)) => slots.push((id, listed.name, bytes)),
            Ok(None) => continue,
            Err(error) if error.is_damage() => {
                first_damage.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
        slots_n += 1;
    }
    // The cheapest first: nobody shall wait, or run out of memory, for somebody else's slot.
    slots.sort_by_key(|(_, name, bytes)| slot::parse(name, repository, bytes).map_or(0, |slot| slot.kind.cost()));
    for (id, name, bytes) in slots {
        match try_slot(&name, repository, &bytes, credential, cpu).await {
            Ok(Some(secrets)) => return Ok((id, secrets)),
            Ok(None) => sound_n += 1,
            Err(error) => {
                first_damage.get_or_insert(error);
            }
        }
    }
    Err(match first_damage {
        Some(damage) if sound_n == 0 => damage,
        _ if slots_n == 0 => Error::Missing {
            object: names::KEYS.to_owned(),
            why: "no key slot is left, and without one nothing opens; put a copy of keys/ back".to_owned(),
        },
        _ => Error::WrongKey { slots: slots_n, secret: credential.name() },
    })
}

async fn try_slot(
    name: &str,
    repository: RepositoryId,
    bytes: &[u8],
    credential: &Credential,
    cpu: &Cpu,
) -> Result<Option<Secrets>> {
    let slot = slot::parse(name, repository, bytes)?;
    match (slot.kind, credential) {
        (SlotKind::Passphrase(_), Credential::Passphrase(_)) | (SlotKind::KeyFile, Credential::KeyFile(_)) => {
            let slot_keys = derive(cpu, credential.clone(), slot.kind, *slot.salt()).await?;
            slot.unwrap_secrets(&slot_keys)
        }
        _ => Ok(None),
    }
}

async fn derive(cpu: &Cpu, credential: Credential, kind: SlotKind, salt: [u8; 32]) -> Result<SlotKeys> {
    cpu.run(move || match (&credential, kind) {
        (Credential::Passphrase(passphrase), SlotKind::Passphrase(params)) => {
            SlotKeys::from_passphrase(passphrase, params, &salt)
        }
        (Credential::KeyFile(key), _) => Ok(SlotKeys::from_key_file(key, &salt)),
        (Credential::Passphrase(_), SlotKind::KeyFile) => unreachable!("only slots of the credential's kind are tried"),
    })
    .await
}

fn already_exists(store: &Store) -> Error {
    Error::AlreadyExists {
        location: store.location().to_owned(),
        why: "already holds a repository; use it, or name another place".to_owned(),
    }
}
