//! The pods with which Kubernetes tests its own Pod Security levels, around `restricted`. Injection changes nothing about
//! which of them are taken; our admission policies refuse more, each with a reason.
//!
//! The API server asks in this order, and says who refused first: injection, Pod Security, admission policies. So what a
//! policy refuses, Pod Security has taken with the sidecar in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use clawlock_e2e::{Kubectl, Refused, Result, Tenant};
use serde_json::Value;

/// What became of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// It would have been created; whether with the sidecar as its first container.
    Taken { injected: bool },
    /// Pod Security refused it.
    PodSecurity(String),
    /// The API server's own validation refused it: newer versions have rules that the fixtures do not know.
    Invalid(String),
    /// The injecting webhook refused it.
    Injection(String),
    /// An admission policy of the release refused it.
    Policy(String),
}

impl Outcome {
    fn of_pod(pod: &Value) -> Self {
        Self::Taken { injected: pod.pointer("/spec/initContainers/0/name") == Some(&Value::from("clawlock")) }
    }

    fn of_refusal(reason: &str) -> Result<Self> {
        let after = |words: &str| reason.split_once(words).map(|(_, rest)| rest.trim().to_owned());
        if let Some(why) = after("violates PodSecurity") {
            return Ok(Self::PodSecurity(why));
        }
        if let Some(why) = after("ValidatingAdmissionPolicy ") {
            return Ok(Self::Policy(why));
        }
        if let Some(why) = after("is invalid:") {
            return Ok(Self::Invalid(why));
        }
        let why = after("denied the request:").filter(|_| reason.contains("admission webhook"));
        why.map(Self::Injection).ok_or_else(|| format!("refused by nobody that this test knows: {reason}"))
    }

    /// Whether Pod Security and injection together take it.
    fn passes(&self) -> bool {
        matches!(self, Self::Taken { .. } | Self::Policy(_))
    }
}

/// The newest version's fixtures: those that `restricted` takes, or those that it refuses.
fn fixtures(which: &str) -> Result<Vec<Value>> {
    let root =
        std::env::var("E2E_POD_SECURITY").map_err(|_| "E2E_POD_SECURITY is not set; run the tests with make e2e")?;
    let entries = fs::read_dir(&root).map_err(|error| format!("{root}: {error}"))?;
    let minor = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("v1.")?.parse::<u16>().ok();
    let newest = entries.filter_map(|entry| Some(entry.ok()?.path())).max_by_key(minor);
    let folder = newest.ok_or_else(|| format!("{root} is empty"))?.join(which);
    let files = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?.count();
    let args = ["create", "--dry-run=client", "-o", "json", "-f", &folder.display().to_string()];
    let text = Kubectl::admin().run(&args)?;
    let read: std::result::Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&text).into_iter().collect();
    let mut pods = read.map_err(|error| format!("{}: {error}", folder.display()))?;
    for pod in &mut pods {
        // They are named after files, as an API server would not have it, and kubectl has added a namespace.
        pod["metadata"]["name"] = name(pod).replace('_', "-").into();
        pod["metadata"]["namespace"].take();
    }
    if pods.len() == files { Ok(pods) } else { Err(format!("{} pods in {files} files", pods.len())) }
}

/// What becomes of each pod in a namespace, by the pod's name. One by one: not every refusal names its pod.
fn judge(user: &Kubectl, namespace: &str, pods: &[Value]) -> Result<BTreeMap<String, Outcome>> {
    let mut outcomes = BTreeMap::new();
    for pod in pods {
        let outcome = match user.would_create(namespace, &pod.to_string()) {
            Ok(taken) => Outcome::of_pod(&taken),
            Err(Refused(reason)) => Outcome::of_refusal(&reason)?,
        };
        outcomes.insert(name(pod), outcome);
    }
    Ok(outcomes)
}

fn name(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn pods_that_restricted_takes_are_taken_with_the_sidecar_and_no_others() -> Result<()> {
    let tenant = Tenant::create("pod-security")?;
    let mut wrong = Vec::new();
    for (which, passes) in [("pass", true), ("fail", false)] {
        let pods = fixtures(which)?;
        let count = pods.len();
        // The control: the same pods where there is Pod Security and nothing of ours.
        let alone = judge(&tenant.kubectl, &tenant.origin, &pods)?;
        let outcomes = judge(&tenant.editor()?, &tenant.name, &pods)?;
        assert_eq!((alone.len(), outcomes.len()), (count, count), "each pod has an answer: {alone:#?} {outcomes:#?}");
        for (pod, outcome) in &outcomes {
            println!("{which} {pod:32} {outcome:?}");
            let fine = alone[pod].passes() == passes && outcome.passes() == passes;
            if !fine || *outcome == (Outcome::Taken { injected: false }) {
                wrong.push(format!("{which} {pod}: alone {:?}, injected {outcome:?}", alone[pod]));
            }
        }
        let number = |is: fn(&Outcome) -> bool| outcomes.values().filter(|outcome| is(outcome)).count();
        println!(
            "figure: of {count} pods of \"{which}\", with injection and Pod Security {} pass and {} are refused ({} by \
             injection, {} by Pod Security, {} by validation); our policies refuse {} more",
            number(Outcome::passes),
            number(|outcome| !outcome.passes()),
            number(|outcome| matches!(outcome, Outcome::Injection(_))),
            number(|outcome| matches!(outcome, Outcome::PodSecurity(_))),
            number(|outcome| matches!(outcome, Outcome::Invalid(_))),
            number(|outcome| matches!(outcome, Outcome::Policy(_))),
        );
        if passes {
            wrong.extend(with_a_user(&tenant, pods, &outcomes)?);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// What our policies want beyond `restricted` is a user in the pod. With it they are taken; a pod for Windows cannot have
/// one, and there is no sidecar for it.
fn with_a_user(tenant: &Tenant, pods: Vec<Value>, before: &BTreeMap<String, Outcome>) -> Result<Vec<String>> {
    let wanted =
        |pod: &Value| matches!(before[&name(pod)], Outcome::Policy(_)) && pod["spec"]["os"]["name"] != "windows";
    let mut pods: Vec<_> = pods.into_iter().filter(wanted).collect();
    for pod in &mut pods {
        pod["spec"]["securityContext"]["runAsUser"] = 1000.into();
    }
    let outcomes = judge(&tenant.editor()?, &tenant.name, &pods)?;
    let mut wrong = Vec::new();
    let mut taken = 0;
    for (pod, outcome) in outcomes {
        println!("pass with runAsUser {pod:32} {outcome:?}");
        match outcome {
            Outcome::Taken { injected: true } => taken += 1,
            outcome => wrong.push(format!("{pod} with a user: {outcome:?}")),
        }
    }
    println!("figure: {taken} of these {} are taken once they say runAsUser", pods.len());
    Ok(wrong)
}
