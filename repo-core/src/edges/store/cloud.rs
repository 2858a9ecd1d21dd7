//! Buckets of cloud providers, as environment and options describe them.
//!
//! Settings come from the variables that the providers' own tools read (`AWS_*`, `GOOGLE_*`, `AZURE_*`), then from
//! [`StoreOptions`]. Where no key is given, the identity of the machine is asked for, as those tools do.

use super::location::Provider;
use super::pace::Pace;
use super::settings::StoreOptions;
use super::wire::Wire;
use crate::words::error::{Error, Result};
use crate::words::limits::{STORE_CONNECT_SECS_MAX, STORE_REPEATS_MAX};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::limit::LimitStore;
use object_store::prefix::PrefixStore;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use std::str::FromStr;
use std::sync::Arc;

/// Builds the client of a bucket; no request is made.
///
/// # Errors
/// [`Error::Invalid`]: a setting that the provider does not know, or that can't be.
pub(super) fn build(
    provider: Provider,
    bucket: &str,
    prefix: &str,
    options: &StoreOptions,
) -> Result<Arc<dyn ObjectStore>> {
    match provider {
        Provider::S3 => s3(bucket, options).map(|store| wrap(store, prefix, options)),
        Provider::Gcs => gcs(bucket, options).map(|store| wrap(store, prefix, options)),
        Provider::Azure => azure(bucket, options).map(|store| wrap(store, prefix, options)),
    }
}

fn wrap(store: impl ObjectStore, prefix: &str, options: &StoreOptions) -> Arc<dyn ObjectStore> {
    let limited = LimitStore::new(store, options.connections_max.max(1));
    if prefix.is_empty() { Arc::new(limited) } else { Arc::new(PrefixStore::new(limited, prefix)) }
}

fn s3(bucket: &str, options: &StoreOptions) -> Result<impl ObjectStore> {
    let mut builder = AmazonS3Builder::from_env();
    for (key, value) in client_settings(options) {
        builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
    }
    for (name, value) in options.of_provider() {
        builder = builder.with_config(key(name, "S3")?, value);
    }
    let get = |key: AmazonS3ConfigKey| builder.get_config_value(&key);
    let endpoint = get(AmazonS3ConfigKey::S3Endpoint).or_else(|| get(AmazonS3ConfigKey::Endpoint));
    if let Some(endpoint) = &endpoint {
        if [".blob.core.windows.net", ".dfs.core.windows.net"].iter().any(|azure| endpoint.contains(azure)) {
            return Err(Error::Invalid(format!(
                "{endpoint} is Azure Blob Storage, which does not speak S3; write az://CONTAINER/PREFIX, and set \
                 AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
            )));
        }
        check_scheme(endpoint, get(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp)))?;
        // Elsewhere there is no machine identity to ask for, and asking takes minutes.
        let has_keys = [
            AmazonS3ConfigKey::AccessKeyId,
            AmazonS3ConfigKey::SkipSignature,
            AmazonS3ConfigKey::WebIdentityTokenFile,
            AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
            AmazonS3ConfigKey::ContainerCredentialsFullUri,
        ]
        .into_iter()
        .any(|key| get(key).is_some());
        if !has_keys && !endpoint.contains(".amazonaws.com") {
            return Err(Error::Invalid(format!(
                "no credentials for {endpoint}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )));
        }
    }
    // One deletion at a time is asked for anyway, and not all that speak S3 know the request for many.
    if get(AmazonS3ConfigKey::DisableBulkDelete).as_deref() != Some("true") {
        builder = builder.with_disable_bulk_delete(true);
    }
    let builder = builder.with_retry(retries(options)?).with_http_connector(wire(options));
    builder.with_bucket_name(bucket).build().map_err(|error| refused("S3", error))
}

fn gcs(bucket: &str, options: &StoreOptions) -> Result<impl ObjectStore> {
    let mut builder = GoogleCloudStorageBuilder::from_env();
    for (key, value) in client_settings(options) {
        builder = builder.with_config(GoogleConfigKey::Client(key), value);
    }
    for (name, value) in options.of_provider() {
        builder = builder.with_config(key(name, "GCS")?, value);
    }
    if let Some(url) = builder.get_config_value(&GoogleConfigKey::BaseUrl) {
        check_scheme(&url, builder.get_config_value(&GoogleConfigKey::Client(ClientConfigKey::AllowHttp)))?;
    }
    let builder = builder.with_retry(retries(options)?).with_http_connector(wire(options));
    builder.with_bucket_name(bucket).build().map_err(|error| refused("GCS", error))
}

fn azure(container: &str, options: &StoreOptions) -> Result<impl ObjectStore> {
    let mut builder = MicrosoftAzureBuilder::from_env();
    for (key, value) in client_settings(options) {
        builder = builder.with_config(AzureConfigKey::Client(key), value);
    }
    for (name, value) in options.of_provider() {
        builder = builder.with_config(key(name, "Azure")?, value);
    }
    if let Some(endpoint) = builder.get_config_value(&AzureConfigKey::Endpoint) {
        check_scheme(&endpoint, builder.get_config_value(&AzureConfigKey::Client(ClientConfigKey::AllowHttp)))?;
    }
    let builder = builder.with_retry(retries(options)?).with_http_connector(wire(options));
    builder.with_container_name(container).build().map_err(|error| refused("Azure", error))
}

/// What the client repeats by itself, and for how long; `retry` has the rest.
fn retries(options: &StoreOptions) -> Result<RetryConfig> {
    let retry_timeout = options.patience()?.time_max;
    Ok(RetryConfig { max_retries: STORE_REPEATS_MAX, retry_timeout, ..RetryConfig::default() })
}

fn wire(options: &StoreOptions) -> Wire {
    Wire { upload: options.upload_bytes_per_sec_max.map(|rate| Arc::new(Pace::create(rate))) }
}

/// What every client is told, before the caller's own settings.
fn client_settings(options: &StoreOptions) -> Vec<(ClientConfigKey, String)> {
    let mut settings = vec![
        (ClientConfigKey::Timeout, format!("{}s", options.request_secs_max())),
        (ClientConfigKey::ConnectTimeout, format!("{STORE_CONNECT_SECS_MAX}s")),
        (ClientConfigKey::UserAgent, concat!("dedump/", env!("CARGO_PKG_VERSION")).to_owned()),
    ];
    if options.allow_http {
        settings.push((ClientConfigKey::AllowHttp, "true".to_owned()));
    }
    settings
}

fn key<K: FromStr>(name: &str, provider: &str) -> Result<K> {
    let unknown = |_| {
        let why = "some that there are: endpoint, region, token, proxy_url, connect_timeout, timeout, retry_timeout";
        Error::Invalid(format!("{provider} has no setting {name:?}; {why}"))
    };
    name.to_ascii_lowercase().parse().map_err(unknown)
}

fn check_scheme(endpoint: &str, allow_http: Option<String>) -> Result<()> {
    if endpoint.starts_with("http://") && allow_http.as_deref() != Some("true") {
        return Err(Error::Invalid(format!(
            "{endpoint} has no TLS: whoever listens sees the credentials' signatures and every object's name and length; \
             use https, or say --allow-http"
        )));
    }
    Ok(())
}

fn refused(provider: &str, error: object_store::Error) -> Error {
    let why = match error {
        // It says "Generic S3 error", and its source what is wrong.
        object_store::Error::Generic { source, .. } => source.to_string(),
        error => error.to_string(),
    };
    Error::Invalid(format!("the settings for {provider} can't be: {why}"))
}
