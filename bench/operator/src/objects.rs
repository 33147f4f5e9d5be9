//! What people and a scheduler would write: nodes, tenants, policies, agents' pods.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use crate::agents::Place;
use crate::api::{AT_ONCE, Api};
use crate::release::NAMESPACE;

/// Policies of a tenant of which nothing but its agents matters.
pub(crate) const SMALL: usize = 1;
/// The policy that selects every agent of its tenant.
pub(crate) const EVERYONE: &str = "everyone";
/// Agents of one node.
const PER_NODE: usize = 100;
/// The ServiceAccount of the agents.
const ACCOUNT: &str = "agent";
/// How long the operator may take until agents of a new tenant can be injected.
const STANDS: Duration = Duration::from_secs(60);
/// How long a pod's token holds, in seconds, as projected.
const TOKEN_SECONDS: u32 = 3600;

/// A tenant.
pub(crate) struct Tenant {
    /// Its name, which is also its agents' namespace.
    pub(crate) name: String,
    number: usize,
}

impl Tenant {
    /// Writes it, and waits until the operator has said with which arguments its sidecars start.
    pub(crate) async fn create(api: &Api, number: usize) -> Result<Self, String> {
        let tenant = Self { name: format!("tenant-{number}"), number };
        let Self { name, number: _ } = &tenant;
        let platform = format!("{name}-gateway");
        for (namespace, labels) in [(name, json!({"clawlock.dev/tenant": name})), (&platform, json!({}))] {
            let object = json!({"metadata": {"name": namespace, "labels": labels}});
            api.create("/api/v1/namespaces", &object).await?;
        }
        let accounts = format!("/api/v1/namespaces/{name}/serviceaccounts");
        api.create(&accounts, &json!({"metadata": {"name": ACCOUNT}})).await?;
        let secret = json!({"metadata": {"name": "payments"}, "stringData": {"token": "none"}});
        api.create(&format!("/api/v1/namespaces/{platform}/secrets"), &secret).await?;
        api.create(&path(&platform, "upstreams"), &upstream()).await?;
        api.create(&path(&platform, "tenantgateways"), &tenant.gateway()).await?;
        let begun = Instant::now();
        while tenant.arguments(api).await?.is_none() {
            if begun.elapsed() > STANDS {
                return Err(format!("tenant {name} has no arguments for its sidecars after {} s", STANDS.as_secs()));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(tenant)
    }

    /// The arguments of its sidecars, as the operator publishes them.
    pub(crate) async fn arguments(&self, api: &Api) -> Result<Option<String>, String> {
        let map = api.get(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps/clawlock-admission")).await?;
        let arguments = map.as_ref().and_then(|map| map["data"][format!("args_{}", self.name)].as_str());
        Ok(arguments.map(str::to_owned))
    }

    /// The path of one of its policies.
    pub(crate) fn policy(&self, name: &str) -> String {
        format!("{}/{name}", path(&self.name, "agentpolicies"))
    }

    fn gateway(&self) -> Value {
        json!({
            "apiVersion": "clawlock.dev/v1alpha1", "kind": "TenantGateway", "metadata": {"name": self.name},
            "spec": {
                "namespaces": [self.name],
                "trustDomain": format!("{}.bench.example", self.name),
                "guardrails": [
                    {"name": "nothing-is-deleted", "match": {"operations": ["*.delete_*"]}, "tier": "Block"},
                ],
            },
        })
    }
}

/// The path of a list of our kinds.
fn path(namespace: &str, plural: &str) -> String {
    format!("/apis/clawlock.dev/v1alpha1/namespaces/{namespace}/{plural}")
}

fn upstream() -> Value {
    json!({
        "apiVersion": "clawlock.dev/v1alpha1", "kind": "Upstream", "metadata": {"name": "payments"},
        "spec": {
            "protocol": "HTTP", "scheme": "https", "hosts": ["api.payments.example"], "port": 443,
            "credential": {"type": "Bearer", "bearer": {"secretRef": {"name": "payments", "key": "token"}}},
            "operations": [
                {"name": "list_charges", "method": "GET", "path": "/v1/charges"},
                {"name": "delete_charge", "method": "DELETE", "path": "/v1/charges/{charge}"},
                {"name": "create_refund", "method": "POST", "path": "/v1/refunds",
                 "arguments": [{"name": "amount", "type": "Integer"}]},
            ],
        },
    })
}

/// The rules of a policy after an edit, whose number stands in a rule's name and so in the document.
pub(crate) fn rules(edit: u64) -> Value {
    json!([
        {"name": format!("edit-{edit}"), "match": {"operations": ["payments.list_charges"]}, "tier": "Auto"},
        {"name": "small-refunds", "match": {"operations": ["payments.create_refund"]},
         "when": "args.amount <= 5000", "tier": "Auto"},
        {"name": "statements", "tier": "Auto", "match": {"http": {
            "upstreams": ["payments"], "methods": ["GET"], "paths": ["/v1/statements/*"]}}},
        {"name": "tools", "match": {"tools": ["read", "search_*", "calendar_*"]}, "tier": "Auto"},
        {"name": "shell", "match": {"tools": ["exec", "bash"]}, "tier": "Block"},
    ])
}

/// The name of the policy that selects one agent.
pub(crate) fn own(agent: usize) -> String {
    format!("agent-{agent}")
}

/// Writes policies: one for all agents, each of the others for one of them.
pub(crate) async fn policies(api: &Api, tenant: &Tenant, count: usize, agents: usize) -> Result<(), String> {
    let all = (EVERYONE.to_owned(), json!({}));
    let single = (1..count).map(|number| {
        let agent = (number - 1) % agents;
        (own(number - 1), json!({"matchLabels": {"agent": agent.to_string()}}))
    });
    let list = path(&tenant.name, "agentpolicies");
    let made = stream::iter(std::iter::once(all).chain(single)).map(|(name, selector)| {
        let policy = json!({
            "apiVersion": "clawlock.dev/v1alpha1", "kind": "AgentPolicy", "metadata": {"name": name},
            "spec": {"agentSelector": selector, "rules": rules(0)},
        });
        let (api, list) = (api.clone(), list.clone());
        async move { api.create(&list, &policy).await.map(drop) }
    });
    made.buffer_unordered(AT_ONCE).try_collect().await
}

/// Writes as many nodes as the agents need.
pub(crate) async fn nodes(api: &Api, agents: usize) -> Result<(), String> {
    for number in 0..agents.div_ceil(PER_NODE) {
        let name = format!("node-{number}");
        api.create("/api/v1/nodes", &json!({"metadata": {"name": name}})).await?;
        let address = format!("10.1.{}.{}", number / 250, number % 250 + 1);
        let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}});
        api.patch(&format!("/api/v1/nodes/{name}/status"), &status).await?;
    }
    Ok(())
}

/// An agent's pod as its author writes it.
pub(crate) fn pod(tenant: &Tenant) -> Value {
    let resources = json!({"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}});
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": 18789}, "periodSeconds": 10});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "agent", "namespace": tenant.name,
            "labels": {"app.kubernetes.io/name": "openclaw", "app.kubernetes.io/instance": "support", "team": "support"},
            "annotations": {"example.com/owner": "support@example.com"},
        },
        "spec": {
            "serviceAccountName": ACCOUNT,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "openclaw", "image": "registry.example.com/openclaw:2026.9.6",
                "command": ["openclaw", "gateway", "run"],
                "env": [
                    {"name": "OPENCLAW_STATE_DIR", "value": "/state"},
                    {"name": "OPENCLAW_CONFIG_PATH", "value": "/config/openclaw.json"},
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
                ],
                "ports": [{"name": "gateway", "containerPort": 18789, "protocol": "TCP"}],
                "readinessProbe": probe("/readyz"), "livenessProbe": probe("/healthz"), "resources": resources,
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "state", "mountPath": "/state"}, {"name": "config", "mountPath": "/config"}],
            }],
            "volumes": [
                {"name": "state", "emptyDir": {"sizeLimit": "1Gi"}},
                {"name": "config", "configMap": {"name": "openclaw"}},
            ],
        },
    })
}

/// Makes the agents of a tenant out of a pod that was injected: bound to a node, running, each with a token.
pub(crate) async fn agents(api: &Api, tenant: &Tenant, pod: &Value, count: usize) -> Result<Vec<Place>, String> {
    let made =
        stream::iter(0..count).map(|agent| one_agent(api.clone(), tenant, pod, agent, tenant.number * count + agent));
    made.buffer_unordered(AT_ONCE).try_collect().await
}

async fn one_agent(api: Api, tenant: &Tenant, pod: &Value, agent: usize, overall: usize) -> Result<Place, String> {
    let Tenant { name: namespace, number } = tenant;
    let mut pod = pod.clone();
    pod["metadata"]["name"] = json!(own(agent));
    pod["metadata"]["labels"]["agent"] = json!(agent.to_string());
    pod["spec"]["nodeName"] = json!(format!("node-{}", overall / PER_NODE));
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let created = api.create(&pods, &pod).await?;
    let address = format!("10.244.{}.{}", overall / 250, overall % 250 + 1);
    let running = json!({"status": {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
    }});
    api.patch(&format!("{pods}/{}/status", own(agent)), &running).await?;
    let request = json!({"spec": {
        "audiences": ["clawlock.dev"], "expirationSeconds": TOKEN_SECONDS,
        "boundObjectRef": {
            "apiVersion": "v1", "kind": "Pod", "name": own(agent), "uid": created["metadata"]["uid"],
        },
    }});
    let token =
        api.create(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/{ACCOUNT}/token"), &request).await?;
    let token = token["status"]["token"].as_str().ok_or("the API server gave no token")?;
    Ok(Place { tenant: namespace.clone(), number: *number, agent, token: token.to_owned() })
}
