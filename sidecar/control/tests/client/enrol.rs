//! Certificates: proof, refusals, renewal.

use std::sync::Arc;
use std::time::Duration;

use clawlock_control::client::{EnrolError, enrol};
use clawlock_control::{Encoded, ToClient};
use http::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::server::{Authority, Control, TENANT, Who, pod};
use crate::world::{Client, Nowhere, TOKEN, To};

fn to(control: &Control) -> To {
    To(Arc::new(std::sync::Mutex::new(control.address)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_gets_a_certificate_for_a_key_of_ours() {
    let control = Control::start().await;
    let (_, identity) = pod("uid-1");
    control.admit(TOKEN, Who::agent(&identity));
    let (first, trust) = enrol(&to(&control), TENANT, &control.anchor.der, TOKEN).await.unwrap();
    let (second, _) = enrol(&to(&control), TENANT, &control.anchor.der, TOKEN).await.unwrap();
    assert_eq!(trust.roots, std::slice::from_ref(&control.tenant.der));
    assert_eq!(trust.keys, std::slice::from_ref(control.key.public()));
    assert_eq!(first.chain.len(), 1);
    assert_ne!(first.key.secret_der(), second.key.secret_der(), "each certificate has a key of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_why() {
    let control = Control::start().await;
    let refused = enrol(&to(&control), TENANT, &control.anchor.der, "another").await;
    assert_eq!(refused.err().unwrap().to_string(), "no certificate was issued: TokenRefused: the test says so");
    control.refuse(Some((StatusCode::TOO_MANY_REQUESTS, "TooMany")));
    let refused = enrol(&to(&control), TENANT, &control.anchor.der, TOKEN).await.err().unwrap();
    assert!(matches!(refused, EnrolError::Refused(problem) if problem.code == "TooMany"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_goes_to_nobody_but_the_control_api_of_the_anchor() {
    let control = Control::start().await;
    let (_, identity) = pod("uid-1");
    control.admit(TOKEN, Who::agent(&identity));
    let stranger = Authority::new();
    assert!(matches!(enrol(&to(&control), TENANT, &stranger.der, TOKEN).await, Err(EnrolError::Connect(_))));
    // The right anchor, but a server that is the control API of another tenant.
    assert!(matches!(enrol(&to(&control), "other", &control.anchor.der, TOKEN).await, Err(EnrolError::Connect(_))));
    assert_eq!(control.issued(), 0);
    assert!(matches!(enrol(&Nowhere, TENANT, &control.anchor.der, TOKEN).await, Err(EnrolError::Connect(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_no_tls_is_no_control_api() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = To(Arc::new(std::sync::Mutex::new(listener.local_addr().unwrap())));
    let serving = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        drop(tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await);
    });
    assert!(matches!(enrol(&to, TENANT, &Authority::new().der, TOKEN).await, Err(EnrolError::Connect(_))));
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_asks_again_until_it_gets_a_certificate_and_reads_the_token_anew() {
    let control = Control::start().await;
    let (_, identity) = pod("uid-1");
    let mut client = Client::start(&control, identity.clone());
    // The kubelet has projected another token meanwhile.
    control.admit("a newer token", Who::agent(&identity));
    std::fs::write(client.folder.path().join("token"), "a newer token").unwrap();
    client.until(|told| told.identities == 1).await;
    assert_eq!(control.stream().await.who, [identity.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_from_a_third_of_its_life_and_the_stream_goes_on() {
    let control = Control::start().await;
    control.set_ttl(Duration::from_secs(6));
    let mut client = Client::sidecar(&control);
    let mut stream = control.stream().await;
    stream.say(&[control.trust()]).await;
    client.until(|told| told.identities == 2).await;
    let (pod, identity) = pod("uid-1");
    stream.say(&control.policy(&pod, &identity, &[], 1)).await;
    client.until(|told| told.assignments.len() == 1).await;
    // Before its certificate ends the stream is opened again with the newer one.
    stream.gone().await;
    let again = control.stream().await;
    assert_eq!(again.who, [identity.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_the_operator_no_longer_takes_is_replaced() {
    let control = Control::start().await;
    control.refuse_streams(Some((StatusCode::FORBIDDEN, "IdentityUnknown")));
    let mut client = Client::sidecar(&control);
    client.until(|told| told.identities >= 2).await;
    control.refuse_streams(None);
    control.stream().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_whose_root_is_trusted_no_longer_is_replaced_at_once() {
    let control = Control::start().await;
    let mut client = Client::sidecar(&control);
    let mut stream = control.stream().await;
    let ToClient::Trust { mut roots, keys } = control.trust() else { panic!("no trust") };
    // While a CA rolls, both are trusted.
    roots.insert(0, Encoded(Authority::new().der.to_vec()));
    stream.say(&[ToClient::Trust { roots: roots.clone(), keys: keys.clone() }]).await;
    assert_eq!(client.until(|told| told.trusts == 1).await.identities, 1);
    roots.truncate(1);
    stream.say(&[ToClient::Trust { roots, keys }]).await;
    assert_eq!(client.until(|told| told.identities == 2).await.trusts, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_ca_is_replaced_although_tls_does_not_say_so() {
    // Two control APIs of one anchor: the second does not know the CA of the first.
    let control = Control::start().await;
    let mut client = Client::sidecar(&control);
    control.stream().await.end();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let Control { anchor, .. } = control;
    let other = Control::on(listener, anchor, clawlock_policy::envelope::SigningKey::generate().unwrap());
    other.admit(TOKEN, Who::agent(&client.identity));
    *client.to.0.lock().unwrap() = other.address;
    client.until(|told| told.identities >= 2).await;
    other.stream().await;
}
