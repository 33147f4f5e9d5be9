//! `doctor`: what weakens a cluster or this machine. It looks and changes nothing; what it cannot find out, it says.

mod pods;

use std::process::ExitCode;

use clawlock_launch::{Confinement, Report as Landlock, probe};
use k8s_openapi::jiff::Timestamp;
use rustix::net::{AddressFamily, SocketType, socket};
use serde::Serialize;

use super::{condition, items, namespaces, text};
use crate::args::{ClusterArgs, DoctorArgs, Format};
use crate::kubectl::Kubectl;
use crate::output::{self, BAD, GOOD, NOTICE, styled};
use crate::problem::plain;

/// Oldest Kubernetes whose admission does what the chart relies on (docs/kubernetes.md).
const MIN_MINOR: u32 = 33;
/// Oldest Linux with Landlock's rules for TCP.
const MIN_KERNEL: (u32, u32) = (6, 7);
/// How far a node's clock may be from this machine's. A kubelet renews its lease every 10 s and may be 40 s late.
const CLOCK_SECONDS: i64 = 60;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    /// As it should be.
    Good,
    /// It weakens what Clawlock does.
    Weak,
    /// It could not be found out.
    Unknown,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    name: &'static str,
    state: State,
    /// What was seen, and what to do.
    message: String,
}

impl Check {
    fn new(name: &'static str, state: State, message: impl Into<String>) -> Self {
        Self { name, state, message: message.into() }
    }

    /// Good when there is nothing to say.
    fn of(name: &'static str, good: &str, findings: &[String]) -> Self {
        match findings {
            [] => Self::new(name, State::Good, good),
            _ => Self::new(name, State::Weak, findings.join("; ")),
        }
    }
}

/// Looks and prints.
pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode, String> {
    let DoctorArgs { local, cluster: ClusterArgs { context, output } } = args;
    let checks = if *local { vec![landlock(), vsock()] } else { cluster(&Kubectl::of(context.clone()))? };
    match output {
        Format::Json => output::print_json(&checks)?,
        Format::Text => output::print(&checks.iter().map(line).collect::<String>())?,
    }
    let good = checks.iter().all(|check| check.state == State::Good);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(check: &Check) -> String {
    let Check { name, state, message } = check;
    let state = match state {
        State::Good => styled(GOOD, "good   "),
        State::Weak => styled(BAD, "weak   "),
        State::Unknown => styled(NOTICE, "unknown"),
    };
    format!("{state}  {name:<12} {}\n", plain(message))
}

fn landlock() -> Check {
    const NAME: &str = "landlock";
    let report = Confinement::to_ports([]).and_then(|confinement| probe(&confinement));
    match report {
        Ok(Landlock::Full) => Check::new(NAME, State::Good, "TCP ports, signals and abstract Unix sockets"),
        Ok(Landlock::Partial) => Check::new(NAME, State::Weak, "TCP ports only; Linux 6.12 has the rest"),
        Ok(Landlock::NotEnforced(why)) => Check::new(NAME, State::Weak, format!("nothing is enforced: {why}")),
        Err(error) => Check::new(NAME, State::Unknown, error.to_string()),
    }
}

/// Whether a process here can open a socket to the hypervisor, which no rule about networks sees.
fn vsock() -> Check {
    match socket(AddressFamily::VSOCK, SocketType::STREAM, None) {
        Ok(_) => {
            Check::new("vsock", State::Weak, "AF_VSOCK sockets can be opened; on a virtual machine they reach its host")
        }
        Err(error) => Check::new("vsock", State::Good, format!("AF_VSOCK sockets cannot be opened: {error}")),
    }
}

fn cluster(kubectl: &Kubectl) -> Result<Vec<Check>, String> {
    let gateways = kubectl.list(&["tenantgateways.clawlock.dev", "--all-namespaces"])?;
    let nodes = kubectl.list(&["nodes"])?;
    let mut checks = vec![version(kubectl), kernels(&nodes), clocks(kubectl), network(&gateways)];
    let mut agents = Vec::new();
    for gateway in &gateways {
        for namespace in namespaces(gateway).iter().skip(1) {
            agents.extend(kubectl.list(&["pods", "--namespace", namespace])?);
        }
    }
    checks.push(pods::secrets(&agents));
    checks.push(pods::sidecars(&agents));
    checks.push(pods::vsock(&agents));
    Ok(checks)
}

fn version(kubectl: &Kubectl) -> Check {
    const NAME: &str = "kubernetes";
    let version = match kubectl.json(&["version", "--output=json"]) {
        Ok(version) => version,
        Err(error) => return Check::new(NAME, State::Unknown, error),
    };
    let name = text(&version, "/serverVersion/gitVersion");
    let mut numbers = name.trim_start_matches('v').split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (1, MIN_MINOR) => Check::new(NAME, State::Good, name),
        (Some(Ok(_)), Some(Ok(_))) => {
            Check::new(NAME, State::Weak, format!("{name} is older than 1.{MIN_MINOR}; upgrade it"))
        }
        _ => Check::new(NAME, State::Unknown, format!("the API server says it is {name:?}")),
    }
}

fn kernels(nodes: &[serde_json::Value]) -> Check {
    let old = nodes.iter().filter_map(|node| {
        let kernel = text(node, "/status/nodeInfo/kernelVersion");
        let mut numbers = kernel.split(['.', '-']).map(str::parse::<u32>);
        let known = match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
            _ => (0, 0),
        };
        let (major, minor) = MIN_KERNEL;
        (known < MIN_KERNEL).then(|| {
            format!(
                "node {} has kernel {kernel}: Landlock knows TCP ports from {major}.{minor} on",
                text(node, "/metadata/name")
            )
        })
    });
    Check::of("landlock", "every node's kernel knows Landlock's rules for TCP", &old.collect::<Vec<_>>())
}

/// Compares with the leases of nodes, which kubelets renew by their own clocks.
fn clocks(kubectl: &Kubectl) -> Check {
    const NAME: &str = "clocks";
    let leases = match kubectl.list(&["leases.coordination.k8s.io", "--namespace", "kube-node-lease"]) {
        Ok(leases) if !leases.is_empty() => leases,
        Ok(_) => return Check::new(NAME, State::Unknown, "there are no leases of nodes to compare with"),
        Err(error) => return Check::new(NAME, State::Unknown, error),
    };
    let now = Timestamp::now();
    let off = leases.iter().filter_map(|lease| {
        let node = text(lease, "/metadata/name");
        let renewed: Timestamp = match text(lease, "/spec/renewTime").parse() {
            Ok(renewed) => renewed,
            Err(_) => return Some(format!("node {node} has never renewed its lease")),
        };
        let seconds = now.as_second() - renewed.as_second();
        (seconds.abs() > CLOCK_SECONDS).then(|| {
            format!("node {node} renewed its lease {seconds} s ago by its clock: it is down, or a clock is wrong; tickets and certificates depend on clocks")
        })
    });
    Check::of(NAME, "nodes and this machine agree", &off.collect::<Vec<_>>())
}

fn network(gateways: &[serde_json::Value]) -> Check {
    const NAME: &str = "network";
    if gateways.is_empty() {
        return Check::new(NAME, State::Unknown, "without a TenantGateway nothing proves that the network enforces");
    }
    let open = gateways.iter().filter_map(|gateway| {
        let tenant = text(gateway, "/metadata/name");
        match condition(gateway, "EgressIsolated") {
            Some(("True", ..)) => None,
            Some((status, reason, message)) => {
                Some(format!("tenant {tenant}: EgressIsolated is {status} ({reason}): {message}"))
            }
            None => Some(format!("tenant {tenant}: nothing was proven yet")),
        }
    });
    Check::of(NAME, "packets of agents reach nothing but their gateways", &open.collect::<Vec<_>>())
}

/// All containers of a pod.
fn containers(pod: &serde_json::Value) -> impl Iterator<Item = &serde_json::Value> {
    ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"]
        .into_iter()
        .flat_map(|list| items(pod, list))
}
