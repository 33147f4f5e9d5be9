//! The gateway's end of the hop: who is it, and what does it want.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawlock_policy::SpiffeId;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

use super::front::{Front, Greeted};
use crate::body::GateBody;
use crate::drain::Watcher;
use crate::limits::{
    CONNECTION_WINDOW, DRAIN_TIMEOUT, HEADERS, HOP_CONNECTIONS, HOP_CONNECTIONS_OF_ONE, PENDING_RESETS, STREAM_WINDOW,
    STREAMS,
};
use crate::listen::accept;
use crate::metrics::{Metrics, Refusal};
use crate::policies::PolicyTable;
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

/// What connections share.
#[derive(Clone)]
struct Shared {
    front: Front,
    policies: Arc<PolicyTable>,
    metrics: Arc<Metrics>,
    open: Open,
}

impl Shared {
    /// Says and counts that somebody came no further.
    fn refuse(&self, address: IpAddr, reason: Refusal, error: &dyn std::fmt::Display) {
        self.metrics.refused(reason);
        match reason {
            // Whoever comes too often must not fill the log as well.
            Refusal::source | Refusal::splice_source | Refusal::no_certificate => {
                tracing::debug!(%address, %error, "hop client refused");
            }
            _ => tracing::warn!(%address, %error, "hop client refused"),
        }
    }
}

/// Serves the hop until the drain begins: every request comes with its caller's proven identity.
pub async fn serve<H, F>(
    listener: TcpListener,
    front: Front,
    policies: Arc<PolicyTable>,
    metrics: Arc<Metrics>,
    drain: Watcher,
    handle: H,
) where
    H: Fn(SpiffeId, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<GateBody>> + Send + 'static,
{
    let shared = Shared { front, policies, metrics: metrics.clone(), open: Open::default() };
    accept(listener, HOP_CONNECTIONS, metrics, drain, move |tcp, drain| {
        greet(shared.clone(), tcp, drain, handle.clone())
    })
    .await;
}

/// Lets in whoever may come in, and serves them.
async fn greet<H, F>(shared: Shared, tcp: TcpStream, drain: Watcher, handle: H)
where
    H: Fn(SpiffeId, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<GateBody>> + Send + 'static,
{
    let address = match tcp.peer_addr() {
        Ok(address) => address.ip(),
        Err(error) => return tracing::debug!(%error, "hop client gone"),
    };
    let seat = match shared.front.knock(address) {
        Ok(seat) => seat,
        Err(error) => return shared.refuse(address, error.reason(), &error),
    };
    let greeted = Box::pin(shared.front.greet(tcp)).await;
    drop(seat);
    match greeted {
        Ok(Greeted::Hop(stream)) => connection(shared, *stream, address, drain, handle).await,
        Ok(Greeted::Control(tcp, first)) => Box::pin(splice(&shared, tcp, &first, address, drain)).await,
        Err(error) => shared.refuse(address, error.reason(), &error),
    }
}

/// Passes a connection on to the control API. It does not outlive the drain: whoever it serves resumes its
/// stream through another gateway.
async fn splice(shared: &Shared, tcp: TcpStream, first: &[u8], address: IpAddr, mut drain: Watcher) {
    let Some(splice) = shared.front.splice() else { return };
    let _seat = match splice.admit(address) {
        Ok(seat) => seat,
        Err(error) => return shared.refuse(address, Refusal::splice_source, &error),
    };
    let ended = tokio::select! {
        ended = splice.carry(tcp, first, address, &shared.metrics) => ended,
        () = drain.begun() => Ok(()),
    };
    let Err(error) = ended else { return };
    match error.reason() {
        Some(reason) => shared.refuse(address, reason, &error),
        None => tracing::debug!(%address, %error, "connection to the control API ended"),
    }
}

async fn connection<H, F>(shared: Shared, stream: TlsStream<TcpStream>, address: IpAddr, mut drain: Watcher, handle: H)
where
    H: Fn(SpiffeId, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<GateBody>> + Send + 'static,
{
    let identity = match caller(&stream) {
        Ok(identity) => identity,
        Err(error) => return shared.refuse(address, Refusal::identity, &error),
    };
    let Some(_one) = shared.open.one_more(&identity) else {
        return shared.refuse(address, Refusal::identity, &format_args!("{identity} has too many connections"));
    };
    let lifetime = peer_lifetime(stream.get_ref().1.peer_certificates());
    let caller = identity.clone();
    let service = service_fn(move |request| {
        let response = handle(caller.clone(), request);
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
    let serve = async {
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = drain.begun() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            // A connection must not carry an identity past its certificate's end.
            () = tokio::time::sleep(lifetime) => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(DRAIN_TIMEOUT, connection).await.unwrap_or_else(|_| {
                    tracing::info!("hop connection cut: its client's certificate has ended");
                    Ok(())
                })
            }
        }
    };
    let ended = tokio::select! {
        ended = serve => ended,
        // Its pod is gone. Whoever still speaks for it is not it.
        () = shared.policies.gone(&identity) => {
            return shared.refuse(address, Refusal::removed, &format_args!("the pod of {identity} has ended"));
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "hop connection ended");
    }
}

fn caller(stream: &TlsStream<TcpStream>) -> Result<SpiffeId, crate::tls::TlsError> {
    peer_identity(stream.get_ref().1.peer_certificates())
}
