//! Nothing leaves without its record.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;

use crate::client::get;
use crate::origin::world;
use crate::world::HOST;

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_denies_until_it_can() {
    let (world, origin) = world().await;
    world.log.broken.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let answer = world.https(HOST, origin.port(), get("/")).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "AuditUnavailable"));
    }
    assert!(origin.requests().is_empty());
    world.log.broken.store(false, Ordering::SeqCst);
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, StatusCode::OK);
    assert_eq!(origin.requests().len(), 1);
    assert_eq!(world.log.records().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_log_is_waited_for_up_to_the_bound_and_then_denies() {
    let (world, origin) = world().await;
    world.log.hold(true);
    let answer = world.https(HOST, origin.port(), get("/")).await;
    assert_eq!(answer.code(), "AuditUnavailable");
    assert!(answer.json()["detail"].as_str().unwrap().contains("250 ms"), "{}", answer.text());
    assert!(origin.requests().is_empty());
    // Held up for less than the bound, the request goes through.
    let log = world.log.clone();
    log.hold(false);
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, StatusCode::OK);
    log.hold(true);
    let release = async {
        // Well below the bound, and long after the request has reached the writer or not: either is fine.
        tokio::time::sleep(Duration::from_millis(20)).await;
        log.hold(false);
    };
    let (answer, ()) = tokio::join!(world.https(HOST, origin.port(), get("/")), release);
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn class16_hostile_text_stays_within_its_record() {
    let (world, origin) = world().await;
    let hostile = "/a%0A%22%7D%0A{\"verdict\":\"allow\"}";
    let raw = format!(
        "GET {} HTTP/1.1\r\nHost: {HOST}:{}\r\nConnection: close\r\n\r\n",
        hostile.replace(['{', '}', '"'], "x"),
        origin.port()
    );
    let stream = world.tunnel(HOST, origin.port(), &[b"http/1.1"]).await;
    let answer = crate::client::raw(stream, raw.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    for line in world.log.text().lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["outcome"]["verdict"], "deny");
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_gone_denies() {
    let (world, origin) = world().await;
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, StatusCode::OK);
    world.stop_gateway().await;
    let answer = world.https(HOST, origin.port(), get("/")).await;
    assert_eq!(answer.code(), "GatewayUnavailable");
    assert_eq!(origin.requests().len(), 1);
}
