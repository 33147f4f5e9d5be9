//! Objects that do not read as their type: a field that this version does not know, forced past
//! admission, or written by a newer one.
//!
//! Such an object must not vanish, since what it forbids would be allowed. A policy or halt that cannot be
//! read stops every agent that it could be about; an upstream or tenant that cannot be read is not there,
//! which denies.

use std::fmt::Display;

use clawlock_crds::AgentSelector;
use clawlock_policy::document::HaltDoc;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Resources;
use crate::halt;
use crate::problem::{Kind, ObjectRef, Problem, Report, Severity, Topic};
use crate::selector::{self, Scope};

/// An object that does not read as its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The object.
    pub object: ObjectRef,
    /// Why not, and where.
    pub message: String,
    /// The agents that it is about, when that part can be read.
    pub selector: Option<AgentSelector>,
}

impl Unreadable {
    /// An object that could not be read.
    #[must_use]
    pub fn new(object: ObjectRef, error: &impl Display) -> Self {
        Self { object, message: halt::one_line(&error.to_string()), selector: None }
    }

    pub(crate) fn problem(&self) -> Problem {
        Problem {
            object: self.object.clone(),
            path: "spec".to_owned(),
            message: format!("it cannot be read: {}; mend it, or upgrade the operator if it knows less", self.message),
            severity: Severity::Error,
            topic: Topic::Content,
        }
    }

    /// What holds instead of a policy or halt, and for whom.
    pub(crate) fn stop(&self) -> (HaltDoc, Scope) {
        let Self { object, message, selector } = self;
        let reason = halt::one_line(&format!("{object} cannot be read: {message}"));
        let scope = match selector {
            // Whether the selector is right was not told yet; what is wrong in it selects everything.
            Some(selector) => selector::check(&mut Report::new(object.clone()), selector::PATH, selector),
            None => Scope::All,
        };
        (HaltDoc { name: object.to_string(), reason, cause: None }, scope)
    }
}

impl Resources {
    /// Adds an object as the API server has it. What is not read of it are its status, which decides
    /// nothing, and who wrote which field.
    pub fn add(&mut self, kind: Kind, object: &Value) {
        let mut object = object.clone();
        if let Some(members) = object.as_object_mut() {
            members.remove("status");
        }
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let result = match kind {
            Kind::TenantGateway => read(object.clone()).map(|read| self.gateways.push(read)),
            Kind::Upstream => read(object.clone()).map(|read| self.upstreams.push(read)),
            Kind::AgentPolicy => read(object.clone()).map(|read| self.policies.push(read)),
            Kind::AgentHalt => read(object.clone()).map(|read| self.halts.push(read)),
        };
        if let Err(error) = result {
            let selector = object.pointer("/spec/agentSelector").filter(|selector| selector.is_object()).cloned();
            let unreadable = Unreadable::new(reference(kind, &object), &error);
            self.unreadable
                .push(Unreadable { selector: selector.and_then(|selector| read(selector).ok()), ..unreadable });
        }
    }
}

fn read<T: DeserializeOwned>(object: Value) -> serde_json::Result<T> {
    serde_json::from_value(object)
}

fn reference(kind: Kind, object: &Value) -> ObjectRef {
    let text = |key: &str| object["metadata"][key].as_str().map(str::to_owned);
    ObjectRef::new(kind, &ObjectMeta { namespace: text("namespace"), name: text("name"), ..ObjectMeta::default() })
}
