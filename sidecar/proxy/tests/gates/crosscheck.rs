//! The cross-check over real connections: an agent that obeys works on, one that does not is halted at its
//! next request to a model.

use std::time::Duration;

use bytes::Bytes;
use clawlock_policy::document::{
    CredentialDoc, Document, MatchDoc, OnDeny, OperationDoc, Protocol, RuleDoc, Tier, UpstreamDoc,
};
use clawlock_proxy::body::GateBody;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::client::{Answer, get, post};
use crate::origin::{Origin, full, pieces};
use crate::plugin::{ask, beat};
use crate::world::{HOST, TestCa, World, http_rule, loopback, policy, tenant, vendor};

/// How long the end of an open stream is waited for.
const DEADLINE: Duration = Duration::from_secs(30);

const CHAT: &str = "/v1/chat/completions";

fn tool(name: &str, tool: &str, when: Option<&str>, tier: Tier) -> RuleDoc {
    let matches = MatchDoc::Tools(vec![tool.to_owned()]);
    RuleDoc {
        name: name.to_owned(),
        matches,
        when: when.map(ToOwned::to_owned),
        schedule: None,
        tier,
        on_deny: OnDeny::Continue,
    }
}

fn documents(port: u16, ca: &TestCa) -> Vec<Document> {
    let operation = |name: &str, path: &str| OperationDoc {
        name: name.to_owned(),
        method: "POST".to_owned(),
        path: path.to_owned(),
        category: None,
        arguments: Vec::new(),
    };
    let model = UpstreamDoc {
        protocol: Protocol::Llm,
        operations: vec![
            operation("embed", "/v1/embeddings"),
            operation("deployment", "/openai/deployments/{name}/chat/completions"),
        ],
        ..vendor(port, &ca.pem)
    };
    let rules = vec![
        http_rule("model", "vendor", &[], &["/**"], Tier::Auto),
        tool("no-rm", "exec", Some("args.command.startsWith('rm')"), Tier::Block),
        tool("exec", "exec", None, Tier::Auto),
    ];
    vec![tenant(), policy(rules), Document::Upstream(model)]
}

/// The same without a credential: what could be an echo of one is held back on its way.
fn without_credential(mut documents: Vec<Document>) -> Vec<Document> {
    for document in &mut documents {
        if let Document::Upstream(upstream) = document {
            upstream.credential = CredentialDoc::None {};
        }
    }
    documents
}

/// The scripted model: it asks for what the last user message says, `ID COMMAND`.
fn script(body: &Bytes) -> Response<crate::origin::OriginBody> {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = request["messages"].as_array().and_then(|messages| messages.iter().rfind(|m| m["role"] == "user"));
    let said = said.and_then(|message| message["content"].as_str()).unwrap_or_default();
    let Some((id, command)) = said.split_once(' ') else {
        return Response::builder().header("content-type", "application/json").body(full("{}")).unwrap();
    };
    let arguments = json!({ "command": command }).to_string();
    let call = json!({"index": 0, "id": id, "type": "function", "function": {"name": "exec", "arguments": arguments}});
    let (kind, body) = if request["stream"] == true {
        let delta = json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": null}]});
        let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]});
        ("text/event-stream", format!("data: {delta}\n\ndata: {end}\n\ndata: [DONE]\n\n"))
    } else {
        ("application/json", json!({"choices": [{"message": {"tool_calls": [call]}}]}).to_string())
    };
    Response::builder().header("content-type", kind).body(full(body)).unwrap()
}

async fn world() -> (World, Origin, TestCa) {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, body| script(&body)).await;
    let world = World::start(documents(origin.port(), &ca)).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    assert_eq!(beat(&world, 1).await, 200);
    (world, origin, ca)
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

/// A call of the history and its result.
fn called(id: &str, command: &str, result: &str) -> [Value; 2] {
    let function = json!({"name": "exec", "arguments": json!({ "command": command }).to_string()});
    let calls = json!([{"id": id, "type": "function", "function": function}]);
    [
        json!({"role": "assistant", "content": null, "tool_calls": calls}),
        json!({"role": "tool", "tool_call_id": id, "content": result}),
    ]
}

impl World {
    async fn model(&self, origin: &Origin, messages: &[Value]) -> Answer {
        let body = json!({"model": "m", "stream": true, "messages": messages}).to_string();
        self.https(HOST, origin.port(), post(CHAT, &body)).await
    }

    async fn decide_call(&self, id: &str, command: &str) -> Value {
        let args = json!({ "command": command });
        let body = json!({"version": 1, "requestId": format!("r-{id}-{command}").replace(' ', "-"), "tool": "exec", "args": args, "callId": id});
        ask(self, "/v1/decide", &body).await.json()
    }

    fn codes(&self) -> Vec<String> {
        let code = |record: &Value| record["outcome"]["code"].as_str().map(ToOwned::to_owned);
        self.log.records().iter().filter_map(code).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_obeys_works_on() {
    let (world, origin, _) = world().await;
    assert_eq!(world.model(&origin, &[user("call_1 ls")]).await.status, 200);
    assert_eq!(world.decide_call("call_1", "ls").await["decision"], "allow");
    let mut history = vec![user("call_1 ls")];
    history.extend(called("call_1", "ls", "files"));
    history.push(user("call_2 rm -rf x"));
    assert_eq!(world.model(&origin, &history).await.status, 200);
    let blocked = world.decide_call("call_2", "rm -rf x").await;
    assert_eq!(blocked["decision"], "deny");
    let message = blocked["message"].as_str().unwrap();
    assert!(message.contains("no-rm"), "{message}");
    history.extend(called("call_2", "rm -rf x", message));
    // What the user stops is never decided.
    history.push(user("call_3 sleep"));
    assert_eq!(world.model(&origin, &history).await.status, 200);
    history.extend(called("call_3", "sleep", "aborted"));
    history.push(user("thanks"));
    assert_eq!(world.model(&origin, &history).await.status, 200);
    assert_eq!(origin.requests().len(), 4);
    assert!(origin.requests().iter().all(|seen| seen.headers[header::ACCEPT_ENCODING] == "identity"));
    assert_eq!(world.codes(), ["TierBlock"]);
    let metrics = world.metrics.text();
    for judged in ["allowed", "denial", "notice"] {
        assert!(metrics.contains(&format!("tool_results_total{{judged=\"{judged}\"}}")), "{metrics}");
    }
}

async fn is_halted(world: &World, origin: &Origin, why: &str) {
    let (status, _) = world.connect(&format!("{HOST}:{}", origin.port())).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let decided = world.decide_call("later", "ls").await;
    assert_eq!((&decided["decision"], &decided["code"]), (&"deny".into(), &"Disobeyed".into()));
    assert!(decided["detail"].as_str().unwrap().contains(why), "{decided}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_was_never_decided_halts_the_agent() {
    for stream in [true, false] {
        let (world, origin, _) = world().await;
        let ask = json!({"stream": stream, "messages": [user("call_1 ls")]}).to_string();
        assert_eq!(world.https(HOST, origin.port(), post(CHAT, &ask)).await.status, 200);
        let mut history = vec![user("call_1 ls")];
        history.extend(called("call_1", "ls", "files"));
        let refused = world.model(&origin, &history).await;
        assert_eq!((refused.status, refused.code().as_str()), (StatusCode::FORBIDDEN, "Disobeyed"));
        assert!(refused.json()["detail"].as_str().unwrap().contains("call_1"), "{}", refused.text());
        is_halted(&world, &origin, "call_1").await;
        // What came before the result may have gone on: nothing waits for the whole body.
        let came = |seen: &str| origin.requests().iter().any(|one| String::from_utf8_lossy(&one.body).contains(seen));
        assert!(came("call_1 ls") && !came("files"), "the result got no further");
        assert!(world.metrics.text().contains("tool_results_total{judged=\"disobeyed\"} 1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_call_with_another_result_halts_the_agent_and_ends_its_streams() {
    let ca = TestCa::new();
    let (sender, body) = pieces();
    let body = std::sync::Mutex::new(Some(body));
    let origin = Origin::tls(&ca, HOST, move |request, bytes| {
        if request.uri().path() == "/v1/embeddings" {
            return Response::new(body.lock().unwrap().take().unwrap());
        }
        script(&bytes)
    })
    .await;
    let world = World::start(documents(origin.port(), &ca)).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    assert_eq!(beat(&world, 1).await, 200);
    let mut http = world.sender(HOST, origin.port()).await;
    let mut request = post("/v1/embeddings", "{}");
    request.headers_mut().insert("host", format!("{HOST}:{}", origin.port()).parse().unwrap());
    let mut open = http.send_request(request).await.unwrap();
    sender.send(Bytes::from_static(b"one")).unwrap();
    assert_eq!(open.frame().await.unwrap().unwrap().into_data().unwrap(), "one");

    assert_eq!(world.model(&origin, &[user("call_1 rm x")]).await.status, 200);
    let denial = world.decide_call("call_1", "rm x").await;
    let mut history = vec![user("call_1 rm x")];
    history.extend(called("call_1", "rm x", &format!("{} but it worked", denial["message"].as_str().unwrap())));
    assert_eq!(world.model(&origin, &history).await.code(), "Disobeyed");
    let end = tokio::time::timeout(DEADLINE, open.frame()).await.expect("the stream must end");
    assert!(end.is_none_or(|frame| frame.is_err()));
    is_halted(&world, &origin, "blocked").await;
    // One record of what happened, and one of each refusal since: CONNECT and the tool call.
    let of_request = |record: &&Value| record["outcome"]["code"] == "Disobeyed" && record["action"]["path"] == CHAT;
    let recorded = async {
        while world.codes().len() < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, recorded).await.expect("all is recorded");
    assert_eq!(world.codes().iter().filter(|code| *code == "Disobeyed").count(), 3);
    let records = world.log.records();
    let [record] = *records.iter().filter(of_request).collect::<Vec<_>>() else { panic!("{records:?}") };
    assert_eq!(record["action"]["upstream"], "vendor");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused_and_halts_nobody() {
    let (world, origin, _) = world().await;
    let port = origin.port();
    for (body, why) in [
        (r#"{"messages":[],"messages":[]}"#.to_owned(), "twice"),
        (r#"{"messages":[{"role":"user","content":"\ud800"}]}"#.to_owned(), "surrogate"),
        ("{\"messages\":\"\0\"}".to_owned(), "control character"),
        (format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100)), "64 deep"),
        ("{".to_owned(), "ends too early"),
        (String::new(), "ends too early"),
    ] {
        let refused = world.https(HOST, port, post(CHAT, &body)).await;
        assert_eq!(refused.code(), "BadRequest", "{body:.60}");
        assert!(refused.json()["detail"].as_str().unwrap().contains(why), "{}", refused.text());
    }
    let mut compressed = post(CHAT, "{}");
    compressed.headers_mut().insert(header::CONTENT_ENCODING, "zstd".parse().unwrap());
    assert_eq!(world.https(HOST, port, compressed).await.code(), "BadRequest");
    let mut accepts = post(CHAT, &json!({"messages": [user("call_9 ls")]}).to_string());
    accepts.headers_mut().insert(header::ACCEPT_ENCODING, "zstd, gzip".parse().unwrap());
    assert_eq!(world.https(HOST, port, accepts).await.status, 200);
    assert_eq!(origin.requests().last().unwrap().headers[header::ACCEPT_ENCODING], "identity");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_endpoints_need_an_operation_and_those_below_a_prefix_are_read() {
    let (world, origin, _) = world().await;
    let port = origin.port();
    for refused in [
        get("/v1/models"),
        get(CHAT),
        post("/v1/chat/completions/x", "{}"),
        post("/V1/chat/completions", "{}"),
        post("/v1/conversations/c/items", "{}"),
        post("/v1/batches", "{}"),
    ] {
        let path = refused.uri().path().to_owned();
        assert_eq!(world.https(HOST, port, refused).await.code(), "EndpointRefused", "{path}");
    }
    let handshake = Request::builder()
        .uri("/v1/realtime")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(GateBody::empty())
        .unwrap();
    assert_eq!(world.https(HOST, port, handshake).await.code(), "EndpointRefused");
    assert!(origin.requests().is_empty());
    assert_eq!(world.https(HOST, port, post("/v1/embeddings", "any")).await.status, 200);
    let deployment = "/openai/deployments/gpt/chat/completions";
    let ask = json!({"stream": true, "messages": [user("call_1 ls")]}).to_string();
    assert_eq!(world.https(HOST, port, post(deployment, &ask)).await.status, 200);
    let mut history = vec![user("call_1 ls")];
    history.extend(called("call_1", "ls", "files"));
    let body = json!({ "messages": history }).to_string();
    assert_eq!(world.https(HOST, port, post(deployment, &body)).await.code(), "Disobeyed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_pod_is_not_compared() {
    let (world, origin, ca) = world().await;
    world.plugin_optional(Some("python"));
    world.install(documents(origin.port(), &ca));
    assert_eq!(world.model(&origin, &[user("call_1 ls")]).await.status, 200);
    let mut history = vec![user("call_1 ls")];
    history.extend(called("call_1", "ls", "files"));
    assert_eq!(world.model(&origin, &history).await.status, 200);
    assert_eq!(world.https(HOST, origin.port(), get("/v1/models")).await.code(), "EndpointRefused");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_cannot_be_read_do_not_reach_the_agent() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |request, _| {
        let builder = match request.headers()["x-case"].to_str().unwrap() {
            "coded" => {
                Response::builder().header("content-encoding", "gzip").header("content-type", "application/json")
            }
            "text" => Response::builder().header("content-type", "text/plain"),
            "error" => Response::builder().status(429).header("content-type", "text/plain"),
            _ => Response::builder().header("content-type", "text/event-stream; charset=utf-8"),
        };
        builder.body(full("data: {\"choices\":[],\"choices\":[]}\n\n")).unwrap()
    })
    .await;
    let world = World::start(without_credential(documents(origin.port(), &ca))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    assert_eq!(beat(&world, 1).await, 200);
    let request = |case: &str| {
        let mut request = post(CHAT, "{}");
        request.headers_mut().insert("x-case", case.parse().unwrap());
        request.headers_mut().insert("host", format!("{HOST}:{}", origin.port()).parse().unwrap());
        request
    };
    for case in ["coded", "text"] {
        assert_eq!(world.https(HOST, origin.port(), request(case)).await.code(), "UpstreamResponse", "{case}");
    }
    assert_eq!(world.https(HOST, origin.port(), request("error")).await.status, 429);
    let mut http = world.sender(HOST, origin.port()).await;
    // Perhaps before its head is out.
    if let Ok(answer) = http.send_request(request("twice")).await {
        assert!(answer.into_body().collect().await.is_err(), "it breaks off");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_answer_arrives_piece_by_piece() {
    let ca = TestCa::new();
    let (sender, body) = pieces();
    let events = Response::builder().header("content-type", "text/event-stream").body(body).unwrap();
    let origin = Origin::once(&ca, HOST, events).await;
    let world = World::start(without_credential(documents(origin.port(), &ca))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    assert_eq!(beat(&world, 1).await, 200);
    let mut http = world.sender(HOST, origin.port()).await;
    let mut request = post(CHAT, "{\"stream\":true,\"messages\":[]}");
    request.headers_mut().insert("host", format!("{HOST}:{}", origin.port()).parse().unwrap());
    let mut answer = http.send_request(request).await.unwrap();
    // Half an event is enough for it to go on.
    for piece in ["data: {\"choices\":[{\"delta\":{\"con", "tent\":\"a\"}}]}\n\n", "data: [DONE]\n\n"] {
        sender.send(Bytes::from_static(piece.as_bytes())).unwrap();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), piece);
    }
    drop(sender);
    assert!(answer.frame().await.is_none());
}
