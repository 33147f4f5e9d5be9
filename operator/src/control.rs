//! The control API, on every replica: certificates for pods, and streams of policy to them.
//!
//! It is reached only through the gateways, which pass it on without reading it. Everything here is
//! bounded ([`limits`]), and nobody is believed before a certificate of the tenant's CA, or the API server's
//! word about a token.

mod enrol;
mod gates;
mod limits;
mod peer;
pub(crate) mod review;
mod session;
mod streams;
#[cfg(test)]
mod tests;
mod tls;
mod token;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use clawlock_control::message::MAX_CERTIFICATE_REQUEST;
use clawlock_control::{CERTIFICATES, Problem, STREAM};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, BodyStream, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::halts::Halts;
use crate::metrics::{Enrolled, Metrics};
use crate::pki::anchor::Anchor;
use crate::pki::signing::Signer;
use crate::replica::Acks;
use crate::serving::trust::Authorities;
use crate::serving::{Board, Canaries, Served};
use crate::world::World;
use enrol::{Desk, Refusal, Turnstile};
use gates::{Gate, Gates};
use limits::{
    BODY_TIMEOUT, CONNECTIONS, HANDSHAKE_TIMEOUT, HEADERS, IDLE, KEEP_ALIVE, KNOWN_TIMEOUT, QUEUE, REQUESTS,
    SEND_BUFFER, WINDOW,
};
use peer::Peer;
use review::Reviewer;
use session::{Sources, lifetime};
use streams::Streams;
use tls::{Configs, tenant_of};

type Body = BoxBody<Bytes, Infallible>;
type Answering = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// What the control API serves from.
pub(crate) struct Control<R> {
    /// The root of its leaves.
    pub(crate) anchor: Arc<Anchor>,
    /// CAs of the tenants.
    pub(crate) authorities: watch::Receiver<Authorities>,
    /// What is in force.
    pub(crate) served: watch::Receiver<Arc<Served>>,
    /// Assignments.
    pub(crate) board: Arc<Board>,
    /// What must not be reachable.
    pub(crate) canaries: watch::Receiver<Canaries>,
    /// Where acknowledgements go.
    pub(crate) acks: Arc<Acks>,
    /// Where halts go that gates ask for.
    pub(crate) halts: Halts,
    /// Signs policy.
    pub(crate) signer: Signer,
    /// The labels of namespaces.
    pub(crate) world: Arc<World>,
    /// Who is asked about tokens.
    pub(crate) reviewer: R,
    /// Issuer of the cluster's tokens, when it is known.
    pub(crate) issuer: watch::Receiver<Option<String>>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
}

/// A [`Control`] at work.
struct Server<R> {
    control: Control<R>,
    gates: Gates,
    configs: Configs,
    turnstile: Turnstile,
    streams: Arc<Streams>,
}

/// One connection.
struct Connection<R> {
    server: Arc<Server<R>>,
    tenant: String,
    certificate: Option<CertificateDer<'static>>,
    open: AtomicUsize,
}

/// Serves until it is dropped.
pub(crate) async fn serve<R: Reviewer>(listener: TcpListener, control: Control<R>) {
    let (gates, configs, turnstile, streams) =
        (Gates::default(), Configs::default(), Turnstile::default(), Arc::default());
    let server = Arc::new(Server { control, gates, configs, turnstile, streams });
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                // Out of descriptors, say: the next one may succeed, but not at once.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let server = server.clone();
        tokio::spawn(async move {
            let _permit = permit;
            server.control.metrics.connections.inc();
            if let Err(error) = connection(&server, tcp).await {
                tracing::debug!("a connection ended: {error}");
            }
            server.control.metrics.connections.dec();
        });
    }
}

async fn connection<R: Reviewer>(server: &Arc<Server<R>>, tcp: TcpStream) -> Result<(), String> {
    tcp.set_nodelay(true).map_err(|error| error.to_string())?;
    // Ten thousand of these futures stand for half an hour: what was needed for the handshake is not kept.
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, Box::pin(handshake(server, tcp))).await;
    let (at_work, _held, http) = {
        let Handshake { tenant, tls, gate } = handshake.map_err(|_| "the handshake took too long")??;
        let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.map(|der| der.clone().into_owned());
        let unproven = match certificate {
            Some(_) => None,
            None => Some(
                gate.unproven
                    .clone()
                    .try_acquire_owned()
                    .map_err(|_| "too many connections of the tenant have no certificate")?,
            ),
        };
        let connection = Connection { server: server.clone(), tenant, certificate, open: AtomicUsize::new(0) };
        let connection = Arc::new(connection);
        (connection.clone(), (gate, unproven), http(connection, tls))
    };
    let mut http = std::pin::pin!(http);
    loop {
        tokio::select! {
            ended = http.as_mut() => return ended.map_err(|error| error.to_string()),
            () = tokio::time::sleep(IDLE) => {
                if at_work.open.load(Ordering::Acquire) == 0 {
                    http.as_mut().graceful_shutdown();
                    let ended = tokio::time::timeout(BODY_TIMEOUT, http.as_mut()).await;
                    return ended.map_err(|_| "idle")?.map_err(|error| error.to_string());
                }
            }
        }
    }
}

/// Speaks HTTP on a connection. The work on a request is boxed: the task of a stream that was answered lives as long
/// as the stream, and must not be as large as the work on a request for a certificate.
fn http<R: Reviewer>(
    connection: Arc<Connection<R>>,
    tls: TlsStream<TcpStream>,
) -> http2::Connection<
    TokioIo<TlsStream<TcpStream>>,
    impl HttpService<Incoming, ResBody = Body, Error = Infallible, Future = Answering>,
    TokioExecutor,
> {
    let service = service_fn(move |request| -> Answering {
        let connection = connection.clone();
        Box::pin(async move { Ok(connection.answer(request).await) })
    });
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(REQUESTS)
        .max_header_list_size(HEADERS)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .serve_connection(TokioIo::new(tls), service)
}

/// A connection after its handshake.
struct Handshake {
    tenant: String,
    tls: TlsStream<TcpStream>,
    gate: Arc<Gate>,
}

async fn handshake<R>(server: &Server<R>, tcp: TcpStream) -> Result<Handshake, String> {
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), tcp);
    let start = start.await.map_err(|error| error.to_string())?;
    let hello = start.client_hello();
    let tenant = hello.server_name().and_then(tenant_of).ok_or("the server name is no tenant's")?.to_owned();
    let Control { anchor, authorities, served, .. } = &server.control;
    if served.borrow().compilation.tenant(&tenant).is_none() {
        return Err(format!("tenant {tenant} is not served"));
    }
    let ca = authorities.borrow().get(&tenant).cloned().ok_or_else(|| format!("tenant {tenant} has no CA yet"))?;
    let config = server.configs.of(&tenant, anchor, &ca).map_err(|error| error.to_string())?;
    let gate = server.gates.of(&tenant);
    let turn = gate.handshakes.acquire().await.map_err(|error| error.to_string())?;
    let tls = start.into_stream(config).await.map_err(|error| error.to_string())?;
    drop(turn);
    Ok(Handshake { tenant, tls, gate })
}

impl<R: Reviewer> Connection<R> {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        self.open.fetch_add(1, Ordering::AcqRel);
        let guard = Working(self.clone());
        match (request.method(), request.uri().path()) {
            (&Method::POST, CERTIFICATES) => self.certificate(request).await,
            (&Method::POST, STREAM) => self.clone().stream(request, guard).await,
            _ => problem(StatusCode::NOT_FOUND, "NotFound", format!("POST {CERTIFICATES} or {STREAM}")),
        }
    }

    async fn certificate(&self, request: Request<Incoming>) -> Response<Body> {
        let Control { authorities, served, signer, world, reviewer, issuer, metrics, .. } = &self.server.control;
        let body = Limited::new(request.into_body(), MAX_CERTIFICATE_REQUEST).collect();
        let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            _ => return refuse(&Refusal::request("the body is too large, or did not arrive in time"), metrics),
        };
        let served = served.borrow().clone();
        let ca = authorities.borrow().get(&self.tenant).cloned();
        let (Some(tenant), Some(ca)) = (served.compilation.tenant(&self.tenant), ca) else {
            return refuse(&Refusal::unavailable("the tenant is not served now; try again"), metrics);
        };
        let issuer = issuer.borrow().clone();
        let labelled = |namespace: &str| world.labelled_tenant(namespace);
        let desk =
            Desk { tenant, labelled: &labelled, ca: &ca, policy_key: signer.public(), issuer: issuer.as_deref() };
        match enrol::enrol(&desk, reviewer, &self.server.turnstile, &body).await {
            Ok(answer) => {
                metrics.enrolled(Enrolled::Issued);
                json(StatusCode::OK, &answer)
            }
            Err(refusal) => refuse(&refusal, metrics),
        }
    }

    async fn stream(self: Arc<Self>, request: Request<Incoming>, guard: Working<R>) -> Response<Body> {
        let peer = match self.peer() {
            Ok(peer) => peer,
            Err(reason) => return problem(StatusCode::FORBIDDEN, "NoIdentity", reason),
        };
        let Control { authorities, board, canaries, acks, halts, signer, metrics, .. } = &self.server.control;
        let known = board.known(&self.tenant, &peer.uid, peer.role);
        if tokio::time::timeout(KNOWN_TIMEOUT, known).await.is_err() {
            return problem(StatusCode::FORBIDDEN, "NoPod", "the certificate's pod is not there, or has no sidecar");
        }
        let sources = Sources {
            tenant: self.tenant.clone(),
            board: board.clone(),
            authorities: authorities.clone(),
            canaries: canaries.clone(),
            policy_key: signer.public().to_vec(),
            acks: acks.stream(&self.tenant, &peer.uid),
            halts: halts.clone(),
            peer,
        };
        let (out, lines) = mpsc::channel::<Bytes>(QUEUE);
        let (open, replaced) = self.server.streams.open(&sources.peer.uid);
        let age = lifetime(sources.peer.not_after_ms);
        let inbound = BodyStream::new(request.into_body()).filter_map(|frame| async {
            match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(error) => Some(Err(error)),
            }
        });
        let (metrics, tenant) = (metrics.clone(), self.tenant.clone());
        metrics.streams.inc();
        tokio::spawn(async move {
            let (_guard, _open) = (guard, open);
            let uid = sources.peer.uid.clone();
            let session = Box::pin(session::run(sources, inbound, out, age));
            let end = tokio::select! {
                end = session => end,
                Ok(()) = replaced => session::End::Replaced,
            };
            metrics.streams.dec();
            tracing::debug!(tenant, uid, "a stream ended: {end}");
        });
        let frames = futures_util::stream::unfold(lines, |mut lines| async {
            lines.recv().await.map(|line| (Ok::<_, Infallible>(Frame::data(line)), lines))
        });
        let mut response = Response::new(BoxBody::new(StreamBody::new(frames)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        response
    }

    /// Who is at the other end. Looked at anew for each stream: the tenant may have changed.
    fn peer(&self) -> Result<Peer, &'static str> {
        let certificate = self.certificate.as_ref().ok_or("a stream needs a client certificate")?;
        let served = self.server.control.served.borrow().clone();
        let tenant = served.compilation.tenant(&self.tenant).ok_or("the tenant is not served")?;
        let peer = peer::peer(certificate, tenant)?;
        if peer.not_after_ms <= crate::clock::now_ms() { Err("the certificate has ended") } else { Ok(peer) }
    }
}

/// Counts what a connection is busy with.
struct Working<R>(Arc<Connection<R>>);

impl<R> Drop for Working<R> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

fn refuse(refusal: &Refusal, metrics: &Metrics) -> Response<Body> {
    metrics.enrolled(refusal.counted);
    json(refusal.status, &refusal.problem)
}

fn problem(status: StatusCode, code: &str, detail: impl Into<String>) -> Response<Body> {
    json(status, &Problem { code: code.to_owned(), detail: detail.into() })
}

fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(BoxBody::new(Full::new(Bytes::from(body))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
