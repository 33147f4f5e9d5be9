//! `POST /v1/heartbeat`: the guard plugin says that it is there. Without a word of it within [`HEARTBEAT_MAX_AGE`] the
//! agent reaches no language model: OpenClaw runs tools, and says that it is ready, also without the plugin.
//!
//! This is no proof against a process of the agent's own user, which can say the same. It notices a plugin that was
//! switched off, was never loaded or has died.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use clawlock_policy::document::Protocol;
use clawlock_policy::{Code, Denial, Policy, SpiffeId, Upstream};
use http::StatusCode;
use lru::LruCache;
use serde::Deserialize;

use super::AgentGate;
use super::api::{API_VERSION, Problem, check_version};
use crate::denial;
use crate::guard::Recheck;
use crate::limits::{HEARTBEAT_CHECK, HEARTBEAT_MAX_AGE, HEARTBEAT_PROCESSES};
use crate::policies::PolicyTable;

/// Hex digits of a process's nonce: 16 random bytes.
const NONCE: usize = 32;

/// Longest version of a plugin in bytes.
const PLUGIN_VERSION: usize = 64;

/// What the plugin says, every five seconds.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Heartbeat {
    /// [`API_VERSION`].
    version: u32,
    /// The plugin's version: 1 to 64 visible ASCII characters.
    plugin: String,
    /// Names the process: 32 lower-case hex digits, random, made when it started.
    process: String,
    /// Grows with each heartbeat of the process: one that was recorded proves nothing when it is sent again.
    sequence: u64,
    /// The hooks that are registered with OpenClaw now, each once.
    hooks: Vec<Hook>,
}

/// A hook of OpenClaw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Hook {
    /// Asks before every tool call, ahead of all other plugins.
    TrustedToolPolicy,
    /// Asks again, behind them: they may have changed the arguments.
    BeforeToolCall,
    /// Refuses a run while the gate does not answer.
    BeforeAgentRun,
    /// Reports what came of a call.
    AfterToolCall,
}

/// The hooks without which a heartbeat does not count.
const NEEDED: [Hook; 3] = [Hook::TrustedToolPolicy, Hook::BeforeToolCall, Hook::BeforeAgentRun];

fn parse(body: &[u8]) -> Result<Heartbeat, Problem> {
    let heartbeat: Heartbeat =
        serde_json::from_slice(body).map_err(|error| Problem::bad(format!("the body is no heartbeat: {error}")))?;
    let Heartbeat { version, plugin, process, sequence: _, hooks } = &heartbeat;
    check_version(*version)?;
    if plugin.is_empty() || plugin.len() > PLUGIN_VERSION || !plugin.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Problem::bad(format!("plugin: 1 to {PLUGIN_VERSION} visible ASCII characters are needed")));
    }
    if process.len() != NONCE || !process.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Problem::bad(format!("process: {NONCE} lower-case hex digits are needed")));
    }
    if let Some(missing) = NEEDED.iter().find(|hook| !hooks.contains(hook)) {
        return Err(Problem::bad(format!("hooks: {missing:?} is not registered, so that tool calls pass unasked")));
    }
    if hooks.iter().enumerate().any(|(at, hook)| hooks.iter().take(at).any(|other| other == hook)) {
        return Err(Problem::bad("hooks: one stands there twice"));
    }
    Ok(heartbeat)
}

/// What was heard, by the time since boot: it goes on while a laptop sleeps.
pub(super) struct Heartbeats(Mutex<Heard>);

struct Heard {
    /// When the last heartbeat came.
    last_ms: Option<u64>,
    /// The last sequence number of each process.
    processes: LruCache<String, u64>,
}

impl Default for Heartbeats {
    fn default() -> Self {
        let places = NonZeroUsize::new(HEARTBEAT_PROCESSES).expect("HEARTBEAT_PROCESSES is not zero");
        Self(Mutex::new(Heard { last_ms: None, processes: LruCache::new(places) }))
    }
}

/// A heartbeat that was heard before.
#[derive(Debug, PartialEq, Eq)]
struct Repeated;

impl Heartbeats {
    fn hear(&self, heartbeat: &Heartbeat, now_ms: u64) -> Result<(), Repeated> {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.processes.get(&heartbeat.process).is_some_and(|last| *last >= heartbeat.sequence) {
            return Err(Repeated);
        }
        heard.processes.put(heartbeat.process.clone(), heartbeat.sequence);
        heard.last_ms = Some(now_ms);
        Ok(())
    }

    /// How long ago the last one came, in milliseconds.
    fn age_ms(&self, now_ms: u64) -> Option<u64> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.last_ms.map(|last| now_ms.saturating_sub(last))
    }

    fn is_fresh(&self, now_ms: u64) -> bool {
        self.age_ms(now_ms).is_some_and(|age| u128::from(age) <= HEARTBEAT_MAX_AGE.as_millis())
    }

    /// When the last one came, once that is too long ago.
    fn silent_since(&self, now_ms: u64) -> Option<u64> {
        let age = self.age_ms(now_ms).filter(|_| !self.is_fresh(now_ms))?;
        Some(now_ms.saturating_sub(age))
    }

    /// Why an agent reaches no language model now.
    fn silence(&self, now_ms: u64) -> Option<Denial> {
        if self.is_fresh(now_ms) {
            return None;
        }
        let detail = match self.age_ms(now_ms) {
            Some(age) => format!("the guard plugin was silent for {} s; language models are out of reach", age / 1000),
            None => "the guard plugin has not reported itself; language models are out of reach".to_owned(),
        };
        Some(denial::of(Code::PluginSilent, detail))
    }
}

/// What is known of the guard plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginState {
    /// The agent needs none.
    Optional,
    /// Nothing was heard of it yet.
    Awaited,
    /// It reports.
    Reporting,
    /// It has reported, and does no longer.
    Silent,
    /// What a language model was sent is not what was decided, so that the agent was halted; with what it was.
    Disobeyed(String),
}

impl AgentGate {
    /// What is known of the guard plugin now.
    #[must_use]
    pub fn plugin(&self) -> PluginState {
        let policies = self.decider.policies();
        if let Some(what) = policies.disobeyed(&self.identity) {
            return PluginState::Disobeyed(what);
        }
        let optional = policies.active(&self.identity).is_ok_and(|(policy, _)| policy.plugin_optional().is_some());
        let now_ms = policies.boot_ms();
        match self.heartbeats.age_ms(now_ms) {
            _ if optional => PluginState::Optional,
            None => PluginState::Awaited,
            Some(_) if self.heartbeats.is_fresh(now_ms) => PluginState::Reporting,
            Some(_) => PluginState::Silent,
        }
    }

    /// Takes a heartbeat.
    pub(super) fn heartbeat(&self, body: &[u8]) -> Result<Bytes, Problem> {
        let heartbeat = parse(body)?;
        let heard = self.heartbeats.hear(&heartbeat, self.decider.policies().boot_ms());
        heard.map_err(|Repeated| {
            let detail = "sequence: this process has sent it, or a later one, before";
            Problem::new(StatusCode::CONFLICT, "Heartbeat repeated", detail)
        })?;
        Ok(serde_json::json!({"version": API_VERSION}).to_string().into())
    }

    /// Whether the guard plugin allows that this upstream is reached, as far as it is asked.
    ///
    /// # Errors
    /// [`Code::PluginSilent`].
    pub(super) fn check_plugin(&self, upstream: &Upstream, policy: &Policy) -> Result<(), Denial> {
        if !needs_plugin(upstream, policy) {
            return Ok(());
        }
        match self.heartbeats.silence(self.decider.policies().boot_ms()) {
            None => Ok(()),
            Some(mut denial) => {
                denial.generation = policy.generation();
                Err(denial)
            }
        }
    }

    /// Ends the open streams to language models once the plugin is silent. Runs until it is dropped.
    pub(super) async fn watch_plugin(&self) {
        let mut ended = None;
        loop {
            tokio::time::sleep(HEARTBEAT_CHECK).await;
            let last = self.heartbeats.silent_since(self.decider.policies().boot_ms());
            if last.is_some() && last != ended {
                ended = last;
                tracing::warn!("the guard plugin has gone silent: language models are out of reach");
                self.decider.policies().decide_again();
            }
        }
    }

    /// What decides open streams to a language model again, beside the policy.
    pub(super) fn plugin_recheck(&self, upstream: &Arc<Upstream>) -> Option<Arc<dyn Recheck>> {
        let recheck = || PluginRecheck {
            heartbeats: self.heartbeats.clone(),
            policies: self.decider.policies().clone(),
            identity: self.identity.clone(),
            upstream: upstream.clone(),
        };
        (upstream.protocol == Protocol::Llm).then(|| Arc::new(recheck()) as Arc<dyn Recheck>)
    }
}

fn needs_plugin(upstream: &Upstream, policy: &Policy) -> bool {
    upstream.protocol == Protocol::Llm && policy.plugin_optional().is_none()
}

struct PluginRecheck {
    heartbeats: Arc<Heartbeats>,
    policies: Arc<PolicyTable>,
    identity: SpiffeId,
    upstream: Arc<Upstream>,
}

impl Recheck for PluginRecheck {
    fn still_allowed(&self) -> bool {
        // An edit may have made the plugin optional, or needed, since the stream was opened.
        let active = self.policies.active(&self.identity);
        active.is_ok_and(|(policy, _)| {
            !needs_plugin(&self.upstream, &policy) || self.heartbeats.is_fresh(self.policies.boot_ms())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE_A: &str = "00112233445566778899aabbccddeeff";

    fn body(process: &str, sequence: u64) -> String {
        format!(
            r#"{{"version":1,"plugin":"0.1.0","process":"{process}","sequence":{sequence},"hooks":["trusted_tool_policy","before_tool_call","before_agent_run"]}}"#
        )
    }

    fn beat(process: &str, sequence: u64) -> Heartbeat {
        parse(body(process, sequence).as_bytes()).unwrap()
    }

    #[test]
    fn bad_heartbeats_name_the_field() {
        let good = body(NONCE_A, 1);
        assert!(parse(good.as_bytes()).is_ok());
        for (from, to, field) in [
            (r#""version":1"#, r#""version":2"#, "version"),
            ("0.1.0", "", "plugin"),
            ("0.1.0", "0 1", "plugin"),
            ("00112233", "0011223", "process"),
            ("00112233", "0011223G", "process"),
            ("00112233", "0011223A", "process"),
            (r#""sequence":1"#, r#""sequence":-1"#, "invalid value"),
            (r#""sequence":1"#, r#""sequence":1,"more":1"#, "more"),
            (r#""before_tool_call","#, "", "BeforeToolCall"),
            (r#""trusted_tool_policy","#, "", "TrustedToolPolicy"),
            (r#","before_agent_run""#, "", "BeforeAgentRun"),
            (r#""before_agent_run""#, r#""before_agent_run","before_agent_run""#, "twice"),
            (r#""before_agent_run""#, r#""before_agent_run","gateway_start""#, "gateway_start"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            let detail = parse(bad.as_bytes()).unwrap_err().detail;
            assert!(detail.contains(field), "{bad}: {detail}");
        }
    }

    #[test]
    fn it_is_fresh_for_its_time_and_not_longer() {
        let heard = Heartbeats::default();
        let max = u64::try_from(HEARTBEAT_MAX_AGE.as_millis()).unwrap();
        assert!(heard.silence(0).unwrap().detail.contains("has not reported itself"));
        heard.hear(&beat(NONCE_A, 1), 1000).unwrap();
        assert!(heard.silence(1000 + max).is_none());
        let silent = heard.silence(1001 + max).unwrap();
        assert_eq!(silent.code, Code::PluginSilent);
        assert!(silent.detail.contains("silent for 15 s"), "{}", silent.detail);
        heard.hear(&beat(NONCE_A, 2), 2000 + max).unwrap();
        assert!(heard.silence(2000 + max).is_none());
    }

    #[test]
    fn one_that_is_sent_again_proves_nothing() {
        let heard = Heartbeats::default();
        heard.hear(&beat(NONCE_A, 5), 1000).unwrap();
        for sequence in [5, 4, 0] {
            assert_eq!(heard.hear(&beat(NONCE_A, sequence), 20_000), Err(Repeated));
        }
        assert!(!heard.is_fresh(20_000));
        let other = NONCE_A.replace('0', "1");
        heard.hear(&beat(&other, 0), 20_000).unwrap();
        assert!(heard.is_fresh(20_000));
    }

    #[test]
    fn the_number_of_processes_is_bounded() {
        let heard = Heartbeats::default();
        for n in 0..HEARTBEAT_PROCESSES * 2 {
            heard.hear(&beat(&format!("{n:032x}"), 1), 1).unwrap();
        }
        assert_eq!(heard.0.lock().unwrap().processes.len(), HEARTBEAT_PROCESSES);
    }

    #[test]
    fn fuzz_heartbeat_body() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let Ok(heartbeat) = parse(bytes) else { return };
            assert!(heartbeat.process.len() == NONCE && NEEDED.iter().all(|hook| heartbeat.hooks.contains(hook)));
        });
    }
}
