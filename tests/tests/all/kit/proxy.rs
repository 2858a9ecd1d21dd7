//! A path to a server on which things go wrong: a proxy on a free port of the loopback that knows enough of HTTP to break it.
//!
//! A rule says of each request what happens to it, from its number, method, target and headers, so that a test says "every
//! tenth" and means it. What was asked and answered is kept. It passes on one request after the other of a connection, each
//! over a connection of its own to the server.

#![allow(dead_code)] // the tests of the command line share this file, and each uses a part of it

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It is passed on, and so is the reply.
    Pass,
    /// Likewise, but later.
    Late(Duration),
    /// The connection is closed; the server never hears of it.
    Drop,
    /// The server does it, and the connection is closed instead of a reply.
    LoseReply,
    /// The reply ends in the middle of its body; one without a body is lost.
    CutReply,
    /// This is the reply; the server never hears of it.
    Reply(Canned),
    /// One bit in the middle of the request's body is turned on its way to the server.
    FlipBit,
    /// Nobody answers, ever.
    Hang,
}

/// A reply of the proxy's own.
#[derive(Debug, Clone)]
pub struct Canned {
    pub status: &'static str,
    pub header: Option<(&'static str, String)>,
    pub body: String,
}

impl Canned {
    /// Returns a refusal as S3 words it.
    pub fn s3(status: &'static str, code: &str, message: &str) -> Fate {
        let declaration = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
        let body = format!("{declaration}\n<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        Fate::Reply(Canned { status, header: None, body })
    }

    /// S3's request for fewer requests.
    pub fn slow_down() -> Fate {
        Canned::s3("503 Service Unavailable", "SlowDown", "Please reduce your request rate.")
    }

    /// The standard's request for fewer requests.
    pub fn too_many(retry_after_secs: u64) -> Fate {
        let header = Some(("Retry-After", retry_after_secs.to_string()));
        Fate::Reply(Canned { status: "429 Too Many Requests", header, body: String::new() })
    }

    /// A token whose time is over.
    pub fn expired() -> Fate {
        Canned::s3("400 Bad Request", "ExpiredToken", "The provided token has expired.")
    }

    /// What credentials may not do.
    pub fn denied() -> Fate {
        Canned::s3("403 Forbidden", "AccessDenied", "Access Denied")
    }

    /// A clock that is off by more than a quarter of an hour.
    pub fn skewed() -> Fate {
        let message = "The difference between the request time and the current time is too large.";
        Canned::s3("403 Forbidden", "RequestTimeTooSkewed", message)
    }
}

/// A request, as a rule sees it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its number since the rule was set, from 1.
    pub number: usize,
    pub method: String,
    /// Path and query.
    pub target: String,
    /// By names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Asked {
    /// Returns whether it deletes something, alone or with others.
    pub fn deletes(&self) -> bool {
        self.method == "DELETE" || (self.method == "POST" && self.target.contains("?delete"))
    }
}

/// A request that was answered, or not.
#[derive(Debug, Clone)]
pub struct Seen {
    pub asked: Asked,
    /// Bytes of its body; none where that was never read.
    pub body_bytes: usize,
    /// Of the reply; 0 where there was none.
    pub status: u16,
    pub at: Instant,
}

type Rule = Box<dyn FnMut(&Asked) -> Fate + Send>;

struct Shared {
    rule: Mutex<(usize, Rule)>,
    seen: Mutex<Vec<Seen>>,
    server_port: u16,
}

/// A proxy that runs until the process ends.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts a proxy in front of a server on the loopback; it passes everything on until a rule is set.
    pub fn before(endpoint: &str) -> Proxy {
        let host = endpoint.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let server_port = host.rsplit(':').next().and_then(|port| port.parse().ok()).expect("http://HOST:PORT");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let rule: Rule = Box::new(|_| Fate::Pass);
        let shared = Arc::new(Shared { rule: Mutex::new((0, rule)), seen: Mutex::default(), server_port });
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&of_thread);
                // A connection that breaks is what this is for.
                std::thread::spawn(move || drop(serve(&client, &shared)));
            }
        });
        Proxy { port, shared }
    }

    /// Sets what happens to requests from now on, and forgets those that were seen.
    pub fn rule(&self, rule: impl FnMut(&Asked) -> Fate + Send + 'static) {
        *lock(&self.shared.rule) = (0, Box::new(rule));
        lock(&self.shared.seen).clear();
    }

    /// Does this to every n-th request, and passes on the others.
    pub fn every(&self, n: usize, fate: Fate) {
        self.rule(move |asked| if asked.number.is_multiple_of(n) { fate.clone() } else { Fate::Pass });
    }

    /// Passes everything on again, and forgets what was seen.
    pub fn clear(&self) {
        self.rule(|_| Fate::Pass);
    }

    /// Returns what was asked since the rule was set, in the order of the replies.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// Returns the bytes of objects that the server took since the rule was set, by the objects' names, below a prefix.
    pub fn puts(&self, prefix: &str) -> Vec<(String, usize)> {
        let taken =
            |seen: &Seen| seen.asked.method == "PUT" && seen.status == 200 && seen.asked.target.contains(prefix);
        self.seen().into_iter().filter(taken).map(|seen| (seen.asked.target, seen.body_bytes)).collect()
    }

    /// Returns where it is to be reached.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A head and what follows it.
struct Message {
    first_line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<Message>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            match line.trim_end() {
                "" if lines.is_empty() => {}
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let first_line = lines.remove(0);
        let split =
            |line: &String| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        Ok(Some(Message { first_line, headers: lines.iter().filter_map(split).collect(), body: Vec::new() }))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(there, _)| there.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Reads the body: of the length that the head says, or in chunks; else, of a reply, until the end.
    fn read_body(&mut self, reader: &mut impl BufRead, is_reply: bool) -> std::io::Result<()> {
        if self.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return self.read_chunks(reader);
        }
        match self.header("content-length").and_then(|length| length.parse().ok()) {
            Some(length) => {
                self.body.resize(length, 0);
                reader.read_exact(&mut self.body)
            }
            None if is_reply => reader.read_to_end(&mut self.body).map(drop),
            None => Ok(()),
        }
    }

    fn read_chunks(&mut self, reader: &mut impl BufRead) -> std::io::Result<()> {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
            let begin = self.body.len();
            self.body.resize(begin + length, 0);
            reader.read_exact(&mut self.body[begin..])?;
            reader.read_line(&mut line)?;
            if length == 0 {
                return Ok(());
            }
        }
    }

    /// Writes the head, with the body's length unless there is none on purpose, and so many bytes of the body.
    fn write(&self, to: &mut impl Write, connection: &str, bytes_n: usize, is_head: bool) -> std::io::Result<()> {
        let mut text = format!("{}\r\n", self.first_line);
        for (name, value) in &self.headers {
            let of_length = name.eq_ignore_ascii_case("content-length") && !is_head;
            if !of_length && !["connection", "transfer-encoding"].contains(&name.to_ascii_lowercase().as_str()) {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        if !is_head {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        text.push_str(&format!("Connection: {connection}\r\n\r\n"));
        to.write_all(text.as_bytes())?;
        to.write_all(&self.body[..bytes_n])?;
        to.flush()
    }
}

/// Serves a connection until it ends, or is to break.
fn serve(client: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client);
    while let Some(mut request) = Message::read_head(&mut reader)? {
        if request.header("expect").is_some() {
            (&mut &*client).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let (asked, fate) = judge(&request, shared);
        let at = Instant::now();
        if matches!(fate, Fate::Drop) {
            note(shared, asked, 0, 0, at);
            return Ok(());
        }
        request.read_body(&mut reader, false)?;
        let body_bytes = request.body.len();
        let reply = match &fate {
            Fate::Hang => {
                note(shared, asked, body_bytes, 0, at);
                // Until the client gives up.
                return reader.read_to_end(&mut Vec::new()).map(drop);
            }
            Fate::Reply(canned) => canned_reply(canned),
            Fate::FlipBit => {
                if let Some(byte) = request.body.get_mut(body_bytes / 2) {
                    *byte ^= 0x10;
                }
                pass_on(&request, shared.server_port)?
            }
            Fate::Late(latency) => {
                std::thread::sleep(*latency);
                pass_on(&request, shared.server_port)?
            }
            _ => pass_on(&request, shared.server_port)?,
        };
        let status = reply.first_line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let is_head = asked.method == "HEAD";
        let is_cut = matches!(fate, Fate::CutReply) && !reply.body.is_empty();
        let is_lost = matches!(fate, Fate::LoseReply) || (matches!(fate, Fate::CutReply) && !is_cut);
        note(shared, asked, body_bytes, if is_lost { 0 } else { status }, at);
        if is_lost {
            return Ok(());
        }
        let bytes_n = if is_cut { reply.body.len() / 2 } else { reply.body.len() };
        reply.write(&mut &*client, "keep-alive", bytes_n, is_head)?;
        if is_cut {
            return Ok(());
        }
    }
    Ok(())
}

fn judge(request: &Message, shared: &Shared) -> (Asked, Fate) {
    let mut words = request.first_line.split(' ').map(str::to_owned);
    let headers = request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut rule = lock(&shared.rule);
    rule.0 += 1;
    let asked = Asked { number: rule.0, method, target, headers };
    let fate = (rule.1)(&asked);
    (asked, fate)
}

fn note(shared: &Shared, asked: Asked, body_bytes: usize, status: u16, at: Instant) {
    lock(&shared.seen).push(Seen { asked, body_bytes, status, at });
}

fn canned_reply(canned: &Canned) -> Message {
    let mut headers = vec![("Content-Type".to_owned(), "application/xml".to_owned())];
    headers.extend(canned.header.clone().map(|(name, value)| (name.to_owned(), value)));
    Message { first_line: format!("HTTP/1.1 {}", canned.status), headers, body: canned.body.clone().into_bytes() }
}

/// Asks the server, and returns its reply.
fn pass_on(request: &Message, port: u16) -> std::io::Result<Message> {
    let server = TcpStream::connect(("127.0.0.1", port))?;
    server.set_nodelay(true)?;
    request.write(&mut &server, "close", request.body.len(), false)?;
    let mut reader = BufReader::new(&server);
    let mut reply = Message::read_head(&mut reader)?.ok_or_else(|| std::io::Error::other("no reply"))?;
    let has_body = !request.first_line.starts_with("HEAD ") && !reply.first_line.contains(" 204");
    if has_body {
        reply.read_body(&mut reader, true)?;
    }
    Ok(reply)
}
