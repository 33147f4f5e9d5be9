//! The whole program but its control client, between an agent and the tenant's real gateway.

mod chain;
mod world;

use std::sync::atomic::Ordering;

use clawlock_control::client::{Receiver as _, Trust};
use clawlock_control::{HaltingRule, IsolationOutcome, PluginState, ToServer};
use clawlock_policy::envelope::SigningKey;
use tokio::io::AsyncReadExt as _;

use world::{Ca, DEADLINE, TENANT, World};

const OTHER: &str = "spiffe://acme.example/ns/acme/sa/default/pod/uid-2";

/// A pod that has everything.
async fn serving() -> World {
    let world = World::start().await;
    world.certify();
    world.name_canaries();
    world.assign();
    world.health("/readyz", "200").await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_may_start_only_after_identity_policy_and_proof() {
    let world = World::start().await;
    assert!(world.health("/startupz", "503").await.contains("no certificate yet"));
    assert!(world.ask("/").await.contains("NotIsolated"));
    world.certify();
    assert!(world.health("/startupz", "503").await.contains("no policy is assigned"));
    world.assign();
    // Certificate and policy are there; who must not be reachable was not said yet.
    assert!(world.health("/startupz", "503").await.contains("not proven"));
    let denied = world.ask("/").await;
    assert!(denied.starts_with("HTTP/1.1 403 ") && denied.contains("NotIsolated"), "{denied}");
    world.name_canaries();
    world.health("/startupz", "200").await;
    world.health("/readyz", "200").await;
    let allowed = world.ask("/").await;
    assert!(allowed.starts_with("HTTP/1.1 200 ") && allowed.ends_with("ok"), "{allowed}");
    assert!(world.log.text().contains("NotIsolated"), "refusals are recorded");
    assert!(world.probe("/metrics").await.contains("clawlock_isolation{phase=\"isolated\"} 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_from_outside_closes_the_proxy_and_its_open_streams_and_silence_heals() {
    let mut world = serving().await;
    let mut stream = world.open("/stream").await;
    let mut begun = [0; 512];
    let mut seen = Vec::new();
    while !seen.ends_with(b"begun\r\n") {
        let length = stream.read(&mut begun).await.unwrap();
        assert_ne!(length, 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&begun[..length]);
    }
    let somebody = world.breach().await;
    let end = tokio::time::timeout(DEADLINE, stream.read(&mut begun)).await.expect("the stream must end");
    assert!(end.is_err() || end.is_ok_and(|length| length == 0), "it goes on");
    let denied = world.ask("/").await;
    assert!(denied.starts_with("HTTP/1.1 403 ") && denied.contains("NotIsolated"), "{denied}");
    assert!(denied.contains("packets from this pod get out past its gateway"), "{denied}");
    world.health("/readyz", "503").await;
    drop(somebody);
    world.health("/readyz", "200").await;
    assert!(world.ask("/").await.ends_with("ok"));
    let (mut outcomes, mut plugins) = (Vec::new(), Vec::new());
    while let Ok(report) = world.reports.try_recv() {
        match report {
            ToServer::Isolation { outcome, .. } => outcomes.push(outcome),
            ToServer::Plugin { state, .. } => plugins.push(state),
            other => panic!("{other:?}"),
        }
    }
    assert!(outcomes.contains(&IsolationOutcome::Answered), "{outcomes:?}");
    assert!(plugins.contains(&PluginState::Awaited) && !plugins.contains(&PluginState::Reporting), "{plugins:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_meant_for_another_pod_is_refused() {
    let world = World::start().await;
    let refused = world.intake.identity(&world.ca.identity(OTHER), &world.trust()).unwrap_err();
    assert!(refused.contains(OTHER) && refused.contains(world.identity.as_str()), "{refused}");
    let (envelope, documents) = world.sign(world.identity.as_str(), TENANT);
    assert!(world.intake.assignment(&envelope, &documents).is_err(), "nobody is trusted yet");
    world.certify();
    for (identity, tenant) in [(OTHER, TENANT), (world.identity.as_str(), "umbrella")] {
        let (envelope, documents) = world.sign(identity, tenant);
        let refused = world.intake.assignment(&envelope, &documents).unwrap_err();
        assert!(refused.contains("but this pod is"), "{refused}");
    }
    assert!(world.health("/startupz", "503").await.contains("no policy is assigned"));
    let (envelope, documents) = world.sign(world.identity.as_str(), TENANT);
    let mut changed = envelope.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    assert!(world.intake.assignment(&changed, &documents).is_err());
    assert!(world.intake.assignment(&envelope, &documents[1..]).is_err(), "a document is missing");
    assert!(world.intake.assignment(&envelope, &documents).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_trusted_can_change_and_a_trust_that_cannot_be_used_changes_nothing() {
    let world = serving().await;
    let next = SigningKey::generate().unwrap();
    let both = Trust { keys: vec![world.key.public().clone(), next.public().clone()], ..world.trust() };
    let roots = vec![world.ca.root.clone(), Ca::new().root];
    assert_eq!(world.intake.trust(&Trust { roots, ..both }), Ok(()));
    assert_eq!(world.assign(), 2);
    assert!(world.ask("/").await.ends_with("ok"));
    let broken = Trust { roots: vec![b"nothing".to_vec().into()], ..world.trust() };
    assert!(world.intake.trust(&broken).is_err());
    assert!(world.ask("/").await.ends_with("ok"));
    let strangers = Trust { keys: vec![next.public().clone()], ..world.trust() };
    assert_eq!(world.intake.trust(&strangers), Ok(()));
    let (envelope, documents) = world.sign(world.identity.as_str(), TENANT);
    assert!(world.intake.assignment(&envelope, &documents).is_err(), "the old key signs no more");
    assert!(world.ask("/").await.ends_with("ok"), "what is in force stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_no_longer_assigned_anything_is_denied_until_it_is() {
    let world = serving().await;
    let other = clawlock_policy::SpiffeId::parse(OTHER).unwrap();
    world.intake.remove(&other);
    assert!(world.ask("/").await.ends_with("ok"));
    world.intake.remove(&world.identity);
    assert!(world.ask("/").await.contains("NoAssignment"));
    assert!(world.health("/readyz", "503").await.contains("no policy is assigned"));
    world.assign();
    assert!(world.ask("/").await.ends_with("ok"));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_agent_trusts_the_same_ca_and_waits_for_a_new_proof() {
    let mut world = serving().await;
    let read = |world: &World| std::fs::read_to_string(world.agent().join("ca.crt")).unwrap();
    let before = read(&world);
    assert!(before.starts_with("-----BEGIN CERTIFICATE-----"));
    world.restart().await;
    assert_eq!(read(&world), before);
    assert!(world.ask("/").await.contains("NotIsolated"));
    assert!(world.health("/startupz", "503").await.contains("no certificate yet"));
    world.certify();
    world.name_canaries();
    world.assign();
    world.health("/startupz", "200").await;
    assert!(world.ask("/").await.ends_with("ok"));
    assert!(world.folder.path().join("private").join("ca").join("ca.key").exists());
}

/// The next halt that is reported.
async fn reported(world: &mut World) -> ToServer {
    let report = async {
        loop {
            let report = world.reports.recv().await.unwrap();
            if matches!(report, ToServer::Halted { .. }) {
                return report;
            }
        }
    };
    tokio::time::timeout(DEADLINE, report).await.expect("no halt is reported")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_pod_stays_so_over_a_restart_until_the_operator_has_said_it_and_takes_it_back() {
    let mut world = serving().await;
    assert!(world.ask("/").await.ends_with("ok"));
    assert!(world.ask("/secret").await.contains("TierBlock"));
    let rule = HaltingRule { policy: "acme/support".to_owned(), name: "no-secret".to_owned() };
    for _ in 0..2 {
        assert!(world.ask("/").await.contains("\"rule\":\"no-secret\",\"code\":\"Halted\""));
        let ToServer::Halted { identity, reason, rule: named } = reported(&mut world).await else { unreachable!() };
        assert_eq!((identity.as_str(), named.as_ref()), (world.identity.as_str(), Some(&rule)));
        assert!(reason.contains("/secret"), "{reason}");
        world.restart().await;
        world.certify();
        world.name_canaries();
        world.assign();
        world.health("/startupz", "200").await;
    }
    world.halted.store(true, Ordering::SeqCst);
    world.assign();
    assert!(world.ask("/").await.contains("halted by acme/pod-uid-1"));
    world.restart().await;
    world.certify();
    world.name_canaries();
    world.assign();
    world.health("/readyz", "200").await;
    assert!(world.ask("/").await.contains("halted by acme/pod-uid-1"));
    world.halted.store(false, Ordering::SeqCst);
    world.assign();
    assert!(world.ask("/").await.ends_with("ok"));
}
