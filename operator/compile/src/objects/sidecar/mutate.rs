//! The change itself, on the pod's own JSON.
//!
//! Everything here was looked at by [`super::refuse`] before: what has a name of ours is ours.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, Volume, VolumeMount};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::patch::{self, Operation};
use super::{Injection, Reason, Refusal, openclaw, parts, refuse};
use crate::objects::environment::{self, NODE_OPTIONS, Places};
use crate::objects::names;

pub(super) type Object = Map<String, Value>;

/// The lists of containers of a pod's spec.
const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Makes a pod an agent.
pub(super) fn agent(raw: &Value, pod: &Pod, injection: &Injection) -> Result<Vec<Operation>, Refusal> {
    let mut new = raw.clone();
    strip_tokens(spec(&mut new)?, pod, injection);
    let spec = spec(&mut new)?;
    add_sidecar(spec, pod, injection)?;
    for volume in &injection.volumes {
        let volumes = list(spec, "volumes");
        if !volumes.iter().any(|known| known["name"] == volume.name.as_str()) {
            volumes.push(value(volume)?);
        }
    }
    // As its author wrote it: what governs it is made of that.
    openclaw::govern(spec, pod, injection)?;
    for key in LISTS {
        let ours = [names::SIDECAR, names::INSTALLER];
        for container in objects(spec, key).filter(|container| !ours.iter().any(|name| is_named(container, name))) {
            send_through_gates(container)?;
        }
    }
    let labels = member(object(&mut new, "metadata")?, "labels");
    for (key, value) in injection.labels() {
        labels.insert(key.to_owned(), value.into());
    }
    Ok(patch::between(raw, &new))
}

/// Takes the API token from a pod that is no agent.
pub(super) fn exempt(raw: &Value, pod: &Pod, injection: &Injection) -> Result<Vec<Operation>, Refusal> {
    let mut new = raw.clone();
    strip_tokens(spec(&mut new)?, pod, injection);
    Ok(patch::between(raw, &new))
}

/// Sends the ephemeral containers that are not in `known` through the gates.
pub(super) fn ephemeral(raw: &Value, known: &BTreeSet<String>) -> Result<Vec<Operation>, Refusal> {
    let mut new = raw.clone();
    for container in objects(spec(&mut new)?, "ephemeralContainers") {
        let is_known = container.get("name").and_then(Value::as_str).is_some_and(|name| known.contains(name));
        if !is_known {
            send_through_gates(container)?;
        }
    }
    Ok(patch::between(raw, &new))
}

/// Removes the volumes with API tokens that the ServiceAccount plugin adds, and their mounts. The plugin
/// runs again after webhooks, and adds them again unless the pod says that it wants none.
fn strip_tokens(spec: &mut Object, pod: &Pod, injection: &Injection) {
    if injection.agents.api_access.contains(refuse::account(pod)) {
        return;
    }
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let tokens: BTreeSet<&str> =
        volumes.filter(|volume| is_api_token(volume)).map(|volume| volume.name.as_str()).collect();
    let is_token = |entry: &Value| entry["name"].as_str().is_some_and(|name| tokens.contains(name));
    if !tokens.is_empty() {
        list(spec, "volumes").retain(|volume| !is_token(volume));
        for key in LISTS {
            for container in objects(spec, key) {
                if let Some(Value::Array(mounts)) = container.get_mut("volumeMounts") {
                    mounts.retain(|mount| !is_token(mount));
                }
            }
        }
    }
    spec.insert("automountServiceAccountToken".to_owned(), Value::Bool(false));
}

/// Whether a volume is one that the ServiceAccount plugin adds.
pub(super) fn is_api_token(volume: &Volume) -> bool {
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    let mut tokens = sources.filter_map(|source| source.service_account_token.as_ref());
    volume.name.starts_with("kube-api-access-")
        && tokens.any(|token| token.audience.as_deref().unwrap_or_default().is_empty())
}

/// Puts the sidecar at the head of the line, or moves it there.
fn add_sidecar(spec: &mut Object, pod: &Pod, injection: &Injection) -> Result<(), Refusal> {
    let is_windows = pod.spec.as_ref().and_then(|spec| spec.os.as_ref()).is_some_and(|os| os.name == "windows");
    let list = list(spec, "initContainers");
    let found = list.iter().position(|container| container["name"] == names::SIDECAR);
    let sidecar = match found {
        // It is the sidecar but for its resources, which a LimitRange may have completed, and for an API
        // token, which the ServiceAccount plugin gives to every container.
        Some(index) => {
            let mut sidecar = list.remove(index);
            let own: BTreeSet<&str> = injection.volumes.iter().map(|volume| volume.name.as_str()).collect();
            if let Some(Value::Array(mounts)) = sidecar.get_mut("volumeMounts") {
                mounts.retain(|mount| mount["name"].as_str().is_some_and(|name| own.contains(name)));
            }
            sidecar
        }
        None if is_windows => value(&parts::for_windows(injection.container.clone()))?,
        None => value(&injection.container)?,
    };
    list.insert(0, sidecar);
    Ok(())
}

/// Gives a container of the agent its variables and the mount with what they name.
fn send_through_gates(container: &mut Object) -> Result<(), Refusal> {
    let env = list(container, "env");
    let own = env.iter().rfind(|entry| entry["name"] == NODE_OPTIONS);
    // Options that come from a ConfigMap are not known here, and stay.
    let keeps_options = own.is_some_and(|entry| entry.get("valueFrom").is_some_and(Value::is_object));
    let options = own.and_then(|entry| entry["value"].as_str()).map(str::to_owned);
    let variables = environment::variables(&Places::in_pod(), options.as_deref());
    set(container, variables.into_iter().filter(|(name, _)| *name != NODE_OPTIONS || !keeps_options));
    mount(container, &parts::agent_mount())
}

/// Sets variables of a container, in place of others by their names.
pub(super) fn set(container: &mut Object, variables: impl IntoIterator<Item = (&'static str, String)>) {
    let env = list(container, "env");
    for (name, value) in variables {
        let wanted = json!({"name": name, "value": value});
        let mut found = false;
        for entry in env.iter_mut().filter(|entry| entry["name"] == name) {
            found = true;
            *entry = wanted.clone();
        }
        if !found {
            env.push(wanted);
        }
    }
}

/// Gives a container one of our mounts, which are checked where they are there.
pub(super) fn mount(container: &mut Object, wanted: &VolumeMount) -> Result<(), Refusal> {
    let mounts = list(container, "volumeMounts");
    if !mounts.iter().any(|mount| mount["name"] == wanted.name.as_str()) {
        mounts.push(value(wanted)?);
    }
    Ok(())
}

pub(super) fn is_named(container: &Object, name: &str) -> bool {
    container.get("name").and_then(Value::as_str) == Some(name)
}

/// A member that is a list, made where it is not there.
pub(super) fn list<'a>(object: &'a mut Object, key: &str) -> &'a mut Vec<Value> {
    let value = object.entry(key).or_insert(Value::Null);
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("it was just made a list"),
    }
}

/// A member that is an object, made where it is not there.
fn member<'a>(object: &'a mut Object, key: &str) -> &'a mut Object {
    let value = object.entry(key).or_insert(Value::Null);
    if !value.is_object() {
        *value = Value::Object(Object::new());
    }
    match value {
        Value::Object(object) => object,
        _ => unreachable!("it was just made an object"),
    }
}

/// The objects of a list that may not be there.
pub(super) fn objects<'a>(object: &'a mut Object, key: &str) -> impl Iterator<Item = &'a mut Object> {
    object.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn spec(pod: &mut Value) -> Result<&mut Object, Refusal> {
    object(pod, "spec")
}

fn object<'a>(pod: &'a mut Value, key: &str) -> Result<&'a mut Object, Refusal> {
    pod.get_mut(key).and_then(Value::as_object_mut).ok_or_else(|| Refusal {
        reason: Reason::Malformed,
        path: key.to_owned(),
        message: "it is no object; write a pod with metadata and spec".to_owned(),
    })
}

pub(super) fn value<T: Serialize>(part: &T) -> Result<Value, Refusal> {
    serde_json::to_value(part).map_err(|error| Refusal {
        reason: Reason::Malformed,
        path: "spec".to_owned(),
        message: format!("the sidecar cannot be written as JSON ({error}); report this"),
    })
}
