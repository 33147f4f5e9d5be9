//! `agentport.yaml`, its overlays and its part of `claw.json`. Of several files the later wins: maps are merged, lists and
//! texts replaced.

use super::source::{Fields, Source, tool_rules, tools};
use super::{AUTO, BLOCK, Imported, Mistakes, Policy, Rule};
use crate::folder::Node;

const KEYS: [&str; 7] = ["enforcement", "hooks", "tools", "memory", "budgets", "runtime", "plugins"];

/// The module that enforces `tools`: its rules are carried over.
const ALLOWLIST: &str = "tool_allowlist.wasm";

/// Converts a file and its overlays.
pub(super) fn convert(sources: &[Source]) -> Result<Imported, Mistakes> {
    let mut rules: Option<(&Source, Node)> = None;
    for source in sources {
        let tree = source.tree()?;
        check(source, &tree)?;
        rules = Some(match rules {
            None => (source, tree),
            Some((_, below)) => (source, overlay(below, tree)),
        });
    }
    let Some((source, tree)) = rules else { return Ok(Imported::default()) };
    let root = Fields::of(source, &tree, &KEYS)?;
    let mut imported = Imported::default();
    let (allow, deny) = match root.map("tools", &["allow", "deny"])? {
        Some(lists) => (tools(source, &lists.list("allow")?)?, tools(source, &lists.list("deny")?)?),
        None => (Vec::new(), Vec::new()),
    };
    let mut denied = tool_rules("denied-tools", &deny, BLOCK);
    let mut allowed = tool_rules("allowed-tools", &allow, AUTO);
    restrict(source, root, &mut allowed, &mut imported.notes)?;
    denied.append(&mut allowed);
    imported.policies.push(Policy { name: "agentport".to_owned(), rules: denied });
    Ok(imported)
}

/// Checks one file by itself, so that mistakes have its name.
fn check(source: &Source, tree: &Node) -> Result<(), Mistakes> {
    let root = Fields::of(source, tree, &KEYS)?;
    root.one_of("enforcement", &["audit", "block", "fail-close"])?;
    if let Some(lists) = root.map("tools", &["allow", "deny"])? {
        tools(source, &lists.list("allow")?)?;
        tools(source, &lists.list("deny")?)?;
    }
    for hook in hooks(source, root)? {
        hook.text("event")?;
        hook.text("module")?;
    }
    if let Some(runtime) = root.map("runtime", &["securityModule", "hookTimeoutMs"])? {
        runtime.text("securityModule")?;
        runtime.text("hookTimeoutMs")?;
    }
    if let Some(plugins) = root.map("plugins", &["requireSignedManifests"])? {
        plugins.one_of("requireSignedManifests", &["true", "false"])?;
    }
    Ok(())
}

fn hooks<'a>(source: &'a Source, root: Fields<'a>) -> Result<Vec<Fields<'a>>, Mistakes> {
    match root.get("hooks") {
        None => Ok(Vec::new()),
        Some(Node::List(_, items)) => items.iter().map(|item| Fields::of(source, item, &["event", "module"])).collect(),
        Some(node) => Err(source.mistake(node.at(), "hooks is no list; write [] for an empty one")),
    }
}

/// Turns rules to Block whose restrictions cannot be carried over.
fn restrict(source: &Source, root: Fields<'_>, allowed: &mut [Rule], notes: &mut Vec<String>) -> Result<(), Mistakes> {
    let mut all = |why: String| allowed.iter_mut().for_each(|rule| rule.restrict(&why));
    for hook in hooks(source, root)? {
        let (event, module) = (hook.text("event")?.unwrap_or_default(), hook.text("module")?.unwrap_or_default());
        if event.starts_with("after") {
            notes.push(format!(
                "hook {event} with {module}: what comes after an action restricts none; Clawlock keeps its own log"
            ));
        } else if module != ALLOWLIST || event != "beforeToolCall" {
            all(format!("hook {event} with {module} could refuse any call, and no module runs here"));
        }
    }
    if root.get("memory").is_some() {
        all("memory: access lists of memory have no counterpart; which tools they restrict is not known".to_owned());
    }
    if root.get("budgets").is_some() {
        all("budgets: budgets per category of tools are not carried over".to_owned());
    }
    if let Some(plugins) = root.map("plugins", &["requireSignedManifests"])?
        && plugins.text("requireSignedManifests")? == Some("true")
    {
        all(
            "plugins.requireSignedManifests: signatures of plugins are not checked here, so that their tools stay shut"
                .to_owned(),
        );
    }
    if root.text("enforcement")? == Some("audit") {
        notes.push(
            "enforcement was audit: this policy is enforced; for mode Audit, see policyConstraints of the TenantGateway"
                .to_owned(),
        );
    }
    if root.get("runtime").is_some() {
        notes.push("runtime: Clawlock's own plugin takes the place of securityModule, with its own timeout".to_owned());
    }
    Ok(())
}

/// One tree over another: maps are merged, everything else is replaced.
fn overlay(below: Node, above: Node) -> Node {
    match (below, above) {
        (Node::Map(_, mut entries), Node::Map(at, above)) => {
            for entry in above {
                match entries.iter().position(|old| old.key == entry.key) {
                    Some(index) => {
                        let old = entries.remove(index);
                        let value = overlay(old.value, entry.value);
                        entries.push(crate::folder::Entry { key: entry.key, at: entry.at, value });
                    }
                    None => entries.push(entry),
                }
            }
            Node::Map(at, entries)
        }
        (_, above) => above,
    }
}
