//! What passes, and how: CONNECT and absolute form, HTTP/1.1 and HTTP/2, streams both ways.

use bytes::Bytes;
use clawlock_policy::document::{
    ArgumentDoc, ArgumentType, CredentialDoc, MatchDoc, OnDeny, OperationDoc, RuleDoc, Scheme, Tier,
};
use clawlock_proxy::body::GateBody;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;

use crate::client::{Answer, get, post};
use crate::origin::{Origin, full, pieces, websocket};
use crate::world::{CANARY, HOST, TestCa, World, http_rule, loopback, policy, tenant, usual, vendor};

async fn vendor_world() -> (World, Origin) {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, body| Response::new(full(body))).await;
    let world = World::start(usual(vendor(origin.port(), &ca.pem))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    (world, origin)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_request_arrives_with_the_credential_and_one_record() {
    let (world, origin) = vendor_world().await;
    let answer = world.https(HOST, origin.port(), post("/v1/refunds?expand=charge", r#"{"amount":1}"#)).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, r#"{"amount":1}"#));
    let seen = origin.requests();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].method.as_str(), seen[0].body.as_ref()), ("POST", br#"{"amount":1}"#.as_slice()));
    assert!(seen[0].uri.ends_with("/v1/refunds?expand=charge"), "{}", seen[0].uri);
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {CANARY}"));
    assert!(seen[0].headers.keys().all(|name| !name.as_str().starts_with("clawlock")));
    let records = world.log.records();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["outcome"]["verdict"], "allow");
    assert_eq!(records[0]["outcome"]["rule"], "vendor");
    assert_eq!(records[0]["outcome"]["policy"], "acme/support");
    assert_eq!(records[0]["gate"], "gateway");
    assert_eq!(records[0]["tenant"], "acme");
    assert_eq!(records[0]["action"]["path"], "/v1/refunds");
    assert!(!world.log.text().contains(CANARY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_request_gets_the_rule_s_name_and_does_not_arrive() {
    let (world, origin) = vendor_world().await;
    let request = Request::builder().method("DELETE").uri("/v1/charges/1").body(GateBody::empty()).unwrap();
    let answer = world.https(HOST, origin.port(), request).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let problem = answer.json();
    assert_eq!(problem["code"], "TierBlock");
    assert_eq!(problem["rule"], "no-delete");
    assert_eq!(problem["policy"], "acme/support");
    assert!(origin.requests().is_empty());
    let records = world.log.records();
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0]["gate"], &records[0]["outcome"]["verdict"]), (&"agent".into(), &"deny".into()));
    assert_eq!(records[0]["requestId"], problem["requestId"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_passes_through_interception() {
    let (world, origin) = vendor_world().await;
    let mut sender = world.sender2(HOST, origin.port()).await;
    let uri = format!("https://{HOST}:{}/v1/charges", origin.port());
    let answer = Answer::of(sender.send_request(get(&uri)).await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(origin.requests()[0].headers["authorization"], format!("Bearer {CANARY}"));
    // A second authority on the same connection is another upstream's business.
    let other = Answer::of(sender.send_request(get("https://evil.test/v1/charges")).await.unwrap()).await;
    assert_eq!(other.code(), "AuthorityMismatch");
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_in_clear_is_reached_by_absolute_form_and_through_connect() {
    let origin = Origin::plain(|_, _| Response::new(full("plain"))).await;
    let mut doc = vendor(origin.port(), "");
    doc.scheme = Scheme::Http;
    doc.ca_pem = None;
    doc.credential = CredentialDoc::None {};
    let world = World::start(usual(doc)).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let uri = format!("http://{HOST}:{}/x", origin.port());
    let mut request = get(&uri);
    request.headers_mut().insert("host", format!("{HOST}:{}", origin.port()).parse().unwrap());
    assert_eq!(world.absolute(request).await.text(), "plain");

    let (status, tcp) = world.connect(&format!("{HOST}:{}", origin.port())).await;
    assert_eq!(status, 200);
    let mut sender = crate::client::http1_sender(tcp).await;
    let mut request = get("/y");
    request.headers_mut().insert("host", format!("{HOST}:{}", origin.port()).parse().unwrap());
    assert_eq!(Answer::of(sender.send_request(request).await.unwrap()).await.text(), "plain");
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_hosts_and_ports_are_refused_at_connect() {
    let (world, origin) = vendor_world().await;
    for authority in
        ["evil.test:443", &format!("{HOST}:{}", origin.port().wrapping_add(1)), "127.0.0.1:443", "[::1]:443"]
    {
        assert_eq!(world.connect(authority).await.0, 403, "{authority}");
    }
    let records = world.log.records();
    assert_eq!(records.len(), 4);
    assert!(records.iter().all(|record| record["outcome"]["code"] == "UnknownUpstream"), "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_as_they_are_sent() {
    let ca = TestCa::new();
    let (sender, body) = pieces();
    let events = Response::builder().header("content-type", "text/event-stream").body(body).unwrap();
    let origin = Origin::once(&ca, HOST, events).await;
    let world = World::start(usual(vendor(origin.port(), &ca.pem))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let mut http = world.sender(HOST, origin.port()).await;
    let mut request = get("/events");
    request.headers_mut().insert("host", format!("{HOST}:{}", origin.port()).parse().unwrap());
    let mut response = http.send_request(request).await.unwrap();
    for n in 0..3 {
        let event = format!("data: {n}\n\n");
        sender.send(Bytes::from(event.clone())).unwrap();
        // Each event must come while the stream is open: the origin sends the next only after it.
        let frame = response.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, event);
    }
    drop(sender);
    assert!(response.frame().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_both_ways_without_being_held() {
    let (world, origin) = vendor_world().await;
    let body = vec![b'x'; 8 << 20];
    let request = Request::builder().method("POST").uri("/upload").body(GateBody::full(body.clone())).unwrap();
    let answer = world.https(HOST, origin.port(), request).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(answer.body.len(), body.len());
}

fn refund_world_documents(port: u16, pem: &str) -> Vec<clawlock_policy::document::Document> {
    let mut upstream = vendor(port, pem);
    upstream.operations = vec![OperationDoc {
        name: "create_refund".to_owned(),
        method: "POST".to_owned(),
        path: "/v1/refunds".to_owned(),
        category: None,
        arguments: vec![ArgumentDoc { name: "amount".to_owned(), kind: ArgumentType::Integer }],
    }];
    let refund = RuleDoc {
        name: "small-refund".to_owned(),
        matches: MatchDoc::Operations(vec!["vendor.create_refund".to_owned()]),
        when: Some("args.amount <= 100".to_owned()),
        schedule: None,
        tier: Tier::Auto,
        on_deny: OnDeny::Continue,
    };
    vec![tenant(), policy(vec![refund]), clawlock_policy::document::Document::Upstream(upstream)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_reads_the_body_and_what_was_read_is_what_arrives() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, body| Response::new(full(body))).await;
    let world = World::start(refund_world_documents(origin.port(), &ca.pem)).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let port = origin.port();
    assert_eq!(world.https(HOST, port, post("/v1/refunds", r#"{"amount":100}"#)).await.status, 200);
    assert_eq!(origin.requests()[0].body, r#"{"amount":100}"#);
    for refused in [
        r#"{"amount":101}"#,
        r#"{"amount":"1"}"#,
        r#"{"Amount":1}"#,
        r#"{"amount":1,"amount":101}"#,
        r#"{"amount":1,"\u0061mount":101}"#,
        r#"{"amount":1}{"amount":101}"#,
        r#"[{"amount":1}]"#,
        r#"{"amount":1"#,
        "{}",
        "",
    ] {
        let answer = world.https(HOST, port, post("/v1/refunds", refused)).await;
        assert_eq!(answer.status, 403, "class13 {refused}: {}", answer.text());
    }
    // The same argument in query and body has two readings.
    assert_eq!(world.https(HOST, port, post("/v1/refunds?amount=1", r#"{"amount":101}"#)).await.status, 403);
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_a_rule_must_read_is_bounded() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, body| Response::new(full(body))).await;
    let world = World::start(refund_world_documents(origin.port(), &ca.pem)).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let huge = format!(r#"{{"amount":1,"note":"{}"}}"#, "x".repeat(10 << 20));
    let answer = world.https(HOST, origin.port(), post("/v1/refunds", &huge)).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "BodyTooLarge"));
    assert!(origin.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_passes_and_its_bytes_flow_both_ways() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |mut request, _| {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
            let mut buffer = [0; 1024];
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                stream.write_all(&buffer[..n]).await.unwrap();
            }
        });
        websocket(&request).body(full("")).unwrap()
    })
    .await;
    let world = World::start(usual(vendor(origin.port(), &ca.pem))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let mut http = world.sender(HOST, origin.port()).await;
    let request = Request::builder()
        .uri("/socket")
        .header("host", format!("{HOST}:{}", origin.port()))
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat, openai-insecure-api-key.sk-foreign")
        .body(GateBody::empty())
        .unwrap();
    let response = http.send_request(request).await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let mut stream = hyper_util::rt::TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ping");
    let seen = origin.requests();
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {CANARY}"));
    // The key of the agent's handshake is answered by the agent's gate; the upstream gets another one.
    assert_ne!(seen[0].headers["sec-websocket-key"], "dGhlIHNhbXBsZSBub25jZQ==");
    assert!(!format!("{:?}", seen[0].headers).contains("sk-foreign"));
    // What the server says of our credential is hidden here, too.
    stream.write_all(format!("echo {CANARY} end").as_bytes()).await.unwrap();
    let mut echo = vec![0; 5 + CANARY.len() + 4];
    stream.read_exact(&mut echo).await.unwrap();
    assert!(!String::from_utf8(echo.clone()).unwrap().contains(CANARY));
    assert!(echo.ends_with(b" end"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_policy_and_no_match_deny() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| Response::new(full(""))).await;
    let upstream = clawlock_policy::document::Document::Upstream(vendor(origin.port(), &ca.pem));
    let world = World::start(vec![tenant(), upstream.clone()]).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.code(), "NoPolicy");
    let rules = vec![http_rule("docs", "vendor", &["GET"], &["/docs/**"], Tier::Auto)];
    world.install(vec![tenant(), upstream, policy(rules)]);
    assert_eq!(world.https(HOST, origin.port(), get("/other")).await.code(), "NoMatch");
    assert_eq!(world.https(HOST, origin.port(), get("/docs/a")).await.status, 200);
    assert_eq!(origin.requests().len(), 1);
}
