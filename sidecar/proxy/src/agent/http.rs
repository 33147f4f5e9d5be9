//! HTTP connections of the agent: the proxy listener, and what is inside a tunnel.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::uri::Scheme as UriScheme;
use http::{Method, Request, Response, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use clawlock_audit::ActionRecord;
use clawlock_audit::record::bounded;
use clawlock_policy::document::Scheme;
use clawlock_policy::{Code, Denial};

use super::AgentGate;
use crate::body::GateBody;
use crate::drain::Watcher;
use crate::gate::Refused;
use crate::limits::{
    CONNECTION_WINDOW, HEAD_TIMEOUT, HEADER_FIELDS, HEADERS, HTTP1_BUFFER, PENDING_RESETS, STREAM_WINDOW, STREAMS,
};
use crate::request::{Target, named};
use crate::{denial, problem};

/// Serves one connection of the proxy listener.
pub(super) async fn serve_proxy(gate: Arc<AgentGate>, tcp: TcpStream, drain: Watcher) {
    let service_drain = drain.clone();
    serve(tcp, drain, move |request| proxy(gate.clone(), request, service_drain.clone())).await;
}

/// Serves HTTP/1.1 or HTTP/2 on a stream until it ends or the drain begins.
pub(super) async fn serve<I, H, F>(stream: I, mut drain: Watcher, handle: H)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<GateBody>> + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADER_FIELDS)
        .max_buf_size(HTTP1_BUFFER)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(HEADERS).unwrap_or(u32::MAX))
        .keep_alive_interval(HEAD_TIMEOUT);
    // Until the first request no timer of the protocols runs: which of them it is was not said yet.
    let started = AtomicBool::new(false);
    let silent = async {
        tokio::time::sleep(HEAD_TIMEOUT).await;
        if started.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let place = drain.place().cloned();
    let service = service_fn(|mut request: Request<Incoming>| {
        started.store(true, Ordering::Relaxed);
        if let Some(place) = &place
            && request.headers().contains_key(header::UPGRADE)
        {
            request.extensions_mut().insert(place.clone());
        }
        // Boxed: a connection has room for its handler's future, and most connections are idle.
        let response = Box::pin(handle(request));
        async move { Ok::<_, Infallible>(response.await) }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = drain.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = silent => return tracing::debug!("an agent's connection was silent"),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "agent connection ended");
    }
}

/// One request of the proxy listener: CONNECT, or a URI in absolute form (RFC 9112 section 3.2).
async fn proxy(gate: Arc<AgentGate>, request: Request<Incoming>, drain: Watcher) -> Response<GateBody> {
    if *request.method() == Method::CONNECT {
        return gate.connect(request, drain).await;
    }
    match absolute(&request) {
        Ok(target) => gate.forward(&target, request).await,
        Err(denial) => {
            let action = ActionRecord::Http {
                upstream: None,
                operation: None,
                method: bounded(request.method().as_str()),
                target: named(request.uri()),
                path: bounded(request.uri().path()),
            };
            gate.refuse(Refused { denial, action }).await
        }
    }
}

fn absolute(request: &Request<Incoming>) -> Result<Target, Denial> {
    let uri = request.uri();
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        // A web page that rebinds its name to this port can only send this form.
        let detail = "this is a proxy: it takes CONNECT and absolute URIs".to_owned();
        return Err(denial::of(Code::BadRequest, detail));
    };
    if *scheme != UriScheme::HTTP {
        let detail = format!("a {} URI comes through CONNECT, not in clear", bounded(scheme.as_str()));
        return Err(denial::of(Code::BadRequest, detail));
    }
    Target::parse(Scheme::Http, authority)
}

impl AgentGate {
    /// Records a refusal of a request that has none of its own yet, and answers it.
    pub(super) async fn refuse(&self, refused: Refused) -> Response<GateBody> {
        let asking = self.decider.asking(self.identity.clone());
        let denial = self.decider.refuse(&asking, refused).await;
        problem::response(&denial, &asking.request_id)
    }
}
