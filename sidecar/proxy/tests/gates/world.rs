//! A tenant with one agent: policy tables, keys, certificates, both gates.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use clawlock_audit::JsonLines;
use clawlock_policy::document::{
    Assignment, CredentialDoc, Document, HttpMatchDoc, MatchDoc, Mode, OnDeny, PodDoc, PolicyDoc, Protocol, RuleDoc,
    Scheme, SecretKey, TenantDoc, Tier, UpstreamDoc,
};
use clawlock_policy::envelope::{self, Envelope, SigningKey, TrustedKeys};
use clawlock_policy::ticket::Reading;
use clawlock_policy::{HostName, SpiffeId, codec};
use clawlock_proxy::agent::{AgentGate, Listeners};
use clawlock_proxy::clock::Clock;
use clawlock_proxy::credentials::{Credentials, Secret};
use clawlock_proxy::drain::{Drain, Watcher};
use clawlock_proxy::gateway::Gateway;
use clawlock_proxy::hop::HopClient;
use clawlock_proxy::hop::client::Endpoint;
use clawlock_proxy::intercept::InterceptionCa;
use clawlock_proxy::metrics::Metrics;
use clawlock_proxy::policies::{InstallError, PolicyTable};
use clawlock_proxy::tls::{Leaf, gateway_name, hop_client, hop_server};
use clawlock_proxy::upstream::Upstreams;
use clawlock_proxy::upstream::resolve::{Overrides, Resolve, ResolveError, Resolving};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::TcpListener;

/// The canary: it may be seen at its one upstream and nowhere else.
pub(crate) const CANARY: &str = "sk-canary-4711/+x==Zz";
pub(crate) const HOST: &str = "api.vendor.test";

const HOUR_MS: u64 = 3_600_000;

/// A clock that a test moves.
pub(crate) struct TestClock {
    pub(crate) wall_ms: AtomicU64,
    pub(crate) boot_ms: AtomicU64,
}

impl Clock for TestClock {
    fn read(&self) -> Reading {
        Reading { wall_ms: self.wall_ms.load(Ordering::SeqCst), boot_ms: self.boot_ms.load(Ordering::SeqCst) }
    }
}

/// A log that a test reads, breaks and holds up.
#[derive(Clone, Default)]
pub(crate) struct TestLog {
    lines: Arc<Mutex<Vec<u8>>>,
    pub(crate) broken: Arc<AtomicBool>,
    held: Arc<(Mutex<bool>, Condvar)>,
}

impl TestLog {
    pub(crate) fn hold(&self, hold: bool) {
        *self.held.0.lock().unwrap() = hold;
        self.held.1.notify_all();
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.lines.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn records(&self) -> Vec<Value> {
        self.text().lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Write for TestLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut held = self.held.0.lock().unwrap();
        while *held {
            held = self.held.1.wait(held).unwrap();
        }
        drop(held);
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.lines.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Answers that a test changes while the gates run.
#[derive(Clone, Default)]
pub(crate) struct TestNames(pub(crate) Arc<Mutex<HashMap<String, Vec<Vec<IpAddr>>>>>);

impl TestNames {
    /// Sets the answers of a name: the first, the second, …; the last one stays.
    pub(crate) fn set(&self, host: &str, answers: Vec<Vec<IpAddr>>) {
        self.0.lock().unwrap().insert(host.to_owned(), answers);
    }
}

impl Resolve for TestNames {
    fn resolve<'a>(&'a self, host: &'a HostName) -> Resolving<'a> {
        let mut names = self.0.lock().unwrap();
        let answer = match names.get_mut(host.as_str()) {
            Some(answers) if answers.len() > 1 => Ok(answers.remove(0)),
            Some(answers) => Ok(answers[0].clone()),
            None => Err(ResolveError("no such name".to_owned())),
        };
        Box::pin(std::future::ready(answer))
    }
}

/// Secrets that a test changes.
#[derive(Clone, Default)]
pub(crate) struct TestSecrets(pub(crate) Arc<Mutex<HashMap<String, Arc<Secret>>>>);

impl Credentials for TestSecrets {
    fn get(&self, key: &SecretKey) -> Option<Arc<Secret>> {
        self.0.lock().unwrap().get(&key.name).cloned()
    }
}

/// A CA for tests.
pub(crate) struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
}

impl TestCa {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { der: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn leaf(&self, name: SanType, usage: ExtendedKeyUsagePurpose) -> Leaf {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { chain: vec![certificate.der().clone()], key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }

    pub(crate) fn server(&self, host: &str) -> Leaf {
        self.leaf(SanType::DnsName(host.try_into().unwrap()), ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub(crate) fn client(&self, identity: &str) -> Leaf {
        self.leaf(SanType::URI(identity.try_into().unwrap()), ExtendedKeyUsagePurpose::ClientAuth)
    }
}

/// Everything that runs.
pub(crate) struct World {
    pub(crate) proxy: SocketAddr,
    pub(crate) decide: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) gateway: SocketAddr,
    pub(crate) identity: SpiffeId,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) log: TestLog,
    pub(crate) names: TestNames,
    pub(crate) secrets: TestSecrets,
    pub(crate) hop_ca: TestCa,
    pub(crate) intercept: Arc<InterceptionCa>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) agent_table: Arc<PolicyTable>,
    pub(crate) gateway_table: Arc<PolicyTable>,
    key: SigningKey,
    generation: AtomicU64,
    plugin_optional: Mutex<Option<String>>,
    gateway_drain: Mutex<Option<Drain>>,
    _agent_drain: Drain,
}

impl World {
    /// Starts both gates with these documents in force.
    pub(crate) async fn start(documents: Vec<Document>) -> Self {
        let start_ms = 1_800_000_000_000;
        let clock = Arc::new(TestClock { wall_ms: start_ms.into(), boot_ms: 1000.into() });
        let key = SigningKey::generate().unwrap();
        let table = || Arc::new(PolicyTable::new(TrustedKeys::new([key.public().clone()]), clock.clone()));
        let (agent_table, gateway_table) = (table(), table());
        let log = TestLog::default();
        let audit = Arc::new(JsonLines::new(log.clone()).unwrap());
        let metrics = Arc::new(Metrics::default());
        let (names, secrets) = (TestNames::default(), TestSecrets::default());
        secrets.0.lock().unwrap().insert("vendor".to_owned(), Arc::new(Secret::new(CANARY.into()).unwrap()));
        let identity = SpiffeId::of_pod("acme.example", "acme", "default", "uid-1").unwrap();

        let hop_ca = TestCa::new();
        let gateway_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway_address = gateway_listener.local_addr().unwrap();
        let server_tls =
            hop_server(std::slice::from_ref(&hop_ca.der), hop_ca.server("gateway.acme.clawlock.internal")).unwrap();
        let resolver = Overrides::new(HashMap::new(), names.clone());
        let upstreams = Upstreams::new(Arc::new(resolver), Arc::new(secrets.clone()));
        let gateway = Arc::new(Gateway::new(gateway_table.clone(), audit.clone(), metrics.clone(), upstreams));
        let gateway_drain = Drain::new();
        tokio::spawn(gateway.serve(gateway_listener, server_tls, gateway_drain.watcher()));

        let intercept = Arc::new(InterceptionCa::in_memory().unwrap());
        let hop = HopClient::new(Endpoint {
            address: gateway_address,
            name: gateway_name("acme").unwrap(),
            tls: hop_client(std::slice::from_ref(&hop_ca.der), hop_ca.client(identity.as_str())).unwrap(),
        });
        let gate = Arc::new(AgentGate::new(
            identity.clone(),
            agent_table.clone(),
            audit.clone(),
            metrics.clone(),
            hop,
            intercept.clone(),
        ));
        let agent_drain = Drain::new();
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let decide = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (proxy_address, decide_address) = (proxy.local_addr().unwrap(), decide.local_addr().unwrap());
        let admin_address = admin.local_addr().unwrap();
        let listeners = Listeners { proxy, decide, decide_unix: None, admin: Some(admin) };
        tokio::spawn(gate.serve(listeners, agent_drain.watcher()));

        let world = Self {
            proxy: proxy_address,
            decide: decide_address,
            admin: admin_address,
            gateway: gateway_address,
            identity,
            clock,
            log,
            names,
            secrets,
            hop_ca,
            intercept,
            metrics,
            agent_table,
            gateway_table,
            key,
            generation: AtomicU64::new(0),
            plugin_optional: Mutex::new(None),
            gateway_drain: Mutex::new(Some(gateway_drain)),
            _agent_drain: agent_drain,
        };
        world.install(documents);
        world
    }

    /// Puts documents into force at both gates.
    pub(crate) fn install(&self, documents: Vec<Document>) {
        let (assignment, documents) = self.sign(documents, 12 * HOUR_MS);
        self.gateway_table.install(&assignment, &documents).unwrap();
        self.agent_table.install(&assignment, &documents).unwrap();
    }

    /// By which entry the agent needs no plugin, from the next assignment on.
    pub(crate) fn plugin_optional(&self, entry: Option<&str>) {
        *self.plugin_optional.lock().unwrap() = entry.map(str::to_owned);
    }

    /// A signed assignment of the next generation with its signed documents.
    pub(crate) fn sign(&self, documents: Vec<Document>, valid_ms: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        let now = self.clock.read().wall_ms;
        let encoded: Vec<Vec<u8>> = documents.iter().map(codec::encode).collect();
        let mut digests: Vec<String> = encoded.iter().map(|bytes| codec::digest(bytes)).collect();
        digests.sort();
        let assignment = Assignment {
            tenant: "acme".to_owned(),
            identity: self.identity.to_string(),
            pod: PodDoc {
                namespace: "acme".to_owned(),
                name: "agent-0".to_owned(),
                uid: "uid-1".to_owned(),
                service_account: "default".to_owned(),
                labels: BTreeMap::new(),
            },
            plugin_optional: self.plugin_optional.lock().unwrap().clone(),
            digests,
            generation,
            issued_at_ms: now,
            not_after_ms: now + valid_ms,
        };
        let sign = |kind, payload: &[u8]| Envelope::sign(kind, payload, &self.key).encode();
        let assignment = sign(envelope::ASSIGNMENT, &codec::encode_assignment(&assignment));
        (assignment, encoded.iter().map(|bytes| sign(envelope::DOCUMENT, bytes)).collect())
    }

    /// The keys that verify what [`World::sign`] signs.
    pub(crate) fn trusted(&self) -> TrustedKeys {
        TrustedKeys::new([self.key.public().clone()])
    }

    /// Installs at the agent's gate only what was signed.
    pub(crate) fn install_signed(&self, signed: &(Vec<u8>, Vec<Vec<u8>>)) -> Result<u64, InstallError> {
        self.gateway_table.install(&signed.0, &signed.1)?;
        self.agent_table.install(&signed.0, &signed.1)
    }

    /// Ends the gateway.
    pub(crate) async fn stop_gateway(&self) {
        let drain = self.gateway_drain.lock().unwrap().take().unwrap();
        drain.finish(std::time::Duration::from_secs(5)).await;
    }

    /// What watches the gateway's drain.
    pub(crate) fn watcher(&self) -> Watcher {
        self.gateway_drain.lock().unwrap().as_ref().unwrap().watcher()
    }
}

pub(crate) fn loopback() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// The vendor's upstream at a port, with the canary as its Bearer credential.
pub(crate) fn vendor(port: u16, ca_pem: &str) -> UpstreamDoc {
    UpstreamDoc {
        name: "vendor".to_owned(),
        protocol: Protocol::Http,
        scheme: Scheme::Https,
        hosts: vec![HOST.to_owned()],
        port,
        allowed_cidrs: vec!["127.0.0.0/8".to_owned()],
        residency: None,
        category: None,
        ca_pem: Some(ca_pem.to_owned()),
        credential: CredentialDoc::Bearer { secret: SecretKey { name: "vendor".to_owned(), key: "token".to_owned() } },
        operations: Vec::new(),
    }
}

/// A rule about HTTP requests to an upstream.
pub(crate) fn http_rule(name: &str, upstream: &str, methods: &[&str], paths: &[&str], tier: Tier) -> RuleDoc {
    RuleDoc {
        name: name.to_owned(),
        matches: MatchDoc::Http(HttpMatchDoc {
            upstreams: vec![upstream.to_owned()],
            methods: methods.iter().map(ToString::to_string).collect(),
            paths: paths.iter().map(ToString::to_string).collect(),
        }),
        when: None,
        schedule: None,
        tier,
        on_deny: OnDeny::Continue,
    }
}

/// A policy in Enforce mode.
pub(crate) fn policy(rules: Vec<RuleDoc>) -> Document {
    Document::Policy(PolicyDoc {
        name: "acme/support".to_owned(),
        mode: Mode::Enforce,
        rules,
        residency: None,
        limits: vec![],
    })
}

/// A tenant without guardrails.
pub(crate) fn tenant() -> Document {
    Document::Tenant(TenantDoc {
        name: "acme".to_owned(),
        guardrails: Vec::new(),
        limits: vec![],
        tool_categories: vec![],
        audit_until_ms: None,
        allowed_modes: vec![Mode::Enforce],
    })
}

/// A tenant whose agent may do everything at the vendor but delete.
pub(crate) fn usual(upstream: UpstreamDoc) -> Vec<Document> {
    let rules = vec![
        http_rule("no-delete", "vendor", &["DELETE"], &[], Tier::Block),
        http_rule("vendor", "vendor", &[], &["/**"], Tier::Auto),
    ];
    vec![tenant(), policy(rules), Document::Upstream(upstream)]
}
