//! Finalizers of NetworkPolicies: one that somebody deletes, by itself or with its namespace, stays in
//! force until no agent is left there.

use std::collections::BTreeSet;
use std::sync::Arc;

use clawlock_compile::objects::ObjectKind;
use clawlock_compile::objects::names::{FINALIZER, ROLE_LABEL, Role};

use super::apply::remove_finalizer;
use super::{Context, Error};
use crate::world::managed::Trace;

/// Lets go of what is being deleted and closes nobody any more.
pub(super) async fn release(context: &Context) -> Result<(), Error> {
    let pods = context.world.pods.all();
    let agents = pods.iter().filter(|pod| pod.label(ROLE_LABEL) == Some(Role::Agent.as_str()) && !pod.is_over());
    let occupied: BTreeSet<&str> = agents.map(|pod| pod.namespace.as_str()).collect();
    let policies = context.world.managed.of(ObjectKind::NetworkPolicy).all();
    for trace in policies.iter().filter(|trace| is_due(trace, &occupied)) {
        remove_finalizer(context, ObjectKind::NetworkPolicy, trace).await?;
    }
    Ok(())
}

fn is_due(trace: &Arc<Trace>, occupied: &BTreeSet<&str>) -> bool {
    let ours = trace.finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    ours && trace.ending && !occupied.contains(trace.namespace.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_let_go_only_when_it_is_deleted_and_no_agent_is_left() {
        let text = str::to_owned;
        let trace = |ending: bool| {
            Arc::new(Trace {
                namespace: text("acme"),
                name: text("x"),
                tenant: text("acme"),
                uid: text("u"),
                version: text("1"),
                ending,
                finalizers: vec![text(FINALIZER)],
            })
        };
        assert!(is_due(&trace(true), &BTreeSet::new()));
        assert!(is_due(&trace(true), &BTreeSet::from(["other"])));
        assert!(!is_due(&trace(true), &BTreeSet::from(["acme"])));
        assert!(!is_due(&trace(false), &BTreeSet::new()));
    }
}
