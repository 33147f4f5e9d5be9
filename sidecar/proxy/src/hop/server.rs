//! The gateway's end of the hop: who is it, and what does it want.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawlock_policy::SpiffeId;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::body::GateBody;
use crate::drain::Watcher;
use crate::limits::{
    CONNECTION_WINDOW, DRAIN_TIMEOUT, HANDSHAKE_TIMEOUT, HEADERS, HOP_CONNECTIONS, HOP_CONNECTIONS_OF_ONE,
    PENDING_RESETS, STREAM_WINDOW, STREAMS,
};
use crate::listen::accept;
use crate::metrics::Metrics;
use crate::tls::{peer_identity, peer_lifetime};

/// How many connections each sidecar has open, so that one cannot take the places of all.
#[derive(Clone, Default)]
struct Open(Arc<Mutex<HashMap<SpiffeId, usize>>>);

/// One of them; counted until it is dropped.
struct One(Open, SpiffeId);

impl Open {
    fn lock(&self) -> MutexGuard<'_, HashMap<SpiffeId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn one_more(&self, identity: &SpiffeId) -> Option<One> {
        let mut open = self.lock();
        let count = open.entry(identity.clone()).or_default();
        (*count < HOP_CONNECTIONS_OF_ONE).then(|| {
            *count += 1;
            One(self.clone(), identity.clone())
        })
    }
}

impl Drop for One {
    fn drop(&mut self) {
        let mut open = self.0.lock();
        if let Entry::Occupied(mut entry) = open.entry(self.1.clone()) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// Serves the hop until the drain begins: every request comes with its caller's proven identity.
pub async fn serve<H, F>(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    metrics: Arc<Metrics>,
    drain: Watcher,
    handle: H,
) where
    H: Fn(SpiffeId, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<GateBody>> + Send + 'static,
{
    let acceptor = TlsAcceptor::from(tls);
    let open = Open::default();
    accept(listener, HOP_CONNECTIONS, metrics, drain, move |tcp, drain| {
        connection(acceptor.clone(), tcp, drain, open.clone(), handle.clone())
    })
    .await;
}

async fn connection<H, F>(acceptor: TlsAcceptor, tcp: TcpStream, mut drain: Watcher, open: Open, handle: H)
where
    H: Fn(SpiffeId, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<GateBody>> + Send + 'static,
{
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::warn!(%error, "hop handshake refused"),
        Err(_) => return tracing::warn!("hop handshake took too long"),
    };
    let identity = match caller(&stream) {
        Ok(identity) => identity,
        Err(error) => return tracing::warn!(%error, "hop client refused"),
    };
    let Some(_one) = open.one_more(&identity) else {
        return tracing::warn!(%identity, "hop client refused: it has too many connections");
    };
    let lifetime = peer_lifetime(stream.get_ref().1.peer_certificates());
    let service = service_fn(move |request| {
        let response = handle(identity.clone(), request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(HEADERS).unwrap_or(u32::MAX))
        .keep_alive_interval(std::time::Duration::from_secs(30))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        // A connection must not carry an identity past its certificate's end.
        () = tokio::time::sleep(lifetime) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN_TIMEOUT, connection).await {
                Ok(ended) => ended,
                Err(_) => return tracing::info!("hop connection cut: its client's certificate has ended"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "hop connection ended");
    }
}

fn caller(stream: &TlsStream<TcpStream>) -> Result<SpiffeId, crate::tls::TlsError> {
    peer_identity(stream.get_ref().1.peer_certificates())
}
