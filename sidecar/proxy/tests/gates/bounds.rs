//! What one caller, or one that says nothing, may take: connections, time, places in the table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use clawlock_policy::document::{Assignment, PodDoc};
use clawlock_policy::envelope::{self, Envelope, SigningKey, TrustedKeys};
use clawlock_policy::{SpiffeId, codec};
use clawlock_proxy::body::GateBody;
use clawlock_proxy::clock::SystemClock;
use clawlock_proxy::drain::Drain;
use clawlock_proxy::hop::client::Endpoint;
use clawlock_proxy::hop::{Front, HopClient, server};
use clawlock_proxy::limits::{ASSIGNMENTS, HEAD_TIMEOUT, HOP_CONNECT_TIMEOUT, HOP_CONNECTIONS_OF_ONE, HOP_POOL};
use clawlock_proxy::policies::{InstallError, PolicyTable};
use clawlock_proxy::tls::{Leaf, gateway_name, hop_client, hop_server};
use futures_util::future;
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};

use crate::client::get;
use crate::origin::{Origin, OriginBody, full, websocket};
use crate::world::{HOST, TestCa, TestClock, World, loopback, tenant, usual, vendor};

const DEADLINE: Duration = Duration::from_secs(20);
const HOUR_MS: u64 = 3_600_000;
use crate::attack::{hop, hop_request, own, start};

#[tokio::test(start_paused = true)]
async fn requests_behind_a_gateway_that_hangs_do_not_queue_up() {
    // It takes connections and never says a word.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ca = TestCa::new();
    let identity = "spiffe://acme.example/ns/acme/sa/default/pod/uid-1";
    let hop = HopClient::new(Endpoint {
        address: listener.local_addr().unwrap(),
        name: gateway_name("acme").unwrap(),
        tls: hop_client(std::slice::from_ref(&ca.der), ca.client(identity)).unwrap(),
    });
    // The clock of this test stands still unless everything waits.
    let begun = tokio::time::Instant::now();
    let reached = future::join_all((0..HOP_POOL * 8).map(|_| hop.is_reachable())).await;
    assert!(reached.iter().all(|reached| !reached));
    assert!(begun.elapsed() < 2 * HOP_CONNECT_TIMEOUT, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sidecar_does_not_take_all_connections() {
    let (world, origin, _ca) = start(usual).await;
    let ask = || hop_request(&origin, "GET", "/v1", full(""));
    let mut taken = Vec::new();
    for _ in 0..HOP_CONNECTIONS_OF_ONE {
        let (mut sender, connection) = hop::<OriginBody>(world.gateway, own(&world)).await;
        assert_eq!(sender.send_request(ask()).await.unwrap().status(), 200);
        taken.push((sender, connection));
    }
    let (mut one_more, _connection) = hop::<OriginBody>(world.gateway, own(&world)).await;
    assert!(one_more.send_request(ask()).await.is_err());
    // Another sidecar gets in, though without an assignment not far.
    let roots = std::slice::from_ref(&world.hop_ca.der);
    let other = world.hop_ca.client("spiffe://acme.example/ns/acme/sa/default/pod/uid-2");
    let (mut other, _other) = hop::<OriginBody>(world.gateway, hop_client(roots, other).unwrap()).await;
    assert_eq!(other.send_request(ask()).await.unwrap().status(), 403);
    let (sender, connection) = taken.pop().unwrap();
    drop(sender);
    connection.await.unwrap().ok();
    let again = async {
        loop {
            let (mut sender, _connection) = hop::<OriginBody>(world.gateway, own(&world)).await;
            if sender.send_request(ask()).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, again).await.expect("the place must be given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hop_connection_ends_with_its_client_s_certificate() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap().der().clone();
    let issuer = Issuer::new(params, key);
    let leaf = |name: SanType, usage: ExtendedKeyUsagePurpose, valid: Duration| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.extended_key_usages = vec![usage];
        params.not_after = (SystemTime::now() + valid).into();
        let key = KeyPair::generate().unwrap();
        let chain = vec![params.signed_by(&key, &issuer).unwrap().der().clone()];
        Leaf { chain, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    };
    let dns = SanType::DnsName("gateway.acme.clawlock.internal".try_into().unwrap());
    let pod = SanType::URI("spiffe://acme.example/ns/acme/sa/default/pod/uid-1".try_into().unwrap());
    let gateway = leaf(dns, ExtendedKeyUsagePurpose::ServerAuth, Duration::from_secs(3600));
    let sidecar = leaf(pod, ExtendedKeyUsagePurpose::ClientAuth, Duration::from_secs(4));
    let roots = std::slice::from_ref(&root);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let drain = Drain::new();
    let front = Front::from(hop_server(roots, gateway).unwrap());
    let table = Arc::new(PolicyTable::new(TrustedKeys::new([]), Arc::new(SystemClock)));
    tokio::spawn(server::serve(listener, front, table, Arc::default(), drain.watcher(), |_, _| async {
        Response::new(GateBody::full("ok"))
    }));
    let (mut sender, connection) = hop::<OriginBody>(address, hop_client(roots, sidecar).unwrap()).await;
    let request = Request::builder().uri("https://x.test/").body(full("")).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    tokio::time::timeout(DEADLINE, connection).await.expect("the connection must end").unwrap().ok();
    assert!(sender.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_ends() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::start(vec![tenant()]).await;
    // With one byte it may still become HTTP/1.1 or HTTP/2.
    for said in [&b""[..], b"P"] {
        let mut tcp = TcpStream::connect(world.proxy).await.unwrap();
        tcp.write_all(said).await.unwrap();
        // The clock of this test goes on whenever everything waits.
        let end = tokio::time::timeout(2 * HEAD_TIMEOUT, tcp.read_to_end(&mut Vec::new())).await;
        assert!(end.is_ok(), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_counts_as_a_connection_as_long_as_it_is_open() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, HOST, |mut request, _| {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
            tokio::io::copy(&mut read, &mut write).await.ok();
        });
        websocket(&request).body(full("")).unwrap()
    })
    .await;
    let world = World::start(usual(vendor(origin.port(), &ca.pem))).await;
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
    let stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let (mut read, mut write) = tokio::io::split(stream);
    for _ in 0..20 {
        tokio::io::AsyncWriteExt::write_all(&mut write, b"ping").await.unwrap();
        tokio::io::AsyncReadExt::read_exact(&mut read, &mut [0; 4]).await.unwrap();
    }
    // The agent's, and the hop's.
    assert!(world.metrics.text().contains("clawlock_connections 2\n"), "{}", world.metrics.text());
    drop((read, write));
    let given_back = async {
        while !world.metrics.text().contains("clawlock_connections 1\n") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, given_back).await.expect("the place must be given back");
}

/// Assignments of any identity and generation, with one key.
struct Signer {
    key: SigningKey,
    clock: Arc<TestClock>,
    document: Vec<u8>,
}

impl Signer {
    fn new() -> (Self, PolicyTable) {
        let clock = Arc::new(TestClock { wall_ms: 1_800_000_000_000.into(), boot_ms: 1000.into() });
        let key = SigningKey::generate().unwrap();
        let table = PolicyTable::new(TrustedKeys::new([key.public().clone()]), clock.clone());
        let document = codec::encode(&tenant());
        (Self { key, clock, document }, table)
    }

    fn install(&self, table: &PolicyTable, uid: &str, generation: u64, label: &str) -> Result<u64, InstallError> {
        let issued_at_ms = self.clock.wall_ms.load(Ordering::SeqCst);
        let assignment = Assignment {
            tenant: "acme".to_owned(),
            identity: identity(uid).to_string(),
            pod: PodDoc {
                namespace: "acme".to_owned(),
                name: "agent-0".to_owned(),
                uid: uid.to_owned(),
                service_account: "default".to_owned(),
                labels: BTreeMap::from([("team".to_owned(), label.to_owned())]),
            },
            plugin_optional: None,
            digests: vec![codec::digest(&self.document)],
            generation,
            issued_at_ms,
            not_after_ms: issued_at_ms + HOUR_MS,
        };
        let sign = |kind, payload: &[u8]| Envelope::sign(kind, payload, &self.key).encode();
        let assignment = sign(envelope::ASSIGNMENT, &codec::encode_assignment(&assignment));
        table.install(&assignment, &[sign(envelope::DOCUMENT, &self.document)])
    }
}

fn identity(uid: &str) -> SpiffeId {
    SpiffeId::of_pod("acme.example", "acme", "default", uid).unwrap()
}

#[test]
fn a_generation_names_one_content() {
    let (signer, table) = Signer::new();
    assert_eq!(signer.install(&table, "uid-1", 1, "a").unwrap(), 1);
    signer.clock.wall_ms.fetch_add(1000, Ordering::SeqCst);
    assert_eq!(signer.install(&table, "uid-1", 1, "a").unwrap(), 1, "renewed");
    let other = signer.install(&table, "uid-1", 1, "b");
    assert!(matches!(other, Err(InstallError::Differs { generation: 1, .. })), "{other:?}");
    assert_eq!(table.active(&identity("uid-1")).unwrap().0.caller().workload.labels["team"], "a");
    assert_eq!(signer.install(&table, "uid-1", 2, "b").unwrap(), 2);
}

#[test]
fn what_was_taken_out_does_not_come_back_by_the_same_ticket() {
    let (signer, table) = Signer::new();
    signer.install(&table, "uid-1", 3, "a").unwrap();
    table.remove(&identity("uid-1"));
    assert!(matches!(signer.install(&table, "uid-1", 3, "a"), Err(InstallError::Removed { generation: 3, .. })));
    assert!(!table.has(&identity("uid-1")));
    assert_eq!(signer.install(&table, "uid-1", 4, "a").unwrap(), 4);
}

#[test]
fn pods_that_come_and_go_do_not_fill_the_table_for_good() {
    let (signer, table) = Signer::new();
    for n in 0..ASSIGNMENTS {
        let uid = format!("uid-{n}");
        signer.install(&table, &uid, 2, "a").unwrap();
        table.remove(&identity(&uid));
    }
    assert!(matches!(signer.install(&table, "new", 1, "a"), Err(InstallError::Full)));
    assert!(matches!(signer.install(&table, "uid-7", 1, "a"), Err(InstallError::Older { .. })), "no replay");
    signer.clock.wall_ms.fetch_add(HOUR_MS, Ordering::SeqCst);
    assert_eq!(signer.install(&table, "new", 1, "a").unwrap(), 1);
}
