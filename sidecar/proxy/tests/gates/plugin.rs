//! The guard plugin's reports: language models are in reach only while it speaks, and what came of its calls is
//! recorded.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use clawlock_policy::document::{Document, MatchDoc, OnDeny, OperationDoc, Protocol, RuleDoc, Tier, UpstreamDoc};
use clawlock_proxy::limits::HEARTBEAT_MAX_AGE;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::client::{Answer, get};
use crate::origin::{Origin, full, pieces};
use crate::world::{HOST, TestCa, World, http_rule, loopback, policy, tenant, usual, vendor};

/// How long the end of an open stream is waited for: a look per second, and a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

fn max_age_ms() -> u64 {
    u64::try_from(HEARTBEAT_MAX_AGE.as_millis()).unwrap()
}

/// Asks the gate's own API.
pub(crate) async fn ask(world: &World, path: &str, body: &Value) -> Answer {
    world.ask(path, body.to_string()).await
}

/// The plugin reports itself.
pub(crate) async fn beat(world: &World, sequence: u64) -> StatusCode {
    let hooks = json!(["trusted_tool_policy", "before_tool_call", "before_agent_run", "after_tool_call"]);
    let process = "00112233445566778899aabbccddeeff";
    let body = json!({"version": 1, "plugin": "0.1.0", "process": process, "sequence": sequence, "hooks": hooks});
    ask(world, "/v1/heartbeat", &body).await.status
}

fn model(port: u16, ca: &TestCa) -> UpstreamDoc {
    let operation = |name: &str, path: &str| OperationDoc {
        name: name.to_owned(),
        method: "GET".to_owned(),
        path: path.to_owned(),
        category: None,
        arguments: Vec::new(),
    };
    let operations = vec![operation("root", "/"), operation("events", "/events")];
    UpstreamDoc { protocol: Protocol::Llm, operations, ..vendor(port, &ca.pem) }
}

async fn model_world() -> (World, Origin, TestCa) {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| Response::new(full("ok"))).await;
    let world = World::start(usual(model(origin.port(), &ca))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    (world, origin, ca)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_model_is_in_reach_only_while_the_plugin_speaks() {
    let (world, origin, _) = model_world().await;
    let before = world.https(HOST, origin.port(), get("/")).await;
    assert_eq!((before.status, before.code().as_str()), (StatusCode::FORBIDDEN, "PluginSilent"));
    assert!(before.json()["hint"].as_str().unwrap().contains("pluginOptional"));
    assert_eq!(beat(&world, 1).await, 200);
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, 200);
    world.clock.boot_ms.fetch_add(max_age_ms(), Ordering::SeqCst);
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, 200);
    world.clock.boot_ms.fetch_add(1, Ordering::SeqCst);
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.code(), "PluginSilent");
    // The wall clock has no say, and neither has a heartbeat that was heard before.
    world.clock.wall_ms.fetch_sub(60_000, Ordering::SeqCst);
    assert_eq!(beat(&world, 1).await, StatusCode::CONFLICT);
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.code(), "PluginSilent");
    assert_eq!(beat(&world, 2).await, 200);
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, 200);
    assert_eq!(origin.requests().len(), 3);
    let silent = |record: &&Value| record["outcome"]["code"] == "PluginSilent";
    assert_eq!(world.log.records().iter().filter(silent).count(), 3, "each refusal is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_upstreams_and_listed_pods_need_no_plugin() {
    let (world, origin, ca) = model_world().await;
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.code(), "PluginSilent");
    world.plugin_optional(Some("python"));
    world.install(usual(model(origin.port(), &ca)));
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, 200);
    world.plugin_optional(None);
    world.install(usual(model(origin.port(), &ca)));
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.code(), "PluginSilent");
    world.install(usual(vendor(origin.port(), &ca.pem)));
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_to_a_model_ends_when_the_plugin_goes_silent() {
    let ca = TestCa::new();
    let (sender, body) = pieces();
    let origin = Origin::once(&ca, HOST, Response::new(body)).await;
    let world = World::start(usual(model(origin.port(), &ca))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    assert_eq!(beat(&world, 1).await, 200);
    let mut http = world.sender(HOST, origin.port()).await;
    let mut request = get("/events");
    request.headers_mut().insert("host", format!("{HOST}:{}", origin.port()).parse().unwrap());
    let mut response = http.send_request(request).await.unwrap();
    sender.send(Bytes::from_static(b"one")).unwrap();
    assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    world.clock.boot_ms.fetch_add(max_age_ms() + 1, Ordering::SeqCst);
    let end = tokio::time::timeout(DEADLINE, response.frame()).await.expect("the stream must end");
    assert!(end.is_none_or(|frame| frame.is_err()));
}

fn tools() -> Vec<Document> {
    let rule = |name: &str, tool: &str, tier| RuleDoc {
        name: name.to_owned(),
        matches: MatchDoc::Tools(vec![tool.to_owned()]),
        when: None,
        schedule: None,
        tier,
        on_deny: OnDeny::Continue,
    };
    vec![tenant(), policy(vec![rule("shell", "exec", Tier::Auto), rule("no-write", "write", Tier::Block)])]
}

fn question(id: &str, tool: &str) -> Value {
    json!({"version": 1, "requestId": id, "tool": tool, "args": {}})
}

fn outcome(id: &str) -> Value {
    let hash = "0123456789abcdef".repeat(4);
    json!({"version": 1, "requestId": id, "durationMs": 12, "error": false, "resultSha256": hash})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_recorded_once_beside_its_decision_and_changes_none() {
    let world = World::start(tools()).await;
    assert_eq!(ask(&world, "/v1/decide", &question("a", "exec")).await.json()["decision"], "allow");
    assert_eq!(ask(&world, "/v1/decide", &question("b", "write")).await.json()["decision"], "deny");
    assert_eq!(ask(&world, "/v1/outcome", &outcome("a")).await.status, 200);
    for id in ["a", "b", "never-asked"] {
        let refused = ask(&world, "/v1/outcome", &outcome(id)).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{id}: {}", refused.text());
    }
    let records = world.log.records();
    assert_eq!(records.len(), 3);
    let [allowed, _, result] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((&result["requestId"], &result["action"]["type"]), (&allowed["requestId"], &json!("toolResult")));
    assert_eq!(result["action"]["tool"], "exec");
    assert_eq!((&result["action"]["durationMs"], &result["action"]["error"]), (&json!(12), &json!(false)));
    assert_eq!(result["action"]["resultSha256"], "0123456789abcdef".repeat(4));
    assert_eq!(result["outcome"], json!({"verdict": "reported", "generation": 1}));
    // The same call is answered as before.
    assert_eq!(ask(&world, "/v1/decide", &question("a", "exec")).await.json()["decision"], "allow");
    assert_eq!(ask(&world, "/v1/decide", &question("c", "write")).await.json()["decision"], "deny");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_could_not_be_recorded_can_be_sent_again() {
    let world = World::start(tools()).await;
    assert_eq!(ask(&world, "/v1/decide", &question("a", "exec")).await.json()["decision"], "allow");
    world.log.broken.store(true, Ordering::SeqCst);
    assert_eq!(ask(&world, "/v1/outcome", &outcome("a")).await.status, StatusCode::SERVICE_UNAVAILABLE);
    world.log.broken.store(false, Ordering::SeqCst);
    assert_eq!(ask(&world, "/v1/outcome", &outcome("a")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_small_and_strict() {
    let world = World::start(vec![tenant(), policy(vec![http_rule("none", "vendor", &[], &[], Tier::Block)])]).await;
    for path in ["/v1/heartbeat", "/v1/outcome"] {
        let large = json!({"version": 1, "plugin": "x".repeat(5000)});
        assert_eq!(ask(&world, path, &large).await.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        for body in [json!({}), json!([]), json!(null), json!({"version": 1})] {
            assert_eq!(ask(&world, path, &body).await.status, StatusCode::BAD_REQUEST, "{path} {body}");
        }
    }
    assert_eq!(ask(&world, "/v1/heartbeats", &json!({})).await.status, StatusCode::NOT_FOUND);
    assert_eq!(ask(&world, "/v1/heartbeat?x=1", &json!({})).await.status, StatusCode::NOT_FOUND);
    assert!(world.log.records().is_empty());
}
