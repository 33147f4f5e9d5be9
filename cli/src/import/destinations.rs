//! Lists of allowed destinations: `policy.json` of a tenant, the claims of a token, Helm values, a file of variables. Where
//! several say which destinations are allowed, those that all of them allow are.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;

use super::source::{Fields, Source};
use super::{Imported, Mistakes, Policy, Upstream, label, reach, upstream};
use crate::folder::{Mark, Node};

const KEYS: [&str; 5] = ["agent_id", "allowed_destinations", "allowedDestinations", "exp", "tenant"];
const VARIABLES: [&str; 5] =
    ["ALLOWED_DESTINATIONS", "AGENTPORT_ENFORCEMENT_MODE", "AGENTPORT_TIMEOUT_MS", "AGENTPORT_URL", "AGENTPORT_TOKEN"];

/// What the sources say together.
#[derive(Default)]
struct Said {
    destinations: Option<BTreeSet<Upstream>>,
    conditions: BTreeSet<String>,
    tenants: BTreeSet<String>,
    notes: Vec<String>,
}

/// Converts files.
pub(super) fn convert(sources: &[Source]) -> Result<Imported, Mistakes> {
    let mut said = Said::default();
    for source in sources {
        if is_variables(&source.text) { said.variables(source)? } else { said.document(source)? }
    }
    let Said { destinations, conditions, tenants, notes } = said;
    if let (Some(source), true) = (sources.first(), tenants.len() > 1) {
        return Err(source.mistake(Mark::START, "the files are of several tenants; import them one by one"));
    }
    let upstreams: Vec<Upstream> = destinations.unwrap_or_default().into_iter().collect();
    let mut rules = reach("destinations", &upstreams);
    let when = conditions.into_iter().collect::<Vec<_>>().join(" && ");
    for rule in &mut rules {
        rule.when = Some(when.clone()).filter(|when| !when.is_empty());
    }
    let tenant = tenants.into_iter().next();
    let name =
        tenant.as_deref().map_or_else(|| "destinations".to_owned(), |tenant| format!("destinations-{}", label(tenant)));
    Ok(Imported { notes, upstreams, policies: vec![Policy { name, rules }] })
}

/// Whether a text is a list of variables.
fn is_variables(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    first.and_then(|line| line.split_once('=')).is_some_and(|(name, _)| {
        let name = name.trim_start_matches("export ");
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    })
}

impl Said {
    /// Takes destinations: what an earlier source does not allow stays shut.
    fn allow(&mut self, destinations: BTreeSet<Upstream>) {
        self.destinations = Some(match self.destinations.take() {
            None => destinations,
            Some(earlier) => earlier.intersection(&destinations).cloned().collect(),
        });
    }

    fn variables(&mut self, source: &Source) -> Result<(), Mistakes> {
        let mut seen = BTreeSet::new();
        for (index, line) in source.text.lines().enumerate() {
            let at = Mark { line: index + 1, column: 1 };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            let Some((name, value)) = line.split_once('=') else {
                return Err(source.mistake(at, "no variable; write NAME=VALUE"));
            };
            if !VARIABLES.contains(&name) {
                return Err(
                    source.mistake(at, format!("unknown variable {name:?}; known here: {}", VARIABLES.join(", ")))
                );
            }
            if !seen.insert(name) {
                return Err(source.mistake(at, format!("the variable {name} is there twice; remove one")));
            }
            match name {
                "ALLOWED_DESTINATIONS" => self.allow(separated(source, at, value.trim_matches(['"', '\'']))?),
                "AGENTPORT_TOKEN" => {
                    self.notes.push("AGENTPORT_TOKEN: agents hold no token here; revoke and delete it".to_owned());
                }
                _ => self.notes.push(format!("{name}: Clawlock's own settings take its place; refusals always hold")),
            }
        }
        Ok(())
    }

    fn document(&mut self, source: &Source) -> Result<(), Mistakes> {
        let tree = source.tree()?;
        let root = Fields::of(source, &tree, &KEYS)?;
        for key in ["allowed_destinations", "allowedDestinations"] {
            match root.get(key) {
                None => {}
                Some(Node::Scalar(at, text)) => self.allow(separated(source, *at, text)?),
                Some(_) => {
                    let list = root.list(key)?.into_iter();
                    let list = list.map(|(at, text)| upstream(text).map_err(|reason| source.mistake(at, reason)));
                    self.allow(list.collect::<Result<_, _>>()?);
                }
            }
        }
        if let Some(tenant) = root.text("tenant")? {
            self.tenants.insert(tenant.to_owned());
        }
        if let Some(id) = root.text("agent_id")? {
            let at = root.get("agent_id").map_or(Mark::START, Node::at);
            let valid = id
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
            if !valid {
                return Err(source.mistake(
                    at,
                    format!("agent_id {id:?} is no name of a ServiceAccount, and only that is proven here"),
                ));
            }
            self.conditions.insert(format!("agent.serviceAccount == \"{id}\""));
            self.notes.push(format!("agent_id {id}: the agent must run as the ServiceAccount of this name"));
        }
        if let Some(exp) = root.text("exp")? {
            let at = root.get("exp").map_or(Mark::START, Node::at);
            let time = exp.parse::<i64>().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
            let time = time.or_else(|| exp.parse().ok());
            let Some(time) = time else {
                return Err(
                    source.mistake(at, format!("exp {exp:?} is no time; write seconds since 1970, or RFC 3339"))
                );
            };
            self.conditions.insert(format!("time.now < timestamp(\"{time}\")"));
        }
        Ok(())
    }
}

/// Hosts between commas.
fn separated(source: &Source, at: Mark, text: &str) -> Result<BTreeSet<Upstream>, Mistakes> {
    let hosts = text.split(',').map(str::trim).filter(|host| !host.is_empty());
    hosts.map(|host| upstream(host).map_err(|reason| source.mistake(at, reason))).collect()
}
