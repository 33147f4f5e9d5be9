//! From a plan to what came of it: building and applying for a tenant that is kept, taking down for one
//! that departs.

use std::collections::BTreeSet;
use std::sync::Arc;

use clawlock_compile::objects::names::{FINALIZER, TENANT_LABEL, tenant_ca_secret};
use clawlock_compile::objects::{ObjectKey, ObjectKind};
use clawlock_crds::TenantGateway;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ApiResource;
use serde_json::json;

use super::build::{Wanted, account, build};
use super::fetch::Facts;
use super::validate::Plan;
use super::{Context, Error, Memory, apply};
use crate::admission::Admission;
use crate::clock::now_ms;
use crate::pki::PkiError;
use crate::pki::tenant::keep;

/// Annotation of a `TenantGateway`: each new value rolls the tenant's CA once.
pub(super) const ROLL: &str = "clawlock.dev/roll-ca";

/// What came of a plan.
pub(super) struct Sequel {
    /// What was done.
    pub(super) done: Done,
    /// When to look again, in milliseconds since the Unix epoch.
    pub(super) look_again_ms: Option<u64>,
    /// What went wrong.
    pub(super) error: Option<Error>,
}

/// What was done.
#[derive(Default)]
pub(super) struct Done {
    /// There is a CA, or why there is none.
    pub(super) certificates: Option<Result<(), String>>,
    /// Agents' namespaces that are closed.
    pub(super) isolated: BTreeSet<String>,
    /// Objects that should be there.
    pub(super) wanted: BTreeSet<ObjectKey>,
    /// Objects that were just applied; the watch need not show them yet.
    pub(super) applied: BTreeSet<ObjectKey>,
    /// Objects that should go and cannot yet.
    pub(super) held: Vec<ObjectKey>,
    /// What people should hear of.
    pub(super) news: Vec<String>,
}

/// Does what the plan says.
pub(super) async fn run(
    context: &Context,
    facts: &Facts,
    plan: &Plan,
    memory: &mut Memory,
    admission: &Admission,
) -> Sequel {
    let mut done = Done::default();
    let mut look_again_ms = None;
    let result = match plan {
        Plan::Refuse { disagreed: _ } => Ok(()),
        Plan::Depart { agents: 0 } => depart(context, facts).await,
        Plan::Depart { agents: _ } => Ok(()),
        Plan::Keep { agreed, disagreed: _ } => {
            keep_tenant(context, facts, agreed, memory, admission, &mut done, &mut look_again_ms).await
        }
    };
    if !matches!(plan, Plan::Keep { .. }) {
        // Nothing was done, so that what was known before holds.
        done.isolated = listed_as_isolated(facts);
        done.certificates = find_ca(context, facts).map(|_| Ok(()));
    }
    Sequel { done, look_again_ms, error: result.err() }
}

/// The namespaces that the status lists as closed.
fn listed_as_isolated(facts: &Facts) -> BTreeSet<String> {
    let listed = facts.gateway.iter().flat_map(|gateway| gateway.status["isolatedNamespaces"].as_array());
    listed.flatten().filter_map(|name| name.as_str()).map(str::to_owned).collect()
}

/// The Secret of the tenant's CA.
fn find_ca(context: &Context, facts: &Facts) -> Option<Arc<Secret>> {
    context.world.secrets.get(context.secrets.namespace(), &tenant_ca_secret(&facts.name))
}

async fn keep_tenant(
    context: &Context,
    facts: &Facts,
    agreed: &BTreeSet<String>,
    memory: &mut Memory,
    admission: &Admission,
    done: &mut Done,
    look_again_ms: &mut Option<u64>,
) -> Result<(), Error> {
    let (Some(tenant), Some(gateway)) = (facts.tenant(), &facts.gateway) else { return Ok(()) };
    let finalizers = gateway.metadata.finalizers.clone().unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        let mut with_ours = finalizers;
        with_ours.push(FINALIZER.to_owned());
        set_finalizers(context, facts, &with_ours).await?;
    }
    let asked = gateway.metadata.annotations.as_ref().and_then(|all| all.get(ROLL)).map(String::as_str);
    let ttl = tenant.settings().certificate_ttl;
    let secret = context.world.secrets.get(context.secrets.namespace(), &tenant_ca_secret(&facts.name));
    let kept = keep(secret.as_deref(), &context.secrets, &context.writer, &facts.name, ttl, asked, now_ms()).await;
    done.certificates = Some(kept.as_ref().map(|_| ()).map_err(ToString::to_string));
    // Isolation does not wait for keys.
    let certificates = match kept {
        Ok(kept) => {
            *look_again_ms = kept.look_again_ms;
            done.news.extend(kept.done.map(str::to_owned));
            Ok(())
        }
        // The watch lags; the next look has the Secret as it is.
        Err(PkiError::Write(error)) if error.code() == Some(409) => {
            *look_again_ms = Some(now_ms());
            done.certificates = Some(Ok(()));
            Ok(())
        }
        Err(error) => Err(error.into()),
    };
    let anchor = context.anchor.base64();
    let wanted = build(facts, tenant, agreed, &context.release, anchor, &memory.isolated)?;
    let Wanted { mut objects, prune, held, isolated } = wanted;
    memory.isolated.clone_from(&isolated);
    done.isolated = isolated;
    done.wanted = objects.iter().map(|prepared| prepared.key.clone()).collect();
    done.held = held;
    // Gateways start when admission knows what their agents carry, and under an account that is there.
    let no_ca = done.certificates.as_ref().is_some_and(Result::is_err);
    if !admission.knows(&facts.name) || no_ca || account(&facts.managed, tenant.platform_namespace()).is_none() {
        objects.retain(|prepared| prepared.key.kind != ObjectKind::StatefulSet);
    }
    let found = |address| {
        if context.addresses.found(&facts.name, address) {
            context.world.policy_bell.ring();
        }
    };
    apply::apply(context, &objects, &facts.managed, &mut memory.applied, &mut done.applied, found).await?;
    apply::prune(context, &prune, &facts.managed).await?;
    memory.applied.retain(|key, _| done.wanted.contains(key));
    certificates
}

/// Takes everything of a tenant down, in this order: its objects, its state, its CA, its finalizer. Each
/// step begins when the one before is seen to be done.
async fn depart(context: &Context, facts: &Facts) -> Result<(), Error> {
    let keys: Vec<ObjectKey> = facts.managed.keys().cloned().collect();
    apply::prune(context, &keys, &facts.managed).await?;
    if !keys.is_empty() {
        return Ok(());
    }
    if facts.stored.is_some() {
        if context.departures.add(&facts.name) {
            context.world.policy_bell.ring();
        }
        return Ok(());
    }
    let name = tenant_ca_secret(&facts.name);
    let secret = find_ca(context, facts);
    let label = secret.as_ref().and_then(|secret| secret.metadata.labels.as_ref()?.get(TENANT_LABEL));
    if label == Some(&facts.name) {
        let uid = secret.as_ref().and_then(|secret| secret.metadata.uid.as_deref());
        context.writer.delete(&ApiResource::erase::<Secret>(&()), context.secrets.namespace(), &name, uid).await?;
    }
    let Some(gateway) = &facts.gateway else { return Ok(()) };
    let finalizers = gateway.metadata.finalizers.clone().unwrap_or_default();
    let left: Vec<String> = finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
    if left.len() == finalizers.len() { Ok(()) } else { set_finalizers(context, facts, &left).await }
}

async fn set_finalizers(context: &Context, facts: &Facts, finalizers: &[String]) -> Result<(), Error> {
    let Some(gateway) = &facts.gateway else { return Ok(()) };
    // At the version that was read: finalizers of others must not be lost.
    let patch = json!({"metadata": {
        "resourceVersion": gateway.metadata.resource_version,
        "finalizers": finalizers,
    }});
    let resource = ApiResource::erase::<TenantGateway>(&());
    match context.writer.merge(&resource, gateway.namespace(), gateway.name(), None, &patch).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(404) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The name of an object, for people.
pub(super) fn named(key: &ObjectKey) -> String {
    format!("{} {}/{}", key.kind.as_str(), key.namespace, key.name)
}
