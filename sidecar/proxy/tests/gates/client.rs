//! An agent's HTTP client: through the proxy, by CONNECT or in absolute form, or byte by byte.

use std::sync::Arc;

use bytes::Bytes;
use clawlock_proxy::body::GateBody;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::World;

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) async fn of(response: Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
    }
}

impl World {
    /// A TLS configuration that trusts only the interception CA.
    pub(crate) fn agent_tls(&self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.intercept.certificate().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// Sends CONNECT; answers the status line's code and the stream behind it.
    pub(crate) async fn connect(&self, authority: &str) -> (u16, TcpStream) {
        let mut tcp = TcpStream::connect(self.proxy).await.unwrap();
        tcp.write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await.unwrap();
        let head = read_head(&mut tcp).await;
        (head.split(' ').nth(1).unwrap().parse().unwrap(), tcp)
    }

    /// A TLS stream to a host through the proxy.
    pub(crate) async fn tunnel(&self, host: &str, port: u16, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
        let (status, tcp) = self.connect(&format!("{host}:{port}")).await;
        assert_eq!(status, 200);
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(self.agent_tls(alpn)).connect(name, tcp).await.unwrap()
    }

    /// An HTTP/1.1 sender to a host through an intercepted tunnel.
    pub(crate) async fn sender(&self, host: &str, port: u16) -> http1::SendRequest<GateBody> {
        http1_sender(self.tunnel(host, port, &[b"http/1.1"]).await).await
    }

    /// An HTTP/2 sender likewise.
    pub(crate) async fn sender2(&self, host: &str, port: u16) -> http2::SendRequest<GateBody> {
        let stream = self.tunnel(host, port, &[b"h2"]).await;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// One request through an intercepted tunnel of its own.
    pub(crate) async fn https(&self, host: &str, port: u16, mut request: Request<GateBody>) -> Answer {
        let authority = format!("{host}:{port}");
        request.headers_mut().entry("host").or_insert(authority.parse().unwrap());
        let mut sender = self.sender(host, port).await;
        Answer::of(sender.send_request(request).await.unwrap()).await
    }

    /// One request in absolute form.
    pub(crate) async fn absolute(&self, request: Request<GateBody>) -> Answer {
        let tcp = TcpStream::connect(self.proxy).await.unwrap();
        let mut sender = http1_sender(tcp).await;
        Answer::of(sender.send_request(request).await.unwrap()).await
    }

    /// One request to the gate's own API, such as `/v1/decide`.
    pub(crate) async fn ask(&self, path: &str, body: impl Into<String>) -> Answer {
        let request = Request::builder()
            .method("POST")
            .uri(path)
            .header("host", self.decide.to_string())
            .header("content-type", "application/json")
            .body(GateBody::full(body.into()))
            .unwrap();
        let mut sender = http1_sender(TcpStream::connect(self.decide).await.unwrap()).await;
        Answer::of(sender.send_request(request).await.unwrap()).await
    }

    /// Bytes to the proxy listener as they are; answers everything until it closes.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let tcp = TcpStream::connect(self.proxy).await.unwrap();
        raw(tcp, bytes).await
    }
}

pub(crate) async fn http1_sender<S>(stream: S) -> http1::SendRequest<GateBody>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

/// Writes bytes, ends the writing side, and reads until the other side closes.
pub(crate) async fn raw<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, bytes: &[u8]) -> String {
    // A peer that refuses may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).await.unwrap(), 1, "{}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A request without a body.
pub(crate) fn get(path: &str) -> Request<GateBody> {
    Request::builder().uri(path).body(GateBody::empty()).unwrap()
}

/// A request with a JSON body.
pub(crate) fn post(path: &str, json: &str) -> Request<GateBody> {
    let builder = Request::builder().method("POST").uri(path).header("content-type", "application/json");
    builder.body(GateBody::full(json.to_owned())).unwrap()
}
