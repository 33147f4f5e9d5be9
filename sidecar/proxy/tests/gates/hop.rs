//! The gateway against a hostile sidecar, a neighbour, and nobody in particular.

use std::net::SocketAddr;
use std::sync::Arc;

use clawlock_policy::document::{Document, Tier};
use clawlock_proxy::body::GateBody;
use clawlock_proxy::tls::{gateway_name, hop_client, hop_server};
use http::Request;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::Answer;
use crate::origin::{Origin, world};
use crate::world::{CANARY, HOST, TestCa, World, http_rule, policy, tenant, vendor};

async fn hop(address: SocketAddr, tls: Arc<ClientConfig>) -> Result<SendRequest<GateBody>, String> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let connect = TlsConnector::from(tls).connect(gateway_name("acme").unwrap(), tcp);
    let stream = connect.await.map_err(|error| error.to_string())?;
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}

fn request(origin: &Origin) -> http::request::Builder {
    Request::builder()
        .uri(format!("https://{HOST}:{}/v1", origin.port()))
        .header("clawlock-upstream", "vendor")
        .header("clawlock-request-id", "r-1")
        .header("clawlock-agent-gate-us", "7")
}

async fn send(sender: &mut SendRequest<GateBody>, request: http::request::Builder) -> Answer {
    Answer::of(sender.send_request(request.body(GateBody::empty()).unwrap()).await.unwrap()).await
}

fn own(world: &World) -> Arc<ClientConfig> {
    hop_client(std::slice::from_ref(&world.hop_ca.der), world.hop_ca.client(world.identity.as_str())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_decides_again_whatever_the_sidecar_let_through() {
    let (world, origin) = world().await;
    let mut sidecar = hop(world.gateway, own(&world)).await.unwrap();
    assert_eq!(send(&mut sidecar, request(&origin)).await.status, 200);
    assert_eq!(send(&mut sidecar, request(&origin).method("DELETE")).await.code(), "TierBlock");
    assert_eq!(send(&mut sidecar, request(&origin).uri("https://evil.test/")).await.code(), "UnknownUpstream");
    assert_eq!(send(&mut sidecar, request(&origin).uri(format!("https://{HOST}:1/"))).await.code(), "UnknownUpstream");
    assert_eq!(send(&mut sidecar, request(&origin).header("host", "evil.test")).await.code(), "AuthorityMismatch");
    assert_eq!(send(&mut sidecar, request(&origin).header("authorization", "Bearer sk-foreign")).await.status, 200);
    let seen = origin.requests();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.headers["authorization"] == format!("Bearer {CANARY}")));
    let records = world.log.records();
    assert_eq!(records.len(), 6);
    assert!(records.iter().all(|record| record["gate"] == "gateway" && record["requestId"] == "r-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_hop_must_say_is_checked() {
    let (world, origin) = world().await;
    let mut sidecar = hop(world.gateway, own(&world)).await.unwrap();
    let uri = format!("https://{HOST}:{}/v1", origin.port());
    let bare = || Request::builder().uri(uri.clone());
    for (name, value) in [
        ("clawlock-upstream", None),
        ("clawlock-request-id", None),
        ("clawlock-request-id", Some("a b")),
        ("clawlock-agent-gate-us", Some("-1")),
    ] {
        let mut builder = bare();
        for (known, usual) in
            [("clawlock-upstream", "vendor"), ("clawlock-request-id", "r"), ("clawlock-agent-gate-us", "1")]
        {
            let shown = if known == name { value } else { Some(usual) };
            if let Some(shown) = shown {
                builder = builder.header(known, shown);
            }
        }
        assert_eq!(send(&mut sidecar, builder).await.code(), "BadRequest", "{name} {value:?}");
    }
    let twice = request(&origin).header("clawlock-upstream", "other");
    assert_eq!(send(&mut sidecar, twice).await.code(), "BadRequest");
    let other = bare()
        .header("clawlock-upstream", "other")
        .header("clawlock-request-id", "r")
        .header("clawlock-agent-gate-us", "1");
    assert_eq!(send(&mut sidecar, other).await.code(), "AuthorityMismatch");
    assert!(origin.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_leaf_of_the_tenant_s_ca_with_an_assignment_gets_in() {
    let (world, origin) = world().await;
    let stranger = TestCa::new();
    let roots = std::slice::from_ref(&world.hop_ca.der);
    let foreign = hop_client(roots, stranger.client(world.identity.as_str())).unwrap();
    // TLS 1.3: a refused client learns it with its first read.
    let refused = match hop(world.gateway, foreign).await {
        Err(_) => true,
        Ok(mut sender) => sender.send_request(request(&origin).body(GateBody::empty()).unwrap()).await.is_err(),
    };
    assert!(refused);
    // A leaf without a SPIFFE ID, or with a server's usage.
    for leaf in [
        world.hop_ca.leaf(SanType::DnsName("agent".try_into().unwrap()), ExtendedKeyUsagePurpose::ClientAuth),
        world.hop_ca.server("gateway.acme.clawlock.internal"),
    ] {
        let refused = match hop(world.gateway, hop_client(roots, leaf).unwrap()).await {
            Err(_) => true,
            Ok(mut sender) => sender.send_request(request(&origin).body(GateBody::empty()).unwrap()).await.is_err(),
        };
        assert!(refused);
    }
    // The right CA, but a pod that has no assignment.
    let other = world.hop_ca.client("spiffe://acme.example/ns/acme/sa/default/pod/uid-2");
    let mut other = hop(world.gateway, hop_client(roots, other).unwrap()).await.unwrap();
    assert_eq!(send(&mut other, request(&origin)).await.code(), "NoAssignment");
    assert!(origin.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_s_leaf_does_not_make_a_gateway() {
    let (world, _) = world().await;
    let roots = std::slice::from_ref(&world.hop_ca.der);
    // The agent's own certificate, presented by a server.
    let tls = hop_server(roots, world.hop_ca.client(world.identity.as_str())).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        drop(tokio_rustls::TlsAcceptor::from(tls).accept(tcp).await);
    });
    assert!(hop(address, own(&world)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_the_hop_gracefully() {
    let (world, origin) = world().await;
    let mut watcher = world.watcher();
    assert_eq!(world.https(HOST, origin.port(), crate::client::get("/")).await.status, 200);
    let (begun, ()) = tokio::join!(watcher.begun(), async {
        let stopping = world.stop_gateway();
        tokio::time::timeout(std::time::Duration::from_secs(1), stopping).await.ok();
    });
    let () = begun;
    assert!(TcpStream::connect(world.gateway).await.is_err(), "the listener is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_gates_must_allow() {
    let (world, origin) = world().await;
    let ca_rules = vec![http_rule("none", "vendor", &[], &[], Tier::Block)];
    // Only the agent's gate learns of the block: it is enough.
    let upstream = vendor(origin.port(), &TestCa::new().pem);
    let signed = world.sign(vec![tenant(), policy(ca_rules), Document::Upstream(upstream)], 1_000_000);
    world.agent_table.install(&signed.0, &signed.1).unwrap();
    assert_eq!(world.https(HOST, origin.port(), crate::client::get("/")).await.code(), "TierBlock");
    assert!(origin.requests().is_empty());
}
