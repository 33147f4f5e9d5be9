//! Reads what the webhooks depend on, and keeps it up to date.
//!
//! Objects are taken as they are and typed one by one, so that one that cannot be read does not stop the watch. A
//! watch that breaks is started again; meanwhile what was read last holds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use clawlock_compile::Resources;
use clawlock_compile::objects::Release;
use clawlock_compile::objects::names::{ADMISSION, WEBHOOK_SECRET};
use clawlock_crds::{TenantGateway, Upstream};
use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::certificate::Certificate;
use super::metrics::Metrics;
use super::tenants::{Key, Sources, Tenants};

/// What was read, and who waits for it.
struct Reader {
    sources: Mutex<Sources>,
    changed: Notify,
    metrics: Arc<Metrics>,
}

impl Reader {
    fn change(&self, change: impl FnOnce(&mut Sources)) {
        change(&mut self.sources.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }
}

/// Starts all watches. Each of them goes on for ever: one that ends is a mistake.
pub(super) fn start(
    client: &Client,
    release: Release,
    certificate: Arc<Certificate>,
    metrics: Arc<Metrics>,
    tenants: watch::Sender<Option<Arc<Tenants>>>,
) -> JoinSet<()> {
    let reader = Arc::new(Reader { sources: Mutex::default(), changed: Notify::new(), metrics: metrics.clone() });
    let mut tasks = JoinSet::new();
    let all = |resource| watcher(Api::<DynamicObject>::all_with(client.clone(), &resource), watcher::Config::default());
    let gateways = all(ApiResource::erase::<TenantGateway>(&()));
    tasks.spawn(follow_objects(gateways, reader.clone(), |sources, read| sources.gateways = read));
    let upstreams = all(ApiResource::erase::<Upstream>(&()));
    tasks.spawn(follow_objects(upstreams, reader.clone(), |sources, read| sources.upstreams = read));
    // A name limits what the role has to allow.
    let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
    let maps = Api::<ConfigMap>::namespaced(client.clone(), &release.namespace);
    tasks.spawn(follow_admission(watcher(maps, named(ADMISSION)), reader.clone()));
    let secrets = Api::<Secret>::namespaced(client.clone(), &release.namespace);
    tasks.spawn(follow_certificate(watcher(secrets, named(WEBHOOK_SECRET)), certificate, metrics));
    tasks.spawn(rebuild(reader, release, tenants));
    tasks
}

async fn follow_objects<S>(stream: S, reader: Arc<Reader>, store: fn(&mut Sources, Option<BTreeMap<Key, Value>>))
where
    S: Stream<Item = watcher::Result<Event<DynamicObject>>> + Send,
{
    let mut stream = std::pin::pin!(stream.default_backoff());
    let mut current: BTreeMap<Key, Value> = BTreeMap::new();
    let mut fresh = BTreeMap::new();
    while let Some(event) = stream.next().await {
        let changed = match event {
            Ok(Event::Init) => {
                fresh.clear();
                false
            }
            Ok(Event::InitApply(object)) => {
                fresh.insert(key(&object), plain(object));
                false
            }
            Ok(Event::InitDone) => {
                current = std::mem::take(&mut fresh);
                true
            }
            // A status that is written anew changes nothing here.
            Ok(Event::Apply(object)) => {
                let (key, value) = (key(&object), plain(object));
                current.insert(key, value.clone()).as_ref() != Some(&value)
            }
            Ok(Event::Delete(object)) => current.remove(&key(&object)).is_some(),
            Err(error) => {
                broke(&reader.metrics, &error);
                false
            }
        };
        if changed {
            reader.change(|sources| store(sources, Some(current.clone())));
        }
    }
}

/// What of an object has a meaning here.
fn plain(object: DynamicObject) -> Value {
    let DynamicObject { types, metadata, data } = object;
    let types = types.unwrap_or_default();
    let mut value = json!({
        "apiVersion": types.api_version, "kind": types.kind,
        "metadata": { "namespace": metadata.namespace, "name": metadata.name },
    });
    if let Some(spec) = data.get("spec") {
        value["spec"] = spec.clone();
    }
    value
}

fn key(object: &DynamicObject) -> Key {
    (object.metadata.namespace.clone().unwrap_or_default(), object.metadata.name.clone().unwrap_or_default())
}

async fn follow_admission<S>(stream: S, reader: Arc<Reader>)
where
    S: Stream<Item = watcher::Result<Event<ConfigMap>>> + Send,
{
    let mut stream = std::pin::pin!(stream.default_backoff());
    let mut fresh = BTreeMap::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => fresh = BTreeMap::new(),
            Ok(Event::InitApply(map)) => fresh = map.data.unwrap_or_default(),
            Ok(Event::InitDone) => {
                let read = std::mem::take(&mut fresh);
                reader.change(|sources| sources.admission = Some(read));
            }
            Ok(Event::Apply(map)) => reader.change(|sources| sources.admission = Some(map.data.unwrap_or_default())),
            Ok(Event::Delete(_)) => reader.change(|sources| sources.admission = Some(BTreeMap::new())),
            Err(error) => broke(&reader.metrics, &error),
        }
    }
}

async fn follow_certificate<S>(stream: S, certificate: Arc<Certificate>, metrics: Arc<Metrics>)
where
    S: Stream<Item = watcher::Result<Event<Secret>>> + Send,
{
    let mut stream = std::pin::pin!(stream.default_backoff());
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::InitApply(secret) | Event::Apply(secret)) => match certificate.replace(&secret) {
                Ok(true) => {
                    metrics.certificates.inc();
                    tracing::info!("a new certificate is in use");
                }
                Ok(false) => {}
                Err(error) => tracing::error!("Secret {WEBHOOK_SECRET}: {error}; the certificate before it stays"),
            },
            // Deleted: the certificate is still valid, and the operator makes a new Secret.
            Ok(Event::Init | Event::InitDone | Event::Delete(_)) => {}
            Err(error) => broke(&metrics, &error),
        }
    }
}

fn broke(metrics: &Metrics, error: &watcher::Error) {
    metrics.watch_errors.inc();
    tracing::warn!(%error, "a watch broke and is started again");
}

/// Makes the tenants anew whenever something changed; many changes at once cost one round.
async fn rebuild(reader: Arc<Reader>, release: Release, tenants: watch::Sender<Option<Arc<Tenants>>>) {
    let mut good = Resources::default();
    loop {
        reader.changed.notified().await;
        let built = {
            let sources = reader.sources.lock().unwrap_or_else(PoisonError::into_inner);
            Tenants::build(&release, &sources, &mut good)
        };
        if let Some(built) = built {
            reader.metrics.tenants.set(i64::try_from(built.ready).unwrap_or(i64::MAX));
            tenants.send_replace(Some(Arc::new(built)));
        }
    }
}
