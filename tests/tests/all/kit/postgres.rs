//! A PostgreSQL server of a test's own: made in a temporary folder, reached by a socket in it, gone with the test.
//!
//! The server refuses to run as root. When the tests do, it runs as the package's own user, and its folder is that
//! user's; the clients always run as the tests do, straight from the package's folder, so that their names and exit
//! statuses are their own. Other versions than Debian's are those that `tests/servers` puts beside the build results.

use super::servers::installed;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// Where Debian's packages postgresql-15 and postgresql-client-15 put their programs.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// The user that the packages make.
const USER: &str = "postgres";
/// Names the socket and nothing else: the server listens on no network.
const PORT: &str = "5432";

/// What a server is made of.
struct Setup {
    programs: PathBuf,
    /// The server's own, if they are others than the clients'.
    server_programs: Option<PathBuf>,
    /// The size of the disk that its databases lie on, if they have one of their own.
    disk_megabytes: Option<u32>,
}

impl Default for Setup {
    fn default() -> Self {
        Setup { programs: PROGRAMS.into(), server_programs: None, disk_megabytes: None }
    }
}

/// A server that runs. Dropped, it is stopped at once and its data are gone; killed, the test takes it along.
pub struct Postgres {
    programs: PathBuf,
    server: Child,
    log: Option<JoinHandle<String>>,
    // Last: the server lives in it.
    folder: tempfile::TempDir,
}

impl Postgres {
    /// Makes a server and waits until it takes connections.
    ///
    /// Call it on the test's own thread: the server is killed when the thread that started it ends.
    pub fn start() -> Self {
        Self::start_in(Self::folder_for_one(), &Setup::default())
    }

    /// Makes a server of another major version, with the clients of that version.
    pub fn start_version(major: u32) -> Self {
        let folder = Self::folder_for_one();
        // The server's user may not reach a build folder.
        let usr = folder.path().join("usr");
        output(Command::new("cp").arg("-r").arg(installed(&format!("postgres-{major}"))).arg(&usr));
        Self::start_in(folder, &Setup { programs: usr.join("bin"), ..Setup::default() })
    }

    /// Makes a server whose databases lie on a disk of this size, and nothing else does.
    pub fn start_on_disk(megabytes: u32) -> Self {
        Self::start_in(Self::folder_for_one(), &Setup { disk_megabytes: Some(megabytes), ..Setup::default() })
    }

    /// Makes a standby of this server, which follows it and takes no changes.
    pub fn start_standby(&self) -> Self {
        let folder = Self::folder_for_one();
        let data = folder.path().join("data");
        let mut copy = as_server_user(&self.programs, "pg_basebackup");
        copy.arg("-h").arg(self.folder()).args(["-p", PORT, "-U", USER, "--write-recovery-conf", "--checkpoint=fast"]);
        hand_over(&folder);
        output(copy.arg("-D").arg(&data));
        Self::serve(folder, &Setup { programs: self.programs.clone(), ..Setup::default() })
    }

    /// Makes a server that has an extension of the test's own besides, in these versions, the first one by default.
    ///
    /// The server looks for extensions beside its own program, wherever that is, so it gets a folder with a copy of that and
    /// links to all else.
    pub fn start_with_extension(name: &str, versions: &[&str], script: &str) -> Self {
        let folder = Self::folder_for_one();
        let usr = folder.path().join("usr");
        let (bin, share) = (usr.join("lib/postgresql/15/bin"), usr.join("share/postgresql/15"));
        std::fs::create_dir_all(&bin).expect("a new folder");
        std::fs::create_dir_all(share.join("extension")).expect("a new folder");
        std::fs::copy(Path::new(PROGRAMS).join("postgres"), bin.join("postgres")).expect("the server is there");
        let link = |from: &Path, to: &Path| {
            for entry in std::fs::read_dir(from).expect("the package's folder") {
                let entry = entry.expect("readable");
                if entry.file_name() != "extension" {
                    std::os::unix::fs::symlink(entry.path(), to.join(entry.file_name())).expect("links");
                }
            }
        };
        link(Path::new("/usr/share/postgresql/15"), &share);
        link(Path::new("/usr/share/postgresql/15/extension"), &share.join("extension"));
        std::os::unix::fs::symlink("/usr/lib/postgresql/15/lib", usr.join("lib/postgresql/15/lib")).expect("links");
        let control = format!("comment = 'a stand-in'\ndefault_version = '{}'\n", versions[0]);
        std::fs::write(share.join(format!("extension/{name}.control")), control).expect("writable");
        for version in versions {
            std::fs::write(share.join(format!("extension/{name}--{version}.sql")), script).expect("writable");
        }
        Self::start_in(folder, &Setup { server_programs: Some(bin), ..Setup::default() })
    }

    fn folder_for_one() -> tempfile::TempDir {
        tempfile::Builder::new().prefix("dedump-pg-").tempdir().expect("a temporary folder")
    }

    fn start_in(folder: tempfile::TempDir, setup: &Setup) -> Self {
        for program in ["postgres", "initdb", "pg_dump", "pg_restore", "psql", "pgbench"] {
            let path = setup.programs.join(program);
            assert!(
                path.exists(),
                "{} is missing: install the Debian packages postgresql-15 and postgresql-client-15, or let tests/run do it",
                path.display()
            );
        }
        hand_over(&folder);
        let initdb =
            ["--no-sync", "--no-instructions", "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", USER, "-D"];
        output(as_server_user(&setup.programs, "initdb").args(initdb).arg(folder.path().join("data")));
        Self::serve(folder, setup)
    }

    /// Starts the server on the data that are there.
    fn serve(folder: tempfile::TempDir, setup: &Setup) -> Self {
        let programs = setup.server_programs.as_ref().unwrap_or(&setup.programs);
        let mut server = match setup.disk_megabytes {
            None => as_server_user(programs, "postgres"),
            Some(megabytes) => on_small_disk(programs, megabytes, &folder.path().join("data/base")),
        };
        server.arg("-D").arg(folder.path().join("data")).arg("-k").arg(folder.path()).args(["-p", PORT]);
        // Nothing of it must last, and nothing must work beside the tests.
        for setting in ["listen_addresses=", "fsync=off", "autovacuum=off", "max_wal_size=4GB", "shared_buffers=64MB"] {
            server.args(["-c", setting]);
        }
        let mut server =
            server.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("setpriv of util-linux starts");
        let (log, is_ready) = follow(server.stderr.take().expect("stderr is piped"));
        let has_started = is_ready.recv().is_ok();
        let postgres = Postgres { programs: setup.programs.clone(), server, log: Some(log), folder };
        assert!(has_started, "PostgreSQL does not start in {}", postgres.folder.path().display());
        postgres
    }

    /// Returns the folder of the client programs.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Returns a client program with the options that lead it here, as an engine takes it; `arguments` follow them.
    pub fn argv(&self, program: &str, arguments: &[&str]) -> Vec<OsString> {
        let program = self.programs.join(program).into();
        let options = ["-h".into(), self.folder.path().into(), "-p".into(), PORT.into(), "-U".into(), USER.into()];
        let arguments = arguments.iter().map(OsString::from);
        [program].into_iter().chain(options).chain(arguments).collect()
    }

    /// Returns the same as a command, with a plain environment.
    pub fn client(&self, program: &str, arguments: &[&str]) -> Command {
        let argv = self.argv(program, arguments);
        let mut command = plain(&argv[0]);
        command.args(&argv[1..]);
        command
    }

    /// Runs a client program to its end, which must be a good one, and returns what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        output(&mut self.client(program, arguments))
    }

    /// Runs a script in a database and returns the rows, their fields parted by `|`.
    pub fn psql(&self, database: &str, script: &str) -> String {
        // A file, not a pipe: psql may print while it still has to read.
        let file = self.folder.path().join(format!("{database}.script"));
        std::fs::write(&file, script).expect("the folder takes a file");
        let script = std::fs::File::open(&file).expect("the file is there");
        output(self.script(database).stdin(script))
    }

    /// Returns a `psql` that reads a script from its standard input and ends at the first error.
    pub fn script(&self, database: &str) -> Command {
        self.client("psql", &["-XqAt", "-v", "ON_ERROR_STOP=1", "-f", "-", "-d", database])
    }

    /// Creates an empty database.
    pub fn create_database(&self, name: &str) {
        self.run("createdb", &["-T", "template0", name]);
    }

    /// Returns the URL of a database.
    pub fn url(&self, database: &str) -> String {
        self.url_of(USER, database)
    }

    /// Returns the URL of a database for another user than the server's own.
    pub fn url_of(&self, user: &str, database: &str) -> String {
        let socket = self.folder.path().to_str().expect("a plain path").replace('/', "%2F");
        format!("postgres://{user}@{socket}:{PORT}/{database}")
    }

    /// Returns a folder that goes with the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.folder.path().join("data");
        let stopped =
            as_server_user(&self.programs, "pg_ctl").args(["stop", "-s", "-m", "immediate", "-D"]).arg(data).status();
        if !stopped.is_ok_and(|status| status.success()) {
            // It has ended already, or it is beyond asking.
            let _ = self.server.kill();
        }
        let _ = self.server.wait();
        let log = self.log.take().map(JoinHandle::join);
        if let (true, Some(Ok(log))) = (std::thread::panicking(), log) {
            eprintln!("what PostgreSQL said:\n{log}");
        }
    }
}

/// A pooler in front of a server that hands its sessions from one client to the next after every transaction.
pub struct Pooler(Child);

impl Pooler {
    /// Starts one; it takes these parameters of a client's without handing them on. Its socket is in the server's folder, under
    /// the port that is returned.
    pub fn start(postgres: &Postgres, ignored: &str) -> (Self, u16) {
        const PORT_OF_POOLER: u16 = 6432;
        let folder = postgres.folder().display();
        let settings = format!(
            "[databases]\n* = host={folder} port={PORT} user={USER}\n[pgbouncer]\nlisten_addr =\nlisten_port = {PORT_OF_POOLER}\n\
             unix_socket_dir = {folder}\nauth_type = any\npool_mode = transaction\nignore_startup_parameters = {ignored}\n"
        );
        let path = postgres.folder().join("pooler.ini");
        std::fs::write(&path, settings).expect("the folder takes a file");
        let socket = postgres.folder().join(format!(".s.PGSQL.{PORT_OF_POOLER}"));
        // One that was here before has left its own.
        let _ = std::fs::remove_file(&socket);
        let mut command = as_server_user(Path::new("/usr/sbin"), "pgbouncer");
        let pooler = command.arg("-q").arg(path).stderr(Stdio::null()).spawn().expect("setpriv of util-linux starts");
        let pooler = Pooler(pooler);
        for _ in 0..500 {
            if UnixStream::connect(&socket).is_ok() {
                return (pooler, PORT_OF_POOLER);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("pgbouncer does not start: is the Debian package pgbouncer there? tests/run installs it");
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // It fails only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A session that holds a lock on a table for as long as it lives.
pub struct Lock(Child);

impl Lock {
    /// Takes the lock that no other goes with.
    pub fn take(postgres: &Postgres, database: &str, table: &str) -> Self {
        let mut session = postgres.script(database);
        let mut session = session.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql starts");
        let stdin = session.stdin.as_mut().expect("stdin is piped");
        write!(stdin, "BEGIN;\nLOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;\n\\echo locked\n").expect("psql reads");
        let mut said = String::new();
        BufReader::new(session.stdout.as_mut().expect("stdout is piped")).read_line(&mut said).expect("psql writes");
        assert_eq!(said, "locked\n");
        Lock(session)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The end of its script ends the session.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Reads the server's messages to their end, in a thread; the receiver hears of the one that says that it is ready.
fn follow(messages: impl std::io::Read + Send + 'static) -> (JoinHandle<String>, mpsc::Receiver<()>) {
    let (ready, is_ready) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut log = String::new();
        let mut ready = Some(ready);
        let mut messages = BufReader::new(messages);
        while messages.read_line(&mut log).is_ok_and(|bytes_n| bytes_n > 0) {
            if (log.ends_with("is ready to accept connections\n")
                || log.ends_with("is ready to accept read-only connections\n"))
                && let Some(ready) = ready.take()
            {
                // Nobody listens any more if the test has given up.
                let _ = ready.send(());
            }
        }
        log
    });
    (thread, is_ready)
}

/// Gives a folder to the server's user.
fn hand_over(folder: &tempfile::TempDir) {
    if is_root() {
        output(Command::new("chown").arg("-R").arg(format!("{USER}:")).arg(folder.path()));
    }
}

/// Returns a program of this folder, run as the server's user, that dies with the thread that starts it.
fn as_server_user(programs: &Path, program: &str) -> Command {
    let mut command = plain("setpriv");
    command.args(as_server_user_words()).arg(programs.join(program));
    // A folder that the other user may not enter would be complained about.
    command.current_dir("/");
    command
}

fn as_server_user_words() -> Vec<String> {
    let user = [format!("--reuid={USER}"), format!("--regid={USER}"), "--init-groups".to_owned()];
    let user = user.into_iter().filter(|_| is_root());
    ["--pdeathsig=QUIT".to_owned()].into_iter().chain(user).chain(["--".to_owned()]).collect()
}

/// Returns the server with a small disk of its own in the place of this folder, which it alone sees. Root may mount; anybody else
/// may in a user namespace of their own, and is themselves again in another one.
fn on_small_disk(programs: &Path, megabytes: u32, folder: &Path) -> Command {
    let script =
        "mount -t tmpfs -o size=$1m,mode=0777 tmpfs \"$2\" && cp -a \"$2.here/.\" \"$2\" && shift 2 && exec \"$@\"";
    std::fs::rename(folder, folder.with_extension("here")).expect("the server does not run yet");
    std::fs::create_dir(folder).expect("its place is free");
    let mut command = plain("unshare");
    command.arg("--mount");
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["sh", "-c", script, "sh", &megabytes.to_string()]).arg(folder).current_dir("/");
    if !is_root() {
        let me = std::fs::metadata("/proc/self").expect("proc is mounted");
        command.args(["unshare", "--user", &format!("--map-user={}", me.uid()), &format!("--map-group={}", me.gid())]);
    }
    command.arg("setpriv").args(as_server_user_words()).arg(programs.join("postgres"));
    command
}

/// Returns a command whose words and times are the same on every machine.
fn plain(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").env("TZ", "UTC");
    command
}

/// Runs a command to its end, which must be a good one, and returns what it printed.
pub fn output(command: &mut Command) -> String {
    let ended = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(ended.status.success(), "{command:?}: {}: {}", ended.status, String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).expect("text")
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").expect("proc is mounted").uid() == 0
}
