//! What travels between the client and the network: each request waits for its turn, small replies arrive whole, and bodies that
//! go up keep to a rate.
//!
//! The client gives a request to [`Line`] for each of its own attempts, so what is seen here is what the store sees. A listing
//! whose page breaks off is an interrupted request here, and not a broken body later: so the client asks for that page again, and
//! not somebody for the whole listing.

use super::courtesy::Courtesy;
use super::pace::Pace;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::{ClientConfigKey, ClientOptions};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Makes the connections of a store.
#[derive(Debug)]
pub(super) struct Wire {
    /// The rate of what is written, if there is one.
    pub(super) upload: Option<Arc<Pace>>,
}

/// The bytes of a request, beside its body: the client's own body does not give them away.
#[derive(Debug, Clone)]
pub(super) struct Body(pub(super) Bytes);

impl HttpConnector for Wire {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = match &self.upload {
            None => ReqwestConnector::default().connect(options)?,
            Some(pace) => HttpClient::new(Paced { client: client(options)?, pace: Arc::clone(pace) }),
        };
        Ok(HttpClient::new(Line { inner, courtesy: Courtesy::default() }))
    }
}

/// A connection that heeds what the store asks for.
#[derive(Debug)]
struct Line {
    inner: HttpClient,
    courtesy: Courtesy,
}

#[async_trait]
impl HttpService for Line {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_page =
            request.uri().query().is_some_and(|query| query.contains("list-type=") || query.contains("comp=list"));
        let has_large_reply = request.method().as_str() == "GET" && !is_page;
        self.courtesy.turn().await;
        let reply = self.inner.execute(request).await?;
        match reply.status().as_u16() {
            429 | 503 => self.courtesy.slow_down(retry_after(&reply)),
            _ => self.courtesy.go_on(),
        }
        if has_large_reply && reply.status().is_success() {
            return Ok(reply);
        }
        let (parts, body) = reply.into_parts();
        let interrupted = |error: HttpError| match error.kind() {
            HttpErrorKind::Timeout => error,
            _ => HttpError::new(HttpErrorKind::Interrupted, error),
        };
        let body = body.bytes().await.map_err(interrupted)?;
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}

/// The seconds that a reply asks to wait; a date, which the header may hold too, is taken for nothing: clocks differ.
fn retry_after(reply: &HttpResponse) -> Option<Duration> {
    let secs = reply.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(secs))
}

/// A client that sends the bodies of objects at a pace.
#[derive(Debug)]
struct Paced {
    client: reqwest::Client,
    pace: Arc<Pace>,
}

#[async_trait]
impl HttpService for Paced {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Some(Body(body)) = request.extensions().get().cloned() else { return self.client.call(request).await };
        let (parts, _) = request.into_parts();
        let url = parts.uri.to_string().parse().map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let mut paced = reqwest::Request::new(parts.method, url);
        *paced.headers_mut() = parts.headers;
        *paced.body_mut() = Some(spread(body, Arc::clone(&self.pace)));
        let reply = self.client.execute(paced).await.map_err(interrupted)?;
        let (status, headers) = (reply.status(), reply.headers().clone());
        let mut response = HttpResponse::new(reply.bytes().await.map_err(interrupted)?.into());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// A body whose pieces come when it is their turn.
fn spread(body: Bytes, pace: Arc<Pace>) -> reqwest::Body {
    let pieces = stream::unfold((body, pace), |(mut left, pace)| async move {
        if left.is_empty() {
            return None;
        }
        let piece = left.split_to(left.len().min(pace.piece_bytes()));
        pace.take(piece.len()).await;
        Some((Ok::<Bytes, Infallible>(piece), (left, pace)))
    });
    reqwest::Body::wrap_stream(pieces)
}

fn interrupted(error: reqwest::Error) -> HttpError {
    let kind = match () {
        () if error.is_timeout() => HttpErrorKind::Timeout,
        () if error.is_connect() => HttpErrorKind::Connect,
        () => HttpErrorKind::Interrupted,
    };
    HttpError::new(kind, error.without_url())
}

/// Builds a client as the other connector would, of the settings that matter to it.
fn client(options: &ClientOptions) -> object_store::Result<reqwest::Client> {
    let failed = |error: reqwest::Error| refused(Box::new(error));
    let get = |key: ClientConfigKey| options.get_config_value(&key);
    let is_set = |key| get(key).as_deref() == Some("true");
    let mut builder = reqwest::Client::builder().https_only(!is_set(ClientConfigKey::AllowHttp));
    if let Some(agent) = get(ClientConfigKey::UserAgent) {
        builder = builder.user_agent(agent);
    }
    if let Some(timeout) = get(ClientConfigKey::Timeout) {
        builder = builder.timeout(duration(&timeout)?);
    }
    if let Some(timeout) = get(ClientConfigKey::ConnectTimeout) {
        builder = builder.connect_timeout(duration(&timeout)?);
    }
    if let Some(timeout) = get(ClientConfigKey::ReadTimeout) {
        builder = builder.read_timeout(duration(&timeout)?);
    }
    if let Some(url) = get(ClientConfigKey::ProxyUrl) {
        let mut proxy = reqwest::Proxy::all(url).map_err(failed)?;
        if let Some(excludes) = get(ClientConfigKey::ProxyExcludes) {
            proxy = proxy.no_proxy(reqwest::NoProxy::from_string(&excludes));
        }
        builder = builder.proxy(proxy);
    }
    if let Some(pem) = get(ClientConfigKey::ProxyCaCertificate) {
        let certificate = reqwest::tls::Certificate::from_pem(pem.as_bytes()).map_err(failed)?;
        builder = builder.tls_certs_merge([certificate]);
    }
    if is_set(ClientConfigKey::NoSystemCertificates) {
        builder = builder.tls_certs_only([]);
    }
    if is_set(ClientConfigKey::AllowInvalidCertificates) {
        builder = builder.danger_accept_invalid_certs(true);
    }
    if is_set(ClientConfigKey::Http1Only) {
        builder = builder.http1_only();
    }
    builder.build().map_err(failed)
}

/// Reads a length of time as the client writes it: `300s`, `5m`.
fn duration(text: &str) -> object_store::Result<Duration> {
    super::settings::seconds(text).map_err(|error| refused(error.to_string().into()))
}

fn refused(source: Box<dyn std::error::Error + Send + Sync>) -> object_store::Error {
    object_store::Error::Generic { store: "client", source }
}
