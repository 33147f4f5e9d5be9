//! HTTPS for the API server: bounded in connections, time and bytes, because the port is open to the cluster.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::metrics::{Hook, Metrics, Outcome};
use super::mutate::mutate;
use super::review::{Answer, BadReview, Request as Review, Sort, Verdict};
use super::tenants::Tenants;
use super::validate::{Written, validate};

/// Connections at once. An API server keeps a few; a cluster has some API servers.
const CONNECTIONS: usize = 512;
/// Of them, from one address: so that one pod that opens them all leaves room for the API server.
const CONNECTIONS_PER_PEER: usize = 64;
/// Requests at once on a connection.
const STREAMS: u32 = 100;
/// Bytes of a request's head. The API server's are some hundreds.
const HEAD: u32 = 16 * 1024;
/// Longest wait for a TLS handshake, for the head of a request, and for the first request on a connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a body and for room to read it: shorter than the API server's patience by default.
const BODY_TIMEOUT: Duration = Duration::from_secs(4);
/// Longest life of a connection: a peer that only holds it gives up its place.
const CONNECTION_AGE: Duration = Duration::from_secs(600);
/// How often a silent HTTP/2 connection is asked for a sign of life, and how long it has to give one.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// Bytes of a review: the object and its predecessor, of which etcd holds at most 1.5 MiB each, and the envelope.
const MAX_BODY: usize = 3 * 1024 * 1024 + 64 * 1024;
/// Bytes of all reviews that are read at once. As a tree they take up to ten times as much.
const BODY_BUDGET: usize = 16 * 1024 * 1024;
/// The unit in which the budget is given out.
const BUDGET_UNIT: usize = 1024;
/// After the end was asked for: how long new connections are still taken (the API server learns of it a moment
/// later), and how long open ones have to finish.
pub(super) const LINGER: Duration = Duration::from_secs(5);
const DRAIN: Duration = Duration::from_secs(15);

/// Answers reviews.
pub(super) struct App {
    /// The tenants now; `None` before they were read.
    tenants: watch::Receiver<Option<Arc<Tenants>>>,
    metrics: Arc<Metrics>,
    budget: Semaphore,
}

impl App {
    /// Answers with what holds at that moment.
    pub(super) fn new(tenants: watch::Receiver<Option<Arc<Tenants>>>, metrics: Arc<Metrics>) -> Self {
        Self { tenants, metrics, budget: Semaphore::new(BODY_BUDGET / BUDGET_UNIT) }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(hook) = route(request.uri().path()) else {
            return text(StatusCode::NOT_FOUND, "here are /mutate/pods and /validate/KIND");
        };
        let outcome = self.review(hook, request).await;
        outcome.unwrap_or_else(|(status, reason)| {
            self.metrics.answered(hook, Outcome::Malformed, Duration::ZERO);
            text(status, &reason)
        })
    }

    async fn review(&self, hook: Hook, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Refused> {
        if request.method() != Method::POST {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "only POST".to_owned()));
        }
        if !is_json(request.headers().get(CONTENT_TYPE)) {
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "only application/json".to_owned()));
        }
        let late = || (StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time".to_owned());
        let body = timeout(BODY_TIMEOUT, self.read(request)).await.map_err(|_| late())??;
        let started = Instant::now();
        let Some(tenants) = self.tenants.borrow().clone() else {
            return Err((StatusCode::SERVICE_UNAVAILABLE, "not ready: the tenants were not read yet".to_owned()));
        };
        let (uid, answer) = match Review::parse(&body) {
            Ok(review) => {
                let answer = decide(hook, &review, &tenants);
                (review.uid, answer.ok_or((StatusCode::BAD_REQUEST, NOT_ASKED.to_owned()))?)
            }
            // The API server passes on an answer, and would only say of an error that there was one.
            Err(BadReview::Object { uid, reason }) => (uid, Answer::denied(Sort::Invalid, reason)),
            Err(error) => return Err((StatusCode::BAD_REQUEST, error.to_string())),
        };
        let rendered = answer.render(&uid);
        self.metrics.answered(hook, outcome(&answer), started.elapsed());
        let mut response = Response::new(Full::new(Bytes::from(rendered)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    /// The whole body, once there is room for it.
    async fn read(&self, request: Request<Incoming>) -> Result<Bytes, Refused> {
        let too_long = || (StatusCode::PAYLOAD_TOO_LARGE, format!("more than {MAX_BODY} bytes"));
        let length = match request.headers().get(CONTENT_LENGTH) {
            None => MAX_BODY,
            Some(length) => {
                let length = length.to_str().ok().and_then(|length| length.parse::<usize>().ok());
                length.ok_or_else(|| (StatusCode::BAD_REQUEST, "the content-length is no number".to_owned()))?
            }
        };
        if length > MAX_BODY {
            return Err(too_long());
        }
        let permits = u32::try_from(length / BUDGET_UNIT + 1).map_err(|_| too_long())?;
        let _room = self.budget.acquire_many(permits).await.map_err(|_| too_long())?;
        match Limited::new(request.into_body(), length).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(too_long()),
            Err(error) => Err((StatusCode::BAD_REQUEST, format!("the body broke off: {error}"))),
        }
    }
}

type Refused = (StatusCode, String);

/// Of a review that is about something else.
const NOT_ASKED: &str = "this is not asked here; mend the rules of the webhook configuration";

fn route(path: &str) -> Option<Hook> {
    Some(match path {
        "/mutate/pods" => Hook::Pods,
        "/validate/agentpolicies" => Hook::AgentPolicies,
        "/validate/tenantgateways" => Hook::TenantGateways,
        "/validate/upstreams" => Hook::Upstreams,
        "/validate/agenthalts" => Hook::AgentHalts,
        _ => return None,
    })
}

fn decide(hook: Hook, review: &Review, tenants: &Tenants) -> Option<Answer> {
    match hook {
        Hook::Pods => mutate(review, tenants),
        Hook::AgentPolicies => validate(Written::AgentPolicy, review, tenants),
        Hook::TenantGateways => validate(Written::TenantGateway, review, tenants),
        Hook::Upstreams => validate(Written::Upstream, review, tenants),
        Hook::AgentHalts => validate(Written::AgentHalt, review, tenants),
    }
}

fn outcome(answer: &Answer) -> Outcome {
    match &answer.verdict {
        Verdict::Patched(patch) if !patch.is_empty() => Outcome::Patched,
        Verdict::Allowed | Verdict::Patched(_) => Outcome::Allowed,
        Verdict::Denied(_) => Outcome::Denied,
    }
}

fn is_json(kind: Option<&HeaderValue>) -> bool {
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn text(status: StatusCode, reason: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("clawlock-webhook: {reason}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Serves until `stop` completes, which it should do some time ([`LINGER`]) after the end was asked for; then drains.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    app: Arc<App>,
    stop: impl Future<Output = ()>,
) {
    let (ending, ended) = watch::channel(false);
    // Each connection holds a sender; the receiver hears when the last is gone.
    let (alive, mut gone) = mpsc::channel::<Infallible>(1);
    let accepting = accept(listener, TlsAcceptor::from(tls), app, ended, alive);
    tokio::select! {
        () = accepting => return,
        () = stop => {}
    }
    ending.send_replace(true);
    if timeout(DRAIN, gone.recv()).await.is_err() {
        tracing::warn!("connections that were still open were cut");
    }
}

async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    app: Arc<App>,
    ended: watch::Receiver<bool>,
    alive: mpsc::Sender<Infallible>,
) {
    let places = Places::default();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let (tcp, peer) = match listener.accept().await {
            Ok((tcp, peer)) => (tcp, peer.ip()),
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = places.take(peer) else {
            tracing::debug!(%peer, "too many connections from one address");
            continue;
        };
        let (tls, app, ended, alive) = (tls.clone(), app.clone(), ended.clone(), alive.clone());
        tokio::spawn(async move {
            app.metrics.connections.inc();
            connection(tcp, tls, app.clone(), ended).await;
            app.metrics.connections.dec();
            drop((permit, place, alive));
        });
    }
}

async fn connection(tcp: TcpStream, tls: TlsAcceptor, app: Arc<App>, mut ended: watch::Receiver<bool>) {
    let _ = tcp.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, tls.accept(tcp)).await else { return };
    let first = Arc::new(Notify::new());
    let asked = first.clone();
    let service = service_fn(move |request| {
        asked.notify_one();
        let app = app.clone();
        async move { Ok::<_, Infallible>(app.answer(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let (interval, patience) = KEEP_ALIVE;
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD)
        .keep_alive_interval(interval)
        .keep_alive_timeout(patience);
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = served.as_mut() => return,
        heard = timeout(HEAD_TIMEOUT, first.notified()) => if heard.is_err() { return },
    }
    tokio::select! {
        _ = served.as_mut() => return,
        _ = ended.wait_for(|ended| *ended) => {}
        () = tokio::time::sleep(CONNECTION_AGE) => {}
    }
    served.as_mut().graceful_shutdown();
    // An error is the peer's: it went away.
    let _ = timeout(DRAIN, served).await;
}

/// How many connections each address has.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them; given back when it is dropped.
struct Place {
    places: Places,
    peer: IpAddr,
}

impl Places {
    fn take(&self, peer: IpAddr) -> Option<Place> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(peer).or_default();
        if *count >= CONNECTIONS_PER_PEER {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests;
