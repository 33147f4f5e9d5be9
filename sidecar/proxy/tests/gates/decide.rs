//! `/v1/decide` over a real connection.

use clawlock_policy::document::{Document, FileAccess, ManifestDoc, MatchDoc, OnDeny, RoleDoc, RuleDoc, Tier};
use http::StatusCode;
use serde_json::{Value, json};

use crate::client::Answer;
use crate::world::{World, policy, tenant};

fn tool(name: &str, tool: &str, when: Option<&str>, tier: Tier) -> RuleDoc {
    RuleDoc {
        name: name.to_owned(),
        matches: MatchDoc::Tools(vec![tool.to_owned()]),
        when: when.map(ToOwned::to_owned),
        schedule: None,
        tier,
        on_deny: OnDeny::Continue,
    }
}

async fn world() -> World {
    let rules = vec![
        tool("no-rm", "exec", Some("args.command.startsWith('rm ')"), Tier::Block),
        tool("exec", "exec", None, Tier::Auto),
        tool("ask-write", "write", None, Tier::Ask),
    ];
    World::start(vec![tenant(), policy(rules)]).await
}

async fn ask(world: &World, body: String) -> Answer {
    world.ask("/v1/decide", body).await
}

fn question(id: &str, tool: &str, args: &Value) -> String {
    json!({"version": 1, "requestId": id, "tool": tool, "args": args}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_are_allowed_blocked_and_unknown_ones_denied() {
    let world = world().await;
    let allowed = ask(&world, question("1", "exec", &json!({"command": "ls"}))).await.json();
    assert_eq!((&allowed["decision"], &allowed["rule"]), (&"allow".into(), &"exec".into()));
    let blocked = ask(&world, question("2", "exec", &json!({"command": "rm -rf /"}))).await.json();
    assert_eq!((&blocked["decision"], &blocked["rule"]), (&"deny".into(), &"no-rm".into()));
    assert_eq!(blocked["code"], "TierBlock");
    let message = blocked["message"].as_str().unwrap();
    assert!(message.contains("rule no-rm") && message.ends_with('.') && !message.contains('\n'), "{message}");
    assert!(message.contains(blocked["hint"].as_str().unwrap()) && allowed.get("message").is_none(), "{message}");
    let asked = ask(&world, question("3", "write", &json!({}))).await.json();
    assert_eq!((&asked["decision"], &asked["code"]), (&"deny".into(), &"ApprovalUnavailable".into()));
    let unknown = ask(&world, question("4", "browser", &json!({}))).await.json();
    assert_eq!((&unknown["decision"], &unknown["code"]), (&"deny".into(), &"NoMatch".into()));
    // The condition cannot be evaluated: the Block counts.
    let failing = ask(&world, question("5", "exec", &json!({"cmd": "ls"}))).await.json();
    assert_eq!((&failing["decision"], &failing["code"]), (&"deny".into(), &"ConditionError".into()));
    let records = world.log.records();
    let verdicts: Vec<&str> = records.iter().map(|r| r["outcome"]["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["allow", "deny", "ask", "deny", "deny"]);
    assert!(!world.log.text().contains("rm -rf"), "arguments are not recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_gets_the_same_answer_and_no_second_record() {
    let world = world().await;
    let body = question("same", "exec", &json!({"command": "ls"}));
    let first = ask(&world, body.clone()).await;
    let second = ask(&world, body.clone()).await;
    assert_eq!(first.body, second.body);
    assert_eq!(world.log.records().len(), 1);
    let other = ask(&world, question("same", "exec", &json!({"command": "pwd"}))).await;
    assert_eq!(other.status, StatusCode::CONFLICT);
    // A new policy is asked anew.
    world.install(vec![tenant(), policy(vec![tool("none", "exec", None, Tier::Block)])]);
    assert_eq!(ask(&world, body).await.json()["decision"], "deny");
}

/// What policy allows, a manifest and the role of a run narrow; a role opens nothing.
#[tokio::test(flavor = "multi_thread")]
async fn manifest_and_role_only_narrow() {
    let manifest = Document::Manifest(ManifestDoc {
        name: "acme/support".to_owned(),
        tools: vec!["exec".to_owned(), "pg_readonly".to_owned()],
        hosts: Vec::new(),
        files: FileAccess::Write,
        programs: true,
        roles: vec![RoleDoc { name: "viewer".to_owned(), tools: vec!["pg_readonly".to_owned()] }],
    });
    let world = World::start(vec![tenant(), policy(vec![tool("exec", "exec", None, Tier::Auto)]), manifest]).await;
    let question = |id: &str, tool: &str, role: Option<&str>| {
        let mut question = json!({"version": 1, "requestId": id, "tool": tool, "args": {}});
        if let Some(role) = role {
            question["role"] = role.into();
        }
        question.to_string()
    };
    let mut answers = Vec::new();
    for (id, tool, role) in [
        ("1", "exec", None),
        ("2", "exec", Some("viewer")),
        ("3", "exec", Some("admin")),
        ("4", "write", None),
        ("5", "pg_readonly", Some("viewer")),
    ] {
        let answer = ask(&world, question(id, tool, role)).await.json();
        answers.push((answer["decision"].as_str().unwrap().to_owned(), answer["rule"].as_str().map(str::to_owned)));
    }
    let denied = |rule: &str| ("deny".to_owned(), Some(rule.to_owned()));
    let expected = [
        ("allow".to_owned(), Some("exec".to_owned())),
        denied("roles"),
        denied("roles"),
        denied("tool_scope"),
        ("deny".to_owned(), None),
    ];
    assert_eq!(answers, expected);
    let records = world.log.records();
    assert_eq!(records[1]["outcome"]["code"], "NotDeclared");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_named_and_bounded() {
    let world = world().await;
    let huge = question("big", "exec", &json!({"command": "x".repeat(10 << 20)}));
    assert_eq!(ask(&world, huge).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let duplicate = r#"{"version":1,"requestId":"d","tool":"exec","args":{"command":"ls","command":"rm -rf /"}}"#;
    assert_eq!(ask(&world, duplicate.to_owned()).await.json()["decision"], "deny", "class13");
    let deep = format!(
        r#"{{"version":1,"requestId":"e","tool":"exec","args":{{"command":{}1{}}}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let deep = ask(&world, deep).await;
    assert!(deep.status == StatusCode::BAD_REQUEST || deep.json()["decision"] == "deny");
    for garbage in ["", "{", "null", "[]", "\0", "{\"version\":1}\n{\"version\":1}"] {
        let answer = ask(&world, garbage.to_owned()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{garbage:?}");
    }
}
