//! Servers that the tests start for themselves: one each, on a free port, in a temporary folder.
//!
//! `tests/servers` installs them; `tests/run` runs it. The tests of the command line share this file.

#![allow(dead_code)] // each of the two uses a part of it

use super::front;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long one may take to answer first: Python loads many modules.
const START_SECS_MAX: u64 = 60;

/// A server that runs. Dropped, it is stopped; killed, the test takes it along.
pub struct Server {
    child: Child,
    pub port: u16,
    // Last: the server lives in it.
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts a program with arguments in which `PORT` stands for a free port, and waits until it listens there.
    ///
    /// Call it on the test's own thread: the server is killed when the thread that started it ends.
    pub fn start(program: &str, arguments: &[&str]) -> Server {
        let port = free_port();
        let program = installed(program);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command.args(arguments.iter().map(|argument| argument.replace("PORT", &port.to_string())));
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("setpriv of util-linux starts");
        let mut server = Server { child, port, folder };
        let begun = Instant::now();
        while !server.listens() {
            assert!(server.child.try_wait().expect("it is ours").is_none(), "the server on port {port} has ended");
            assert!(begun.elapsed().as_secs() < START_SECS_MAX, "nobody listens on port {port}");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Looks into the kernel's table of sockets, which is that of the server's own network namespace.
    fn listens(&self) -> bool {
        const LISTENING: &str = "0A";
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.child.id())).unwrap_or_default();
        let port = format!(":{:04X}", self.port);
        table.lines().any(|line| {
            let mut columns = line.split_whitespace().skip(1);
            columns.next().is_some_and(|local| local.ends_with(&port)) && columns.nth(1) == Some(LISTENING)
        })
    }

    fn request(&self, method: &str, path: &str) -> Option<String> {
        self.request_with(method, path, "")
    }

    fn request_with(&self, method: &str, path: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Authorization: {NOBODY}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        (!reply.is_empty()).then_some(reply)
    }
}

/// Some requests want credentials, which nobody looks at.
const NOBODY: &str =
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00";

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies a folder's files, and those below, into a new one.
pub fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("it can be made");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let (entry, to) = (entry.expect("an entry"), to.to_owned());
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_files(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("it can be copied");
        }
    }
}

/// Returns a port of the loopback on which nobody listens.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address").port()
}

/// Returns where `tests/servers` has put a program.
pub fn installed(program: &str) -> PathBuf {
    // The tests' own folder is in the target folder, and the servers beside it.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target folder");
    let program = target.join("servers").join(program);
    assert!(program.exists(), "{} is missing: run tests/servers, which puts it there", program.display());
    program
}

/// An S3 server: moto's.
pub struct Moto(Server);

impl Moto {
    /// Starts a server and waits until it answers.
    pub fn start() -> Moto {
        Moto(Server::start("moto/bin/python", &["-m", "moto.server", "-H", "127.0.0.1", "-p", "PORT"]))
    }

    /// Creates a bucket.
    pub fn create_bucket(&self, name: &str) {
        let reply = self.0.request("PUT", &format!("/{name}")).expect("it answers");
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }

    /// Asks for an object to be thawed; here that takes no time.
    pub fn thaw(&self, bucket: &str, key: &str) {
        let days = "<RestoreRequest><Days>1</Days></RestoreRequest>";
        let reply = self.0.request_with("POST", &format!("/{bucket}/{key}?restore"), days).expect("it answers");
        assert!(reply.starts_with("HTTP/1.1 202"), "{reply}");
    }

    /// Returns where it is to be reached.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.port)
    }
}

/// Another S3 server: s3s-fs, which keeps objects as files. In front of it stands who lets creates of one name through one
/// after another.
pub struct S3s {
    server: Server,
    address: SocketAddr,
}

impl S3s {
    /// The key that it is started with, and that key's secret.
    pub const KEY: &str = "test";

    /// Starts a server and waits until it listens.
    pub fn start() -> S3s {
        S3s::start_at("127.0.0.1")
    }

    /// Likewise, to be reached at an address of this machine.
    pub fn start_at(address: &str) -> S3s {
        let arguments =
            ["--host", "127.0.0.1", "--port", "PORT", "--access-key", Self::KEY, "--secret-key", Self::KEY, "."];
        let server = Server::start("s3s/bin/s3s-fs", &arguments);
        let address = front::start(&format!("{address}:0"), server.address(), front::one_creator_at_a_time());
        S3s { server, address }
    }

    /// Creates a bucket, which is a folder of its own.
    pub fn create_bucket(&self, name: &str) {
        std::fs::create_dir(self.server.folder.path().join(name)).expect("it can be made");
    }

    /// Copies a bucket past the server: its objects are files, named as they are.
    pub fn copy_bucket(&self, from: &str, to: &str) {
        let root = self.server.folder.path();
        copy_files(&root.join(from), &root.join(to));
    }

    /// Returns where it is to be reached.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns where the server is that nobody stands in front of.
    pub fn bare_endpoint(&self) -> String {
        format!("http://{}", self.server.address())
    }
}

/// A server that speaks S3 and ignores preconditions: s3rver.
pub struct S3rver(Server);

impl S3rver {
    /// The key that every s3rver has, and that key's secret.
    pub const KEY: &str = "S3RVER";

    /// Starts a server with a bucket and waits until it listens.
    pub fn start(bucket: &str) -> S3rver {
        let arguments = ["--silent", "-d", ".", "-a", "127.0.0.1", "-p", "PORT", "--configure-bucket", bucket];
        S3rver(Server::start("s3rver/node_modules/.bin/s3rver", &arguments))
    }

    /// Returns where it is to be reached.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.port)
    }
}

/// Google's storage: fake-gcs-server. What it does not understand of what the client says, [`super::gcs`] puts in its words.
pub struct FakeGcs(Server);

impl FakeGcs {
    /// The host that requests of the XML API must be for.
    pub const HOST: &str = "localhost";

    /// Starts a server and waits until it listens.
    pub fn start() -> FakeGcs {
        let address = ["-host", "127.0.0.1", "-port", "PORT", "-public-host", Self::HOST];
        let arguments = [&["-scheme", "http", "-backend", "memory"], &address[..]].concat();
        FakeGcs(Server::start("gcs/fake-gcs-server", &arguments))
    }

    /// Creates a bucket.
    pub fn create_bucket(&self, name: &str) {
        let body = format!("{{\"name\": \"{name}\"}}");
        let reply = self.0.request_with("POST", "/storage/v1/b", &body).expect("it answers");
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

/// An Azure Blob Storage: Microsoft's Azurite.
pub struct Azurite(Server);

/// Creates a container: a request signed with the account's key, by the scheme that Microsoft documents as Shared Key.
const CREATE_CONTAINER: &str = r"
import base64, hashlib, hmac, sys, urllib.request
from email.utils import formatdate
endpoint, account, key, container = sys.argv[1:]
headers = {'x-ms-date': formatdate(usegmt=True), 'x-ms-version': '2021-08-06'}
lines = ['PUT'] + [''] * 11 + [f'{name}:{headers[name]}' for name in sorted(headers)]
lines += [f'/{account}/{account}/{container}', 'restype:container']
digest = hmac.new(base64.b64decode(key), '\n'.join(lines).encode(), hashlib.sha256).digest()
headers['Authorization'] = f'SharedKey {account}:{base64.b64encode(digest).decode()}'
request = urllib.request.Request(f'{endpoint}/{container}?restype=container', method='PUT', headers=headers)
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request)
";

impl Azurite {
    /// The account that every Azurite has.
    pub const ACCOUNT: &str = "devstoreaccount1";
    /// Its key: it is in Azurite's documentation.
    pub const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

    /// Starts a server and waits until it answers.
    pub fn start() -> Azurite {
        // Or it would call home.
        let silence = ["--disableTelemetry", "--silent", "--skipApiVersionCheck"];
        let arguments =
            [&silence[..], &["--inMemoryPersistence", "--blobHost", "127.0.0.1", "--blobPort", "PORT"]].concat();
        Azurite(Server::start("azurite/node_modules/.bin/azurite-blob", &arguments))
    }

    /// Creates a container.
    pub fn create_container(&self, name: &str) {
        let arguments = ["-c", CREATE_CONTAINER, &self.endpoint(), Self::ACCOUNT, Self::KEY, name];
        let status = Command::new("python3").args(arguments).status().expect("python3 starts");
        assert!(status.success());
    }

    /// Returns where its account is to be reached.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/{}", self.0.port, Self::ACCOUNT)
    }
}
