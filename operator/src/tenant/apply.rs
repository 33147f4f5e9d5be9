//! Fourth step: writing the difference. An object is applied when it should say something else than it was
//! last told, or when the watch shows it at another version than we left it, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use clawlock_compile::objects::names::FINALIZER;
use clawlock_compile::objects::{ObjectKey, ObjectKind};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::ApiResource;
use serde_json::json;

use super::build::Prepared;
use super::{Applied, Context, Error};
use crate::world::managed::Trace;

/// The API of a kind.
pub(super) fn resource(kind: ObjectKind) -> ApiResource {
    match kind {
        ObjectKind::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
        ObjectKind::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
        ObjectKind::RoleBinding => ApiResource::erase::<RoleBinding>(&()),
        ObjectKind::Service => ApiResource::erase::<Service>(&()),
        ObjectKind::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
        ObjectKind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
    }
}

/// Whether an object is to be applied.
fn is_due(prepared: &Prepared, applied: Option<&Applied>, seen: Option<&Arc<Trace>>) -> bool {
    match (applied, seen) {
        (Some(applied), Some(seen)) => {
            // One that is being deleted cannot be kept; it comes back when it is gone.
            !seen.ending && (applied.digest != prepared.digest || applied.version != seen.version)
        }
        (None, Some(seen)) => !seen.ending,
        (_, None) => true,
    }
}

/// Applies objects in their order. `just` collects those that were, `found` is told the address of a Service.
pub(super) async fn apply(
    context: &Context,
    objects: &[Prepared],
    managed: &BTreeMap<ObjectKey, Arc<Trace>>,
    applied: &mut BTreeMap<ObjectKey, Applied>,
    just: &mut BTreeSet<ObjectKey>,
    mut found: impl FnMut(IpAddr),
) -> Result<(), Error> {
    for prepared in objects {
        let Prepared { key, value, digest } = prepared;
        if !is_due(prepared, applied.get(key), managed.get(key)) {
            continue;
        }
        let written = context.writer.apply(&resource(key.kind), &key.namespace, &key.name, value).await?;
        if key.kind == ObjectKind::Service {
            let address = written.data["spec"]["clusterIP"].as_str().and_then(|text| text.parse().ok());
            address.into_iter().for_each(&mut found);
        }
        just.insert(key.clone());
        let version = written.metadata.resource_version.unwrap_or_default();
        applied.insert(key.clone(), Applied { digest: digest.clone(), version });
    }
    Ok(())
}

/// Deletes objects.
pub(super) async fn prune(
    context: &Context,
    keys: &[ObjectKey],
    managed: &BTreeMap<ObjectKey, Arc<Trace>>,
) -> Result<(), Error> {
    for key in keys {
        let Some(trace) = managed.get(key) else { continue };
        if !trace.ending {
            context.writer.delete(&resource(key.kind), &key.namespace, &key.name, Some(&trace.uid)).await?;
        }
        if trace.finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            remove_finalizer(context, key.kind, trace).await?;
        }
    }
    Ok(())
}

/// Takes our finalizer off an object.
pub(super) async fn remove_finalizer(context: &Context, kind: ObjectKind, trace: &Trace) -> Result<(), Error> {
    let left: Vec<&String> = trace.finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).collect();
    // Of this object and no other of its name.
    let patch = json!({"metadata": {"uid": trace.uid, "finalizers": left}});
    match context.writer.merge(&resource(kind), &trace.namespace, &trace.name, None, &patch).await {
        Ok(_) => Ok(()),
        // It is gone, or another one took its name.
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(version: &str, ending: bool) -> Arc<Trace> {
        let text = str::to_owned;
        let (namespace, name, tenant, uid) = (text("acme"), text("x"), text("acme"), text("u"));
        Arc::new(Trace { namespace, name, tenant, uid, version: text(version), ending, finalizers: Vec::new() })
    }

    #[test]
    fn only_what_differs_is_applied() {
        let key = ObjectKey { kind: ObjectKind::Service, namespace: "acme".to_owned(), name: "x".to_owned() };
        let prepared = Prepared { key, value: json!({}), digest: "d".to_owned() };
        let applied = Applied { digest: "d".to_owned(), version: "5".to_owned() };
        assert!(is_due(&prepared, None, None));
        assert!(is_due(&prepared, Some(&applied), None), "somebody deleted it");
        assert!(!is_due(&prepared, Some(&applied), Some(&trace("5", false))));
        assert!(is_due(&prepared, Some(&applied), Some(&trace("6", false))), "somebody changed it");
        assert!(!is_due(&prepared, Some(&applied), Some(&trace("6", true))));
        let other = Applied { digest: "e".to_owned(), ..applied };
        assert!(is_due(&prepared, Some(&other), Some(&trace("5", false))));
    }
}
