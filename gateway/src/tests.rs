//! The whole program but its watch over Secrets, between a control API of the real messages and a pod's sidecar.

#[allow(dead_code, reason = "shared with the tests of the client, which need other parts of it")]
#[path = "../../sidecar/control/tests/common/server.rs"]
mod server;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clawlock_control::client::{self, Dial, Dialling};
use clawlock_control::{ToClient, ToServer};
use clawlock_policy::SpiffeId;
use clawlock_policy::document::{Document, TenantDoc};
use clawlock_proxy::body::GateBody;
use clawlock_proxy::hop::client::Endpoint;
use clawlock_proxy::hop::{HopClient, HopError};
use clawlock_proxy::tls::{Leaf, gateway_name, hop_client};
use http::Request;
use http_body_util::BodyExt as _;
use rustls::ClientConfig;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::args::{Control as ControlAt, ControlHost, Settings};
use crate::run::{Addresses, Program};
use crate::secrets::Store;
use server::{Control, SOON, Stream, TENANT, Who, pod, token_file};

const TOKEN: &str = "token-of-the-gateway";
const POD_TOKEN: &str = "token-of-the-pod";

/// Records, for a test to read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sidecar's way to the control API: through the gateway.
struct Through(SocketAddr);

impl Dial for Through {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(TcpStream::connect(self.0))
    }
}

struct World {
    control: Control,
    program: Program,
    log: Log,
    _folder: TempDir,
}

impl World {
    /// A gateway that has just started.
    async fn start() -> Self {
        Self::with_certificates_for(Duration::from_secs(3600)).await
    }

    async fn with_certificates_for(ttl: Duration) -> Self {
        let control = Control::start().await;
        control.set_ttl(ttl);
        let identity = SpiffeId::of_pod("acme.example", "acme-gateway", "clawlock-gateway", "uid-g").unwrap();
        control.admit(TOKEN, Who::gateway(&identity));
        let folder = TempDir::new().unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let settings = Settings {
            tenant: TENANT.to_owned(),
            identity,
            pod: "clawlock-gateway-0".to_owned(),
            namespace: "acme-gateway".to_owned(),
            control: ControlAt { host: ControlHost::Address(control.address.ip()), port: control.address.port() },
            anchor: control.anchor.der.clone(),
            hop: any,
            admin: any,
            token: token_file(folder.path(), TOKEN),
        };
        let log = Log::default();
        let program = Program::start(settings, Arc::new(Store::default()), log.clone()).await.unwrap();
        Self { control, program, log, _folder: folder }
    }

    fn addresses(&self) -> Addresses {
        self.program.addresses
    }

    /// The gateway's stream, with everything said that there is to say.
    async fn told(&self, pods: &[&str], generation: u64) -> Stream {
        let mut stream = self.control.stream().await;
        stream.say(&[self.control.trust()]).await;
        for uid in pods {
            let (pod, identity) = pod(uid);
            stream.say(&self.control.policy(&pod, &identity, &[tenant()], generation)).await;
        }
        stream.say(&[ToClient::Synced {}]).await;
        stream
    }

    /// A pod's end of the hop, with a certificate that it got through the gateway.
    async fn sidecar(&self, uid: &str) -> HopClient {
        let (_, identity) = pod(uid);
        self.control.admit(POD_TOKEN, Who::agent(&identity));
        let way = Through(self.addresses().hop);
        let (leaf, trust) = client::enrol(&way, TENANT, &self.control.anchor.der, POD_TOKEN).await.unwrap();
        self.hop(hop_client(&trust.roots, Leaf { chain: leaf.chain, key: leaf.key }).unwrap())
    }

    fn hop(&self, tls: Arc<ClientConfig>) -> HopClient {
        HopClient::new(Endpoint { address: self.addresses().hop, name: gateway_name(TENANT).unwrap(), tls })
    }

    /// A pod's certificate that lasts.
    fn lasting(&self, uid: &str) -> Arc<ClientConfig> {
        let (leaf, key) = self.control.tenant.leaf(&Who::agent(&pod(uid).1));
        hop_client(std::slice::from_ref(&self.control.tenant.der), Leaf { chain: vec![leaf], key }).unwrap()
    }

    /// Asks the admin listener.
    async fn admin(&self, path: &str) -> String {
        let mut tcp = TcpStream::connect(self.addresses().admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Waits until the admin listener's answer has a text.
    async fn until(&self, path: &str, text: &str) {
        until(async || self.admin(path).await.contains(text)).await;
    }
}

/// Waits until something holds.
async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.expect("it must come to hold");
}

/// Waits until requests are refused with a code; says with what they were instead if that never comes.
async fn refused_with(hop: &HopClient, code: &str) {
    let mut last = None;
    let waiting = async {
        while !last.insert(refusal(hop).await).as_deref().is_ok_and(|refused| refused == code) {
            tokio::task::yield_now().await;
        }
    };
    let came = tokio::time::timeout(SOON, waiting).await;
    assert!(came.is_ok(), "{code} must come, the last answer was {last:?}");
}

/// Waits until a pod's generation is acknowledged.
async fn acknowledged(stream: &mut Stream, uid: &str, generation: u64) {
    let expected = ToServer::Ack { generation, identity: Some(pod(uid).1.to_string()) };
    while stream.hear().await != expected {}
}

fn tenant() -> Document {
    Document::Tenant(TenantDoc {
        name: TENANT.to_owned(),
        guardrails: Vec::new(),
        limits: vec![],
        tool_categories: vec![],
        audit_until_ms: None,
        allowed_modes: Vec::new(),
    })
}

/// Asks for something that no policy allows. Answers the refusal's code.
async fn refusal(hop: &HopClient) -> Result<String, HopError> {
    let request = Request::builder()
        .uri("https://api.vendor.test/")
        .header("clawlock-upstream", "vendor")
        .header("clawlock-request-id", "r-1")
        .header("clawlock-agent-gate-us", "7")
        .body(GateBody::empty())
        .unwrap();
    let body = hop.send(request).await?.into_body().collect().await.unwrap().to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    Ok(problem["code"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_becomes_ready_step_by_step_and_decides_for_its_pods() {
    let world = World::start().await;
    let mut stream = world.control.stream().await;
    assert!(world.admin("/readyz").await.contains("not all policy has been received"));
    assert!(world.admin("/healthz").await.starts_with("HTTP/1.1 200 "));
    stream.say(&[world.control.trust(), ToClient::Synced {}]).await;
    world.until("/readyz", "the Secrets have not been read").await;
    world.program.readiness.secrets();
    world.until("/readyz", "HTTP/1.1 200 ").await;

    let sidecar = world.sidecar("1").await;
    assert_eq!(refusal(&sidecar).await.unwrap(), "NoAssignment");
    let (pod_1, identity) = pod("1");
    stream.say(&world.control.policy(&pod_1, &identity, &[tenant()], 7)).await;
    acknowledged(&mut stream, "1", 7).await;
    assert_eq!(refusal(&sidecar).await.unwrap(), "UnknownUpstream");
    let records = String::from_utf8(world.log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(records.lines().count(), 2, "{records}");
    assert!(records.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    let metrics = world.admin("/metrics").await;
    for figure in ["clawlock_certificate_end_seconds", "clawlock_spliced_bytes_total", "clawlock_refused_assignments"] {
        assert!(metrics.contains(figure), "{figure}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_has_ended_is_nobody_at_once() {
    let world = World::start().await;
    let mut stream = world.told(&["1", "2"], 3).await;
    acknowledged(&mut stream, "2", 3).await;
    let (gone, stays) = (world.sidecar("1").await, world.sidecar("2").await);
    assert_eq!(refusal(&gone).await.unwrap(), "UnknownUpstream");
    stream.say(&[ToClient::Remove { identity: pod("1").1.to_string() }]).await;
    refused_with(&gone, "NoAssignment").await;
    assert_eq!(refusal(&stays).await.unwrap(), "UnknownUpstream");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_break_whoever_is_not_named_again_is_out_until_named() {
    let world = World::start().await;
    let mut stream = world.told(&["1", "2"], 3).await;
    acknowledged(&mut stream, "2", 3).await;
    let vanished = world.sidecar("1").await;
    assert_eq!(refusal(&vanished).await.unwrap(), "UnknownUpstream");
    stream.end();
    let mut stream = world.told(&["2"], 3).await;
    acknowledged(&mut stream, "2", 3).await;
    refused_with(&vanished, "NoAssignment").await;
    // The replica had just not known it yet.
    let (pod_1, identity) = pod("1");
    stream.say(&world.control.policy(&pod_1, &identity, &[tenant()], 3)).await;
    refused_with(&vanished, "UnknownUpstream").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_force_stays_while_the_operator_is_away() {
    let world = World::start().await;
    let mut stream = world.told(&["1"], 3).await;
    acknowledged(&mut stream, "1", 3).await;
    world.program.readiness.secrets();
    let sidecar = world.sidecar("1").await;
    world.control.refuse_streams(Some((http::StatusCode::SERVICE_UNAVAILABLE, "NotServing")));
    stream.end();
    stream.gone().await;
    assert_eq!(refusal(&sidecar).await.unwrap(), "UnknownUpstream");
    assert!(world.admin("/readyz").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_vouches_for_the_canaries_that_it_was_told_of() {
    let world = World::start().await;
    let mut stream = world.told(&["1"], 1).await;
    acknowledged(&mut stream, "1", 1).await;
    let sidecar = world.sidecar("1").await;
    // Nobody is there; what counts is that it was tried.
    let nobody = IpAddr::from(Ipv4Addr::new(127, 83, 9, 1));
    stream.say(&[ToClient::Canaries { tripwire: vec![nobody], nodes: vec![nobody] }]).await;
    until(async || {
        let voucher = sidecar.voucher().await.unwrap();
        voucher.tripwire.iter().any(|tripwire| tripwire.address == nobody && !tripwire.tcp && !tripwire.udp)
            && voucher.nodes.iter().any(|node| node.address == nobody && !node.tcp)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_while_pods_are_served() {
    let world = World::with_certificates_for(Duration::from_secs(3)).await;
    let mut stream = world.told(&["1"], 1).await;
    acknowledged(&mut stream, "1", 1).await;
    let tls = world.lasting("1");
    let sidecar = world.hop(tls.clone());
    for issued in 2..=4 {
        until(async || {
            assert_eq!(refusal(&sidecar).await.unwrap(), "UnknownUpstream");
            world.control.issued() >= issued
        })
        .await;
        // A connection of its own meets the newest certificate.
        assert!(world.hop(tls.clone()).is_reachable().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_gracefully() {
    let world = World::start().await;
    let _stream = world.told(&["1"], 1).await;
    let sidecar = world.sidecar("1").await;
    refused_with(&sidecar, "UnknownUpstream").await;
    let hop = world.addresses().hop;
    assert!(world.program.finish(SOON).await, "nothing is open, and idle connections are told to go");
    assert!(TcpStream::connect(hop).await.is_err());
    assert!(refusal(&sidecar).await.is_err());
}
