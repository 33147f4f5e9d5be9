//! The control API in one process, over real TLS: a pod enrols with the client of the data plane and is
//! told its policy; what must be refused is refused.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clawlock_compile::state;
use clawlock_compile::{Resources, compile};
use clawlock_control::ToServer;
use clawlock_control::client::{self, Canaries, Config, Dial, Dialling, EnrolError, Identity, Receiver, Trust};
use clawlock_policy::SpiffeId;
use clawlock_policy::envelope::SigningKey;
use k8s_openapi::api::core::v1;
use kube::Client;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, SanType};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::review::{ReviewError, Reviewer};
use super::token::Claims;
use super::token::tests::{good, token};
use super::{Control, serve};
use crate::clock::now_ms;
use crate::halts::{Halts, Wanted};
use crate::metrics::Metrics;
use crate::pki::anchor::Anchor;
use crate::pki::signing::Signer;
use crate::pki::tenant::TenantCa;
use crate::pki::x509::Authority;
use crate::replica::Acks;
use crate::serving::trust::Authorities;
use crate::serving::{self, Board, Served, ServedTenant};
use crate::store::Memory;
use crate::world::World;
use crate::world::pod::{Place, Pod};

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// Knows the pods of a test.
struct Fake {
    pods: HashMap<String, Pod>,
}

impl Reviewer for Fake {
    async fn review(&self, _: &str, claims: &Claims) -> Result<Pod, ReviewError> {
        let pod = self.pods.get(&claims.pod).filter(|pod| pod.uid == claims.uid);
        pod.cloned().ok_or(ReviewError::Gone)
    }
}

fn resources() -> Resources {
    let mut resources = Resources::default();
    resources.gateways.push(
        serde_json::from_value(json!({
            "apiVersion": "clawlock.dev/v1alpha1", "kind": "TenantGateway",
            "metadata": {"name": "acme", "namespace": "acme-gateway"},
            "spec": {"namespaces": ["acme"], "trustDomain": "acme.example"},
        }))
        .unwrap(),
    );
    resources.policies.push(
        serde_json::from_value(json!({
            "apiVersion": "clawlock.dev/v1alpha1", "kind": "AgentPolicy",
            "metadata": {"name": "support", "namespace": "acme"},
            "spec": {"agentSelector": {}, "rules": [{"name": "read", "match": {"tools": ["read"]}, "tier": "Auto"}]},
        }))
        .unwrap(),
    );
    resources
}

/// The resources, and a halt of those that it selects.
fn halted(selector: &serde_json::Value) -> Resources {
    let mut halted = resources();
    let halt = json!({
        "apiVersion": "clawlock.dev/v1alpha1", "kind": "AgentHalt",
        "metadata": {"name": "stop", "namespace": "acme"},
        "spec": {"agentSelector": selector, "reason": "stop"},
    });
    halted.halts.push(serde_json::from_value(halt).unwrap());
    halted
}

fn pod(namespace: &str, name: &str, uid: &str, role: &str, account: &str) -> Pod {
    let labels = json!({"clawlock.dev/role": role, "clawlock.dev/tenant": "acme"});
    let pod: v1::Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "labels": labels},
        "spec": {"serviceAccountName": account, "initContainers": [{"name": "clawlock", "restartPolicy": "Always"}], "containers": []},
        "status": {"phase": "Running"},
    }))
    .unwrap();
    Pod::of(&pod)
}

struct Replica {
    address: SocketAddr,
    anchor: Arc<Anchor>,
    board: Arc<Board>,
    world: Arc<World>,
    signer: Signer,
    acks: Arc<Acks>,
    halts: mpsc::Receiver<Wanted>,
    ca: Arc<TenantCa>,
    now: Arc<Served>,
    served: watch::Sender<Arc<Served>>,
    _authorities: watch::Sender<Authorities>,
    _canaries: watch::Sender<serving::Canaries>,
}

fn served(resources: &Resources, generation: u64) -> Arc<Served> {
    let memory = Memory { tenant: "acme".to_owned(), ..Memory::default() };
    let tenants = BTreeMap::from([("acme".to_owned(), ServedTenant { generation, memory })]);
    Arc::new(Served { compilation: compile(resources), tenants })
}

async fn replica(pods: &[Pod]) -> Replica {
    // No request is ever sent by it.
    let client = Client::try_from(kube::Config::new("http://127.0.0.1:9".parse().unwrap())).unwrap();
    let metrics = Arc::new(Metrics::new());
    let world = Arc::new(World::new(client, "clawlock-system", metrics.clone()));
    let place = Place { tenant: Some("acme".to_owned()), ending: false };
    world.namespaces.put((String::new(), "acme".to_owned()), Arc::new(place));
    for pod in pods {
        put(&world, pod);
    }
    let signer = Signer::of(SigningKey::generate().unwrap());
    let anchor = Arc::new(Anchor::of(Authority::generate("test", now_ms(), DAY).unwrap().0).unwrap());
    let ca = Arc::new(TenantCa::for_tests(now_ms()));
    let now = served(&resources(), 3);
    let board = Arc::new(Board::default());
    board.update(&now, &world, &signer);
    let acks = Arc::new(Acks::default());
    let (wanting, halts) = Halts::new();
    let (served, receiver) = watch::channel(now.clone());
    let authorities = watch::channel(Arc::new(BTreeMap::from([("acme".to_owned(), ca.clone())])));
    let canaries = serving::Canaries { tripwire: vec!["10.0.0.53".parse().unwrap()], nodes: Vec::new() };
    let canaries = watch::channel(canaries);
    let control = Control {
        anchor: anchor.clone(),
        authorities: authorities.1,
        served: receiver,
        board: board.clone(),
        canaries: canaries.1,
        acks: acks.clone(),
        halts: wanting,
        signer: signer.clone(),
        world: world.clone(),
        reviewer: Fake { pods: pods.iter().map(|pod| (pod.name.clone(), pod.clone())).collect() },
        issuer: watch::channel(Some("https://kubernetes".to_owned())).1,
        metrics,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, control));
    let (_authorities, _canaries) = (authorities.0, canaries.0);
    Replica { address, anchor, board, world, signer, acks, halts, ca, now, served, _authorities, _canaries }
}

fn put(world: &World, pod: &Pod) {
    let key = (pod.namespace.clone(), pod.name.clone());
    world.pods.put(key, Arc::new(pod.clone()));
}

struct To(SocketAddr);

impl Dial for To {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(TcpStream::connect(self.0))
    }
}

/// A token that the fake accepts.
fn pod_token(namespace: &str, name: &str, uid: &str, account: &str) -> String {
    let mut payload = good();
    payload["exp"] = json!(now_ms() / 1000 + 600);
    payload["kubernetes.io"]["namespace"] = json!(namespace);
    payload["kubernetes.io"]["pod"] = json!({"name": name, "uid": uid});
    payload["kubernetes.io"]["serviceaccount"]["name"] = json!(account);
    token(&payload)
}

/// What a client was told, in words.
#[derive(Default)]
struct Heard {
    told: Mutex<Vec<String>>,
    changed: watch::Sender<usize>,
}

impl Heard {
    fn say(&self, text: String) {
        let mut told = self.told.lock().unwrap();
        told.push(text);
        self.changed.send_replace(told.len());
    }

    /// Waits until something was told.
    async fn wait_for(&self, wanted: &str) {
        self.wait_for_times(wanted, 1).await;
    }

    /// Waits until something was told so many times.
    async fn wait_for_times(&self, wanted: &str, times: usize) {
        let mut changed = self.changed.subscribe();
        let is_told = || self.told.lock().unwrap().iter().filter(|told| *told == wanted).count() >= times;
        let wait = async {
            while !is_told() {
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(20), wait).await;
        assert!(waited.is_ok(), "{wanted:?} was never told, only {:?}", self.told.lock().unwrap());
    }
}

impl Receiver for Heard {
    fn identity(&self, identity: &Identity, trust: &Trust) -> Result<(), String> {
        self.say(format!("identity with {} roots, {} keys", trust.roots.len(), trust.keys.len()));
        assert_eq!(identity.chain.len(), 1);
        Ok(())
    }

    fn trust(&self, _: &Trust) -> Result<(), String> {
        Ok(())
    }

    fn assignment(&self, envelope: &[u8], documents: &[Vec<u8>]) -> Result<u64, String> {
        let envelope = clawlock_policy::envelope::Envelope::decode(envelope).map_err(|error| error.to_string())?;
        drop(envelope);
        self.say(format!("assignment of {} documents", documents.len()));
        Ok(3)
    }

    fn remove(&self, identity: &SpiffeId) {
        self.say(format!("remove {identity}"));
    }

    fn canaries(&self, canaries: Canaries) {
        self.say(format!("canaries {:?}", canaries.tripwire));
    }

    fn synced(&self) {
        self.say("synced".to_owned());
    }
}

fn config(replica: &Replica, token: &str) -> (Config, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("token");
    std::fs::write(&path, token).unwrap();
    let anchor = replica.anchor.certificate().clone();
    (Config { tenant: "acme".to_owned(), anchor, dial: Arc::new(To(replica.address)), token: path }, folder)
}

const AGENT: (&str, &str, &str, &str) = ("acme", "bot-0", "uid-1", "bot");

fn agent() -> Pod {
    pod(AGENT.0, AGENT.1, AGENT.2, "agent", AGENT.3)
}

fn gateway() -> Pod {
    pod("acme-gateway", "clawlock-gateway-0", "uid-g", "gateway", "clawlock-gateway")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_enrols_and_is_told_its_policy() {
    let replica = replica(&[agent()]).await;
    let (config, _folder) = config(&replica, &pod_token(AGENT.0, AGENT.1, AGENT.2, AGENT.3));
    let heard = Arc::new(Heard::default());
    let (_reports, reports) = mpsc::channel::<ToServer>(1);
    tokio::spawn(client::run(config, heard.clone(), reports));
    heard.wait_for("identity with 1 roots, 1 keys").await;
    // The tenant and the policy.
    heard.wait_for("assignment of 2 documents").await;
    heard.wait_for("canaries [10.0.0.53]").await;
    heard.wait_for("synced").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_told_of_every_pod_and_of_each_that_goes() {
    let replica = replica(&[agent(), gateway()]).await;
    let token = pod_token("acme-gateway", "clawlock-gateway-0", "uid-g", "clawlock-gateway");
    let (config, _folder) = config(&replica, &token);
    let heard = Arc::new(Heard::default());
    let (_reports, reports) = mpsc::channel::<ToServer>(1);
    tokio::spawn(client::run(config, heard.clone(), reports));
    heard.wait_for("assignment of 2 documents").await;
    heard.wait_for("synced").await;
    replica.world.pods.remove(&("acme".to_owned(), "bot-0".to_owned()));
    replica.board.update(&replica.now, &replica.world, &replica.signer);
    heard.wait_for("remove spiffe://acme.example/ns/acme/sa/bot/pod/uid-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_reaches_an_open_stream() {
    let replica = replica(&[agent()]).await;
    let (config, _folder) = config(&replica, &pod_token(AGENT.0, AGENT.1, AGENT.2, AGENT.3));
    let heard = Arc::new(Heard::default());
    let (_reports, reports) = mpsc::channel::<ToServer>(1);
    tokio::spawn(client::run(config, heard.clone(), reports));
    heard.wait_for("synced").await;
    let now = served(&halted(&json!({})), 4);
    replica.served.send_replace(now.clone());
    replica.board.update(&now, &replica.world, &replica.signer);
    heard.wait_for("assignment of 3 documents").await;
}

#[tokio::test]
async fn an_edit_goes_to_whom_it_is_about_before_the_others_get_its_generation() {
    let mut other = pod("acme", "other-0", "uid-2", "agent", "bot");
    other.view.labels.insert("app".to_owned(), "other".to_owned());
    let replica = replica(&[agent(), other]).await;
    let board = &replica.board;
    let generations = || {
        let own = ["uid-1", "uid-2"].map(|uid| board.agent("acme", uid).unwrap().borrow().as_ref().unwrap().generation);
        let told = board.tenant("acme").unwrap();
        let told = told.borrow().values().map(|issued| issued.generation).collect::<Vec<_>>();
        (own, told)
    };
    assert_eq!(generations(), ([3, 3], vec![3, 3]));
    let now = served(&halted(&json!({"matchLabels": {"app": "other"}})), 4);
    board.update(&now, &replica.world, &replica.signer);
    assert_eq!(generations(), ([3, 4], vec![3, 4]));
    assert!(!board.catch_up(&replica.signer), "nobody is left");
    assert_eq!(generations(), ([4, 4], vec![4, 4]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_is_reported() {
    let replica = replica(&[agent()]).await;
    let (config, _folder) = config(&replica, &pod_token(AGENT.0, AGENT.1, AGENT.2, AGENT.3));
    let heard = Arc::new(Heard::default());
    let (_reports, reports) = mpsc::channel::<ToServer>(1);
    let mut changed = replica.acks.changes();
    tokio::spawn(client::run(config, heard.clone(), reports));
    let wait = async {
        while replica.acks.newest("acme") != Some(3) {
            changed.changed().await.unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.unwrap();
}

/// Asks for a halt of a pod of `acme`, as its sidecar and its gateway do.
fn asks(uid: &str) -> ToServer {
    let identity = SpiffeId::of_pod("acme.example", "acme", "bot", uid).unwrap();
    ToServer::halted(&identity, &clawlock_policy::Cause::Disobedience, uid)
}

async fn first_halt(replica: &mut Replica) -> Wanted {
    let halt = tokio::time::timeout(std::time::Duration::from_secs(20), replica.halts.recv()).await;
    halt.expect("nobody asks for a halt").unwrap()
}

fn halt_of(name: &str, uid: &str) -> Wanted {
    Wanted::new(&format!("acme/{name}"), uid, uid, None).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_has_its_own_pod_halted_and_no_other() {
    let mut replica = replica(&[agent(), pod("acme", "other-0", "uid-2", "agent", "bot")]).await;
    let (config, _folder) = config(&replica, &pod_token(AGENT.0, AGENT.1, AGENT.2, AGENT.3));
    let heard = Arc::new(Heard::default());
    let (reporting, reports) = mpsc::channel::<ToServer>(1);
    tokio::spawn(client::run(config, heard.clone(), reports));
    heard.wait_for("synced").await;
    reporting.send(asks("uid-2")).await.unwrap();
    // That ended the stream; the next one is as good as the first.
    heard.wait_for_times("synced", 2).await;
    reporting.send(asks("uid-1")).await.unwrap();
    assert_eq!(first_halt(&mut replica).await, halt_of("bot-0", "uid-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_has_each_pod_of_its_tenant_halted() {
    let mut replica = replica(&[agent(), pod("acme", "other-0", "uid-2", "agent", "bot"), gateway()]).await;
    let token = pod_token("acme-gateway", "clawlock-gateway-0", "uid-g", "clawlock-gateway");
    let (config, _folder) = config(&replica, &token);
    let heard = Arc::new(Heard::default());
    let (reporting, reports) = mpsc::channel::<ToServer>(4);
    tokio::spawn(client::run(config, heard.clone(), reports));
    heard.wait_for("synced").await;
    // The first is a pod that has gone meanwhile.
    for uid in ["uid-9", "uid-2", "uid-1"] {
        reporting.send(asks(uid)).await.unwrap();
    }
    assert_eq!(first_halt(&mut replica).await, halt_of("other-0", "uid-2"));
    assert_eq!(first_halt(&mut replica).await, halt_of("bot-0", "uid-1"));
}

async fn enrol(replica: &Replica, token: &str) -> Result<(), EnrolError> {
    let anchor = replica.anchor.certificate().clone();
    client::enrol(&To(replica.address), "acme", &anchor, token).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn class02_only_the_token_of_a_living_pod_of_the_tenant_gets_a_certificate() {
    let mut bare = pod("acme", "bare-0", "uid-b", "agent", "bot");
    bare.view.is_injected = false;
    let unlabelled = pod("acme", "other-0", "uid-o", "tripwire", "bot");
    let replica = replica(&[agent(), bare, unlabelled]).await;
    assert!(enrol(&replica, &pod_token(AGENT.0, AGENT.1, AGENT.2, AGENT.3)).await.is_ok());
    for (token, why) in [
        ("a.b.c".to_owned(), "no JWT"),
        (pod_token("acme", "bot-0", "uid-9", "bot"), "the pod is gone, or another one has its name"),
        (pod_token("acme", "bare-0", "uid-b", "bot"), "no sidecar"),
        (pod_token("acme", "other-0", "uid-o", "bot"), "another role"),
        (pod_token("elsewhere", "bot-0", "uid-1", "bot"), "another namespace"),
        (pod_token("acme-gateway", "bot-0", "uid-1", "bot"), "another ServiceAccount of the platform namespace"),
    ] {
        assert!(enrol(&replica, &token).await.is_err(), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_without_its_label_gets_no_certificate() {
    let replica = replica(&[agent()]).await;
    replica.world.namespaces.remove(&(String::new(), "acme".to_owned()));
    assert!(enrol(&replica, &pod_token(AGENT.0, AGENT.1, AGENT.2, AGENT.3)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pod_gets_only_so_many_certificates() {
    let replica = replica(&[agent()]).await;
    let token = pod_token(AGENT.0, AGENT.1, AGENT.2, AGENT.3);
    let mut issued = 0;
    for _ in 0..super::limits::CERTIFICATES_PER_POD.burst + 4 {
        issued += u32::from(enrol(&replica, &token).await.is_ok());
    }
    assert!(issued >= super::limits::CERTIFICATES_PER_POD.burst, "{issued}");
    assert!(issued <= super::limits::CERTIFICATES_PER_POD.burst + 1, "{issued}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_name_is_not_answered() {
    let replica = replica(&[agent()]).await;
    let anchor = replica.anchor.certificate().clone();
    let token = pod_token(AGENT.0, AGENT.1, AGENT.2, AGENT.3);
    assert!(client::enrol(&To(replica.address), "other", &anchor, &token).await.is_err());
}

/// The status that a stream gets with a certificate of these names.
async fn stream_status(replica: &Replica, names: Vec<SanType>) -> Option<u16> {
    let key = KeyPair::generate().unwrap();
    let usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = replica.ca.issue(&key, names, usages, now_ms(), DAY).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(replica.anchor.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![leaf.certificate], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(replica.address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("control.acme.clawlock.internal").unwrap();
    let tls = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.ok()?;
    let http = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    let (mut sender, connection) =
        http.handshake::<_, http_body_util::Empty<bytes::Bytes>>(hyper_util::rt::TokioIo::new(tls)).await.ok()?;
    tokio::spawn(connection);
    let request = http::Request::post("https://control.acme.clawlock.internal/v1/stream");
    let response = sender.send_request(request.body(http_body_util::Empty::new()).unwrap()).await.ok()?;
    Some(response.status().as_u16())
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn class07_a_stream_needs_exactly_the_names_that_this_operator_issues() {
    let replica = replica(&[agent(), gateway()]).await;
    let own = "spiffe://acme.example/ns/acme/sa/bot/pod/uid-1";
    let gateway = "spiffe://acme.example/ns/acme-gateway/sa/clawlock-gateway/pod/uid-g";
    let gateway_dns = "gateway.acme.clawlock.internal";
    assert_eq!(stream_status(&replica, vec![uri(own)]).await, Some(200));
    assert_eq!(stream_status(&replica, vec![uri(gateway), dns(gateway_dns)]).await, Some(200));
    for names in [
        vec![],
        vec![uri(own), uri(own)],
        vec![uri(own), dns(gateway_dns)],
        vec![uri(gateway)],
        vec![dns(gateway_dns)],
        vec![uri(gateway), dns("gateway.other.clawlock.internal")],
        vec![uri("spiffe://other.example/ns/acme/sa/bot/pod/uid-1")],
        vec![uri("spiffe://acme.example/ns/elsewhere/sa/bot/pod/uid-1")],
    ] {
        assert_eq!(stream_status(&replica, names.clone()).await, Some(403), "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_ca_is_no_certificate() {
    let mut replica = replica(&[agent()]).await;
    replica.ca = Arc::new(TenantCa::for_tests(now_ms()));
    let own = "spiffe://acme.example/ns/acme/sa/bot/pod/uid-1";
    assert_eq!(stream_status(&replica, vec![uri(own)]).await, None);
}

#[test]
fn the_fixture_is_valid() {
    let resources = resources();
    let compilation = compile(&resources);
    assert_eq!(compilation.problems, []);
    assert!(state::of_tenant(&resources, &compilation, "acme").is_some());
}
