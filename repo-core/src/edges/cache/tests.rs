use super::*;
use crate::format::names;

const REPOSITORY: RepositoryId = RepositoryId([7; 16]);

struct Tried {
    cache: Cache,
    of_repository: RepositoryCache,
    _folder: tempfile::TempDir,
}

fn create(bytes_max: u64) -> Tried {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::new(folder.path().join("cache"), bytes_max);
    Tried { of_repository: cache.of(REPOSITORY), cache, _folder: folder }
}

impl Tried {
    fn path(&self, name: &str) -> PathBuf {
        self.cache.folder().join(REPOSITORY.to_string()).join(name)
    }

    async fn keep(&self, name: &str, bytes_n: usize) {
        self.of_repository.keep(name, Bytes::from(vec![1; bytes_n])).await;
    }

    /// Makes it look as if a file had not been used for so long.
    fn age(&self, name: &str, secs: u64) {
        let file = File::open(self.path(name)).expect("it is there");
        file.set_modified(SystemTime::now() - Duration::from_secs(secs)).expect("it is ours");
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }
}

#[tokio::test]
async fn what_is_kept_is_found_and_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let tried = create(1000);
    assert_eq!(tried.of_repository.get("index/a-0", 100).await, None);
    tried.keep("index/a-0", 10).await;
    assert_eq!(tried.of_repository.get("index/a-0", 10).await, Some(Bytes::from(vec![1; 10])));
    assert_eq!(tried.of_repository.get("index/a-0", 9).await, None, "longer than it may be");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&tried.path("index/a-0")), 0o600);
    assert_eq!(mode(&tried.path("index")), 0o700);
    assert_eq!(mode(tried.cache.folder()), 0o700);
    tried.of_repository.forget("index/a-0").await;
    assert_eq!(tried.of_repository.get("index/a-0", 10).await, None);
}

#[tokio::test]
async fn data_packs_push_out_one_another_and_never_the_index() {
    let tried = create(1000);
    for (number, name) in ["index/a-0", "snapshots/a", "meta/a"].iter().enumerate() {
        tried.keep(name, 150).await;
        tried.age(name, 10_000 - number as u64);
    }
    for number in 0..10u64 {
        let name = format!("packs/{number}");
        tried.keep(&name, 150).await;
        tried.age(&name, 1000 - number);
    }
    for name in ["index/a-0", "snapshots/a", "meta/a", "packs/9", "packs/8"] {
        assert!(tried.has(name), "{name}");
    }
    assert!(!tried.has("packs/0") && !tried.has("packs/5"), "those used longest ago go");
    // The index takes back what it lent, and then its own oldest go.
    for number in 0..10u64 {
        tried.keep(&format!("index/b-{number}"), 150).await;
        tried.age(&format!("index/b-{number}"), 500 - number);
    }
    assert!(!tried.has("index/a-0") && tried.has("index/b-9"));
    assert!(tried.has("packs/9") && tried.has("meta/a"), "a quarter each is theirs");
    let bytes: u64 = scan(&tried.path("")).expect("scans").iter().map(|file| file.bytes).sum();
    assert!(bytes <= 1000, "{bytes}");
    tried.keep("packs/large", 1001).await;
    assert!(!tried.has("packs/large") && tried.has("packs/9"), "what can't fit pushes out nothing");
}

#[tokio::test]
async fn a_pack_is_what_its_name_says_or_it_is_forgotten() {
    let tried = create(1000);
    let bytes = Bytes::from_static(b"some pack");
    let id = PackId(*blake3::hash(&bytes).as_bytes());
    let name = names::pack(names::PackKind::Data, id);
    tried.of_repository.keep(&name, bytes.clone()).await;
    assert_eq!(tried.of_repository.pack_part(&name, id, 5..9).await, Some(bytes.slice(5..9)));
    assert_eq!(tried.of_repository.pack_part(&name, id, 5..10).await, None, "beyond the end");
    assert_eq!(tried.of_repository.pack(&name, id).await, Some(bytes));
    fs::write(tried.path(&name), b"some peck").expect("writable");
    assert_eq!(tried.cache.of(REPOSITORY).pack_part(&name, id, 5..9).await, None);
    assert!(!tried.has(&name));
}

#[tokio::test]
async fn what_no_listing_has_goes_after_an_hour() {
    let tried = create(1000);
    for name in ["index/there", "index/gone", "index/new", "meta/other"] {
        tried.keep(name, 10).await;
        tried.age(name, if name == "index/new" { 1800 } else { 7200 });
    }
    tried.of_repository.drop_gone("index", ["index/there"]).await;
    let left = ["index/there", "index/gone", "index/new", "meta/other"].map(|name| tried.has(name));
    assert_eq!(left, [true, false, true, true]);
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_told_once_and_read_on() {
    let tried = create(1000);
    tried.keep("index/a-0", 10).await;
    // A file where a folder should be: nobody can write there, not even root.
    fs::write(tried.path("meta"), b"in the way").expect("writable");
    assert_eq!(tried.cache.take_problem(), None);
    tried.keep("meta/a", 10).await;
    let problem = tried.cache.take_problem().expect("it is told");
    assert!(problem.contains("keeps nothing more"), "{problem}");
    tried.keep("index/b-0", 10).await;
    tried.keep("meta/b", 10).await;
    assert!(!tried.has("index/b-0") && tried.cache.take_problem().is_none(), "once");
    assert!(tried.of_repository.get("index/a-0", 10).await.is_some());
}

#[tokio::test]
async fn it_may_be_deleted_at_any_time() {
    let tried = create(1000);
    for number in 0..3 {
        let name = format!("index/a-{number}");
        tried.keep(&name, 10).await;
        assert!(tried.has(&name));
        fs::remove_dir_all(tried.cache.folder()).expect("deletable");
        assert_eq!(tried.of_repository.get(&name, 10).await, None);
    }
    assert_eq!(tried.cache.take_problem(), None);
}

#[tokio::test]
async fn a_location_leads_to_what_opened_there_last() {
    let tried = create(1000);
    let hint = |slot| Hint { repository: REPOSITORY, slot: SlotId([slot; 8]) };
    assert_eq!(tried.cache.hint("s3://a/b").await, None);
    tried.cache.set_hint("s3://a/b", hint(1)).await;
    tried.of_repository.set_hint("s3://a/b", SlotId([2; 8])).await;
    assert_eq!(tried.cache.hint("s3://a/b").await, Some(hint(2)));
    assert_eq!(tried.cache.hint("s3://a/c").await, None);
    fs::write(tried.cache.hint_path("s3://a/b"), "nonsense").expect("writable");
    assert_eq!(tried.cache.hint("s3://a/b").await, None);
}
