//! A server that remembers what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use clawlock_proxy::tls::Leaf;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::world::{HOST, TestCa, World, loopback, usual, vendor};

pub(crate) type OriginBody = BoxBody<Bytes, Infallible>;
type Handler = dyn Fn(Request<()>, Bytes) -> Response<OriginBody> + Send + Sync;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A running server.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
}

pub(crate) fn full(body: impl Into<Bytes>) -> OriginBody {
    Full::new(body.into()).boxed()
}

/// Both gates, and a vendor that answers `ok`.
pub(crate) async fn world() -> (World, Origin) {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| Response::new(full("ok"))).await;
    let world = World::start(usual(vendor(origin.port(), &ca.pem))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    (world, origin)
}

/// The `101` that answers a WebSocket handshake.
pub(crate) fn websocket(request: &Request<()>) -> http::response::Builder {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    use base64::Engine as _;
    let key = request.headers()["sec-websocket-key"].to_str().unwrap();
    let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes());
    Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", base64::engine::general_purpose::STANDARD.encode(proof))
}

/// A body whose pieces a test sends.
pub(crate) fn pieces() -> (mpsc::UnboundedSender<Bytes>, OriginBody) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let frames = stream::unfold(receiver, |mut receiver: mpsc::UnboundedReceiver<Bytes>| async move {
        receiver.recv().await.map(|bytes| (Ok::<_, Infallible>(Frame::data(bytes)), receiver))
    });
    (sender, BodyExt::boxed(StreamBody::new(SyncStream(Box::pin(frames)))))
}

// `BoxBody` wants `Sync`; a stream is only ever polled through `&mut`.
struct SyncStream<T>(Pin<Box<dyn futures_util::Stream<Item = T> + Send + Sync>>);

impl<T> futures_util::Stream for SyncStream<T> {
    type Item = T;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<T>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl Origin {
    /// A server over TLS for a host that answers its one request with `response`.
    pub(crate) async fn once(ca: &TestCa, host: &str, response: Response<OriginBody>) -> Self {
        let response = Mutex::new(Some(response));
        Self::tls(ca, host, move |_, _| response.lock().unwrap().take().unwrap()).await
    }

    /// A server over TLS for a host, with a certificate of `ca`.
    pub(crate) async fn tls(
        ca: &TestCa,
        host: &str,
        handler: impl Fn(Request<()>, Bytes) -> Response<OriginBody> + Send + Sync + 'static,
    ) -> Self {
        let Leaf { chain, key } = ca.server(host);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self::serve(Some(TlsAcceptor::from(Arc::new(config))), Arc::new(handler)).await
    }

    /// A server in clear.
    pub(crate) async fn plain(
        handler: impl Fn(Request<()>, Bytes) -> Response<OriginBody> + Send + Sync + 'static,
    ) -> Self {
        Self::serve(None, Arc::new(handler)).await
    }

    async fn serve(tls: Option<TlsAcceptor>, handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let origin = Self { address, seen: seen.clone() };
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (tls, handler, seen) = (tls.clone(), handler.clone(), seen.clone());
                tokio::spawn(async move {
                    let service =
                        service_fn(move |request: Request<Incoming>| answer(handler.clone(), seen.clone(), request));
                    let builder = auto::Builder::new(TokioExecutor::new());
                    // A client that gives up is part of some tests.
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await.ok();
                            }
                        }
                        None => {
                            builder.serve_connection_with_upgrades(TokioIo::new(tcp), service).await.ok();
                        }
                    }
                });
            }
        });
        origin
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(
    handler: Arc<Handler>,
    seen: Arc<Mutex<Vec<Seen>>>,
    request: Request<Incoming>,
) -> Result<Response<OriginBody>, Infallible> {
    let (mut parts, body) = request.into_parts();
    let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    seen.lock().unwrap().push(Seen {
        method: parts.method.to_string(),
        uri: parts.uri.to_string(),
        headers: parts.headers.clone(),
        body: body.clone(),
    });
    let mut request = Request::from_parts(parts, ());
    if let Some(upgrade) = upgrade {
        request.extensions_mut().insert(upgrade);
    }
    Ok(handler(request, body))
}
