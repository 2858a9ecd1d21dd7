//! What stands between the client of Google's storage and fake-gcs-server, which lacks two things that the client needs.
//!
//! The client speaks the XML API. fake-gcs-server serves that for reading and deleting; what it lacks is said in its JSON API:
//!
//! | the client asks | fake-gcs-server 1.54 answers | so this is asked |
//! |---|---|---|
//! | `PUT /B/O`, `x-goog-if-generation-match: 0` | 400 `invalid uploadType` | `POST /upload/storage/v1/b/B/o`, `ifGenerationMatch=0` |
//! | `GET /B?list-type=2`, pages | everything in one reply | `GET /storage/v1/b/B/o`, `pageToken` |
//!
//! Whether a precondition holds, and where a page ends, is decided by the server in both. An upload is of the kind
//! `multipart`, since of those of the kind `media` it ignores the precondition. All other requests pass as they are.

use super::front::{self, Reply, Request};
use super::servers::FakeGcs;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Result;
use std::net::SocketAddr;
use std::sync::Arc;

/// Stands between the parts of an upload; no dump has it by chance.
const BOUNDARY: &str = "b1946ac92492d2347c6235b4d2611184";
/// Names of one page, at most, as Google has it.
const PAGE_NAMES_MAX: &str = "1000";

/// Google's storage, as its client expects it.
pub struct Gcs {
    address: SocketAddr,
    _server: FakeGcs,
}

impl Gcs {
    /// Starts a server with a bucket and waits until it listens.
    pub fn start(bucket: &str) -> Gcs {
        let server = FakeGcs::start();
        server.create_bucket(bucket);
        Gcs { address: front::start("127.0.0.1:0", server.address(), Arc::new(translate)), _server: server }
    }

    /// Returns what stands for a service account: it says where the server is, and that nobody asks for a token.
    pub fn service_account(&self) -> String {
        let base = format!("http://{}", self.address);
        serde_json::json!({
            "gcs_base_url": base, "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": "",
        })
        .to_string()
    }
}

fn translate(mut request: Request, behind: SocketAddr) -> Result<Reply> {
    // By the host that is asked for it knows requests of the XML API.
    request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("host"));
    request.headers.push(host());
    let path = request.target.split('?').next().unwrap_or_default().trim_start_matches('/').to_owned();
    match (&*request.method, path.split_once('/')) {
        ("PUT", Some((bucket, object))) => put(request, bucket, object, behind),
        ("GET", None) if request.parameter("list-type").is_some() => list(&request, &path, behind),
        _ => request.ask(behind),
    }
}

fn host() -> (String, String) {
    ("Host".to_owned(), FakeGcs::HOST.to_owned())
}

fn put(request: Request, bucket: &str, object: &str, behind: SocketAddr) -> Result<Reply> {
    let mut target = format!("/upload/storage/v1/b/{bucket}/o?uploadType=multipart&name={object}");
    if let Some(generation) = request.header("x-goog-if-generation-match") {
        _ = write!(target, "&ifGenerationMatch={generation}");
    }
    let part = |kind: &str| format!("--{BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n");
    let before = format!("{}{{}}\r\n{}", part("application/json"), part("application/octet-stream"));
    let after = format!("\r\n--{BOUNDARY}--\r\n");
    let mut upload = Request::new("POST", target, [before.as_bytes(), &request.body, after.as_bytes()].concat());
    let kind = format!("multipart/related; boundary={BOUNDARY}");
    upload.headers = vec![host(), ("Content-Type".to_owned(), kind)];
    let mut reply = upload.ask(behind)?;
    if reply.status.starts_with("200") {
        let told: Value = serde_json::from_slice(&reply.body)?;
        let text = |name: &str| told[name].as_str().unwrap_or_default();
        let headers = [("ETag", format!("\"{}\"", text("etag"))), ("x-goog-generation", text("generation").to_owned())];
        reply.headers = headers.map(|(name, value)| (name.to_owned(), value)).into();
        reply.body.clear();
    }
    Ok(reply)
}

fn list(request: &Request, bucket: &str, behind: SocketAddr) -> Result<Reply> {
    for unheard in ["delimiter", "start-after"] {
        assert!(request.parameter(unheard).is_none(), "the core does not ask for {unheard}");
    }
    let mut target = format!(
        "/storage/v1/b/{bucket}/o?prefix={}&maxResults={}",
        request.parameter("prefix").unwrap_or_default(),
        request.parameter("max-keys").unwrap_or(PAGE_NAMES_MAX)
    );
    if let Some(token) = request.parameter("continuation-token") {
        _ = write!(target, "&pageToken={token}");
    }
    let question = Request { headers: vec![host()], ..Request::new("GET", target, Vec::new()) };
    let mut reply = question.ask(behind)?;
    if reply.status.starts_with("200") {
        reply.body = page(&serde_json::from_slice(&reply.body)?).into_bytes();
        reply.headers = vec![("Content-Type".to_owned(), "application/xml".to_owned())];
    }
    Ok(reply)
}

/// Returns a page of the XML API's for one of the JSON API's.
fn page(told: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().replace('&', "&amp;").replace('<', "&lt;");
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult>".to_owned();
    if told["nextPageToken"].is_string() {
        _ = write!(xml, "<NextContinuationToken>{}</NextContinuationToken>", text(&told["nextPageToken"]));
    }
    for object in told["items"].as_array().into_iter().flatten() {
        _ = write!(
            xml,
            "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
            text(&object["name"]),
            text(&object["updated"]),
            text(&object["etag"]),
            text(&object["size"]),
        );
    }
    xml + "</ListBucketResult>"
}
