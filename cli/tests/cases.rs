//! `test` as a person and as a CI system runs it, with the example of the documentation.

#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn clawlock(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clawlock")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples")
}

/// A copy of the example, to be broken.
fn copy() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["policy.yaml", "support.test.yaml"] {
        fs::copy(examples().join(name), dir.path().join(name)).unwrap();
    }
    dir
}

fn edit(dir: &TempDir, name: &str, from: &str, to: &str) {
    let path = dir.path().join(name);
    let before = fs::read_to_string(&path).unwrap();
    assert!(before.contains(from), "{from}");
    fs::write(path, before.replacen(from, to, 1)).unwrap();
}

fn test(dir: &TempDir, more: &[&str]) -> Output {
    clawlock(&[&["test", "--folder", dir.path().to_str().unwrap()], more].concat())
}

#[test]
fn the_documented_example_holds() {
    let folder = examples();
    let output = clawlock(&["test", "--folder", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).ends_with("8 passed, 0 failed\n"), "{output:?}");
    let lint = clawlock(&["lint", folder.to_str().unwrap()]);
    assert_eq!(lint.status.code(), Some(0), "{lint:?}");
    let documented = fs::read_to_string(folder.join("../cli.md")).unwrap();
    let example = fs::read_to_string(folder.join("support.test.yaml")).unwrap();
    let start: String = example.lines().take(12).map(|line| format!("{line}\n")).collect();
    assert!(documented.contains(&start), "docs/cli.md shows the beginning of the example");
}

#[test]
fn a_changed_rule_fails_its_cases_in_every_output() {
    let dir = copy();
    edit(&dir, "policy.yaml", "args.amount <= 1000", "args.amount <= 2000");
    let output = test(&dir, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let table = text(&output.stdout);
    assert!(table.contains("FAIL  a large refund needs a person"), "{table}");
    assert!(table.contains("support.test.yaml:12 expected ask, got allow"), "{table}");
    assert!(table.ends_with("7 passed, 1 failed\n"), "{table}");

    let output = test(&dir, &["--output", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["passed"], &report["failed"]), (&7.into(), &1.into()));
    let failed = report["cases"].as_array().unwrap().iter().find(|case| case["passed"] == false).unwrap();
    assert_eq!((&failed["line"], &failed["got"]["rule"]), (&12.into(), &"small-refund".into()));
    assert_eq!(failed["mismatches"][1], "expected rule large-refund, got small-refund");

    let output = test(&dir, &["--output", "junit"]);
    assert_eq!(output.status.code(), Some(1));
    let xml = text(&output.stdout);
    assert!(
        xml.contains("tests=\"8\" failures=\"1\"") && xml.contains("<failure message=\"expected ask, got allow"),
        "{xml}"
    );
}

#[test]
fn a_case_can_expect_that_the_pod_is_halted() {
    let ask = "tier: Ask";
    for (on_deny, expected, code) in [
        ("", "halts: false", 0),
        ("", "halts: true", 1),
        ("\n    onDeny: Halt", "halts: true", 0),
        ("\n    onDeny: Halt", "halts: false", 1),
        ("\n    onDeny: Continue", "halts: false", 0),
    ] {
        let dir = copy();
        edit(&dir, "policy.yaml", ask, &format!("{ask}{on_deny}"));
        edit(&dir, "support.test.yaml", "code: ApprovalUnavailable", expected);
        let output = test(&dir, &[]);
        assert_eq!(output.status.code(), Some(code), "{on_deny} {expected}: {output:?}");
        assert_eq!(
            text(&output.stdout).contains("large-refund of acme/support, halts the pod"),
            on_deny.contains("Halt")
        );
        if code == 1 {
            assert!(text(&output.stdout).contains("expected that it "), "{output:?}");
        }
    }
    let dir = copy();
    edit(&dir, "support.test.yaml", "{verdict: allow, rule: shell}", "{verdict: allow, halts: true}");
    let output = test(&dir, &[]);
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("halts nothing"), "{output:?}");
    // An Auto rule has nothing to halt for: said with its place.
    edit(&dir, "policy.yaml", "tier: Auto", "tier: Auto\n    onDeny: Halt");
    let lint = clawlock(&["lint", dir.path().to_str().unwrap()]);
    assert_eq!(lint.status.code(), Some(1), "{lint:?}");
    let told = [lint.stdout, lint.stderr].concat();
    assert!(text(&told).contains("spec.rules[0].onDeny"), "{}", text(&told));
}

#[test]
fn explain_says_that_a_refusal_halts() {
    let dir = copy();
    edit(&dir, "policy.yaml", "tier: Ask", "tier: Ask\n    onDeny: Halt");
    let refund = "POST https://api.payments.example/v1/charges/ch_1/refunds {\"amount\":1001}";
    let folder = dir.path().to_str().unwrap();
    let explain = |more: &[&str]| {
        let fixed = ["explain", refund, "--folder", folder, "--label", "app=support-agent"];
        clawlock(&[&fixed, more].concat())
    };
    let output = explain(&[]);
    assert!(text(&output.stdout).contains("halts      the pod"), "{output:?}");
    let report: Value = serde_json::from_slice(&explain(&["--output", "json"]).stdout).unwrap();
    assert_eq!((&report["verdict"], &report["halts"]), (&"ask".into(), &true.into()), "{report}");
}

#[test]
fn a_case_that_tests_nothing_is_an_error_with_its_place() {
    for (from, to, place, why) in [
        ("verdict: ask", "verdict: maybe", "support.test.yaml:14:", "maybe"),
        ("code: TierBlock", "code: TierBlok", "support.test.yaml:20:", "did you mean \"TierBlock\"?"),
        ("expect: {verdict: ask,", "expect: {verdict: allow,", "support.test.yaml:14:", "has no code"),
        ("name: the shell may be used", "name: charges may be listed", "support.test.yaml:15:", "two cases"),
        ("tool: {name: exec, args: {command: git status}}", "tools: [exec]", "support.test.yaml:16:", "tools"),
        (
            "method: GET, url: \"https://pastebin.example/\"",
            "method: GET, url: pastebin",
            "support.test.yaml:28:",
            "scheme",
        ),
        ("agent: acme/default", "agent: acme", "support.test.yaml:6:", "NAMESPACE/SERVICEACCOUNT"),
        ("agent: acme/default", "agent: other/default", "support.test.yaml:6:", "no TenantGateway lists"),
        ("time: 2026-11-21T09:00:00Z", "time: today", "support.test.yaml:6:", "RFC 3339"),
        ("args: '{\"command\"", "args: '[\"command\"", "support.test.yaml:21:", "JSON"),
    ] {
        let dir = copy();
        edit(&dir, "support.test.yaml", from, to);
        let output = test(&dir, &[]);
        assert_eq!(output.status.code(), Some(2), "{from}: {output:?}");
        let error = text(&output.stderr);
        assert!(error.contains(place) && error.contains(why), "{from}: {error}");
    }
    let dir = copy();
    edit(&dir, "policy.yaml", "tier: Auto", "tier: Atuo");
    let output = test(&dir, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("did you mean \"Auto\"?"), "{output:?}");
    fs::remove_file(dir.path().join("support.test.yaml")).unwrap();
    assert_eq!(test(&dir, &[]).status.code(), Some(2));
}

#[test]
fn lint_tells_all_mistakes_with_what_was_meant() {
    let dir = copy();
    for (from, to) in [("agentSelector", "agentSelecter"), ("tier: Ask", "tire: Ask"), ("trustDomain", "trustdomain")] {
        edit(&dir, "policy.yaml", from, to);
    }
    let lint = || clawlock(&["lint", "--output", "json", dir.path().to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&lint().stdout).unwrap();
    let fixes: Vec<_> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["fix"]["with"].clone())
        .filter(|fix| !fix.is_null())
        .collect();
    assert_eq!(fixes, ["trustDomain", "agentSelector", "tier"], "{report}");

    let dir = copy();
    edit(&dir, "policy.yaml", "payments.create_refund", "payments.create_refnd");
    let output = clawlock(&["lint", dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("did you mean \"payments.create_refund\"?"), "{output:?}");
}

#[test]
fn a_thousand_policies_are_linted() {
    let dir = copy();
    let text = fs::read_to_string(dir.path().join("policy.yaml")).unwrap();
    let policy = text.rsplit("---\n").next().unwrap();
    for number in 0..1_000 {
        let policy = policy.replace("name: support", &format!("name: support-{number}"));
        fs::write(dir.path().join(format!("{number:04}.yaml")), policy).unwrap();
    }
    let output = clawlock(&["lint", dir.path().to_str().unwrap()]);
    assert_eq!(std::str::from_utf8(&output.stdout).unwrap(), "no problem: 1003 objects in 1001 files\n");
}

#[test]
fn kubectl_finds_it_as_a_plugin() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("kubectl-clawlock");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_clawlock"), &plugin).unwrap();
    let output = Command::new(&plugin).args(["lint", "--help"]).output().unwrap();
    assert!(text(&output.stdout).contains("Usage: kubectl clawlock lint "), "{output:?}");
    assert!(text(&clawlock(&["lint", "--help"]).stdout).contains("Usage: clawlock lint "));
}
