//! The mutating webhook: the sidecar into the pods of agents' namespaces.
//!
//! What is injected is decided in `clawlock_compile::objects::sidecar`, purely; this finds the tenant. Whatever is
//! unknown refuses the pod. Asked again about its own result, it changes nothing.

use clawlock_compile::objects::sidecar::{Outcome, Refusal, check_update, inject, inject_ephemeral};

use super::review::{Answer, Operation, Request, Sort, Verdict};
use super::tenants::{Standing, Tenants};

/// What a request asks.
enum Asked {
    /// May this pod be made, and how?
    Create,
    /// May these ephemeral containers be added, and how?
    Ephemeral,
    /// May it be changed?
    Update,
}

/// Judges a request. `None`: it is not about pods.
pub(super) fn mutate(request: &Request, tenants: &Tenants) -> Option<Answer> {
    if !request.is_about("", "v1", "pods") {
        return None;
    }
    let asked = match (request.operation, request.part()) {
        (Operation::Create, "") => Asked::Create,
        (Operation::Update, "ephemeralcontainers") => Asked::Ephemeral,
        (Operation::Update, "") => Asked::Update,
        _ => return None,
    };
    let namespace = request.namespace.as_deref().filter(|namespace| !namespace.is_empty())?;
    let injection = match tenants.of(namespace) {
        Some(Standing::Ready(injection)) => injection,
        Some(Standing::NotYet(reason)) => {
            return Some(Answer::denied(Sort::NotYet, format!("clawlock: {reason}; create the pod again in a moment")));
        }
        Some(Standing::Invalid(problem)) => {
            return Some(Answer::denied(
                Sort::Forbidden,
                format!("clawlock: the tenant of namespace {namespace} is invalid, so that no agent starts: {problem}"),
            ));
        }
        None => {
            return Some(Answer::denied(
                Sort::Forbidden,
                format!(
                    "clawlock: namespace {namespace} has the label clawlock.dev/tenant, but no TenantGateway lists it in \
                     spec.namespaces; ask the platform team to list it, or to take the label off"
                ),
            ));
        }
    };
    let patch = match asked {
        Asked::Create => inject(&request.object, injection).map(|outcome| match outcome {
            Outcome::Injected(patch) | Outcome::Exempt { operations: patch, .. } => patch,
        }),
        Asked::Ephemeral => inject_ephemeral(&request.old_object, &request.object, injection),
        Asked::Update => check_update(&request.old_object, &request.object, injection).map(|()| Vec::new()),
    };
    Some(match patch {
        Ok(patch) => Answer { verdict: Verdict::Patched(patch), warnings: Vec::new() },
        Err(refusal) => denied(&refusal),
    })
}

fn denied(refusal: &Refusal) -> Answer {
    Answer::denied(Sort::Forbidden, format!("clawlock: {refusal}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::fixtures::{pod, request, tenants};
    use clawlock_compile::objects::sidecar::apply;
    use serde_json::{Value, json};

    const PODS: [&str; 3] = ["", "v1", "pods"];

    fn create(pod: &Value) -> Verdict {
        mutate(&request("CREATE", PODS, "", &Value::Null, pod), &tenants()).unwrap().verdict
    }

    fn message(verdict: Verdict) -> String {
        match verdict {
            Verdict::Denied(denial) => denial.message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pod_gets_the_sidecar_once() {
        let Verdict::Patched(patch) = create(&pod()) else { panic!() };
        let mut injected = pod();
        apply(&mut injected, &patch).unwrap();
        assert_eq!(injected["spec"]["initContainers"][0]["name"], "clawlock");
        assert_eq!(injected["metadata"]["labels"]["clawlock.dev/tenant"], "acme");
        let Verdict::Patched(again) = create(&injected) else { panic!() };
        assert!(again.is_empty(), "{again:?}");
    }

    #[test]
    fn an_exempted_pod_gets_none() {
        let mut batch = pod();
        batch["metadata"]["labels"] = json!({ "role": "batch" });
        let Verdict::Patched(patch) = create(&batch) else { panic!() };
        apply(&mut batch, &patch).unwrap();
        assert!(batch["spec"].get("initContainers").is_none());
    }

    #[test]
    fn refusals_say_what_to_do() {
        let mut host = pod();
        host["spec"]["hostNetwork"] = json!(true);
        let text = message(create(&host));
        assert!(text.starts_with("clawlock: spec.hostNetwork: ") && text.contains("remove it"), "{text}");

        let mut elsewhere = pod();
        elsewhere["metadata"]["namespace"] = json!("nobodys");
        let text = message(create(&elsewhere));
        assert!(text.contains("namespace nobodys") && text.contains("ask the platform team"), "{text}");

        let text = message(create(&json!({ "spec": 7 })));
        assert!(text.contains("cannot be read"), "{text}");
    }

    #[test]
    fn changes_of_pods_are_judged_too() {
        let Verdict::Patched(patch) = create(&pod()) else { panic!() };
        let mut old = pod();
        apply(&mut old, &patch).unwrap();
        let judge = |part: &str, new: &Value| mutate(&request("UPDATE", PODS, part, &old, new), &tenants()).unwrap();
        let mut without_finalizer = old.clone();
        without_finalizer["metadata"]["finalizers"] = json!([]);
        assert!(matches!(judge("", &without_finalizer).verdict, Verdict::Patched(patch) if patch.is_empty()));
        let mut swapped = old.clone();
        swapped["spec"]["initContainers"][0]["image"] = json!("evil:1");
        assert!(matches!(judge("", &swapped).verdict, Verdict::Denied(_)));
        let mut debugged = old.clone();
        debugged["spec"]["ephemeralContainers"] =
            json!([{ "name": "d", "image": "x", "targetContainerName": "clawlock" }]);
        assert!(matches!(judge("ephemeralcontainers", &debugged).verdict, Verdict::Denied(_)));
        debugged["spec"]["ephemeralContainers"] = json!([{ "name": "d", "image": "x" }]);
        assert!(
            matches!(judge("ephemeralcontainers", &debugged).verdict, Verdict::Patched(patch) if !patch.is_empty())
        );
    }

    #[test]
    fn what_is_not_about_pods_is_not_answered() {
        let tenants = tenants();
        for (operation, resource, part) in [
            ("CREATE", ["apps", "v1", "deployments"], ""),
            ("CREATE", ["", "v2", "pods"], ""),
            ("CREATE", PODS, "binding"),
            ("DELETE", PODS, ""),
            ("CONNECT", PODS, "exec"),
        ] {
            assert!(mutate(&request(operation, resource, part, &Value::Null, &pod()), &tenants).is_none());
        }
        let mut nowhere = request("CREATE", PODS, "", &Value::Null, &pod());
        nowhere.namespace = None;
        assert!(mutate(&nowhere, &tenants).is_none());
    }
}
