//! From resources to policy documents, assignments and Kubernetes objects: pure, no client, no I/O, no clock.
//!
//! One conversion, many callers: `clawlock dev`, `clawlock lint` and the operator's controllers and
//! webhooks. [`check_policy`] and its siblings judge one object and report all of its mistakes at once;
//! [`compile`] judges objects together, and [`Compiler`] does so again and again; [`Compilation::assign`] says which documents hold for one pod.
//! Whatever `clawlock_policy::Policy::build` would refuse is refused here first, with a path and a
//! reason. The result depends on the set of resources only, never on their order.
//!
//! What is invalid denies. A policy that is invalid stops the pods that it selects (all pods of its
//! namespace if its selector is the mistake); an invalid `TenantGateway` leaves its pods without an
//! assignment; an invalid `Upstream` does not exist; an invalid `AgentHalt` holds nevertheless.

mod assign;
mod compile;
mod compiler;
mod credential;
mod duration;
mod gateway;
mod halt;
mod limits;
pub mod manifest;
mod manifests;
pub mod objects;
mod policy;
mod problem;
mod references;
mod rules;
mod schedule;
mod selection;
mod selector;
mod settings;
pub mod state;
mod tenants;
mod text;
mod unreadable;
mod upstream;

use std::sync::Arc;

use clawlock_crds::{AgentHalt, AgentPolicy, TenantGateway, Upstream};
use k8s_openapi::api::core::v1::ConfigMap;

pub use assign::{AssignError, Assigned, Compilation, Pod, Tenant, Ticket};
pub use compile::compile;
pub use compiler::Compiler;
pub use gateway::check_gateway;
pub use halt::check_halt;
pub use policy::check_policy;
pub use problem::{Kind, ObjectRef, Problem, Severity, Topic};
pub use settings::{AgentSettings, Settings};
pub use unreadable::Unreadable;
pub use upstream::{ConfigMaps, check_upstream};

/// Everything that decisions depend on, of all tenants, in any order. Policies are many, and are shared by whoever
/// looks at them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// The tenants.
    pub gateways: Vec<TenantGateway>,
    /// What their agents may reach.
    pub upstreams: Vec<Upstream>,
    /// What their agents may do.
    pub policies: Vec<Arc<AgentPolicy>>,
    /// Who is stopped.
    pub halts: Vec<AgentHalt>,
    /// Where certificate authorities are, in platform namespaces; manifests, in agents' namespaces.
    pub config_maps: Vec<ConfigMap>,
    /// What is one of these kinds and cannot be read.
    pub unreadable: Vec<Unreadable>,
}
