//! The generated definitions: what every node of a schema must have, and what the types read.
#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

#[path = "common/samples.rs"]
mod common;

use std::collections::BTreeSet;

use clawlock_crds::{AgentHalt, AgentPolicy, Onboarding, TenantGateway, Upstream, definitions};
use common::{Sample, samples, spec_schema};
use serde_json::{Value, json};

/// A node of a schema and where it is.
struct Node<'a> {
    path: String,
    schema: &'a Value,
    below_items: bool,
}

fn walk<'a>(node: Node<'a>, visit: &mut dyn FnMut(&Node<'a>)) {
    visit(&node);
    let Node { path, schema, below_items } = node;
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        walk(Node { path: format!("{path}.{name}"), schema: child, below_items }, visit);
    }
    if schema["items"].is_object() {
        walk(Node { path: format!("{path}[]"), schema: &schema["items"], below_items: true }, visit);
    }
    if schema["additionalProperties"].is_object() {
        let child = &schema["additionalProperties"];
        walk(Node { path: format!("{path}{{}}"), schema: child, below_items: true }, visit);
    }
}

fn each_node(mut check: impl FnMut(&str, &Node<'_>)) {
    let mut count = 0;
    for definition in definitions() {
        let kind = definition.spec.names.kind.clone();
        let schema = spec_schema(&definition);
        walk(Node { path: "spec".to_owned(), schema: &schema, below_items: false }, &mut |node| {
            count += 1;
            check(&format!("{kind} {}", node.path), node);
        });
    }
    assert!(count > 80, "the walk saw only {count} nodes");
}

#[test]
fn every_object_keeps_unknown_fields() {
    each_node(|at, node| {
        if node.schema["type"] != "object" {
            return;
        }
        if node.schema["additionalProperties"].is_object() {
            // A map declares all of its keys: there is nothing to prune.
            assert!(node.schema["maxProperties"].is_u64(), "{at}: a map without a bound");
            assert!(node.schema["properties"].is_null(), "{at}: a map with properties");
        } else {
            assert_eq!(node.schema["x-kubernetes-preserve-unknown-fields"], true, "{at}");
            assert!(node.schema["additionalProperties"].is_null(), "{at}");
            assert!(node.schema["properties"].is_object(), "{at}: an object without properties");
        }
    });
}

#[test]
fn everything_has_a_type_and_a_bound() {
    each_node(|at, node| match node.schema["type"].as_str() {
        Some("string") => {
            let is_enum = node.schema["enum"].as_array().is_some_and(|values| !values.is_empty());
            assert!(is_enum || node.schema["maxLength"].is_u64(), "{at}: a string without a bound");
        }
        Some("array") => {
            assert!(node.schema["maxItems"].is_u64(), "{at}: a list without a bound");
            assert!(node.schema["items"].is_object(), "{at}");
            let list_type = node.schema["x-kubernetes-list-type"].as_str();
            match list_type {
                Some("set" | "atomic") => {}
                Some("map") => {
                    let [key] = node.schema["x-kubernetes-list-map-keys"].as_array().unwrap().as_slice() else {
                        panic!("{at}: one key")
                    };
                    assert!(*key == "name" || at.ends_with("agents.apiAccess"), "{at}: key {key}");
                    let required = node.schema["items"]["required"].as_array().unwrap();
                    assert!(required.contains(key), "{at}: the key is optional");
                }
                other => panic!("{at}: list type {other:?}"),
            }
        }
        Some("integer") => {
            assert!(node.schema["minimum"].is_number() && node.schema["maximum"].is_number(), "{at}");
        }
        Some("object") => {}
        other => panic!("{at}: type {other:?}"),
    });
}

#[test]
fn no_default_below_a_list_and_no_null() {
    each_node(|at, node| {
        assert!(node.schema.get("nullable").is_none(), "{at}");
        if node.below_items {
            assert!(node.schema.get("default").is_none(), "{at}: GitOps tools report a default in a list as drift");
        }
        // What structural schemas forbid.
        for keyword in ["$ref", "oneOf", "anyOf", "allOf", "not", "uniqueItems", "patternProperties", "definitions"] {
            assert!(node.schema.get(keyword).is_none(), "{at}: {keyword}");
        }
    });
}

#[test]
fn every_field_is_described() {
    each_node(|at, node| {
        for (name, child) in node.schema["properties"].as_object().into_iter().flatten() {
            let text = child["description"].as_str().unwrap_or_default();
            assert!(text.len() > 10 && text.ends_with('.'), "{at}.{name}: {text:?}");
        }
    });
}

#[test]
fn definitions_are_what_kubectl_shows() {
    let expected = [
        ("AgentHalt", "agenthalts", "clawhalt", ["Agents", "Why"].as_slice()),
        ("AgentPolicy", "agentpolicies", "clawpolicy", &["Mode", "Agents"]),
        ("TenantGateway", "tenantgateways", "tgw", &["Agents", "Ungoverned"]),
        ("Upstream", "upstreams", "clawup", &["Hosts", "Credential"]),
    ];
    let definitions = definitions();
    assert_eq!(definitions.len(), expected.len());
    for (definition, (kind, plural, short, own)) in definitions.iter().zip(expected) {
        let names = &definition.spec.names;
        assert_eq!(definition.spec.group, clawlock_crds::GROUP);
        assert_eq!(definition.spec.scope, "Namespaced");
        assert_eq!((names.kind.as_str(), names.plural.as_str()), (kind, plural));
        assert_eq!(names.short_names, Some(vec![short.to_owned()]));
        assert_eq!(names.categories, Some(vec!["clawlock".to_owned()]));
        let [version] = definition.spec.versions.as_slice() else { panic!("{kind}: one version") };
        assert_eq!(format!("{}/{}", clawlock_crds::GROUP, version.name), clawlock_crds::API_VERSION);
        let subresources = version.subresources.as_ref().unwrap();
        assert!(subresources.status.is_some() && subresources.scale.is_none(), "{kind}");
        let columns = version.additional_printer_columns.as_ref().unwrap();
        let (short, long): (Vec<_>, Vec<_>) = columns.iter().partition(|column| column.priority.is_none());
        let short: Vec<&str> = short.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(short, [&["Ready", "Reason"], own, &["Age"]].concat(), "{kind}: state first, reason, age last");
        assert_eq!(long.last().unwrap().name, "Message", "{kind}");
    }
}

/// Conditions as `kubectl wait` and GitOps tools read them, and nothing that the API server would refuse.
#[test]
fn every_status_has_conditions() {
    for definition in definitions() {
        let kind = &definition.spec.names.kind;
        let version = serde_json::to_value(&definition.spec.versions[0]).unwrap();
        let status = &version["schema"]["openAPIV3Schema"]["properties"]["status"];
        assert_eq!(status["type"], "object", "{kind}");
        assert_eq!(status["properties"]["observedGeneration"]["type"], "integer", "{kind}");
        let conditions = &status["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]), "{kind}");
        let bounded = |at: &str, node: &Node<'_>| match node.schema["type"].as_str() {
            Some("string") => {
                let format = node.schema["format"] == "date-time" || node.schema["enum"].is_array();
                assert!(format || node.schema["maxLength"].is_u64(), "{at}: a string without a bound");
            }
            Some("array") => assert!(node.schema["maxItems"].is_u64(), "{at}: a list without a bound"),
            Some("integer" | "object") => {}
            other => panic!("{at}: type {other:?}"),
        };
        walk(Node { path: format!("{kind} status"), schema: status, below_items: false }, &mut |node| {
            bounded(&node.path, node);
            for (name, child) in node.schema["properties"].as_object().into_iter().flatten() {
                let text = child["description"].as_str().unwrap_or_default();
                assert!(text.ends_with('.'), "{}.{name}: {text:?}", node.path);
            }
        });
    }
}

/// After a rollback the older operator reads what the newer one wrote.
#[test]
fn an_unknown_field_of_a_status_is_no_mistake() {
    for sample in samples() {
        let mut value = sample.value.clone();
        value["status"] = json!({"observedGeneration": 3, "fromTheFuture": {"a": 1}, "conditions": [{
            "type": "Ready", "status": "True", "reason": "Programmed", "message": "", "lastTransitionTime":
            "2026-11-21T00:00:00Z", "observedGeneration": 3, "fromTheFuture": 1,
        }]});
        let written = read(sample.kind, &value).unwrap();
        assert_eq!(written["status"]["observedGeneration"], 3, "{}", sample.kind);
        assert_eq!(written["status"]["conditions"][0]["type"], "Ready", "{}", sample.kind);
        assert!(written["status"].get("fromTheFuture").is_none(), "{}", sample.kind);
    }
}

/// Every field of the schema stands in a sample, so that what is tested over samples is complete.
#[test]
fn samples_have_every_field() {
    let samples = samples();
    each_node(|at, node| {
        let (kind, _) = at.split_once(' ').unwrap();
        let seen: BTreeSet<String> =
            samples.iter().filter(|sample| sample.kind == kind).flat_map(Sample::schema_paths).collect();
        assert!(seen.contains(&node.path), "{at} stands in no sample");
    });
}

#[test]
fn samples_read_and_write_back() {
    for sample in samples() {
        let written = read(sample.kind, &sample.value).unwrap();
        assert_eq!(written, sample.value, "{}", sample.kind);
    }
}

#[test]
fn an_unknown_field_is_refused_wherever_it_is() {
    for sample in samples() {
        for pointer in sample.objects() {
            let mut value = sample.value.clone();
            let object = value.pointer_mut(&pointer).unwrap().as_object_mut().unwrap();
            object.insert("timetable".to_owned(), json!({"windows": []}));
            let error = read(sample.kind, &value).expect_err(&pointer);
            assert!(error.contains("unknown field `timetable`"), "{} {pointer}: {error}", sample.kind);
        }
    }
}

/// A `when:` whose expression was commented out is `null`, and must not be a rule without a condition.
#[test]
fn null_is_refused_wherever_it_is() {
    for sample in samples() {
        for pointer in sample.fields() {
            let mut value = sample.value.clone();
            *value.pointer_mut(&pointer).unwrap() = Value::Null;
            assert!(read(sample.kind, &value).is_err(), "{} {pointer} accepts null", sample.kind);
        }
    }
}

/// A YAML reader may take a blank for an empty map, list or text: `matchLabels:` without its labels
/// would select every agent.
#[test]
fn a_blank_in_yaml_is_refused_wherever_it_is() {
    let mut accepted = Vec::new();
    for sample in samples() {
        for pointer in sample.fields().into_iter().chain(["/spec/agentSelector/matchLabels".to_owned()]) {
            let mut value = sample.value.clone();
            let Some(place) = value.pointer_mut(&pointer) else { continue };
            *place = Value::Null;
            for text in ["null", "~", ""] {
                let yaml = serde_saphyr::to_string(&value).unwrap().replace("null", text);
                if read_yaml(sample.kind, &yaml).is_ok() {
                    accepted.push(format!("{} {pointer}: {text:?}", sample.kind));
                }
            }
        }
    }
    assert!(accepted.is_empty(), "{accepted:#?}");
}

#[test]
fn a_list_is_no_object() {
    for sample in samples() {
        for pointer in sample.objects() {
            let mut value = sample.value.clone();
            *value.pointer_mut(&pointer).unwrap() = json!([]);
            assert!(read(sample.kind, &value).is_err(), "{} {pointer}", sample.kind);
        }
    }
}

#[test]
fn a_port_is_not_cut_to_sixteen_bits() {
    let upstream = samples().into_iter().find(|sample| sample.kind == "Upstream").unwrap().value;
    for port in [json!(0), json!(65536), json!(65616), json!(-80), json!(80.5), json!("80")] {
        let mut value = upstream.clone();
        value["spec"]["port"] = port.clone();
        assert!(read("Upstream", &value).is_err(), "{port}");
    }
}

#[test]
fn a_tenant_that_says_little_has_two_gateways_and_observes() {
    let value = json!({
        "apiVersion": "clawlock.dev/v1alpha1", "kind": "TenantGateway", "metadata": {"name": "acme"},
        "spec": {"namespaces": ["acme"], "trustDomain": "acme.example", "identity": {}},
    });
    let gateway: TenantGateway = serde_json::from_value(value).unwrap();
    assert_eq!(gateway.spec.replicas.get(), 2);
    assert_eq!(gateway.spec.onboarding, Onboarding::Observe);
    assert_eq!(gateway.spec.agents, None);
    assert_eq!(gateway.spec.identity.unwrap().certificate_ttl, "24h");
}

#[test]
fn replicas_are_not_cut_to_eight_bits() {
    let gateway = samples().into_iter().find(|sample| sample.kind == "TenantGateway").unwrap().value;
    for replicas in [json!(0), json!(256), json!(258), json!(-1), json!(2.5), json!("2")] {
        let mut value = gateway.clone();
        value["spec"]["replicas"] = replicas.clone();
        assert!(read("TenantGateway", &value).is_err(), "{replicas}");
    }
}

fn read_yaml(kind: &str, yaml: &str) -> Result<(), String> {
    fn one<T: serde::de::DeserializeOwned>(yaml: &str) -> Result<(), String> {
        let strict = serde_saphyr::options! { no_schema: true };
        serde_saphyr::from_str::<T>(yaml)
            .map(drop)
            .or_else(|_| serde_saphyr::from_str_with_options::<T>(yaml, strict).map(drop))
            .map_err(|error| error.to_string())
    }
    match kind {
        "AgentHalt" => one::<AgentHalt>(yaml),
        "AgentPolicy" => one::<AgentPolicy>(yaml),
        "TenantGateway" => one::<TenantGateway>(yaml),
        "Upstream" => one::<Upstream>(yaml),
        other => panic!("{other}"),
    }
}

fn read(kind: &str, value: &Value) -> Result<Value, String> {
    fn one<T: serde::de::DeserializeOwned + serde::Serialize>(value: &Value) -> Result<Value, String> {
        let typed: T = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
        Ok(serde_json::to_value(typed).unwrap())
    }
    match kind {
        "AgentHalt" => one::<AgentHalt>(value),
        "AgentPolicy" => one::<AgentPolicy>(value),
        "TenantGateway" => one::<TenantGateway>(value),
        "Upstream" => one::<Upstream>(value),
        other => panic!("{other}"),
    }
}
