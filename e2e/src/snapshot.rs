//! What the operator has made of a tenant, without what differs each time: uids, versions, times, addresses, keys, and
//! the tenant's name. Two tenants that were written alike have equal snapshots, whatever happened in between.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::beside::RELEASE;
use crate::{Result, Tenant};

/// By name, so that a difference can be named.
pub type Snapshot = BTreeMap<String, Value>;

/// The kinds that the operator makes for a tenant.
const MADE: &str = "statefulsets,services,serviceaccounts,rolebindings,poddisruptionbudgets,networkpolicies";
/// What its objects carry.
const OURS: &str = "app.kubernetes.io/managed-by=clawlock-operator";

/// Takes one. It is empty but for the statuses of what people wrote when the tenant is gone.
///
/// # Errors
/// When something cannot be read.
pub fn take(tenant: &Tenant) -> Result<Snapshot> {
    let mut snapshot = Snapshot::new();
    let (mut address, mut uids) = (None, Vec::new());
    for namespace in [&tenant.platform, &tenant.name] {
        for object in tenant.kubectl.list(namespace, MADE, OURS)? {
            let cluster_ip = object.pointer("/spec/clusterIP").and_then(Value::as_str).filter(|ip| *ip != "None");
            address = address.or(cluster_ip.map(str::to_owned));
            // Pods of the gateway carry that of their ServiceAccount.
            uids.extend(object.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned));
            snapshot.insert(title(&object), essence(&object));
        }
    }
    let secret = tenant.kubectl.get(RELEASE, "secret", &format!("clawlock-tenant-ca-{}", tenant.name))?;
    if let Some(mut secret) = secret {
        let keys: BTreeSet<String> =
            secret["data"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
        secret["data"] = json!(keys);
        snapshot.insert(title(&secret), essence(&secret));
    }
    snapshot.extend(in_force(tenant)?);
    snapshot.extend(admission(tenant)?);
    snapshot.extend(statuses(tenant)?);
    let replaced = |text: String| {
        let text = text.replace(&tenant.name, "TENANT");
        let text = uids.iter().fold(text, |text, uid| text.replace(uid, "UID"));
        address.iter().fold(text, |text, address| text.replace(address, "ADDRESS"))
    };
    let neutral = |(name, value): (String, Value)| {
        let text = replaced(value.to_string());
        serde_json::from_str(&text).map(|value| (replaced(name), value)).map_err(|error| format!("{text}: {error}"))
    };
    snapshot.into_iter().map(neutral).collect()
}

/// How two of them differ; empty when they do not.
#[must_use]
pub fn difference(one: &Snapshot, other: &Snapshot) -> String {
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let differ = names.into_iter().filter(|name| one.get(*name) != other.get(*name));
    let none = Value::from("is not there");
    let show = |all: &Snapshot, name: &String| all.get(name).unwrap_or(&none).to_string();
    differ.map(|name| format!("{name}:\n  {}\n  {}\n", show(one, name), show(other, name))).collect()
}

fn title(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}/{}", text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
}

/// An object without its status and without what the API server adds to its metadata.
fn essence(object: &Value) -> Value {
    let mut essence = object.clone();
    let metadata = &object["metadata"];
    let ending = !metadata["deletionTimestamp"].is_null();
    essence["metadata"] = json!({
        "labels": metadata["labels"], "annotations": metadata["annotations"], "finalizers": metadata["finalizers"],
        "ending": ending,
    });
    if let Some(fields) = essence.as_object_mut() {
        fields.remove("status");
    }
    essence
}

/// The payload of a signed envelope in a ConfigMap of the release.
fn payload(tenant: &Tenant, map: &str) -> Result<Option<Value>> {
    let Some(map) = tenant.kubectl.get(RELEASE, "configmap", map)? else { return Ok(None) };
    let envelope = map["data"]["envelope"].as_str().unwrap_or_default();
    let envelope: Value = serde_json::from_str(envelope).map_err(|error| format!("envelope: {error}"))?;
    let payload = BASE64.decode(envelope["payload"].as_str().unwrap_or_default());
    let payload = payload.map_err(|error| format!("payload: {error}"))?;
    serde_json::from_slice(&payload).map(Some).map_err(|error| format!("payload: {error}"))
}

/// The objects that are in force. ConfigMaps hold certificates, which are made anew for each tenant.
fn in_force(tenant: &Tenant) -> Result<Snapshot> {
    let mut snapshot = Snapshot::new();
    let state = payload(tenant, &format!("clawlock-tenant-{}", tenant.name))?.unwrap_or_default();
    for digest in state["objects"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let name: String = digest.trim_start_matches("sha256:").chars().take(48).collect();
        let object = payload(tenant, &format!("clawlock-object-{name}"))?
            .ok_or("the state lists an object that is not there")?;
        snapshot.insert(format!("in force: {}", title(&object)), object["spec"].clone());
    }
    Ok(snapshot)
}

/// What the admission policies know of the tenant.
fn admission(tenant: &Tenant) -> Result<Snapshot> {
    let map = tenant.kubectl.get(RELEASE, "configmap", "clawlock-admission")?.unwrap_or_default();
    let data = map["data"].as_object().cloned().unwrap_or_default();
    let own = data.into_iter().filter(|(key, _)| key.split('_').nth(1) == Some(&tenant.name));
    Ok(own.map(|(key, value)| (format!("admission: {key}"), value)).collect())
}

/// What the statuses say, without when.
fn statuses(tenant: &Tenant) -> Result<Snapshot> {
    let Tenant { name, platform, origin: _, kubectl } = tenant;
    let mut snapshot = Snapshot::new();
    for (kind, namespace, name) in
        [("tenantgateway", platform, name.as_str()), ("upstream", platform, "payments"), ("agentpolicy", name, "agent")]
    {
        let Some(object) = kubectl.get(namespace, kind, name)? else { continue };
        let conditions: BTreeMap<String, String> = object["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| (one["type"].to_string(), format!("{} {}", one["status"], one["reason"])))
            .collect();
        let status = json!({
            "conditions": conditions,
            "finalizers": object["metadata"]["finalizers"],
            "agents": object["status"]["agents"],
            "isolatedNamespaces": object["status"]["isolatedNamespaces"],
        });
        snapshot.insert(format!("status: {}", title(&object)), status);
    }
    Ok(snapshot)
}
