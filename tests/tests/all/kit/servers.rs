//! Servers of object stores, of a test's own: on free ports of the loopback, in memory, gone with the test.
//!
//! `tests/servers` puts them beside the other build results, and `tests/run` calls it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long one may take to answer first: Python loads many modules.
const START_SECS_MAX: u64 = 60;

/// A server that runs. Dropped, it is stopped; killed, the test takes it along.
struct Server {
    child: Child,
    port: u16,
    // Last: the server lives in it.
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts a program with arguments that hold a port, and waits until it answers there.
    ///
    /// Call it on the test's own thread: the server is killed when the thread that started it ends.
    fn start(program: &str, arguments: impl Fn(&str) -> Vec<&str>) -> Server {
        // The tests' own folder is in the target folder, and the servers beside it.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target folder");
        let program = target.join("servers").join(program);
        assert!(program.exists(), "{} is missing: run tests/servers, which puts it there", program.display());
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address").port();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).args(arguments(&port.to_string()));
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("setpriv of util-linux starts");
        let server = Server { child, port, _folder: folder };
        let begun = Instant::now();
        while server.request("GET", "/").is_none() {
            assert!(begun.elapsed().as_secs() < START_SECS_MAX, "nobody answers on port {port}");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn request(&self, method: &str, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        (!reply.is_empty()).then_some(reply)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An S3 server: moto's.
pub struct Moto(Server);

impl Moto {
    /// Starts a server and waits until it answers.
    pub fn start() -> Moto {
        Moto(Server::start("moto/bin/python", |port| vec!["-m", "moto.server", "-H", "127.0.0.1", "-p", port]))
    }

    /// Creates a bucket.
    pub fn create_bucket(&self, name: &str) {
        let reply = self.0.request("PUT", &format!("/{name}")).expect("it answers");
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }

    /// Returns where it is to be reached.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.port)
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
        let arguments = ["--silent", "--skipApiVersionCheck", "--inMemoryPersistence", "--blobHost", "127.0.0.1"];
        Azurite(Server::start("azurite/node_modules/.bin/azurite-blob", |port| {
            // Or it would call home.
            ["--disableTelemetry"].into_iter().chain(arguments).chain(["--blobPort", port]).collect()
        }))
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
