//! Puts the sidecar together: sockets, interception CA, gate, hop, control stream and the proof of isolation. The
//! order is what is written here: the gate is closed before anything can ask it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clawlock_audit::{AuditSink, JsonLines};
use clawlock_control::ToServer;
use clawlock_control::client::{self, Dial, Dialling};
use clawlock_policy::SpiffeId;
use clawlock_policy::envelope::TrustedKeys;
use clawlock_proxy::admin;
use clawlock_proxy::agent::{AgentGate, Listeners};
use clawlock_proxy::clock::SystemClock;
use clawlock_proxy::drain::Drain;
use clawlock_proxy::hop::HopClient;
use clawlock_proxy::intercept::InterceptionCa;
use clawlock_proxy::latch::Halt;
use clawlock_proxy::policies::PolicyTable;
use clawlock_proxy::tls;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::args::{Config, Places};
use crate::folder;
use crate::health::{Gauges, Health};
use crate::isolation::probe::Here;
use crate::isolation::state::Phase;
use crate::isolation::{self, Isolation};
use crate::plugin;
use crate::receiver::{Intake, Own};

/// Reports that wait for the control stream. Few: while it is away, what waits grows old.
const REPORTS: usize = 4;

/// The sidecar while it runs.
pub(crate) struct Sidecar {
    tasks: JoinSet<&'static str>,
    drain: Drain,
}

/// What the control stream feeds, and what it carries back.
pub(crate) struct Stream {
    /// Takes what comes.
    pub(crate) intake: Arc<Intake>,
    /// What is to be sent.
    pub(crate) reports: mpsc::Receiver<ToServer>,
}

/// Where it serves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// The proxy.
    pub(crate) proxy: SocketAddr,
    /// `/v1/decide`.
    pub(crate) decide: SocketAddr,
    /// Health and metrics.
    pub(crate) health: SocketAddr,
}

impl Sidecar {
    /// Starts everything; records go to `records`. To be called within the runtime.
    ///
    /// # Errors
    /// When a part cannot be made.
    pub(crate) async fn start(config: Config, records: impl Write + Send + 'static) -> Result<Self, String> {
        let (tenant, pod, identity, gateway) =
            (config.tenant.clone(), config.pod.clone(), config.identity.clone(), config.gateway);
        let control = client::Config {
            tenant: config.tenant.clone(),
            anchor: config.anchor.clone(),
            dial: Arc::new(ThroughGateway(config.gateway)),
            token: config.places.token.clone(),
        };
        let (mut sidecar, Stream { intake, reports }, addresses) = Self::closed(config, records).await?;
        sidecar.tasks.spawn(async move {
            client::run(control, intake, reports).await;
            "the control stream's client"
        });
        let Addresses { proxy, decide, health } = addresses;
        tracing::info!(%pod, %identity, %tenant, %gateway, %proxy, %decide, %health, "started, closed until isolated");
        Ok(sidecar)
    }

    /// Starts all but the control stream.
    pub(crate) async fn closed(
        config: Config,
        records: impl Write + Send + 'static,
    ) -> Result<(Self, Stream, Addresses), String> {
        let Config { tenant, pod: _, identity, gateway, anchor: _, host, places, canaries, pace } = config;
        let name = tls::gateway_name(&tenant).map_err(|error| error.to_string())?;
        let ca = Arc::new(InterceptionCa::load_or_create(&places.private).map_err(|error| error.to_string())?);
        let lines = JsonLines::new(records).map_err(|error| format!("the writer of records: {error}"))?;
        let audit: Arc<dyn AuditSink> = Arc::new(lines);

        let table = Arc::new(PolicyTable::new(TrustedKeys::default(), Arc::new(SystemClock)));
        isolation::close(&table, Phase::Unproven);
        let hop = Arc::new(HopClient::without_identity());
        let own = Own { tenant, identity: identity.clone(), gateway, name };
        let intake = Arc::new(Intake::new(own, hop.clone(), table.clone()));
        let (phase, phases) = watch::channel(Phase::Unproven);
        let (outbox, reports) = mpsc::channel(REPORTS);
        let gauges = Gauges::default();
        let metrics = Arc::new(gauges.with_gate());
        let gate = AgentGate::new(identity.clone(), table.clone(), audit, metrics.clone(), hop.clone(), ca.clone());
        let gate = gate.remembering(&places.private);
        let gate = Arc::new(gate.map_err(|error| format!("what is known of the agent's tool calls: {error}"))?);

        let (listeners, health_listener, addresses) = listen(&places, ca.bundle_pem()).await?;
        let drain = Drain::new();
        let mut tasks = JoinSet::new();
        let (serving, watcher) = (gate.clone().serve(listeners, drain.watcher()), drain.watcher());
        tasks.spawn(async move {
            serving.await;
            "the gate"
        });
        let known = intake.known();
        let telling = plugin::report(gate.clone(), known.clone(), outbox.clone());
        tasks.spawn(async move {
            telling.await;
            "the report about the guard plugin"
        });
        let health = Health { identity, gate, table: table.clone(), known: known.clone(), phase: phases.clone() };
        tasks.spawn(async move {
            admin::serve(health_listener, metrics, Arc::new(health), watcher).await;
            "the health listener"
        });
        let expiring = table.clone();
        tasks.spawn(async move {
            expiring.watch_expiry().await;
            "the watch over validity"
        });
        tasks.spawn(async move {
            gauges.follow(phases).await;
            "the isolation's gauge"
        });
        tasks.spawn(tell_halts(table.clone(), outbox.clone()));
        let here = Here { host, ports: canaries };
        let isolation = Isolation { gateway: hop, here, pace, known, table, phase, reports: outbox };
        tasks.spawn(async move {
            isolation.run().await;
            "the proof of isolation"
        });
        Ok((Self { tasks, drain }, Stream { intake, reports }, addresses))
    }

    /// Completes when a part has ended although nobody asked it to, which only a defect does; answers which.
    pub(crate) async fn ended(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Ok(part)) => format!("{part} has ended by itself; the pod must not go on without it"),
            Some(Err(error)) => format!("a part has ended by a fault, see the message above: {error}"),
            None => "no part is left".to_owned(),
        }
    }

    /// Ends gracefully within a bound. Answers whether every open request could finish.
    pub(crate) async fn finish(self, bound: Duration) -> bool {
        let Self { mut tasks, drain } = self;
        let finished = drain.finish(bound).await;
        tasks.shutdown().await;
        finished
    }
}

/// Tells the operator of a halt until the assignment says it.
async fn tell_halts(table: Arc<PolicyTable>, outbox: mpsc::Sender<ToServer>) -> &'static str {
    let told = |(pod, halt): (SpiffeId, Arc<Halt>)| ToServer::halted(&pod, &halt.cause, &halt.detail);
    let pending = || table.halts().into_iter().map(told).collect();
    client::repeat(pending, table.halts_changed(), outbox).await;
    "the reports of halts"
}

/// Opens all sockets and writes the files that go with them.
async fn listen(places: &Places, ca: &str) -> Result<(Listeners, TcpListener, Addresses), String> {
    let proxy = bind(places.proxy).await?;
    let decide = bind(places.decide).await?;
    let health = bind(places.health).await?;
    let failed = |error: io::Error| format!("a socket: {error}");
    let addresses = Addresses {
        proxy: proxy.local_addr().map_err(failed)?,
        decide: decide.local_addr().map_err(failed)?,
        health: health.local_addr().map_err(failed)?,
    };
    let socket = folder::prepare(&places.agent, ca)?;
    let decide_unix = Some(UnixListener::from_std(socket).map_err(failed)?);
    Ok((Listeners { proxy, decide, decide_unix, admin: None }, health, addresses))
}

async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| format!("{address}: {error}; no other container of the pod may use this port"))
}

/// The way to the control API: the gateway passes it on by its name.
struct ThroughGateway(SocketAddr);

impl Dial for ThroughGateway {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(TcpStream::connect(self.0))
    }
}
