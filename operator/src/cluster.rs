//! The one way to write to the API server: after a look at the Lease, bounded in time, counted.
//!
//! Server-side apply with one field manager that is never renamed. Whoever reconciles says what should be
//! there; what nobody lists any more is pruned by [`crate::tenant::apply`], never here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use clawlock_compile::objects::names::FIELD_MANAGER;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::lease::{Leadership, NotLeader};
use crate::metrics::{Metrics, Written};

/// Longest that one write may take; the API server itself gives up after 60 s, and a reconcile must not.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// Another replica leads.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The API server refused it, or could not be reached.
    #[error("{what}: {}", Brief(source))]
    Api {
        /// What was to be written.
        what: String,
        /// Why it was not.
        source: Box<kube::Error>,
    },
    /// It is not fit to be written.
    #[error("{what}: {reason}")]
    Refused {
        /// What was to be written.
        what: String,
        /// Why it was not.
        reason: String,
    },
    /// The API server did not answer.
    #[error("{what}: the API server did not answer within {} s", WRITE_TIMEOUT.as_secs())]
    Timeout {
        /// What was to be written.
        what: String,
    },
}

impl WriteError {
    /// The API server's status code, when it answered with one.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => status_code(source),
            Self::NotLeader(_) | Self::Timeout { .. } | Self::Refused { .. } => None,
        }
    }
}

/// An error in one sentence: what the API server says, without its whole answer.
pub(crate) struct Brief<'a>(pub(crate) &'a kube::Error);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            kube::Error::Api(status) => write!(f, "{} ({})", status.message, status.code),
            other => other.fmt(f),
        }
    }
}

/// The status code of an answer of the API server.
pub(crate) fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Writes as the leader.
#[derive(Clone)]
pub(crate) struct Writer {
    client: Client,
    leadership: Arc<Leadership>,
    metrics: Arc<Metrics>,
}

impl Writer {
    /// A writer that asks `leadership` before each write.
    pub(crate) fn new(client: Client, leadership: Arc<Leadership>, metrics: Arc<Metrics>) -> Self {
        Self { client, leadership, metrics }
    }

    /// The client, for reading.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether this replica may write.
    ///
    /// # Errors
    /// When it may not.
    pub(crate) fn check(&self) -> Result<(), NotLeader> {
        self.leadership.check()
    }

    /// Applies an object: what it lists is ours, what others wrote beside it stays.
    ///
    /// # Errors
    /// When it was not written.
    pub(crate) async fn apply(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
        value: &Value,
    ) -> Result<DynamicObject, WriteError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, resource);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let what = || format!("apply {} {namespace}/{name}", resource.kind);
        self.bounded(what, Written::Apply, api.patch(name, &params, &Patch::Apply(value))).await
    }

    /// Applies a cluster-wide object.
    ///
    /// # Errors
    /// When it was not written.
    pub(crate) async fn apply_cluster(
        &self,
        resource: &ApiResource,
        name: &str,
        value: &Value,
    ) -> Result<DynamicObject, WriteError> {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), resource);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let what = || format!("apply {} {name}", resource.kind);
        self.bounded(what, Written::Apply, api.patch(name, &params, &Patch::Apply(value))).await
    }

    /// Merges a patch into an object, or into one of its subresources.
    ///
    /// # Errors
    /// When it was not written.
    pub(crate) async fn merge(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
        subresource: Option<&str>,
        patch: &Value,
    ) -> Result<DynamicObject, WriteError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, resource);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(patch);
        let what = || format!("patch {} {namespace}/{name}", resource.kind);
        match subresource {
            Some(part) => self.bounded(what, Written::Status, api.patch_subresource(part, name, &params, &patch)).await,
            None => self.bounded(what, Written::Patch, api.patch(name, &params, &patch)).await,
        }
    }

    /// Creates an object.
    ///
    /// # Errors
    /// When it was not written; code 409 when it is there already.
    pub(crate) async fn create<K>(&self, namespace: &str, object: &K) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let what = || format!("create {} {namespace}/{}", K::kind(&()), object.meta().name.as_deref().unwrap_or("?"));
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        self.bounded(what, Written::Create, api.create(&params, object)).await
    }

    /// Replaces an object at the version that its metadata names.
    ///
    /// # Errors
    /// When it was not written; code 409 when someone else wrote it in between.
    pub(crate) async fn replace<K>(&self, namespace: &str, object: &K) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let name = object.meta().name.clone().unwrap_or_default();
        let what = || format!("replace {} {namespace}/{name}", K::kind(&()));
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        self.bounded(what, Written::Replace, api.replace(&name, &params, object)).await
    }

    /// Deletes an object. One that is not there is not an error.
    ///
    /// # Errors
    /// When it was not deleted.
    pub(crate) async fn delete(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
    ) -> Result<(), WriteError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, resource);
        let preconditions = uid.map(|uid| Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() });
        let params = DeleteParams { preconditions, ..DeleteParams::background() };
        let what = || format!("delete {} {namespace}/{name}", resource.kind);
        match self.bounded(what, Written::Delete, api.delete(name, &params)).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(404) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn bounded<T>(
        &self,
        what: impl Fn() -> String,
        written: Written,
        write: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, WriteError> {
        self.leadership.check()?;
        match tokio::time::timeout(WRITE_TIMEOUT, write).await {
            Ok(Ok(value)) => {
                self.metrics.written(written, true);
                Ok(value)
            }
            Ok(Err(source)) => {
                self.metrics.written(written, false);
                Err(WriteError::Api { what: what(), source: Box::new(source) })
            }
            Err(_) => {
                self.metrics.written(written, false);
                Err(WriteError::Timeout { what: what() })
            }
        }
    }
}
