//! The first gate: the sidecar's, beside the agent. It offers an HTTP proxy and its own API (`/v1/decide` and the
//! guard plugin's reports), and its only way on is the hop to the tenant's gateway.

mod api;
mod connect;
mod crosscheck;
mod decide_api;
mod forward;
mod heartbeat;
mod http;
mod outcome;
mod peek;
mod replay;

use std::io;
use std::path::Path;
use std::sync::Arc;

use clawlock_audit::{AuditSink, Gate};
use clawlock_policy::SpiffeId;
use tokio::net::{TcpListener, UnixListener};

use crate::drain::Watcher;
use crate::gate::Decider;
use crate::hop::HopClient;
use crate::intercept::InterceptionCa;
use crate::metrics::Metrics;
use crate::policies::PolicyTable;
use crate::{admin, latch, limits, listen};

pub use api::API_VERSION;
pub use decide_api::{DecideAnswer, DecideRequest, Decision};
pub use heartbeat::PluginState;

/// A sidecar's gate.
pub struct AgentGate {
    identity: SpiffeId,
    decider: Decider,
    hop: Arc<HopClient>,
    ca: Arc<InterceptionCa>,
    replays: replay::Replays,
    heartbeats: Arc<heartbeat::Heartbeats>,
    crosscheck: Arc<crosscheck::CrossCheck>,
}

/// Where the gate listens. Every one of them is for the agent's pod alone.
pub struct Listeners {
    /// The HTTP proxy, HTTP/1.1 and HTTP/2 in clear.
    pub proxy: TcpListener,
    /// The gate's API over TCP on loopback.
    pub decide: TcpListener,
    /// The gate's API over a Unix socket.
    pub decide_unix: Option<UnixListener>,
    /// Health, readiness and metrics: they only read.
    pub admin: Option<TcpListener>,
}

impl AgentGate {
    /// Puts a gate together for one workload.
    #[must_use]
    pub fn new(
        identity: SpiffeId,
        policies: Arc<PolicyTable>,
        audit: Arc<dyn AuditSink>,
        metrics: Arc<Metrics>,
        hop: impl Into<Arc<HopClient>>,
        ca: Arc<InterceptionCa>,
    ) -> Self {
        let decider = Decider::new(Gate::Agent, policies, audit, metrics);
        let crosscheck = Arc::new(crosscheck::CrossCheck::new(decider.metrics().clone()));
        let (replays, heartbeats) = (replay::Replays::new(), Arc::default());
        Self { identity, decider, hop: hop.into(), ca, replays, heartbeats, crosscheck }
    }

    /// Goes on with what a folder holds about the agent's tool calls, and whether it was halted, and writes both there:
    /// they outlive this process. The agent must not reach the folder.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn remembering(self, folder: &Path) -> io::Result<Self> {
        self.crosscheck.remember(folder)?;
        self.decider.policies().keep_halt(folder.join(latch::FILE), &self.identity)?;
        Ok(self)
    }

    /// Serves until the drain begins.
    pub async fn serve(self: Arc<Self>, listeners: Listeners, drain: Watcher) {
        let Listeners { proxy, decide, decide_unix, admin } = listeners;
        let metrics = self.decider.metrics().clone();
        let gate = self.clone();
        let proxy =
            listen::accept(proxy, limits::AGENT_CONNECTIONS, metrics.clone(), drain.clone(), move |tcp, drain| {
                http::serve_proxy(gate.clone(), tcp, drain)
            });
        let gate = self.clone();
        let decide =
            listen::accept(decide, limits::AGENT_CONNECTIONS, metrics.clone(), drain.clone(), move |tcp, drain| {
                api::serve(gate.clone(), tcp, api::Transport::Tcp, drain)
            });
        let gate = self.clone();
        let unix_metrics = metrics.clone();
        let unix_drain = drain.clone();
        let decide_unix = async move {
            let Some(listener) = decide_unix else { return };
            listen::accept(listener, limits::AGENT_CONNECTIONS, unix_metrics, unix_drain, move |stream, drain| {
                api::serve(gate.clone(), stream, api::Transport::Unix, drain)
            })
            .await;
        };
        let watching = self.clone();
        let admin = async move {
            let Some(listener) = admin else { return };
            admin::serve(listener, metrics, self, drain).await;
        };
        tokio::select! {
            _ = async { tokio::join!(proxy, decide, decide_unix, admin) } => {}
            () = watching.watch_plugin() => {}
        }
    }
}

impl admin::Ready for AgentGate {
    async fn why_not(&self) -> Option<&'static str> {
        let policies = self.decider.policies();
        // A halted agent is denied by a gate that works.
        if policies.halt_of(&self.identity).is_none() && !policies.has(&self.identity) {
            return Some("no policy in force");
        }
        if !self.hop.is_reachable().await {
            return Some("gateway not reachable");
        }
        None
    }
}
