//! What a store's failures mean, in words for whoever has to do something about them.

use crate::format::names::{PROBE, SNAPSHOTS};
use crate::words::error::Error;
use object_store::client::HttpError;

/// Returns the error for a request that failed.
pub(super) fn failed(action: &'static str, object: &str, error: object_store::Error) -> Error {
    let reply = Reply::find(&error);
    let hint = match &reply {
        Some(reply) => reply.hint(action, object),
        None if has_http_error(&error) => Some(
            "it cannot be reached: see that the endpoint is right and the network is up, and run it again".to_owned(),
        ),
        None => find_error::<std::io::Error>(&error).and_then(io_hint),
    };
    let source = match (reply, error) {
        (Some(reply), _) => reply.to_string().into(),
        // The errors around it name the request, its time, and the attempts.
        (None, error) if has_http_error(&error) => root_cause(&error).into(),
        // It says "Generic LocalFileSystem error", and its source what happened.
        (None, object_store::Error::Generic { source, .. }) => source,
        (None, error) => Box::new(error),
    };
    Error::Store { action, object: object.to_owned(), hint, source }
}

/// The error of a reply that ends before it should, though nothing on the way said so.
pub(super) fn cut_short(bytes_n: usize, expected_n: u64) -> object_store::Error {
    let why = format!("the store sent {bytes_n} bytes of {expected_n}; try again");
    object_store::Error::Generic { store: "", source: why.into() }
}

/// Returns whether a reply says that an object lies in cold storage, or is being thawed.
pub(super) fn is_frozen(error: &object_store::Error) -> bool {
    let code = Reply::find(error).map(|reply| reply.code).unwrap_or_default();
    ["InvalidObjectState", "BlobArchived", "BlobBeingRehydrated"].contains(&code.as_str())
}

/// Returns whether the server found that what arrived is not what was sent.
pub(super) fn is_garbled(error: &object_store::Error) -> bool {
    Reply::find(error).is_some_and(|reply| GARBLED.contains(&reply.code.as_str()))
}

/// What the providers call a body that does not fit its checksum, or its length.
const GARBLED: &[&str] =
    &["BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "Md5Mismatch", "IncompleteBody"];

/// Returns whether the server waited in vain for the rest of a request: S3 says so with 400.
pub(super) fn is_timeout_reply(error: &object_store::Error) -> bool {
    Reply::find(error).is_some_and(|reply| reply.code == "RequestTimeout")
}

/// Returns whether an error came from the client's own attempts, and not from a body that was read after them.
pub(super) fn was_repeated_by_client(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        // Its type is the client's own, its text the only sign.
        if error.to_string().starts_with("Error performing ") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Returns whether a request says that there is no such object. That there is no such bucket is something else: taken for the
/// same, all that is stored would look lost.
pub(super) fn is_missing(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. })
        && !Reply::find(error).is_some_and(|reply| NO_BUCKET.contains(&reply.code.as_str()))
}

const NO_BUCKET: &[&str] = &["NoSuchBucket", "ContainerNotFound"];

/// What a server replied that refuses a request.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    /// Like `403 Forbidden`, if it is known.
    status: String,
    /// The provider's word for it, like `AccessDenied`, and its sentence; both may be empty.
    code: String,
    message: String,
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Reply { status, code, message } = self;
        let words: Vec<&str> =
            [code.as_str(), message.trim_end_matches('.')].into_iter().filter(|word| !word.is_empty()).collect();
        match words[..] {
            [] => write!(f, "the store answered {status}"),
            _ => write!(f, "the store answered {status}: {}", words.join(": ")),
        }
    }
}

impl Reply {
    /// Finds the reply in an error of the client, which gives it as text: the status and the body, usually XML.
    fn find(error: &object_store::Error) -> Option<Reply> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        let mut found = None;
        while let Some(error) = cause {
            found = Reply::parse(&error.to_string()).or(found);
            cause = error.source();
        }
        found
    }

    fn parse(text: &str) -> Option<Reply> {
        const STATUS: &str = "Server returned non-2xx status code: ";
        const ERROR: &str = "Server returned error response: ";
        if text.contains("Received redirect without LOCATION") {
            let message = "the bucket is in another region".to_owned();
            return Some(Reply { status: "with a redirect".to_owned(), code: String::new(), message });
        }
        let (status, body) = match (text.split_once(STATUS), text.split_once(ERROR)) {
            (Some((_, rest)), _) => rest.split_once(": ").unwrap_or((rest, "")),
            (None, Some((_, body))) => ("with an error", body),
            (None, None) => return None,
        };
        let tag = |name: &str| {
            let (_, rest) = body.split_once(&format!("<{name}>"))?;
            rest.split_once(&format!("</{name}>")).map(|(inside, _)| one_line(inside))
        };
        let json = |name: &str| {
            let (_, rest) = body.split_once(&format!("\"{name}\""))?;
            let (_, rest) = rest.split_once('"')?;
            rest.split_once('"').map(|(inside, _)| one_line(inside))
        };
        let code = tag("Code").or_else(|| json("reason")).unwrap_or_default();
        let message = tag("Message").or_else(|| json("message")).unwrap_or_default();
        Some(Reply { status: one_line(status), code, message })
    }

    /// Says what to do about it.
    fn hint(&self, action: &str, object: &str) -> Option<String> {
        let Reply { status, code, .. } = self;
        let hint = match code.as_str() {
            code if NO_BUCKET.contains(&code) => {
                "there is no such bucket: create it with the provider's tools, or correct the location"
            }
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AuthenticationFailed" => {
                "the credentials are wrong: see the variables that hold them"
            }
            "ExpiredToken" | "TokenRefreshRequired" | "RequestExpired" if action == "cannot write" => {
                "the credentials have expired: get new ones and run it again; what is stored already is not sent twice"
            }
            "ExpiredToken" | "TokenRefreshRequired" | "RequestExpired" => {
                "the credentials have expired: get new ones and run it again"
            }
            "RequestTimeTooSkewed" => "this machine's clock is wrong: set it, with NTP",
            "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException" => {
                "the region is wrong: set AWS_REGION to the bucket's"
            }
            "SlowDown" | "TooManyRequests" | "ServerBusy" => {
                "the store asks for fewer requests: run it again later, or with fewer --connections"
            }
            "InvalidObjectState" | "BlobArchived" => {
                "it lies in cold storage: thaw it with the provider's tools (`dedump restore --thaw-list` names what a \
                 restore needs), and run it again when that is done"
            }
            "InvalidStorageClass" => "the store has no such storage class: see --storage-class",
            code if GARBLED.contains(&code) => {
                "it arrives garbled, several times in a row: look for what sits between here and the store"
            }
            _ if status.contains("redirect") => "set AWS_REGION to the bucket's region",
            _ if status.starts_with("403") && action == "cannot delete" => denied_deletion(object),
            _ if status.starts_with("403") => {
                "the credentials do not allow it: give them the rights that the manual lists"
            }
            _ if status.starts_with("401") => "the credentials are missing or wrong: see the variables that hold them",
            _ if status.starts_with('5') || status.starts_with("429") => {
                "the store was asked several times: run it again later; what is stored already is not sent twice"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// What to say to whose credentials may not delete: what stands then, and who can.
fn denied_deletion(object: &str) -> &'static str {
    match object.split('/').next() {
        Some(PROBE) => {
            "the credentials may not delete, which init and check --store need: run those with others that may; \
             backups need no deletions"
        }
        Some(SNAPSHOTS) => "the credentials may not delete: the next prune by others that may takes it away",
        _ => "the credentials may not delete, which is as it should be for backups: do this with others that may",
    }
}

/// Returns a text of at most 200 characters on one line.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(200).collect()
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    one_line(&root.to_string())
}

fn has_http_error(error: &object_store::Error) -> bool {
    find_error::<HttpError>(error).is_some()
}

pub(super) fn find_error<'a, E: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// What to do about an error of the file system.
pub(super) fn io_hint(error: &std::io::Error) -> Option<String> {
    use std::io::ErrorKind;
    let hint = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the disk is full: free some space and run it again; nothing that was committed is harmed"
        }
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only: mount it for writing and run it again",
        ErrorKind::PermissionDenied => "the permissions do not allow it: run it as the repository's owner",
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_become_one_line() {
        let text = "Error performing PUT http://127.0.0.1:9/b/x in 5ms - Server returned non-2xx status code: 403 Forbidden: \
                    <?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>Access\n Denied</Message></Error>";
        let reply = Reply::parse(text).expect("a reply");
        assert_eq!(reply.to_string(), "the store answered 403 Forbidden: AccessDenied: Access Denied");
        assert!(reply.hint("cannot delete", "packs/00").is_some_and(|hint| hint.contains("may not delete")));
        let text = "Server returned non-2xx status code: 404 Not Found: {\"error\": {\"message\": \"no bucket\"}}";
        assert_eq!(Reply::parse(text).expect("a reply").to_string(), "the store answered 404 Not Found: no bucket");
        let bare = Reply::parse("Server returned non-2xx status code: 503 Service Unavailable: ").expect("a reply");
        assert_eq!(bare.to_string(), "the store answered 503 Service Unavailable");
        assert_eq!(Reply::parse("No such file or directory"), None);
    }

    #[test]
    fn every_usual_refusal_says_what_to_do() {
        for (status, code, action, part) in [
            ("404 Not Found", "NoSuchBucket", "cannot list", "no such bucket"),
            ("404 Not Found", "ContainerNotFound", "cannot list", "no such bucket"),
            ("403 Forbidden", "SignatureDoesNotMatch", "cannot read", "credentials are wrong"),
            ("403 Forbidden", "RequestTimeTooSkewed", "cannot read", "clock is wrong"),
            ("400 Bad Request", "ExpiredToken", "cannot write", "have expired"),
            ("400 Bad Request", "AuthorizationHeaderMalformed", "cannot read", "AWS_REGION"),
            ("301 Moved Permanently", "PermanentRedirect", "cannot read", "AWS_REGION"),
            ("403 Forbidden", "AccessDenied", "cannot write", "do not allow it"),
            ("403 Forbidden", "AccessDenied", "cannot delete", "may not delete"),
            ("403 Forbidden", "AuthorizationPermissionMismatch", "cannot delete", "may not delete"),
            ("401 Unauthorized", "", "cannot read", "missing or wrong"),
            ("503 Service Unavailable", "SlowDown", "cannot write", "fewer requests"),
            ("429 Too Many Requests", "", "cannot write", "run it again later"),
            ("500 Internal Server Error", "InternalError", "cannot write", "not sent twice"),
        ] {
            let body = if code.is_empty() { String::new() } else { format!("<Error><Code>{code}</Code></Error>") };
            let text = format!("Server returned non-2xx status code: {status}: {body}");
            let hint = Reply::parse(&text).and_then(|reply| reply.hint(action, "packs/00")).unwrap_or_default();
            assert!(hint.contains(part), "{status} {code}: {hint}");
        }
    }
}
