//! `import`: policy that people already have, in the formats of others, as documents of this API. It never widens: what a
//! format restricts and this API cannot say turns the rules that it restricts to Block, with a comment that says why; a key
//! that is not known is an error with its place. One module per format; what they have in common stands here.

mod agent_manifest;
mod agentport;
mod binding;
mod destinations;
mod network;
mod render;
mod source;
mod tiers;

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::args::{Format, ImportArgs, ImportFormat, Label};
use crate::output;
use crate::problem::Problem;
use source::Source;

/// What came of an import.
#[derive(Debug, Default)]
struct Imported {
    /// What a person should know of the whole.
    notes: Vec<String>,
    upstreams: Vec<Upstream>,
    policies: Vec<Policy>,
}

/// An Upstream: a host and a port, by HTTPS and without a credential.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Upstream {
    name: String,
    host: String,
    port: u16,
}

/// An AgentPolicy.
#[derive(Debug)]
struct Policy {
    name: String,
    rules: Vec<Rule>,
}

/// A rule of it.
#[derive(Debug)]
struct Rule {
    /// Why it is as it is.
    comment: Vec<String>,
    name: String,
    matches: Value,
    when: Option<String>,
    tier: &'static str,
}

const AUTO: &str = "Auto";
const ASK: &str = "Ask";
const BLOCK: &str = "Block";

impl Rule {
    fn tools(name: &str, tools: &[String], tier: &'static str) -> Self {
        Self { comment: Vec::new(), name: name.to_owned(), matches: json!({ "tools": tools }), when: None, tier }
    }

    /// Turns the rule to Block if it allows or asks, because a restriction cannot be carried over.
    fn restrict(&mut self, why: &str) {
        self.comment.push(why.to_owned());
        self.tier = BLOCK;
        self.when = None;
    }
}

/// Where the documents go.
struct Place<'a> {
    namespace: &'a str,
    platform: &'a str,
    labels: BTreeMap<String, String>,
}

/// Mistakes of a source.
type Mistakes = Vec<Problem>;

/// Imports and prints.
pub(crate) fn run(args: &ImportArgs) -> Result<ExitCode, String> {
    let ImportArgs { format, files, namespace, platform_namespace, labels, output } = args;
    let sources: Vec<Source> = files.iter().map(|file| Source::read(file)).collect::<Result<_, _>>()?;
    let imported = match convert(*format, &sources) {
        Ok(imported) => imported,
        Err(mistakes) => {
            let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            return Err(lines.join("; "));
        }
    };
    let platform = platform_namespace.clone().unwrap_or_else(|| format!("{namespace}-gateway"));
    let place = Place { namespace, platform: &platform, labels: Label::unique(labels)? };
    render::check(&imported, &place)?;
    match output {
        Format::Json => output::print_json(&render::json(&imported, &place))?,
        Format::Text => output::print(&render::yaml(&imported, &place))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn convert(format: ImportFormat, sources: &[Source]) -> Result<Imported, Mistakes> {
    match format {
        ImportFormat::Agentport => agentport::convert(sources),
        ImportFormat::AgentManifest => each(sources, agent_manifest::convert),
        ImportFormat::Binding => each(sources, binding::convert),
        ImportFormat::Destinations => destinations::convert(sources),
        ImportFormat::Tiers => each(sources, tiers::convert),
        ImportFormat::Network => Ok(network::convert(sources)),
    }
}

/// Converts files that have nothing to do with each other.
fn each(sources: &[Source], convert: fn(&Source) -> Result<Imported, Mistakes>) -> Result<Imported, Mistakes> {
    let mut all = Imported::default();
    for source in sources {
        let Imported { notes, upstreams, policies } = convert(source)?;
        all.notes.extend(notes);
        all.upstreams.extend(upstreams);
        all.policies.extend(policies);
    }
    all.upstreams.sort();
    all.upstreams.dedup();
    Ok(all)
}

/// An Upstream for a host with an optional port. Hosts are exact: a pattern would reach more.
///
/// # Errors
/// When it is no host name.
fn upstream(text: &str) -> Result<Upstream, String> {
    let (host, port) = match text.split_once(':') {
        None => (text, 443),
        Some((host, port)) => match port.parse::<u16>() {
            Ok(port) if port != 0 => (host, port),
            Ok(_) | Err(_) => return Err(format!("{text:?} has no port that exists")),
        },
    };
    let host = clawlock_policy::HostName::parse(host).map_err(|error| format!("{text:?} is no host name: {error}"))?;
    let host = host.as_str().to_owned();
    let mut name: String = host.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    if port != 443 {
        name += &format!("-{port}");
    }
    name = name.trim_matches('-').to_owned();
    if name.is_empty() || name.len() > clawlock_crds::bounds::MAX_NAME {
        return Err(format!("{text:?} is too long for the name of an Upstream; write the Upstream yourself"));
    }
    Ok(Upstream { name, host, port })
}

/// A rule that allows requests to Upstreams; `None` without any.
fn reach(name: &str, upstreams: &[Upstream]) -> Vec<Rule> {
    let names: Vec<&str> = upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    let chunks = names.chunks(clawlock_crds::bounds::MAX_PATTERNS).enumerate();
    let rules = chunks.map(|(index, names)| Rule {
        comment: Vec::new(),
        name: if index == 0 { name.to_owned() } else { format!("{name}-{}", index + 1) },
        matches: json!({ "http": { "upstreams": names } }),
        when: None,
        tier: AUTO,
    });
    rules.collect()
}

/// The name of an object or rule, from a name of another system.
fn label(text: &str) -> String {
    let lower = text.to_lowercase();
    let name: String = lower.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(50).collect();
    match name.trim_matches('-') {
        "" => "imported".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
