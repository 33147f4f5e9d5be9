//! What a child process of the benchmark can be. Each role listens on loopback, announces where, and
//! runs until its parent closes its standard input.

mod floor_agent;
mod floor_decide;
mod floor_gateway;
mod gate;
mod hop;
mod log;
mod origin;
mod peer;
mod stub;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::child::end_with_parent;
use crate::pin::pin;

/// A role and what it needs to know.
#[derive(Args, Debug)]
pub(crate) struct RoleArgs {
    /// The role.
    #[arg(value_enum)]
    name: RoleName,
    /// The run's folder: certificates, logs, sockets.
    #[arg(long)]
    dir: PathBuf,
    /// The core to run on.
    #[arg(long)]
    core: usize,
    /// Port of the gateway, for roles that do not bring their own.
    #[arg(long, default_value_t = 0)]
    gateway: u16,
    /// Port of the plain origin.
    #[arg(long, default_value_t = 0)]
    origin: u16,
    /// Port of the TLS origin.
    #[arg(long, default_value_t = 0)]
    origin_tls: u16,
    /// For `peer`: the command.
    #[arg(last = true)]
    command: Vec<String>,
}

/// Names of the roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoleName {
    /// Answers 300 bytes of JSON over plain HTTP/1.1.
    Origin,
    /// Answers 300 bytes of JSON over HTTP/1.1 in TLS.
    OriginTls,
    /// Answers 300 bytes of JSON over the hop's HTTP/2 with mTLS: a gateway that costs nothing.
    Stub,
    /// Minimal counterpart of `/v1/decide`.
    FloorDecide,
    /// Minimal counterpart of the agent's gate.
    FloorAgent,
    /// Minimal counterparts of both gates in a row.
    FloorBoth,
    /// The agent's gate.
    GateAgent,
    /// Both gates.
    GateBoth,
    /// A program that is not ours.
    Peer,
}

impl RoleArgs {
    /// Plays the role.
    pub(crate) fn play(self) -> Result<(), String> {
        pin(self.core)?;
        if self.name == RoleName::Peer {
            return peer::run(&self.command);
        }
        end_with_parent(|| ());
        match self.name {
            RoleName::Origin | RoleName::OriginTls | RoleName::Stub => self.drive_side(),
            _ => subject_runtime()?.block_on(self.subject()),
        }
    }

    fn drive_side(self) -> Result<(), String> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(async {
            match self.name {
                RoleName::OriginTls => origin::run_tls(&self.dir).await,
                RoleName::Stub => stub::run(&self.dir).await,
                _ => origin::run().await,
            }
        })
    }

    async fn subject(self) -> Result<(), String> {
        let Self { dir, gateway, origin, origin_tls, .. } = &self;
        match self.name {
            RoleName::FloorDecide => floor_decide::run(dir).await,
            RoleName::FloorAgent => floor_agent::run(dir, *gateway).await,
            RoleName::FloorBoth => {
                let gateway = floor_gateway::start(dir, *origin, *origin_tls).await?;
                floor_agent::run(dir, gateway).await
            }
            RoleName::GateAgent => gate::run_agent(dir, *origin, *origin_tls, *gateway).await,
            _ => gate::run_both(dir, *origin, *origin_tls).await,
        }
    }
}

/// The runtime of the gates and of their counterparts alike: as many threads as the process has
/// cores, which is one once it is pinned.
fn subject_runtime() -> Result<Runtime, String> {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|e| e.to_string())
}

/// A listener on a free port of loopback.
async fn listen() -> Result<(TcpListener, u16), String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|e| format!("cannot listen: {e}"))?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    Ok((listener, port))
}

/// The next connection of a listener, without Nagle's delay. Running out of descriptors ends a role,
/// which the parent reports.
async fn accept(listener: &TcpListener) -> Result<tokio::net::TcpStream, String> {
    let (stream, _) = listener.accept().await.map_err(|e| format!("cannot accept: {e}"))?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    Ok(stream)
}
