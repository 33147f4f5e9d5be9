//! `halt` and `resume`: the kill switch. An AgentHalt in the platform namespace stops agents of all of a tenant's
//! namespaces, one in an agents' namespace those of that one.

use std::process::ExitCode;

use clawlock_crds::API_VERSION;
use serde::Serialize;
use serde_json::json;

use super::{gateway, namespaces, text};
use crate::args::{ClusterArgs, Format, HaltArgs, HaltName, Label, ResumeArgs};
use crate::kubectl::Kubectl;
use crate::output::{self, BAD, GOOD, NOTICE, QUIET, STRONG, styled};
use crate::problem::plain;

/// How long `halt` waits until every gate has it: ten times as long as it takes.
const TIMEOUT: &str = "10s";

/// Stops agents.
pub(crate) fn halt(args: &HaltArgs) -> Result<ExitCode, String> {
    let HaltArgs { tenant, reason, namespace, labels, cluster: ClusterArgs { context, output } } = args;
    let kubectl = Kubectl::of(context.clone());
    let gateway = gateway(&kubectl, tenant)?;
    let namespaces = namespaces(&gateway);
    let namespace = match namespace {
        None => text(&gateway, "/metadata/namespace"),
        Some(namespace) if namespaces.contains(namespace) => namespace,
        Some(namespace) => return Err(format!("tenant {} has no namespace {namespace}", tenant.as_str())),
    };
    let labels = Label::unique(labels)?;
    let selector = if labels.is_empty() { json!({}) } else { json!({ "matchLabels": labels }) };
    let made = kubectl.create(&json!({
        "apiVersion": API_VERSION, "kind": "AgentHalt",
        "metadata": { "generateName": "halt-", "namespace": namespace },
        "spec": { "agentSelector": selector, "reason": reason },
    }))?;
    let name = text(&made, "/metadata/name");
    let in_force = kubectl.wait_for(namespace, &format!("agenthalts.clawlock.dev/{name}"), "Ready", TIMEOUT)?;
    match output {
        Format::Json => output::print_json(&json!({ "namespace": namespace, "name": name, "inForce": in_force }))?,
        Format::Text => {
            let state = if in_force { styled(GOOD, "in force") } else { styled(BAD, "NOT in force everywhere yet") };
            let flags = kubectl.flags();
            let resume = format!("clawlock resume {}{flags} {namespace}/{name}", tenant.as_str());
            output::print(&format!("AgentHalt {}/{} {state}\nresume with: {resume}\n", plain(namespace), plain(name)))?;
        }
    }
    Ok(if in_force { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An AgentHalt.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Halt {
    namespace: String,
    name: String,
    reason: String,
    /// The pod that a gate halted; absent when a person wrote the halt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    /// The rule that it was halted for, as `NAMESPACE/POLICY#RULE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    deleted: bool,
}

impl Halt {
    fn is(&self, wanted: &HaltName) -> bool {
        (&self.namespace, &self.name) == (&wanted.namespace, &wanted.name)
    }
}

/// Deletes AgentHalts, or lists them.
pub(crate) fn resume(args: &ResumeArgs) -> Result<ExitCode, String> {
    let ResumeArgs { tenant, halts: named, all, cluster: ClusterArgs { context, output } } = args;
    let kubectl = Kubectl::of(context.clone());
    let namespaces = namespaces(&gateway(&kubectl, tenant)?);
    let mut halts = Vec::new();
    for object in kubectl.list(&["agenthalts.clawlock.dev", "--all-namespaces"])? {
        let part = |pointer: &str| text(&object, pointer).to_owned();
        let halt = Halt {
            namespace: part("/metadata/namespace"),
            name: part("/metadata/name"),
            reason: part("/spec/reason"),
            pod: object.pointer("/spec/cause").map(|_| part("/metadata/ownerReferences/0/name")),
            rule: object
                .pointer("/spec/cause/denial")
                .map(|denial| format!("{}#{}", text(denial, "/policy"), text(denial, "/rule"))),
            deleted: false,
        };
        if namespaces.contains(&halt.namespace) {
            halts.push(halt);
        }
    }
    for wanted in named {
        if !halts.iter().any(|halt| halt.is(wanted)) {
            let HaltName { namespace, name } = wanted;
            return Err(format!("tenant {} has no AgentHalt {namespace}/{name}; nothing was deleted", tenant.as_str()));
        }
    }
    for halt in &mut halts {
        if *all || named.iter().any(|wanted| halt.is(wanted)) {
            kubectl.delete(&halt.namespace, &[format!("agenthalts.clawlock.dev/{}", halt.name)])?;
            halt.deleted = true;
        }
    }
    match output {
        Format::Json => output::print_json(&halts)?,
        Format::Text => output::print(&listed(&halts))?,
    }
    Ok(if halts.iter().all(|halt| halt.deleted) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn listed(halts: &[Halt]) -> String {
    if halts.is_empty() {
        return format!("{}\n", styled(GOOD, "nothing stops the agents"));
    }
    let mut text = String::new();
    for Halt { namespace, name, reason, pod, rule, deleted } in halts {
        let state = if *deleted { styled(GOOD, "deleted") } else { styled(NOTICE, "in force") };
        let name = styled(STRONG, plain(&format!("{namespace}/{name}")));
        text += &format!("{name} {state} {}\n", plain(reason));
        if let Some(pod) = pod {
            let cause = rule.as_ref().map_or("it disobeyed".to_owned(), |rule| format!("refused by {rule}"));
            text += &format!("  {}\n", styled(QUIET, plain(&format!("halted by a gate: pod {pod}, {cause}"))));
        }
    }
    text
}
