//! `run`: puts the parts together. Every replica watches, serves and reports; the leader accepts and
//! reconciles as well. Whatever ends that must not end the process ends with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clawlock_compile::objects::Release;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::accept::{Acceptor, Addresses, Departures, InForce};
use crate::admin::{self, Health};
use crate::args::RunArgs;
use crate::clock::now_ms;
use crate::cluster::{Brief, Writer};
use crate::control::review::ApiServer;
use crate::control::{self, Control};
use crate::halts::{self, Halts};
use crate::lease::{Election, Lost};
use crate::metrics::Metrics;
use crate::pki::anchor::Anchor;
use crate::pki::secrets::{Secrets, put_back};
use crate::pki::signing::Signer;
use crate::pki::{PkiError, webhook};
use crate::replica::Acks;
use crate::serving::fresh::Renewer;
use crate::serving::trust::Trust;
use crate::serving::{Board, Server};
use crate::tenant::{Context, Controller};
use crate::world::World;

/// Between two looks at the release's keys and the certificate of the webhooks.
const SECRETS_PERIOD: Duration = Duration::from_secs(10);
/// Between two tries to read the keys at the start.
const KEYS_RETRY: Duration = Duration::from_secs(2);
/// Between two looks at the issuer of the cluster's tokens.
const ISSUER_PERIOD: Duration = Duration::from_secs(60);
/// Longest wait for the issuer of the cluster's tokens.
const ISSUER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why `run` ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no API server.
    #[error("no access to the API server: {}; run this in a pod with its ServiceAccount, or with a KUBECONFIG", Brief(.0))]
    Client(#[source] Box<kube::Error>),
    /// An address cannot be had.
    #[error("{0}")]
    Listen(String),
    /// The keys are not there.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Another replica leads.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// A part ended that never ends.
    #[error("{0} ended; this process ends too, so that it is started again as a whole")]
    Ended(&'static str),
    /// The system does not pass signals on.
    #[error("no signals can be received: {0}")]
    Signals(#[source] std::io::Error),
}

/// The replica's health.
struct Replica {
    world: Arc<World>,
    metrics: Arc<Metrics>,
}

impl Health for Replica {
    fn not_ready(&self) -> Option<String> {
        self.world.not_served().map(|what| format!("{what} have not been listed yet"))
    }

    fn metrics(&self) -> String {
        self.metrics.text()
    }
}

/// Runs until SIGTERM, or until the Lease is lost.
///
/// # Errors
/// When something that it needs is not there, or a part of it failed.
pub(crate) async fn run(args: RunArgs) -> Result<(), Error> {
    let RunArgs { release, pod, control_listen, admin_listen, webhook_configuration } = args;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let client = Client::try_default().await.map_err(|error| Error::Client(Box::new(error)))?;
    let admin = admin::bind(admin_listen).await.map_err(Error::Listen)?;
    let metrics = Arc::new(Metrics::new());
    let world = Arc::new(World::new(client.clone(), &release.namespace, metrics.clone()));
    let health = Arc::new(Replica { world: world.clone(), metrics: metrics.clone() });
    tokio::spawn(admin::serve(admin, health));
    let secrets = Secrets::new(client.clone(), &release.namespace);
    let keys = tokio::select! {
        keys = load_keys(&secrets) => keys?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let (stop, stopped) = watch::channel(false);
    let election = Election::new(client.clone(), &release.namespace, &pod);
    let leadership = election.leadership();
    let leading = election.leading();
    let elected = tokio::spawn(election.run(until(stopped)));
    let parts = Parts { client, release, pod, metrics, world, secrets, keys, webhook_configuration };
    let writer = Writer::new(parts.client.clone(), leadership, parts.metrics.clone());
    let work = async {
        tokio::select! {
            error = parts.serve(control_listen) => error,
            error = parts.lead(writer, leading) => error,
        }
    };
    let mut elected = elected;
    tokio::select! {
        error = work => Err(error),
        lost = &mut elected => match lost {
            Ok(Err(lost)) => Err(lost.into()),
            _ => Err(Error::Ended("the election")),
        },
        _ = terminate.recv() => finish(stop, elected).await,
        _ = interrupt.recv() => finish(stop, elected).await,
    }
}

/// Gives the Lease back.
async fn finish(stop: watch::Sender<bool>, elected: tokio::task::JoinHandle<Result<(), Lost>>) -> Result<(), Error> {
    stop.send_replace(true);
    // It is bounded in itself, and a Lease that was not given back ends by itself.
    let _ = elected.await;
    Ok(())
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone stops as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Keys of the release.
struct Keys {
    anchor: Arc<Anchor>,
    signer: Signer,
    /// As they are stored.
    stored: [Secret; 2],
}

/// Reads the keys. An API server that is away is waited for; a Secret that is broken is not.
async fn load_keys(secrets: &Secrets) -> Result<Keys, PkiError> {
    loop {
        let keys = async {
            let (anchor, stored_anchor) = Anchor::load(secrets).await?;
            let (signer, stored_signer) = Signer::load(secrets).await?;
            Ok(Keys { anchor: Arc::new(anchor), signer, stored: [stored_anchor, stored_signer] })
        };
        match keys.await {
            Err(error @ (PkiError::Read { .. } | PkiError::Write(_))) => {
                tracing::warn!("the keys cannot be read yet: {error}");
                tokio::time::sleep(KEYS_RETRY).await;
            }
            other => return other,
        }
    }
}

/// What all parts are made of.
struct Parts {
    client: Client,
    release: Box<Release>,
    pod: String,
    metrics: Arc<Metrics>,
    world: Arc<World>,
    secrets: Secrets,
    keys: Keys,
    webhook_configuration: String,
}

impl Parts {
    /// What every replica does. Ends only with an error.
    async fn serve(&self, listen: SocketAddr) -> Error {
        let Self { client, release, pod, metrics, world, secrets: _, keys, webhook_configuration: _ } = self;
        let board = Arc::new(Board::default());
        let server = Server::new(world.clone(), keys.signer.clone(), metrics.clone(), board.clone());
        let trust = Trust::new(world.clone());
        let acks = Arc::new(Acks::default());
        let (halts, wanted) = Halts::new();
        let writer_of_halts = halts::Writer::new(client.clone(), self.recorder(), metrics.clone());
        let renewer = Renewer {
            client: client.clone(),
            release: release.namespace.clone(),
            served: server.served(),
            board: board.clone(),
            signer: keys.signer.clone(),
        };
        let ready = server.ready();
        let issuers = watch::channel(issuer(client).await).0;
        let control = Control {
            anchor: keys.anchor.clone(),
            authorities: trust.authorities(),
            served: server.served(),
            board,
            canaries: server.canaries(),
            acks: acks.clone(),
            halts,
            signer: keys.signer.clone(),
            world: world.clone(),
            reviewer: ApiServer::new(client.clone()),
            issuer: issuers.subscribe(),
            metrics: metrics.clone(),
        };
        let ended = tokio::select! {
            result = tokio::spawn(world.clone().run()) => ("the watches", result),
            result = tokio::spawn(server.run()) => ("serving", result),
            result = tokio::spawn(trust.run()) => ("trust", result),
            result = tokio::spawn(renewer.run()) => ("renewing", result),
            result = tokio::spawn(writer_of_halts.run(wanted)) => ("writing halts", result),
            result = tokio::spawn(acks.run(client.clone(), world.clone(), pod.clone())) => ("reporting", result),
            () = keep_issuer(client, issuers) => return Error::Ended("the issuer"),
            error = serve_control(listen, ready, control) => return error,
        };
        Error::Ended(ended.0)
    }

    /// What the leader does. Ends only with an error.
    async fn lead(&self, writer: Writer, mut leading: watch::Receiver<bool>) -> Error {
        if leading.wait_for(|leading| *leading).await.is_err() {
            return Error::Ended("the election");
        }
        tracing::info!("this replica leads");
        self.metrics.leading.set(1);
        let (addresses, departures) = (Arc::new(Addresses::default()), Arc::new(Departures::default()));
        let acceptor = Acceptor::new(
            self.world.clone(),
            writer.clone(),
            self.keys.signer.clone(),
            self.metrics.clone(),
            addresses.clone(),
            departures.clone(),
        );
        let controller = self.controller(&writer, addresses, departures, acceptor.in_force());
        let (secrets, configuration) = (self.secrets.clone(), self.webhook_configuration.clone());
        let keys = self.keys.stored.clone();
        let ended = tokio::select! {
            _ = tokio::spawn(acceptor.run()) => "accepting",
            _ = tokio::spawn(controller.run()) => "reconciling",
            _ = tokio::spawn(keep_secrets(secrets, writer, keys, configuration)) => "keeping the release's Secrets",
        };
        Error::Ended(ended)
    }

    fn recorder(&self) -> Recorder {
        let reporter = Reporter { controller: "clawlock-operator".to_owned(), instance: Some(self.pod.clone()) };
        Recorder::new(self.client.clone(), reporter)
    }

    fn controller(
        &self,
        writer: &Writer,
        addresses: Arc<Addresses>,
        departures: Arc<Departures>,
        in_force: watch::Receiver<Option<Arc<InForce>>>,
    ) -> Controller {
        let context = Context {
            world: self.world.clone(),
            writer: writer.clone(),
            release: self.release.clone(),
            anchor: self.keys.anchor.clone(),
            secrets: self.secrets.clone(),
            addresses,
            departures,
            recorder: self.recorder(),
            metrics: self.metrics.clone(),
        };
        Controller::new(context, in_force)
    }
}

/// Serves the control API, from the moment on at which there is something to serve: a client that is told
/// that its pod is not known would ask for another certificate.
async fn serve_control(listen: SocketAddr, mut ready: watch::Receiver<bool>, control: Control<ApiServer>) -> Error {
    if ready.wait_for(|ready| *ready).await.is_err() {
        return Error::Ended("serving");
    }
    let listener = match TcpListener::bind(listen).await {
        Ok(listener) => listener,
        Err(error) => return Error::Listen(format!("control address {listen}: {error}; pass another")),
    };
    let _ = tokio::spawn(control::serve(listener, control)).await;
    Error::Ended("the control API")
}

async fn keep_secrets(secrets: Secrets, writer: Writer, keys: [Secret; 2], configuration: String) {
    let mut failing = false;
    loop {
        let kept = async {
            for key in &keys {
                put_back(&secrets, &writer, key).await?;
            }
            webhook::keep(&secrets, &writer, &configuration, now_ms()).await
        };
        match kept.await {
            Ok(()) => failing = false,
            Err(error) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!("the release's keys and certificates cannot be kept: {error}");
            }
            Err(_) => {}
        }
        tokio::time::sleep(SECRETS_PERIOD).await;
    }
}

/// Keeps the issuer of the cluster's tokens: it can be changed while this runs.
async fn keep_issuer(client: &Client, issuers: watch::Sender<Option<String>>) {
    loop {
        tokio::time::sleep(ISSUER_PERIOD).await;
        if let Some(issuer) = issuer(client).await {
            issuers.send_replace(Some(issuer));
        }
    }
}

/// The issuer of the cluster's tokens. Without it, that claim is left to the API server alone.
async fn issuer(client: &Client) -> Option<String> {
    let request = http::Request::get("/.well-known/openid-configuration").body(Vec::new()).ok()?;
    let answer = tokio::time::timeout(ISSUER_TIMEOUT, client.request::<serde_json::Value>(request)).await;
    match answer {
        Ok(Ok(document)) => document["issuer"].as_str().map(str::to_owned),
        _ => {
            tracing::debug!("the issuer of the cluster's tokens is not known; the API server alone judges it");
            None
        }
    }
}
