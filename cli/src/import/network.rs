//! Rules of networks: NetworkPolicies are kept as they are, since Clawlock adds its own beside them; of proxies' and access
//! rules only the hosts are listed, for a person to declare what is still needed.

use std::collections::BTreeSet;

use clawlock_policy::HostName;

use super::source::Source;
use super::{Imported, Mistakes};

/// Most hosts that are listed.
const MAX_HOSTS: usize = 1_000;

/// Lists what is in the files.
pub(super) fn convert(sources: &[Source]) -> Imported {
    let mut notes = Vec::new();
    for source in sources {
        let name = source.file.display();
        if network_policy(source).unwrap_or_default() {
            notes.push(format!("{name}: a NetworkPolicy; keep it as it is, Clawlock's own are added to it"));
            continue;
        }
        notes.push(format!("{name}: hosts in it; declare as Upstreams what agents still need"));
        let words = source.text.split(|c: char| c.is_whitespace() || "\"'(){}[];,:/=@|".contains(c));
        let hosts: BTreeSet<String> = words.filter_map(host).take(MAX_HOSTS).collect();
        notes.extend(hosts.into_iter().map(|host| format!("  {host}")));
    }
    Imported { notes, ..Imported::default() }
}

fn network_policy(source: &Source) -> Result<bool, Mistakes> {
    let tree = source.tree()?;
    Ok(tree.get("kind").and_then(|entry| entry.value.text()) == Some("NetworkPolicy"))
}

/// A word that is the name of a host: with a dot, and a last label of letters, more than one as every top-level domain has
/// them, that is no common ending of files.
fn host(word: &str) -> Option<String> {
    const FILES: [&str; 6] = ["conf", "yaml", "yml", "json", "pem", "log"];
    let host = HostName::parse(word).ok()?;
    let (_, last) = host.as_str().rsplit_once('.')?;
    let named = last.len() > 1 && last.bytes().all(|byte| byte.is_ascii_alphabetic()) && !FILES.contains(&last);
    named.then(|| host.as_str().to_owned())
}
