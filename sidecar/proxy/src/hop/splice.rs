//! The way of the pods to the control API: bytes from and to it, unread, for exactly one server name.
//!
//! An agent's pod has no other route to the operator, and the gateway no part in what is said: TLS is between
//! the pod and the control API. What is bounded is how much each address makes of it.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::sources::{Bounds, Bucket, Refused, Seat, Sources};
use crate::limits::{
    HOP_CONNECT_TIMEOUT, SOURCES, SPLICE_BURST, SPLICE_BYTES_PER_SECOND, SPLICE_IDLE, SPLICE_LIFETIME, SPLICES_AT_ONCE,
    SPLICES_PER_MINUTE, TUNNEL_BUFFER,
};
use crate::metrics::{Metrics, Refusal};

/// Future of [`Onward::dial`].
pub type Dialling<'a> = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send + 'a>>;

/// Connects where spliced bytes go.
pub trait Onward: Send + Sync {
    /// Connects once; the caller bounds the time.
    fn dial(&self) -> Dialling<'_>;
}

/// Splices connections for one server name.
pub struct Splice {
    name: String,
    onward: Arc<dyn Onward>,
    sources: Sources,
    paces: Mutex<HashMap<IpAddr, Arc<Pace>>>,
}

/// Why a splice ended before both sides were done.
#[derive(Debug, thiserror::Error)]
pub enum SpliceError {
    /// The address makes too much of it.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// The control API cannot be reached.
    #[error("the control API cannot be reached: {0}")]
    Onward(io::Error),
    /// The control API took too long.
    #[error("the control API did not accept a connection in time")]
    Timeout,
    /// It broke off.
    #[error("it broke off: {0}")]
    Io(#[from] io::Error),
    /// Nothing moved for [`SPLICE_IDLE`].
    #[error("it was silent for too long")]
    Idle,
    /// It was there for [`SPLICE_LIFETIME`].
    #[error("it lasted for too long")]
    Lifetime,
}

impl SpliceError {
    /// For the counters; `None` for what a peer may do.
    pub(super) fn reason(&self) -> Option<Refusal> {
        match self {
            Self::Refused(_) => Some(Refusal::splice_source),
            Self::Onward(_) | Self::Timeout => Some(Refusal::splice_onward),
            Self::Idle | Self::Lifetime => Some(Refusal::splice_time),
            Self::Io(_) => None,
        }
    }
}

/// How fast one address may go, over all of its connections.
struct Pace(Mutex<Bucket>);

impl Pace {
    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pay(&self, bytes: usize) {
        let amount = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        let wait = self.bucket().borrow(amount, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

impl Splice {
    /// Splices what asks for `name`.
    #[must_use]
    pub fn new(name: String, onward: Arc<dyn Onward>) -> Self {
        let bounds = Bounds { at_once: SPLICES_AT_ONCE, per_minute: SPLICES_PER_MINUTE };
        Self { name, onward, sources: Sources::new(bounds), paces: Mutex::default() }
    }

    /// The server name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn pace(&self, address: IpAddr) -> Arc<Pace> {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if paces.len() >= SOURCES && !paces.contains_key(&address) {
            // Who owes nothing need not be remembered. Whoever is left over then has a connection, or had one within
            // seconds, and of those there are fewer than addresses that are counted.
            paces.retain(|_, pace| Arc::strong_count(pace) > 1 || !pace.bucket().is_full(now));
        }
        let (rate, burst) = (f64::from(SPLICE_BYTES_PER_SECOND), f64::from(SPLICE_BURST));
        paces.entry(address).or_insert_with(|| Arc::new(Pace(Mutex::new(Bucket::new(rate, burst, now))))).clone()
    }

    /// A place for an address.
    pub(super) fn admit(&self, address: IpAddr) -> Result<Seat, SpliceError> {
        Ok(self.sources.admit(address)?)
    }

    /// Carries bytes both ways until both sides are done. `first` was read already.
    pub(super) async fn carry(
        &self,
        client: TcpStream,
        first: &[u8],
        address: IpAddr,
        metrics: &Metrics,
    ) -> Result<(), SpliceError> {
        let dialled = tokio::time::timeout(HOP_CONNECT_TIMEOUT, self.onward.dial()).await;
        let mut server = dialled.map_err(|_| SpliceError::Timeout)?.map_err(SpliceError::Onward)?;
        server.set_nodelay(true)?;
        server.write_all(first).await?;
        let pace = self.pace(address.to_canonical());
        let moved = Moved { at: Mutex::new(tokio::time::Instant::now()), metrics };
        let (client_in, client_out) = client.into_split();
        let (server_in, server_out) = server.into_split();
        let there = one_way(client_in, server_out, &pace, &moved);
        let back = one_way(server_in, client_out, &pace, &moved);
        metrics.spliced.inc();
        let ended = tokio::select! {
            ended = async { tokio::try_join!(there, back) } => ended.map(|_| ()).map_err(SpliceError::Io),
            () = moved.silence() => Err(SpliceError::Idle),
            () = tokio::time::sleep(SPLICE_LIFETIME) => Err(SpliceError::Lifetime),
        };
        metrics.spliced.dec();
        ended
    }
}

/// When bytes last moved, and how many.
struct Moved<'a> {
    at: Mutex<tokio::time::Instant>,
    metrics: &'a Metrics,
}

impl Moved<'_> {
    fn lock(&self) -> MutexGuard<'_, tokio::time::Instant> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, bytes: usize) {
        *self.lock() = tokio::time::Instant::now();
        self.metrics.spliced_bytes.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    async fn silence(&self) {
        loop {
            let until = *self.lock() + SPLICE_IDLE;
            if until <= tokio::time::Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    pace: &Pace,
    moved: &Moved<'_>,
) -> io::Result<()> {
    let mut buffer = vec![0; TUNNEL_BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        moved.note(read);
        pace.pay(read).await;
        to.write_all(&buffer[..read]).await?;
    }
}
