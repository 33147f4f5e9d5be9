//! Samples of every kind that together have every field, and access to the schemas.
#![allow(dead_code, reason = "each test file uses a part of it")]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

/// One object as JSON.
pub(crate) struct Sample {
    pub(crate) kind: &'static str,
    pub(crate) value: Value,
}

impl Sample {
    /// JSON pointers of all objects under spec that are no maps.
    pub(crate) fn objects(&self) -> Vec<String> {
        let found = self.collect().into_iter().filter(|(pointer, _, value)| value.is_object() && !is_map(pointer));
        found.map(|(pointer, ..)| pointer).collect()
    }

    /// JSON pointers of everything below spec.
    pub(crate) fn fields(&self) -> Vec<String> {
        self.collect().into_iter().map(|(pointer, ..)| pointer).filter(|pointer| pointer != "/spec").collect()
    }

    /// The places of the schema that the sample has, as `spec.rules[].name`.
    pub(crate) fn schema_paths(&self) -> Vec<String> {
        let paths = self.collect().into_iter().map(|(_, path, _)| path);
        paths.flat_map(|path| if is_map(&path) { vec![format!("{path}{{}}"), path] } else { vec![path] }).collect()
    }

    fn collect(&self) -> Vec<(String, String, &Value)> {
        let mut found = Vec::new();
        collect("/spec".to_owned(), "spec".to_owned(), &self.value["spec"], &mut found);
        found
    }
}

fn collect<'a>(pointer: String, path: String, value: &'a Value, found: &mut Vec<(String, String, &'a Value)>) {
    match value {
        Value::Object(members) if !is_map(&path) => {
            for (name, child) in members {
                collect(format!("{pointer}/{name}"), format!("{path}.{name}"), child, found);
            }
        }
        Value::Array(items) => {
            for (index, child) in items.iter().enumerate() {
                collect(format!("{pointer}/{index}"), format!("{path}[]"), child, found);
            }
        }
        _ => {}
    }
    found.push((pointer, path, value));
}

/// Maps have keys of people's own, not fields.
fn is_map(path: &str) -> bool {
    path.ends_with("matchLabels")
}

/// The schema of a whole object.
pub(crate) fn root_schema(definition: &CustomResourceDefinition) -> Value {
    let version = serde_json::to_value(&definition.spec.versions[0]).unwrap();
    version["schema"]["openAPIV3Schema"].clone()
}

/// The schema below `spec`.
pub(crate) fn spec_schema(definition: &CustomResourceDefinition) -> Value {
    root_schema(definition)["properties"]["spec"].clone()
}

fn object(kind: &'static str, spec: Value) -> Sample {
    let value = json!({
        "apiVersion": "clawlock.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "sample", "namespace": "acme"},
        "spec": spec,
    });
    Sample { kind, value }
}

fn selector() -> Value {
    json!({
        "matchLabels": {"app": "support"},
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}],
    })
}

/// Samples that together have every field of every kind.
pub(crate) fn samples() -> Vec<Sample> {
    let upstream = |credential: Value| {
        object(
            "Upstream",
            json!({
                "protocol": "LLM",
                "scheme": "https",
                "hosts": ["api.stripe.example"],
                "port": 443,
                "allowedCIDRs": ["10.1.0.0/16"],
                "tls": {"caRef": {"kind": "ConfigMap", "name": "corp-ca", "key": "ca.crt"}},
                "credential": credential,
                "residency": "eu",
                "category": "Write",
                "operations": [{
                    "category": "Money",
                    "name": "create_refund",
                    "method": "POST",
                    "path": "/v1/refunds/{charge}",
                    "arguments": [{"name": "amount", "type": "Integer"}],
                }],
            }),
        )
    };
    let secret = json!({"name": "stripe", "key": "token"});
    vec![
        object("AgentHalt", json!({"agentSelector": selector(), "reason": "INC-42: unusual refunds"})),
        object(
            "AgentHalt",
            json!({
                "agentSelector": {},
                "reason": "tool exec is blocked by rule no-rm of policy acme/support",
                "podUID": "0b5e0b5e-0000-4000-8000-000000000000",
                "cause": {"type": "Denial", "denial": {"policy": "acme/support", "rule": "no-rm"}},
            }),
        ),
        object(
            "AgentPolicy",
            json!({
                "agentSelector": selector(),
                "mode": "Audit",
                "rules": [
                    {"name": "shell", "match": {"tools": ["exec"]}, "when": "args.command == 'ls'", "tier": "Auto"},
                    {
                        "name": "refund",
                        "match": {"operations": ["stripe.create_refund"]},
                        "tier": "Ask",
                        "onDeny": "Halt",
                    },
                    {
                        "name": "docs",
                        "match": {"http": {"upstreams": ["wiki"], "methods": ["GET"], "paths": ["/wiki/**"]}},
                        "tier": "Block",
                    },
                    {
                        "name": "reading",
                        "match": {"category": "Read"},
                        "schedule": {
                            "timeZone": "America/New_York",
                            "windows": [{"days": ["Mon", "Fri"], "from": "22:00", "to": "06:00"}],
                            "excludedDates": ["2026-12-25"],
                        },
                        "tier": "Auto",
                    },
                ],
                "residency": {"allow": ["eu", "us"]},
                "limits": limits(),
            }),
        ),
        object(
            "TenantGateway",
            json!({
                "namespaces": ["acme"],
                "trustDomain": "acme.example",
                "replicas": 3,
                "onboarding": "Enforce",
                "agents": {
                    "exemptions": [{"name": "batch", "podSelector": selector()}],
                    "pluginOptional": [{"name": "python", "podSelector": selector()}],
                    "ingress": [{
                        "name": "web",
                        "from": [{"namespaceSelector": selector(), "podSelector": selector()}],
                        "ports": [{"port": 18789, "protocol": "TCP"}],
                    }],
                    "serviceAccounts": [{"name": "billing-agent", "images": ["registry.example/billing:1"]}],
                    "apiAccess": [{"serviceAccount": "deployer"}],
                },
                "identity": {"certificateTTL": "12h"},
                "guardrails": [
                    {"name": "shell", "match": {"tools": ["exec"]}, "when": "true", "tier": "Ask"},
                    {"name": "delete", "match": {"operations": ["github.delete_*"]}, "tier": "Block"},
                    {
                        "name": "docs",
                        "match": {"http": {"upstreams": ["wiki"], "methods": ["PUT"], "paths": ["/wiki/**"]}},
                        "tier": "Block",
                    },
                    {"name": "money", "match": {"category": "Money"}, "tier": "Ask"},
                ],
                "limits": limits(),
                "toolCategories": [{"name": "github", "tools": ["github__get_*"], "category": "Read"}],
                "policyConstraints": {"allowedModes": ["Enforce", "Audit"], "auditUntil": "2027-01-15"},
            }),
        ),
        upstream(json!({"type": "Bearer", "bearer": {"secretRef": secret}})),
        upstream(json!({"type": "Header", "header": {"name": "x-api-key", "secretRef": secret}})),
        upstream(json!({"type": "Basic", "basic": {"username": "acme", "secretRef": secret}})),
        upstream(json!({"type": "None"})),
    ]
}

/// Limits with every kind of match.
fn limits() -> Value {
    json!([
        {
            "name": "writes",
            "scope": "Agent",
            "match": {"category": "Write"},
            "rate": {"requests": 30, "interval": "1m", "burst": 5},
        },
        {
            "name": "docs",
            "scope": "Agent",
            "match": {"http": {"upstreams": ["wiki"], "methods": ["PUT"], "paths": ["/wiki/**"]}},
            "rate": {"requests": 30, "interval": "1m"},
        },
        {
            "name": "exec",
            "scope": "Agent",
            "match": {"tools": ["exec"]},
            "rate": {"requests": 30, "interval": "1m"},
        },
        {
            "name": "pay",
            "scope": "Agent",
            "match": {"operations": ["stripe.pay"]},
            "rate": {"requests": 30, "interval": "1m"},
        },
    ])
}
