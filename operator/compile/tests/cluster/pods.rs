//! Pods as admission sees them, and what else happens to them between two calls of the webhook.

use std::sync::LazyLock;

use clawlock_compile::objects::sidecar::Injection;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::{compiled, injection, world};

/// The injection of the world's tenant.
pub(crate) fn acme() -> &'static Injection {
    static ACME: LazyLock<Injection> = LazyLock::new(|| injection(&compiled(&world())));
    &ACME
}

/// Where the ServiceAccount plugin mounts an API token.
const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A pod of OpenClaw, with what the API server and its ServiceAccount plugin have filled in, and fields of
/// a Kubernetes that is not out yet.
pub(crate) fn openclaw() -> Value {
    let token = || json!({"name": "kube-api-access-x7k2p", "mountPath": TOKEN_DIR, "readOnly": true});
    let confined = || json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "openclaw-0", "labels": {"app": "support"}, "annotations": {"a": "b"}},
        "spec": {
            "serviceAccountName": "agent",
            "futureField": {"kept": true},
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": [{
                "name": "seed", "image": "openclaw:1", "securityContext": confined(), "volumeMounts": [token()],
            }],
            "containers": [{
                "name": "openclaw", "image": "openclaw:1", "futureField": [1],
                "env": [
                    {"name": "NODE_OPTIONS", "value": "--max-old-space-size=1536"},
                    {"name": "HTTPS_PROXY", "value": "http://elsewhere.example:3128"},
                    {"name": "OWN", "value": "$(HTTPS_PROXY)"},
                    {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}},
                ],
                "volumeMounts": [{"name": "home", "mountPath": "/home/node", "futureField": 1}, token()],
                "securityContext": confined(),
            }],
            "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}, api_token()],
        },
    })
}

fn api_token() -> Value {
    json!({"name": "kube-api-access-x7k2p", "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]}})
}

fn list<'a>(pod: &'a mut Value, pointer: &str) -> &'a mut Vec<Value> {
    let place = pod.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}"));
    place.as_array_mut().unwrap()
}

fn containers(pod: &mut Value) -> impl Iterator<Item = &mut Value> {
    let Value::Object(spec) = &mut pod["spec"] else { panic!("no spec") };
    let lists = spec.iter_mut().filter(|(key, _)| ["initContainers", "containers"].contains(&key.as_str()));
    lists.flat_map(|(_, list)| list.as_array_mut().unwrap())
}

/// What built-in plugins and other webhooks do to a pod between two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meddler {
    /// Mounts an API token everywhere, unless the pod says that it wants none.
    ServiceAccount,
    /// Completes resources.
    LimitRanger,
    /// Pulls always.
    AlwaysPullImages,
    /// Puts a container of its own at the head of the line.
    Mesh,
    /// Fills in what an older API server defaults.
    Defaults,
}

pub(crate) const MEDDLERS: [Meddler; 5] =
    [Meddler::ServiceAccount, Meddler::LimitRanger, Meddler::AlwaysPullImages, Meddler::Mesh, Meddler::Defaults];

impl Meddler {
    pub(crate) fn meddle(self, pod: &mut Value) {
        match self {
            Self::ServiceAccount => {
                if pod["spec"]["automountServiceAccountToken"] == false {
                    return;
                }
                if pod["spec"]["volumes"].is_null() {
                    pod["spec"]["volumes"] = json!([]);
                }
                let volumes = list(pod, "/spec/volumes");
                if !volumes.iter().any(|volume| volume["name"] == "kube-api-access-x7k2p") {
                    volumes.push(api_token());
                }
                for container in containers(pod) {
                    if container["volumeMounts"].is_null() {
                        container["volumeMounts"] = json!([]);
                    }
                    let mounts = list(container, "/volumeMounts");
                    if !mounts.iter().any(|mount| mount["mountPath"] == TOKEN_DIR) {
                        mounts.push(json!({"name": "kube-api-access-x7k2p", "mountPath": TOKEN_DIR, "readOnly": true}));
                    }
                }
            }
            Self::LimitRanger => {
                for container in containers(pod) {
                    container["resources"]["requests"]["ephemeral-storage"] = json!("1Gi");
                    container["resources"]["limits"]["cpu"] = json!("2");
                }
            }
            Self::AlwaysPullImages => {
                for container in containers(pod) {
                    container["imagePullPolicy"] = json!("Always");
                }
            }
            Self::Mesh => {
                if pod["spec"]["initContainers"].is_null() {
                    pod["spec"]["initContainers"] = json!([]);
                }
                let init = list(pod, "/spec/initContainers");
                if !init.iter().any(|container| container["name"] == "mesh") {
                    init.insert(0, json!({"name": "mesh", "image": "mesh:1", "restartPolicy": "Always"}));
                }
            }
            Self::Defaults => {
                for container in containers(pod) {
                    if container["securityContext"].is_object() {
                        container["securityContext"]["procMount"] = json!("Default");
                    }
                    container["resizePolicy"] = json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
                }
            }
        }
    }
}

fn env() -> impl Strategy<Value = Value> {
    let name =
        prop::sample::select(vec!["A", "B", "HTTPS_PROXY", "NODE_OPTIONS", "WGETRC", "no_proxy", "SSL_CERT_FILE"]);
    let source = json!({"configMapKeyRef": {"name": "a", "key": "b"}});
    prop_oneof![
        (name.clone(), "[ -~]{0,12}").prop_map(|(name, value)| json!({"name": name, "value": value})),
        name.clone().prop_map(|name| json!({"name": name})),
        name.prop_map(move |name| json!({"name": name, "valueFrom": source.clone()})),
    ]
}

fn mount() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({"name": "data", "mountPath": "/data"}),
        json!({"name": "data", "mountPath": "/run", "subPath": "x"}),
        json!({"name": "tmp", "mountPath": "/tmp", "readOnly": true, "future": 1}),
        json!({"name": "kube-api-access-x7k2p", "mountPath": TOKEN_DIR, "readOnly": true}),
    ])
}

fn container() -> impl Strategy<Value = Value> {
    let env = prop::option::of(prop::collection::vec(env(), 0..5));
    let mounts = prop::option::of(prop::collection::vec(mount(), 0..4));
    (env, mounts, any::<bool>()).prop_map(|(env, mounts, confined)| {
        let mut container = json!({"image": "any", "future": {"a": [1]}});
        if let Some(env) = env {
            container["env"] = json!(env);
        }
        if let Some(mounts) = mounts {
            container["volumeMounts"] = json!(mounts);
        }
        if confined {
            container["securityContext"] = json!({
                "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            });
        }
        container
    })
}

/// Any pod that nothing speaks against.
pub(crate) fn pod() -> impl Strategy<Value = Value> {
    let volumes = prop::collection::vec(
        prop::sample::select(vec![
            json!({"name": "data", "emptyDir": {}}),
            json!({"name": "tmp", "secret": {"secretName": "a"}}),
            json!({"name": "bare"}),
            api_token(),
        ]),
        0..4,
    );
    let init = prop::option::of(prop::collection::vec(container(), 0..3));
    let agents = prop::collection::vec(container(), 1..4);
    let labels =
        prop::option::of(prop::sample::select(vec![json!({}), json!({"app": "support"}), json!({"job": "x"})]));
    let user = prop::option::of(1..3i64);
    (volumes, init, agents, labels, any::<bool>(), user).prop_map(|(volumes, init, agents, labels, bare, user)| {
        let named = |prefix: &str, list: Vec<Value>| -> Value {
            let list = list.into_iter().enumerate().map(|(index, mut container)| {
                container["name"] = json!(format!("{prefix}{index}"));
                container
            });
            list.collect()
        };
        let mut pod = json!({"metadata": {"generateName": "a-"}, "spec": {"containers": named("c", agents)}});
        if let Some(labels) = labels {
            pod["metadata"]["labels"] = labels;
        }
        if let Some(user) = user {
            pod["spec"]["securityContext"] = json!({"runAsUser": user});
        }
        if let Some(init) = init {
            pod["spec"]["initContainers"] = named("i", init);
        }
        let has_token = !bare && volumes.iter().any(|volume| volume["name"] == "kube-api-access-x7k2p");
        if !bare {
            pod["spec"]["volumes"] = json!(volumes);
        }
        if !has_token {
            // The API server refuses a mount without its volume.
            for mounts in containers(&mut pod).filter_map(|container| container["volumeMounts"].as_array_mut()) {
                mounts.retain(|mount| mount["name"] != "kube-api-access-x7k2p");
            }
        }
        pod
    })
}

/// Whether a pod passes Pod Security `restricted`, as far as these pods can fail it.
pub(crate) fn is_restricted(pod: &Value) -> bool {
    let none = Vec::new();
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let mut containers = lists.iter().flat_map(|list| pod["spec"][list].as_array().unwrap_or(&none));
    let allowed =
        ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
    let mut volumes = pod["spec"]["volumes"].as_array().unwrap_or(&none).iter();
    let of_pod = &pod["spec"]["securityContext"];
    volumes.all(|volume| volume.as_object().unwrap().keys().all(|key| key == "name" || allowed.contains(&key.as_str())))
        && containers.all(|container| {
            let own = &container["securityContext"];
            let seccomp = |context: &Value| context["seccompProfile"]["type"] == "RuntimeDefault";
            own["allowPrivilegeEscalation"] == false
                && own["capabilities"]["drop"] == json!(["ALL"])
                && own["privileged"] != true
                && (own["runAsNonRoot"] == true || of_pod["runAsNonRoot"] == true)
                && own["runAsUser"] != 0
                && (seccomp(own) || seccomp(of_pod))
        })
}
