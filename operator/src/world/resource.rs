//! Our four kinds, read strictly.
//!
//! The API server keeps fields that its definition does not know; an object that has one is unreadable
//! here, and an unreadable object is an invalid one: its last good version stays, and one that never was
//! good denies.

use std::sync::Arc;

use clawlock_crds::{AgentHalt, AgentPolicy, TenantGateway, Upstream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::shelf::Item;

/// An object of one of our kinds.
#[derive(Debug)]
pub(crate) struct Read<G> {
    /// Its metadata, without the managers of its fields.
    pub(crate) metadata: ObjectMeta,
    /// What it says, or why it cannot be read.
    pub(crate) object: Result<Arc<G>, String>,
    /// Its status as it is stored.
    pub(crate) status: Value,
}

impl<G> Read<G> {
    /// Its namespace.
    pub(crate) fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
}

impl<G: PartialEq + Send + Sync + 'static> Item for Read<G> {
    fn same(&self, other: &Self) -> bool {
        let told = |metadata: &ObjectMeta| ObjectMeta { resource_version: None, ..metadata.clone() };
        // Its status is ours, so a change of it is no news.
        self.object == other.object && told(&self.metadata) == told(&other.metadata)
    }
}

/// A kind that is read strictly.
pub(crate) trait Kind:
    Resource<DynamicType = ()> + DeserializeOwned + PartialEq + Send + Sync + 'static
{
}

impl Kind for TenantGateway {}
impl Kind for Upstream {}
impl Kind for AgentPolicy {}
impl Kind for AgentHalt {}

/// Reads an object as the API server gave it.
pub(crate) fn read<G: Kind>(object: DynamicObject) -> Option<Read<G>> {
    let DynamicObject { types: _, mut metadata, data } = object;
    metadata.managed_fields = None;
    let Value::Object(mut members) = data else {
        let object = Err("this is no object".to_owned());
        return Some(Read { metadata, object, status: Value::Null });
    };
    let status = members.remove("status").unwrap_or_default();
    let object = parse(&metadata, members).map(Arc::new);
    Some(Read { metadata, object, status })
}

fn parse<G: Kind>(metadata: &ObjectMeta, mut members: Map<String, Value>) -> Result<G, String> {
    let spec = members.remove("spec").ok_or("there is no spec; write one")?;
    if let Some(unknown) = members.keys().next() {
        return Err(format!("unknown field {unknown:?}; remove it, or update the operator"));
    }
    // Only what has a meaning here is read on: who and where.
    let metadata =
        ObjectMeta { name: metadata.name.clone(), namespace: metadata.namespace.clone(), ..ObjectMeta::default() };
    let metadata = serde_json::to_value(metadata).map_err(|error| error.to_string())?;
    let whole = serde_json::json!({
        "apiVersion": G::api_version(&()),
        "kind": G::kind(&()),
        "metadata": metadata,
        "spec": spec,
    });
    serde_json::from_value(whole).map_err(|error| format!("spec: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn halt(spec: Value) -> Value {
        serde_json::json!({
            "apiVersion": "clawlock.dev/v1alpha1", "kind": "AgentHalt",
            "metadata": {"name": "a", "namespace": "b", "resourceVersion": "7", "managedFields": [{"manager": "x"}]},
            "spec": spec,
        })
    }

    #[test]
    fn an_object_is_read_without_its_managers() {
        let good = halt(serde_json::json!({"agentSelector": {}, "reason": "stop"}));
        let read: Read<AgentHalt> = read(object(good)).unwrap();
        assert_eq!(read.object.as_ref().unwrap().spec.reason, "stop");
        assert!(read.metadata.managed_fields.is_none());
        assert_eq!((read.namespace(), read.name()), ("b", "a"));
    }

    #[test]
    fn a_field_of_another_version_makes_the_object_unreadable() {
        let spec = serde_json::json!({"agentSelector": {}, "reason": "stop", "until": "x"});
        let read: Read<AgentHalt> = read(object(halt(spec))).unwrap();
        assert!(read.object.as_ref().unwrap_err().contains("until"));
        assert_eq!(read.name(), "a");
    }

    #[test]
    fn a_status_is_no_news() {
        let good = halt(serde_json::json!({"agentSelector": {}, "reason": "stop"}));
        let one: Read<AgentHalt> = read(object(good.clone())).unwrap();
        let mut later = good;
        later["status"] = serde_json::json!({"conditions": []});
        later["metadata"]["resourceVersion"] = "8".into();
        let two: Read<AgentHalt> = read(object(later.clone())).unwrap();
        assert!(one.same(&two));
        later["spec"]["reason"] = "other".into();
        assert!(!one.same(&read(object(later)).unwrap()));
    }

    #[test]
    fn an_object_without_a_spec_is_unreadable() {
        let mut value = halt(Value::Null);
        value.as_object_mut().unwrap().remove("spec");
        let read: Read<AgentHalt> = read(object(value)).unwrap();
        assert!(read.object.is_err());
    }
}
