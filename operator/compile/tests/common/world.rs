//! A small cluster in YAML, and what happens in it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};

use clawlock_compile::objects::sidecar::{Injection, Operation, Outcome, inject};
use clawlock_compile::objects::{Known, Object, Release, TenantObjects, isolation};
use clawlock_compile::{Assigned, Compilation, Pod, Problem, Resources, Severity, Ticket, compile};
use clawlock_policy::document::Scheme;
use clawlock_policy::{
    Action, Body, Claims, Context, Facts, HostName, HttpAction, Policy, RequestPath, ToolAction, Verdict, decide,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// One tenant with every field of every kind in use.
pub(crate) const WORLD: &str = include_str!("world.yaml");

/// 2026-11-21, before the day on which the world's audit mode ends.
pub(crate) const NOW_MS: u64 = 1_795_219_200_000;

/// The objects of a YAML text.
pub(crate) fn objects(yaml: &str) -> Vec<Value> {
    yaml.split("\n---\n").map(|text| serde_saphyr::from_str(text).unwrap()).collect()
}

/// The objects of the world.
pub(crate) fn world() -> Vec<Value> {
    objects(WORLD)
}

/// The place of an object, by `Kind name`.
pub(crate) fn find(objects: &[Value], id: &str) -> usize {
    let (kind, name) = id.split_once(' ').unwrap();
    objects
        .iter()
        .position(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("the world has no {id}"))
}

/// Reads objects into types; the error names the object and the field.
pub(crate) fn read(objects: &[Value]) -> Result<Resources, String> {
    fn one<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
        serde_json::from_value(value.clone()).map_err(|error| format!("{}: {error}", value["metadata"]["name"]))
    }
    let mut resources = Resources::default();
    for object in objects {
        match object["kind"].as_str().unwrap() {
            "TenantGateway" => resources.gateways.push(one(object)?),
            "Upstream" => resources.upstreams.push(one(object)?),
            "AgentPolicy" => resources.policies.push(one(object)?),
            "AgentHalt" => resources.halts.push(one(object)?),
            "ConfigMap" => resources.config_maps.push(one(object)?),
            other => panic!("{other}"),
        }
    }
    Ok(resources)
}

/// Sets a field of an object, making the objects above it as needed.
pub(crate) fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut node = object;
    for key in pointer.trim_start_matches('/').split('/') {
        if node.is_null() {
            *node = Value::Object(serde_json::Map::new());
        }
        node = match key.parse::<usize>() {
            Ok(index) => &mut node[index],
            Err(_) => &mut node[key],
        };
    }
    *node = value;
}

/// The world with one field changed.
pub(crate) fn changed(id: &str, pointer: &str, value: Value) -> Vec<Value> {
    let mut objects = world();
    let index = find(&objects, id);
    set(&mut objects[index], pointer, value);
    objects
}

pub(crate) fn compiled(objects: &[Value]) -> Compilation {
    compile(&read(objects).unwrap())
}

pub(crate) fn errors(compilation: &Compilation) -> Vec<&Problem> {
    compilation.problems.iter().filter(|problem| problem.severity == Severity::Error).collect()
}

/// Problems as text, one per line.
pub(crate) fn told(compilation: &Compilation) -> String {
    compilation.problems.iter().map(|problem| format!("{:?}: {problem}\n", problem.severity)).collect()
}

pub(crate) const TICKET: Ticket = Ticket { generation: 7, issued_at_ms: NOW_MS, not_after_ms: NOW_MS + 3_600_000 };

/// A pod of namespace acme with the label `app`; those of the app `support` are also `env: prod`.
pub(crate) fn pod(app: &str) -> Pod {
    pod_in("acme", app)
}

pub(crate) fn pod_in(namespace: &str, app: &str) -> Pod {
    let mut labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
    if app == "support" {
        labels.insert("env".to_owned(), "prod".to_owned());
    }
    // The pod of this app is one that a gate has halted.
    let halted = app == "tripped";
    let uid = if halted { "7f1d0c52-8f6b-4a3e-9c57-2b1f0e6d9a11" } else { "0b6f7a3e-6d0c-4f0e-9a4e-1f2a3b4c5d6e" };
    Pod {
        namespace: namespace.to_owned(),
        name: format!("{app}-0"),
        uid: uid.to_owned(),
        service_account: "agent".to_owned(),
        labels,
        manifest: None,
    }
}

/// What is tried in the world.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Probe {
    /// A tool, and its arguments.
    Tool(&'static str, &'static str),
    /// Method, scheme, host, port, path, JSON body.
    Http(&'static str, Scheme, &'static str, u16, &'static str, &'static str),
    /// The limits that count an action.
    Counted(&'static Probe),
    /// What the gateway knows of an upstream.
    Upstream(&'static str),
    /// The identity of the pod.
    Identity,
    /// By which entry the pod needs no guard plugin.
    PluginOptional,
    /// A part of one of the tenant's objects: `Kind namespace/name` and a JSON pointer.
    Object(&'static str, &'static str),
    /// The namespaces that are closed when nobody has looked at them yet.
    Closed,
    /// How long certificates live, in seconds.
    Lifetime,
    /// What becomes of a pod: its label `job`, its ServiceAccount, its image.
    Pod(&'static str, &'static str, &'static str),
}

/// What comes of a probe, in words.
pub(crate) fn observe(compilation: &Compilation, pod: &Pod, probe: Probe) -> String {
    let acme = || compilation.tenant("acme").unwrap_or_else(|| panic!("{}", told(compilation)));
    match probe {
        Probe::Object(key, pointer) => {
            let objects = tenant_objects(compilation, "acme");
            let object = objects.iter().find(|object| object.key().to_string() == key);
            return object.map_or("no such object".to_owned(), |object| {
                json(object).pointer(pointer).map_or("nothing".to_owned(), Value::to_string)
            });
        }
        Probe::Closed => return format!("{:?}", isolation(acme(), &BTreeSet::new(), &BTreeMap::new())),
        Probe::Lifetime => return acme().settings().certificate_ttl.as_secs().to_string(),
        Probe::Pod(job, account, image) => return injected(compilation, job, account, image),
        Probe::Tool(..)
        | Probe::Http(..)
        | Probe::Counted(_)
        | Probe::Upstream(_)
        | Probe::Identity
        | Probe::PluginOptional => {}
    }
    match built(compilation, pod) {
        Some(policy) => observe_in(&policy, probe),
        None => "no assignment".to_owned(),
    }
}

/// The policy of a pod, unless it has no assignment.
pub(crate) fn built(compilation: &Compilation, pod: &Pod) -> Option<Policy> {
    let Assigned { assignment, documents } = compilation.assign(pod, TICKET).ok()?;
    Some(Policy::build(assignment, documents).unwrap())
}

/// The release of the tests.
pub(crate) fn release() -> Release {
    serde_json::from_value(json!({
        "namespace": "clawlock-system",
        "gatewayImage": "registry.example/clawlock-gateway:1",
        "sidecarImage": "registry.example/clawlock-sidecar:1",
        "imagePullPolicy": "IfNotPresent",
        "imagePullSecrets": ["pull"],
        "gatewayResources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "sidecarResources": {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"memory": "96Mi"}},
        "priorityClass": "clawlock",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "gateways", "operator": "Exists", "effect": "NoSchedule"}],
        "monitoring": {"kubernetes.io/metadata.name": "monitoring"},
    }))
    .unwrap()
}

/// The objects of a tenant whose every namespace is closed.
pub(crate) fn tenant_objects(compilation: &Compilation, name: &str) -> TenantObjects {
    let tenant = compilation.tenant(name).unwrap();
    let isolated = tenant.namespaces().map(str::to_owned).collect();
    let known = Known { anchor: "QU5DSE9S", cluster_ip: Some("10.96.0.7".parse().unwrap()), isolated: &isolated };
    TenantObjects::build(tenant, &release(), known)
}

pub(crate) fn json(object: Object<'_>) -> Value {
    object.to_value().unwrap()
}

/// The injection of tenant acme.
pub(crate) fn injection(compilation: &Compilation) -> Injection {
    let tenant = compilation.tenant("acme").unwrap();
    Injection::new(tenant, &release(), "QU5DSE9S", "10.96.0.7".parse().unwrap())
}

fn injected(compilation: &Compilation, job: &str, account: &str, image: &str) -> String {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"job": job}},
        "spec": {"serviceAccountName": account, "containers": [{"name": "agent", "image": image}]},
    });
    let automounts = |operations: &[Operation]| {
        let told = serde_json::to_string(operations).unwrap();
        if told.contains("automountServiceAccountToken") { "without its token" } else { "with its token" }
    };
    match inject(&pod, &injection(compilation)) {
        Ok(Outcome::Injected(operations)) => format!("injected, {}", automounts(&operations)),
        Ok(Outcome::Exempt { exemption, operations }) => format!("exempt by {exemption}, {}", automounts(&operations)),
        Err(refusal) => format!("refused: {}", refusal.reason.as_str()),
    }
}

pub(crate) fn observe_in(policy: &Policy, probe: Probe) -> String {
    match probe {
        Probe::Object(..) | Probe::Closed | Probe::Lifetime | Probe::Pod(..) => panic!("{probe:?} is no decision"),
        Probe::Identity => policy.caller().identity.to_string(),
        Probe::PluginOptional => policy.plugin_optional().unwrap_or("needs the plugin").to_owned(),
        Probe::Upstream(name) => match policy.upstream_named(name) {
            None => "no such upstream".to_owned(),
            Some(upstream) => format!(
                "{:?} cidrs {:?} ca {:?} credential {:?}",
                upstream.protocol,
                upstream.allowed_cidrs,
                upstream.ca_pem.as_deref().map(|pem| pem.lines().nth(1).unwrap_or_default()),
                upstream.credential
            ),
        },
        Probe::Counted(probe) => act(policy, *probe, counted),
        Probe::Tool(..) | Probe::Http(..) => act(policy, probe, verdict),
    }
}

/// Hands the action of a probe on.
fn act(policy: &Policy, probe: Probe, answer: fn(&Policy, Action<'_>) -> String) -> String {
    match probe {
        Probe::Tool(name, args) => answer(policy, Action::Tool(ToolAction { name, args, claims: Claims::default() })),
        Probe::Http(method, scheme, host, port, path, body) => {
            let host = HostName::parse(host).unwrap();
            let path = RequestPath::parse(path).unwrap();
            let Some(upstream) = policy.upstream(scheme, &host, port) else { return "no such upstream".to_owned() };
            let headers = http::HeaderMap::new();
            let body = match body {
                "" => Body::Empty,
                text => Body::Full { content_type: "application/json", bytes: text.as_bytes() },
            };
            let action = HttpAction {
                upstream: &upstream.name,
                host: &host,
                port,
                method,
                path: &path,
                query: "",
                headers: Some(&headers),
                body,
            };
            answer(policy, Action::Http(action))
        }
        other => panic!("{other:?} is no action"),
    }
}

/// The limits that count an action, each with its numbers.
fn counted(policy: &Policy, action: Action<'_>) -> String {
    let facts = Facts { caller: policy.caller(), action, context: Context { now_ms: NOW_MS } };
    let told = policy.limits(&facts).into_iter().map(|limit| {
        let (from, name) = (&limit.reference.policy, &limit.reference.rule);
        format!("{from}#{name} {}/{} at once {}", limit.requests, limit.interval_ms, limit.burst)
    });
    told.collect::<Vec<_>>().join(", ")
}

fn verdict(policy: &Policy, action: Action<'_>) -> String {
    let facts = Facts { caller: policy.caller(), action, context: Context { now_ms: NOW_MS } };
    let verdict = decide(policy, &facts);
    let rule = verdict.rule().map(|rule| format!(" by {}#{}", rule.policy, rule.rule)).unwrap_or_default();
    match verdict {
        Verdict::Allow(permit) => match permit.shadow() {
            None => format!("Allow{rule}"),
            Some(code) => format!("Allow{rule}, would be {code}"),
        },
        Verdict::Ask(denial) => format!("Ask{rule}: {}", denial.code),
        Verdict::Deny(denial) if denial.code == clawlock_policy::Code::Halted => {
            format!("Deny{rule}: {} ({})", denial.code, denial.detail)
        }
        Verdict::Deny(denial) if denial.halts => format!("Deny{rule}: {}, halts", denial.code),
        Verdict::Deny(denial) => format!("Deny{rule}: {}", denial.code),
    }
}
