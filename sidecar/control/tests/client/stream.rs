//! The stream: what is in force, what is acknowledged, and what a break changes.

use clawlock_control::client::Canaries;
use clawlock_control::{IsolationOutcome, IsolationTarget, MAX_LINE, ToClient, ToServer};
use clawlock_policy::document::{Document, HaltDoc};
use clawlock_policy::envelope::SigningKey;
use tokio::net::TcpListener;

use crate::server::{Control, Who, pod, policy};
use crate::world::{Client, TOKEN};

fn halt(name: &str) -> Document {
    Document::Halt(HaltDoc { name: format!("acme/{name}"), reason: "a test".to_owned(), cause: None })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_hears_its_policy_acknowledges_it_and_reports() {
    let control = Control::start().await;
    let mut client = Client::sidecar(&control);
    let mut stream = control.stream().await;
    assert_eq!(stream.documents, [""; 0]);
    let (pod, identity) = pod("uid-1");
    let canaries = Canaries { tripwire: vec!["10.0.0.1".parse().unwrap()], nodes: vec!["::1".parse().unwrap()] };
    stream.say(&[control.trust()]).await;
    let Canaries { tripwire, nodes } = canaries.clone();
    stream.say(&[ToClient::Canaries { tripwire, nodes }]).await;
    stream.say(&control.policy(&pod, &identity, &[halt("a"), halt("b")], 7)).await;
    stream.say(&[ToClient::Synced {}, ToClient::Ping {}]).await;
    let told = client.until(|told| told.synced == 1).await;
    assert_eq!(told.assignments, [(identity.to_string(), 7, 2)]);
    assert_eq!((told.trusts, told.canaries), (1, Some(canaries)));
    assert_eq!(stream.hear().await, ToServer::Ack { generation: 7, identity: Some(identity.to_string()) });
    let report = ToServer::Isolation {
        outcome: IsolationOutcome::Dropped,
        target: IsolationTarget::Tripwire,
        own_node: Some("10.0.0.2".parse().unwrap()),
        detail: "10.0.0.1".to_owned(),
    };
    client.reports.send(report.clone()).await.unwrap();
    assert_eq!(stream.hear().await, report);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_is_resumed_by_digest_and_who_is_gone_is_withdrawn() {
    let control = Control::start().await;
    let mut client = Client::gateway(&control);
    let mut stream = control.stream().await;
    let ((one, first), (two, second)) = (pod("uid-1"), pod("uid-2"));
    stream.say(&[control.trust()]).await;
    let messages = control.policy(&one, &first, &[halt("shared"), halt("one")], 1);
    stream.say(&messages).await;
    stream.say(&control.policy(&two, &second, &[halt("shared"), halt("two")], 1)).await;
    stream.say(&[ToClient::Synced {}]).await;
    client.until(|told| told.synced == 1).await;
    for identity in [&first, &second] {
        assert_eq!(stream.hear().await, ToServer::Ack { generation: 1, identity: Some(identity.to_string()) });
    }
    stream.end();

    let mut stream = control.stream().await;
    assert_eq!(stream.documents.len(), 3, "each document is named once");
    // Only the assignment: its documents are there.
    stream.say(&messages[2..]).await;
    stream.say(&[ToClient::Synced {}]).await;
    let told = client.until(|told| told.synced == 2).await;
    assert_eq!(told.assignments.last(), Some(&(first.to_string(), 1, 2)));
    assert_eq!(told.withdrawn, [second.to_string()]);
    assert_eq!(told.removed, [""; 0]);
    stream.say(&[ToClient::Remove { identity: first.to_string() }]).await;
    client.until(|told| told.removed == [first.to_string()]).await;
    stream.end();
    assert_eq!(control.stream().await.documents, [""; 0], "nobody names a document any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_force_survives_the_operator() {
    let control = Control::start().await;
    let mut client = Client::sidecar(&control);
    let mut stream = control.stream().await;
    let (pod, identity) = pod("uid-1");
    stream.say(&[control.trust()]).await;
    stream.say(&control.policy(&pod, &identity, &[], 1)).await;
    client.until(|told| told.assignments.len() == 1).await;
    // Nobody is there any more, then another replica is.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    *client.to.0.lock().unwrap() = unused;
    control.hang_up();
    let Control { anchor, .. } = control;
    let other = Control::on(listener, anchor, SigningKey::generate().unwrap());
    other.admit(TOKEN, Who::agent(&identity));
    *client.to.0.lock().unwrap() = other.address;
    other.stream().await;
    let told = client.told();
    assert_eq!((told.withdrawn, told.removed), (Vec::new(), Vec::new()), "silence removes nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_another_key_is_refused_and_not_acknowledged() {
    let control = Control::start().await;
    let mut client = Client::sidecar(&control);
    let mut stream = control.stream().await;
    let (pod, identity) = pod("uid-1");
    let stranger = SigningKey::generate().unwrap();
    stream.say(&[control.trust()]).await;
    stream.say(&policy(&stranger, &pod, &identity, &[], 9)).await;
    stream.say(&[ToClient::Synced {}]).await;
    assert_eq!(client.until(|told| told.synced == 1).await.assignments, []);
    // The stream goes on, and what is good is acknowledged.
    stream.say(&control.policy(&pod, &identity, &[], 3)).await;
    assert_eq!(stream.hear().await, ToServer::Ack { generation: 3, identity: Some(identity.to_string()) });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_read_is_closed_and_opened_again() {
    let control = Control::start().await;
    let mut client = Client::sidecar(&control);
    let (pod, identity) = pod("uid-1");
    let mut missing = control.policy(&pod, &identity, &[halt("a")], 1);
    missing.remove(0);
    for broken in [
        b"{\"type\":\"remove\"}\n".to_vec(),
        b"no json\n".to_vec(),
        vec![b' '; MAX_LINE + 2],
        missing.iter().flat_map(clawlock_control::encode_line).collect(),
    ] {
        let mut stream = control.stream().await;
        stream.say(&[control.trust()]).await;
        stream.say_bytes(broken).await;
        stream.gone().await;
    }
    let mut stream = control.stream().await;
    stream.say(&[control.trust()]).await;
    stream.say_bytes(b"{\"type\":\"of a newer operator\",\"x\":{}}\n".to_vec()).await;
    stream.say(&[ToClient::Synced {}]).await;
    client.until(|told| told.synced == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_of_a_thousand_pods_listens_while_it_acknowledges() {
    const PODS: usize = 1500;
    let control = Control::start().await;
    let mut client = Client::gateway(&control);
    let mut stream = control.stream().await;
    stream.say(&[control.trust()]).await;
    // Like the operator's server, it reads nothing before it has sent everything.
    for n in 0..PODS {
        let (pod, identity) = pod(&format!("uid-{n}"));
        stream.say(&control.policy(&pod, &identity, &[], 1)).await;
    }
    stream.say(&[ToClient::Synced {}]).await;
    let mut acknowledged = std::collections::BTreeSet::new();
    while acknowledged.len() < PODS {
        match stream.hear().await {
            ToServer::Ack { generation: 1, identity: Some(identity) } => assert!(acknowledged.insert(identity)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.until(|told| told.synced == 1).await.assignments.len(), PODS);
}
