//! `check`: whether the API server asks the webhooks, told by two dry runs. `helm test` runs it in a pod.

use std::time::Duration;

use clawlock_crds::AgentPolicy;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

/// How long the installation may take to come up.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is asked.
const INTERVAL: Duration = Duration::from_secs(2);

/// Why the check failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// There is no API server to ask.
    #[error("no access to the API server: {0}; run this in a pod of the release (helm test) or with a KUBECONFIG")]
    Client(#[source] Box<kube::Error>),
    /// The webhook did not do its work in time.
    #[error("{0}; look at the pods and logs of clawlock-webhook and clawlock-operator")]
    Broken(String),
}

/// Checks the release of this namespace.
///
/// # Errors
/// What does not work, and where to look.
pub(crate) async fn run() -> Result<(), CheckError> {
    let client = Client::try_default().await.map_err(|error| CheckError::Client(Box::new(error)))?;
    let namespace = client.default_namespace().to_owned();
    let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &ApiResource::erase::<AgentPolicy>(&()));
    let mut last = "the API server was not asked".to_owned();
    let asked = tokio::time::timeout(PATIENCE, async {
        loop {
            match once(&api, &namespace).await {
                Ok(()) => return,
                Err(reason) => last = reason,
            }
            tokio::time::sleep(INTERVAL).await;
        }
    });
    if asked.await.is_err() {
        return Err(CheckError::Broken(last));
    }
    println!("ok: a valid AgentPolicy is accepted, and one with a mistake is refused with its place");
    Ok(())
}

async fn once(api: &Api<DynamicObject>, namespace: &str) -> Result<(), String> {
    if let Err(error) = dry_run(api, policy(namespace, "args.amount > 1")).await {
        return Err(format!("a valid AgentPolicy is refused: {error}"));
    }
    match dry_run(api, policy(namespace, "args.amount >")).await {
        Ok(()) => Err("an AgentPolicy with a mistake is accepted: the API server does not ask the webhook".to_owned()),
        Err(error) if error.contains("spec.rules[0].when") => Ok(()),
        Err(error) => Err(format!("an AgentPolicy with a mistake is refused for another reason: {error}")),
    }
}

async fn dry_run(api: &Api<DynamicObject>, policy: Value) -> Result<(), String> {
    let policy: DynamicObject = serde_json::from_value(policy).map_err(|error| error.to_string())?;
    let params = PostParams { dry_run: true, ..PostParams::default() };
    api.create(&params, &policy).await.map(drop).map_err(|error| match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    })
}

fn policy(namespace: &str, when: &str) -> Value {
    json!({
        "apiVersion": clawlock_crds::API_VERSION, "kind": "AgentPolicy",
        "metadata": { "name": "clawlock-check", "namespace": namespace },
        "spec": {
            "agentSelector": {},
            "rules": [{ "name": "check", "match": { "tools": ["read"] }, "when": when, "tier": "Block" }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::object;

    #[test]
    fn the_mistake_is_one_that_only_the_webhook_finds() {
        let valid: AgentPolicy = object::parse(&policy("a", "args.amount > 1")).unwrap();
        clawlock_compile::check_policy(&valid).unwrap();
        let wrong: AgentPolicy = object::parse(&policy("a", "args.amount >")).unwrap();
        let problems = clawlock_compile::check_policy(&wrong).unwrap_err();
        assert!(problems.iter().any(|problem| problem.path == "spec.rules[0].when"), "{problems:?}");
    }
}
