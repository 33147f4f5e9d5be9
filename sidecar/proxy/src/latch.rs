//! Pods that a gate has halted by itself: whatever they ask for is denied, from the next question on.
//!
//! A latch bridges the time until the signed assignment says the same. The gate tells the operator, again and again;
//! the operator writes an `AgentHalt`; with the assignment that brings it the latch has done its work and goes, and
//! whoever deletes the `AgentHalt` resumes the pod. Nothing that an agent can reach takes a latch away.
//!
//! The agent's gate keeps its latch in a file beside the interception CA's key, so that it outlives the process. What
//! the gateway refuses the agent's gate hears, and latches as well.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use clawlock_audit::record::bounded;
use clawlock_policy::{Cause, Code, Denial, RuleRef, SpiffeId};
use http::HeaderValue;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::denial;
use crate::limits::ASSIGNMENTS;

/// Name of the file that is there while the agent's gate has halted its pod; it says why.
pub const FILE: &str = "halted";

/// Most bytes of that file that are read: two names and a sentence, each bounded.
const FILE_SIZE: u64 = 16 * 1024;

/// What a gate halts a pod for when the file that should say it cannot be read.
const UNREADABLE: &str = "the agent was halted before the gate started, and why cannot be read any more";

/// Why a gate halted a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// What it was.
    pub cause: Cause,
    /// What was refused and why, in one sentence.
    pub detail: String,
}

/// A [`Halt`] in a file, or in a field of the hop.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    /// The rule that refused; absent when the agent disobeyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<WrittenRule>,
    detail: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenRule {
    policy: String,
    name: String,
    digest: String,
}

impl Halt {
    /// What a refusal halts its pod for; `None`: it does not.
    #[must_use]
    pub fn of(denial: &Denial) -> Option<Self> {
        let rule = denial.rule.clone().filter(|_| denial.halts)?;
        Some(Self { cause: Cause::Denial(rule), detail: denial.detail.clone() })
    }

    /// What everything is refused with from now on.
    #[must_use]
    pub fn denial(&self) -> Denial {
        match &self.cause {
            Cause::Denial(rule) => {
                let halted = denial::of(Code::Halted, format!("the agent is halted: {}", self.detail));
                Denial { rule: Some(rule.clone()), ..halted }
            }
            Cause::Disobedience => denial::of(Code::Disobeyed, self.detail.clone()),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let rule = match &self.cause {
            Cause::Denial(RuleRef { policy, rule, digest }) => {
                Some(WrittenRule { policy: policy.to_string(), name: rule.to_string(), digest: digest.to_string() })
            }
            Cause::Disobedience => None,
        };
        let written = Written { rule, detail: bounded(&self.detail) };
        serde_json::to_vec(&written).expect("texts become JSON")
    }

    fn decode(bytes: &[u8]) -> serde_json::Result<Self> {
        let Written { rule, detail } = serde_json::from_slice(bytes)?;
        let cause = rule.map_or(Cause::Disobedience, |WrittenRule { policy, name, digest }| {
            Cause::Denial(RuleRef { policy: policy.into(), rule: name.into(), digest: digest.into() })
        });
        Ok(Self { cause, detail })
    }

    /// As a field of the hop, beside the refusal that it comes from.
    pub(crate) fn to_field(&self) -> HeaderValue {
        let plain = self.encode().into_iter().map(|byte| if byte == 0x7f { b'?' } else { byte }).collect::<Vec<_>>();
        HeaderValue::from_bytes(&plain).expect("JSON has no control characters")
    }

    /// What the gateway says in a field of the hop. One that cannot be read halts as well.
    pub(crate) fn from_field(field: &HeaderValue) -> Self {
        Self::decode(field.as_bytes()).unwrap_or_else(|error| {
            tracing::warn!(%error, "why the gateway halts the agent cannot be read");
            Self { cause: Cause::Disobedience, detail: "the gateway halted the agent".to_owned() }
        })
    }
}

/// Pods that were halted here, each with the first reason.
pub(crate) struct Latches {
    halted: ArcSwap<HashMap<SpiffeId, Arc<Halt>>>,
    /// Serialises writers.
    writing: Mutex<()>,
    /// Where the one pod of an agent's gate keeps its latch.
    file: OnceLock<PathBuf>,
    changed: watch::Sender<u64>,
}

impl Default for Latches {
    fn default() -> Self {
        let (halted, changed) = (ArcSwap::default(), watch::channel(0).0);
        Self { halted, writing: Mutex::default(), file: OnceLock::new(), changed }
    }
}

impl Latches {
    /// Why a pod is halted, when it is.
    pub(crate) fn get(&self, identity: &SpiffeId) -> Option<Arc<Halt>> {
        self.halted.load().get(identity).cloned()
    }

    /// All that are halted.
    pub(crate) fn all(&self) -> Vec<(SpiffeId, Arc<Halt>)> {
        self.halted.load().iter().map(|(identity, halt)| (identity.clone(), halt.clone())).collect()
    }

    /// Moves with every change.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Goes on with what a file says of the one pod of this gate, and writes there from now on.
    pub(crate) fn keep(&self, file: PathBuf, identity: &SpiffeId) -> io::Result<()> {
        let known = read(&file)?;
        // A second file would be another gate's; there is one.
        let _ = self.file.set(file);
        if let Some(halt) = known {
            tracing::error!(detail = halt.detail, "the agent was halted before this process began, and stays so");
            self.change(|halted| drop(halted.insert(identity.clone(), Arc::new(halt))));
        }
        Ok(())
    }

    /// Halts a pod. The first reason stays. Answers whether it is news.
    pub(crate) fn set(&self, identity: &SpiffeId, halt: Halt, known: impl Fn(&SpiffeId) -> bool) -> bool {
        let mut news = false;
        self.change(|halted| {
            if halted.contains_key(identity) {
                return;
            }
            if halted.len() >= ASSIGNMENTS {
                // Of pods that are gone there may be as many as there ever were.
                halted.retain(|identity, _| known(identity));
            }
            if let Some(file) = self.file.get()
                && let Err(error) = write(file, &halt)
            {
                tracing::error!(%error, "that the agent is halted will not outlive this process");
            }
            halted.insert(identity.clone(), Arc::new(halt));
            news = true;
        });
        news
    }

    /// Lets a latch go: the assignment in force says the same, or the pod is gone.
    pub(crate) fn release(&self, identity: &SpiffeId) {
        if self.get(identity).is_none() {
            return;
        }
        self.change(|halted| {
            halted.remove(identity);
            if let Some(file) = self.file.get()
                && let Err(error) = fs::remove_file(file)
            {
                // It halts again after a restart, and then the operator is asked again.
                tracing::warn!(%error, "the file that says that the agent is halted cannot be removed");
            }
        });
    }

    fn change(&self, edit: impl FnOnce(&mut HashMap<SpiffeId, Arc<Halt>>)) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut halted = HashMap::clone(&self.halted.load());
        edit(&mut halted);
        self.halted.store(Arc::new(halted));
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// What a file says; `None`: it is not there.
fn read(path: &Path) -> io::Result<Option<Halt>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(FILE_SIZE).read_to_end(&mut bytes)?;
    // A process that was killed left half of it: what matters is that it is there.
    Ok(Some(
        Halt::decode(&bytes).unwrap_or_else(|_| Halt { cause: Cause::Disobedience, detail: UNREADABLE.to_owned() }),
    ))
}

fn write(path: &Path, halt: &Halt) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&halt.encode())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(uid: &str) -> SpiffeId {
        SpiffeId::of_pod("acme.example", "acme", "agent", uid).unwrap()
    }

    fn blocked(detail: &str) -> Halt {
        let rule = RuleRef { policy: "acme/p".into(), rule: "no-rm".into(), digest: "sha256:00".into() };
        Halt { cause: Cause::Denial(rule), detail: detail.to_owned() }
    }

    fn always(_: &SpiffeId) -> bool {
        true
    }

    #[test]
    fn the_first_reason_stays_and_others_go_on() {
        let latches = Latches::default();
        assert!(latches.set(&identity("1"), blocked("one"), always));
        assert!(!latches.set(&identity("1"), blocked("two"), always));
        assert_eq!(latches.get(&identity("1")).unwrap().detail, "one");
        assert_eq!(latches.get(&identity("2")), None);
        assert_eq!(latches.all().len(), 1);
        latches.release(&identity("2"));
        latches.release(&identity("1"));
        assert!(latches.all().is_empty());
    }

    #[test]
    fn a_file_outlives_the_process_until_the_latch_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let (file, own) = (folder.path().join(FILE), identity("1"));
        let start = || {
            let latches = Latches::default();
            latches.keep(file.clone(), &own).unwrap();
            latches
        };
        assert_eq!(start().get(&own), None);
        let disobeyed = Halt { cause: Cause::Disobedience, detail: "call 1 \"\u{7f}\n".to_owned() };
        for halt in [blocked("tool rm is blocked"), disobeyed] {
            start().set(&own, halt.clone(), always);
            assert_eq!(start().get(&own).as_deref(), Some(&halt));
            let again = start();
            again.set(&own, blocked("another"), always);
            assert_eq!(start().get(&own).as_deref(), Some(&halt), "the first reason stays");
            again.release(&own);
            assert_eq!(start().get(&own), None);
        }
        for broken in ["", "{\"detail\":", "null", "{\"detail\":\"x\",\"more\":1}", &"x".repeat(20_000)] {
            fs::write(&file, broken).unwrap();
            let halt = start().get(&own).unwrap();
            assert_eq!((&halt.cause, halt.detail.as_str()), (&Cause::Disobedience, UNREADABLE), "{broken:.20}");
        }
        assert!(Latches::default().keep(folder.path().to_owned(), &own).is_err(), "a folder is no file");
    }

    #[test]
    fn what_is_known_of_pods_that_are_gone_is_bounded() {
        let latches = Latches::default();
        let many = (0..ASSIGNMENTS).map(|n| (identity(&n.to_string()), Arc::new(blocked("x")))).collect();
        latches.halted.store(Arc::new(many));
        let (stays, new) = (identity("7"), identity("new"));
        assert!(latches.set(&new, blocked("x"), |identity| *identity == stays));
        assert_eq!(latches.all().len(), 2);
    }

    #[test]
    fn a_halt_passes_the_hop() {
        for detail in ["plain", "\u{7f} \" \\ \r\n é 🦞 \u{0}", &"é".repeat(2000)] {
            let halt = Halt::from_field(&blocked(detail).to_field());
            assert_eq!(halt.cause, blocked("").cause);
            assert_eq!(halt.detail, bounded(detail).replace('\u{7f}', "?"));
        }
        let unread = Halt::from_field(&HeaderValue::from_static("1"));
        assert_eq!(unread.cause, Cause::Disobedience, "it halts nevertheless");
    }

    #[test]
    fn everything_is_refused_with_the_rule_that_refused_first() {
        let denial = blocked("tool rm is blocked by rule no-rm of policy acme/p").denial();
        assert_eq!((denial.code, denial.halts), (Code::Halted, false));
        assert_eq!(&*denial.rule.unwrap().rule, "no-rm");
        assert_eq!(denial.detail, "the agent is halted: tool rm is blocked by rule no-rm of policy acme/p");
        let disobeyed = Halt { cause: Cause::Disobedience, detail: "call 1".to_owned() }.denial();
        assert_eq!((disobeyed.code, disobeyed.rule, disobeyed.detail.as_str()), (Code::Disobeyed, None, "call 1"));
    }
}
