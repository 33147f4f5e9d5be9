//! The Kubernetes API types of Clawlock, group `clawlock.dev/v1alpha1`.
//!
//! Each kind has a file of its own; [`selector`] and [`rules`] hold what several kinds share, and
//! [`bounds`] every limit. The types say what can be written, nothing more: what it means is decided by
//! `clawlock-compile`, which also repeats each check of the schema, since files never pass an API
//! server. Every type refuses unknown fields when it is read, while the schema keeps them
//! ([`schema::open_object`]): an API server with an older definition must not drop a field and so widen
//! a rule. No field exists that nothing enforces. [`status`] is what the operator writes back; it is the
//! one part that is read leniently.

#![allow(clippy::duplicated_attributes, reason = "each printer column has a type_ of its own")]

pub mod agent_halt;
pub mod agent_policy;
pub mod agents;
pub mod bounds;
pub mod limits;
pub mod rules;
pub mod schedule;
pub mod schema;
pub mod selector;
pub mod status;
mod strict;
pub mod tenant_gateway;
pub mod upstream;

pub use agent_halt::{AgentHalt, AgentHaltSpec, HaltCause, HaltCauseType, HaltDenial};
pub use agent_policy::{AgentPolicy, AgentPolicySpec, Mode, OnDeny, Residency, Rule, Tier};
pub use agents::{
    Agents, ApiAccess, Exemption, Ingress, IngressPeer, IngressPort, IngressProtocol, PluginOptional,
    ServiceAccountImages,
};
pub use limits::{Limit, LimitScope, Rate};
pub use rules::{Category, HttpMatch, Match};
pub use schedule::{Day, Schedule, Window};
pub use selector::{AgentSelector, Operator, Requirement};
pub use status::{
    AgentCounts, AgentHaltStatus, AgentPolicyStatus, Condition, PolicyStatus, TenantGatewayStatus, UpstreamStatus,
};
pub use tenant_gateway::{
    Guardrail, GuardrailTier, Identity, Onboarding, PolicyConstraints, TenantGateway, TenantGatewaySpec, ToolCategory,
};
pub use upstream::{
    Argument, ArgumentType, BasicCredential, BearerCredential, CaRef, CaRefKind, Credential, CredentialType,
    HeaderCredential, Operation, Protocol, Scheme, SecretRef, Tls, Upstream, UpstreamSpec,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, ValidationRule};
use kube::CustomResourceExt;

/// The API group of every kind.
pub const GROUP: &str = "clawlock.dev";

/// The API version of every kind, as it stands in `apiVersion`.
pub const API_VERSION: &str = "clawlock.dev/v1alpha1";

/// The definitions of all kinds, in the order of their names.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![AgentHalt::crd(), AgentPolicy::crd(), named_by_label(TenantGateway::crd()), named_by_label(Upstream::crd())]
}

/// A definition whose objects' names are DNS labels: a tenant's name is a label of pods and a part of DNS names, and an
/// Upstream is named in `upstream.operation`. The API server itself asks for a DNS subdomain only.
fn named_by_label(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut definition.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        schema.x_kubernetes_validations.get_or_insert_default().push(ValidationRule {
            rule: "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')".to_owned(),
            message: Some("metadata.name is a DNS label: at most 63 characters and no dot".to_owned()),
            ..ValidationRule::default()
        });
    }
    definition
}
