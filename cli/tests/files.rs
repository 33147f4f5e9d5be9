//! `init`, `lint` and `explain` as a person runs them.

#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn clawlock(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clawlock")).args(arguments).current_dir(folder).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn started() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let output = clawlock(dir.path(), &["init"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    dir
}

#[test]
fn init_writes_a_starter_that_lints_and_is_not_overwritten() {
    let dir = started();
    let text = fs::read_to_string(dir.path().join("clawlock.yaml")).unwrap();
    assert!(text.lines().count() <= 30);
    let output = clawlock(dir.path(), &["lint"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stdout(&output), "no problem: 3 objects in 1 file\n", "plain text when nobody looks");

    fs::write(dir.path().join("clawlock.yaml"), "mine").unwrap();
    let output = clawlock(dir.path(), &["init"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--force"), "{output:?}");
    assert_eq!(fs::read_to_string(dir.path().join("clawlock.yaml")).unwrap(), "mine");
    assert_eq!(clawlock(dir.path(), &["init", "--force"]).status.code(), Some(0));
    assert_eq!(fs::read_to_string(dir.path().join("clawlock.yaml")).unwrap(), text);
}

#[test]
fn lint_names_every_problem_with_its_place() {
    let dir = started();
    let path = dir.path().join("clawlock.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let line_of = |text: &str, part: &str| text.lines().position(|line| line.contains(part)).unwrap() + 1;
    let broken = text.replace("name: own-tools", "name: model-calls").replace("trustDomain: acme", "trustDomain: ACME");
    fs::write(&path, &broken).unwrap();
    let output = clawlock(dir.path(), &["lint", "--output", "json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = json(&output);
    let problems = report["problems"].as_array().unwrap();
    let errors: Vec<&Value> = problems.iter().filter(|problem| problem["severity"] == "error").collect();
    assert_eq!(report["errors"].as_u64().unwrap(), u64::try_from(errors.len()).unwrap());
    let domain = errors.iter().find(|problem| problem["path"] == "spec.trustDomain").unwrap();
    assert_eq!(domain["line"].as_u64().unwrap(), line_of(&broken, "trustDomain") as u64);
    assert_eq!(domain["column"].as_u64().unwrap(), 41);
    assert!(errors.iter().any(|problem| problem["path"].as_str().unwrap().starts_with("spec.rules[1]")), "{report}");

    let output = clawlock(dir.path(), &["lint"]);
    assert!(
        stdout(&output).contains("clawlock.yaml:5:41: error: TenantGateway acme-gateway/acme: spec.trustDomain:"),
        "{output:?}"
    );
}

#[test]
fn colours_are_for_terminals_and_for_those_who_ask() {
    let dir = started();
    let lint = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clawlock"));
        command.arg("lint").current_dir(dir.path()).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        stdout(&command.envs(variables.iter().copied()).output().unwrap()).contains('\u{1b}')
    };
    assert!(!lint(&[]), "no terminal");
    assert!(lint(&[("CLICOLOR_FORCE", "1")]));
    assert!(!lint(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

#[test]
fn lint_survives_bad_input() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b]\n";
    for (content, part) in [
        (vec![b'#'; 10 * 1024 * 1024], "larger than 2097152 bytes"),
        (b"kind: A\0B\n".to_vec(), "U+0000"),
        (b"kind: \xff\n".to_vec(), "UTF-8"),
        (b"[".repeat(500_000), "a.yaml:1:"),
        (b"a: 1\na: 2\n".to_vec(), "apiVersion"),
        (bomb.as_bytes().to_vec(), "apiVersion"),
        (
            b"kind: AgentPolicy\nkind: AgentHalt\napiVersion: clawlock.dev/v1alpha1\nmetadata: {name: a}\n".to_vec(),
            "a.yaml:2:1",
        ),
    ] {
        fs::write(&file, content).unwrap();
        let output = clawlock(dir.path(), &["lint"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stdout(&output).contains(part), "{part}: {output:?}");
        assert!(stdout(&output).len() < 4_096, "the message is bounded");
    }
    fs::remove_file(&file).unwrap();
    let output = clawlock(dir.path(), &["lint"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("clawlock init"), "{output:?}");
    assert_eq!(clawlock(dir.path(), &["lint", "--nonsense"]).status.code(), Some(2));
}

#[test]
fn explain_answers_with_rule_and_exit_status() {
    let dir = started();
    let run = |arguments: &[&str]| clawlock(dir.path(), &[&["explain", "--output", "json"], arguments].concat());

    let output = run(&["GET https://api.openai.com/v1/models?limit=2"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = json(&output);
    assert_eq!(report["verdict"], "allow");
    assert_eq!((&report["policy"], &report["rule"]), (&"acme/starter".into(), &"model-calls".into()));
    assert_eq!(report["policies"][0]["rules"][0]["outcome"], "matched");

    let output = run(&["tool", "exec", r#"{"command":"ls"}"#]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(json(&output)["code"], "NoMatch");

    for (action, code) in [
        (&["GET", "https://pastebin.example/"][..], "UnknownUpstream"),
        (&["GET", "https://api.openai.com:8443/v1/models"], "UnknownUpstream"),
        (&["DELETE", "https://api.openai.com/v1/models"], "NoMatch"),
        (&["TRACE", "https://api.openai.com/v1/models"], "MethodRefused"),
    ] {
        let output = run(action);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(json(&output)["code"], code);
    }

    for wrong in [
        &["exec"][..],
        &["tool", "exec", "not json"],
        &["GET", "https://127.0.0.1/"],
        &["GET", "https://api.openai.com/a/../b"],
    ] {
        let output = run(wrong);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(stderr(&output).starts_with("error: "), "{output:?}");
    }
    let output = run(&["tool", "read", "--agent", "other/default"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no TenantGateway lists namespace"), "{output:?}");
}

#[test]
fn explain_reads_labels_time_headers_and_body() {
    let dir = started();
    let policy = "apiVersion: clawlock.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {name: more, namespace: acme}\nspec:\n  \
                  agentSelector: {matchLabels: {app: support}}\n  rules:\n  - name: big\n    match: {http: {upstreams: [openai]}}\n    \
                  when: args.n == 5\n    tier: Block\n  - name: old\n    match: {tools: [read]}\n    \
                  when: time.now < timestamp(\"2026-01-01T00:00:00Z\")\n    tier: Block\n";
    fs::write(dir.path().join("more.yaml"), policy).unwrap();
    let lint = clawlock(dir.path(), &["lint"]);
    assert_eq!(lint.status.code(), Some(0), "{lint:?}");
    let verdict = |arguments: &[&str]| {
        let output = clawlock(dir.path(), &[&["explain", "--output", "json"], arguments].concat());
        json(&output)["verdict"].as_str().unwrap().to_owned()
    };
    let post = ["POST", "https://api.openai.com/v1/chat/completions", r#"{"n":5}"#];
    assert_eq!(verdict(&post), "allow", "the policy does not select the agent");
    assert_eq!(verdict(&[&post[..], &["--label", "app=support"]].concat()), "deny");
    let less = ["POST", "https://api.openai.com/v1/chat/completions", r#"{"n":4}"#, "--label", "app=support"];
    assert_eq!(verdict(&less), "allow");
    let read = ["tool", "read", "--label", "app=support", "--time"];
    assert_eq!(verdict(&[&read[..], &["2025-12-31T23:59:59Z"]].concat()), "deny");
    assert_eq!(verdict(&[&read[..], &["2026-01-01T00:00:00Z"]].concat()), "allow");
}

#[test]
fn explain_does_not_answer_from_half_of_the_files() {
    let dir = started();
    fs::write(dir.path().join("b.yaml"), "kind: [").unwrap();
    let output = clawlock(dir.path(), &["explain", "tool read"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("b.yaml:1:"), "{output:?}");
}
