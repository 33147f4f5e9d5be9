//! What the operator writes into status, as far as it is decided here.

use clawlock_compile::objects::sidecar::{Outcome, PodView, Standing, apply, inject, standing};
use clawlock_compile::{Kind, ObjectRef, Severity, Topic};
use clawlock_crds::Mode;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::common::{NOW_MS, changed, compiled, find, injection, pod, set, world};

fn reference(kind: Kind, name: &str) -> ObjectRef {
    ObjectRef { kind, namespace: "acme".to_owned(), name: name.to_owned() }
}

#[test]
fn the_policies_and_halts_of_a_pod_are_named() {
    let compilation = compiled(&world());
    let names = |app: &str| -> Vec<String> {
        compilation.selecting("acme", &pod(app).uid, &pod(app).labels).into_iter().map(ToString::to_string).collect()
    };
    assert_eq!(names("support"), ["AgentPolicy acme/support"]);
    assert_eq!(names("halted"), ["AgentPolicy acme/halted", "AgentHalt acme/inc-42"]);
    assert!(names("nobody").is_empty());
    assert!(compilation.selecting("elsewhere", "", &pod("support").labels).is_empty());
    // One that is invalid stops its pods, and says which it is.
    let broken = compiled(&changed("AgentPolicy support", "/spec/rules/0/when", json!("((")));
    let selecting = broken.selecting("acme", "", &pod("support").labels);
    assert_eq!(selecting, [&reference(Kind::AgentPolicy, "support")]);
    assert!(!broken.is_accepted(selecting[0]) && compilation.is_accepted(selecting[0]));
}

#[test]
fn a_policy_has_the_mode_that_counts() {
    let compilation = compiled(&world());
    let trial = reference(Kind::AgentPolicy, "trial");
    assert_eq!(compilation.observed_mode(&trial, NOW_MS), Some(Mode::Audit));
    let end = 1_799_971_200_000; // 2027-01-15
    assert_eq!(compilation.observed_mode(&trial, end - 1), Some(Mode::Audit));
    assert_eq!(compilation.observed_mode(&trial, end), Some(Mode::Enforce), "the day on which it ends has come");
    assert_eq!(compilation.observed_mode(&reference(Kind::AgentPolicy, "support"), NOW_MS), Some(Mode::Enforce));
    let forbidden =
        compiled(&changed("TenantGateway acme", "/spec/policyConstraints/allowedModes", json!(["Enforce"])));
    assert_eq!(forbidden.observed_mode(&trial, NOW_MS), Some(Mode::Enforce));
    let broken = compiled(&changed("AgentPolicy trial", "/spec/rules/0/when", json!("((")));
    assert_eq!(broken.observed_mode(&trial, NOW_MS), None);
    assert_eq!(compilation.observed_mode(&reference(Kind::AgentPolicy, "nothing"), NOW_MS), None);
}

/// Admission refuses what an object says itself, and only warns of others that are not there yet.
#[test]
fn problems_are_about_the_object_or_about_others() {
    let topics = |objects: &[Value], severity: Severity| -> Vec<Topic> {
        let compilation = compiled(objects);
        let problems = compilation.problems.iter().filter(|problem| problem.severity == severity);
        problems.map(|problem| problem.topic).collect()
    };
    let unknown = changed("AgentPolicy support", "/spec/rules/2/match/http/upstreams", json!(["wikki"]));
    assert_eq!(topics(&unknown, Severity::Warning), [Topic::Reference]);
    assert_eq!(topics(&unknown, Severity::Error), []);
    let operation = changed("AgentPolicy support", "/spec/rules/1/match/operations", json!(["api.nothing"]));
    assert_eq!(topics(&operation, Severity::Warning), [Topic::Reference]);
    let mut without_map = world();
    without_map.remove(find(&world(), "ConfigMap corp-ca"));
    assert_eq!(topics(&without_map, Severity::Error), [Topic::Reference]);
    let no_key = changed("Upstream api", "/spec/tls/caRef/key", json!("nothing"));
    assert_eq!(topics(&no_key, Severity::Error), [Topic::Reference]);
    let broken = changed("AgentPolicy support", "/spec/rules/0/when", json!("(("));
    assert_eq!(topics(&broken, Severity::Error), [Topic::Content]);
}

#[test]
fn a_pod_is_governed_exempt_ungoverned_or_over() {
    let compilation = compiled(&world());
    let tenant = compilation.tenant("acme").unwrap();
    let plain = |labels: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": labels},
            "spec": {"containers": [{"name": "agent", "image": "any"}]},
        })
    };
    let stands = |pod: &Value| standing(&PodView::of(&serde_json::from_value::<Pod>(pod.clone()).unwrap()), tenant);
    assert_eq!(stands(&plain(json!({"app": "a"}))), Standing::Ungoverned);
    assert_eq!(stands(&plain(json!({"job": "batch"}))), Standing::Exempt);
    let mut injected = plain(json!({"app": "a"}));
    let Ok(Outcome::Injected(operations)) = inject(&injected, &injection(&compilation)) else { panic!("not injected") };
    apply(&mut injected, &operations).unwrap();
    assert_eq!(stands(&injected), Standing::Governed);
    // A label alone, a sidecar alone, another tenant's, and one that is not the first are not enough.
    let agent = json!({"clawlock.dev/role": "agent", "clawlock.dev/tenant": "acme"});
    assert_eq!(stands(&plain(agent)), Standing::Ungoverned);
    for (pointer, value) in [
        ("/metadata/labels", json!({"app": "a"})),
        ("/metadata/labels", json!({"clawlock.dev/role": "agent", "clawlock.dev/tenant": "beta"})),
        ("/spec/initContainers/0/restartPolicy", Value::Null),
        ("/spec/initContainers/0/name", json!("other")),
    ] {
        let mut other = injected.clone();
        set(&mut other, pointer, value);
        assert_eq!(stands(&other), Standing::Ungoverned, "{pointer}");
    }
    for phase in ["Succeeded", "Failed"] {
        set(&mut injected, "/status/phase", json!(phase));
        assert_eq!(stands(&injected), Standing::Over);
    }
}
