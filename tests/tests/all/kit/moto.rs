//! An S3 server of a test's own: moto's, in memory, on a free port of the loopback, gone with the test.
//!
//! `tests/run` puts it into a virtual environment of Python's beside the other build results.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to answer first: Python loads many modules.
const START_SECS_MAX: u64 = 60;

/// A server that runs. Dropped, it is stopped; killed, the test takes it along.
pub struct Moto {
    server: Child,
    port: u16,
}

impl Moto {
    /// Starts a server and waits until it answers.
    pub fn start() -> Moto {
        let program = program();
        assert!(
            program.exists(),
            "{} is missing: run tests/servers, which puts the servers of the tests there",
            program.display()
        );
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address").port();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let server =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let moto = Moto { server, port };
        let begun = Instant::now();
        while moto.request("GET", "/").is_none() {
            assert!(begun.elapsed().as_secs() < START_SECS_MAX, "moto does not answer on port {port}");
            std::thread::sleep(Duration::from_millis(50));
        }
        moto
    }

    /// Creates a bucket.
    pub fn create_bucket(&self, name: &str) {
        let reply = self.request("PUT", &format!("/{name}")).expect("it answers");
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }

    /// Returns where it is to be reached.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn request(&self, method: &str, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let lines =
            format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(lines.as_bytes()).ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        (!reply.is_empty()).then_some(reply)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The tests' own folder is in the target folder, and the servers beside it.
fn program() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target folder");
    target.join("servers/moto/bin/moto_server")
}
