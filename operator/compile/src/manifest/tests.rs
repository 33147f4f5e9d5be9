//! The reader of manifests: what it takes, and that it refuses everything else with its place.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::*;

fn read_json(text: &str) -> Result<Manifest, Mistake> {
    parse(text, Form::Json)
}

fn refused(text: &str, form: Form) -> (usize, String) {
    let mistake = parse(text, form).expect_err(text);
    (mistake.at.line, mistake.reason)
}

#[test]
fn what_is_not_there_declares_nothing() {
    let manifest = read_json(r#"{"skill": "web_search"}"#).unwrap();
    assert_eq!(manifest.tools, ["web_search"]);
    assert!(manifest.hosts.is_empty() && manifest.roles.is_empty() && manifest.unsupported.is_empty());
    assert_eq!((manifest.files, manifest.programs), (FileAccess::None, false));
    let none = read_json(r#"{"skill": "web_search", "tool_scope": []}"#).unwrap();
    assert!(none.tools.is_empty());
}

const FULL: &str = r#"{
  "skill": "support", "tool_scope": ["read", "exec", "read"],
  "allowed_hosts": ["API.example", "b.example:8443", "api.example:443"],
  "file_access": "read", "binary_access": "all", "on_failure": "continue",
  "roles": {"viewer": {"tool_scope": ["read"]}}
}"#;

const FULL_TOML: &str = r#"
skill = "support"
tool_scope = ["read", "exec", "read"]
allowed_hosts = ["API.example", "b.example:8443", "api.example:443"]
file_access = "read"
binary_access = 'all'
on_failure = "continue"
[roles.viewer]
tool_scope = ["read"]
"#;

#[test]
fn json_and_toml_say_the_same() {
    let manifest = read_json(FULL).unwrap();
    assert_eq!(manifest, parse(FULL_TOML, Form::Toml).unwrap());
    let document = manifest.document("acme/m".to_owned()).unwrap();
    assert_eq!(
        serde_json::to_value(document).unwrap(),
        json!({
            "name": "acme/m", "tools": ["exec", "read"], "files": "Read", "programs": true,
            "hosts": [{"host": "api.example", "port": 443}, {"host": "b.example", "port": 8443}],
            "roles": [{"name": "viewer", "tools": ["read"]}],
        })
    );
}

/// Each key of a manifest changes what comes of it, or keeps it from holding.
#[test]
fn every_key_counts() {
    let full: Value = serde_json::from_str(FULL).unwrap();
    let before = read_json(FULL).unwrap().document("a/b".to_owned()).unwrap();
    for (key, value) in [
        ("tool_scope", json!(["read"])),
        ("allowed_hosts", json!(["api.example"])),
        ("file_access", json!("write")),
        ("binary_access", json!("none")),
        ("on_failure", json!("halt")),
        ("roles", json!({})),
        ("allowed_binaries", json!(["/bin/ls"])),
        ("forbidden_syscalls", json!([])),
        ("writable_paths", json!(["/workspace"])),
        ("env", json!({})),
        ("input_schema", json!({"type": {"deep": [[[[[[1]]]]]]}})),
        ("execution_mode", json!("ephemeral")),
    ] {
        let mut changed = full.clone();
        changed[key] = value;
        let after = read_json(&changed.to_string()).unwrap().document("a/b".to_owned());
        assert_ne!(after, Ok(before.clone()), "{key}");
        let unsupported = UNSUPPORTED.iter().any(|(known, _)| *known == key) || key == "on_failure";
        assert_eq!(after.err().map(|error| error.key), unsupported.then_some(key));
    }
    let mut skill = full;
    skill.as_object_mut().unwrap().remove("tool_scope");
    skill.as_object_mut().unwrap().remove("roles");
    let tools = |skill: &Value| read_json(&skill.to_string()).unwrap().tools;
    assert_eq!(tools(&skill), ["support"]);
    skill["skill"] = json!("other");
    assert_eq!(tools(&skill), ["other"]);
    assert!(
        keys().all(|key| key == "skill" || FULL.contains(key) || UNSUPPORTED.iter().any(|(known, _)| *known == key))
    );
}

#[test]
fn what_nobody_enforces_is_told_with_its_line() {
    let text = "{\n\"skill\": \"a\",\n\"forbidden_syscalls\": [\"ptrace\"],\n  \"allowed_binaries\": []}";
    let manifest = read_json(text).unwrap();
    let told: Vec<String> = manifest.unsupported.iter().map(ToString::to_string).collect();
    assert_eq!(
        told[0],
        "line 3, column 1: forbidden_syscalls is not supported: system calls are not restricted one by one here"
    );
    assert!(told[1].starts_with("line 4, column 3: allowed_binaries is not supported"), "{told:?}");
    let toml = parse("skill = \"a\"\n\n[env]\nA = 1\n", Form::Toml).unwrap();
    assert_eq!((toml.unsupported[0].at.line, toml.unsupported[0].key), (3, "env"));
}

#[test]
fn mistakes_have_their_line_and_reason() {
    let mut wrong = Vec::new();
    for (text, line, reason) in [
        ("", 1, "no JSON: EOF"),
        ("null", 1, "a map is expected"),
        ("[]", 1, "a map is expected"),
        ("{\n}", 1, "there is no skill"),
        ("{\"skill\":\n\"\"}", 2, "a text is expected"),
        ("{\"skill\":\n1}", 2, "a text is expected"),
        ("{\"skill\": \"a\",\n\"skill\": \"b\"}", 2, "the key \"skill\" is there twice"),
        ("{\"skill\": \"a\",\n\"sk\\u0069ll\": \"b\"}", 2, "the key \"skill\" is there twice"),
        ("{\"skill\": \"a\",\n\"Skill\": \"b\"}", 2, "unknown key \"Skill\""),
        ("{\"skill\": \"a\"}\n{}", 2, "no JSON: trailing"),
        ("{\"skill\": \"a\",\n}", 2, "no JSON: key must be a string"),
        ("{\"skill\": \"a\\ud800\"}", 1, "no JSON: "),
        ("{\"skill\":\n\"a\\udc00b\"}", 2, "no JSON: lone"),
        ("{\"skill\": \"a\0\"}", 1, "no JSON: control character"),
        ("{\"skill\":\n\"a\\u0000\"}", 2, "control character"),
        ("{\"skill\":\n\"a b\"}", 2, "white space"),
        ("{\"skill\": \"a\",\n\"tool_scope\": \"exec\"}", 2, "tool_scope is no list"),
        ("{\"skill\": \"a\", \"tool_scope\": [\"b\",\n\"exec*\"]}", 2, "without '*'"),
        ("{\"skill\": \"a\", \"tool_scope\": [\"b\",\n[\"c\"]]}", 2, "a text is expected"),
        ("{\"skill\": \"a\",\n\"allowed_hosts\": [\"*.example\"]}", 2, "no host name"),
        ("{\"skill\": \"a\",\n\"allowed_hosts\": [\"10.0.0.1\"]}", 2, "an IP address"),
        ("{\"skill\": \"a\",\n\"allowed_hosts\": [\"a.example:0\"]}", 2, "no port that exists"),
        ("{\"skill\": \"a\",\n\"allowed_hosts\": [\"a.example:65536\"]}", 2, "no port that exists"),
        ("{\"skill\": \"a\",\n\"allowed_hosts\": [\"https://a.example\"]}", 2, "no port that exists"),
        ("{\"skill\": \"a\",\n\"file_access\": \"None\"}", 2, "not one of none, read, write"),
        ("{\"skill\": \"a\",\n\"file_access\": null}", 2, "a text is expected"),
        ("{\"skill\": \"a\",\n\"binary_access\": \"some\"}", 2, "not one of none, all"),
        ("{\"skill\": \"a\",\n\"on_failure\": 1}", 2, "a text is expected"),
        ("{\"skill\": \"a\",\n\"roles\": []}", 2, "a map is expected"),
        ("{\"skill\": \"a\", \"roles\": {\n\"b\": {}}}", 2, "a role has a tool_scope"),
        ("{\"skill\": \"a\", \"roles\": {\n\"b c\": {\"tool_scope\": []}}}", 2, "no name of a role"),
        ("{\"skill\": \"a\", \"roles\": {\n\"b\": {\"tool_scope\": [\"exec\"]}}}", 2, "which tool_scope does not"),
        (
            "{\"skill\": \"a\", \"roles\": {\"b\": {\"tool_scope\": []},\n\"b\": {\"tool_scope\": []}}}",
            2,
            "is there twice",
        ),
        ("{\"skill\": \"a\", \"roles\": {\"b\": {\n\"allowed_hosts\": []}}}", 2, "unknown key"),
    ] {
        let (at, told) = refused(text, Form::Json);
        if at != line || !told.contains(reason) {
            wrong.push(format!("{text:?}: line {at}: {told}"));
        }
    }
    for (text, line, reason) in [
        ("skill = \"a\"\nskill = \"b\"\n", 2, "no TOML"),
        ("skill = \"a\"\nallowed = []\n", 2, "unknown key \"allowed\""),
        ("skill = \"a\"\n\n[tool]\nname = 1\n", 3, "unknown key \"tool\""),
        ("skill = \"a\"\ntool_scope = [\n  \"b\",\n  \"c*\"]\n", 4, "without '*'"),
        ("skill = \"\\ud800\"\n", 1, "no TOML"),
        ("skill = 2026-11-21\n", 1, "a text is expected"),
        ("skill = \"a\0\"\n", 1, "no TOML"),
    ] {
        let (at, told) = refused(text, Form::Toml);
        if at != line || !told.contains(reason) {
            wrong.push(format!("{text:?}: line {at}: {told}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_documented_manifest_holds() {
    let page = include_str!("../../../../docs/manifests.md");
    let (_, rest) = page.split_once("<!-- example: json -->\n```json\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let document = read_json(example).unwrap().document("acme/support".to_owned()).unwrap();
    assert_eq!((document.hosts.len(), document.roles.len(), document.files), (2, 1, FileAccess::Read));
    for key in keys() {
        assert!(page.contains(&format!("`{key}`")), "docs/manifests.md does not have {key}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let huge = format!("{{\"skill\": \"{}\"}}", "a".repeat(10 << 20));
    let deep_json = format!("{{\"skill\": {}{}}}", "[".repeat(8000), "]".repeat(8000));
    let deep_key = format!("{{\"env\": {}{}, \"skill\": \"a\"}}", "[".repeat(8000), "]".repeat(8000));
    let deep_toml = format!("skill = {}{}", "[".repeat(8000), "]".repeat(8000));
    for form in [Form::Json, Form::Toml] {
        assert!(refused(&huge, form).1.contains("16384 bytes"));
    }
    assert!(refused(&deep_json, Form::Json).1.contains("a text is expected"));
    assert!(read_json(&deep_key).unwrap().document("a/b".to_owned()).is_err());
    parse(&deep_toml, Form::Toml).unwrap_err();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_manifest_or_a_mistake_with_its_place(
        text in "([-{}\\[\\]:,\"'#= \n~a0.\t\u{0}é\\\\]|\"skill\": |\"roles\": |skill = |\\[env\\]|\"tool_scope\": |\"a\"|\\\\ud800){0,40}",
    ) {
        for form in [Form::Json, Form::Toml] {
            if let Err(mistake) = parse(&text, form) {
                let lines = text.split('\n').count();
                prop_assert!(mistake.at.line >= 1 && mistake.at.line <= lines + 1 && mistake.at.column >= 1, "{mistake:?}");
                prop_assert!(!mistake.reason.is_empty() && !mistake.reason.contains('\n'), "{mistake:?}");
            }
        }
    }

    #[test]
    fn both_forms_are_read_alike(
        tools in subsequence(vec!["exec", "read", "write", "a.b", "é"], 0..5),
        hosts in subsequence(vec!["a.example", "b.example:8443", "A.example", "x"], 0..4),
        files in select(vec!["none", "read", "write", "all"]), role in proptest::option::of(select(vec!["exec", "read"])),
    ) {
        let (tools, hosts) = (json!(tools).to_string(), json!(hosts).to_string());
        let in_json = role.map(|tool| format!(r#", "roles": {{"r": {{"tool_scope": ["{tool}"]}}}}"#)).unwrap_or_default();
        let in_toml = role.map(|tool| format!("roles.r.tool_scope = ['{tool}']")).unwrap_or_default();
        let json = format!(r#"{{"skill": "s", "tool_scope": {tools}, "allowed_hosts": {hosts}, "file_access": "{files}"{in_json}}}"#);
        let toml = format!("skill = \"s\"\ntool_scope = {tools}\nallowed_hosts = {hosts}\nfile_access = \"{files}\"\n{in_toml}\n");
        match (parse(&json, Form::Json), parse(&toml, Form::Toml)) {
            (Ok(one), Ok(two)) => prop_assert_eq!(one, two),
            (Err(one), Err(two)) => prop_assert_eq!(one.reason, two.reason),
            (one, two) => prop_assert!(false, "{one:?} {two:?}"),
        }
    }
}
