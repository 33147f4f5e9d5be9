//! The certificates of the hop under `clawlock dev`: one CA for the tenant, one leaf per gate. Keys exist
//! in this process's memory only and end with it, and so does what the certificates are good for.

use clawlock_policy::SpiffeId;
use clawlock_proxy::hop::client::Endpoint;
use clawlock_proxy::tls::{self, Leaf};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;

/// Both ends of the hop.
pub(super) struct Hop {
    /// The gateway's end.
    pub(super) server: Arc<ServerConfig>,
    /// The sidecar's end.
    pub(super) endpoint: Endpoint,
}

/// Makes a CA and both ends.
///
/// # Errors
/// When keys or certificates cannot be made.
pub(super) fn hop(tenant: &str, identity: &SpiffeId, address: SocketAddr) -> Result<Hop, String> {
    let name = tls::gateway_name(tenant).map_err(|error| error.to_string())?;
    let ServerName::DnsName(dns) = &name else { return Err(format!("tenant {tenant} has no DNS name")) };
    let (issuer, root) = authority(tenant).map_err(|error| format!("the tenant's CA: {error}"))?;
    let server_name = SanType::DnsName(dns.as_ref().try_into().map_err(|error: rcgen::Error| error.to_string())?);
    let client_name = SanType::URI(identity.as_str().try_into().map_err(|error: rcgen::Error| error.to_string())?);
    let leaf = |names, usage| leaf(&issuer, names, usage).map_err(|error| format!("a gate's certificate: {error}"));
    let anchors = [root];
    let server = tls::hop_server(&anchors, leaf(server_name, ExtendedKeyUsagePurpose::ServerAuth)?);
    let client = tls::hop_client(&anchors, leaf(client_name, ExtendedKeyUsagePurpose::ClientAuth)?);
    Ok(Hop {
        server: server.map_err(|error| error.to_string())?,
        endpoint: Endpoint { address, name, tls: client.map_err(|error| error.to_string())? },
    })
}

fn authority(tenant: &str) -> Result<(Issuer<'static, KeyPair>, CertificateDer<'static>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("clawlock dev, tenant {tenant}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = params.self_signed(&key)?.der().clone();
    Ok((Issuer::new(params, key), root))
}

fn leaf(
    issuer: &Issuer<'static, KeyPair>,
    name: SanType,
    usage: ExtendedKeyUsagePurpose,
) -> Result<Leaf, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![name];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, issuer)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(Leaf { chain: vec![certificate.der().clone()], key })
}
