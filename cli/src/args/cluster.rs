//! Arguments of the commands that ask a cluster, or read what it logged.

use std::path::PathBuf;

use clap::Args;

use super::{Format, HaltName, Label, TenantName};

/// Which cluster is asked, and how the answer is printed.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Context of kubectl's configuration [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// How to print: text, or JSON
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The tenant: the name of its TenantGateway [default: all]
    #[arg(value_name = "TENANT")]
    pub(crate) tenant: Option<TenantName>,
    /// Which cluster
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The tenant: the name of its TenantGateway
    #[arg(value_name = "TENANT")]
    pub(crate) tenant: TenantName,
    /// Go on with what is decided from now on, also in pods that start later
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only decisions newer than this, as kubectl has it, for example 10m
    #[arg(long, value_name = "DURATION")]
    pub(crate) since: Option<String>,
    /// Which cluster; with JSON, each record is printed as it stands in the log
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// Arguments of `shadow`.
#[derive(Debug, Args)]
pub(crate) struct ShadowArgs {
    /// Log of decisions, one JSON document per line; - reads the standard input
    #[arg(long, value_name = "LOG")]
    pub(crate) from: PathBuf,
    /// How to print: text, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Arguments of `halt`.
#[derive(Debug, Args)]
pub(crate) struct HaltArgs {
    /// The tenant: the name of its TenantGateway
    #[arg(value_name = "TENANT")]
    pub(crate) tenant: TenantName,
    /// Why, in one line: every denial repeats it
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Stop agents of this namespace only [default: of all of the tenant]
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Stop agents with this label only; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<Label>,
    /// Which cluster
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// Arguments of `resume`.
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// The tenant: the name of its TenantGateway
    #[arg(value_name = "TENANT")]
    pub(crate) tenant: TenantName,
    /// The AgentHalts to delete, as NAMESPACE/NAME [default: none, they are listed]
    #[arg(value_name = "HALT")]
    pub(crate) halts: Vec<HaltName>,
    /// Delete all of them
    #[arg(long, conflicts_with = "halts")]
    pub(crate) all: bool,
    /// Which cluster
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Look at this machine only, as clawlock dev uses it
    #[arg(long)]
    pub(crate) local: bool,
    /// Which cluster
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}
