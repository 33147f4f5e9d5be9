//! The certificates of a run: one CA, a certificate for the origin, one for each end of the hop.
//! Written as PEM into the run's own folder, from where the roles read them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The host that the benchmark's upstream has.
pub(crate) const HOST: &str = "api.bench.test";

/// The tenant of the benchmark.
pub(crate) const TENANT: &str = "acme";

/// The name that a sidecar expects of its tenant's gateway.
pub(crate) const GATEWAY: &str = "gateway.acme.clawlock.internal";

/// The identity of the benchmark's agent.
pub(crate) const IDENTITY: &str = "spiffe://bench.test/ns/acme/sa/agent/pod/1";

/// The folder with the certificates.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// Makes all certificates of a run.
    pub(crate) fn create(dir: &Path) -> Result<(), String> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Clawlock benchmark CA");
        let key = KeyPair::generate().map_err(text)?;
        let ca = CertifiedIssuer::self_signed(params, key).map_err(text)?;
        write(&dir.join("ca.pem"), &ca.pem())?;
        let dns = |name: &str| name.to_owned().try_into().map(SanType::DnsName).map_err(text);
        let client = SanType::URI(IDENTITY.to_owned().try_into().map_err(text)?);
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        issue(dir, &ca, "origin", dns(HOST)?, server.clone())?;
        issue(dir, &ca, "hop-server", dns(GATEWAY)?, server)?;
        issue(dir, &ca, "hop-client", client, ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(())
    }

    /// The certificates of a run that has been created.
    pub(crate) fn open(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The CA's PEM file.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The PEM file of a certificate, and of its key.
    pub(crate) fn files(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.dir.join(format!("{name}.pem")), self.dir.join(format!("{name}.key")))
    }

    /// A server with the named certificate.
    pub(crate) fn server(&self, name: &str, client_auth: bool, alpn: &[u8]) -> Result<Arc<ServerConfig>, String> {
        let builder = ServerConfig::builder();
        let builder = if client_auth {
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots(&self.ca())?)).build().map_err(text)?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let (chain, key) = self.pair(name)?;
        let mut config = builder.with_single_cert(chain, key).map_err(text)?;
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(Arc::new(config))
    }

    /// The client end of the hop.
    pub(crate) fn hop_client(&self) -> Result<Arc<ClientConfig>, String> {
        let (chain, key) = self.pair("hop-client")?;
        let builder = ClientConfig::builder().with_root_certificates(roots(&self.ca())?);
        let mut config = builder.with_client_auth_cert(chain, key).map_err(text)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    /// The named certificate and its key.
    pub(crate) fn pair(&self, name: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let (cert, key) = self.files(name);
        let chain = CertificateDer::pem_file_iter(&cert).map_err(text)?.collect::<Result<_, _>>().map_err(text)?;
        Ok((chain, PrivateKeyDer::from_pem_file(&key).map_err(text)?))
    }
}

/// A client that trusts one PEM file and, so that a new connection costs a whole handshake, never
/// resumes.
pub(crate) fn client(ca: &Path, alpn: &[u8]) -> Result<Arc<ClientConfig>, String> {
    let mut config = ClientConfig::builder().with_root_certificates(roots(ca)?).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}

fn issue(
    dir: &Path,
    ca: &CertifiedIssuer<'_, KeyPair>,
    file: &str,
    name: SanType,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(), String> {
    let key = KeyPair::generate().map_err(text)?;
    let mut params = CertificateParams::default();
    params.subject_alt_names.push(name);
    // OpenSSL takes a certificate whose subject is its issuer's for a self-signed one.
    params.distinguished_name.push(DnType::CommonName, file);
    params.extended_key_usages.push(usage);
    let cert = params.signed_by(&key, ca).map_err(text)?;
    write(&dir.join(format!("{file}.pem")), &cert.pem())?;
    write(&dir.join(format!("{file}.key")), &key.serialize_pem())
}

fn roots(ca: &Path) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(ca).map_err(|e| format!("{}: {e}", ca.display()))? {
        store.add(cert.map_err(text)?).map_err(text)?;
    }
    Ok(store)
}

fn write(path: &Path, pem: &str) -> Result<(), String> {
    std::fs::write(path, pem).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

fn text(problem: impl std::fmt::Display) -> String {
    problem.to_string()
}
