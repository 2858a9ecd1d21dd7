//! What stands in front of a server: takes each request whole, may change it or wait, and asks the server behind.

#![allow(dead_code)] // each of those who share this file uses a part of it

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What is done with each request: it is given to the server behind by [`Request::ask`], or something like it is.
pub type Handle = dyn Fn(Request, SocketAddr) -> Result<Reply> + Send + Sync;

/// Listens at an address, port 0 for any, for as long as the process lives; returns where that is.
pub fn start(address: &str, behind: SocketAddr, handle: Arc<Handle>) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        // One that has gone again before it was served is nobody's loss.
        for client in listener.incoming().flatten() {
            let handle = Arc::clone(&handle);
            // Whoever hangs up in the middle sees for himself that there is no more.
            std::thread::spawn(move || serve(&client, behind, &*handle).ok());
        }
    });
    address
}

/// Lets creates of one name through one after another, and all else as it comes.
///
/// s3s-fs 0.14 looks for the object, takes the body, and then puts it in its place, so that of several at once all succeed.
/// Whether the precondition holds is left to it.
pub fn one_creator_at_a_time() -> Arc<Handle> {
    let names: Mutex<HashMap<String, Arc<Mutex<()>>>> = Mutex::default();
    Arc::new(move |request: Request, behind| {
        if request.header("if-none-match").is_none() {
            return request.ask(behind);
        }
        let name = Arc::clone(unpoisoned(&names).entry(request.target.clone()).or_default());
        let turn = unpoisoned(&name);
        let reply = request.ask(behind);
        drop(turn);
        reply
    })
}

/// What passed, by kind of request and in bytes of bodies.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub puts_n: u64,
    /// Of objects, whole or in part.
    pub gets_n: u64,
    pub heads_n: u64,
    pub lists_n: u64,
    /// Deletions; and what asks for many at once, as one.
    pub deletes_n: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

/// Lets creates of one name through one after another, holds each request back on its way there and each reply on its way
/// back, and counts them. Who asks for the path `/counts` gets what was counted since it was asked for last, as JSON.
pub fn far_away(one_way: Duration) -> Arc<Handle> {
    let (counts, handle) = (Mutex::<Counts>::default(), one_creator_at_a_time());
    Arc::new(move |request: Request, behind| {
        if request.target == "/counts" {
            let counted = std::mem::take(&mut *unpoisoned(&counts));
            return Ok(Reply { status: "200 OK".to_owned(), headers: Vec::new(), body: counted.json().into_bytes() });
        }
        counted(&mut unpoisoned(&counts), &request);
        std::thread::sleep(one_way);
        let reply = handle(request, behind)?;
        unpoisoned(&counts).received_bytes += reply.body.len() as u64;
        std::thread::sleep(one_way);
        Ok(reply)
    })
}

fn counted(counts: &mut Counts, request: &Request) {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let is_bucket = path.trim_matches('/').split('/').count() < 2;
    *match &*request.method {
        "PUT" => &mut counts.puts_n,
        "GET" if is_bucket || query.contains("list-type") => &mut counts.lists_n,
        "GET" => &mut counts.gets_n,
        "HEAD" => &mut counts.heads_n,
        "DELETE" | "POST" => &mut counts.deletes_n,
        _ => return,
    } += 1;
    counts.sent_bytes += request.body.len() as u64;
}

impl Counts {
    fn json(&self) -> String {
        let Counts { puts_n, gets_n, heads_n, lists_n, deletes_n, sent_bytes, received_bytes } = self;
        format!(
            "{{\"put\": {puts_n}, \"get\": {gets_n}, \"head\": {heads_n}, \"list\": {lists_n}, \"delete\": {deletes_n}, \
             \"sent_bytes\": {sent_bytes}, \"received_bytes\": {received_bytes}}}"
        )
    }
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(client: &TcpStream, behind: SocketAddr, handle: &Handle) -> Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client);
    while let Some(request) = Request::read(&mut reader, client)? {
        let is_head = request.method == "HEAD";
        handle(request, behind)?.write(client, is_head)?;
    }
    Ok(())
}

type Headers = Vec<(String, String)>;

/// A request, with the bytes of its body.
pub struct Request {
    pub method: String,
    /// The path and the query, encoded.
    pub target: String,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Request {
    /// Returns a request without headers.
    pub fn new(method: &str, target: String, body: Vec<u8>) -> Request {
        Request { method: method.to_owned(), target, headers: Headers::new(), body }
    }

    /// Returns a header's value, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// Returns a parameter of the query, as it is encoded there.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(found, _)| *found == name).map(|(_, value)| value).next()
    }

    /// Asks the server, over a connection of its own.
    pub fn ask(&self, server: SocketAddr) -> Result<Reply> {
        let mut head = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            if !is_any_of(name, &["connection", "content-length", "expect"]) {
                _ = write!(head, "{name}: {value}\r\n");
            }
        }
        _ = write!(head, "Content-Length: {}\r\n\r\n", self.body.len());
        let mut server = TcpStream::connect(server)?;
        server.set_nodelay(true)?;
        server.write_all(head.as_bytes())?;
        server.write_all(&self.body)?;
        Reply::read(server, self.method == "HEAD")
    }

    /// `None`: the client has no more to ask.
    fn read(reader: &mut impl BufRead, mut client: &TcpStream) -> Result<Option<Request>> {
        let Some((line, headers)) = read_head(reader)? else { return Ok(None) };
        let mut words = line.split_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err(malformed()) };
        let mut request = Request { headers, ..Request::new(method, target.to_owned(), Vec::new()) };
        assert!(request.header("transfer-encoding").is_none(), "clients of stores tell the length of every body");
        if request.header("expect").is_some() {
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let length =
            request.header("content-length").map_or(Ok(0), |length| length.parse().map_err(|_| malformed()))?;
        request.body = vec![0; length];
        reader.read_exact(&mut request.body)?;
        Ok(Some(request))
    }
}

/// A reply, with the bytes of its body.
pub struct Reply {
    /// Like `200 OK`.
    pub status: String,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Reply {
    /// Reads what follows until the server hangs up, as it was asked to.
    fn read(server: TcpStream, is_head: bool) -> Result<Reply> {
        let mut reader = BufReader::new(server);
        let (line, mut headers) = read_head(&mut reader)?.ok_or_else(malformed)?;
        let status = line.split_once(' ').ok_or_else(malformed)?.1.to_owned();
        let mut body = Vec::new();
        reader.read_to_end(&mut body)?;
        if headers.iter().any(|(name, _)| is_any_of(name, &["transfer-encoding"])) {
            body = unchunked(&body)?;
        } else if let Some((_, length)) = headers.iter().find(|(name, _)| is_any_of(name, &["content-length"])) {
            // A server that died in the middle is not to look like one that has said all.
            if !is_head && length.parse() != Ok(body.len()) {
                return Err(malformed());
            }
        }
        let ours: &[&str] =
            if is_head { &["connection"] } else { &["connection", "content-length", "transfer-encoding"] };
        headers.retain(|(name, _)| !is_any_of(name, ours));
        Ok(Reply { status, headers, body })
    }

    /// Writes it; what answers `HEAD` tells the length of a body that does not come.
    fn write(&self, mut client: &TcpStream, is_head: bool) -> Result<()> {
        let mut head = format!("HTTP/1.1 {}\r\n", self.status);
        for (name, value) in &self.headers {
            _ = write!(head, "{name}: {value}\r\n");
        }
        if !is_head && !self.status.starts_with("204") && !self.status.starts_with("304") {
            _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        head += "\r\n";
        client.write_all(head.as_bytes())?;
        client.write_all(&self.body)
    }
}

fn is_any_of(name: &str, others: &[&str]) -> bool {
    others.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// Reads the first line of a message and its headers; `None` at the end of the connection.
fn read_head(reader: &mut impl BufRead) -> Result<Option<(String, Headers)>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return if lines.is_empty() { Ok(None) } else { Err(malformed()) };
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut lines = lines.into_iter();
    let first = lines.next().ok_or_else(malformed)?;
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    });
    Ok(Some((first, headers.collect())))
}

fn unchunked(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        rest.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(|_| malformed())?;
        if length == 0 {
            return Ok(body);
        }
        body.extend_from_slice(rest.get(..length).ok_or_else(malformed)?);
        rest = rest.get(length + 2..).ok_or_else(malformed)?;
    }
}

fn malformed() -> Error {
    Error::new(ErrorKind::InvalidData, "the message is malformed, or ends before it should")
}
