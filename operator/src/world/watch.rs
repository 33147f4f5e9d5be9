//! From a watch of the API server to a shelf. A watch that breaks is started again, and until it is back
//! the shelf keeps what it had: an API server that answers nonsense, or a definition that was deleted,
//! takes nothing out of force.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, TryStreamExt as _};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Error, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use super::shelf::{Item, Key, Shelf};
use crate::cluster::Brief;
use crate::metrics::Metrics;

/// How long one watch lasts; a connection that died unnoticed is missed after this time.
const WATCH_SECONDS: u32 = 45;
/// Objects per page of the first list. A page is held as a whole, and a pod of 10 KiB takes five times as much in memory
/// until it is cut down; what a large page took is not given back to the system.
const PAGE: u32 = 50;

/// What one watch is about.
pub(crate) struct Watch<K, T> {
    /// What is watched.
    pub(crate) api: Api<K>,
    /// Label selector; empty: everything.
    pub(crate) labels: String,
    /// The namespace that is watched; empty: all of them.
    pub(crate) scope: String,
    /// Where what is seen goes.
    pub(crate) shelf: Arc<Shelf<T>>,
    /// How it is read; `None`: it is none of ours.
    pub(crate) read: fn(K) -> Option<T>,
}

impl<K, T> Watch<K, T>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    T: Item,
{
    /// Watches until it is dropped.
    pub(crate) async fn run(self, metrics: Arc<Metrics>) {
        let Self { api, labels, scope, shelf, read } = self;
        let mut config = Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
        if !labels.is_empty() {
            config = config.labels(&labels);
        }
        let mut events = watcher(api, config).default_backoff().boxed();
        let mut listed: BTreeMap<Key, Arc<T>> = BTreeMap::new();
        let mut broken = false;
        loop {
            let event = match events.try_next().await {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(error) => {
                    metrics.watch_failed();
                    if !std::mem::replace(&mut broken, true) {
                        let kind =
                            std::any::type_name::<K>().rsplit("::").next().unwrap_or_default().trim_end_matches('>');
                        tracing::warn!(
                            kind,
                            "a watch broke and is started again; what it has seen stays: {}",
                            brief(&error)
                        );
                    }
                    continue;
                }
            };
            broken = false;
            match event {
                Event::Init => listed.clear(),
                Event::InitApply(object) => {
                    let key = key(&object);
                    listed.extend(read(object).map(|item| (key, Arc::new(item))));
                }
                Event::InitDone => shelf.replace(&scope, std::mem::take(&mut listed)),
                Event::Apply(object) => {
                    let key = key(&object);
                    match read(object) {
                        Some(item) => shelf.put(key, Arc::new(item)),
                        None => shelf.remove(&key),
                    }
                }
                Event::Delete(object) => shelf.remove(&key(&object)),
            }
        }
    }
}

/// The error in one sentence.
fn brief(error: &Error) -> String {
    match error {
        Error::InitialListFailed(error) | Error::WatchStartFailed(error) | Error::WatchFailed(error) => {
            Brief(error).to_string()
        }
        Error::WatchError(status) => status.message.clone(),
        Error::NoResourceVersion => error.to_string(),
    }
}

fn key<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// One watch per namespace of a set that changes.
pub(crate) struct Family<K, T> {
    client: Client,
    labels: String,
    shelf: Arc<Shelf<T>>,
    read: fn(K) -> Option<T>,
    metrics: Arc<Metrics>,
    running: Mutex<BTreeMap<String, JoinHandle<()>>>,
}

impl<K, T> Family<K, T>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
    T: Item,
{
    /// No watch yet.
    pub(crate) fn new(
        client: Client,
        labels: &str,
        shelf: Arc<Shelf<T>>,
        read: fn(K) -> Option<T>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { client, labels: labels.to_owned(), shelf, read, metrics, running: Mutex::default() }
    }

    /// What is seen.
    pub(crate) fn shelf(&self) -> &Arc<Shelf<T>> {
        &self.shelf
    }

    /// Watches exactly these namespaces.
    pub(crate) fn watch_exactly<'a>(&self, namespaces: impl Iterator<Item = &'a str>) {
        let wanted: std::collections::BTreeSet<&str> = namespaces.collect();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|namespace, task| {
            let keep = wanted.contains(namespace.as_str());
            if !keep {
                task.abort();
                self.shelf.forget(namespace);
            }
            keep
        });
        for namespace in wanted {
            running.entry(namespace.to_owned()).or_insert_with(|| {
                let watch = Watch {
                    api: Api::namespaced(self.client.clone(), namespace),
                    labels: self.labels.clone(),
                    scope: namespace.to_owned(),
                    shelf: self.shelf.clone(),
                    read: self.read,
                };
                tokio::spawn(watch.run(self.metrics.clone()))
            });
        }
    }
}

impl<K, T> Drop for Family<K, T> {
    fn drop(&mut self) {
        for task in self.running.lock().unwrap_or_else(PoisonError::into_inner).values() {
            task.abort();
        }
    }
}
