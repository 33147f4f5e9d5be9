//! A tenant on loopback: an upstream, the tenant's real gateway, a tripwire, and the sidecar of one pod with
//! everything but the control client, whose part the test plays.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clawlock_audit::JsonLines;
use clawlock_control::ToServer;
use clawlock_control::client::{Canaries, Identity, Receiver as _, Trust};
use clawlock_policy::document::{
    Assignment, CauseDoc, CredentialDoc, Document, HaltDoc, HttpMatchDoc, MatchDoc, Mode, OnDeny, PodDoc, PolicyDoc,
    Protocol, RuleDoc, Scheme, SecretKey, TenantDoc, Tier, UpstreamDoc,
};
use clawlock_policy::envelope::{self, Envelope, SigningKey, TrustedKeys};
use clawlock_policy::{HostName, SpiffeId, codec};
use clawlock_proxy::clock::{Clock as _, SystemClock};
use clawlock_proxy::credentials::{Credentials, Secret};
use clawlock_proxy::drain::Drain;
use clawlock_proxy::gateway::Gateway;
use clawlock_proxy::metrics::Metrics;
use clawlock_proxy::policies::PolicyTable;
use clawlock_proxy::tls::{Leaf, hop_server};
use clawlock_proxy::upstream::Upstreams;
use clawlock_proxy::upstream::resolve::{Overrides, Resolve, ResolveError, Resolving};
use clawlock_proxy::voucher::{Ports, Targets, Vouchers};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;

use crate::args::{Config, Places};
use crate::isolation::Pace;
use crate::receiver::Intake;
use crate::sidecar::{Addresses, Sidecar, Stream};

pub(super) const HOST: &str = "api.vendor.test";
pub(super) const TENANT: &str = "acme";
pub(super) const GATEWAY_NAME: &str = "gateway.acme.clawlock.internal";
const HOUR_MS: u64 = 3_600_000;

/// No other test listens here.
pub(super) const TRIPWIRE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 83, 2, 1));
/// A port for each world, below those that the kernel gives out: a world beside this one must not be given it.
static NEXT_PORT: AtomicU16 = AtomicU16::new(20_000);

/// Longer than anything here takes.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// Records, for a test to read.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) struct NoSecrets;

impl Credentials for NoSecrets {
    fn get(&self, _: &SecretKey) -> Option<Arc<Secret>> {
        None
    }
}

pub(super) struct NoNames;

impl Resolve for NoNames {
    fn resolve<'a>(&'a self, host: &'a HostName) -> Resolving<'a> {
        Box::pin(std::future::ready(Err(ResolveError(format!("{host} has no address")))))
    }
}

/// A tenant's CA.
pub(super) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(super) root: CertificateDer<'static>,
}

impl Ca {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    fn leaf(&self, name: SanType, usage: ExtendedKeyUsagePurpose) -> Leaf {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Leaf { chain: vec![certificate.der().clone()], key }
    }

    /// What the operator issues to a pod.
    pub(super) fn identity(&self, identity: &str) -> Identity {
        let Leaf { chain, key } =
            self.leaf(SanType::URI(identity.try_into().unwrap()), ExtendedKeyUsagePurpose::ClientAuth);
        Identity { chain, key, not_after_ms: u64::MAX }
    }
}

/// Everything that runs.
pub(super) struct World {
    pub(super) ca: Ca,
    pub(super) key: SigningKey,
    pub(super) identity: SpiffeId,
    pub(super) intake: Arc<Intake>,
    pub(super) reports: mpsc::Receiver<ToServer>,
    pub(super) addresses: Addresses,
    pub(super) log: Log,
    pub(super) folder: TempDir,
    pub(super) upstream: u16,
    /// Whether assignments say that the pod is halted.
    pub(super) halted: AtomicBool,
    sidecar: Option<Sidecar>,
    config: Config,
    gateway_table: Arc<PolicyTable>,
    generation: AtomicU64,
    _gateway: Drain,
}

impl World {
    pub(super) async fn start() -> Self {
        let (ca, key) = (Ca::new(), SigningKey::generate().unwrap());
        let upstream = upstream().await;
        let trusted = TrustedKeys::new([key.public().clone()]);
        let gateway_table = Arc::new(PolicyTable::new(trusted, Arc::new(SystemClock)));
        let (gateway, drain) = gateway(&ca, gateway_table.clone(), tripwire().await).await;
        // For the sidecar the tripwire's port is another one: nobody is there, as if the network kept them apart.
        let free = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::tempdir().unwrap();
        let agent = folder.path().join("agent");
        std::fs::create_dir(&agent).unwrap();
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let pause = Duration::from_millis(5);
        let identity = SpiffeId::of_pod("acme.example", "acme", "default", "uid-1").unwrap();
        let config = Config {
            tenant: TENANT.to_owned(),
            pod: "agent-0".to_owned(),
            identity: identity.clone(),
            gateway,
            anchor: ca.root.clone(),
            host: Ipv4Addr::LOCALHOST.into(),
            places: Places {
                token: folder.path().join("token"),
                private: folder.path().join("private").join("ca"),
                agent,
                proxy: local,
                decide: local,
                health: local,
            },
            canaries: Ports { tripwire: free, node: free },
            pace: Pace { unproven: pause, isolated: pause, breached: pause },
        };
        let log = Log::default();
        let (sidecar, Stream { intake, reports }, addresses) =
            Box::pin(Sidecar::closed(config.clone(), log.clone())).await.unwrap();
        Self {
            ca,
            key,
            identity,
            intake,
            reports,
            addresses,
            log,
            folder,
            upstream,
            halted: AtomicBool::new(false),
            sidecar: Some(sidecar),
            config,
            gateway_table,
            generation: AtomicU64::new(0),
            _gateway: drain,
        }
    }

    /// The sidecar ends and starts again, as its container does.
    pub(super) async fn restart(&mut self) {
        assert!(self.sidecar.take().unwrap().finish(DEADLINE).await, "nothing was open");
        let started = Box::pin(Sidecar::closed(self.config.clone(), self.log.clone())).await.unwrap();
        let (sidecar, Stream { intake, reports }, addresses) = started;
        (self.sidecar, self.intake, self.reports, self.addresses) = (Some(sidecar), intake, reports, addresses);
    }

    /// Folder that agents read.
    pub(super) fn agent(&self) -> &Path {
        &self.config.places.agent
    }

    pub(super) fn trust(&self) -> Trust {
        Trust { roots: vec![self.ca.root.clone()], keys: vec![self.key.public().clone()] }
    }

    /// The operator issues a certificate.
    pub(super) fn certify(&self) {
        self.intake.identity(&self.ca.identity(self.identity.as_str()), &self.trust()).unwrap();
    }

    /// The operator names the canaries.
    pub(super) fn name_canaries(&self) {
        self.intake.canaries(Canaries { tripwire: vec![TRIPWIRE], nodes: Vec::new() });
    }

    /// A signed assignment for an identity, and its signed documents.
    pub(super) fn sign(&self, identity: &str, tenant: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        let mut documents = documents(self.upstream);
        if self.halted.load(Ordering::SeqCst) {
            let cause = CauseDoc::Denial { policy: "acme/support".to_owned(), rule: "no-secret".to_owned() };
            let (name, reason) = ("acme/pod-uid-1".to_owned(), "why".to_owned());
            documents.push(Document::Halt(HaltDoc { name, reason, cause: Some(cause) }));
        }
        let encoded: Vec<Vec<u8>> = documents.iter().map(codec::encode).collect();
        let mut digests: Vec<String> = encoded.iter().map(|bytes| codec::digest(bytes)).collect();
        digests.sort();
        let now = SystemClock.read().wall_ms;
        let assignment = Assignment {
            tenant: tenant.to_owned(),
            identity: identity.to_owned(),
            pod: PodDoc {
                namespace: "acme".to_owned(),
                name: "agent-0".to_owned(),
                uid: identity.rsplit('/').next().unwrap().to_owned(),
                service_account: "default".to_owned(),
                labels: BTreeMap::new(),
            },
            plugin_optional: None,
            digests,
            generation,
            issued_at_ms: now,
            not_after_ms: now + 12 * HOUR_MS,
        };
        let sign = |kind, payload: &[u8]| Envelope::sign(kind, payload, &self.key).encode();
        let envelope = sign(envelope::ASSIGNMENT, &codec::encode_assignment(&assignment));
        (envelope, encoded.iter().map(|bytes| sign(envelope::DOCUMENT, bytes)).collect())
    }

    /// The operator assigns a policy, to both gates.
    pub(super) fn assign(&self) -> u64 {
        let (envelope, documents) = self.sign(self.identity.as_str(), TENANT);
        self.gateway_table.install(&envelope, &documents).unwrap();
        self.intake.assignment(&envelope, &documents).unwrap()
    }

    /// Somebody answers where the network should drop.
    pub(super) async fn breach(&self) -> TcpListener {
        TcpListener::bind((TRIPWIRE, self.config.canaries.tripwire)).await.unwrap()
    }

    /// Waits until a path of the health listener answers so, and gives the text.
    pub(super) async fn health(&self, path: &str, status: &str) -> String {
        let mut last = String::new();
        let answered = tokio::time::timeout(DEADLINE, async {
            loop {
                last = self.probe(path).await;
                if last.starts_with(&format!("HTTP/1.1 {status} ")) {
                    return;
                }
            }
        });
        if answered.await.is_err() {
            panic!("{path} is never {status}, but {last}");
        }
        last
    }

    /// Asks the health listener once.
    pub(super) async fn probe(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        self.send(self.addresses.health, &request).await.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// A request of the agent to the upstream, through the proxy.
    pub(super) async fn ask(&self, path: &str) -> String {
        let mut answer = String::new();
        self.open(path).await.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// The same, with the answer still to be read.
    pub(super) async fn open(&self, path: &str) -> TcpStream {
        let authority = format!("{HOST}:{}", self.upstream);
        let head = format!("GET http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        self.send(self.addresses.proxy, &head).await
    }

    async fn send(&self, to: SocketAddr, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }
}

/// The agent may do everything at its one upstream, but `/secret` halts it.
pub(super) fn documents(port: u16) -> Vec<Document> {
    let rule = |name: &str, paths: &[&str], tier, on_deny| RuleDoc {
        name: name.to_owned(),
        matches: MatchDoc::Http(HttpMatchDoc {
            upstreams: vec!["vendor".to_owned()],
            methods: Vec::new(),
            paths: paths.iter().map(ToString::to_string).collect(),
        }),
        when: None,
        schedule: None,
        tier,
        on_deny,
    };
    let rules = vec![
        rule("no-secret", &["/secret"], Tier::Block, OnDeny::Halt),
        rule("vendor", &[], Tier::Auto, OnDeny::Continue),
    ];
    vec![
        Document::Tenant(TenantDoc {
            name: TENANT.to_owned(),
            guardrails: Vec::new(),
            limits: vec![],
            tool_categories: vec![],
            audit_until_ms: None,
            allowed_modes: vec![Mode::Enforce],
        }),
        Document::Policy(PolicyDoc {
            name: "acme/support".to_owned(),
            mode: Mode::Enforce,
            rules,
            residency: None,
            limits: vec![],
        }),
        Document::Upstream(UpstreamDoc {
            name: "vendor".to_owned(),
            protocol: Protocol::Http,
            scheme: Scheme::Http,
            hosts: vec![HOST.to_owned()],
            port,
            allowed_cidrs: vec!["127.0.0.0/8".to_owned()],
            residency: None,
            category: None,
            ca_pem: None,
            credential: CredentialDoc::None {},
            operations: Vec::new(),
        }),
    ]
}

/// An upstream that answers `ok`, but to `/stream` without end.
pub(super) async fn upstream() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    port
}

async fn serve(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let endless = head.starts_with(b"GET /stream ");
    let answer: &[u8] = if endless {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n"
    } else {
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    };
    stream.write_all(answer).await.unwrap();
    if endless {
        // Until the other side goes.
        drop(stream.read_u8().await);
    }
}

/// A tripwire as the gateway sees it: TCP and UDP at one port.
pub(super) async fn tripwire() -> u16 {
    let (tcp, udp) = loop {
        let tcp = TcpListener::bind((TRIPWIRE, 0)).await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            break (tcp, udp);
        }
    };
    let port = tcp.local_addr().unwrap().port();
    tokio::spawn(async move { while tcp.accept().await.is_ok() {} });
    tokio::spawn(async move {
        let mut question = [0; 64];
        while let Ok((length, from)) = udp.recv_from(&mut question).await {
            udp.send_to(&question[..length], from).await.unwrap();
        }
    });
    port
}

/// The tenant's gateway, which reaches the tripwire.
async fn gateway(ca: &Ca, table: Arc<PolicyTable>, tripwire: u16) -> (SocketAddr, Drain) {
    let name = SanType::DnsName(GATEWAY_NAME.try_into().unwrap());
    let tls = hop_server(std::slice::from_ref(&ca.root), ca.leaf(name, ExtendedKeyUsagePurpose::ServerAuth)).unwrap();
    let hosts = HashMap::from([(HostName::parse(HOST).unwrap(), vec![Ipv4Addr::LOCALHOST.into()])]);
    let upstreams = Upstreams::new(Arc::new(Overrides::new(hosts, NoNames)), Arc::new(NoSecrets));
    let ports = Ports { tripwire, node: tripwire };
    let vouchers = Arc::new(Vouchers::new(GATEWAY_NAME.to_owned(), ports, table.clone()));
    vouchers.set_targets(Targets { tripwire: vec![TRIPWIRE], nodes: Vec::new() });
    let audit = Arc::new(JsonLines::new(Log::default()).unwrap());
    let gateway = Gateway::new(table, audit, Arc::new(Metrics::default()), upstreams).vouching(vouchers);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let drain = Drain::new();
    tokio::spawn(Arc::new(gateway).serve(listener, tls, drain.watcher()));
    (address, drain)
}
