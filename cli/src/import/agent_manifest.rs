//! Agent manifests: they say how an agent is run, not what it may do, so that nothing in them allows anything.

use super::source::{Fields, Source};
use super::{BLOCK, Imported, Mistakes, Policy, Rule, label};

/// Converts one.
pub(super) fn convert(source: &Source) -> Result<Imported, Mistakes> {
    let tree = source.tree()?;
    let root = Fields::of(source, &tree, &["agent"])?;
    let Some(agent) = root.map("agent", &["name", "gateway", "binary_security", "logging"])? else {
        return Err(source.mistake(tree.at(), "there is no agent; write agent: {name: ...}"));
    };
    let Some(name) = agent.text("name")? else {
        return Err(source.mistake(agent.node.at(), "the agent has no name; write name: ..."));
    };
    let mut notes = Vec::new();
    if let Some(gateway) = agent.map("gateway", &["endpoint", "mTLS"])? {
        gateway.text("endpoint")?;
        gateway.map("mTLS", &["certPath", "keyPath"])?;
        notes.push(format!(
            "agent {name}: the gateway and its certificates are Clawlock's own; keys need not be mounted"
        ));
    }
    if let Some(logging) = agent.map("logging", &["audit_target", "local_retention_hours"])? {
        logging.text("audit_target")?;
        logging.text("local_retention_hours")?;
        notes.push(format!("agent {name}: the gateway writes the log to its standard output; collect it from there"));
    }
    let mut rules = Vec::new();
    if let Some(security) =
        agent.map("binary_security", &["enforcement", "signature_algorithm", "trusted_registries"])?
    {
        security.text("enforcement")?;
        security.text("signature_algorithm")?;
        security.list("trusted_registries")?;
        let mut rule = Rule::tools("binary-security", &["*".to_owned()], BLOCK);
        rule.comment.push(
            "binary_security: signatures of binaries are not checked here, so that no tool may run; remove the rule when \
             images and plugins are checked elsewhere (agents.serviceAccounts of the TenantGateway binds images)"
                .to_owned(),
        );
        rules.push(rule);
    }
    Ok(Imported { notes, upstreams: Vec::new(), policies: vec![Policy { name: label(name), rules }] })
}
