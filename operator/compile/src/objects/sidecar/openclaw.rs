//! What puts OpenClaw's guard plugin and its configuration in place: an init container behind those of the pod, which
//! writes a volume that OpenClaw mounts read-only, and the variables that send OpenClaw there.
//!
//! The container runs as OpenClaw's own user, since OpenClaw takes no plugin of another, and has the mounts and variables
//! of OpenClaw's container: that is how it finds the author's configuration. It is made anew each time, so that one that
//! the pod brought along by this name is never run.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::mutate::{Object, is_named, list, mount, objects, set, value};
use super::{Injection, Refusal, parts};
use crate::objects::names;

/// Arguments of the sidecar's program.
const ARGS: [&str; 1] = ["install-openclaw"];

/// What others may have written into the container since it was made: amounts of resources (LimitRanger) and the pull
/// policy (AlwaysPullImages).
const KEPT: [&str; 3] = ["resources", "resizePolicy", "imagePullPolicy"];

/// Puts OpenClaw under its guard, unless the pod needs none. Its container is the one that `kubectl` would pick.
pub(super) fn govern(spec: &mut Object, pod: &Pod, injection: &Injection) -> Result<(), Refusal> {
    let init = list(spec, "initContainers");
    let before = init.iter().position(|container| container["name"] == names::INSTALLER).map(|at| init.remove(at));
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let optional = injection.agents.plugin_optional.iter().any(|entry| entry.pod_selector.matches(&labels));
    let Some(user) = user(pod).filter(|_| !optional) else { return Ok(()) };
    let pod_group = spec.get("securityContext").and_then(|context| context.get("runAsGroup")).cloned();
    let wanted = default_container(pod);
    let found = objects(spec, "containers").find(|container| wanted.is_none_or(|name| is_named(container, name)));
    let Some(agent) = found else { return Ok(()) };
    let installer = installer(agent, before.as_ref(), user, pod_group, injection)?;
    set(agent, variables());
    mount(agent, &parts::openclaw_mount())?;
    list(spec, "initContainers").push(installer);
    Ok(())
}

/// The name of OpenClaw's container, where the pod names one of its own. Else it is the first.
fn default_container(pod: &Pod) -> Option<&str> {
    let named = pod.metadata.annotations.as_ref()?.get(names::DEFAULT_CONTAINER)?;
    pod.spec.as_ref()?.containers.iter().map(|container| container.name.as_str()).find(|name| name == named)
}

/// The user of OpenClaw's container. Without one the image decides, and nobody here knows how: the plugin is not put
/// in place, and models are refused. The chart's admission policies refuse such a pod.
fn user(pod: &Pod) -> Option<i64> {
    let spec = pod.spec.as_ref()?;
    let name = default_container(pod);
    let agent = spec.containers.iter().find(|container| name.is_none_or(|name| container.name == name))?;
    let own = agent.security_context.as_ref().and_then(|context| context.run_as_user);
    own.or_else(|| spec.security_context.as_ref().and_then(|context| context.run_as_user))
}

/// The variables that send OpenClaw to its guard.
fn variables() -> [(&'static str, String); 3] {
    clawlock_openclaw::variables(&format!("{}/{}", names::OPENCLAW_DIR, clawlock_openclaw::CONFIG_FILE))
}

fn installer(
    agent: &Object,
    before: Option<&Value>,
    user: i64,
    pod_group: Option<Value>,
    injection: &Injection,
) -> Result<Value, Refusal> {
    let sidecar = &injection.container;
    let mut context = value(&parts::confined(user))?;
    context["runAsNonRoot"] = json!(user != 0);
    let own = agent.get("securityContext");
    let group = own.and_then(|own| own.get("runAsGroup")).filter(|group| !group.is_null()).cloned().or(pod_group);
    if let Some(context) = context.as_object_mut() {
        context.remove("runAsGroup");
        context.extend(group.map(|group| ("runAsGroup".to_owned(), group)));
        // What lies on volumes is labelled for it.
        let labels = own.and_then(|own| own.get("seLinuxOptions")).filter(|labels| !labels.is_null());
        context.extend(labels.map(|labels| ("seLinuxOptions".to_owned(), labels.clone())));
    }
    let mut installer = json!({
        "name": names::INSTALLER,
        "image": sidecar.image,
        "args": ARGS,
        "securityContext": context,
        "volumeMounts": mounts(agent)?,
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    });
    if let Some(installer) = installer.as_object_mut() {
        let entries = |policy: Option<Value>| policy.filter(|value| !value.is_null());
        let resources = entries(sidecar.resources.as_ref().map(value).transpose()?);
        installer.extend(resources.map(|resources| ("resources".to_owned(), resources)));
        let policy = sidecar.image_pull_policy.as_deref();
        installer.extend(policy.map(|policy| ("imagePullPolicy".to_owned(), policy.into())));
        // Once OpenClaw's variables are ours, its author's are those that were copied before.
        let author = before.and_then(Value::as_object).unwrap_or(agent);
        let copied = ["env", "envFrom"].map(|key| (key, Some(author)));
        let kept = KEPT.map(|key| (key, before.and_then(Value::as_object)));
        for (key, from) in copied.into_iter().chain(kept) {
            let found = from.and_then(|from| from.get(key)).filter(|value| !value.is_null());
            installer.extend(found.map(|value| (key.to_owned(), value.clone())));
        }
        // In a copy of an injected pod that came without its installer.
        if let Some(Value::Array(env)) = installer.get_mut("env") {
            let ours = variables().map(|(name, value)| json!({"name": name, "value": value}));
            env.retain(|entry| !ours.contains(entry));
        }
    }
    Ok(installer)
}

/// The mounts of OpenClaw's container, and the volume that is written. They stay as they are: one within another needs
/// its place made in it, which a runtime cannot do where that is read-only.
fn mounts(agent: &Object) -> Result<Vec<Value>, Refusal> {
    let ours = [names::AGENT_VOLUME, names::OPENCLAW_VOLUME];
    let own = agent.get("volumeMounts").and_then(Value::as_array).into_iter().flatten();
    let own = own.filter(|mount| !ours.iter().any(|name| mount["name"] == *name));
    let own = own.filter(|mount| !mount["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access-")));
    let volume = parts::mount(names::OPENCLAW_VOLUME, names::OPENCLAW_DIR, None);
    Ok(own.cloned().chain([value(&volume)?]).collect())
}
