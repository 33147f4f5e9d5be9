//! Limits: what has no room is refused with the time until it has, and nothing of it reaches the upstream.

use std::sync::atomic::Ordering;

use clawlock_policy::document::{
    Document, LimitDoc, LimitScope, MatchDoc, Mode, PolicyDoc, RuleDoc, Tier, UpstreamDoc,
};
use clawlock_proxy::body::GateBody;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::client::get;
use crate::origin::{Origin, full};
use crate::world::{HOST, TestCa, World, http_rule, loopback, tenant, vendor};

fn limited(upstream: UpstreamDoc, requests: u32) -> Vec<Document> {
    let exec =
        RuleDoc { matches: MatchDoc::Tools(vec!["exec".to_owned()]), ..http_rule("exec", "", &[], &[], Tier::Auto) };
    let limit = LimitDoc {
        name: "all".to_owned(),
        scope: LimitScope::Agent,
        matches: None,
        requests,
        interval_ms: 60_000,
        burst: requests,
    };
    let policy = PolicyDoc {
        name: "acme/support".to_owned(),
        mode: Mode::Enforce,
        rules: vec![http_rule("vendor", "vendor", &[], &["/open/**"], Tier::Auto), exec],
        residency: None,
        limits: vec![limit],
    };
    vec![tenant(), Document::Policy(policy), Document::Upstream(upstream)]
}

async fn call(world: &World, id: &str) -> Value {
    let body = json!({"version": 1, "requestId": id, "tool": "exec", "args": {}});
    world.ask("/v1/decide", body.to_string()).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_and_requests_share_the_room_of_a_limit() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| Response::new(full("ok"))).await;
    let world = World::start(limited(vendor(origin.port(), &ca.pem), 3)).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let port = origin.port();
    // What is denied takes no room.
    for _ in 0..5 {
        assert_eq!(world.https(HOST, port, get("/closed")).await.code(), "NoMatch");
    }
    assert_eq!(call(&world, "1").await["decision"], "allow");
    // A repeated question is answered from memory.
    assert_eq!(call(&world, "1").await["decision"], "allow");
    assert_eq!(world.https(HOST, port, get("/open/a")).await.status, 200);
    assert_eq!(world.https(HOST, port, get("/open/b")).await.status, 200);
    let full = world.https(HOST, port, get("/open/c")).await;
    assert_eq!((full.status, &*full.code()), (StatusCode::TOO_MANY_REQUESTS, "RateLimited"));
    assert_eq!(full.headers.get("retry-after").unwrap(), "20");
    let problem = full.json();
    assert_eq!(
        (&problem["rule"], &problem["retryable"], &problem["retryAfter"]),
        (&json!("all"), &json!(true), &json!(20))
    );
    let refused = call(&world, "2").await;
    assert_eq!((&refused["code"], &refused["retryAfter"]), (&json!("RateLimited"), &json!(20)));
    assert_eq!(origin.requests().len(), 2);
    // It is retryable, so the same question is decided anew.
    world.clock.wall_ms.fetch_add(20_000, Ordering::SeqCst);
    world.clock.boot_ms.fetch_add(20_000, Ordering::SeqCst);
    assert_eq!(call(&world, "2").await["decision"], "allow");
    assert_eq!(world.https(HOST, port, get("/open/d")).await.code(), "RateLimited");
    // An edit of the limit holds at once.
    world.install(limited(vendor(port, &ca.pem), 1000));
    assert_eq!(world.https(HOST, port, get("/open/e")).await.status, 200);
}

/// A hop that the agent's gate did not count is counted by the gateway.
#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_counts_too() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| Response::new(full("ok"))).await;
    let world = World::start(limited(vendor(origin.port(), &ca.pem), 1000)).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    // The gateway has the narrow limit already, the agent's gate still the wide one.
    let narrow = world.sign(limited(vendor(origin.port(), &ca.pem), 1), 3_600_000);
    world.gateway_table.install(&narrow.0, &narrow.1).unwrap();
    assert_eq!(world.https(HOST, origin.port(), get("/open/a")).await.status, 200);
    assert_eq!(world.https(HOST, origin.port(), get("/open/b")).await.code(), "RateLimited");
    assert_eq!(origin.requests().len(), 1);
}

/// What audit mode lets pass is counted, by code, and its record names the rule that would have refused.
#[tokio::test(flavor = "multi_thread")]
async fn what_audit_mode_lets_pass_is_counted_and_recorded() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| Response::new(full("ok"))).await;
    let mut documents = limited(vendor(origin.port(), &ca.pem), 1000);
    for document in &mut documents {
        match document {
            Document::Tenant(doc) => {
                doc.allowed_modes = vec![Mode::Enforce, Mode::Audit];
                doc.audit_until_ms = Some(u64::MAX);
            }
            Document::Policy(doc) => {
                doc.mode = Mode::Audit;
                doc.rules.insert(0, http_rule("no-put", "vendor", &["PUT"], &[], Tier::Block));
            }
            _ => {}
        }
    }
    let world = World::start(documents).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let put = Request::builder().method("PUT").uri("/open/a").body(GateBody::full("")).unwrap();
    assert_eq!(world.https(HOST, origin.port(), put).await.status, 200);
    assert_eq!(world.https(HOST, origin.port(), get("/closed")).await.status, 200);
    assert_eq!(world.https(HOST, origin.port(), get("/open/a")).await.status, 200);
    let credentials: Vec<bool> =
        origin.requests().iter().map(|request| request.headers.contains_key("authorization")).collect();
    assert_eq!(credentials, [false, false, true], "no credential where Enforce would deny");
    let text = world.metrics.text();
    for (code, count) in [("TierBlock", 1), ("NoMatch", 1)] {
        for gate in ["agent", "gateway"] {
            let counted = gate == "gateway";
            let line = format!("clawlock_shadow_denials_total{{gate=\"{gate}\",code=\"{code}\"}} {count}");
            assert_eq!(text.contains(&line), counted, "{line}\n{text}");
        }
    }
    let shadows: Vec<Value> = world
        .log
        .records()
        .iter()
        .map(|record| {
            let outcome = &record["outcome"];
            json!([outcome["shadow"], outcome["shadowPolicy"], outcome["shadowRule"]])
        })
        .collect();
    assert_eq!(
        shadows,
        [json!(["TierBlock", "acme/support", "no-put"]), json!(["NoMatch", null, null]), json!([null, null, null])]
    );
    // A host that nobody declared is refused in audit mode too, and recorded.
    assert_eq!(world.connect("undeclared.test:443").await.0, 403);
    assert_eq!(world.log.records().pop().unwrap()["outcome"]["code"], "UnknownUpstream");
}

/// What the agent says reaches the rules, and only tightens.
#[tokio::test(flavor = "multi_thread")]
async fn rules_hear_what_the_agent_says_of_a_call() {
    let mut documents = limited(vendor(443, ""), 1000);
    if let Document::Policy(doc) = &mut documents[1] {
        let tool = MatchDoc::Tools(vec!["exec".to_owned()]);
        let guests = http_rule("guests", "", &[], &[], Tier::Block);
        let when = Some("requester.id == 'guest' || run.id == 'r' || model.name == 'm'".to_owned());
        doc.rules.insert(0, RuleDoc { matches: tool, when, ..guests });
    }
    documents.pop();
    let world = World::start(documents).await;
    let said = async |id: &str, requester: &str, run: &str, model: &str| {
        let body = json!({"version": 1, "requestId": id, "tool": "exec", "args": {}, "requester": requester, "run": run,
            "model": model});
        let answer = world.ask("/v1/decide", body.to_string()).await.json();
        answer["code"].as_str().unwrap_or("allowed").to_owned()
    };
    assert_eq!(said("1", "boss", "x", "y").await, "allowed");
    assert_eq!(said("2", "guest", "x", "y").await, "TierBlock");
    assert_eq!(said("3", "boss", "r", "y").await, "TierBlock");
    assert_eq!(said("4", "boss", "x", "m").await, "TierBlock");
    assert_eq!(call(&world, "5").await["code"], "ConditionError");
}
