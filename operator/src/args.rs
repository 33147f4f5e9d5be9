//! The command line, and the one struct that configuration comes in through. Every value is parsed here,
//! whole, before anything starts; nothing deeper reads arguments, files or the environment.

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use clawlock_compile::objects::Release;

use crate::webhook;

/// Largest release file in bytes. A real one has about one thousand; more is a mistake.
const MAX_RELEASE: u64 = 256 * 1024;

/// Controllers, admission webhooks and the control API of Clawlock.
#[derive(Debug, Parser)]
#[command(name = "clawlock-operator", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Which events are logged to standard error, such as info or clawlock_operator=debug
    #[arg(long, global = true, value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the controllers (on the leader) and the control API (on every replica)
    Run(RunArgs),
    /// Run the admission webhooks
    Webhook(webhook::Args),
    /// Look whether the admission policies and webhooks of this release do their work
    Check,
    /// Accept TCP and answer UDP on one port: what isolated agents must not reach
    Tripwire(TripwireArgs),
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The release: namespace, images and what gateways are made of, as JSON
    #[arg(long, value_name = "FILE", value_parser = read_release)]
    pub(crate) release: Box<Release>,
    /// Name of this pod: the holder of the Lease
    #[arg(long, value_name = "NAME", value_parser = pod_name)]
    pub(crate) pod: String,
    /// Where the control API listens
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8444")]
    pub(crate) control_listen: SocketAddr,
    /// Where health and metrics are served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9090")]
    pub(crate) admin_listen: SocketAddr,
    /// Name of the MutatingWebhookConfiguration and the ValidatingWebhookConfiguration of the release
    #[arg(long, value_name = "NAME", default_value = "clawlock")]
    pub(crate) webhook_configuration: String,
}

/// Arguments of `tripwire`.
#[derive(Debug, Args)]
pub(crate) struct TripwireArgs {
    /// The port, TCP and UDP, on every address of IPv4 and IPv6
    #[arg(long, value_name = "PORT", default_value_t = 53)]
    pub(crate) port: u16,
    /// Where health and metrics are served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9090")]
    pub(crate) admin_listen: SocketAddr,
}

fn pod_name(text: &str) -> Result<String, String> {
    let label = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err("this is no name of a pod; pass its metadata.name".to_owned())
    }
}

/// Reads and parses the release file.
pub(crate) fn read_release(path: &str) -> Result<Box<Release>, String> {
    let path = PathBuf::from(path);
    let text = read_bounded(&path)?;
    let release = serde_json::from_slice(&text);
    release.map(Box::new).map_err(|error| format!("{}: {error}; write the release as JSON", path.display()))
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    let what = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut bytes = Vec::new();
    File::open(path).map_err(what)?.take(MAX_RELEASE + 1).read_to_end(&mut bytes).map_err(what)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_RELEASE) {
        return Err(format!("{}: more than {MAX_RELEASE} bytes; this is no release file", path.display()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn names_of_pods_are_checked() {
        assert!(pod_name("clawlock-operator-7f9c-x2").is_ok());
        for wrong in ["", "a/b", "A", "a..b", "a b"] {
            assert!(pod_name(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_release_that_cannot_be_read_names_its_file() {
        let error = read_release("/nowhere/release.json").unwrap_err();
        assert!(error.starts_with("/nowhere/release.json: "), "{error}");
    }
}
