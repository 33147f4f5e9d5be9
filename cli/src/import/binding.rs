//! Tool binding manifests: what one skill may do. Its tools are carried over. Its hosts are not: a policy opens a host to
//! the whole pod, and other skills in it would reach what only this one was to reach. What reads a manifest is what reads
//! those that pods name.

use clawlock_compile::manifest::{self, Form, Manifest, Mistake, Place};
use clawlock_policy::document::FileAccess;
use clawlock_policy::manifest::{file_access_of, file_tools, runs_programs};

use super::source::{Source, tool_rules};
use super::{AUTO, BLOCK, Imported, Mistakes, Policy, label, reach, upstream};
use crate::folder::Mark;
use crate::problem::Fix;
use crate::suggest::nearest;

/// Why the hosts of a skill stay shut.
const ONE_SKILL: &str = "allowed_hosts: hosts are open to the whole pod here, not to one skill; write Auto if every tool of it may reach them";

/// Why roles shut everything.
const NO_ROLES: &str = "roles: rules do not tell runs apart by their role; give the pod the manifest itself";

/// Converts one.
pub(super) fn convert(source: &Source) -> Result<Imported, Mistakes> {
    let manifest = manifest::parse(&source.text, Form::of(&source.file)).map_err(|mistake| placed(source, mistake))?;
    let Manifest { skill, hosts, tools, files, programs, roles, unsupported } = manifest;
    let upstreams = hosts.iter().map(|(host, port)| upstream(&format!("{host}:{port}")));
    let upstreams = upstreams.collect::<Result<Vec<_>, _>>().map_err(|reason| source.mistake(Mark::START, reason))?;
    let refused =
        |tool: &str| file_access_of(tool).unwrap_or(FileAccess::None) > files || (runs_programs(tool) && !programs);
    let refused: Vec<String> = file_tools().into_iter().filter(|tool| refused(tool)).map(str::to_owned).collect();
    let mut allowed = tool_rules("tools", &tools, AUTO);
    let mut hosts = reach("hosts", &upstreams);
    hosts.iter_mut().for_each(|rule| rule.restrict(ONE_SKILL));
    allowed.extend(hosts);
    for unsupported in unsupported {
        allowed.iter_mut().for_each(|rule| rule.restrict(&format!("{}: {}", unsupported.key, unsupported.why)));
    }
    if !roles.is_empty() {
        allowed.iter_mut().for_each(|rule| rule.restrict(NO_ROLES));
    }
    let mut rules = tool_rules("refused-tools", &refused, BLOCK);
    rules.append(&mut allowed);
    let name = format!("skill-{}", label(&skill));
    Ok(Imported { upstreams, policies: vec![Policy { name, rules }], ..Imported::default() })
}

/// The mistake with its file, and with what was probably meant.
fn placed(source: &Source, mistake: Mistake) -> Mistakes {
    let Mistake { at: Place { line, column }, reason, unknown_key } = mistake;
    let mut mistakes = source.mistake(Mark { line, column }, reason);
    if let (Some(problem), Some(key)) = (mistakes.first_mut(), unknown_key) {
        problem.fix = nearest(&key, manifest::keys()).map(|with| Fix { replace: key, with: with.to_owned() });
    }
    mistakes
}
