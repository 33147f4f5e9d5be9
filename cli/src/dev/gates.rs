//! Puts both gates together, with their real hop between them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use clawlock_audit::{AuditSink, JsonLines, Record, Tap};
use clawlock_policy::HostName;
use clawlock_proxy::agent::{AgentGate, Listeners};
use clawlock_proxy::drain::Drain;
use clawlock_proxy::gateway::Gateway;
use clawlock_proxy::hop::HopClient;
use clawlock_proxy::intercept::InterceptionCa;
use clawlock_proxy::metrics::Metrics;
use clawlock_proxy::policies::PolicyTable;
use clawlock_proxy::upstream::Upstreams;
use clawlock_proxy::upstream::resolve::{Overrides, Resolve, ResolveError, Resolving, SystemResolver};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::install::Installer;
use super::pki;
use super::state::Sockets;
use crate::args::Resolved;
use crate::secret::Secrets;

/// What the gates are made of, beside the policy.
pub(super) struct Parts<'a> {
    /// The agent gate's sockets.
    pub(super) sockets: Sockets,
    /// The interception CA.
    pub(super) ca: Arc<InterceptionCa>,
    /// Credentials of upstreams.
    pub(super) secrets: Arc<Secrets>,
    /// Addresses given by hand.
    pub(super) resolve: Vec<Resolved>,
    /// The log.
    pub(super) log: &'a Path,
    /// Where copies of records go to be printed.
    pub(super) shown: mpsc::Sender<Record>,
}

/// Both gates while they run.
pub(super) struct Gates {
    tasks: JoinSet<()>,
    drain: Drain,
}

impl Gates {
    /// Starts both gates. To be called within the runtime.
    ///
    /// # Errors
    /// When a part cannot be made.
    pub(super) async fn start(parts: Parts<'_>, installer: &Installer) -> Result<Self, String> {
        let Parts { sockets, ca, secrets, resolve, log, shown } = parts;
        let lines =
            JsonLines::append(log).map_err(|error| format!("log {}: {error}; pass another --log", log.display()))?;
        let audit: Arc<dyn AuditSink> = Arc::new(Tap::new(lines, shown));
        let metrics = Arc::new(Metrics::default());
        let failed = |error: std::io::Error| format!("a socket on loopback: {error}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let pki::Hop { server, endpoint } = pki::hop(installer.tenant(), installer.identity(), address)?;
        let upstreams = Upstreams::new(resolver(resolve), secrets);
        let gateway = Gateway::new(installer.gateway().clone(), audit.clone(), metrics.clone(), upstreams);
        let hop = HopClient::new(endpoint);
        let identity = installer.identity().clone();
        let agent = AgentGate::new(identity, installer.agent().clone(), audit, metrics, hop, ca);
        let Sockets { proxy, decide, decide_unix, admin } = sockets;
        let listeners = Listeners {
            proxy: TcpListener::from_std(proxy).map_err(failed)?,
            decide: TcpListener::from_std(decide).map_err(failed)?,
            decide_unix: Some(UnixListener::from_std(decide_unix).map_err(failed)?),
            admin: Some(TcpListener::from_std(admin).map_err(failed)?),
        };
        let drain = Drain::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::new(gateway).serve(listener, server, drain.watcher()));
        tasks.spawn(Arc::new(agent).serve(listeners, drain.watcher()));
        for table in [installer.agent(), installer.gateway()] {
            tasks.spawn(expiry(table.clone()));
        }
        Ok(Self { tasks, drain })
    }

    /// Completes when a part has ended although nobody asked it to, which only a defect does.
    pub(super) async fn ended(&mut self) {
        drop(self.tasks.join_next().await);
    }

    /// Ends gracefully within a bound. Answers whether every open request could finish.
    pub(super) async fn finish(self, bound: std::time::Duration) -> bool {
        let Self { mut tasks, drain } = self;
        let finished = drain.finish(bound).await;
        tasks.shutdown().await;
        finished
    }
}

async fn expiry(table: Arc<PolicyTable>) {
    table.watch_expiry().await;
}

/// Addresses given by hand, then the machine's resolver.
fn resolver(resolve: Vec<Resolved>) -> Arc<dyn Resolve> {
    let mut hosts: HashMap<HostName, Vec<IpAddr>> = HashMap::new();
    for Resolved { host, address } in resolve {
        hosts.entry(host).or_default().push(address);
    }
    match SystemResolver::new() {
        Ok(system) => Arc::new(Overrides::new(hosts, system)),
        Err(error) => Arc::new(Overrides::new(hosts, NoResolver(error.to_string()))),
    }
}

/// Stands for a machine without DNS: nothing has an address but what was given by hand.
struct NoResolver(String);

impl Resolve for NoResolver {
    fn resolve<'a>(&'a self, host: &'a HostName) -> Resolving<'a> {
        let error = ResolveError(format!("{host}: this machine has no usable resolver configuration: {}", self.0));
        Box::pin(std::future::ready(Err(error)))
    }
}
