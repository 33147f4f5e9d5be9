//! What reads the log of decisions: `explain --request`, `simulate` and `generate`, with records as the gates write them.

#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clawlock_audit::record::RECORD_VERSION;
use clawlock_audit::{ActionRecord, Gate, Latency, Outcome, Record};
use clawlock_policy::Code;
use serde_json::Value;
use tempfile::TempDir;

fn clawlock(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clawlock")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples")
}

fn record(id: &str, action: ActionRecord, code: Option<Code>) -> String {
    let verdict = match code {
        None => "allow",
        Some(Code::ApprovalUnavailable) => "ask",
        Some(_) => "deny",
    };
    let record = Record {
        version: RECORD_VERSION,
        time_ms: 1_795_000_000_000,
        request_id: id.into(),
        gate: Gate::Gateway,
        tenant: "acme".into(),
        workload: "spiffe://acme.example/ns/acme/sa/default/pod/1".into(),
        action,
        outcome: Outcome {
            verdict,
            code,
            shadow: None,
            shadow_policy: None,
            shadow_rule: None,
            policy: Some("acme/support".into()),
            rule: Some("shell".into()),
            digest: Some("sha256:0".into()),
            generation: 3,
        },
        latency_us: Latency::default(),
    };
    format!("{}\n", serde_json::to_string(&record).unwrap())
}

fn tool(name: &str) -> ActionRecord {
    ActionRecord::Tool { tool: name.to_owned(), call_id: None }
}

fn http(method: &str, path: &str, operation: Option<&str>) -> ActionRecord {
    ActionRecord::Http {
        upstream: Some("payments".into()),
        operation: operation.map(Into::into),
        method: method.to_owned(),
        target: "https://api.payments.example:443".to_owned(),
        path: path.to_owned(),
    }
}

struct Log(TempDir, String);

fn log(lines: &[String]) -> Log {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions.jsonl");
    fs::write(&path, lines.concat()).unwrap();
    let path = path.to_str().unwrap().to_owned();
    Log(dir, path)
}

impl Log {
    fn policy(&self, rules: &str) -> String {
        let path = self.0.path().join("new.yaml");
        let head = "apiVersion: clawlock.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {name: support, namespace: acme}\nspec:\n  \
                    agentSelector: {matchLabels: {app: support-agent}}\n  rules:\n";
        fs::write(&path, format!("{head}{rules}")).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

const LABEL: [&str; 2] = ["--label", "app=support-agent"];

fn simulate(log: &Log, policy: &str, more: &[&str]) -> Output {
    let folder = examples();
    let fixed = ["simulate", "--from", &log.1, "--policy", policy, "--folder", folder.to_str().unwrap()];
    clawlock(&[&fixed, more].concat())
}

#[test]
fn simulate_tells_what_becomes_possible_and_never_guesses() {
    let log = log(&[
        record("1", tool("exec"), None),
        record("2", tool("write"), Some(Code::NoMatch)),
        record("3", tool("write"), Some(Code::NoMatch)),
        record("4", tool("delete"), Some(Code::NoMatch)),
        record("5", tool("read"), Some(Code::AuditUnavailable)),
        record("6", http("GET", "/v1/charges", Some("payments.list_charges")), None),
        "not a record\n".to_owned(),
    ]);
    let rules = "  - {name: write, match: {tools: [write]}, tier: Auto}\n  \
                 - {name: delete, match: {tools: [delete]}, when: args.path == '/tmp', tier: Auto}\n  \
                 - {name: shell, match: {tools: [exec]}, tier: Auto}\n";
    let policy = log.policy(rules);
    let output = simulate(&log, &policy, &[&LABEL[..], &["--output", "json"]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = json(&output);
    let changes: Vec<_> = report["changes"].as_array().unwrap().iter().collect();
    let told: Vec<_> = changes
        .iter()
        .map(|change| {
            (
                change["difference"].as_str().unwrap(),
                change["action"].as_str().unwrap(),
                change["count"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("becomesPossible", "tool write", 2),
            ("mayBecomePossible", "tool delete", 1),
            // The guardrail on exec reads arguments.
            ("becomesRefused", "GET https://api.payments.example:443/v1/charges", 1),
            ("mayBecomeRefused", "tool exec", 1),
        ]
        .into_iter()
        .collect::<Vec<_>>(),
        "{report}"
    );
    assert_eq!((&report["records"], &report["notByPolicy"], &report["otherLines"]), (&6.into(), &1.into(), &1.into()));
    assert_eq!(changes[0]["rule"], "write");
    let output = simulate(&log, &policy, &LABEL);
    let words = text(&output.stdout);
    assert!(words.contains("2 x  acme/default: tool write, rule write of acme/support"), "{words}");
    assert!(words.contains("AgentPolicy acme/support, rule write: allows the tools write"), "{words}");
    assert!(words.contains("no longer says Ask to the operations payments.create_refund"), "{words}");

    // Without the labels nobody knows whether the policy selects the agent.
    let report = json(&simulate(&log, &policy, &["--output", "json"]));
    assert_eq!(report["changes"], serde_json::json!([]));
    assert_eq!(report["unknown"][0]["count"], 5, "{report}");
    assert_eq!(report["widens"], true);
    // Of another agent there is nothing in the log.
    let report = json(&simulate(&log, &policy, &["--output", "json", "--agent", "acme/other"]));
    assert_eq!(report["otherAgents"], 6);
}

#[test]
fn simulate_counts_what_would_halt_and_takes_a_halted_pod_for_no_policy() {
    let log = log(&[
        record("1", tool("rm"), Some(Code::TierBlock)),
        record("2", tool("rm"), Some(Code::TierBlock)),
        record("3", tool("write"), None),
        record("4", tool("exec"), Some(Code::Halted)),
    ]);
    let rule = |on_deny: &str| {
        format!(
            "  - {{name: no-rm, match: {{tools: [rm]}}, tier: Block{on_deny}}}\n  \
             - {{name: write, match: {{tools: [write]}}, tier: Auto}}\n"
        )
    };
    let policy = log.policy(&rule(", onDeny: Halt"));
    let report = json(&simulate(&log, &policy, &[&LABEL[..], &["--output", "json"]].concat()));
    let halts = serde_json::json!([{"agent": "acme/default", "policy": "acme/support", "rule": "no-rm", "count": 2}]);
    assert_eq!(report["halts"], halts, "{report}");
    assert_eq!((&report["changes"], &report["notByPolicy"]), (&serde_json::json!([]), &1.into()), "{report}");
    let words = simulate(&log, &policy, &LABEL);
    assert!(text(&words.stdout).contains("2 x  acme/default: rule no-rm of acme/support"), "{words:?}");

    // To take the halt back is told as what it is.
    let before = log.0.path().join("before");
    fs::create_dir(&before).unwrap();
    let example = fs::read_to_string(examples().join("policy.yaml")).unwrap();
    let asks = example.replacen("    tier: Ask\n", "    tier: Ask\n    onDeny: Halt\n", 1);
    assert_ne!(asks, example);
    fs::write(before.join("policy.yaml"), asks).unwrap();
    let now = examples().join("policy.yaml");
    let fixed = ["simulate", "--from", &log.1, "--policy", now.to_str().unwrap(), "--folder", before.to_str().unwrap()];
    let words = clawlock(&[&fixed[..], &LABEL].concat());
    let words = text(&words.stdout).to_owned();
    assert!(words.contains("rule large-refund: no longer halts the pod when it refuses"), "{words}");
    assert!(!words.contains("no longer says"), "{words}");
}

#[test]
fn simulate_of_what_is_in_force_changes_nothing() {
    let log = log(&[
        record("1", http("GET", "/v1/charges", Some("payments.list_charges")), None),
        record("2", tool("write"), Some(Code::NoMatch)),
    ]);
    let policy = examples().join("policy.yaml");
    let output = simulate(&log, policy.to_str().unwrap(), &LABEL);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stdout), "2 records: 2 are decided as before\n");
    let broken = log.policy("  - {name: a, match: {tools: [exec]}, tier: Atuo}\n");
    assert_eq!(simulate(&log, &broken, &[]).status.code(), Some(2));
    assert_eq!(clawlock(&["simulate", "--from", "/absent", "--policy", &broken]).status.code(), Some(2));
}

#[test]
fn a_long_log_is_read_line_by_line() {
    let lines: Vec<String> = (0..20_000)
        .map(|number| record(&number.to_string(), tool(&format!("t{}", number % 100)), Some(Code::NoMatch)))
        .collect();
    let log = log(&lines);
    let policy = log.policy("  - {name: a, match: {tools: [\"t1*\"]}, tier: Auto}\n");
    let report = json(&simulate(&log, &policy, &[&LABEL[..], &["--output", "json"]].concat()));
    assert_eq!((&report["records"], report["changes"].as_array().unwrap().len()), (&20_000.into(), 11), "{report}");
}

#[test]
fn explain_tells_of_a_request_which_rule_and_why() {
    let log = log(&[record("abc-1", tool("exec"), None), record("abc-2", tool("write"), Some(Code::NoMatch))]);
    let folder = examples();
    let explain = |arguments: &[&str]| {
        clawlock(&[&["explain", "--folder", folder.to_str().unwrap(), "--log", &log.1], arguments].concat())
    };
    let output = explain(&["--request", "abc-1", "--output", "json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = json(&output);
    assert_eq!((&report[0]["verdict"], &report[0]["rule"]), (&"allow".into(), &"shell".into()));
    assert_eq!(report[0]["samePolicy"], false);
    assert!(report[0]["place"].as_str().unwrap().contains("policy.yaml:43:"), "{report}");
    let output = explain(&["--request", "abc-2", LABEL[0], LABEL[1]]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let words = text(&output.stdout);
    assert!(words.contains("code       NoMatch") && words.contains("now        ask or deny"), "{words}");
    assert_eq!(explain(&["--request", "abc"]).status.code(), Some(2));
    assert_eq!(explain(&["tool", "exec"]).status.code(), Some(2), "--log belongs to --request");
    assert_eq!(clawlock(&["explain", "--request", "a"]).status.code(), Some(2));
}

#[test]
fn what_is_generated_lints_and_allows_what_was_seen() {
    let log = log(&[
        record("1", tool("exec"), None),
        record("2", http("GET", "/v1/charges", Some("payments.list_charges")), None),
        record("3", http("GET", "/v1/events", None), None),
        record("4", tool("write"), Some(Code::NoMatch)),
    ]);
    let output = clawlock(&["generate", "--from", &log.1]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let folder = tempfile::tempdir().unwrap();
    let example = fs::read_to_string(examples().join("policy.yaml")).unwrap();
    let platform: Vec<&str> = example.split("---\n").take(2).collect();
    fs::write(folder.path().join("platform.yaml"), platform.join("---\n")).unwrap();
    fs::write(folder.path().join("generated.yaml"), &output.stdout).unwrap();
    let folder = folder.path().to_str().unwrap();
    let lint = clawlock(&["lint", folder]);
    assert_eq!(lint.status.code(), Some(0), "{lint:?}");
    let explain = |action: &str| clawlock(&["explain", "--folder", folder, action]).status.code();
    assert_eq!(explain(r#"tool exec {"command":"ls"}"#), Some(0));
    assert_eq!(explain("GET https://api.payments.example/v1/events"), Some(0));
    assert_eq!(explain("GET https://api.payments.example/v1/events/1"), Some(1));
    assert_eq!(explain("tool write"), Some(1));
    let report = json(&clawlock(&["generate", "--from", &log.1, "--output", "json"]));
    assert_eq!(report["refused"], 1);
    assert_eq!(report["agents"][0]["policies"][0]["spec"]["rules"].as_array().unwrap().len(), 3);
}
