//! A connection to a server: commands out, replies in.
//!
//! Own code: a library for clients hides the bytes that follow the reply to `PSYNC`, and those are all we want. Replies are
//! RESP2 ("Redis serialization protocol specification"), and may be anybody's: their lengths are bounded.

use super::explain::Failure;
use super::url::{Address, RedisUrl};
use crate::tls;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;

/// A reply's line, at most.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// A string in a reply, at most: Redis' own bound for what it is sent, and what `DUMP` adds to that.
pub(super) const BULK_BYTES_MAX: usize = 1 << 30;
/// Entries of a reply's list, and lists in it, at most.
const ENTRIES_MAX: usize = 1 << 20;
const DEPTH_MAX: usize = 8;
/// For how long a connection may take to come about, whatever else a server is given time for.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// Bytes of a buffer of what was read.
const BUFFER_BYTES: usize = 256 * 1024;

pub(super) type Result<T> = std::result::Result<T, Failure>;

/// How a server is reached.
#[derive(Clone)]
pub struct ClientOptions {
    /// The password, if it is not in the URL; otherwise `REDISCLI_AUTH` in the environment is asked.
    pub password: Option<String>,
    /// Certificates, in PEM form, that the server's must lead to; without it those of the system.
    pub ca_file: Option<PathBuf>,
    /// A certificate of one's own, in PEM form, for servers that ask for it; with `key_file`.
    pub certificate_file: Option<PathBuf>,
    /// The private key of it.
    pub key_file: Option<PathBuf>,
    /// For how long a server may be silent, in seconds.
    pub timeout_secs: u64,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions { password: None, ca_file: None, certificate_file: None, key_file: None, timeout_secs: 60 }
    }
}

impl ClientOptions {
    fn tls_files(&self) -> tls::Files<'_> {
        tls::Files {
            ca: self.ca_file.as_deref(),
            certificate: self.certificate_file.as_deref(),
            key: self.key_file.as_deref(),
        }
    }
}

impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the password.
        f.debug_struct("ClientOptions").field("timeout_secs", &self.timeout_secs).finish_non_exhaustive()
    }
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Status(String),
    Error(String),
    Number(i64),
    Bytes(Vec<u8>),
    Nothing,
    List(Vec<Reply>),
}

impl Reply {
    /// Returns the reply's text; empty for what has none.
    pub fn text(&self) -> String {
        match self {
            Reply::Status(text) | Reply::Error(text) => text.clone(),
            Reply::Number(number) => number.to_string(),
            Reply::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Reply::Nothing | Reply::List(_) => String::new(),
        }
    }

    /// Returns the bytes of a string.
    pub fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Reply::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Returns the entries of a list; none for what is no list.
    pub fn list(self) -> Vec<Reply> {
        match self {
            Reply::List(entries) => entries,
            _ => Vec::new(),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection. After an error of the connection itself it is of no more use.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    patience: Duration,
    buffer: Vec<u8>,
    at: usize,
}

impl Connection {
    /// Connects and says who we are.
    pub async fn open(url: &RedisUrl, options: &ClientOptions) -> Result<Connection> {
        let patience = Duration::from_secs(options.timeout_secs.max(1));
        let soon = patience.min(CONNECT_MAX);
        let stream = match timeout(soon, connect(url, options)).await {
            Ok(stream) => stream?,
            Err(_) => {
                let hint =
                    if url.is_tls() { "; is it a port for TLS?" } else { "; is it up, and does a firewall let us?" };
                return Err(broken(format!("it does not answer within {} seconds{hint}", soon.as_secs())));
            }
        };
        let mut connection = Connection { stream, patience, buffer: Vec::new(), at: 0 };
        let from_environment = || std::env::var("REDISCLI_AUTH").ok().filter(|password| !password.is_empty());
        let password = url.password().map(str::to_owned).or_else(|| options.password.clone()).or_else(from_environment);
        match (url.user(), password) {
            (Some(user), Some(password)) => {
                connection.ask(&[b"AUTH", user.as_bytes(), password.as_bytes()]).await?;
            }
            (None, Some(password)) => {
                connection.ask(&[b"AUTH", password.as_bytes()]).await?;
            }
            (Some(user), None) => {
                return Err(broken(format!(
                    "a password for the user {user} is missing; put it into the URL or into REDISCLI_AUTH"
                )));
            }
            (None, None) => {}
        }
        Ok(connection)
    }

    /// Sends a command and returns the reply; an error is none.
    pub async fn ask(&mut self, command: &[&[u8]]) -> Result<Reply> {
        match self.try_ask(command).await? {
            Reply::Error(line) => Err(Failure::refused(&line)),
            reply => Ok(reply),
        }
    }

    /// Sends a command and returns the reply, whatever it is.
    pub async fn try_ask(&mut self, command: &[&[u8]]) -> Result<Reply> {
        self.send(&encode(command)).await?;
        self.reply().await
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout(self.patience, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(broke(&error)),
            Err(_) => Err(self.silent()),
        }
    }

    /// Reads a reply.
    pub async fn reply(&mut self) -> Result<Reply> {
        let line = self.line().await?;
        let mut lists = Vec::<(usize, Vec<Reply>)>::new();
        let mut line = Some(line);
        loop {
            let text = match line.take() {
                Some(line) => line,
                None => self.line().await?,
            };
            let mut reply = match self.one(&text).await? {
                Ok(reply) => reply,
                Err(0) => Reply::List(Vec::new()),
                Err(entries_n) if lists.len() < DEPTH_MAX => {
                    lists.push((entries_n, Vec::new()));
                    continue;
                }
                Err(_) => return Err(strange("lists in lists in lists")),
            };
            loop {
                let Some((entries_n, entries)) = lists.last_mut() else { return Ok(reply) };
                entries.push(reply);
                if entries.len() < *entries_n {
                    break;
                }
                reply = Reply::List(lists.pop().expect("it was looked at").1);
            }
        }
    }

    /// Reads what a line announces; of a list, only how many entries it has.
    async fn one(&mut self, line: &str) -> Result<std::result::Result<Reply, usize>> {
        let (kind, rest) = line.split_at_checked(1).unwrap_or(("", ""));
        let number = || rest.parse::<i64>().map_err(|_| strange(line));
        Ok(Ok(match kind {
            "+" => Reply::Status(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Number(number()?),
            "$" | "*" if number()? == -1 => Reply::Nothing,
            "$" => {
                let length = usize::try_from(number()?).ok().filter(|length| *length <= BULK_BYTES_MAX);
                let bytes = self.bytes(length.ok_or_else(|| strange(line))?).await?;
                if self.bytes(2).await? != b"\r\n" {
                    return Err(strange("a string without its end"));
                }
                Reply::Bytes(bytes)
            }
            "*" => {
                let entries_n = usize::try_from(number()?).ok().filter(|entries_n| *entries_n <= ENTRIES_MAX);
                return Ok(Err(entries_n.ok_or_else(|| strange(line))?));
            }
            _ => return Err(strange(line)),
        }))
    }

    /// Reads a line, without its end.
    pub async fn line(&mut self) -> Result<String> {
        let mut scanned = 0;
        loop {
            let unread = &self.buffer[self.at..];
            if let Some(end) = unread[scanned..].iter().position(|byte| *byte == b'\n') {
                let line = &unread[..scanned + end];
                let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
                self.at += scanned + end + 1;
                return Ok(line);
            }
            scanned = unread.len();
            if scanned > LINE_BYTES_MAX {
                return Err(strange("a line without an end"));
            }
            self.fill().await?;
        }
    }

    async fn bytes(&mut self, length: usize) -> Result<Vec<u8>> {
        // Room as it is needed: the length is only what the other side says.
        let mut bytes = Vec::with_capacity(length.min(BUFFER_BYTES));
        while bytes.len() < length {
            let wanted = length - bytes.len();
            bytes.extend_from_slice(self.piece(wanted).await?);
        }
        Ok(bytes)
    }

    /// Reads between 1 and `bytes_max` bytes.
    pub async fn piece(&mut self, bytes_max: usize) -> Result<&[u8]> {
        if self.at == self.buffer.len() {
            self.fill().await?;
        }
        let start = self.at;
        self.at += bytes_max.min(self.buffer.len() - start);
        Ok(&self.buffer[start..self.at])
    }

    /// Reads on.
    async fn fill(&mut self) -> Result<()> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let there = self.buffer.len();
        self.buffer.resize(there + BUFFER_BYTES, 0);
        let read = timeout(self.patience, self.stream.read(&mut self.buffer[there..])).await;
        let read_n = match &read {
            Ok(Ok(read_n)) => *read_n,
            _ => 0,
        };
        self.buffer.truncate(there + read_n);
        match read {
            Ok(Ok(0)) => Err(broken("the server ended the connection".to_owned())),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(broke(&error)),
            Err(_) => Err(self.silent()),
        }
    }

    fn silent(&self) -> Failure {
        broken(format!(
            "the server was silent for {} seconds; look at its load, or allow more",
            self.patience.as_secs()
        ))
    }
}

/// Returns a command's bytes.
pub(super) fn encode(command: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

async fn connect(url: &RedisUrl, options: &ClientOptions) -> Result<Box<dyn Stream>> {
    let cannot =
        |error: std::io::Error| broken(format!("it can't be reached: {error}; is it up, and is this its port?"));
    match url.address() {
        Address::Socket(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(cannot)?)),
        Address::Host(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(cannot)?;
            stream.set_nodelay(true).map_err(cannot)?;
            if !url.is_tls() {
                return Ok(Box::new(stream));
            }
            let name = ServerName::try_from(host.clone()).map_err(|_| broken("it is no name for TLS".to_owned()))?;
            let connected = tls::connector(options.tls_files())?.connect(name, stream).await;
            Ok(Box::new(connected.map_err(|error| broken(format!("TLS failed: {error}; is it a port for TLS?")))?))
        }
    }
}

fn broke(error: &std::io::Error) -> Failure {
    let text = error.to_string();
    let hint = match text.contains("CertificateRequired") {
        true => "; the server wants a certificate of ours, so give its file and that of its key",
        false => "",
    };
    broken(format!("the connection broke: {text}{hint}"))
}

fn broken(why: String) -> Failure {
    Failure::Broken(why)
}

fn strange(what: &str) -> Failure {
    let what: String = what.chars().filter(|c| !c.is_control()).take(60).collect();
    Failure::Broken(format!("it answers what no Redis does: {what:?}; is it one, and without TLS?"))
}
