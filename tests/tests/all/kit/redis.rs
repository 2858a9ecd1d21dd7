//! A Redis or Valkey server of a test's own: on a free port of the loopback, in a temporary folder, gone with the test.

use super::servers::{free_port, installed};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a server may take to answer first.
const START_SECS_MAX: u64 = 60;

/// A server that runs. Dropped, it is killed, and its data are gone.
pub struct Redis {
    program: PathBuf,
    settings: Vec<String>,
    child: Option<Child>,
    pub port: u16,
    // Last: the server lives in it.
    folder: tempfile::TempDir,
}

impl Redis {
    /// Starts the server of Debian's package, with settings of its configuration file besides.
    ///
    /// Call it on the test's own thread: the server is killed when the thread that started it ends.
    pub fn start(settings: &[&str]) -> Redis {
        let program = PathBuf::from("/usr/bin/redis-server");
        assert!(
            program.exists(),
            "redis-server is missing: install Debian's package redis-server, or let tests/run do it"
        );
        Self::start_program(program, settings)
    }

    /// Starts a Sentinel that watches the server on this port.
    pub fn start_sentinel(watched: u16) -> Redis {
        Self::start_program(
            "/usr/bin/redis-server".into(),
            &["--sentinel", &format!("sentinel monitor main 127.0.0.1 {watched} 1")],
        )
    }

    /// Starts the Valkey that `tests/servers` has installed.
    pub fn start_valkey(settings: &[&str]) -> Redis {
        Self::start_program(installed("valkey/valkey-server"), settings)
    }

    /// Starts any program that takes Redis' settings.
    pub fn start_program(program: PathBuf, settings: &[&str]) -> Redis {
        let folder = tempfile::Builder::new().prefix("dedump-redis-").tempdir().expect("a temporary folder");
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut redis = Redis { program, settings, child: None, port: free_port(), folder };
        redis.run();
        redis
    }

    /// Starts the program again, in the same folder, with other settings besides those it has.
    pub fn start_again(&mut self, settings: &[&str]) {
        self.stop();
        self.settings.extend(settings.iter().map(|setting| (*setting).to_owned()));
        self.run();
    }

    /// Starts the program again with other settings besides, and waits only until it listens.
    pub fn start_slowly(&mut self, settings: &[&str]) {
        self.stop();
        self.settings.extend(settings.iter().map(|setting| (*setting).to_owned()));
        self.spawn();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn run(&mut self) {
        self.spawn();
        let begun = Instant::now();
        while !UnixStream::connect(self.socket()).is_ok_and(|stream| Client::on(stream).is_up()) {
            let ended = self.child.as_mut().expect("it was started").try_wait().expect("it is ours");
            assert!(ended.is_none(), "the server has ended: {}", self.log());
            assert!(begun.elapsed().as_secs() < START_SECS_MAX, "the server does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn spawn(&mut self) {
        let mut text = format!(
            "port {}\nbind 127.0.0.1\nunixsocket {}\ndir {}\nsave \"\"\nrepl-diskless-sync-delay 0\ndaemonize no\n",
            self.port,
            self.socket().display(),
            self.folder().display()
        );
        // What begins with dashes is an argument.
        let (arguments, settings): (Vec<_>, Vec<_>) = self.settings.iter().partition(|one| one.starts_with("--"));
        if arguments.iter().any(|one| *one == "--sentinel") {
            // Which takes only a few of them.
            text = text.replace("save \"\"\nrepl-diskless-sync-delay 0\n", "");
        }
        for setting in settings {
            text.push_str(setting);
            text.push('\n');
        }
        let path = self.folder().join("redis.conf");
        std::fs::write(&path, text).expect("the folder takes a file");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&self.program).arg(path).args(arguments).current_dir(self.folder());
        let log = std::fs::File::create(self.folder().join("log")).expect("the folder takes a file");
        command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("setpriv of util-linux starts"));
    }

    /// Ends the server as the system does, with a signal that it may answer as it likes, and waits for its end.
    pub fn terminate(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let status = Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
        assert!(status.success());
        child.wait().expect("it ends");
    }

    /// Kills the server.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Has the server end without saving, and waits for its end.
    pub fn shut_down(&mut self) {
        // There is no reply but the end of the connection.
        self.client().send(&[b"SHUTDOWN", b"NOSAVE"]);
        self.child.take().expect("it runs").wait().expect("it ends");
    }

    /// Runs a command given in words without spaces, and returns the reply as text; an error is a panic.
    pub fn call(&self, command: &str) -> String {
        self.client().call(command)
    }

    pub fn client(&self) -> Client {
        Client::on(UnixStream::connect(self.socket()).expect("the server is up"))
    }

    /// Returns a client with a database selected.
    pub fn client_of(&self, database: u64) -> Client {
        let mut client = self.client();
        client.call(&format!("SELECT {database}"));
        client
    }

    /// Returns a command of Debian's `redis-cli` for this server.
    pub fn cli(&self) -> Command {
        let mut command = Command::new("/usr/bin/redis-cli");
        command.arg("-s").arg(self.socket());
        command
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn socket(&self) -> PathBuf {
        self.folder().join("socket")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("what the server said:\n{}", self.log());
        }
    }
}

/// A connection of the tests' own.
pub struct Client(BufReader<UnixStream>);

impl Client {
    fn on(stream: UnixStream) -> Client {
        Client(BufReader::new(stream))
    }

    fn is_up(&mut self) -> bool {
        self.send(&[&b"PING"[..]]);
        let reply = self.reply();
        // One that wants a password is up too.
        reply.as_deref() == Ok("PONG") || reply.is_err_and(|error| error.starts_with("NOAUTH"))
    }

    /// Runs a command given in words without spaces.
    pub fn call(&mut self, command: &str) -> String {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.run(&words)
    }

    /// Runs a command; an error is a panic.
    pub fn run(&mut self, command: &[&[u8]]) -> String {
        self.send(command);
        self.reply().unwrap_or_else(|error| panic!("{:?}: {error}", String::from_utf8_lossy(command[0])))
    }

    /// Runs many commands at once; an error is a panic.
    pub fn run_all<'a>(&mut self, commands: impl Iterator<Item = Vec<&'a [u8]>>) {
        let mut sent = 0;
        for command in commands {
            self.send(&command);
            sent += 1;
            if sent == 500 {
                (0..sent).for_each(|_| drop(self.reply().expect("no error")));
                sent = 0;
            }
        }
        (0..sent).for_each(|_| drop(self.reply().expect("no error")));
    }

    fn send(&mut self, command: &[&[u8]]) {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        // What breaks shows in the reply.
        let _ = self.0.get_mut().write_all(&bytes);
    }

    /// Returns a reply as text, a list's entries one a line; or the error.
    fn reply(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.0.read_line(&mut line).map_err(|error| error.to_string())?;
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or("no reply")?;
        match kind {
            "+" | ":" => Ok(rest.to_owned()),
            "-" => Err(rest.to_owned()),
            "$" if rest == "-1" => Ok("(nil)".to_owned()),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().map_err(|error| error.to_string())? + 2];
                self.0.read_exact(&mut bytes).map_err(|error| error.to_string())?;
                bytes.truncate(bytes.len() - 2);
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            "*" => {
                let entries_n = rest.parse::<i64>().map_err(|error| error.to_string())?;
                let entries: Result<Vec<_>, _> = (0..entries_n).map(|_| self.reply()).collect();
                Ok(entries?.join("\n"))
            }
            other => Err(format!("what is {other}?")),
        }
    }
}

/// What a server that is none says to a command.
pub enum Says {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, and then the connection is closed.
    Last(Vec<u8>),
    /// Nothing, ever.
    Nothing,
}

/// A server that says what a test wants, on a free port of the loopback; each connection has a thread of its own.
pub struct Fake {
    pub port: u16,
}

impl Fake {
    /// Starts one. `says` gets a command's words, the first in capitals, with spaces between them.
    pub fn start(says: impl Fn(&str) -> Says + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let says = Arc::new(says);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let says = Arc::clone(&says);
                std::thread::spawn(move || serve(stream, &*says));
            }
        });
        Fake { port }
    }

    /// Starts one that gives this to a replica, and else says what a Redis 7.0 does.
    pub fn with_rdb(after_psync: Vec<u8>) -> Fake {
        Fake::start(move |command| match command.split(' ').next().unwrap_or_default() {
            "PSYNC" => {
                Says::Last([b"+FULLRESYNC 0000000000000000000000000000000000000000 7\r\n", &after_psync[..]].concat())
            }
            _ => usual(command),
        })
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// What a Redis 7.0 says that has no keys.
pub fn usual(command: &str) -> Says {
    let bulk = |text: &str| Says::Bytes(format!("${}\r\n{text}\r\n", text.len()).into_bytes());
    match command.split(' ').next().unwrap_or_default() {
        "INFO" => bulk("redis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\nloading:0\r\n"),
        "CONFIG" | "ACL" => Says::Bytes(b"*0\r\n".to_vec()),
        _ => Says::Bytes(b"+OK\r\n".to_vec()),
    }
}

fn serve(stream: TcpStream, says: &dyn Fn(&str) -> Says) {
    let mut reader = BufReader::new(stream);
    while let Some(command) = read_command(&mut reader) {
        // Who has gone away does not hear it.
        match says(&command) {
            Says::Bytes(bytes) => drop(reader.get_mut().write_all(&bytes)),
            Says::Last(bytes) => {
                drop(reader.get_mut().write_all(&bytes));
                return;
            }
            Says::Nothing => {}
        }
    }
}

fn read_command(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let mut number = |reader: &mut BufReader<TcpStream>, mark: char| {
        line.clear();
        reader.read_line(&mut line).ok()?;
        line.trim_end().strip_prefix(mark)?.parse::<usize>().ok()
    };
    let words_n = number(reader, '*')?;
    let mut words = Vec::new();
    for _ in 0..words_n {
        let mut bytes = vec![0; number(reader, '$')? + 2];
        reader.read_exact(&mut bytes).ok()?;
        bytes.truncate(bytes.len() - 2);
        words.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    words[0] = words[0].to_uppercase();
    Some(words.join(" "))
}
