//! What `dev` tells while it runs: lines for people, or one JSON document per line. Threads of their own
//! write, so a terminal that stands still neither holds up a decision nor a change of policy.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use anstream::AutoStream;
use clawlock_audit::{ActionRecord, Gate, Outcome, Record};
use serde::Serialize;
use tokio::sync::mpsc as async_mpsc;

use crate::args::Format;
use crate::output::{BAD, GOOD, NOTICE, QUIET, STRONG, problem_line, styled};
use crate::problem::{Problem, plain};

/// Most records that wait for the terminal. A reader that is slower than this misses some; the log has all.
const RECORDS: usize = 1024;

/// Most other events that wait.
const EVENTS: usize = 256;

/// How long the end waits for what is still to be printed.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Something to tell.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Event {
    /// Both gates serve.
    Ready(Box<Ready>),
    /// What is wrong with the files now; empty when all is well again.
    Problems {
        /// In the order of places.
        problems: Vec<Problem>,
        /// What stays in force in its last good version.
        kept: Vec<String>,
    },
    /// A change is in force at both gates.
    Installed {
        /// Its generation.
        generation: u64,
        /// Policies that select the agent.
        policies: Vec<String>,
        /// Halts that stop the agent.
        halts: Vec<String>,
    },
    /// Something a person should know.
    Notice {
        /// What.
        message: String,
    },
    /// The end has begun.
    Stopping {
        /// Why.
        reason: String,
    },
}

/// Where everything is, and what is not confined.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ready {
    /// The tenant.
    pub(super) tenant: String,
    /// The agent's identity.
    pub(super) agent: String,
    /// Generation in force.
    pub(super) generation: u64,
    /// Policies that select the agent.
    pub(super) policies: Vec<String>,
    /// Policies of its namespace that do not select it.
    pub(super) other_policies: Vec<String>,
    /// Halts that stop the agent.
    pub(super) halts: Vec<String>,
    /// The agent's manifest; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) manifest: Option<PathBuf>,
    /// URL of the proxy.
    pub(super) proxy: String,
    /// URL of `/v1/decide`.
    pub(super) decide: String,
    /// Unix socket of `/v1/decide`.
    pub(super) decide_socket: PathBuf,
    /// URL of health, readiness and metrics.
    pub(super) admin: String,
    /// The interception CA.
    pub(super) ca: PathBuf,
    /// File to source.
    pub(super) env_file: PathBuf,
    /// The log of decisions.
    pub(super) log: PathBuf,
    /// What Landlock enforces on COMMAND; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) confined: Option<String>,
    /// What stays open.
    pub(super) unconfined: Vec<String>,
}

#[derive(Serialize)]
struct Decision<'a> {
    event: &'static str,
    #[serde(flatten)]
    record: &'a Record,
}

/// Takes events; never waits.
#[derive(Clone)]
pub(super) struct Teller(SyncSender<Event>);

impl Teller {
    /// Tells. A terminal that stands still loses what it has no room for.
    pub(super) fn tell(&self, event: Event) {
        drop(self.0.try_send(event));
    }
}

/// The writing threads.
pub(super) struct Printer {
    ended: Receiver<()>,
    threads: usize,
}

impl Printer {
    /// Starts the threads. Answers where events and records go.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(super) fn start(format: Format, to_stderr: bool) -> io::Result<(Self, Teller, async_mpsc::Sender<Record>)> {
        let (teller, events) = mpsc::sync_channel(EVENTS);
        let (sender, mut records) = async_mpsc::channel(RECORDS);
        let (end, ended) = mpsc::channel();
        let ended_too = end.clone();
        thread::Builder::new().name("print-events".to_owned()).spawn(move || {
            for event in events {
                write(to_stderr, format, &event_line(format, &event));
            }
            let _ = end.send(());
        })?;
        thread::Builder::new().name("print-records".to_owned()).spawn(move || {
            while let Some(record) = records.blocking_recv() {
                write(to_stderr, format, &record_line(format, &record));
            }
            let _ = ended_too.send(());
        })?;
        Ok((Self { ended, threads: 2 }, Teller(teller), sender))
    }

    /// Waits a moment for what is still to be printed; every sender must be gone by now.
    pub(super) fn finish(self) {
        let Self { ended, threads } = self;
        for _ in 0..threads {
            if ended.recv_timeout(LAST_WORDS).is_err() {
                return;
            }
        }
    }
}

/// Writes whole lines. When the stream is gone there is nobody left to tell; the log goes on.
fn write(to_stderr: bool, format: Format, text: &str) {
    fn all(mut stream: impl Write, text: &str) {
        drop(stream.write_all(text.as_bytes()).and_then(|()| stream.flush()));
    }
    match (to_stderr, format) {
        (true, Format::Text) => all(AutoStream::auto(io::stderr()).lock(), text),
        (true, Format::Json) => all(io::stderr().lock(), text),
        (false, Format::Text) => all(AutoStream::auto(io::stdout()).lock(), text),
        (false, Format::Json) => all(io::stdout().lock(), text),
    }
}

fn json_line(value: &impl Serialize) -> String {
    match serde_json::to_string(value) {
        Ok(line) => format!("{line}\n"),
        // Paths that are not UTF-8 are the only thing that JSON cannot hold.
        Err(error) => format!("{}\n", serde_json::json!({"event": "notice", "message": error.to_string()})),
    }
}

fn record_line(format: Format, record: &Record) -> String {
    match format {
        Format::Json => json_line(&Decision { event: "decision", record }),
        Format::Text => decision_text(record),
    }
}

fn event_line(format: Format, event: &Event) -> String {
    match format {
        Format::Json => json_line(event),
        Format::Text => event_text(event),
    }
}

/// `09:00:00.123Z allow agent   POST https://api.example.com/v1/x  acme/support: rule  120 µs`.
fn decision_text(record: &Record) -> String {
    let Record { time_ms, gate, action, outcome, latency_us, .. } = record;
    let Outcome { verdict, code, shadow, shadow_policy, shadow_rule, policy, rule, .. } = outcome;
    let style = match *verdict {
        "allow" => GOOD,
        "ask" => NOTICE,
        "reported" => QUIET,
        _ => BAD,
    };
    let (gate, micros) = match gate {
        Gate::Agent => ("agent", latency_us.agent_gate),
        Gate::Gateway => ("gateway", latency_us.gateway),
    };
    let action = match action {
        ActionRecord::Tool { tool, call_id: _ } => format!("tool {tool}"),
        ActionRecord::ToolResult { tool, duration_ms, error, result_sha256: _ } => {
            format!("tool {tool} {} after {duration_ms} ms", if *error { "failed" } else { "ended" })
        }
        ActionRecord::Http { operation, method, target, path, upstream: _ } => {
            let operation = operation.as_ref().map(|operation| format!(" ({operation})")).unwrap_or_default();
            format!("{method} {target}{path}{operation}")
        }
    };
    let mut reasons = Vec::new();
    if let (Some(policy), Some(rule)) = (policy, rule) {
        reasons.push(format!("{policy}: {rule}"));
    }
    reasons.extend(code.map(|code| code.to_string()));
    let by = shadow_policy.as_ref().zip(shadow_rule.as_ref()).map(|(policy, rule)| format!(" by {policy}: {rule}"));
    let by = by.unwrap_or_default();
    reasons.extend(shadow.map(|code| format!("audit mode, Enforce would refuse: {code}{by}")));
    format!(
        "{} {} {:<7} {}  {} {}\n",
        styled(QUIET, clock(*time_ms)),
        styled(style, format!("{verdict:<5}")),
        gate,
        plain(&action),
        plain(&reasons.join(", ")),
        styled(QUIET, format!("{micros} µs")),
    )
}

/// The time of day in UTC.
fn clock(time_ms: u64) -> String {
    let (seconds, millis) = (time_ms / 1000 % 86_400, time_ms % 1000);
    format!("{:02}:{:02}:{:02}.{millis:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn event_text(event: &Event) -> String {
    match event {
        Event::Ready(ready) => ready_text(ready),
        Event::Problems { problems, kept } => {
            let mut text: String = problems.iter().map(problem_line).collect();
            if problems.is_empty() {
                text.push_str(&format!("{}\n", styled(GOOD, "no problem left in the folder")));
            }
            for name in kept {
                text.push_str(&format!(
                    "{} {}\n",
                    styled(NOTICE, "the last good version stays in force:"),
                    plain(name)
                ));
            }
            text
        }
        Event::Installed { generation, policies, halts } => {
            let policies =
                if policies.is_empty() { "no policy, all is denied".to_owned() } else { policies.join(", ") };
            let mut text =
                format!("{} {}\n", styled(STRONG, format!("generation {generation} in force:")), plain(&policies));
            for halt in halts {
                text.push_str(&format!("{} {}\n", styled(BAD, "halted by"), plain(halt)));
            }
            text
        }
        Event::Notice { message } => format!("{} {}\n", styled(NOTICE, "note:"), plain(message)),
        Event::Stopping { reason } => format!("{} {}\n", styled(STRONG, "stopping:"), plain(reason)),
    }
}

fn ready_text(ready: &Ready) -> String {
    let Ready {
        tenant,
        agent,
        generation,
        policies,
        other_policies,
        halts,
        manifest,
        proxy,
        decide,
        decide_socket,
        admin,
        ca,
        env_file,
        log,
        confined,
        unconfined,
    } = ready;
    let mut text = format!("{} tenant {}, generation {generation}\n", styled(STRONG, "clawlock dev"), plain(tenant));
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<10} {}\n", plain(&value)));
    line("agent", agent.clone());
    line("proxy", proxy.clone());
    line("decide", format!("{decide} and unix:{}", decide_socket.display()));
    line("admin", format!("{admin}/readyz, /healthz, /metrics"));
    line("CA", format!("{} (enters no system trust store)", ca.display()));
    line("log", log.display().to_string());
    line("variables", format!(". {}", env_file.display()));
    line(
        "policies",
        if policies.is_empty() { "none selects this agent: all is denied".to_owned() } else { policies.join(", ") },
    );
    if !other_policies.is_empty() {
        line("", format!("not for this agent (see --label): {}", other_policies.join(", ")));
    }
    if !halts.is_empty() {
        line("halted by", halts.join(", "));
    }
    if let Some(manifest) = manifest {
        line("manifest", format!("{}: what it does not declare is refused", manifest.display()));
    }
    if let Some(confined) = confined {
        line("Landlock", confined.clone());
    }
    text.push_str(&format!("{}\n", styled(NOTICE, "not confined:")));
    for item in unconfined {
        text.push_str(&format!("  - {}\n", plain(item)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawlock_audit::Latency;
    use clawlock_policy::Code;

    fn record(tool: &str) -> Record {
        Record {
            version: clawlock_audit::record::RECORD_VERSION,
            time_ms: 86_400_000 * 3 + 9 * 3_600_000 + 62_003,
            request_id: "r-1".into(),
            gate: Gate::Agent,
            tenant: "acme".into(),
            workload: "spiffe://acme.example/ns/acme/sa/default/pod/1".into(),
            action: ActionRecord::Tool { tool: tool.to_owned(), call_id: None },
            outcome: Outcome {
                verdict: "deny",
                code: Some(Code::TierBlock),
                shadow: None,
                shadow_policy: None,
                shadow_rule: None,
                policy: Some("acme/support".into()),
                rule: Some("shell".into()),
                digest: None,
                generation: 7,
            },
            latency_us: Latency { agent_gate: 42, gateway: 0 },
        }
    }

    #[test]
    fn a_decision_is_one_line() {
        let text = anstream::adapter::strip_str(&record_line(Format::Text, &record("exec"))).to_string();
        assert_eq!(text, "09:01:02.003Z deny  agent   tool exec  acme/support: shell, TierBlock 42 µs\n");
        let json: serde_json::Value = serde_json::from_str(&record_line(Format::Json, &record("exec"))).unwrap();
        assert_eq!((&json["event"], &json["outcome"]["rule"]), (&"decision".into(), &"shell".into()));
    }

    #[test]
    fn class16_nothing_of_the_agent_reaches_the_terminal_as_a_command() {
        for format in [Format::Text, Format::Json] {
            let line = record_line(format, &record("x\n\u{1b}]0;owned\u{7}\u{202e}"));
            let line = anstream::adapter::strip_str(&line).to_string();
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            assert!(!line.contains('\u{1b}') && !line.contains('\u{7}'), "{line:?}");
        }
    }

    #[test]
    fn events_are_tagged() {
        let event = Event::Installed { generation: 3, policies: vec!["acme/a".into()], halts: Vec::new() };
        let json: serde_json::Value = serde_json::from_str(&event_line(Format::Json, &event)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"event": "installed", "generation": 3, "policies": ["acme/a"], "halts": []})
        );
    }
}
