//! The stored state as the leader writes it: objects first, then the list that names them, at the version
//! that was read. What was lost or broken is written again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clawlock_compile::Resources;
use clawlock_compile::objects::names::{object, tenant_state};
use clawlock_compile::state::{self, Accepted};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ApiResource, ListParams};

use super::plan::Change;
use crate::cluster::{Brief, WriteError, Writer};
use crate::pki::signing::Signer;
use crate::store::{Library, STORED_LABEL, StoredTenant, write_object};
use crate::world::World;

/// Objects that are written at once.
const PARALLEL_WRITES: usize = 16;
/// What is missing in the watch for longer than this after it was written is written again.
pub(super) const MISSING: Duration = Duration::from_secs(2);
/// Longest that reading everything may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether something that was stored is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// All of it is there.
    Nothing,
    /// It was written just now, and the watch need not show it yet.
    Unsure,
    /// It is lost.
    Something,
}

/// What is stored, as this leader knows it.
pub(super) struct Storage {
    world: Arc<World>,
    writer: Writer,
    signer: Signer,
    library: Library,
    tenants: BTreeMap<String, StoredTenant>,
    /// When each tenant's list was written.
    listed: HashMap<String, Instant>,
    /// Digests of objects that are stored, and when they were written.
    objects: HashMap<String, Instant>,
    /// Versions of lists that cannot be read, by their ConfigMap's name, to be replaced.
    broken: BTreeMap<String, Option<String>>,
}

impl Storage {
    /// Knows nothing yet.
    pub(super) fn new(world: Arc<World>, writer: Writer, signer: Signer) -> Self {
        Self {
            world,
            writer,
            signer,
            library: Library::default(),
            tenants: BTreeMap::new(),
            listed: HashMap::new(),
            objects: HashMap::new(),
            broken: BTreeMap::new(),
        }
    }

    /// What is stored of each tenant.
    pub(super) fn tenants(&self) -> &BTreeMap<String, StoredTenant> {
        &self.tenants
    }

    /// The writer.
    pub(super) fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Reads what is stored, past the watch: another leader may just have written it. Answers the objects
    /// that were in force.
    pub(super) async fn load(&mut self) -> Result<Resources, String> {
        let api: Api<ConfigMap> = Api::namespaced(self.writer.client().clone(), self.world.release());
        let list = tokio::time::timeout(LOAD_TIMEOUT, list(&api)).await;
        let maps = list.map_err(|_| "the API server did not answer in time".to_owned())??;
        let mut good = Vec::new();
        self.tenants.clear();
        let now = Instant::now();
        for (name, map) in &maps {
            let stored = match StoredTenant::read(map, &self.signer) {
                None => continue,
                Some(Ok(stored)) => stored,
                Some(Err(error)) => {
                    tracing::error!("{error}; the tenant begins anew, without last good versions");
                    self.broken.insert(name.clone(), map.metadata.resource_version.clone());
                    continue;
                }
            };
            for digest in &stored.state.objects {
                let find = |name: &str| maps.get(name).cloned();
                match self.library.objects(std::slice::from_ref(digest), find, &self.signer) {
                    Ok(objects) => {
                        good.extend(objects.iter().map(|object| Accepted::clone(object)));
                        self.objects.insert(digest.clone(), now);
                    }
                    Err(error) => tracing::error!("state {name}: {error}; this last good version is lost"),
                }
            }
            self.listed.insert(stored.state.tenant.clone(), now);
            self.tenants.insert(stored.state.tenant.clone(), stored);
        }
        Ok(state::resources(good))
    }

    /// How long ago a tenant's list was written or read.
    pub(super) fn age(&self, tenant: &str) -> Option<Duration> {
        self.listed.get(tenant).map(Instant::elapsed)
    }

    /// Whether a part of a tenant's stored state is not there any more.
    pub(super) fn missing(&self, tenant: &str) -> Missing {
        let Some(stored) = self.tenants.get(tenant) else { return Missing::Nothing };
        let is_there = |name: &str| self.world.stored.get(self.world.release(), name).is_some();
        let objects = stored.state.objects.iter().filter(|digest| object(digest).is_none_or(|name| !is_there(&name)));
        let mut since: Vec<Option<&Instant>> = objects.map(|digest| self.objects.get(digest)).collect();
        if !is_there(&tenant_state(tenant)) {
            since.push(self.listed.get(tenant));
        }
        let is_old = |written: &Option<&Instant>| written.is_none_or(|written| written.elapsed() > MISSING);
        match since.as_slice() {
            [] => Missing::Nothing,
            all if all.iter().any(is_old) => Missing::Something,
            _ => Missing::Unsure,
        }
    }

    /// Stores a tenant: first its objects, then the list that names them.
    pub(super) async fn store(&mut self, change: Change) -> Result<(), WriteError> {
        let Change { stored, accepted, lost } = change;
        if lost {
            let release = self.world.release();
            let is_lost =
                |digest: &str| object(digest).is_none_or(|name| self.world.stored.get(release, &name).is_none());
            self.objects.retain(|digest, _| !stored.state.objects.contains(digest) || !is_lost(digest));
        }
        // One that a leader before this one stored, and did not come to list, need not be written again.
        for (digest, _) in &accepted {
            if !self.objects.contains_key(digest) && self.is_stored(digest) {
                self.objects.insert(digest.clone(), Instant::now());
            }
        }
        let new: Vec<(String, Accepted)> =
            accepted.into_iter().filter(|(digest, _)| !self.objects.contains_key(digest)).collect();
        let mut maps = Vec::new();
        for (digest, object) in &new {
            let map = write_object(object, &self.signer).map_err(|error| WriteError::Refused {
                what: format!("{} {}/{}", object.kind(), object.namespace(), object.name()),
                reason: error,
            })?;
            maps.push((digest.clone(), map));
        }
        let this = &*self;
        stream::iter(maps)
            .map(|(digest, map)| this.store_object(digest, map))
            .buffer_unordered(PARALLEL_WRITES)
            .try_collect::<Vec<()>>()
            .await?;
        for (digest, object) in new {
            self.objects.insert(digest.clone(), Instant::now());
            self.library.insert(digest, Arc::new(object));
        }
        self.store_list(stored, lost).await
    }

    /// Whether the watch shows an object as it should be.
    fn is_stored(&self, digest: &str) -> bool {
        let find = |name: &str| self.world.stored.get(self.world.release(), name);
        Library::default().objects(&[digest.to_owned()], find, &self.signer).is_ok()
    }

    async fn store_object(&self, digest: String, map: ConfigMap) -> Result<(), WriteError> {
        let namespace = self.world.release();
        let result = self.writer.create(namespace, &map).await;
        match result {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(409) => {
                // It is named by its content, unless somebody wrote another one there.
                let name = map.metadata.name.clone().unwrap_or_default();
                let api: Api<ConfigMap> = Api::namespaced(self.writer.client().clone(), namespace);
                let there = api.get_opt(&name).await.ok().flatten().map(Arc::new);
                let find = |_: &str| there.clone();
                if Library::default().objects(&[digest], find, &self.signer).is_ok() {
                    return Ok(());
                }
                tracing::error!("ConfigMap {name} holds something else than its name says; it is replaced");
                self.writer.delete(&ApiResource::erase::<ConfigMap>(&()), namespace, &name, None).await?;
                self.writer.create(namespace, &map).await.map(|_| ())
            }
            Err(error) => Err(error),
        }
    }

    async fn store_list(&mut self, mut stored: StoredTenant, lost: bool) -> Result<(), WriteError> {
        let namespace = self.world.release().to_owned();
        let tenant = stored.state.tenant.clone();
        let name = tenant_state(&tenant);
        if lost && self.world.stored.get(&namespace, &name).is_none() {
            stored.version = None;
        }
        if let Some(version) = self.broken.remove(&name) {
            stored.version = version;
        }
        let map = stored.write(&self.signer);
        let written = match stored.version {
            Some(_) => self.writer.replace(&namespace, &map).await,
            None => self.writer.create(&namespace, &map).await,
        };
        match written {
            Ok(map) => {
                stored.version = map.metadata.resource_version;
                tracing::info!(tenant, generation = stored.state.generation, "a new state is in force");
                self.listed.insert(tenant.clone(), Instant::now());
                self.tenants.insert(tenant, stored);
                Ok(())
            }
            Err(error) => {
                if matches!(error.code(), Some(404 | 409)) {
                    self.reread(&namespace, &tenant).await;
                }
                Err(error)
            }
        }
    }

    /// Somebody else wrote or deleted a list: what is there now counts, and the next turn goes on from it.
    async fn reread(&mut self, namespace: &str, tenant: &str) {
        let api: Api<ConfigMap> = Api::namespaced(self.writer.client().clone(), namespace);
        let name = tenant_state(tenant);
        match api.get_opt(&name).await {
            Ok(Some(map)) => match StoredTenant::read(&map, &self.signer) {
                Some(Ok(theirs)) => {
                    self.tenants.insert(tenant.to_owned(), theirs);
                }
                // It is ours to write; only its version is of use.
                _ => {
                    self.broken.insert(name, map.metadata.resource_version);
                }
            },
            Ok(None) => {
                if let Some(stored) = self.tenants.get_mut(tenant) {
                    stored.version = None;
                }
            }
            Err(error) => tracing::warn!("the state of tenant {tenant} cannot be read again: {}", Brief(&error)),
        }
    }

    /// Removes what is stored of a tenant.
    pub(super) async fn remove(&mut self, tenant: &str) -> Result<(), WriteError> {
        if self.tenants.contains_key(tenant) {
            let resource = ApiResource::erase::<ConfigMap>(&());
            self.writer.delete(&resource, self.world.release(), &tenant_state(tenant), None).await?;
            self.tenants.remove(tenant);
        }
        Ok(())
    }

    /// Forgets objects that no list names.
    pub(super) fn tidy(&mut self) {
        let listed: BTreeSet<&str> =
            self.tenants.values().flat_map(|stored| stored.state.objects.iter().map(String::as_str)).collect();
        self.library.retain(|digest| listed.contains(digest));
        self.objects.retain(|digest, _| listed.contains(digest.as_str()));
    }
}

async fn list(api: &Api<ConfigMap>) -> Result<BTreeMap<String, Arc<ConfigMap>>, String> {
    let mut params = ListParams::default().labels(STORED_LABEL).limit(500);
    let mut maps = BTreeMap::new();
    loop {
        let page = api.list(&params).await.map_err(|error| Brief(&error).to_string())?;
        let named = page.items.into_iter().map(|map| (map.metadata.name.clone().unwrap_or_default(), Arc::new(map)));
        maps.extend(named);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(maps),
        }
    }
}
