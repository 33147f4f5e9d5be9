//! The gateway vouches for canaries: what it reaches, and only to pods with a certificate.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clawlock_audit::JsonLines;
use clawlock_policy::envelope::TrustedKeys;
use clawlock_proxy::body::GateBody;
use clawlock_proxy::clock::SystemClock;
use clawlock_proxy::drain::Drain;
use clawlock_proxy::gateway::Gateway;
use clawlock_proxy::hop::client::Endpoint;
use clawlock_proxy::hop::{HopClient, HopError};
use clawlock_proxy::policies::PolicyTable;
use clawlock_proxy::tls::{gateway_name, hop_client, hop_server};
use clawlock_proxy::upstream::Upstreams;
use clawlock_proxy::voucher::{Node, PATH, Ports, Targets, Tripwire, Vouchers};
use futures_util::future;
use http::Request;
use tokio::net::{TcpListener, UdpSocket};

use crate::world::{TestCa, TestNames, TestSecrets};

const UP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DOWN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

struct Vouching {
    hop: Arc<HopClient>,
    vouchers: Arc<Vouchers>,
    /// TCP connections that the tripwire accepted.
    tried: Arc<AtomicUsize>,
    _drain: Drain,
}

/// A gateway that can reach a tripwire and a node on loopback.
async fn start(with_vouchers: bool) -> Vouching {
    let tripwire = TcpListener::bind((UP, 0)).await.unwrap();
    let ports = Ports { tripwire: tripwire.local_addr().unwrap().port(), node: tripwire.local_addr().unwrap().port() };
    let datagrams = UdpSocket::bind((UP, ports.tripwire)).await.unwrap();
    let tried = Arc::new(AtomicUsize::new(0));
    let counted = tried.clone();
    tokio::spawn(async move {
        loop {
            drop(tripwire.accept().await);
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    tokio::spawn(async move {
        let mut question = [0; 512];
        loop {
            let (length, from) = datagrams.recv_from(&mut question).await.unwrap();
            datagrams.send_to(&question[..length], from).await.unwrap();
        }
    });

    let table = Arc::new(PolicyTable::new(TrustedKeys::new([]), Arc::new(SystemClock)));
    let upstreams = Upstreams::new(Arc::new(TestNames::default()), Arc::new(TestSecrets::default()));
    let audit = Arc::new(JsonLines::new(std::io::sink()).unwrap());
    let name = gateway_name("acme").unwrap();
    let vouchers = Arc::new(Vouchers::new(name.to_str().into_owned(), ports, table.clone()));
    let mut gateway = Gateway::new(table, audit, Arc::default(), upstreams);
    if with_vouchers {
        gateway = gateway.vouching(vouchers.clone());
    }
    let ca = TestCa::new();
    let roots = std::slice::from_ref(&ca.der);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let drain = Drain::new();
    let tls = hop_server(roots, ca.server("gateway.acme.clawlock.internal")).unwrap();
    tokio::spawn(Arc::new(gateway).serve(listener, tls, drain.watcher()));
    let tls = hop_client(roots, ca.client("spiffe://acme.example/ns/acme/sa/default/pod/uid-1")).unwrap();
    let hop = Arc::new(HopClient::new(Endpoint { address, name, tls }));
    Vouching { hop, vouchers, tried, _drain: drain }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_it_reaches() {
    let world = start(true).await;
    let nothing = world.hop.voucher().await.unwrap();
    assert!(nothing.tripwire.is_empty() && nothing.nodes.is_empty(), "it was told of nobody");
    let world = start(true).await;
    world.vouchers.set_targets(Targets { tripwire: vec![UP, DOWN], nodes: vec![DOWN, UP] });
    let voucher = world.hop.voucher().await.unwrap();
    assert_eq!(
        voucher.tripwire,
        [Tripwire { address: UP, tcp: true, udp: true }, Tripwire { address: DOWN, tcp: false, udp: false }]
    );
    assert_eq!(voucher.nodes, [Node { address: DOWN, tcp: false }, Node { address: UP, tcp: true }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_get_one_look() {
    let world = start(true).await;
    world.vouchers.set_targets(Targets { tripwire: vec![UP], nodes: vec![] });
    let asked = future::join_all((0..32).map(|_| world.hop.voucher())).await;
    let first = asked[0].as_ref().unwrap();
    assert!(asked.iter().all(|voucher| voucher.as_ref().unwrap() == first));
    assert_eq!(world.tried.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_them_does_not_vouch() {
    let world = start(false).await;
    assert!(matches!(world.hop.voucher().await, Err(HopError::Voucher(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_very_question_is_one() {
    let world = start(true).await;
    for (method, uri) in [
        ("POST", format!("https://gateway.acme.clawlock.internal{PATH}")),
        ("GET", "https://gateway.acme.clawlock.internal/v1/other".to_owned()),
        ("GET", format!("https://gateway.other.clawlock.internal{PATH}")),
        ("GET", format!("https://gateway.acme.clawlock.internal:8443{PATH}")),
    ] {
        let request = Request::builder().method(method).uri(&uri).body(GateBody::empty()).unwrap();
        assert_ne!(world.hop.send(request).await.unwrap().status(), 200, "{method} {uri}");
    }
    assert_eq!(world.tried.load(Ordering::SeqCst), 0);
}
