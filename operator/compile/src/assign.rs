//! Which documents hold for one pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clawlock_policy::SpiffeId;
use clawlock_policy::codec;
use clawlock_policy::document::{Assignment, Document, Mode, PodDoc, UpstreamDoc};
use clawlock_policy::policy::{MAX_DOCUMENTS, MAX_RULES};

use crate::manifests::Manifests;
use crate::problem::{ObjectRef, Problem, Severity};
use crate::selection::Selection;
use crate::settings::Settings;

/// What resources come to. Made by [`compile`](crate::compile).
#[derive(Clone, Debug, PartialEq)]
pub struct Compilation {
    /// What is wrong, sorted by object and path.
    pub problems: Vec<Problem>,
    pub(crate) tenants: BTreeMap<String, Tenant>,
    /// Agents' namespaces whose tenant is invalid, and why.
    pub(crate) invalid: BTreeMap<String, Problem>,
}

/// A tenant that is valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenant {
    pub(crate) name: String,
    pub(crate) platform_namespace: String,
    pub(crate) trust_domain: String,
    pub(crate) namespaces: BTreeSet<String>,
    pub(crate) settings: Settings,
    /// What holds for every pod of the tenant.
    pub(crate) shared: Vec<Stored>,
    /// What holds for the pods that a selector selects, by their namespace.
    pub(crate) selected: BTreeMap<String, Selection>,
    /// What holds for the pods that name a manifest.
    pub(crate) manifests: Manifests,
}

/// A document and its digest. Shared by everyone for whom it holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    digest: Arc<str>,
    document: Arc<Document>,
}

impl Stored {
    pub(crate) fn new(document: Document) -> Self {
        Self { digest: codec::digest(&codec::encode(&document)).into(), document: Arc::new(document) }
    }

    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }
}

impl Tenant {
    /// Its name, which is the name of its `TenantGateway`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace of its `TenantGateway`, upstreams and credentials.
    #[must_use]
    pub fn platform_namespace(&self) -> &str {
        &self.platform_namespace
    }

    /// The SPIFFE trust domain of its identities.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Its agents' namespaces, sorted.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.iter().map(String::as_str)
    }

    /// What its Kubernetes objects are made of.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its valid upstreams, by name.
    pub fn upstreams(&self) -> impl Iterator<Item = &UpstreamDoc> {
        self.shared.iter().filter_map(|stored| match &*stored.document {
            Document::Upstream(upstream) => Some(upstream),
            Document::Policy(_) | Document::Tenant(_) | Document::Halt(_) | Document::Manifest(_) => None,
        })
    }
}

/// A pod, as the API server knows it (under `clawlock dev`, the laptop's stand-in for one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its ServiceAccount.
    pub service_account: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The ConfigMap of its namespace that has its manifest: its annotation
    /// [`MANIFEST`](crate::objects::names::MANIFEST).
    pub manifest: Option<String>,
}

/// The validity of an assignment, which the caller decides: this crate has no clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Grows with every change.
    pub generation: u64,
    /// When it is signed, in milliseconds since the Unix epoch.
    pub issued_at_ms: u64,
    /// From when on it denies, in milliseconds since the Unix epoch.
    pub not_after_ms: u64,
}

/// An assignment and all documents that it names, in the order of their digests.
#[derive(Clone, Debug, PartialEq)]
pub struct Assigned {
    /// The assignment.
    pub assignment: Assignment,
    /// Its documents.
    pub documents: Vec<Document>,
}

/// Why a pod has no assignment. Without one, everything it asks for is denied.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AssignError {
    /// No tenant has its namespace.
    #[error(
        "no TenantGateway lists namespace {namespace:?}, so its pods are denied everything; \
         add it to spec.namespaces of one, or run the agent elsewhere"
    )]
    NoTenant {
        /// The namespace.
        namespace: String,
    },
    /// Its tenant is invalid.
    #[error("the tenant of namespace {namespace:?} is invalid, so its pods are denied everything; {problem}")]
    InvalidTenant {
        /// The namespace.
        namespace: String,
        /// The first of the tenant's mistakes.
        problem: Box<Problem>,
    },
    /// It can have no identity.
    #[error("pod {pod} can have no identity: {reason}")]
    Identity {
        /// The pod, as `namespace/name`.
        pod: String,
        /// What is wrong with its names.
        reason: String,
    },
    /// More than a gate accepts for one pod.
    #[error("pod {pod} has {count} {what}, at most {max} are allowed; merge or narrow what selects it")]
    TooLarge {
        /// The pod, as `namespace/name`.
        pod: String,
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        count: usize,
        /// How much is allowed.
        max: usize,
    },
    /// The ticket is over before it is issued.
    #[error("the ticket is issued at {issued_at_ms} and ends at {not_after_ms}; look at the clock of this program")]
    Ticket {
        /// When it is issued.
        issued_at_ms: u64,
        /// When it ends.
        not_after_ms: u64,
    },
}

impl Compilation {
    /// The valid tenants, by name.
    pub fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.values()
    }

    /// A valid tenant, by name.
    #[must_use]
    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.get(name)
    }

    /// The valid tenant that has an agents' namespace.
    #[must_use]
    pub fn tenant_of(&self, namespace: &str) -> Option<&Tenant> {
        self.tenants.values().find(|tenant| tenant.namespaces.contains(namespace))
    }

    /// Whether nothing in an object keeps it from being in force.
    #[must_use]
    pub fn is_accepted(&self, object: &ObjectRef) -> bool {
        !self.problems.iter().any(|problem| problem.severity == Severity::Error && problem.object == *object)
    }

    /// The policies and halts that hold for the pod with this UID and these labels, also those that are invalid and
    /// therefore stop it.
    #[must_use]
    pub fn selecting(&self, namespace: &str, uid: &str, labels: &BTreeMap<String, String>) -> Vec<&ObjectRef> {
        let selected = self.tenant_of(namespace).and_then(|tenant| tenant.selected.get(namespace));
        let selected = selected.into_iter().flat_map(|selection| selection.of(uid, labels));
        let mut origins: Vec<&ObjectRef> = selected.map(|selected| &selected.origin).collect();
        origins.sort();
        origins.dedup();
        origins
    }

    /// The mode that a policy has at a time; `None` when it is invalid or in no tenant's namespace.
    #[must_use]
    pub fn observed_mode(&self, policy: &ObjectRef, now_ms: u64) -> Option<clawlock_crds::Mode> {
        let tenant = self.tenant_of(&policy.namespace)?;
        let selected = tenant.selected.get(&policy.namespace)?.iter().find(|selected| selected.origin == *policy)?;
        let Document::Policy(document) = &*selected.stored.document else { return None };
        let audits = document.mode == Mode::Audit && tenant.audits(now_ms);
        Some(if audits { clawlock_crds::Mode::Audit } else { clawlock_crds::Mode::Enforce })
    }

    /// The digests of the documents that hold for the pod with this UID, these labels and this manifest, sorted.
    #[must_use]
    pub fn digests(
        &self,
        namespace: &str,
        uid: &str,
        labels: &BTreeMap<String, String>,
        manifest: Option<&str>,
    ) -> Vec<&str> {
        let tenant = self.tenant_of(namespace);
        let documents = tenant.map(|tenant| tenant.documents(namespace, uid, labels, manifest));
        documents.map(|documents| documents.into_keys().collect()).unwrap_or_default()
    }

    /// Why the manifest that a pod names does not hold, so that the pod is stopped; `None`: it holds, or no tenant has the
    /// namespace.
    #[must_use]
    pub fn manifest_problem(&self, namespace: &str, manifest: &str) -> Option<&str> {
        self.tenant_of(namespace)?.manifests.problem(namespace, manifest)
    }

    /// The assignment of a pod.
    ///
    /// # Errors
    /// When its namespace belongs to no valid tenant, or its names make no identity.
    pub fn assign(&self, pod: &Pod, ticket: Ticket) -> Result<Assigned, AssignError> {
        let (assignment, documents) = self.assignment(pod, ticket)?;
        Ok(Assigned { assignment, documents: documents.into_iter().cloned().collect() })
    }

    /// The assignment of a pod, and the documents that it names, in the order of their digests.
    ///
    /// # Errors
    /// As [`Self::assign`].
    pub fn assignment(&self, pod: &Pod, ticket: Ticket) -> Result<(Assignment, Vec<&Document>), AssignError> {
        let Pod { namespace, name, uid, service_account, labels, manifest } = pod;
        if let Some(problem) = self.invalid.get(namespace) {
            let problem = Box::new(problem.clone());
            return Err(AssignError::InvalidTenant { namespace: namespace.clone(), problem });
        }
        let Some(tenant) = self.tenant_of(namespace) else {
            return Err(AssignError::NoTenant { namespace: namespace.clone() });
        };
        let full_name = || format!("{namespace}/{name}");
        let identity = SpiffeId::of_pod(&tenant.trust_domain, namespace, service_account, uid)
            .map_err(|error| AssignError::Identity { pod: full_name(), reason: error.to_string() })?;
        let Ticket { generation, issued_at_ms, not_after_ms } = ticket;
        if issued_at_ms >= not_after_ms {
            return Err(AssignError::Ticket { issued_at_ms, not_after_ms });
        }
        let documents = tenant.documents(namespace, uid, labels, manifest.as_deref());
        let assignment = Assignment {
            tenant: tenant.name.clone(),
            identity: identity.as_str().to_owned(),
            pod: PodDoc {
                namespace: namespace.clone(),
                name: name.clone(),
                uid: uid.clone(),
                service_account: service_account.clone(),
                labels: labels.clone(),
            },
            plugin_optional: tenant.plugin_optional(labels),
            digests: documents.keys().map(|digest| (*digest).to_owned()).collect(),
            generation,
            issued_at_ms,
            not_after_ms,
        };
        let rules = documents.values().map(|document| rule_count(document)).sum();
        let size = codec::encode_assignment(&assignment).len();
        for (what, count, max) in [
            ("documents", documents.len(), MAX_DOCUMENTS),
            ("rules", rules, MAX_RULES),
            ("bytes of assignment", size, codec::MAX_ASSIGNMENT),
        ] {
            if count > max {
                return Err(AssignError::TooLarge { pod: full_name(), what, count, max });
            }
        }
        Ok((assignment, documents.into_values().collect()))
    }
}

impl Tenant {
    /// Whether mode Audit counts at a time.
    fn audits(&self, now_ms: u64) -> bool {
        self.shared.iter().any(|stored| match &*stored.document {
            Document::Tenant(tenant) => {
                tenant.allowed_modes.contains(&Mode::Audit) && tenant.audit_until_ms.is_some_and(|until| now_ms < until)
            }
            Document::Upstream(_) | Document::Policy(_) | Document::Halt(_) | Document::Manifest(_) => false,
        })
    }

    /// The first entry of `agents.pluginOptional`, by name, that selects the pods with these labels.
    fn plugin_optional(&self, labels: &BTreeMap<String, String>) -> Option<String> {
        let mut entries = self.settings.agents.plugin_optional.iter();
        entries.find(|entry| entry.pod_selector.matches(labels)).map(|entry| entry.name.clone())
    }

    /// The documents that hold for a pod, by digest.
    fn documents(
        &self,
        namespace: &str,
        uid: &str,
        labels: &BTreeMap<String, String>,
        manifest: Option<&str>,
    ) -> BTreeMap<&str, &Document> {
        let selected = self.selected.get(namespace).into_iter().flat_map(|selection| selection.of(uid, labels));
        let selected = selected.map(|selected| &selected.stored);
        let manifest = manifest.map(|name| self.manifests.stored(namespace, name));
        // Two halts of one name come from one object that is there twice, or from one that is twice
        // wrong; one of them says it.
        let mut halts = BTreeSet::new();
        let mut documents = BTreeMap::new();
        for stored in self.shared.iter().chain(selected).chain(manifest) {
            if let Document::Halt(halt) = &*stored.document
                && !halts.insert(halt.name.as_str())
            {
                continue;
            }
            documents.insert(stored.digest(), &*stored.document);
        }
        documents
    }
}

fn rule_count(document: &Document) -> usize {
    match document {
        // A residency counts as a rule, since the gates make one of it.
        Document::Policy(policy) => policy.rules.len() + usize::from(policy.residency.is_some()),
        Document::Tenant(tenant) => tenant.guardrails.len(),
        Document::Upstream(_) | Document::Halt(_) | Document::Manifest(_) => 0,
    }
}
