//! A rule with `onDeny: Halt`: after its refusal nothing of the pod passes either gate, until the assignment has said so
//! and says it no more.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clawlock_policy::document::{CauseDoc, Document, HaltDoc, MatchDoc, OnDeny, RuleDoc, Tier};
use clawlock_policy::{Cause, Code, SpiffeId};
use clawlock_proxy::latch::{FILE, Halt};
use clawlock_proxy::policies::PolicyTable;
use http::Response;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::client::{Answer, get};
use crate::origin::{Origin, full, pieces};
use crate::plugin::ask;
use crate::world::{HOST, TestCa, World, http_rule, loopback, policy, tenant, vendor};

/// How long the end of an open stream is waited for.
const DEADLINE: Duration = Duration::from_secs(30);

fn tool(name: &str, tool: &str, tier: Tier) -> RuleDoc {
    let matches = MatchDoc::Tools(vec![tool.to_owned()]);
    RuleDoc { name: name.to_owned(), matches, when: None, schedule: None, tier, on_deny: OnDeny::Continue }
}

fn halting(rule: RuleDoc) -> RuleDoc {
    RuleDoc { on_deny: OnDeny::Halt, ..rule }
}

/// The agent may run `exec` and do everything at the vendor but delete. `rm` and `/secret` halt it.
fn documents(port: u16, ca: &TestCa) -> Vec<Document> {
    let rules = vec![
        halting(tool("no-rm", "rm", Tier::Block)),
        tool("no-write", "write", Tier::Block),
        tool("exec", "exec", Tier::Auto),
        halting(http_rule("no-secret", "vendor", &[], &["/secret"], Tier::Block)),
        http_rule("no-delete", "vendor", &["DELETE"], &[], Tier::Block),
        http_rule("vendor", "vendor", &[], &["/**"], Tier::Auto),
    ];
    vec![tenant(), policy(rules), Document::Upstream(vendor(port, &ca.pem))]
}

/// What the operator makes of a halt.
fn object(rule: &str) -> Document {
    let cause = Some(CauseDoc::Denial { policy: "acme/support".to_owned(), rule: rule.to_owned() });
    Document::Halt(HaltDoc { name: "acme/pod-uid-1".to_owned(), reason: "why".to_owned(), cause })
}

async fn world() -> (World, Origin, TestCa) {
    let ca = TestCa::new();
    // One that would like to halt agents.
    let forge = |_, _| Response::builder().header("clawlock-halt", "{\"detail\":\"x\"}").body(full("ok")).unwrap();
    let origin = Origin::tls(&ca, HOST, forge).await;
    let world = World::start(documents(origin.port(), &ca)).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    (world, origin, ca)
}

impl World {
    async fn tool(&self, id: &str, tool: &str, run: &str) -> Value {
        let body = json!({"version": 1, "requestId": id, "tool": tool, "args": {}, "run": run, "requester": run});
        ask(self, "/v1/decide", &body).await.json()
    }

    async fn fetch(&self, origin: &Origin, path: &str) -> Answer {
        self.https(HOST, origin.port(), get(path)).await
    }

    /// Nothing passes, and each refusal names the rule.
    async fn is_halted(&self, origin: &Origin, rule: &str) {
        // A sibling, a subagent, a forged run: whoever it is.
        for (id, run) in [("h1", "main"), ("h2", "subagent-7"), ("h3", "somebody-else")] {
            let decided = self.tool(id, "exec", run).await;
            assert_eq!((&decided["decision"], &decided["code"]), (&"deny".into(), &"Halted".into()), "{decided}");
            assert_eq!((&decided["policy"], &decided["rule"]), (&"acme/support".into(), &rule.into()), "{decided}");
            assert!(decided["message"].as_str().unwrap().contains("a person must"), "{decided}");
        }
        // Once the assignment says it, the tunnel is opened, and nothing passes in it.
        let (status, _) = self.connect(&format!("{HOST}:{}", origin.port())).await;
        let latched = !told(&self.agent_table).is_empty();
        assert_eq!(status, if latched { 403 } else { 200 });
        if !latched {
            assert_eq!(self.fetch(origin, "/").await.json()["rule"], rule);
        }
    }

    async fn works(&self, origin: &Origin, id: &str) {
        assert_eq!(self.tool(id, "exec", "main").await["decision"], "allow");
        assert_eq!(self.fetch(origin, "/").await.status, 200);
    }
}

fn told(table: &PolicyTable) -> Vec<(SpiffeId, Arc<Halt>)> {
    table.halts()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_call_that_halts_ends_everything_of_its_pod() {
    let ca = TestCa::new();
    let (sender, body) = pieces();
    let origin = Origin::once(&ca, HOST, Response::new(body)).await;
    let world = World::start(documents(origin.port(), &ca)).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let mut http = world.sender(HOST, origin.port()).await;
    let mut request = get("/events");
    request.headers_mut().insert("host", format!("{HOST}:{}", origin.port()).parse().unwrap());
    let mut open = http.send_request(request).await.unwrap();
    sender.send(Bytes::from_static(b"one")).unwrap();
    assert_eq!(open.frame().await.unwrap().unwrap().into_data().unwrap(), "one");

    assert_eq!(world.tool("a", "exec", "main").await["decision"], "allow");
    let blocked = world.tool("b", "write", "main").await;
    assert_eq!(blocked["code"], "TierBlock");
    assert!(told(&world.agent_table).is_empty(), "a rule without onDeny halts nobody");
    let blocked = world.tool("c", "rm", "main").await;
    assert_eq!((&blocked["code"], &blocked["rule"]), (&"TierBlock".into(), &"no-rm".into()));
    assert!(blocked["hint"].as_str().unwrap().contains("halted"), "{blocked}");
    let end = tokio::time::timeout(DEADLINE, open.frame()).await.expect("the stream must end");
    assert!(end.is_none_or(|frame| frame.is_err()));
    world.is_halted(&origin, "no-rm").await;
    let again = world.tool("a", "exec", "main").await;
    assert_eq!(again["code"], "Halted", "an answer of before counts no more");
    let [(pod, halt)] = &*told(&world.agent_table) else { panic!("one pod is halted") };
    assert_eq!(*pod, world.identity);
    assert!(matches!(&halt.cause, Cause::Denial(rule) if &*rule.rule == "no-rm" && rule.digest.starts_with("sha256:")));
    assert_eq!(halt.detail, "tool rm is blocked by rule no-rm of policy acme/support");
    // Each refusal is recorded with the rule that it goes back to.
    let halted = |record: &&Value| record["outcome"]["code"] == "Halted";
    assert!(world.log.records().iter().filter(halted).all(|record| record["outcome"]["rule"] == "no-rm"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_ends_when_its_object_was_there_and_is_deleted() {
    let (world, origin, ca) = world().await;
    let usual = || documents(origin.port(), &ca);
    world.works(&origin, "a").await;
    let refused = world.fetch(&origin, "/secret").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (403, "TierBlock"));
    world.is_halted(&origin, "no-secret").await;
    assert!(told(&world.gateway_table).is_empty(), "the gateway was not asked");

    // Neither another edit, nor one that takes the rule away, nor a person's halt resumes it.
    world.install(usual());
    world.install(vec![tenant(), policy(vec![tool("exec", "exec", Tier::Auto)])]);
    let person = HaltDoc { name: "acme/inc-42".to_owned(), reason: "INC-42".to_owned(), cause: None };
    world.install([usual(), vec![Document::Halt(person)]].concat());
    world.install(usual());
    world.agent_table.close(clawlock_proxy::denial::of(Code::NotIsolated, "closed".to_owned()));
    world.agent_table.open();
    world.agent_table.withdraw(&world.identity);
    world.install(usual());
    world.is_halted(&origin, "no-secret").await;

    world.install([usual(), vec![object("no-secret")]].concat());
    assert!(told(&world.agent_table).is_empty(), "the assignment says it");
    world.is_halted(&origin, "no-secret").await;
    world.install(usual());
    world.works(&origin, "b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_refuses_halts_at_both_gates() {
    let (world, origin, ca) = world().await;
    // The agent's gate has an older policy.
    let old = vec![
        tenant(),
        policy(vec![tool("exec", "exec", Tier::Auto), http_rule("all", "vendor", &[], &["/**"], Tier::Auto)]),
        Document::Upstream(vendor(origin.port(), &ca.pem)),
    ];
    let (assignment, signed) = world.sign(old, 1_000_000);
    world.agent_table.install(&assignment, &signed).unwrap();
    let answer = world.fetch(&origin, "/").await;
    assert_eq!(answer.status, 200);
    assert!(told(&world.agent_table).is_empty(), "an upstream halts nobody");
    let refused = world.fetch(&origin, "/secret").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (403, "Halted"));
    assert_eq!(refused.json()["rule"], "no-secret");
    for table in [&world.gateway_table, &world.agent_table] {
        let [(pod, halt)] = &*told(table) else { panic!("one pod is halted") };
        assert_eq!(*pod, world.identity);
        assert!(matches!(&halt.cause, Cause::Denial(rule) if &*rule.rule == "no-secret"), "{halt:?}");
    }
    world.is_halted(&origin, "no-secret").await;
    world.install([documents(origin.port(), &ca), vec![object("no-secret")]].concat());
    assert!(told(&world.gateway_table).is_empty() && told(&world.agent_table).is_empty());
    world.install(documents(origin.port(), &ca));
    world.works(&origin, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_gate_that_missed_the_answer_hears_of_it_with_the_next() {
    let (world, origin, _) = world().await;
    let detail = "as if an answer had been lost".to_owned();
    world.gateway_table.halt(&world.identity, Halt { cause: Cause::Disobedience, detail: detail.clone() });
    assert!(told(&world.agent_table).is_empty());
    assert_eq!(world.fetch(&origin, "/").await.code(), "Disobeyed");
    let [(_, halt)] = &*told(&world.agent_table) else { panic!("one pod is halted") };
    assert_eq!(halt.detail, detail);
    assert_eq!(world.tool("a", "exec", "main").await["code"], "Disobeyed");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_pod_goes_on_and_a_pod_that_is_gone_leaves_nothing() {
    let (world, origin, _) = world().await;
    let other = SpiffeId::of_pod("acme.example", "acme", "default", "uid-2").unwrap();
    let halt = || Halt { cause: Cause::Disobedience, detail: "x".to_owned() };
    for table in [&world.gateway_table, &world.agent_table] {
        table.halt(&other, halt());
        assert_eq!(table.active(&other).unwrap_err().code, Code::Disobeyed);
    }
    world.works(&origin, "a").await;
    world.gateway_table.remove(&other);
    assert!(told(&world.gateway_table).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_outlives_the_process_of_the_agents_gate() {
    let (world, origin, ca) = world().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    world.agent_table.keep_halt(file.clone(), &world.identity).unwrap();
    assert_eq!(world.tool("a", "rm", "main").await["code"], "TierBlock");
    let usual = || world.sign(documents(origin.port(), &ca), 1_000_000);
    let start = || {
        let table = PolicyTable::new(world.trusted(), world.clock.clone());
        table.keep_halt(file.clone(), &world.identity).unwrap();
        table
    };
    let again = start();
    let (assignment, signed) = usual();
    again.install(&assignment, &signed).unwrap();
    let denial = again.active(&world.identity).unwrap_err();
    assert_eq!((denial.code, &*denial.rule.unwrap().rule), (Code::Halted, "no-rm"));
    assert_eq!(told(&again), told(&world.agent_table), "the operator is asked again");
    let (assignment, signed) = world.sign([documents(origin.port(), &ca), vec![object("no-rm")]].concat(), 1_000_000);
    again.install(&assignment, &signed).unwrap();
    assert!(!file.exists() && told(&start()).is_empty(), "now the assignment says it, to whoever starts");
    // Whoever decided by the policy of before comes too late to halt it once more.
    again.halt(&world.identity, Halt { cause: Cause::Disobedience, detail: "late".to_owned() });
    assert!(told(&again).is_empty() && !file.exists());
}
