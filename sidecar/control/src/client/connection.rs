//! One connection to the control API: TLS 1.3 for the tenant's control name under the anchor, then HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore, version};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;

use super::{Dial, Identity};
use crate::control_name;

/// How long connecting and the handshakes may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Body of a request.
pub(super) type Body = BoxBody<Bytes, std::convert::Infallible>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered.
    #[error("the control API cannot be reached: {0}")]
    Io(#[from] std::io::Error),
    /// It took too long.
    #[error("the control API did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    /// The tenant has no control name, or the anchor is no certificate.
    #[error("the control API's name or anchor: {0}")]
    Tls(String),
    /// HTTP/2 did not start.
    #[error("the control API does not speak HTTP/2: {0}")]
    Http(#[from] hyper::Error),
}

/// Connects; with an identity, its certificate is shown.
pub(super) async fn connect(
    dial: &dyn Dial,
    tenant: &str,
    anchor: &CertificateDer<'static>,
    identity: Option<&Identity>,
) -> Result<SendRequest<Body>, ConnectError> {
    let tls = config(anchor, identity)?;
    let name = ServerName::try_from(control_name(tenant)).map_err(|error| ConnectError::Tls(error.to_string()))?;
    let connected = async {
        let tcp = dial.dial().await?;
        tcp.set_nodelay(true)?;
        let stream = TlsConnector::from(tls).connect(name, tcp).await?;
        let started = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            .handshake(TokioIo::new(stream));
        Ok::<_, ConnectError>(started.await?)
    };
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connected).await.map_err(|_| ConnectError::Timeout)?;
    let (sender, connection) = connected?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the control API ended");
        }
    });
    Ok(sender)
}

fn config(anchor: &CertificateDer<'static>, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, ConnectError> {
    let wrong = |error: rustls::Error| ConnectError::Tls(error.to_string());
    let mut roots = RootCertStore::empty();
    roots.add(anchor.clone()).map_err(wrong)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(wrong)?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => {
            let Identity { chain, key, not_after_ms: _ } = identity.copy();
            builder.with_client_auth_cert(chain, key).map_err(wrong)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
