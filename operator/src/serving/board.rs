//! The board: which pod has which assignment now. Streams look at it, and are woken only by what is about
//! them: an agent's stream by its own pod, a gateway's by the pods of its tenant.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clawlock_compile::objects::names::{ROLE_LABEL, Role, TENANT_LABEL};
use clawlock_compile::objects::sidecar::{Standing, standing};
use clawlock_compile::{Pod as AgentPod, Ticket};
use clawlock_policy::{codec, envelope};
use tokio::sync::watch;

use super::{Served, ServedTenant};
use crate::clock::{millis, now_ms};
use crate::pki::signing::Signer;
use crate::world::World;
use crate::world::pod::Pod;

/// How long an assignment holds without being renewed.
pub(crate) const TICKET: Duration = Duration::from_secs(12 * 3600);

/// Assignments that are signed without a pause: some milliseconds, in which nobody else can look at the board.
const CHUNK: usize = 100;

/// A document and its signed envelope.
#[derive(Debug)]
pub(crate) struct SignedDocument {
    /// Its digest.
    pub(crate) digest: String,
    /// Its envelope.
    pub(crate) envelope: Vec<u8>,
}

/// A pod's assignment as it is sent.
#[derive(Debug)]
pub(crate) struct Issued {
    /// The pod's SPIFFE ID.
    pub(crate) identity: String,
    /// `namespace/name` of the pod.
    pub(crate) pod: String,
    /// Its generation.
    pub(crate) generation: u64,
    /// Its envelope.
    pub(crate) envelope: Vec<u8>,
    /// The documents that it names.
    pub(crate) documents: Vec<Arc<SignedDocument>>,
    marks: String,
}

/// The pods of a tenant that have an assignment, by UID.
pub(crate) type Assignments = Arc<BTreeMap<String, Arc<Issued>>>;

/// A pod is not known, has ended, or is no agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// Which pod has which assignment.
#[derive(Default)]
pub(crate) struct Board {
    inner: Mutex<Inner>,
    updated: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    pods: HashMap<String, Entry>,
    tenants: BTreeMap<String, watch::Sender<Assignments>>,
    documents: HashMap<String, Arc<SignedDocument>>,
    served: Option<Arc<Served>>,
    /// Pods that a fresh read did not show, although the watch does.
    gone: HashSet<String>,
    /// Agents for which nothing changes but the generation.
    behind: VecDeque<String>,
}

/// A pod that has an identity.
struct Entry {
    pod: Arc<Pod>,
    tenant: String,
    role: Role,
    /// An agent's assignment. When the pod is gone the sender is dropped, which ends its streams.
    issued: watch::Sender<Option<Arc<Issued>>>,
}

impl Board {
    /// Watches an agent's assignment. The channel closes when the pod is gone.
    ///
    /// # Errors
    /// When there is no such agent.
    pub(crate) fn agent(&self, tenant: &str, uid: &str) -> Result<watch::Receiver<Option<Arc<Issued>>>, Gone> {
        self.pod(tenant, uid, Role::Agent)
    }

    /// Watches whether a gateway's pod is there. The channel closes when it is gone.
    ///
    /// # Errors
    /// When there is no such pod.
    pub(crate) fn gateway(&self, tenant: &str, uid: &str) -> Result<watch::Receiver<Option<Arc<Issued>>>, Gone> {
        self.pod(tenant, uid, Role::Gateway)
    }

    /// Resolves when a pod is known.
    pub(crate) async fn known(&self, tenant: &str, uid: &str, role: Role) {
        let mut updated = self.updated.subscribe();
        while self.pod(tenant, uid, role).is_err() {
            if updated.changed().await.is_err() {
                return;
            }
        }
    }

    fn pod(&self, tenant: &str, uid: &str, role: Role) -> Result<watch::Receiver<Option<Arc<Issued>>>, Gone> {
        let inner = self.lock();
        let entry = inner.pods.get(uid).filter(|entry| entry.tenant == tenant && entry.role == role);
        entry.map(|entry| entry.issued.subscribe()).ok_or(Gone)
    }

    /// Watches the assignments of all pods of a tenant.
    ///
    /// # Errors
    /// When the tenant is not served.
    pub(crate) fn tenant(&self, tenant: &str) -> Result<watch::Receiver<Assignments>, Gone> {
        self.lock().tenants.get(tenant).map(watch::Sender::subscribe).ok_or(Gone)
    }

    /// Brings the board up to date for whom something changed. An edit is about few pods, and they must not wait until
    /// all others have its generation as well: that is left to [`Self::catch_up`]. Answers how many agents there are.
    pub(crate) fn update(&self, served: &Arc<Served>, world: &World, signer: &Signer) -> usize {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let same = inner.served.as_ref().is_some_and(|old| Arc::ptr_eq(old, served));
        inner.served = Some(served.clone());
        if !same {
            inner.behind.clear();
        }
        let all = world.pods.all();
        inner.gone.retain(|uid| all.iter().any(|pod| pod.uid == *uid));
        let pods = all.into_iter().filter(|pod| !inner.gone.contains(&pod.uid));
        let pods: Vec<(Arc<Pod>, String, Role)> = pods.filter_map(|pod| placed(pod, served, world)).collect();
        let present: HashSet<&str> = pods.iter().map(|(pod, _, _)| pod.uid.as_str()).collect();
        let before = inner.pods.len();
        inner.pods.retain(|uid, _| present.contains(uid.as_str()));
        let mut changed = !same || inner.pods.len() != before;
        let mut agents = 0;
        for (pod, tenant, role) in pods {
            agents += usize::from(role == Role::Agent);
            let known = inner.pods.get(&pod.uid).filter(|entry| entry.tenant == tenant && entry.role == role);
            if known.is_some_and(|entry| same && Arc::ptr_eq(&entry.pod, &pod)) {
                continue;
            }
            changed = true;
            let issued = known.map_or_else(|| watch::channel(None).0, |entry| entry.issued.clone());
            let entry = Entry { pod, tenant, role, issued };
            if entry.has_news(served) {
                entry.issue(served, signer, &mut inner.documents, false);
            } else {
                inner.behind.push_back(entry.pod.uid.clone());
            }
            inner.pods.insert(entry.pod.uid.clone(), entry);
        }
        if changed {
            inner.tell_tenants(served);
            self.updated.send_modify(|count| *count = count.wrapping_add(1));
        }
        agents
    }

    /// Signs the new generation for some of those who have nothing else new. Answers whether any are left.
    pub(crate) fn catch_up(&self, signer: &Signer) -> bool {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(served) = inner.served.clone().filter(|_| !inner.behind.is_empty()) else { return false };
        let some = inner.behind.len().min(CHUNK);
        for uid in inner.behind.drain(..some) {
            if let Some(entry) = inner.pods.get(&uid) {
                entry.issue(&served, signer, &mut inner.documents, false);
            }
        }
        let left = !inner.behind.is_empty();
        if !left {
            inner.tell_tenants(&served);
        }
        left
    }

    /// The UIDs of a tenant's agents.
    pub(crate) fn agents(&self, tenant: &str) -> HashSet<String> {
        let inner = self.lock();
        let own = inner.pods.iter().filter(|(_, entry)| entry.tenant == tenant && entry.role == Role::Agent);
        own.map(|(uid, _)| uid.clone()).collect()
    }

    /// Takes down the pods that are gone. They do not come back, even if the watch still shows them.
    pub(crate) fn take_down(&self, gone: impl Iterator<Item = String>) {
        let mut inner = self.lock();
        for uid in gone {
            inner.pods.remove(&uid);
            inner.gone.insert(uid);
        }
        if let Some(served) = inner.served.clone() {
            inner.tell_tenants(&served);
        }
    }

    /// Signs assignments again, with new times and nothing else.
    pub(crate) fn renew(&self, uids: &[String], signer: &Signer) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(served) = inner.served.clone() else { return };
        for entry in uids.iter().filter_map(|uid| inner.pods.get(uid)) {
            entry.issue(&served, signer, &mut inner.documents, true);
        }
        inner.tell_tenants(&served);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Whether something else holds for the pod than it was told, beside the generation.
    fn has_news(&self, served: &Served) -> bool {
        let told = self.issued.borrow();
        let Some(told) = told.as_ref().filter(|told| told.marks == self.pod.marks_digest) else { return true };
        let (view, manifest) = (&self.pod.view, self.pod.manifest.as_deref());
        let digests = served.compilation.digests(&self.pod.namespace, &self.pod.uid, &view.labels, manifest);
        !told.documents.iter().map(|document| document.digest.as_str()).eq(digests)
    }

    /// Signs an agent's assignment, when it changed or is to be renewed.
    fn issue(
        &self,
        served: &Served,
        signer: &Signer,
        documents: &mut HashMap<String, Arc<SignedDocument>>,
        renew: bool,
    ) {
        if self.role != Role::Agent {
            return;
        }
        let old = self.issued.borrow().clone();
        let new = issue(served, &self.tenant, &self.pod, old.as_ref(), signer, documents, renew);
        self.issued.send_if_modified(|now| {
            let changed = now.as_ref().map(Arc::as_ptr) != new.as_ref().map(Arc::as_ptr);
            *now = new;
            changed
        });
    }
}

impl Inner {
    /// Tells each gateway the assignments of its tenant, and forgets documents that nobody names.
    fn tell_tenants(&mut self, served: &Served) {
        let mut all: BTreeMap<&str, BTreeMap<String, Arc<Issued>>> =
            served.tenants.keys().map(|tenant| (tenant.as_str(), BTreeMap::new())).collect();
        let mut named = HashSet::new();
        for (uid, entry) in &self.pods {
            let issued = entry.issued.borrow().clone();
            if let (Some(issued), Some(tenant)) = (issued, all.get_mut(entry.tenant.as_str())) {
                named.extend(issued.documents.iter().map(|document| document.digest.clone()));
                tenant.insert(uid.clone(), issued);
            }
        }
        self.documents.retain(|digest, _| named.contains(digest));
        self.tenants.retain(|tenant, _| all.contains_key(tenant.as_str()));
        for (tenant, assignments) in all {
            let sender = self.tenants.entry(tenant.to_owned()).or_insert_with(|| watch::channel(Arc::default()).0);
            sender.send_if_modified(|old: &mut Assignments| {
                let changed = old.len() != assignments.len()
                    || old.iter().zip(&assignments).any(|((a, x), (b, y))| a != b || !Arc::ptr_eq(x, y));
                if changed {
                    *old = Arc::new(assignments);
                }
                changed
            });
        }
    }
}

/// The tenant and role of a pod that has an identity: its labels, its namespace's label and the tenant's
/// list must all agree.
fn placed(pod: Arc<Pod>, served: &Served, world: &World) -> Option<(Arc<Pod>, String, Role)> {
    if pod.is_over() || pod.uid.is_empty() {
        return None;
    }
    let tenant = pod.label(TENANT_LABEL)?;
    let compiled = served.compilation.tenant(tenant)?;
    let namespace = pod.namespace.as_str();
    let role = pod.label(ROLE_LABEL)?;
    let role = if role == Role::Gateway.as_str() && namespace == compiled.platform_namespace() {
        Role::Gateway
    } else if role == Role::Agent.as_str()
        && compiled.namespaces().any(|listed| listed == namespace)
        && world.labelled_tenant(namespace).as_deref() == Some(tenant)
        && standing(&pod.view, compiled) == Standing::Governed
    {
        Role::Agent
    } else {
        return None;
    };
    let tenant = tenant.to_owned();
    Some((pod, tenant, role))
}

/// Signs a pod's assignment; the old one when it cannot change now.
fn issue(
    served: &Served,
    tenant: &str,
    pod: &Pod,
    old: Option<&Arc<Issued>>,
    signer: &Signer,
    documents: &mut HashMap<String, Arc<SignedDocument>>,
    renew: bool,
) -> Option<Arc<Issued>> {
    let ServedTenant { generation, memory } = served.tenants.get(tenant)?;
    let marks = &pod.marks_digest;
    // A generation names one content, and a change of labels gets a generation of its own. Until this
    // replica sees both, what was issued stays.
    let expected = memory.relabelled.get(&pod.uid);
    let settled = expected.is_none_or(|expected| expected == marks);
    let newer = old.is_none_or(|old| old.generation < *generation);
    let same = old.is_some_and(|old| old.marks == *marks);
    if !settled || !(newer || same && renew) {
        return old.cloned();
    }
    let agent = AgentPod {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        service_account: pod.service_account.clone(),
        labels: pod.view.labels.clone(),
        manifest: pod.manifest.clone(),
    };
    let now_ms = now_ms();
    let ticket = Ticket { generation: *generation, issued_at_ms: now_ms, not_after_ms: now_ms + millis(TICKET) };
    let (assignment, unsigned) = match served.compilation.assignment(&agent, ticket) {
        Ok(assigned) => assigned,
        Err(error) => {
            tracing::warn!(tenant, "no assignment is issued: {error}");
            return None;
        }
    };
    let signed = unsigned.into_iter().zip(&assignment.digests).map(|(document, digest)| {
        let sign = || {
            let envelope = signer.sign(envelope::DOCUMENT, &codec::encode(document));
            Arc::new(SignedDocument { digest: digest.clone(), envelope })
        };
        documents.entry(digest.clone()).or_insert_with(sign).clone()
    });
    Some(Arc::new(Issued {
        documents: signed.collect(),
        pod: pod.title(),
        envelope: signer.sign(envelope::ASSIGNMENT, &codec::encode_assignment(&assignment)),
        identity: assignment.identity,
        generation: *generation,
        marks: marks.clone(),
    }))
}
