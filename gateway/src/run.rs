//! Puts the gateway together and ends it: sockets first, then whatever fills them. Until there is a certificate the
//! hop is refused, but sidecars already reach the control API through here.

use std::fs::File;
use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use clawlock_audit::{AuditSink, JsonLines};
use clawlock_control::client::{self, Config};
use clawlock_control::{ToServer, control_name};
use clawlock_policy::SpiffeId;
use clawlock_policy::envelope::TrustedKeys;
use clawlock_proxy::admin;
use clawlock_proxy::clock::SystemClock;
use clawlock_proxy::drain::Drain;
use clawlock_proxy::gateway::Gateway;
use clawlock_proxy::hop::Front;
use clawlock_proxy::hop::splice::Splice;
use clawlock_proxy::latch::Halt;
use clawlock_proxy::metrics::Metrics;
use clawlock_proxy::policies::PolicyTable;
use clawlock_proxy::tls;
use clawlock_proxy::upstream::Upstreams;
use clawlock_proxy::upstream::resolve::SystemResolver;
use clawlock_proxy::voucher::{Ports, Vouchers};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::args::Settings;
use crate::control::ControlWay;
use crate::installer::{Installer, Parts};
use crate::metrics::Figures;
use crate::readiness::Readiness;
use crate::secrets::{self, Store};

/// How long open requests may go on once the end has begun. The pod's grace period leaves as much, and some more.
const DRAIN: Duration = Duration::from_secs(60);

/// Reports that wait for the control stream. Few: what is not taken is said again.
const REPORTS: usize = 4;

/// How long the admin listener may take to end.
const ADMIN_DRAIN: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT, then ends gracefully.
///
/// # Errors
/// When a part cannot be made, or ends although nobody asked it to.
pub(crate) async fn run(settings: Settings) -> Result<(), String> {
    // Before there is a key or a credential: no other process of this user may read our memory.
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    hidden.map_err(|error| format!("this process cannot be hidden from others of its user: {error}"))?;
    // Before anything else is awaited: the first process of a container ignores signals that it does not ask for.
    let mut stop = Stop::new()?;
    // The API server's client asks the process for its cryptography; ours is the only one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let config = kube::Config::incluster().map_err(|error| format!("the API server's client: {error}"))?;
    let client = kube::Client::try_from(config).map_err(|error| format!("the API server's client: {error}"))?;
    let store = Arc::new(Store::default());
    let namespace = settings.namespace.clone();
    let mut program = Program::start(settings, store.clone(), standard_output()?).await?;
    let Addresses { hop, admin } = program.addresses;
    tracing::info!(%hop, %admin, "listening");
    let (readiness, figures) = (program.readiness.clone(), program.figures.clone());
    program.spawn("the watch over Secrets", secrets::watch(client, namespace, store, readiness, figures));
    tokio::select! {
        why = program.ended() => return Err(why),
        () = stop.asked() => {}
    }
    tracing::info!("told to stop; open requests may finish");
    if !program.finish(DRAIN).await {
        tracing::warn!("requests that were still open after {} s were cut", DRAIN.as_secs());
    }
    Ok(())
}

/// The signals that ask for the end.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be received: {error}"));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The gateway while it runs, but for its watch over Secrets.
pub(crate) struct Program {
    tasks: JoinSet<&'static str>,
    drain: Drain,
    admin_drain: Drain,
    pub(crate) readiness: Arc<Readiness>,
    figures: Figures,
    pub(crate) addresses: Addresses,
}

/// Where it serves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// Sidecars.
    pub(crate) hop: SocketAddr,
    /// Health and metrics.
    pub(crate) admin: SocketAddr,
}

impl Program {
    /// Starts everything that needs no API server; records go to `records`. To be called within the runtime.
    ///
    /// # Errors
    /// When a part cannot be made.
    pub(crate) async fn start(
        settings: Settings,
        store: Arc<Store>,
        records: impl Write + Send + 'static,
    ) -> Result<Self, String> {
        let Settings { tenant, identity, pod, namespace: _, control, anchor, hop, admin, token } = settings;
        let (hop, admin, addresses) = bind(hop, admin).await?;
        let lines = JsonLines::new(records).map_err(|error| format!("the writer of records: {error}"))?;
        let audit: Arc<dyn AuditSink> = Arc::new(lines);
        let figures = Figures::default();
        let metrics = Arc::new(Metrics::with(|registry| figures.register(registry)));
        let resolver = || SystemResolver::new().map_err(|error| format!("the resolver of names: {error}"));

        let policies = PolicyTable::new(TrustedKeys::default(), Arc::new(SystemClock)).of_tenant(tenant.clone());
        let policies = Arc::new(policies);
        let readiness = Arc::new(Readiness::new(policies.clone()));
        let name = tls::gateway_name(&tenant).map_err(|error| error.to_string())?.to_str().into_owned();
        let vouchers = Arc::new(Vouchers::new(name, Ports::default(), policies.clone()));
        let way = Arc::new(ControlWay::new(control, resolver()?));
        let front = Front::of_gateway(Splice::new(control_name(&tenant), way.clone()));
        let upstreams = Upstreams::new(Arc::new(resolver()?), store);
        let gateway = Gateway::new(policies.clone(), audit, metrics.clone(), upstreams).vouching(vouchers.clone());

        tracing::info!(%pod, %identity, %tenant, "started");
        let (expiring, halting) = (policies.clone(), policies.clone());
        let parts =
            Parts { front: front.clone(), policies, vouchers, readiness: readiness.clone(), figures: figures.clone() };
        let installer = Arc::new(Installer::new(tenant.clone(), identity, parts));
        let (drain, admin_drain) = (Drain::new(), Drain::new());
        let (serving, scraped) = (drain.watcher(), admin_drain.watcher());
        let tasks = JoinSet::new();
        let mut program = Self { tasks, drain, admin_drain, readiness: readiness.clone(), figures, addresses };
        program.spawn("the hop's listener", Arc::new(gateway).serve(hop, front, serving));
        program.spawn("the admin listener", admin::serve(admin, metrics, readiness, scraped));
        program.spawn("the watch over validity", async move { expiring.watch_expiry().await });
        let (outbox, reports) = mpsc::channel(REPORTS);
        program.spawn("the reports of halts", tell_halts(halting, outbox));
        program.spawn("the control stream's client", async move {
            client::run(Config { tenant, anchor, dial: way, token }, installer, reports).await;
        });
        Ok(program)
    }

    fn spawn(&mut self, part: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            work.await;
            part
        });
    }

    /// Completes when a part has ended although nobody asked it to, which only a defect does; answers which.
    async fn ended(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Ok(part)) => format!("{part} has ended by itself; the gateway must not go on without it"),
            Some(Err(error)) => format!("a part has ended by a fault, see the message above: {error}"),
            None => "no part is left".to_owned(),
        }
    }

    /// Ends gracefully: not ready any more, GOAWAY on the hop, then whatever is open has `bound`. Policy, Secrets and
    /// the admin listener stay in force meanwhile. Answers whether every open request could finish.
    pub(crate) async fn finish(self, bound: Duration) -> bool {
        let Self { mut tasks, drain, admin_drain, readiness, figures: _, addresses: _ } = self;
        readiness.ending();
        let finished = drain.finish(bound).await;
        admin_drain.finish(ADMIN_DRAIN).await;
        tasks.shutdown().await;
        finished
    }
}

/// Tells the operator of halts until assignments say them.
async fn tell_halts(table: Arc<PolicyTable>, outbox: mpsc::Sender<ToServer>) {
    let told = |(pod, halt): (SpiffeId, Arc<Halt>)| ToServer::halted(&pod, &halt.cause, &halt.detail);
    let pending = || table.halts().into_iter().map(told).collect();
    client::repeat(pending, table.halts_changed(), outbox).await;
}

/// Opens both sockets; tells of both when both fail.
async fn bind(hop: SocketAddr, admin: SocketAddr) -> Result<(TcpListener, TcpListener, Addresses), String> {
    let bind = async |option: &str, address: SocketAddr| {
        let wrong = |error: io::Error| format!("{option}={address}: {error}");
        let listener = TcpListener::bind(address).await.map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        Ok::<_, String>((listener, address))
    };
    match (bind("--hop", hop).await, bind("--admin", admin).await) {
        (Ok((hop, at)), Ok((admin, admin_at))) => Ok((hop, admin, Addresses { hop: at, admin: admin_at })),
        (Err(one), Err(other)) => Err(format!("{one}; {other}")),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
    }
}

/// Standard output without a buffer of its own: a line whose write failed must not come out later, when its request
/// was denied.
fn standard_output() -> Result<File, String> {
    let output = io::stdout().as_fd().try_clone_to_owned();
    output.map(File::from).map_err(|error| format!("standard output: {error}"))
}
