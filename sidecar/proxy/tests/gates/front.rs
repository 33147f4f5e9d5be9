//! The door of the hop's listener: what is passed on to the control API, what is not, and how much.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clawlock_policy::envelope::TrustedKeys;
use clawlock_proxy::body::GateBody;
use clawlock_proxy::clock::SystemClock;
use clawlock_proxy::drain::Drain;
use clawlock_proxy::hop::splice::{Dialling, Onward, Splice};
use clawlock_proxy::hop::{Front, server};
use clawlock_proxy::limits::{HANDSHAKE_TIMEOUT, HANDSHAKES_AT_ONCE, SPLICE_IDLE, SPLICES_AT_ONCE};
use clawlock_proxy::metrics::Metrics;
use clawlock_proxy::policies::PolicyTable;
use clawlock_proxy::tls::{hop_client, hop_server};
use http::{Request, Response};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::attack::hop;
use crate::origin::{OriginBody, full};
use crate::world::TestCa;

const DEADLINE: Duration = Duration::from_secs(20);
const NAME: &str = "control.acme.clawlock.internal";
const POD: &str = "spiffe://acme.example/ns/acme/sa/default/pod/uid-1";

struct To(SocketAddr);

impl Onward for To {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(TcpStream::connect(self.0))
    }
}

/// A gateway's door before an echo, and a control API that answers each piece with `<` and the piece.
struct Door {
    address: SocketAddr,
    front: Front,
    ca: TestCa,
    metrics: Arc<Metrics>,
    drain: Drain,
    /// What the control API got, by connection.
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Door {
    async fn new() -> Self {
        let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let control = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let onward = Arc::new(To(control.local_addr().unwrap()));
        tokio::spawn(answer(control, heard.clone()));
        let front = Front::of_gateway(Splice::new(NAME.to_owned(), onward));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, drain) = (Arc::new(Metrics::default()), Drain::new());
        let table = Arc::new(PolicyTable::new(TrustedKeys::new([]), Arc::new(SystemClock)));
        tokio::spawn(server::serve(listener, front.clone(), table, metrics.clone(), drain.watcher(), |_, _| async {
            Response::new(GateBody::full("ok"))
        }));
        Self { address, front, ca: TestCa::new(), metrics, drain, heard }
    }

    fn certify(&self) {
        let roots = std::slice::from_ref(&self.ca.der);
        self.front.set_tls(hop_server(roots, self.ca.server("gateway.acme.clawlock.internal")).unwrap());
    }

    fn pod(&self) -> Arc<ClientConfig> {
        hop_client(std::slice::from_ref(&self.ca.der), self.ca.client(POD)).unwrap()
    }

    /// Connects from an address of loopback.
    async fn from(&self, source: [u8; 4]) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// A connection that the control API has answered, or `None` when it was refused.
    async fn spliced(&self, source: [u8; 4]) -> Option<TcpStream> {
        let mut tcp = self.from(source).await;
        let hello = hello(NAME);
        tcp.write_all(&hello).await.unwrap();
        let mut answer = vec![0; hello.len() + 1];
        within(tcp.read_exact(&mut answer)).await.ok()?;
        assert_eq!(answer, [b"<", &hello[..]].concat());
        Some(tcp)
    }

    fn heard(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    fn refused(&self, reason: &str) -> bool {
        self.metrics.text().contains(&format!("clawlock_refused_connections_total{{reason=\"{reason}\"}}"))
    }
}

async fn answer(control: TcpListener, heard: Arc<Mutex<Vec<Vec<u8>>>>) {
    loop {
        let (mut tcp, _) = control.accept().await.unwrap();
        let nth = {
            let mut heard = heard.lock().unwrap();
            heard.push(Vec::new());
            heard.len() - 1
        };
        let heard = heard.clone();
        tokio::spawn(async move {
            let mut piece = [0; 16 * 1024];
            while let Ok(read @ 1..) = tcp.read(&mut piece).await {
                heard.lock().unwrap()[nth].extend_from_slice(&piece[..read]);
                tcp.write_all(&[b"<", &piece[..read]].concat()).await.unwrap();
            }
        });
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("it must not take so long")
}

/// The first message of a client that asks for a name.
fn hello(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Whether the other side has closed without a word that is not TLS.
async fn is_closed(tcp: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = within(tcp.read_to_end(&mut rest)).await;
    // An alert, or the beginning of a handshake that asks for a certificate.
    rest.is_empty() || matches!(rest[0], 0x15 | 0x16)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_name_is_passed_on_byte_for_byte_also_before_there_is_a_certificate() {
    let door = Door::new().await;
    let mut tcp = door.spliced([127, 0, 0, 1]).await.unwrap();
    tcp.write_all(b"whatever follows").await.unwrap();
    let mut answer = [0; 17];
    within(tcp.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"<whatever follows");
    let heard = door.heard.lock().unwrap()[0].clone();
    assert!(heard.ends_with(b"whatever follows") && heard[0] == 0x16);
    assert!(door.metrics.text().contains("clawlock_spliced_connections 1"));
    // One side that is done ends the other.
    tcp.shutdown().await.unwrap();
    assert_eq!(within(tcp.read(&mut answer)).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_name_is_the_hop_s_and_needs_a_certificate() {
    let door = Door::new().await;
    // Before there is a certificate of our own, there is no hop.
    let mut early = door.from([127, 0, 0, 1]).await;
    early.write_all(&hello("gateway.acme.clawlock.internal")).await.unwrap();
    assert!(is_closed(&mut early).await);
    assert!(door.refused("no_certificate"));
    door.certify();
    let (mut sender, _connection) = hop::<OriginBody>(door.address, door.pod()).await;
    let request = || Request::builder().uri("https://x.test/").body(full("")).unwrap();
    assert_eq!(sender.send_request(request()).await.unwrap().status(), 200);
    for name in
        ["gateway.acme.clawlock.internal", "control.other.clawlock.internal", "x.control.acme.clawlock.internal"]
    {
        let mut tcp = door.from([127, 0, 0, 1]).await;
        tcp.write_all(&hello(name)).await.unwrap();
        tcp.shutdown().await.unwrap();
        assert!(is_closed(&mut tcp).await, "{name}");
    }
    assert_eq!(door.heard(), 0, "nothing of it reaches the control API");
    assert!(door.refused("handshake"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_first_message_is_refused() {
    let door = Door::new().await;
    door.certify();
    let mut huge = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
    huge.resize(64 * 1024, 0);
    for bytes in [&b"GET / HTTP/1.1\r\nHost: control.acme.clawlock.internal\r\n\r\n"[..], &huge, b"\0\0\0\0\0"] {
        let mut tcp = door.from([127, 0, 0, 1]).await;
        // It may be refused before all of it was sent.
        let _ = tcp.write_all(bytes).await;
        assert!(is_closed(&mut tcp).await);
    }
    assert_eq!(door.heard(), 0);
    assert!(door.refused("hello"));
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_message_ends() {
    let door = Door::new().await;
    let hello = hello(NAME);
    for said in [0, 1, hello.len() - 1] {
        let mut tcp = door.from([127, 0, 0, 1]).await;
        tcp.write_all(&hello[..said]).await.unwrap();
        // The clock of this test goes on whenever everything waits.
        let ended = tokio::time::timeout(2 * HANDSHAKE_TIMEOUT, tcp.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "{said} bytes");
    }
    assert!(door.refused("timeout"));
    assert_eq!(door.heard(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_to_the_control_api_ends() {
    let door = Door::new().await;
    let mut tcp = door.spliced([127, 0, 0, 1]).await.unwrap();
    let ended = tokio::time::timeout(2 * SPLICE_IDLE, tcp.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok());
    assert!(door.refused("splice_time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_so_many_connections_to_the_control_api_and_others_do_not_feel_it() {
    let door = Door::new().await;
    let mut taken = Vec::new();
    for _ in 0..SPLICES_AT_ONCE {
        taken.push(door.spliced([127, 0, 0, 1]).await.unwrap());
    }
    assert!(door.spliced([127, 0, 0, 1]).await.is_none());
    assert!(door.refused("splice_source"));
    assert!(door.spliced([127, 0, 0, 2]).await.is_some());
    drop(taken.pop());
    let again = async { while door.spliced([127, 0, 0, 1]).await.is_none() {} };
    within(again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_so_many_handshakes_and_others_do_not_feel_it() {
    let door = Door::new().await;
    door.certify();
    let mut waiting = Vec::new();
    for _ in 0..HANDSHAKES_AT_ONCE {
        waiting.push(door.from([127, 0, 0, 1]).await);
    }
    // Connections are accepted in their order, so these have their places before the next one asks for one.
    let mut one_more = door.from([127, 0, 0, 1]).await;
    let mut byte = [0];
    let ended = within(one_more.read(&mut byte)).await;
    assert!(matches!(ended, Ok(0) | Err(_)));
    assert!(door.refused("source"));
    assert!(door.spliced([127, 0, 0, 2]).await.is_some());
    drop(waiting);
    let again = async { while door.spliced([127, 0, 0, 1]).await.is_none() {} };
    within(again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_connections_to_the_control_api_at_once() {
    let door = Door::new().await;
    let mut tcp = door.spliced([127, 0, 0, 1]).await.unwrap();
    assert!(door.drain.finish(DEADLINE).await, "nothing holds it up");
    let mut byte = [0];
    assert!(matches!(within(tcp.read(&mut byte)).await, Ok(0) | Err(_)));
}
