//! What somebody tries who must not succeed, and the answer.

use clawlock_e2e::{Kubectl, Result, Tenant};
use serde_json::Value;

/// Every refusal of ours begins with this, whether the webhook says it or an admission policy.
pub(crate) const OURS: &str = "clawlock: ";

/// Attempts in a tenant's namespace, first by somebody bound to `edit` there, and where RBAC already refuses that, by
/// somebody who has every right in the namespace: what is ours must hold by itself.
pub(crate) struct Attempts {
    editor: Kubectl,
    owner: Kubectl,
    tried: usize,
    wrong: Vec<String>,
}

impl Attempts {
    pub(crate) fn of(tenant: &Tenant) -> Result<Self> {
        Ok(Self { editor: tenant.editor()?, owner: tenant.owner()?, tried: 0, wrong: Vec::new() })
    }

    /// Tries a command that reads an object, and expects a refusal of ours.
    pub(crate) fn refused(&mut self, what: &str, args: &[&str], input: &str) {
        self.tried += 1;
        let mut answer = self.editor.run_with(args, input);
        println!("{what:45} as edit: {}", line(&answer));
        if answer.as_ref().is_err_and(|reason| reason.contains(" cannot ")) {
            answer = self.owner.run_with(args, input);
            println!("{:45} as owner: {}", "", line(&answer));
        }
        if !answer.as_ref().is_err_and(|reason| reason.contains(OURS)) {
            self.wrong.push(format!("{what}: {}", line(&answer)));
        }
    }

    /// Tries to create an object in a namespace, for the answer only.
    pub(crate) fn create(&mut self, what: &str, object: &Value) {
        self.refused(what, &["create", "--dry-run=server", "-f", "-"], &object.to_string());
    }

    /// Ends the attempts.
    pub(crate) fn end(self) -> Result<()> {
        println!("figure: {} attempts, each refused", self.tried);
        if self.wrong.is_empty() { Ok(()) } else { Err(format!("{:#?}", self.wrong)) }
    }
}

fn line(answer: &Result<String>) -> &str {
    let text = match answer {
        Ok(taken) => taken,
        Err(reason) => reason.split_once("Error from server").map_or(reason.as_str(), |(_, why)| why),
    };
    text.lines().next().unwrap_or_default()
}

/// Sets a part of an object, by a pointer of RFC 6901 that may end in `-` to append to a list.
pub(crate) fn with(object: &Value, pointer: &str, value: Value) -> Value {
    let mut object = object.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
    let key = key.replace("~1", "/");
    match object.pointer_mut(parent) {
        Some(Value::Array(list)) if key == "-" => list.push(value),
        Some(Value::Array(list)) => list[key.parse::<usize>().expect("an index")] = value,
        Some(Value::Object(fields)) => drop(fields.insert(key, value)),
        other => panic!("{pointer}: there is no list and no object, but {other:?}"),
    }
    object
}
