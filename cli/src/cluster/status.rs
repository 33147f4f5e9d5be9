//! `status`: where tenants stand, from what the operator writes into the objects.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::Value;

use super::{condition, items, namespaces, text};
use crate::args::{ClusterArgs, Format, StatusArgs};
use crate::kubectl::Kubectl;
use crate::output::{self, BAD, GOOD, NOTICE, STRONG, styled};
use crate::problem::plain;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Tenant {
    name: String,
    namespace: String,
    namespaces: Vec<String>,
    agents: u64,
    governed: u64,
    ungoverned: u64,
    generation: u64,
    /// How many agents and gateways have that generation.
    programmed: u64,
    conditions: Vec<Condition>,
    /// Upstreams, policies and halts.
    objects: Vec<Object>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    kind: String,
    namespace: String,
    name: String,
    ready: bool,
    reason: String,
    message: String,
    /// How many agents it selects.
    #[serde(skip_serializing_if = "Option::is_none")]
    agents: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    /// Why a halt stops agents.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// Asks and prints.
pub(crate) fn run(args: &StatusArgs) -> Result<ExitCode, String> {
    let StatusArgs { tenant, cluster: ClusterArgs { context, output } } = args;
    let kubectl = Kubectl::of(context.clone());
    let gateways = match tenant {
        Some(tenant) => vec![super::gateway(&kubectl, tenant)?],
        None => kubectl.list(&["tenantgateways.clawlock.dev", "--all-namespaces"])?,
    };
    let objects = kubectl
        .list(&["upstreams.clawlock.dev,agentpolicies.clawlock.dev,agenthalts.clawlock.dev", "--all-namespaces"])?;
    let tenants: Vec<Tenant> = gateways.iter().map(|gateway| Tenant::of(gateway, &objects)).collect();
    match output {
        Format::Json => output::print_json(&tenants)?,
        Format::Text if tenants.is_empty() => output::print("there is no TenantGateway\n")?,
        Format::Text => output::print(&tenants.iter().map(Tenant::text).collect::<Vec<_>>().join("\n"))?,
    }
    Ok(if tenants.iter().all(Tenant::is_well) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Tenant {
    fn of(gateway: &Value, objects: &[Value]) -> Self {
        let namespaces = namespaces(gateway);
        let own =
            objects.iter().filter(|object| namespaces.iter().any(|ours| ours == text(object, "/metadata/namespace")));
        let number = |pointer: &str| gateway.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
        let conditions = items(gateway, "/status/conditions").map(|condition| Condition {
            kind: text(condition, "/type").to_owned(),
            status: text(condition, "/status").to_owned(),
            reason: text(condition, "/reason").to_owned(),
            message: text(condition, "/message").to_owned(),
        });
        Self {
            name: text(gateway, "/metadata/name").to_owned(),
            namespace: text(gateway, "/metadata/namespace").to_owned(),
            agents: number("/status/agents/total"),
            governed: number("/status/agents/governed"),
            ungoverned: number("/status/agents/ungoverned"),
            generation: number("/status/policy/generation"),
            programmed: number("/status/policy/programmed"),
            conditions: conditions.collect(),
            objects: own.map(Object::of).collect(),
            namespaces: namespaces.into_iter().skip(1).collect(),
        }
    }

    /// Whether everything is in force. A tenant of which the operator has said nothing is not.
    fn is_well(&self) -> bool {
        let ready = self.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True");
        ready && self.objects.iter().all(|object| object.ready)
    }

    fn text(&self) -> String {
        let Self { name, namespace, namespaces, agents, governed, ungoverned, generation, programmed, .. } = self;
        let (style, word) = if self.is_well() { (GOOD, "ready") } else { (BAD, "not ready") };
        let mut out = format!("{} {} {}\n", styled(STRONG, plain(name)), styled(style, word), plain(namespace));
        let mut line = |name: &str, value: String| out += &format!("  {name:<12} {}\n", plain(&value));
        line(
            "agents",
            format!("{agents}, {governed} governed, {ungoverned} without a sidecar, in {}", namespaces.join(", ")),
        );
        line("policy", format!("generation {generation}, at {programmed} agents and gateways"));
        for Condition { kind, status, reason, message } in self.conditions.iter().filter(|found| found.status != "True")
        {
            line("condition", format!("{kind} is {status} ({reason}): {message}"));
        }
        if self.conditions.is_empty() {
            line("condition", "none: the operator has not looked at it yet".to_owned());
        }
        for object in &self.objects {
            let Object { kind, namespace, name, ready, reason, message, agents, mode, why } = object;
            let state =
                if *ready { styled(GOOD, "ready") } else { styled(NOTICE, plain(&format!("{reason}: {message}"))) };
            let mut about = format!("{kind} {namespace}/{name}");
            about += &agents.map(|agents| format!(", {agents} agents")).unwrap_or_default();
            about += &why.as_ref().map(|why| format!(", {why}")).unwrap_or_default();
            about += mode.as_ref().filter(|mode| *mode == "Audit").map(|_| ", audited").unwrap_or_default();
            out += &format!("  {} {state}\n", plain(&about));
        }
        out
    }
}

impl Object {
    fn of(object: &Value) -> Self {
        let (status, reason, message) =
            condition(object, "Ready").unwrap_or(("Unknown", "Unknown", "nobody has looked at it yet"));
        Self {
            kind: text(object, "/kind").to_owned(),
            namespace: text(object, "/metadata/namespace").to_owned(),
            name: text(object, "/metadata/name").to_owned(),
            ready: status == "True",
            reason: reason.to_owned(),
            message: message.to_owned(),
            agents: object.pointer("/status/agents").and_then(Value::as_u64),
            mode: object.pointer("/status/observedMode").and_then(Value::as_str).map(str::to_owned),
            why: Some(text(object, "/spec/reason").to_owned()).filter(|_| text(object, "/kind") == "AgentHalt"),
        }
    }
}
