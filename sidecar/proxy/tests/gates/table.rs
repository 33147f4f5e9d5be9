//! The policy table: whom it trusts, when it is closed, who is taken out of it.

use clawlock_policy::Code;
use clawlock_policy::envelope::{SigningKey, TrustedKeys};
use clawlock_proxy::denial;
use clawlock_proxy::policies::{InstallError, PolicyTable};

use crate::client::get;
use crate::origin::world;
use crate::world::{HOST, World, tenant};

const VALID_MS: u64 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_replaced_and_what_is_in_force_stays() {
    let world = World::start(vec![tenant()]).await;
    let table = &world.gateway_table;
    let other = SigningKey::generate().unwrap();
    table.trust(TrustedKeys::new([other.public().clone()]));
    assert!(table.has(&world.identity));
    let next = world.sign(vec![tenant()], VALID_MS);
    assert!(matches!(table.install(&next.0, &next.1), Err(InstallError::Envelope(_))));
    assert!(table.has(&world.identity));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_gate_denies_everything_and_opens_again() {
    let (world, origin) = world().await;
    assert_eq!(world.https(HOST, origin.port(), get("/")).await.status, 200);
    world.agent_table.close(denial::of(Code::NotIsolated, "somebody answered".to_owned()));
    assert_eq!(world.connect(&format!("{HOST}:{}", origin.port())).await.0, 403);
    let denial = world.agent_table.active(&world.identity).unwrap_err();
    assert_eq!((denial.code, denial.detail.as_str()), (Code::NotIsolated, "somebody answered"));
    assert!(world.log.text().contains("NotIsolated"), "refusals are recorded");
    // Policy that comes meanwhile does not open it.
    let next = world.sign(vec![tenant()], VALID_MS);
    world.agent_table.install(&next.0, &next.1).unwrap();
    assert!(!world.agent_table.has(&world.identity));
    world.agent_table.open();
    assert!(world.agent_table.has(&world.identity));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_assignments_are_refused_where_the_tenant_is_known() {
    let world = World::start(vec![tenant()]).await;
    let signed = world.sign(vec![tenant()], VALID_MS);
    let table = |tenant: &str| PolicyTable::new(world.trusted(), world.clock.clone()).of_tenant(tenant);
    assert!(matches!(table("other").install(&signed.0, &signed.1), Err(InstallError::Tenant { .. })));
    assert!(table("acme").install(&signed.0, &signed.1).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_the_end_of_an_identity_hears_of_it_once_it_was_there() {
    let world = World::start(vec![tenant()]).await;
    let table = PolicyTable::new(world.trusted(), world.clock.clone());
    let signed = world.sign(vec![tenant()], VALID_MS);
    let mut gone = std::pin::pin!(table.gone(&world.identity));
    let mut is_gone = async || {
        tokio::select! {
            biased;
            () = gone.as_mut() => true,
            () = std::future::ready(()) => false,
        }
    };
    assert!(!is_gone().await, "it has not been there yet");
    table.remove(&world.identity);
    assert!(!is_gone().await);
    table.install(&signed.0, &signed.1).unwrap();
    assert!(!is_gone().await);
    assert_eq!(table.identities(), std::slice::from_ref(&world.identity));
    table.withdraw(&world.identity);
    assert!(is_gone().await);
    // What was withdrawn may come again as it was; what was removed may not.
    table.install(&signed.0, &signed.1).unwrap();
    table.remove(&world.identity);
    assert!(matches!(table.install(&signed.0, &signed.1), Err(InstallError::Removed { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_ticket_makes_no_stream_decide_again() {
    let world = World::start(vec![tenant()]).await;
    let table = PolicyTable::new(world.trusted(), world.clock.clone());
    let signed = world.sign(vec![tenant()], VALID_MS);
    table.install(&signed.0, &signed.1).unwrap();
    let mut epoch = table.epoch();
    epoch.mark_unchanged();
    table.install(&signed.0, &signed.1).unwrap();
    assert!(!epoch.has_changed().unwrap());
    let next = world.sign(vec![tenant()], VALID_MS);
    table.install(&next.0, &next.1).unwrap();
    assert!(epoch.has_changed().unwrap());
}
