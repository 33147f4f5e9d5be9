//! A gateway with no policy, for protocol conformance tests of its mTLS listener: `bare_gateway DIR`
//!
//! In `clawlock dev` the keys of the hop exist in memory only, so a foreign client cannot reach that listener. This
//! starts the same gateway with a throw-away CA, writes `ca.crt`, `client.crt` and `client.key` into DIR, prints
//! `NAME ADDRESS` (the name its certificate carries) and serves until it is killed. It knows no caller: every request
//! is denied.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use clawlock_audit::JsonLines;
use clawlock_policy::document::SecretKey;
use clawlock_policy::envelope::TrustedKeys;
use clawlock_proxy::clock::SystemClock;
use clawlock_proxy::credentials::{Credentials, Secret};
use clawlock_proxy::drain::Drain;
use clawlock_proxy::gateway::Gateway;
use clawlock_proxy::metrics::Metrics;
use clawlock_proxy::policies::PolicyTable;
use clawlock_proxy::tls::{Leaf, hop_server};
use clawlock_proxy::upstream::Upstreams;
use clawlock_proxy::upstream::resolve::SystemResolver;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;

const NAME: &str = "gateway.conformance.clawlock.internal";
const CALLER: &str = "spiffe://conformance.example/ns/clients/sa/default/pod/h2spec";

struct NoCredentials;

impl Credentials for NoCredentials {
    fn get(&self, _: &SecretKey) -> Option<Arc<Secret>> {
        None
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: bare_gateway DIR")?;
    let directory = Path::new(&directory);

    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);

    let (server, server_key) = leaf(&issuer, SanType::DnsName(NAME.try_into()?), ExtendedKeyUsagePurpose::ServerAuth)?;
    let (client, client_key) = leaf(&issuer, SanType::URI(CALLER.try_into()?), ExtendedKeyUsagePurpose::ClientAuth)?;
    fs::write(directory.join("ca.crt"), root.pem())?;
    fs::write(directory.join("client.crt"), client.pem())?;
    fs::write(directory.join("client.key"), client_key.serialize_pem())?;

    let chain = vec![server.der().clone()];
    let tls =
        hop_server(&[root.der().clone()], Leaf { chain, key: PrivateKeyDer::try_from(server_key.serialize_der())? })?;
    let policies = Arc::new(PolicyTable::new(TrustedKeys::new([]), Arc::new(SystemClock)));
    let audit = Arc::new(JsonLines::new(std::io::sink())?);
    let upstreams = Upstreams::new(Arc::new(SystemResolver::new()?), Arc::new(NoCredentials));
    let gateway = Arc::new(Gateway::new(policies, audit, Arc::new(Metrics::default()), upstreams));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{NAME} {}", listener.local_addr()?);
    let drain = Drain::new();
    gateway.serve(listener, tls, drain.watcher()).await;
    Ok(())
}

fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    name: SanType,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(rcgen::Certificate, KeyPair), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![name];
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, issuer)?, key))
}
