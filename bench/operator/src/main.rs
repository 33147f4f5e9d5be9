//! `clawlock-bench-operator`: what the operator takes for thousands of agents, and how fast they learn of an edit.
//!
//! API server and etcd are real, with the definitions and the RBAC of the release; so is the operator, the program of
//! the image. Nodes and pods are objects only: each agent is the client of a sidecar, with the certificate that it got
//! for its pod's token. Between it and the operator stands no gateway, which would pass on the bytes unread.

mod agents;
mod api;
mod cluster;
mod edits;
mod objects;
mod process;
mod release;
mod report;
mod streams;
mod webhook;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::agents::{Agents, Place};
use crate::api::Api;
use crate::objects::{SMALL, Tenant};
use crate::release::Release;
use crate::report::Report;

/// What the operator takes for thousands of agents. Exits with 0 also when a target is missed.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The operator, as it is in its image.
    #[arg(long)]
    operator: PathBuf,
    /// Folder with etcd, kube-apiserver and kubectl.
    #[arg(long)]
    programs: PathBuf,
    /// The checkout, whose definitions and release are installed.
    #[arg(long)]
    checkout: PathBuf,
    /// A hundredth of everything: shows that it works; the figures mean little.
    #[arg(long)]
    quick: bool,
    /// How to print.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// How much of everything there is.
struct Sizes {
    /// Policies of the first tenant.
    policies: usize,
    /// Agents of each tenant.
    agents: usize,
    /// Tenants at the end.
    tenants: usize,
    /// Edits of each kind.
    edits: usize,
    /// How long pods are injected.
    injecting: Duration,
    /// How long streams stand idle before the memory is looked at: two pings, and what is left of the reports.
    idle: Duration,
}

impl Sizes {
    fn of(quick: bool) -> Self {
        let secs = Duration::from_secs;
        if quick {
            Self { policies: 10, agents: 10, tenants: 3, edits: 3, injecting: secs(2), idle: secs(2) }
        } else {
            Self { policies: 1000, agents: 1000, tenants: 10, edits: 50, injecting: secs(60), idle: secs(30) }
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        let report = runtime.block_on(Box::pin(measure(&args)))?;
        match args.output {
            Output::Table => print!("{}", report.table()),
            Output::Json => println!("{}", report.json()?),
        }
        Ok(())
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("clawlock-bench-operator: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Says what is done now.
fn say(what: &str) {
    eprintln!("{what}");
}

async fn measure(args: &Args) -> Result<Report, String> {
    let sizes = Sizes::of(args.quick);
    let mut report = Report::begin(args.quick);
    let dir = tempfile::Builder::new().prefix("clawlock-bench-").tempdir().map_err(|error| error.to_string())?;
    say("API server");
    let cluster = cluster::Cluster::start(&args.programs, dir.path())?;
    let api = cluster.api().await?;
    let release = Release::install(args, &cluster, &api, dir.path()).await?;
    let first = release.replica("a")?;
    let mutating = release.webhook()?;
    first.ready().await?;
    mutating.ready().await?;

    say(&format!("{} policies, {} agents", sizes.policies, sizes.agents));
    objects::nodes(&api, sizes.tenants * sizes.agents).await?;
    let tenant = Tenant::create(&api, 0).await?;
    objects::policies(&api, &tenant, sizes.policies, sizes.agents).await?;
    let injector = webhook::Injector::connect(&api, &mutating).await?;
    let agents = Agents::new(release.anchor(&api, &tenant).await?, dir.path(), first.port());
    agents.join(&place(&api, &injector, &tenant, sizes.agents).await?).await?;
    agents.all_streams(sizes.agents, SETTLE).await?;
    report.edits = Some(edits::measure(&api, &agents, &tenant, &sizes, &first).await?);
    say(&format!("injection at {} pods a second", webhook::RATE));
    report.injection = Some(webhook::measure(&injector, &tenant, sizes.injecting).await?);

    say(&format!("{} tenants of {} agents", sizes.tenants, sizes.agents));
    for number in 1..sizes.tenants {
        let tenant = Tenant::create(&api, number).await?;
        objects::policies(&api, &tenant, SMALL, sizes.agents).await?;
        agents.join(&place(&api, &injector, &tenant, sizes.agents).await?).await?;
        agents.all_streams((number + 1) * sizes.agents, SETTLE).await?;
    }
    report.streams = Some(streams::measure(&agents, &release, first, &sizes).await?);
    Ok(report)
}

/// How long the last agents of a tenant may take to get their certificates and streams.
const SETTLE: Duration = Duration::from_secs(300);

/// Makes the pods of a tenant.
async fn place(api: &Api, injector: &webhook::Injector, tenant: &Tenant, agents: usize) -> Result<Vec<Place>, String> {
    let pod = injector.inject(tenant, &objects::pod(tenant)).await?;
    objects::agents(api, tenant, &pod, agents).await
}
