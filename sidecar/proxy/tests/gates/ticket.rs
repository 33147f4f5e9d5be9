//! Assignments are tickets: they end, they are not replayed, and no clock brings them back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use clawlock_policy::document::{Day, Document, RuleDoc, ScheduleDoc, Tier, WindowDoc};
use clawlock_proxy::policies::InstallError;
use http::Response;
use http_body_util::BodyExt;

use crate::client::get;
use crate::origin::{Origin, full, pieces};
use crate::world::{HOST, TestCa, World, http_rule, loopback, policy, tenant, usual, vendor};

const HOUR_MS: u64 = 3_600_000;

async fn world() -> (World, Origin, TestCa) {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |_, _| Response::new(full("ok"))).await;
    let world = World::start(usual(vendor(origin.port(), &ca.pem))).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    (world, origin, ca)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_generation_is_refused_and_the_newer_stays() {
    let (world, origin, ca) = world().await;
    let old = world.sign(usual(vendor(origin.port(), &ca.pem)), 12 * HOUR_MS);
    let block = vec![http_rule("none", "vendor", &[], &[], Tier::Block)];
    world.install(vec![tenant(), policy(block), Document::Upstream(vendor(origin.port(), &ca.pem))]);
    assert!(matches!(world.install_signed(&old), Err(InstallError::Older { .. })));
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.code(), "TierBlock");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_assignment_denies_and_no_clock_revives_it() {
    let (world, origin, ca) = world().await;
    world.install_signed(&world.sign(usual(vendor(origin.port(), &ca.pem)), HOUR_MS)).unwrap();
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, 200);
    // An hour passes; both clocks know.
    world.clock.wall_ms.fetch_add(HOUR_MS, Ordering::SeqCst);
    world.clock.boot_ms.fetch_add(HOUR_MS, Ordering::SeqCst);
    assert_eq!(world.connect(&format!("{HOST}:{}", origin.port())).await.0, 403);
    assert_eq!(world.log.records().pop().unwrap()["outcome"]["code"], "AssignmentExpired");
    // The wall clock is set back two days.
    world.clock.wall_ms.fetch_sub(48 * HOUR_MS, Ordering::SeqCst);
    assert_eq!(world.connect(&format!("{HOST}:{}", origin.port())).await.0, 403);
    // Nor does the dead ticket come back when it is offered again.
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_stands_still_does_not_stretch_a_ticket() {
    let (world, origin, ca) = world().await;
    world.install_signed(&world.sign(usual(vendor(origin.port(), &ca.pem)), HOUR_MS)).unwrap();
    world.clock.boot_ms.fetch_add(HOUR_MS + 1, Ordering::SeqCst);
    assert_eq!(world.connect(&format!("{HOST}:{}", origin.port())).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_has_ended_is_not_installed() {
    let (world, origin, ca) = world().await;
    let signed = world.sign(usual(vendor(origin.port(), &ca.pem)), HOUR_MS);
    world.clock.wall_ms.fetch_add(2 * HOUR_MS, Ordering::SeqCst);
    assert!(matches!(world.install_signed(&signed), Err(InstallError::Expired { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn class24_a_signature_of_another_key_or_none_is_refused() {
    let (world, origin, ca) = world().await;
    let documents = usual(vendor(origin.port(), &ca.pem));
    let (assignment, docs) = world.sign(documents.clone(), HOUR_MS);
    let stranger = World::start(documents).await;
    assert!(matches!(stranger.install_signed(&(assignment.clone(), docs.clone())), Err(InstallError::Envelope(_))));
    // A document in the assignment's place, and the other way round.
    assert!(world.install_signed(&(docs[0].clone(), docs.clone())).is_err());
    assert!(world.install_signed(&(assignment.clone(), vec![assignment.clone()])).is_err());
    // One document missing, one changed.
    assert!(world.install_signed(&(assignment.clone(), docs[1..].to_vec())).is_err());
    let mut changed = docs.clone();
    let last = changed[0].len() / 2;
    changed[0][last] ^= 1;
    assert!(world.install_signed(&(assignment.clone(), changed)).is_err());
    for cut in [0, 1, assignment.len() / 2, assignment.len() - 1] {
        assert!(world.install_signed(&(assignment[..cut].to_vec(), docs.clone())).is_err());
    }
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, 200, "what was in force stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_was_removed_is_refused_by_the_gateway() {
    let (world, origin, _) = world().await;
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, 200);
    world.gateway_table.remove(&world.identity);
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.code(), "NoAssignment");
    assert_eq!(origin.requests().len(), 1);
}

/// The clock of the tests starts on Friday, 2027-01-15 at 08:00 UTC.
#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_is_closed_denies_and_ends_open_streams() {
    let ca = TestCa::new();
    let (sender, body) = pieces();
    let origin = Origin::once(&ca, HOST, Response::new(body)).await;
    let window = WindowDoc { days: vec![Day::Fri], from: "08:00".to_owned(), to: "09:00".to_owned() };
    let schedule = ScheduleDoc { time_zone: "UTC".to_owned(), windows: vec![window], excluded_dates: Vec::new() };
    let rule = RuleDoc { schedule: Some(schedule), ..http_rule("hours", "vendor", &[], &[], Tier::Auto) };
    let world =
        World::start(vec![tenant(), policy(vec![rule]), Document::Upstream(vendor(origin.port(), &ca.pem))]).await;
    world.names.set(HOST, vec![vec![loopback()]]);
    for table in [world.agent_table.clone(), world.gateway_table.clone()] {
        tokio::spawn(async move { table.watch_expiry().await });
    }
    let mut http = world.sender(HOST, origin.port()).await;
    let mut request = get("/events");
    request.headers_mut().insert("host", format!("{HOST}:{}", origin.port()).parse().unwrap());
    let mut response = http.send_request(request).await.unwrap();
    sender.send(Bytes::from_static(b"one")).unwrap();
    assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    world.clock.wall_ms.fetch_add(HOUR_MS, Ordering::SeqCst);
    world.clock.boot_ms.fetch_add(HOUR_MS, Ordering::SeqCst);
    let end = tokio::time::timeout(Duration::from_secs(10), response.frame()).await.expect("the stream must end");
    assert!(end.is_none_or(|frame| frame.is_err()));
    let denied = world.https(HOST, origin.port(), get("/")).await;
    assert_eq!(denied.code(), "NoMatch");
    assert!(denied.text().contains("holds at other times only"), "{}", denied.text());
}
