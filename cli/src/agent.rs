//! The laptop's stand-in for a pod: which agent the policies are asked about.

use clawlock_compile::{Compilation, Pod};

use crate::args::{AgentArgs, AgentName, Label};

/// Name and UID of the stand-in. There is one per process, and its identity is issued by a CA that lives
/// as long, so a constant names it well enough.
const POD: &str = "clawlock-dev";

/// Makes the stand-in.
///
/// # Errors
/// When no agent was named and the tenants do not say which one is meant.
pub(crate) fn pod(args: &AgentArgs, compilation: &Compilation) -> Result<Pod, String> {
    let AgentArgs { agent, labels } = args;
    let AgentName { namespace, service_account } = match agent {
        Some(agent) => agent.clone(),
        None => AgentName { namespace: only_namespace(compilation)?, service_account: "default".to_owned() },
    };
    let labels = Label::unique(labels)?;
    Ok(Pod { namespace, name: POD.to_owned(), uid: POD.to_owned(), service_account, labels, manifest: None })
}

fn only_namespace(compilation: &Compilation) -> Result<String, String> {
    let mut tenants = compilation.tenants();
    match (tenants.next(), tenants.next()) {
        (Some(tenant), None) => {
            tenant.namespaces().next().map(str::to_owned).ok_or_else(|| "the tenant lists no namespace".to_owned())
        }
        (Some(_), Some(_)) => {
            Err("there are several tenants; say which agent is meant: --agent NAMESPACE/SERVICEACCOUNT".to_owned())
        }
        (None, _) => {
            Err("there is no valid TenantGateway; clawlock lint says why, clawlock init writes one".to_owned())
        }
    }
}
