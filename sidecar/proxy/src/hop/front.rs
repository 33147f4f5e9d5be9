//! The door of the hop's listener: who may try, which server is asked for, and by which certificates.
//!
//! A connection either becomes the hop's, by mutual TLS with the configuration of the moment, or is spliced
//! to the control API. The configuration can be replaced while connections live: those that are there keep
//! theirs until their client's certificate ends, new ones get the new one.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{StartHandshake, TlsAcceptor};

use super::hello::{self, HelloError};
use super::sources::{Bounds, Refused, Seat, Sources};
use super::splice::Splice;
use crate::limits::{HANDSHAKE_TIMEOUT, HANDSHAKES_AT_ONCE, HANDSHAKES_PER_MINUTE};
use crate::metrics::Refusal;

/// The door.
#[derive(Clone)]
pub struct Front(Arc<Inner>);

struct Inner {
    tls: ArcSwapOption<ServerConfig>,
    splice: Option<Splice>,
    handshakes: Option<Sources>,
}

/// Who has come in.
pub(super) enum Greeted {
    /// A client with a certificate.
    Hop(Box<TlsStream<TcpStream>>),
    /// Somebody for the control API, and what was read of it.
    Control(TcpStream, Vec<u8>),
}

/// Why nobody has come in.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrontError {
    #[error("{0}")]
    Source(#[from] Refused),
    #[error("{0}")]
    Hello(#[from] HelloError),
    #[error("the handshake failed: {0}")]
    Handshake(std::io::Error),
    #[error("the handshake took too long")]
    Timeout,
    #[error("there is no certificate for the hop yet")]
    Closed,
}

impl FrontError {
    /// For the counters.
    pub(super) fn reason(&self) -> Refusal {
        match self {
            Self::Source(_) => Refusal::source,
            Self::Hello(_) => Refusal::hello,
            Self::Handshake(_) => Refusal::handshake,
            Self::Timeout => Refusal::timeout,
            Self::Closed => Refusal::no_certificate,
        }
    }
}

impl From<Arc<ServerConfig>> for Front {
    /// A door with one configuration, nothing to splice, and no bounds by address: for one that only
    /// programs of the same machine reach.
    fn from(tls: Arc<ServerConfig>) -> Self {
        Self(Arc::new(Inner { tls: ArcSwapOption::new(Some(tls)), splice: None, handshakes: None }))
    }
}

impl Front {
    /// A gateway's door: connections for the control API are spliced, each address has its bounds, and the
    /// hop is refused until there is a certificate for it.
    #[must_use]
    pub fn of_gateway(splice: Splice) -> Self {
        let bounds = Bounds { at_once: HANDSHAKES_AT_ONCE, per_minute: HANDSHAKES_PER_MINUTE };
        let handshakes = Some(Sources::new(bounds));
        Self(Arc::new(Inner { tls: ArcSwapOption::empty(), splice: Some(splice), handshakes }))
    }

    /// The hop's certificates and roots from now on.
    pub fn set_tls(&self, tls: Arc<ServerConfig>) {
        self.0.tls.store(Some(tls));
    }

    /// What connections for the control API are spliced by.
    pub(super) fn splice(&self) -> Option<&Splice> {
        self.0.splice.as_ref()
    }

    /// Lets an address try, if it may.
    pub(super) fn knock(&self, address: IpAddr) -> Result<Option<Seat>, FrontError> {
        Ok(self.0.handshakes.as_ref().map(|sources| sources.admit(address)).transpose()?)
    }

    /// Handshakes with whoever knocked, within [`HANDSHAKE_TIMEOUT`].
    pub(super) async fn greet(&self, tcp: TcpStream) -> Result<Greeted, FrontError> {
        tokio::time::timeout(HANDSHAKE_TIMEOUT, self.handshake(tcp)).await.map_err(|_| FrontError::Timeout)?
    }

    async fn handshake(&self, mut tcp: TcpStream) -> Result<Greeted, FrontError> {
        let Some(splice) = self.splice() else {
            let accepted = TlsAcceptor::from(self.tls()?).accept(tcp).await;
            return accepted.map(|stream| Greeted::Hop(Box::new(stream))).map_err(FrontError::Handshake);
        };
        let hello = hello::read(&mut tcp).await?;
        if hello.asks_for(splice.name()) {
            return Ok(Greeted::Control(tcp, hello.bytes));
        }
        let accepted = StartHandshake::from_parts(hello.accepted, tcp).into_stream(self.tls()?).await;
        accepted.map(|stream| Greeted::Hop(Box::new(stream))).map_err(FrontError::Handshake)
    }

    fn tls(&self) -> Result<Arc<ServerConfig>, FrontError> {
        self.0.tls.load_full().ok_or(FrontError::Closed)
    }
}
