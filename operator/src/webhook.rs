//! The admission webhooks: injection into pods, and checks of what people write.
//!
//! A process of its own, in pods of its own. It reads tenants and Upstreams and writes nothing, so that a dry run
//! is like any other. It is ready once everything was read and there is a certificate; until then, and whenever
//! something is unknown, the answer is no. Its answers are made by pure functions ([`mutate`], [`validate`]); this
//! file plugs them to the API server.

mod certificate;
pub(crate) mod check;
#[cfg(test)]
mod fixtures;
mod metrics;
mod mutate;
mod object;
mod review;
mod server;
mod tenants;
mod validate;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;

use clawlock_compile::objects::Release;
use kube::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use self::certificate::Certificate;
use self::metrics::Metrics;
use self::tenants::Tenants;
use crate::admin;
use crate::args::read_release;

/// Arguments of `webhook`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The release: namespace, images and what sidecars are made of, as JSON
    #[arg(long, value_name = "FILE", value_parser = read_release)]
    release: Box<Release>,
    /// Where the API server asks, by HTTPS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9443")]
    listen: SocketAddr,
    /// Where health and metrics are served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9090")]
    admin_listen: SocketAddr,
}

/// Why the webhooks ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no API server to watch.
    #[error("no access to the API server: {0}; run this in a pod with its ServiceAccount, or with a KUBECONFIG")]
    Client(#[source] Box<kube::Error>),
    /// An address cannot be had.
    #[error("{0}")]
    Listen(String),
    /// The library cannot speak TLS 1.3.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The system does not pass signals on.
    #[error("no signals can be received: {0}")]
    Signal(#[source] std::io::Error),
    /// What never ends has ended.
    #[error("a watch ended, which is a mistake in Clawlock; the process is started again")]
    Ended,
}

/// Runs the webhooks until the process is asked to end.
///
/// # Errors
/// When they cannot start, or something that must go on has ended.
pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let Args { release, listen, admin_listen } = args;
    let mut terminated = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    let client = Client::try_default().await.map_err(|error| Error::Client(Box::new(error)))?;
    let listener = TcpListener::bind(listen).await;
    let listener = listener.map_err(|error| Error::Listen(format!("{listen}: {error}; pass another --listen")))?;
    let admin = admin::bind(admin_listen).await.map_err(Error::Listen)?;

    let metrics = Arc::new(Metrics::new());
    let certificate = Arc::new(Certificate::default());
    let (sender, tenants) = tokio::sync::watch::channel(None);
    let tls = certificate::tls(certificate.clone())?;
    let mut watches = watch::start(&client, *release, certificate.clone(), metrics.clone(), sender);
    let (ending, ended) = tokio::sync::watch::channel(false);
    let health = Health { certificate, tenants: tenants.clone(), metrics: metrics.clone(), ended };
    let admin = tokio::spawn(admin::serve(admin, Arc::new(health)));
    tracing::info!(%listen, %admin_listen, "the webhooks listen");

    let stop = async {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        tracing::info!("asked to end");
        ending.send_replace(true);
        tokio::time::sleep(server::LINGER).await;
    };
    let app = Arc::new(server::App::new(tenants, metrics));
    let result = tokio::select! {
        () = server::serve(listener, tls, app, stop) => Ok(()),
        _ = watches.join_next() => Err(Error::Ended),
    };
    admin.abort();
    result
}

/// What the admin port says.
struct Health {
    certificate: Arc<Certificate>,
    tenants: tokio::sync::watch::Receiver<Option<Arc<Tenants>>>,
    metrics: Arc<Metrics>,
    ended: tokio::sync::watch::Receiver<bool>,
}

impl admin::Health for Health {
    fn not_ready(&self) -> Option<String> {
        let why = if *self.ended.borrow() {
            "it was asked to end"
        } else if !self.certificate.is_there() {
            "there is no certificate yet; the operator makes Secret clawlock-webhook-tls"
        } else if self.tenants.borrow().is_none() {
            "TenantGateways, Upstreams and ConfigMap clawlock-admission were not read yet"
        } else {
            return None;
        };
        Some(why.to_owned())
    }

    fn metrics(&self) -> String {
        self.metrics.text()
    }
}
