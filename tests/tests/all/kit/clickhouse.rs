//! A ClickHouse server of a test's own, on a free port of the loopback, in a temporary folder, gone with the test.
//!
//! Two of them: the engine of today behind a front of HTTP (`clickhouse_front.py`), since no package carries a server of it, and the
//! old server of Debian's package, whose HTTP is its own.

#![allow(dead_code)] // the tests of the command line use a part of it

use super::servers::{free_port, installed};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to answer first.
const START_SECS_MAX: u64 = 60;
/// The users that every server here has, each with a password.
pub const USER: &str = "keeper";
pub const PASSWORD: &str = "s3cret/?";

/// A server that runs. Dropped, it is killed, and its data are gone.
pub struct ClickHouse {
    child: Option<Child>,
    pub port: u16,
    kind: Kind,
    // Last: the server lives in it.
    folder: tempfile::TempDir,
}

#[derive(Clone)]
enum Kind {
    /// The engine behind the front, with its setup in JSON but for the braces.
    Engine(String),
    Debian,
}

impl ClickHouse {
    /// Starts the engine of today.
    ///
    /// Call it on the test's own thread: the server is killed when the thread that started it ends.
    pub fn start() -> ClickHouse {
        Self::start_with("")
    }

    /// Likewise, with more of what the front takes, such as `"pause": 0.1`.
    pub fn start_with(setup: &str) -> ClickHouse {
        Self::start_kind(Kind::Engine(setup.to_owned()))
    }

    /// Starts the server of Debian's package.
    pub fn start_debian() -> ClickHouse {
        let program = Path::new("/usr/sbin/clickhouse-server");
        assert!(program.exists(), "clickhouse-server is missing: install Debian's package, or let tests/run do it");
        Self::start_kind(Kind::Debian)
    }

    fn start_kind(kind: Kind) -> ClickHouse {
        let folder = tempfile::Builder::new().prefix("dedump-clickhouse-").tempdir().expect("a temporary folder");
        let mut server = ClickHouse { child: None, port: free_port(), kind, folder };
        server.run();
        server
    }

    /// Kills the server, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts the engine again in its folder, with this setup.
    pub fn start_again(&mut self, setup: &str) {
        self.kill();
        self.kind = Kind::Engine(setup.to_owned());
        self.run();
    }

    fn run(&mut self) {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        match &self.kind {
            Kind::Engine(more) => {
                let program = installed("clickhouse/bin/python");
                let front = self.folder().join("front.py");
                std::fs::write(&front, include_str!("clickhouse_front.py")).expect("the folder takes a file");
                let comma = if more.is_empty() { "" } else { ", " };
                let setup = format!("{{\"users\": {{\"default\": \"\", \"{USER}\": \"{PASSWORD}\"}}{comma}{more}}}");
                command.arg(program).arg(front).arg(self.port.to_string()).arg(self.folder()).arg(setup);
            }
            Kind::Debian => {
                self.write_configuration();
                let configuration = self.folder().join("config.xml");
                command.arg("/usr/sbin/clickhouse-server").arg(format!("--config-file={}", configuration.display()));
            }
        }
        let log = std::fs::File::create(self.folder().join("output")).expect("the folder takes a file");
        command.current_dir(self.folder()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("setpriv of util-linux starts"));
        let begun = Instant::now();
        while !self.answers() {
            let ended = self.child.as_mut().expect("it was started").try_wait().expect("it is ours");
            assert!(ended.is_none(), "the server has ended: {}", self.output());
            assert!(begun.elapsed().as_secs() < START_SECS_MAX, "the server does not answer: {}", self.output());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn write_configuration(&self) {
        let folder = self.folder().display();
        let (port, other) = (self.port, free_port());
        let configuration = format!(
            "<yandex><logger><level>warning</level><log>{folder}/log</log><errorlog>{folder}/errors</errorlog></logger>\
             <http_port>{port}</http_port><interserver_http_port>{other}</interserver_http_port>\
             <listen_host>127.0.0.1</listen_host><path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path>\
             <user_files_path>{folder}/files/</user_files_path><format_schema_path>{folder}/formats/</format_schema_path>\
             <users_config>users.xml</users_config><default_profile>default</default_profile>\
             <default_database>default</default_database><mark_cache_size>50000000</mark_cache_size><timezone>UTC</timezone></yandex>"
        );
        let user = |name: &str, password: &str, more: &str| {
            format!(
                "<{name}><password>{password}</password><networks><ip>::/0</ip></networks><profile>default</profile>\
                 <quota>default</quota>{more}</{name}>"
            )
        };
        let users = format!(
            "<yandex><profiles><default/></profiles><quotas><default/></quotas><users>{}{}{}</users></yandex>",
            user("default", "", ""),
            user(USER, PASSWORD, ""),
            user("stranger", "", "<allow_databases><database>nothing</database></allow_databases>")
        );
        for (name, text) in [("config.xml", configuration), ("users.xml", users)] {
            std::fs::write(self.folder().join(name), text).expect("the folder takes a file");
        }
    }

    fn answers(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
            && (self.is_tls() || post(self.port, "/", "SELECT 1").is_some_and(|(status, _)| status == 200))
    }

    fn is_tls(&self) -> bool {
        matches!(&self.kind, Kind::Engine(setup) if setup.contains("\"tls\""))
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.folder().join("output")).unwrap_or_default()
    }

    /// Returns what was asked for in URLs, if the engine is behind the front.
    pub fn requests(&self) -> String {
        std::fs::read_to_string(self.folder().join("requests")).unwrap_or_default()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns its URL, of all databases.
    pub fn url(&self) -> String {
        format!("clickhouse://127.0.0.1:{}", self.port)
    }

    /// Returns the URL of a database.
    pub fn database(&self, name: &str) -> String {
        format!("{}/{name}", self.url())
    }

    /// Runs a query that has to succeed, and returns its answer without the end of the last line.
    pub fn ask(&self, query: &str) -> String {
        match self.try_ask(query) {
            Ok(answer) => answer,
            Err(error) => panic!("{query}: {error}"),
        }
    }

    /// Runs a query.
    pub fn try_ask(&self, query: &str) -> Result<String, String> {
        let (status, body) = post(self.port, "/?wait_end_of_query=1", query).ok_or("no answer")?;
        let text = String::from_utf8_lossy(&body).trim_end_matches('\n').to_owned();
        if status == 200 { Ok(text) } else { Err(text) }
    }

    /// Returns the bytes of an answer that the server begins to give before it knows how the query ends.
    pub fn begun(&self, query: &str) -> Vec<u8> {
        let (status, body) = post(self.port, "/", query).expect("an answer");
        assert_eq!(status, 200, "the server did not begin");
        body
    }

    /// Runs one query after another.
    pub fn run_all(&self, queries: &[&str]) {
        for query in queries {
            self.ask(query);
        }
    }
}

impl Drop for ClickHouse {
    fn drop(&mut self) {
        self.kill();
    }
}

fn post(port: u16, path: &str, body: &str) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let length = body.len();
    let head = format!("POST {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).ok()?;
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&reply[..end]).to_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = reply[end..].to_vec();
    Some((status, if head.contains("transfer-encoding: chunked") { unchunked(&body)? } else { body }))
}

fn unchunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        // What was broken off has no last chunk.
        let Some(line) = body.windows(2).position(|window| window == b"\r\n") else { return Some(whole) };
        let length = usize::from_str_radix(std::str::from_utf8(&body[..line]).ok()?, 16).ok()?;
        body = &body[line + 2..];
        if length == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(body.get(..length)?);
        body = body.get(length + 2..)?;
    }
}
