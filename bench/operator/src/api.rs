//! A client of the API server, for what this writes and reads: JSON over one HTTP/2 connection, many requests at once.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

/// Requests at once; the API server allows a connection a hundred.
pub(crate) const AT_ONCE: usize = 32;

/// An HTTP/2 connection to one of the servers here.
pub(crate) type Http2 = SendRequest<Full<Bytes>>;

/// Opens an HTTP/2 connection to a port of loopback, whose certificate is for `name` under a CA.
pub(crate) async fn connect(port: u16, name: &str, ca: &str) -> Result<Http2, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("the CA: {error}"))?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
    tcp.set_nodelay(true).map_err(|error| error.to_string())?;
    let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|error| error.to_string())?;
    let started = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(tls)).await;
    let (sender, connection) = started.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Sends a request and reads the whole answer.
pub(crate) async fn exchange(mut http: Http2, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), String> {
    let response = http.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
    Ok((status, body.to_bytes()))
}

/// A client with a token.
#[derive(Clone)]
pub(crate) struct Api {
    http: Arc<Mutex<Http2>>,
    port: u16,
    ca: String,
    token: String,
}

impl Api {
    /// Connects to the API server.
    pub(crate) async fn connect(port: u16, ca: &str, token: &str) -> Result<Self, String> {
        let http = Arc::new(Mutex::new(connect(port, "127.0.0.1", ca).await?));
        Ok(Self { http, port, ca: ca.to_owned(), token: token.to_owned() })
    }

    /// The connection, or a new one: the API server closes one that is idle, which this is while agents join.
    async fn http(&self) -> Result<Http2, String> {
        let mut http = self.http.lock().await;
        if http.is_closed() {
            *http = connect(self.port, "127.0.0.1", &self.ca).await?;
        }
        Ok(http.clone())
    }

    /// Reads an object; `None` when it is not there.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Value>, String> {
        let (status, body) = self.send(Method::GET, path, "application/json", Bytes::new()).await?;
        if status == StatusCode::NOT_FOUND { Ok(None) } else { answer(path, status, &body).map(Some) }
    }

    /// Reads what is no object.
    pub(crate) async fn text(&self, path: &str) -> Result<String, String> {
        let (status, body) = self.send(Method::GET, path, "application/json", Bytes::new()).await?;
        let text = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() { Ok(text) } else { Err(format!("{path}: {status}: {text}")) }
    }

    /// Creates an object.
    pub(crate) async fn create(&self, path: &str, object: &Value) -> Result<Value, String> {
        let (status, body) = self.send(Method::POST, path, "application/json", object.to_string().into()).await?;
        answer(path, status, &body)
    }

    /// Changes an object by a merge patch (RFC 7396).
    pub(crate) async fn patch(&self, path: &str, patch: &Value) -> Result<(), String> {
        let kind = "application/merge-patch+json";
        let (status, body) = self.send(Method::PATCH, path, kind, patch.to_string().into()).await?;
        answer(path, status, &body).map(drop)
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<(StatusCode, Bytes), String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://127.0.0.1:{}{path}", self.port))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, kind)
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        exchange(self.http().await?, request).await.map_err(|error| format!("{path}: {error}"))
    }
}

fn answer(path: &str, status: StatusCode, body: &[u8]) -> Result<Value, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| format!("{path}: {status}: {error}"))?;
    if status.is_success() { Ok(value) } else { Err(format!("{path}: {status}: {}", value["message"])) }
}
