//! The gates themselves, composed as a sidecar and a gateway compose them, with ten rules and no
//! condition. Everything that a request meets in them is the product's own code.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clawlock_audit::{AuditSink, JsonLines};
use clawlock_policy::document::{
    Document, MatchDoc, Mode, OnDeny, PolicyDoc, RuleDoc, Scheme, SecretKey, Tier, UpstreamDoc,
};
use clawlock_policy::envelope::{self, Envelope, SigningKey, TrustedKeys};
use clawlock_policy::{HostName, SpiffeId, codec};
use clawlock_proxy::agent::{AgentGate, Listeners};
use clawlock_proxy::clock::SystemClock;
use clawlock_proxy::credentials::{Credentials, Secret};
use clawlock_proxy::drain::Drain;
use clawlock_proxy::gateway::Gateway;
use clawlock_proxy::hop::HopClient;
use clawlock_proxy::hop::client::Endpoint;
use clawlock_proxy::intercept::InterceptionCa;
use clawlock_proxy::metrics::Metrics;
use clawlock_proxy::policies::PolicyTable;
use clawlock_proxy::tls::{self, Leaf};
use clawlock_proxy::upstream::Upstreams;
use clawlock_proxy::upstream::resolve::{Overrides, Resolve, ResolveError, Resolving};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::UnixListener;

use super::listen;
use crate::child::Ready;
use crate::decide::{assignment, bench_upstream, tenant};
use crate::pki::{HOST, IDENTITY, Pki, TENANT};

/// Rules of the policy.
const RULES: usize = 10;

/// What both gates have in common.
struct Parts {
    pki: Pki,
    policies: Arc<PolicyTable>,
    audit: Arc<dyn AuditSink>,
    metrics: Arc<Metrics>,
    drain: Drain,
}

/// The agent's gate; `gateway` is the port of the gateway.
pub(super) async fn run_agent(dir: &Path, origin: u16, origin_tls: u16, gateway: u16) -> Result<(), String> {
    serve_agent(dir, Parts::new(dir, origin, origin_tls)?, gateway).await
}

/// Both gates, with their hop between them.
pub(super) async fn run_both(dir: &Path, origin: u16, origin_tls: u16) -> Result<(), String> {
    let parts = Parts::new(dir, origin, origin_tls)?;
    let host = HostName::parse(HOST).map_err(text)?;
    let names = Overrides::new(HashMap::from([(host, vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])]), NoNames);
    let upstreams = Upstreams::new(Arc::new(names), Arc::new(NoCredentials));
    let gate = Gateway::new(parts.policies.clone(), parts.audit.clone(), parts.metrics.clone(), upstreams);
    let config = tls::hop_server(&parts.anchors()?, parts.leaf("hop-server")?).map_err(text)?;
    let (listener, port) = listen().await?;
    tokio::spawn(Arc::new(gate).serve(listener, config, parts.drain.watcher()));
    serve_agent(dir, parts, port).await
}

async fn serve_agent(dir: &Path, parts: Parts, gateway: u16) -> Result<(), String> {
    let endpoint = Endpoint {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, gateway)),
        name: tls::gateway_name(TENANT).map_err(text)?,
        tls: tls::hop_client(&parts.anchors()?, parts.leaf("hop-client")?).map_err(text)?,
    };
    let ca = Arc::new(InterceptionCa::in_memory().map_err(text)?);
    let bundle = dir.join("interception-ca.pem");
    std::fs::write(&bundle, ca.bundle_pem()).map_err(|e| format!("{}: {e}", bundle.display()))?;
    let identity = SpiffeId::parse(IDENTITY).map_err(text)?;
    let hop = HopClient::new(endpoint);
    let gate = AgentGate::new(identity, parts.policies.clone(), parts.audit.clone(), parts.metrics.clone(), hop, ca);
    let socket = dir.join("gate-decide.sock");
    let (proxy, port) = listen().await?;
    let (decide, _) = listen().await?;
    let decide_unix = UnixListener::bind(&socket).map_err(|e| format!("{}: {e}", socket.display()))?;
    let listeners = Listeners { proxy, decide, decide_unix: Some(decide_unix), admin: None };
    Ready { port, socket: Some(socket), ca: Some(bundle) }.announce()?;
    Arc::new(gate).serve(listeners, parts.drain.watcher()).await;
    Err("the gate has ended".to_owned())
}

impl Parts {
    fn new(dir: &Path, origin: u16, origin_tls: u16) -> Result<Self, String> {
        let pki = Pki::open(dir);
        let ca = std::fs::read_to_string(pki.ca()).map_err(text)?;
        let policies = Arc::new(install(documents(origin, origin_tls, ca))?);
        let audit = Arc::new(JsonLines::append(&dir.join("gate.jsonl")).map_err(text)?);
        Ok(Self { pki, policies, audit, metrics: Arc::default(), drain: Drain::new() })
    }

    fn anchors(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        Ok(vec![CertificateDer::from_pem_file(self.pki.ca()).map_err(text)?])
    }

    fn leaf(&self, name: &str) -> Result<Leaf, String> {
        let (chain, key) = self.pki.pair(name)?;
        Ok(Leaf { chain, key })
    }
}

fn install(documents: Vec<Document>) -> Result<PolicyTable, String> {
    let key = SigningKey::generate().map_err(text)?;
    let table = PolicyTable::new(TrustedKeys::new([key.public().clone()]), Arc::new(SystemClock));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let assignment = assignment(&documents, u64::try_from(now.as_millis()).map_err(text)?);
    let sign = |kind: &str, payload: &[u8]| Envelope::sign(kind, payload, &key).encode();
    let ticket = sign(envelope::ASSIGNMENT, &codec::encode_assignment(&assignment));
    let signed: Vec<_> = documents.iter().map(|doc| sign(envelope::DOCUMENT, &codec::encode(doc))).collect();
    table.install(&ticket, &signed).map_err(text)?;
    Ok(table)
}

/// Ten rules of which the last two allow what the benchmark does, and its two upstreams.
fn documents(origin: u16, origin_tls: u16, ca: String) -> Vec<Document> {
    let plain = bench_upstream("plain", Scheme::Http, origin);
    let tls = UpstreamDoc { ca_pem: Some(ca), ..bench_upstream("bench", Scheme::Https, origin_tls) };
    let rule = |name: String, matches: MatchDoc, tier: Tier| RuleDoc {
        name,
        matches,
        when: None,
        schedule: None,
        tier,
        on_deny: OnDeny::Continue,
    };
    let mut rules: Vec<RuleDoc> = (0..RULES - 2)
        .map(|n| match n % 2 {
            0 => rule(format!("tool-{n}"), MatchDoc::Tools(vec![format!("tool{n}")]), Tier::Auto),
            _ => rule(format!("operation-{n}"), MatchDoc::Operations(vec![format!("bench.delete_{n}")]), Tier::Block),
        })
        .collect();
    rules.push(rule("shell".to_owned(), MatchDoc::Tools(vec!["exec".to_owned()]), Tier::Auto));
    let items = vec!["bench.get_item".to_owned(), "plain.get_item".to_owned()];
    rules.push(rule("items".to_owned(), MatchDoc::Operations(items), Tier::Auto));
    let policy =
        PolicyDoc { name: "acme/bench".to_owned(), mode: Mode::Enforce, rules, residency: None, limits: vec![] };
    vec![Document::Tenant(tenant()), Document::Upstream(plain), Document::Upstream(tls), Document::Policy(policy)]
}

/// The benchmark's upstreams have no credential.
struct NoCredentials;

impl Credentials for NoCredentials {
    fn get(&self, _key: &SecretKey) -> Option<Arc<Secret>> {
        None
    }
}

/// The benchmark reaches one host, which is given by hand.
struct NoNames;

impl Resolve for NoNames {
    fn resolve<'a>(&'a self, host: &'a HostName) -> Resolving<'a> {
        let unknown = ResolveError(format!("{host} is not the benchmark's"));
        Box::pin(std::future::ready(Err(unknown)))
    }
}

fn text(problem: impl std::fmt::Display) -> String {
    problem.to_string()
}
