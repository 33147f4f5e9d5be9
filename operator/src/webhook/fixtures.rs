//! A tenant and its pods, for the tests of the webhooks.

use std::collections::BTreeMap;

use clawlock_compile::objects::Release;
use clawlock_compile::objects::sidecar::Injection;
use clawlock_compile::{Kind, Resources, compile};
use serde_json::{Value, json};

use super::review::Request;
use super::tenants::{Sources, Tenants};

pub(super) fn release() -> Release {
    Release { namespace: "clawlock-system".to_owned(), sidecar_image: "sidecar:2".to_owned(), ..Release::default() }
}

pub(super) fn gateway() -> Value {
    json!({
        "apiVersion": "clawlock.dev/v1alpha1", "kind": "TenantGateway",
        "metadata": { "name": "acme", "namespace": "acme-gateway" },
        "spec": {
            "namespaces": ["acme", "acme-staging"], "trustDomain": "acme.test",
            "agents": { "exemptions": [{ "name": "batch", "podSelector": { "matchLabels": { "role": "batch" } } }] },
        },
    })
}

pub(super) fn upstream(name: &str) -> Value {
    json!({
        "apiVersion": "clawlock.dev/v1alpha1", "kind": "Upstream",
        "metadata": { "name": name, "namespace": "acme-gateway" },
        "spec": {
            "protocol": "HTTP", "scheme": "https", "hosts": [format!("{name}.test")], "port": 443,
            "tls": { "caRef": { "kind": "ConfigMap", "name": "ca", "key": "ca.crt" } },
        },
    })
}

pub(super) fn policy(upstream: &str) -> Value {
    json!({
        "apiVersion": "clawlock.dev/v1alpha1", "kind": "AgentPolicy",
        "metadata": { "name": "support", "namespace": "acme" },
        "spec": {
            "agentSelector": {},
            "rules": [{ "name": "a", "match": { "http": { "upstreams": [upstream] } }, "tier": "Auto" }],
        },
    })
}

/// The arguments that the operator publishes for that tenant.
pub(super) fn arguments() -> String {
    let mut resources = Resources::default();
    resources.add(Kind::TenantGateway, &gateway());
    let compilation = compile(&resources);
    let injection = Injection::new(compilation.tenant("acme").unwrap(), &release(), "QUJD", [10, 96, 0, 7].into());
    injection.container().args.clone().unwrap().join("\n")
}

pub(super) fn sources(gateways: &[Value], upstreams: &[Value]) -> Sources {
    let index = |values: &[Value]| {
        let text = |value: &Value, key: &str| value["metadata"][key].as_str().unwrap().to_owned();
        let key = |value: &Value| (text(value, "namespace"), text(value, "name"));
        Some(values.iter().map(|value| (key(value), value.clone())).collect::<BTreeMap<_, _>>())
    };
    let admission = [("sidecar-image", "sidecar:2".to_owned()), ("args_acme", arguments())];
    Sources {
        gateways: index(gateways),
        upstreams: index(upstreams),
        admission: Some(admission.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
    }
}

pub(super) fn tenants() -> Tenants {
    let sources = sources(&[gateway()], &[upstream("stripe")]);
    Tenants::build(&release(), &sources, &mut Resources::default()).unwrap()
}

pub(super) fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a", "labels": { "app": "a" } },
        "spec": {
            "serviceAccountName": "default",
            "containers": [{ "name": "a", "image": "openclaw:1", "resources": {} }],
        },
    })
}

/// A review of a change, as bytes.
pub(super) fn review(operation: &str, resource: [&str; 3], part: &str, old: &Value, new: &Value) -> Vec<u8> {
    let [group, version, plural] = resource;
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": operation, "subResource": part,
            "namespace": new["metadata"]["namespace"].as_str().unwrap_or("acme"),
            "resource": { "group": group, "version": version, "resource": plural },
            "object": new, "oldObject": old, "userInfo": { "username": "dev" }, "dryRun": false,
        },
    })
    .to_string()
    .into_bytes()
}

pub(super) fn request(operation: &str, resource: [&str; 3], part: &str, old: &Value, new: &Value) -> Request {
    Request::parse(&review(operation, resource, part, old, new)).unwrap()
}
