//! TLS: the system's certificates, or those of a file; a certificate of one's own where the server asks for it.

use dedump_core::{Error, Result};
use rustls_platform_verifier::BuilderVerifierExt;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The files, in PEM form, that TLS goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'a> {
    /// Certificates that the server's must lead to; without it those of the system.
    pub(crate) ca: Option<&'a Path>,
    /// A certificate of one's own, with its key.
    pub(crate) certificate: Option<&'a Path>,
    pub(crate) key: Option<&'a Path>,
}

/// Returns what wraps a connection in TLS.
///
/// # Errors
/// As [`config`].
pub(crate) fn connector(files: Files<'_>) -> Result<TlsConnector> {
    Ok(TlsConnector::from(Arc::new(config(files)?)))
}

/// Returns how TLS is spoken.
///
/// # Errors
/// [`Error::Invalid`]: a file of certificates can't be read, or has none.
pub(crate) fn config(files: Files<'_>) -> Result<ClientConfig> {
    let cannot = |error: tokio_rustls::rustls::Error| Error::Invalid(format!("TLS can't be set up: {error}"));
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(cannot)?;
    let builder = match files.ca {
        None => builder.with_platform_verifier().map_err(cannot)?,
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(cannot)?;
            }
            builder.with_root_certificates(roots)
        }
    };
    match (files.certificate, files.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, "private key", &error))?;
            builder.with_client_auth_cert(certificates(certificate)?, key).map_err(cannot)
        }
        _ => {
            let why = "a certificate of one's own needs its private key too; give both files";
            Err(Error::Invalid(why.to_owned()))
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(Error::Invalid(format!("{} has no certificate in PEM form", path.display()))),
        Err(error) => Err(unreadable(path, "certificates", &error)),
    }
}

fn unreadable(path: &Path, what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Invalid(format!("{what} can't be read from {}: {error}", path.display()))
}
