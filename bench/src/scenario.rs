//! What is compared with what, and how each of them is driven.

use std::path::Path;

use crate::child::Running;
use crate::load::{Style, Target};
use crate::peers::{self, Peer, Setting};
use crate::pin::SUBJECT_CORE;
use crate::pki;

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `POST /v1/decide` on a Unix socket.
    Decide,
    /// Absolute form, plain.
    Plain,
    /// CONNECT, then TLS that the proxy ends.
    Intercepted,
}

/// One comparison.
pub(crate) struct Scenario {
    pub(crate) title: &'static str,
    pub(crate) shape: Shape,
    /// The role that is measured, and what the table calls it.
    pub(crate) subject: (&'static str, &'static str),
    /// The minimal counterpart.
    pub(crate) counterpart: (&'static str, &'static str),
    /// Whether the peers are measured here.
    pub(crate) peers: bool,
    /// Least part of the counterpart's maximum, when the issue states one.
    pub(crate) least_max: Option<f64>,
    /// Largest multiple of the counterpart's median latency, when one is stated.
    pub(crate) most_p50: Option<f64>,
    /// Bounds of the subject's resident memory in MB, idle and with 1,000 connections.
    pub(crate) most_memory: Option<(f64, f64)>,
}

/// All comparisons.
pub(crate) const ALL: [Scenario; 5] = [
    Scenario {
        title: "/v1/decide over the Unix socket, 10 rules",
        shape: Shape::Decide,
        subject: ("gate-agent", "clawlock"),
        counterpart: ("floor-decide", "bare hyper server"),
        peers: false,
        least_max: Some(0.8),
        most_p50: Some(1.15),
        most_memory: None,
    },
    Scenario {
        title: "one gate, plain",
        shape: Shape::Plain,
        subject: ("gate-agent", "clawlock"),
        counterpart: ("floor-agent", "minimal hyper forwarder"),
        peers: true,
        least_max: None,
        most_p50: None,
        most_memory: None,
    },
    Scenario {
        title: "one gate, intercepting",
        shape: Shape::Intercepted,
        subject: ("gate-agent", "clawlock"),
        counterpart: ("floor-agent", "minimal intercepting hyper proxy"),
        peers: true,
        least_max: Some(0.8),
        most_p50: None,
        most_memory: Some((12.0, 45.0)),
    },
    Scenario {
        title: "both gates with mTLS, plain",
        shape: Shape::Plain,
        subject: ("gate-both", "clawlock"),
        counterpart: ("floor-both", "two minimal hyper forwarders with mTLS"),
        peers: false,
        least_max: Some(0.7),
        most_p50: None,
        most_memory: None,
    },
    Scenario {
        title: "both gates with mTLS, intercepting",
        shape: Shape::Intercepted,
        subject: ("gate-both", "clawlock"),
        counterpart: ("floor-both", "two minimal hyper forwarders with mTLS"),
        peers: false,
        least_max: Some(0.7),
        most_p50: None,
        most_memory: None,
    },
];

/// What runs on the other core, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) origin: u16,
    pub(crate) origin_tls: u16,
    pub(crate) stub: u16,
}

/// One side of a comparison, running.
pub(crate) struct Party {
    pub(crate) label: String,
    pub(crate) running: Running,
    pub(crate) target: Target,
}

impl Scenario {
    /// Starts the subject, its counterpart and the peers that are installed.
    pub(crate) fn start(&self, dir: &Path, ports: Ports, with_peers: bool) -> Result<Vec<Party>, String> {
        let mut parties = vec![self.own(self.subject, dir, ports)?, self.own(self.counterpart, dir, ports)?];
        let tls = self.shape == Shape::Intercepted;
        let setting = Setting { dir, tls, origin: self.port(ports) };
        let installed = peers::ALL.into_iter().filter(|peer| self.peers && with_peers && peer.program().is_some());
        for peer in installed.collect::<Vec<Peer>>() {
            let (running, target) = peer.start(&setting)?;
            parties.push(Party { label: peer.label(tls).to_owned(), running, target });
        }
        Ok(parties)
    }

    fn own(&self, (role, label): (&str, &str), dir: &Path, ports: Ports) -> Result<Party, String> {
        let flags = [("--gateway", ports.stub), ("--origin", ports.origin), ("--origin-tls", ports.origin_tls)];
        let running = start_role(role, SUBJECT_CORE, dir, &flags)?;
        let ready = &running.ready;
        let port = self.port(ports);
        let style = match self.shape {
            Shape::Decide => Style::Decide { socket: ready.socket.clone().ok_or("the role has no socket")? },
            Shape::Plain => Style::Absolute { port },
            Shape::Intercepted => {
                let ca = ready.ca.as_ref().ok_or("the role has no CA")?;
                Style::Connect { port, tls: pki::client(ca, b"http/1.1")? }
            }
        };
        let target = Target { port: ready.port, style };
        Ok(Party { label: label.to_owned(), running, target })
    }

    fn port(&self, ports: Ports) -> u16 {
        if self.shape == Shape::Intercepted { ports.origin_tls } else { ports.origin }
    }
}

/// Starts a role of this program.
pub(crate) fn start_role(role: &str, core: usize, dir: &Path, ports: &[(&str, u16)]) -> Result<Running, String> {
    let mut args = vec![role.to_owned(), "--core".to_owned(), core.to_string()];
    args.extend(["--dir".to_owned(), dir.display().to_string()]);
    for (flag, port) in ports {
        args.extend([(*flag).to_owned(), port.to_string()]);
    }
    Running::start(&args)
}
