//! An edit of the policy is in force at once, on open streams too.

use std::time::Duration;

use bytes::Bytes;
use clawlock_policy::document::{Document, HaltDoc, Tier};
use http::Response;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::get;
use crate::origin::{Origin, full, pieces, websocket};
use crate::world::{HOST, TestCa, World, http_rule, loopback, policy, tenant, usual, vendor};

const DEADLINE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn an_open_event_stream_ends_when_it_is_no_longer_allowed_and_goes_on_when_it_is() {
    let ca = TestCa::new();
    let (sender, body) = pieces();
    let origin = Origin::once(&ca, HOST, Response::new(body)).await;
    let documents = usual(vendor(origin.port(), &ca.pem));
    let world = World::start(documents.clone()).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let mut http = world.sender(HOST, origin.port()).await;
    let mut request = get("/events");
    request.headers_mut().insert("host", format!("{HOST}:{}", origin.port()).parse().unwrap());
    let mut response = http.send_request(request).await.unwrap();
    sender.send(Bytes::from_static(b"one")).unwrap();
    assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    // An edit that still allows it changes nothing.
    world.install(documents);
    sender.send(Bytes::from_static(b"two")).unwrap();
    assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), "two");
    // One that does not ends it, although nothing moves on it.
    let rules = vec![http_rule("none", "vendor", &[], &[], Tier::Block)];
    world.install(vec![tenant(), policy(rules), Document::Upstream(vendor(origin.port(), &ca.pem))]);
    let end = tokio::time::timeout(DEADLINE, response.frame()).await.expect("the stream must end");
    assert!(end.is_none_or(|frame| frame.is_err()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_websocket_ends_when_the_agent_is_halted() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |mut request, _| {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
            stream.write_all(b"hello").await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        });
        websocket(&request).body(full("")).unwrap()
    })
    .await;
    let documents = usual(vendor(origin.port(), &ca.pem));
    let world = World::start(documents.clone()).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let mut http = world.sender(HOST, origin.port()).await;
    let mut request = get("/socket");
    for (name, value) in
        [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]
    {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request.headers_mut().insert("host", format!("{HOST}:{}", origin.port()).parse().unwrap());
    let response = http.send_request(request).await.unwrap();
    assert_eq!(response.status(), 101);
    let mut stream = hyper_util::rt::TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut hello = [0; 5];
    stream.read_exact(&mut hello).await.unwrap();
    let mut halted = documents.clone();
    halted.push(Document::Halt(HaltDoc { name: "acme/inc-42".to_owned(), reason: "INC-42".to_owned(), cause: None }));
    world.install(halted);
    let mut rest = Vec::new();
    let end = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("the tunnel must end");
    assert!(end.is_err() || rest.is_empty());
    let answer = world.https(HOST, origin.port(), get("/")).await;
    assert_eq!(answer.code(), "Halted");
    assert!(answer.json()["detail"].as_str().unwrap().contains("INC-42"));
    world.install(documents);
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, 502, "the server speaks only WebSocket");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_for_its_upstream_ends_too() {
    let ca = TestCa::new();
    // A server that takes the connection and never answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (accepted, was_accepted) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let stream = listener.accept().await.unwrap();
        accepted.send(()).unwrap();
        std::future::pending::<()>().await;
        drop(stream);
    });
    let world = World::start(usual(vendor(port, &ca.pem))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let asking = world.https(HOST, port, get("/"));
    let change = async {
        was_accepted.await.unwrap();
        let rules = vec![http_rule("none", "vendor", &[], &[], Tier::Block)];
        world.install(vec![tenant(), policy(rules), Document::Upstream(vendor(port, &ca.pem))]);
    };
    let (answer, ()) = tokio::time::timeout(DEADLINE, async { tokio::join!(asking, change) }).await.unwrap();
    assert_eq!(answer.status, 403);
}

/// The slowest of 200 edits, from the installation to the first decision by it, is printed; the bound
/// itself is a figure of the benchmark.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_edits_each_decide_the_next_request() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| Response::new(full("ok"))).await;
    let allow = usual(vendor(origin.port(), &ca.pem));
    let rules = vec![http_rule("none", "vendor", &[], &[], Tier::Block)];
    let block = vec![tenant(), policy(rules), Document::Upstream(vendor(origin.port(), &ca.pem))];
    let world = World::start(allow.clone()).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    let mut http = world.sender(HOST, origin.port()).await;
    let mut slowest = Duration::ZERO;
    for n in 0..200 {
        http.ready().await.unwrap();
        let started = std::time::Instant::now();
        world.install(if n % 2 == 0 { block.clone() } else { allow.clone() });
        let mut request = get("/");
        request.headers_mut().insert("host", format!("{HOST}:{}", origin.port()).parse().unwrap());
        let answer = crate::client::Answer::of(http.send_request(request).await.unwrap()).await;
        slowest = slowest.max(started.elapsed());
        assert_eq!(answer.status, if n % 2 == 0 { 403 } else { 200 }, "edit {n}");
    }
    println!("slowest of 200 edits, from installation to the first answer by it: {slowest:?}");
}
