//! Vouchers: the gateway's word that the canaries of a sidecar would have been answered at that moment.
//!
//! A sidecar that hears nothing from a tripwire may be behind a network that drops, or the tripwire may be
//! down. The gateway may reach the tripwire; it tries at the moment of the question and says what it saw.
//! Asked over the hop, so by pods with a certificate only; one look serves all who ask at the same time.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::body::GateBody;
use crate::policies::PolicyTable;
use crate::probe::{self, Answer};

/// Path of a voucher, at the gateway's own name.
pub const PATH: &str = "/v1/voucher";

/// Largest voucher in bytes that a sidecar reads: some 100 bytes for each of its entries.
pub const MAX_VOUCHER: usize = 256 * 1024;

/// How long a voucher counts, from when it was asked for.
pub const FRESH: Duration = Duration::from_secs(30);

/// Looks per second at most, however many ask.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a tripwire or node may take to answer. Whoever is up answers within a round trip.
const BOUND: Duration = Duration::from_secs(1);

/// Tripwires, and nodes, that one look tries: enough for every sidecar to find one, and no scan of a large cluster.
const TRIED: usize = 64;

/// Questions at once.
const AT_ONCE: usize = 32;

/// Which ports answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The tripwire's, TCP and UDP.
    pub tripwire: u16,
    /// The kubelets'.
    pub node: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { tripwire: 53, node: 10_250 }
    }
}

/// What must not be reachable from an agent's pod, and is from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Addresses of the tripwire.
    pub tripwire: Vec<IpAddr>,
    /// Addresses of nodes.
    pub nodes: Vec<IpAddr>,
}

/// What the gateway saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Voucher {
    /// Tripwires.
    pub tripwire: Vec<Tripwire>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// When, in milliseconds since the Unix epoch.
    pub checked_ms: u64,
}

/// What it saw of a tripwire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tripwire {
    /// Its address.
    pub address: IpAddr,
    /// It accepted by TCP.
    pub tcp: bool,
    /// It answered by UDP.
    pub udp: bool,
}

/// What it saw of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// Its address.
    pub address: IpAddr,
    /// It accepted by TCP.
    pub tcp: bool,
}

/// Vouches.
pub struct Vouchers {
    /// The gateway's own name.
    name: String,
    ports: Ports,
    targets: ArcSwap<Targets>,
    policies: Arc<PolicyTable>,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    began: Option<Instant>,
    seen: Option<Arc<Voucher>>,
}

impl Vouchers {
    /// Vouches at the gateway's name `name`; the table lends its trusted time.
    #[must_use]
    pub fn new(name: String, ports: Ports, policies: Arc<PolicyTable>) -> Self {
        Self { name, ports, targets: ArcSwap::default(), policies, last: Mutex::default() }
    }

    /// What to try from now on.
    pub fn set_targets(&self, targets: Targets) {
        self.targets.store(Arc::new(targets));
    }

    /// Whether a request on the hop asks for a voucher.
    pub(crate) fn are_asked_by<B>(&self, request: &Request<B>) -> bool {
        request.method() == Method::GET
            && request.uri().path() == PATH
            && request.uri().authority().is_some_and(|authority| authority.as_str() == self.name)
    }

    /// Answers whoever asked.
    pub(crate) async fn answer(&self) -> Response<GateBody> {
        let voucher = self.voucher().await;
        match serde_json::to_vec(&*voucher) {
            Ok(bytes) => {
                let mut response = Response::new(GateBody::full(bytes));
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Err(_) => {
                let mut response = Response::new(GateBody::empty());
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            }
        }
    }

    /// Looks now, or answers what another look of this second saw.
    pub async fn voucher(&self) -> Arc<Voucher> {
        // Held while it looks: who comes meanwhile waits for the same answer.
        let mut last = self.last.lock().await;
        let soon = last.began.map(|began| began + PAUSE).filter(|soon| Instant::now() < *soon);
        if let Some(soon) = soon {
            if let Some(seen) = &last.seen {
                return seen.clone();
            }
            // Whoever asked last went away before it was answered.
            tokio::time::sleep_until(soon).await;
        }
        *last = Last { began: Some(Instant::now()), seen: None };
        let seen = Arc::new(self.look().await);
        last.seen = Some(seen.clone());
        seen
    }

    async fn look(&self) -> Voucher {
        let targets = self.targets.load_full();
        let Ports { tripwire, node } = self.ports;
        let checked_ms = self.policies.now_ms();
        let tripwires = first(&targets.tripwire).map(move |address| try_tripwire(address, tripwire));
        let nodes = first(&targets.nodes).map(move |address| try_node(address, node));
        let (tripwire, nodes) = tokio::join!(tripwires.buffered(AT_ONCE).collect(), nodes.buffered(AT_ONCE).collect());
        Voucher { tripwire, nodes, checked_ms }
    }
}

/// The addresses that one look tries. They are copied: a future that borrowed them could not move between threads.
fn first(addresses: &[IpAddr]) -> stream::Iter<std::vec::IntoIter<IpAddr>> {
    stream::iter(addresses.iter().copied().take(TRIED).collect::<Vec<_>>())
}

async fn try_tripwire(address: IpAddr, port: u16) -> Tripwire {
    let at = SocketAddr::new(address, port);
    let (tcp, udp) = tokio::join!(probe::tcp(at, BOUND), probe::udp(at, BOUND));
    Tripwire { address, tcp: tcp == Answer::Answered, udp: udp == Answer::Answered }
}

async fn try_node(address: IpAddr, port: u16) -> Node {
    let tcp = probe::tcp(SocketAddr::new(address, port), BOUND).await;
    Node { address, tcp: tcp == Answer::Answered }
}
