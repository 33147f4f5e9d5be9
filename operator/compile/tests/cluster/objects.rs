//! The objects of a tenant.

use std::collections::{BTreeMap, BTreeSet};

use clawlock_compile::objects::names::{self, Role};
use clawlock_compile::objects::{Known, ObjectKind, Release, TenantObjects, isolation};
use serde_json::{Value, json};

use crate::common::{changed, compiled, find, json, objects, release, set, tenant_objects, world};

const ACME: &str = "TenantGateway acme";

fn built() -> TenantObjects {
    tenant_objects(&compiled(&world()), "acme")
}

fn object(objects: &TenantObjects, key: &str) -> Value {
    let found = objects.iter().find(|object| object.key().to_string() == key);
    json(found.unwrap_or_else(|| panic!("there is no {key}")))
}

#[test]
fn a_tenant_has_these_objects_in_this_order() {
    let objects = built();
    let keys: Vec<String> = objects.iter().map(|object| object.key().to_string()).collect();
    assert_eq!(
        keys,
        [
            "NetworkPolicy acme/clawlock-default-deny",
            "NetworkPolicy acme/clawlock-agents",
            "NetworkPolicy acme/clawlock-exempt-batch",
            "NetworkPolicy acme/clawlock-ingress-web",
            "NetworkPolicy acme-staging/clawlock-default-deny",
            "NetworkPolicy acme-staging/clawlock-agents",
            "NetworkPolicy acme-staging/clawlock-exempt-batch",
            "NetworkPolicy acme-staging/clawlock-ingress-web",
            "NetworkPolicy acme-gateway/clawlock-gateway",
            "ServiceAccount acme-gateway/clawlock-gateway",
            "RoleBinding acme-gateway/clawlock-gateway",
            "Service acme-gateway/clawlock-gateway",
            "PodDisruptionBudget acme-gateway/clawlock-gateway",
            "StatefulSet acme-gateway/clawlock-gateway",
        ]
    );
    assert_eq!(objects.keys().len(), keys.len());
    let kinds: BTreeSet<ObjectKind> = objects.keys().into_iter().map(|key| key.kind).collect();
    assert_eq!(kinds, ObjectKind::ALL.into_iter().collect(), "pruning looks at each kind");
}

/// Server-side apply owns what is written: a null, an empty list or a status would be fought over.
#[test]
fn objects_say_nothing_that_they_do_not_mean() {
    fn check(at: &str, value: &Value) {
        match value {
            Value::Null => panic!("{at} is null"),
            Value::Array(items) => {
                assert!(!items.is_empty(), "{at} is an empty list");
                items.iter().enumerate().for_each(|(index, item)| check(&format!("{at}[{index}]"), item));
            }
            Value::Object(members) => {
                let means_all = ["podSelector", "egress[0]"].iter().any(|end| at.ends_with(end));
                assert!(!members.is_empty() || means_all, "{at} is an empty object");
                members.iter().for_each(|(name, member)| check(&format!("{at}.{name}"), member));
            }
            _ => {}
        }
    }
    let unset = Release {
        namespace: "clawlock-system".to_owned(),
        gateway_image: "gateway".to_owned(),
        sidecar_image: "sidecar".to_owned(),
        ..Release::default()
    };
    let compilation = compiled(&world());
    for release in [release(), unset] {
        for cluster_ip in [None, Some("10.96.0.7".parse().unwrap())] {
            let isolated = BTreeSet::from(["acme".to_owned()]);
            let known = Known { anchor: "QUJD", cluster_ip, isolated: &isolated };
            for object in TenantObjects::build(compilation.tenant("acme").unwrap(), &release, known).iter() {
                let value = json(object);
                check(&object.key().to_string(), &value);
                assert!(value.get("status").is_none() && value["apiVersion"].is_string() && value["kind"].is_string());
                assert!(value["metadata"].get("ownerReferences").is_none(), "collected before the pods");
                assert_eq!(value["metadata"]["labels"], json!(names::managed_labels("acme")));
                assert_eq!(
                    value["spec"].pointer("/clusterIP").is_some(),
                    value["kind"] == "Service" && cluster_ip.is_some()
                );
            }
        }
    }
}

#[test]
fn objects_depend_on_what_is_said_and_not_on_its_order() {
    let mut shuffled = world();
    let index = find(&shuffled, ACME);
    set(&mut shuffled[index], "/spec/namespaces", json!(["acme-staging", "acme"]));
    shuffled.reverse();
    assert_eq!(built(), tenant_objects(&compiled(&shuffled), "acme"));
}

#[test]
fn an_agent_reaches_its_gateway_and_nothing_else() {
    let policy = object(&built(), "NetworkPolicy acme/clawlock-agents");
    assert_eq!(
        policy["spec"],
        json!({
            "podSelector": {"matchLabels": {"clawlock.dev/role": "agent", "clawlock.dev/tenant": "acme"}},
            "policyTypes": ["Ingress", "Egress"],
            "egress": [{
                "to": [{
                    "namespaceSelector": {"matchExpressions": [
                        {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["acme-gateway"]},
                    ]},
                    "podSelector": {"matchLabels": {"clawlock.dev/role": "gateway", "clawlock.dev/tenant": "acme"}},
                }],
                "ports": [{"port": 8443, "protocol": "TCP"}],
            }],
        })
    );
}

#[test]
fn default_deny_and_exemption_open_nothing() {
    let objects = built();
    assert_eq!(
        object(&objects, "NetworkPolicy acme/clawlock-default-deny")["spec"],
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    );
    let exempt = &object(&objects, "NetworkPolicy acme/clawlock-exempt-batch")["spec"];
    assert_eq!(exempt["policyTypes"], json!(["Ingress", "Egress"]));
    assert!(exempt.get("ingress").is_none() && exempt.get("egress").is_none());
}

#[test]
fn ingress_is_open_to_the_peers_that_are_named_and_to_agents_only() {
    let policy = object(&built(), "NetworkPolicy acme-staging/clawlock-ingress-web");
    let expression = |key: &str| json!([{"key": key, "operator": "In", "values": ["web"]}]);
    assert_eq!(
        policy["spec"],
        json!({
            "podSelector": {"matchLabels": {"clawlock.dev/role": "agent", "clawlock.dev/tenant": "acme"}},
            "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{
                    "namespaceSelector": {"matchLabels": {"team": "web"}, "matchExpressions": expression("team")},
                    "podSelector": {"matchLabels": {"app": "web"}, "matchExpressions": expression("app")},
                }],
                "ports": [{"port": 18789, "protocol": "TCP"}],
            }],
        })
    );
    // Without a protocol it is TCP; without a namespaceSelector the agent's own namespace.
    let entry = json!([{"name": "web", "from": [{"podSelector": {}}], "ports": [{"port": 1}]}]);
    let objects = tenant_objects(&compiled(&changed(ACME, "/spec/agents/ingress", entry)), "acme");
    let rule = &object(&objects, "NetworkPolicy acme/clawlock-ingress-web")["spec"]["ingress"][0];
    assert_eq!(*rule, json!({"from": [{"podSelector": {}}], "ports": [{"port": 1, "protocol": "TCP"}]}));
}

#[test]
fn a_gateway_is_reached_by_its_own_agents_and_by_monitoring() {
    let spec = object(&built(), "NetworkPolicy acme-gateway/clawlock-gateway")["spec"].clone();
    assert_eq!(spec["podSelector"]["matchLabels"]["clawlock.dev/role"], "gateway");
    assert_eq!(spec["egress"], json!([{}]), "the gateway checks addresses itself");
    assert_eq!(
        spec["ingress"],
        json!([
            {
                "from": [{
                    "namespaceSelector": {
                        "matchLabels": {"clawlock.dev/tenant": "acme"},
                        "matchExpressions": [{
                            "key": "kubernetes.io/metadata.name", "operator": "In", "values": ["acme", "acme-staging"],
                        }],
                    },
                    "podSelector": {"matchLabels": {"clawlock.dev/role": "agent", "clawlock.dev/tenant": "acme"}},
                }],
                "ports": [{"port": 8443, "protocol": "TCP"}],
            },
            {
                "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
                "ports": [{"port": 9090, "protocol": "TCP"}],
            },
        ])
    );
}

#[test]
fn a_namespace_is_closed_when_it_must_be_and_stays_so() {
    let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    let seen = |pods: &[(&str, u32)]| -> BTreeMap<String, u32> {
        pods.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    };
    let enforce = compiled(&world());
    let observe = compiled(&changed(ACME, "/spec/onboarding", json!("Observe")));
    let (enforce, observe) = (enforce.tenant("acme").unwrap(), observe.tenant("acme").unwrap());
    let both = set(&["acme", "acme-staging"]);
    assert_eq!(isolation(enforce, &set(&[]), &seen(&[("acme", 3)])), both);
    assert_eq!(isolation(observe, &set(&[]), &seen(&[])), set(&[]), "nobody has looked yet");
    assert_eq!(isolation(observe, &set(&[]), &seen(&[("acme", 0), ("acme-staging", 1)])), set(&["acme"]));
    assert_eq!(isolation(observe, &set(&["acme"]), &seen(&[("acme", 1), ("acme-staging", 1)])), set(&["acme"]));
    assert_eq!(isolation(observe, &set(&["elsewhere"]), &seen(&[("elsewhere", 0)])), set(&[]), "not the tenant's");
    // What is not closed has no default deny, and agents and exempted pods there are closed nevertheless.
    let known = Known { anchor: "QUJD", cluster_ip: None, isolated: &set(&["acme"]) };
    let objects = TenantObjects::build(observe, &release(), known);
    let names: Vec<String> = objects.keys().iter().map(ToString::to_string).collect();
    assert!(names.contains(&"NetworkPolicy acme/clawlock-default-deny".to_owned()), "{names:?}");
    assert!(!names.contains(&"NetworkPolicy acme-staging/clawlock-default-deny".to_owned()), "{names:?}");
    assert!(names.contains(&"NetworkPolicy acme-staging/clawlock-agents".to_owned()), "{names:?}");
    assert!(names.contains(&"NetworkPolicy acme-staging/clawlock-exempt-batch".to_owned()), "{names:?}");
}

#[test]
fn a_service_gets_the_address_back_that_sidecars_carry() {
    let service = object(&built(), "Service acme-gateway/clawlock-gateway");
    assert_eq!(
        service["spec"],
        json!({
            "type": "ClusterIP",
            "clusterIP": "10.96.0.7",
            "selector": {"clawlock.dev/role": "gateway", "clawlock.dev/tenant": "acme"},
            "ports": [{"name": "hop", "port": 8443, "protocol": "TCP", "targetPort": "hop"}],
        })
    );
}

#[test]
fn a_gateway_may_read_secrets_by_one_cluster_role() {
    let binding = object(&built(), "RoleBinding acme-gateway/clawlock-gateway");
    assert_eq!(binding["roleRef"]["kind"], "ClusterRole");
    assert_eq!(binding["roleRef"]["name"], "clawlock-gateway");
    assert_eq!(
        binding["subjects"],
        json!([{"kind": "ServiceAccount", "name": "clawlock-gateway", "namespace": "acme-gateway"}])
    );
}

#[test]
fn a_gateway_runs_with_these_arguments_and_nothing_of_the_node() {
    let set = object(&built(), "StatefulSet acme-gateway/clawlock-gateway");
    let spec = &set["spec"]["template"]["spec"];
    let container = &spec["containers"][0];
    assert_eq!(
        container["args"],
        json!([
            "run",
            "--tenant=acme",
            "--trust-domain=acme.example",
            "--control=clawlock-control.clawlock-system.svc:8444",
            "--anchor=QU5DSE9S",
            "--hop=0.0.0.0:8443",
            "--admin=0.0.0.0:9090",
        ])
    );
    assert_eq!(container["image"], "registry.example/clawlock-gateway:1");
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container["resources"]["limits"]["memory"], "256Mi");
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
    assert_eq!(spec["priorityClassName"], "clawlock");
    assert_eq!(spec["nodeSelector"], json!({"kubernetes.io/os": "linux"}));
    assert_eq!(spec["tolerations"][0]["key"], "gateways");
    assert_eq!(container["securityContext"], restricted(65514));
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["audience"], "clawlock.dev");
    assert_eq!(
        container["volumeMounts"],
        json!([{"name": "clawlock-token", "mountPath": "/run/clawlock/token", "readOnly": true}])
    );
    let grace = spec["terminationGracePeriodSeconds"].as_i64().unwrap();
    let linger = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64().unwrap();
    assert!(grace > linger + names::GATEWAY_DRAIN_SECONDS, "{grace}: killed before it has drained");
    assert_eq!(set["spec"]["podManagementPolicy"], "Parallel");
    assert_eq!(set["spec"]["serviceName"], "clawlock-gateway");
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    for (key, value) in set["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(labels[key], *value, "the pods must be those that are selected");
    }
    assert_eq!(labels[names::ROLE_LABEL], Role::Gateway.as_str());
}

/// What Pod Security `restricted` wants of a container, written out.
pub(crate) fn restricted(user: i64) -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsGroup": user,
        "runAsNonRoot": true,
        "runAsUser": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

#[test]
fn tenants_do_not_share_objects() {
    let mut all = world();
    all.extend(objects(
        "kind: TenantGateway\napiVersion: clawlock.dev/v1alpha1\nmetadata: {name: beta, namespace: beta-gateway}\n\
         spec: {namespaces: [beta], trustDomain: beta.example}\n",
    ));
    let compilation = compiled(&all);
    let acme = tenant_objects(&compilation, "acme").keys();
    let beta = tenant_objects(&compilation, "beta").keys();
    assert!(acme.is_disjoint(&beta));
    assert!(beta.iter().all(|key| ["beta", "beta-gateway"].contains(&key.namespace.as_str())), "{beta:?}");
}

#[test]
fn a_release_is_read_strictly() {
    let mut value = serde_json::to_value(release()).unwrap();
    assert_eq!(serde_json::from_value::<Release>(value.clone()).unwrap(), release());
    value["gatewayImages"] = json!("typo");
    assert!(serde_json::from_value::<Release>(value).is_err());
}
