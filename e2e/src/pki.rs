//! Certificates of the tests' upstreams.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::Result;

/// A CA and a server certificate of it, all PEM.
pub struct ServerCertificate {
    /// The CA's certificate.
    pub ca: String,
    /// The server's certificate.
    pub certificate: String,
    /// The server's key.
    pub key: String,
}

/// Makes a CA and one server certificate.
///
/// # Errors
/// When a key or certificate cannot be made.
pub fn server(name: &str) -> Result<ServerCertificate> {
    make(name).map_err(|error| format!("certificate of {name}: {error}"))
}

fn make(name: &str) -> std::result::Result<ServerCertificate, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "clawlock e2e");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_key = KeyPair::generate()?;
    let ca = params.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &issuer)?.pem();
    Ok(ServerCertificate { ca, certificate, key: key.serialize_pem() })
}
