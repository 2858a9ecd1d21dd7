//! The HTTP interface: a query out, an answer in; rows out, a word in.
//!
//! Small answers are asked for with `wait_end_of_query`: the server then says by its status how the query ended. A table's rows are
//! streamed, so that the server need not hold them; whoever reads them has to see for himself that they are whole.

use super::explain::Failure;
use super::url::ClickHouseUrl;
use crate::{percent, tls};
use dedump_core::Bytes;
use reqwest::{Client as Http, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// For how long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// For how long a server may sort before the first rows come, as long as the system keeps the connection up.
const FIRST_ROWS_MAX: Duration = Duration::from_secs(6 * 3600);
/// How often the system asks whether the other side is there, and how often in vain.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_RETRIES: u32 = 4;
/// An answer that is held in memory, at most.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Text of an exception, at most.
const EXCEPTION_BYTES_MAX: usize = 64 << 10;

pub(super) type Result<T> = std::result::Result<T, Failure>;
/// Has the server hold an answer back until it knows how the query ends.
const HELD: (&str, &str) = ("wait_end_of_query", "1");

/// Settings of one query.
pub(super) type Settings<'a> = &'a [(&'a str, String)];

/// How a server is reached.
#[derive(Clone)]
pub struct ClientOptions {
    /// The password, if it is not in the URL; otherwise `CLICKHOUSE_PASSWORD` in the environment is asked.
    pub password: Option<String>,
    /// Certificates, in PEM form, that the server's must lead to; without it those of the system.
    pub ca_file: Option<PathBuf>,
    /// A certificate of one's own, in PEM form, for servers that ask for it; with `key_file`.
    pub certificate_file: Option<PathBuf>,
    /// The private key of it.
    pub key_file: Option<PathBuf>,
    /// For how long a server may be silent, in seconds, once it has begun to answer.
    pub timeout_secs: u64,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions { password: None, ca_file: None, certificate_file: None, key_file: None, timeout_secs: 300 }
    }
}

impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the password.
        f.debug_struct("ClientOptions").field("timeout_secs", &self.timeout_secs).finish_non_exhaustive()
    }
}

/// A server, known by its version.
#[derive(Clone)]
pub(super) struct Client {
    http: Http,
    url: ClickHouseUrl,
    user: String,
    password: Option<String>,
    patience: Duration,
    /// Year and month of the version, as in 26.9.
    pub version: (u32, u32),
    pub version_text: String,
}

/// An answer that comes piece by piece.
pub(super) struct Answer {
    response: Response,
    patience: Duration,
    /// Bytes that have come.
    pub bytes: u64,
}

impl Client {
    /// Connects, and asks for the version.
    pub async fn open(url: &ClickHouseUrl, options: &ClientOptions) -> Result<Client> {
        let builder = Http::builder()
            .no_proxy()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_MAX)
            .tcp_keepalive(KEEP_ALIVE)
            .tcp_keepalive_interval(KEEP_ALIVE)
            .tcp_keepalive_retries(KEEP_ALIVE_RETRIES);
        let builder = match url.is_tls() {
            false => builder,
            true => builder.tls_backend_preconfigured(tls::config(tls::Files {
                ca: options.ca_file.as_deref(),
                certificate: options.certificate_file.as_deref(),
                key: options.key_file.as_deref(),
            })?),
        };
        let http = builder.build().map_err(|error| broken(format!("no client can be made: {}", causes(&error))))?;
        let from_environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let user = url.user().map(str::to_owned).or_else(|| from_environment("CLICKHOUSE_USER"));
        let password = url.password().map(str::to_owned).or_else(|| options.password.clone());
        let mut client = Client {
            http,
            url: url.clone(),
            user: user.unwrap_or_else(|| "default".to_owned()),
            password: password.or_else(|| from_environment("CLICKHOUSE_PASSWORD")),
            patience: Duration::from_secs(options.timeout_secs.max(1)),
            version: (0, 0),
            version_text: String::new(),
        };
        let version_text = client.ask("SELECT version() FORMAT TabSeparated").await?.trim().to_owned();
        let mut numbers = version_text.split('.').map(str::parse::<u32>);
        let (Some(Ok(year)), Some(Ok(month))) = (numbers.next(), numbers.next()) else {
            let shown: String = version_text.chars().take(60).collect();
            return Err(broken(format!("it answers what no ClickHouse does: {shown:?}; is this its HTTP interface?")));
        };
        client.version = (year, month);
        client.version_text = version_text;
        Ok(client)
    }

    /// Returns whether the server is of this version or a newer one.
    pub fn is_from(&self, year: u32, month: u32) -> bool {
        self.version >= (year, month)
    }

    /// Returns who asks.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Runs a query and returns what it says.
    pub async fn ask(&self, query: &str) -> Result<String> {
        self.ask_with(query, &[]).await
    }

    /// Likewise, with settings.
    pub async fn ask_with(&self, query: &str, settings: Settings<'_>) -> Result<String> {
        let request = self.request(settings, &[HELD]).body(query.to_owned());
        let mut answer = self.send(request, self.patience).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = answer.piece().await? {
            if bytes.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(broken(format!(
                    "it answers with more than {ANSWER_BYTES_MAX} bytes where a list was asked for"
                )));
            }
            bytes.extend_from_slice(&piece);
        }
        String::from_utf8(bytes).map_err(|_| broken("it answers in what is no UTF-8".to_owned()))
    }

    /// Runs a query and returns its rows, each with the fields of a JSON object.
    pub async fn rows<T: DeserializeOwned>(&self, query: &str) -> Result<Vec<T>> {
        let settings = [("output_format_json_quote_64bit_integers", "1".to_owned())];
        let text = self.ask_with(&format!("{query} FORMAT JSONEachRow"), &settings).await?;
        let strange =
            |error: serde_json::Error| broken(format!("it answers {query:?} with what is no such row: {error}"));
        text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).map_err(strange)).collect()
    }

    /// Begins a query whose answer may be long. With `is_held` the server holds all of it back until it knows how the query ends.
    pub async fn stream(&self, query: &str, settings: Settings<'_>, is_held: bool) -> Result<Answer> {
        let request = self.request(settings, if is_held { &[HELD] } else { &[] });
        self.send(request.body(query.to_owned()), FIRST_ROWS_MAX).await
    }

    /// Sends rows to an `INSERT`.
    pub async fn insert(&self, query: &str, settings: Settings<'_>, rows: Bytes) -> Result<()> {
        let request = self.request(settings, &[("query", query), HELD]).body(rows);
        let mut answer = self.send(request, FIRST_ROWS_MAX).await?;
        while answer.piece().await?.is_some() {}
        Ok(())
    }

    /// Sends rows to an `INSERT` as they come; whoever drops the sender says that they were all.
    pub async fn insert_stream(&self, query: &str, settings: Settings<'_>, rows: mpsc::Receiver<Bytes>) -> Result<()> {
        let pieces = futures::stream::unfold(rows, |mut rows| async move {
            rows.recv().await.map(|piece| (Ok::<_, std::io::Error>(piece), rows))
        });
        let body = reqwest::Body::wrap_stream(pieces);
        let request = self.request(settings, &[("query", query), HELD]).body(body);
        let mut answer = self.send(request, FIRST_ROWS_MAX).await?;
        while answer.piece().await?.is_some() {}
        Ok(())
    }

    fn request(&self, settings: Settings<'_>, parameters: &[(&str, &str)]) -> RequestBuilder {
        let settings = settings.iter().map(|(name, value)| (*name, value.as_str()));
        let all = settings.chain(parameters.iter().copied());
        let all: Vec<String> = all.map(|(name, value)| format!("{name}={}", percent::encode(value))).collect();
        let url = format!("{}?{}", self.url.endpoint(), all.join("&"));
        // In heads, which nobody writes into a log of requests.
        let request = self.http.post(url).header("X-ClickHouse-User", &self.user);
        match &self.password {
            Some(password) => request.header("X-ClickHouse-Key", password),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder, patience: Duration) -> Result<Answer> {
        let response = match timeout(patience, request.send()).await {
            Ok(response) => response.map_err(|error| self.unreachable(&error))?,
            Err(_) => return Err(silent(patience)),
        };
        let status = response.status();
        let mut answer = Answer { response, patience: self.patience, bytes: 0 };
        if status.is_success() {
            return Ok(answer);
        }
        let mut text = Vec::new();
        while let Ok(Some(piece)) = answer.piece().await {
            text.extend_from_slice(&piece);
            if text.len() > EXCEPTION_BYTES_MAX {
                break;
            }
        }
        let text = String::from_utf8_lossy(&text);
        match Failure::refused(&text) {
            Failure::Refused(0, words) => Err(broken(format!(
                "it answers with the HTTP status {}: {words:?}; is this its HTTP interface?",
                status.as_u16()
            ))),
            failure => Err(failure),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let why = causes(error);
        if error.is_timeout() && error.is_connect() {
            let secs = CONNECT_MAX.as_secs();
            return broken(format!("it does not answer within {secs} seconds; is it up, and does a firewall let us?"));
        }
        if error.is_connect() {
            let hint = if self.url.is_tls() {
                "is it up, and is this its port for HTTPS?"
            } else {
                "is it up, and is this its port for HTTP?"
            };
            return broken(format!("it can't be reached: {why}; {hint}"));
        }
        let hint = match why.contains("CertificateRequired") || why.contains("certificate required") {
            true => "; the server wants a certificate of ours, so give its file and that of its key",
            false => "; is this its HTTP interface, and with TLS or without?",
        };
        broken(format!("the connection broke: {why}{hint}"))
    }
}

impl Answer {
    /// Returns the next bytes; `None` at the end that HTTP has marked as such.
    pub async fn piece(&mut self) -> Result<Option<Bytes>> {
        match timeout(self.patience, self.response.chunk()).await {
            Ok(Ok(piece)) => {
                self.bytes += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                Ok(piece)
            }
            Ok(Err(error)) => {
                Err(broken(format!("its answer broke off after {} bytes: {}", self.bytes, causes(&error))))
            }
            Err(_) => Err(silent(self.patience)),
        }
    }
}

fn silent(patience: Duration) -> Failure {
    broken(format!("the server was silent for {} seconds; look at its load, or allow more", patience.as_secs()))
}

fn broken(why: String) -> Failure {
    Failure::Broken(why)
}

/// Returns the innermost reason, without the URL.
fn causes(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    match error.source() {
        Some(_) => inner.to_string(),
        None => "it speaks no HTTP".to_owned(),
    }
}
