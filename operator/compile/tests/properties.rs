//! What holds for any resources: their order does not matter, what compiles builds, and a mistake never
//! widens what is allowed.
#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

#[path = "common/admission.rs"]
mod admission;
#[path = "common/world.rs"]
mod common;

use clawlock_compile::state::settle;
use clawlock_compile::{Compilation, Kind, Pod, Resources, Severity, compile};
use clawlock_policy::Policy;
use clawlock_policy::codec::{encode, encode_assignment};
use clawlock_policy::document::Scheme::{Http as Plain, Https};
use common::Probe::{self, Http, Tool};
use common::{TICKET, built, compiled, errors, objects, observe_in, pod, pod_in, read, world};
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use serde_json::{Value, json};

/// The world, and objects that quarrel with it.
fn pool() -> Vec<Value> {
    let mut all = world();
    all.extend(objects(include_str!("common/quarrels.yaml")));
    all
}

fn pods() -> Vec<Pod> {
    let mut pods: Vec<Pod> = ["support", "trial", "halted", "other"].into_iter().map(pod).collect();
    pods.extend([pod_in("acme-staging", "support"), pod_in("other", "support"), pod_in("elsewhere", "support")]);
    pods
}

const PROBES: &[Probe] = &[
    Tool("exec", r#"{"command":"ls"}"#),
    Tool("exec", r#"{"command":"rm"}"#),
    Tool("write", r#"{"size":1}"#),
    Tool("write", r#"{"size":20}"#),
    Tool("anything", "{}"),
    Http("POST", Https, "api.example", 443, "/v1/refunds/ch_1", r#"{"amount":50}"#),
    Http("POST", Https, "api.example", 443, "/v1/refunds/ch_1", r#"{"amount":5000}"#),
    Http("DELETE", Https, "api.example", 443, "/v1/repos/one", ""),
    Http("GET", Https, "api.example", 443, "/v1/pages/7", ""),
    Http("GET", Plain, "en.wiki.example", 8080, "/wiki/Cat", ""),
    Http("PUT", Plain, "en.wiki.example", 8080, "/wiki/Cat", ""),
    Http("GET", Https, "keyed.example", 443, "/", ""),
];

/// Everything that leaves the crate, as bytes.
fn bytes(compilation: &Compilation) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> =
        compilation.problems.iter().map(|problem| format!("{problem} {problem:?}").into_bytes()).collect();
    for pod in pods() {
        match compilation.assign(&pod, TICKET) {
            Err(error) => all.push(error.to_string().into_bytes()),
            Ok(assigned) => {
                all.push(encode_assignment(&assigned.assignment));
                all.extend(assigned.documents.iter().map(encode));
            }
        }
    }
    all
}

/// What each pod may do, as (pod, probe) pairs.
fn allowed(compilation: &Compilation) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (pod_index, pod) in pods().iter().enumerate() {
        let Some(policy) = built(compilation, pod) else { continue };
        for (probe_index, probe) in PROBES.iter().enumerate() {
            if observe_in(&policy, *probe).starts_with("Allow") {
                found.push((pod_index, probe_index));
            }
        }
    }
    found
}

/// The JSON pointers of everything below spec.
fn places(value: &Value, pointer: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, child)| places(child, format!("{pointer}/{name}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, child)| places(child, format!("{pointer}/{index}"), found));
        }
        _ => {}
    }
    found.push(pointer);
}

/// What people and generators write by mistake.
fn junk() -> Vec<Value> {
    vec![
        Value::Null,
        json!(""),
        json!(" "),
        json!("*"),
        json!("**"),
        json!("a b"),
        json!("a\u{0}b"),
        json!("a\nb"),
        json!("(("),
        json!("true"),
        json!("false"),
        json!("1 / 0 == 1"),
        json!("args.nothing == 1"),
        json!("/"),
        json!("{"),
        json!("x".repeat(5000)),
        json!(0),
        json!(-1),
        json!(65616),
        json!(1.5),
        json!(true),
        json!([]),
        json!(["x", "x"]),
        json!([""]),
        json!((0..2000).map(|index| format!("x{index}")).collect::<Vec<_>>()),
        json!({}),
        json!({"schedule": {}}),
        json!("/a b/{c}"),
        json!("ä"),
        json!("a.b.c"),
        json!("x".repeat(60)),
        json!("x".repeat(120)),
        json!("2028-02-29"),
        json!("*.b.example"),
        json!(["/a b/**"]),
        json!(["GET", "PATCH"]),
        json!(["ä.b"]),
        json!(["Enforce", "Audit"]),
        json!({"app": "x"}),
        json!({"tools": ["a:b/c"]}),
        json!({"http": {"upstreams": ["wiki"]}}),
        json!("Enforce"),
        json!("Exists"),
        json!("Basic"),
        json!("http"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_resources_never_matters(
        (one, two) in subsequence(pool(), 0..=pool().len())
            .prop_flat_map(|some| (Just(some.clone()), Just(some).prop_shuffle()))
    ) {
        let (one, two) = (compiled(&one), compiled(&two));
        prop_assert_eq!(&one, &two);
        prop_assert_eq!(bytes(&one), bytes(&two));
    }

    #[test]
    fn what_compiles_builds(some in subsequence(pool(), 0..=pool().len())) {
        let compilation = compiled(&some);
        for pod in pods() {
            if let Ok(assigned) = compilation.assign(&pod, TICKET) {
                prop_assert!(assigned.assignment.digests.is_sorted());
                if let Err(error) = Policy::build(assigned.assignment, assigned.documents) {
                    return Err(TestCaseError::fail(format!("{error}\n{}", common::told(&compilation))));
                }
            }
        }
    }

    /// A file that `clawlock dev` accepts is one that the cluster accepts: whatever compiles passes the
    /// schema and its CEL rules.
    #[test]
    fn what_compiles_is_admitted(object in any::<Index>(), place in any::<Index>(), value in prop::sample::select(junk())) {
        let mut objects = world();
        let index = object.index(objects.len());
        if objects[index]["kind"] == "ConfigMap" {
            return Ok(());
        }
        let mut found = Vec::new();
        places(&objects[index]["spec"], "/spec".to_owned(), &mut found);
        *objects[index].pointer_mut(place.get(&found[..]).as_str()).unwrap() = value;
        let Ok(resources) = read(&objects) else { return Ok(()) };
        if errors(&compile(&resources)).is_empty() {
            prop_assert_eq!(admission::refusal(&objects[index]), None);
        }
    }

    /// The same in a cluster, where the object is there nevertheless: readable or not, the last good version
    /// holds, and where there was none nothing is allowed that was not before.
    #[test]
    fn what_is_kept_never_widens(
        object in any::<Index>(), place in any::<Index>(), value in prop::sample::select(junk()), known in any::<bool>(),
    ) {
        let before = world();
        let mut after = before.clone();
        let index = object.index(after.len());
        if after[index]["kind"] == "ConfigMap" {
            return Ok(());
        }
        let mut found = Vec::new();
        places(&after[index]["spec"], "/spec".to_owned(), &mut found);
        *after[index].pointer_mut(place.get(&found[..]).as_str()).unwrap() = value;
        let edited = after.remove(index);
        let mut current = read(&after).unwrap();
        let kinds = [Kind::TenantGateway, Kind::Upstream, Kind::AgentPolicy, Kind::AgentHalt];
        let kind = kinds.into_iter().find(|kind| edited["kind"] == kind.as_str()).unwrap();
        current.add(kind, &edited);
        let good = if known { read(&before).unwrap() } else { Resources::default() };
        let settled = settle(&current, &good);
        if settled.problems.iter().all(|problem| problem.severity == Severity::Warning) {
            return Ok(());
        }
        let earlier = allowed(&compiled(&before));
        let now = allowed(&settled.compilation);
        for pair in &now {
            prop_assert!(earlier.contains(pair), "{:?} is allowed now\n{:?}", pair, settled.problems);
        }
        if known && kind != Kind::AgentHalt {
            prop_assert_eq!(now, earlier, "the last good version allows what it did");
        }
    }

    /// One field of one object becomes junk. It is refused when it is read, or reported, and then
    /// nothing is allowed that was not before; or it is a valid value, and what compiles builds.
    #[test]
    fn a_mistake_never_widens(object in any::<Index>(), place in any::<Index>(), value in prop::sample::select(junk())) {
        let before = world();
        let mut after = before.clone();
        let object = object.get_mut(&mut after);
        if object["kind"] == "ConfigMap" {
            return Ok(());
        }
        let mut found = Vec::new();
        places(&object["spec"], "/spec".to_owned(), &mut found);
        *object.pointer_mut(place.get(&found[..]).as_str()).unwrap() = value;
        let Ok(resources) = read(&after) else { return Ok(()) };
        let compilation = compile(&resources);
        let now = allowed(&compilation);
        if !errors(&compilation).is_empty() {
            let earlier = allowed(&compiled(&before));
            for pair in now {
                prop_assert!(earlier.contains(&pair), "{:?} is allowed now\n{}", pair, common::told(&compilation));
            }
        }
    }
}

#[test]
fn the_world_is_admitted_and_nonsense_is_not() {
    for object in pool().iter().filter(|object| object["kind"] != "ConfigMap") {
        let told = admission::refusal(object);
        // Mistakes that only a look at the text or at other objects shows pass the schema.
        let refused =
            ["broken", "broken-selector", "cleartext", "all"].iter().any(|name| object["metadata"]["name"] == **name);
        assert!(told.is_none() || refused, "{told:?}");
    }
    let mut upstream = world().swap_remove(common::find(&world(), "Upstream api"));
    upstream["spec"]["credential"]["type"] = json!("Basic");
    assert!(admission::refusal(&upstream).unwrap().contains("x-kubernetes-validations"));
}

#[test]
fn the_probes_tell_something() {
    assert!(allowed(&compiled(&world())).len() > 8);
}
