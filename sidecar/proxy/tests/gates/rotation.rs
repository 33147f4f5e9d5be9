//! Certificates and roots are replaced while requests are open: nothing breaks that may go on, and nothing goes on
//! that may not.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use clawlock_policy::SpiffeId;
use clawlock_policy::envelope::TrustedKeys;
use clawlock_proxy::body::GateBody;
use clawlock_proxy::clock::SystemClock;
use clawlock_proxy::drain::Drain;
use clawlock_proxy::hop::client::Endpoint;
use clawlock_proxy::hop::{Front, HopClient, HopError, server};
use clawlock_proxy::policies::PolicyTable;
use clawlock_proxy::tls::{gateway_name, hop_client, hop_server};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;

use crate::attack::{hop, hop_request, own, start};
use crate::origin::full;
use crate::world::{TestCa, usual};

const DEADLINE: Duration = Duration::from_secs(20);
const POD: &str = "spiffe://acme.example/ns/acme/sa/default/pod/uid-1";

/// A gateway that answers each request with the body that it sends: piece by piece.
struct Side {
    address: std::net::SocketAddr,
    front: Front,
    seen: Arc<Mutex<Vec<SpiffeId>>>,
    _drain: Drain,
}

fn server_tls(ca: &TestCa, roots: &[CertificateDer<'static>]) -> Arc<rustls::ServerConfig> {
    hop_server(roots, ca.server("gateway.acme.clawlock.internal")).unwrap()
}

impl Side {
    async fn new(tls: Arc<rustls::ServerConfig>) -> Self {
        Self::at(Ipv4Addr::LOCALHOST, tls).await
    }

    async fn at(address: Ipv4Addr, tls: Arc<rustls::ServerConfig>) -> Self {
        Self::on(TcpListener::bind((address, 0)).await.unwrap(), tls)
    }

    fn on(listener: TcpListener, tls: Arc<rustls::ServerConfig>) -> Self {
        let address = listener.local_addr().unwrap();
        let (front, drain, seen) = (Front::from(tls), Drain::new(), Arc::<Mutex<Vec<SpiffeId>>>::default());
        let table = Arc::new(PolicyTable::new(TrustedKeys::new([]), Arc::new(SystemClock)));
        let who = seen.clone();
        let handle = move |identity, request: Request<Incoming>| {
            who.lock().unwrap().push(identity);
            async move {
                let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                Response::new(GateBody::full(body))
            }
        };
        tokio::spawn(server::serve(listener, front.clone(), table, Arc::default(), drain.watcher(), handle));
        Self { address, front, seen, _drain: drain }
    }

    fn endpoint(&self, roots: &[CertificateDer<'static>], ca: &TestCa) -> Endpoint {
        let tls = hop_client(roots, ca.client(POD)).unwrap();
        Endpoint { address: self.address, name: gateway_name("acme").unwrap(), tls }
    }
}

fn ask(body: &'static str) -> Request<GateBody> {
    Request::builder().method("POST").uri("https://x.test/").body(GateBody::full(body)).unwrap()
}

async fn told(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_identity_requests_are_refused_until_there_is_one() {
    let ca = TestCa::new();
    let roots = [ca.der.clone()];
    let side = Side::new(server_tls(&ca, &roots)).await;
    let hop = HopClient::without_identity();
    assert!(matches!(hop.send(ask("a")).await, Err(HopError::NoIdentity)));
    assert!(matches!(hop.voucher().await, Err(HopError::NoIdentity)));
    assert!(!hop.is_reachable().await);
    hop.replace(side.endpoint(&roots, &ca));
    assert!(hop.is_reachable().await);
    assert_eq!(told(hop.send(ask("a")).await.unwrap()).await, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_s_ca_is_rolled_without_a_failed_request() {
    let (old, new) = (TestCa::new(), TestCa::new());
    let (first, both, last) = ([old.der.clone()], [old.der.clone(), new.der.clone()], [new.der.clone()]);
    let side = Side::new(server_tls(&old, &first)).await;
    let hop = HopClient::new(side.endpoint(&first, &old));
    // Each step of the roll, with requests at every point in between.
    let steps: Vec<Box<dyn Fn()>> = vec![
        Box::new(|| side.front.set_tls(server_tls(&old, &both))),
        Box::new(|| hop.replace(side.endpoint(&both, &old))),
        Box::new(|| side.front.set_tls(server_tls(&new, &both))),
        Box::new(|| hop.replace(side.endpoint(&both, &new))),
        Box::new(|| side.front.set_tls(server_tls(&new, &last))),
        Box::new(|| hop.replace(side.endpoint(&last, &new))),
    ];
    for step in &steps {
        assert_eq!(told(hop.send(ask("before")).await.unwrap()).await, "before");
        // Open while it happens.
        let open = hop.send(ask("across")).await.unwrap();
        step();
        assert_eq!(told(hop.send(ask("after")).await.unwrap()).await, "after");
        assert_eq!(told(open).await, "across");
    }
    assert_eq!(side.seen.lock().unwrap().len(), 3 * steps.len());
    // Whoever still has the old one alone is out.
    let late = HopClient::new(side.endpoint(&last, &old));
    assert!(late.send(ask("late")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_that_is_not_accepted_yet_leaves_the_old_connection_at_work() {
    let (old, new) = (TestCa::new(), TestCa::new());
    let first = [old.der.clone()];
    let side = Side::new(server_tls(&old, &first)).await;
    let hop = HopClient::new(side.endpoint(&first, &old));
    assert_eq!(told(hop.send(ask("a")).await.unwrap()).await, "a");
    // The client does not trust the gateway under this one.
    hop.replace(side.endpoint(std::slice::from_ref(&new.der), &new));
    assert_eq!(told(hop.send(ask("b")).await.unwrap()).await, "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_replaced_at_its_address_is_found_again() {
    let ca = TestCa::new();
    let roots = [ca.der.clone()];
    // An address of its own: on another, a test beside this one could take the port while it is free.
    let first = Side::at(Ipv4Addr::new(127, 83, 4, 1), server_tls(&ca, &roots)).await;
    let hop = HopClient::new(first.endpoint(&roots, &ca));
    assert_eq!(told(hop.send(ask("a")).await.unwrap()).await, "a");
    let Side { address, _drain: drain, .. } = first;
    // GOAWAY: the client's connection takes nothing more, and nobody listens for a moment.
    assert!(drain.finish(DEADLINE).await);
    let asking = hop.send(ask("b"));
    let replacing = async {
        let listener = TcpListener::bind(address).await.unwrap();
        let table = Arc::new(PolicyTable::new(TrustedKeys::new([]), Arc::new(SystemClock)));
        let drain = Drain::new();
        let front = Front::from(server_tls(&ca, &roots));
        tokio::spawn(server::serve(listener, front, table, Arc::default(), drain.watcher(), |_, _| async {
            Response::new(GateBody::full("second"))
        }));
        drain
    };
    let (answer, _drain) = tokio::join!(asking, replacing);
    assert_eq!(told(answer.unwrap()).await, "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_end_one_after_the_other_fail_no_request() {
    let ca = TestCa::new();
    let roots = [ca.der.clone()];
    let mut side = Side::at(Ipv4Addr::new(127, 83, 4, 2), server_tls(&ca, &roots)).await;
    let address = side.address;
    let hop = Arc::new(HopClient::new(side.endpoint(&roots, &ca)));
    let (answered, mut answers) = tokio::sync::mpsc::channel(1);
    for _ in 0..8 {
        let (hop, answered) = (hop.clone(), answered.clone());
        // It ends when nobody listens any more.
        tokio::spawn(async move {
            loop {
                let response = hop.send(ask("a")).await;
                if answered.send(response.map(drop).map_err(|error| format!("{error:?}"))).await.is_err() {
                    return;
                }
            }
        });
    }
    // A request that crosses the GOAWAY is rare: it takes some ends until there is one.
    for round in 0..30 {
        for _ in 0..20 {
            answers.recv().await.unwrap().unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
        let Side { _drain: drain, .. } = side;
        assert!(drain.finish(DEADLINE).await);
        // The listener goes a moment after its last watcher.
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        side = Side::on(listener, server_tls(&ca, &roots));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_identity_loses_its_connections_at_once() {
    let (world, origin, _ca) = start(usual).await;
    let (mut sender, connection) = hop(world.gateway, own(&world)).await;
    let ask = || hop_request(&origin, "GET", "/v1", full(""));
    assert_eq!(sender.send_request(ask()).await.unwrap().status(), 200);
    let roots = std::slice::from_ref(&world.hop_ca.der);
    let other = world.hop_ca.client("spiffe://acme.example/ns/acme/sa/default/pod/uid-2");
    let (mut other, _other) = hop(world.gateway, hop_client(roots, other).unwrap()).await;
    assert_eq!(other.send_request(ask()).await.unwrap().status(), 403);
    world.gateway_table.remove(&world.identity);
    tokio::time::timeout(DEADLINE, connection).await.expect("the connection must end").unwrap().ok();
    assert!(sender.send_request(ask()).await.is_err());
    assert_eq!(other.send_request(ask()).await.unwrap().status(), 403, "others stay");
    // It may come back: then it is nobody.
    let (mut again, _again) = hop(world.gateway, own(&world)).await;
    assert_eq!(again.send_request(ask()).await.unwrap().status(), 403);
}
