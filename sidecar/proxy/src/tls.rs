//! TLS between the gates: 1.3 only, certificates on both sides, HTTP/2 only.
//!
//! The sidecar's leaf carries exactly one URI SAN, its pod's SPIFFE ID; the gateway's carries the DNS
//! name of [`gateway_name`]. One CA per tenant signs both, and the extended key usages keep a
//! sidecar's leaf from serving as a gateway.

use std::sync::Arc;
use std::time::Duration;

use clawlock_policy::SpiffeId;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate chain and its key.
pub struct Leaf {
    /// The leaf first, then intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

/// Why a TLS configuration or a peer's certificate was refused.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// rustls refused it.
    #[error("TLS configuration: {0}")]
    Config(#[from] rustls::Error),
    /// The roots cannot verify clients.
    #[error("the tenant's roots cannot verify clients: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// The tenant's name is not fit for a DNS name.
    #[error("tenant {0:?} is not a DNS label")]
    Tenant(String),
    /// The peer's certificate does not carry exactly one SPIFFE ID of a pod.
    #[error("the client's certificate {0}")]
    Identity(&'static str),
    /// The gateway's own certificate is not its own.
    #[error("the gateway's certificate {0}")]
    Leaf(&'static str),
}

/// The DNS name of a tenant's gateway, which its certificate must carry.
///
/// # Errors
/// When the tenant's name is not a DNS label.
pub fn gateway_name(tenant: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(format!("gateway.{tenant}.clawlock.internal")).map_err(|_| TlsError::Tenant(tenant.to_owned()))
}

fn roots(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        store.add(certificate.clone())?;
    }
    Ok(store)
}

/// The sidecar's side of the hop.
///
/// # Errors
/// When roots or leaf do not fit.
pub fn hop_client(anchors: &[CertificateDer<'static>], leaf: Leaf) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots(anchors)?)
        .with_client_auth_cert(leaf.chain, leaf.key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The gateway's side of the hop. A client without a certificate of the tenant's CA is refused.
///
/// # Errors
/// When roots or leaf do not fit.
pub fn hop_server(anchors: &[CertificateDer<'static>], leaf: Leaf) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(anchors)?), provider.clone()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(leaf.chain, leaf.key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would carry an identity past its certificate's end.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The SPIFFE ID that a verified client certificate proves.
///
/// # Errors
/// When there is no certificate, or its SANs are anything but exactly one URI, a pod's SPIFFE ID.
pub fn peer_identity(chain: Option<&[CertificateDer<'_>]>) -> Result<SpiffeId, TlsError> {
    let der = chain.and_then(<[_]>::first).ok_or(TlsError::Identity("is missing"))?;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| TlsError::Identity("cannot be parsed"))?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| TlsError::Identity("has more than one subjectAltName extension"))?
        .ok_or(TlsError::Identity("has no subjectAltName"))?;
    let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else {
        return Err(TlsError::Identity("must have exactly one subjectAltName, a URI"));
    };
    SpiffeId::parse(uri).map_err(|_| TlsError::Identity("does not name a pod by a SPIFFE ID"))
}

/// Checks that a gateway's leaf names exactly its tenant's gateway and its own pod.
///
/// # Errors
/// When it names anything else, or less.
pub fn check_gateway_leaf(chain: &[CertificateDer<'_>], tenant: &str, identity: &SpiffeId) -> Result<(), TlsError> {
    let server = gateway_name(tenant)?;
    let der = chain.first().ok_or(TlsError::Leaf("is missing"))?;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| TlsError::Leaf("cannot be parsed"))?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| TlsError::Leaf("has more than one subjectAltName extension"))?
        .ok_or(TlsError::Leaf("has no subjectAltName"))?;
    match names.value.general_names.as_slice() {
        [GeneralName::DNSName(dns), GeneralName::URI(uri)] | [GeneralName::URI(uri), GeneralName::DNSName(dns)]
            if *dns == server.to_str() && *uri == identity.as_str() =>
        {
            Ok(())
        }
        _ => Err(TlsError::Leaf("must name the tenant's gateway (DNS) and this pod (URI), and nothing else")),
    }
}

/// How long a verified client certificate still proves its identity; zero when it does no more.
#[must_use]
pub fn peer_lifetime(chain: Option<&[CertificateDer<'_>]>) -> Duration {
    let left = |der: &CertificateDer<'_>| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        certificate.validity().time_to_expiration()?.try_into().ok()
    };
    chain.and_then(<[_]>::first).and_then(left).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

    fn leaf(names: Vec<SanType>) -> CertificateDer<'static> {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = Issuer::new(ca, ca_key);
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    const POD: &str = "spiffe://acme.example/ns/acme/sa/default/pod/1";

    #[test]
    fn one_spiffe_id_is_the_identity() {
        assert_eq!(peer_identity(Some(&[leaf(vec![uri(POD)])])).unwrap().as_str(), POD);
    }

    #[test]
    fn a_gateways_leaf_names_it_and_its_pod_and_nobody_else() {
        let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
        let own = SpiffeId::parse(POD).unwrap();
        let check = |names| check_gateway_leaf(&[leaf(names)], "acme", &own);
        let gateway = || dns("gateway.acme.clawlock.internal");
        assert!(check(vec![gateway(), uri(POD)]).is_ok());
        assert!(check(vec![uri(POD), gateway()]).is_ok());
        for names in [
            vec![],
            vec![gateway()],
            vec![uri(POD)],
            vec![dns("gateway.other.clawlock.internal"), uri(POD)],
            vec![gateway(), uri("spiffe://acme.example/ns/acme/sa/default/pod/2")],
            vec![gateway(), uri(POD), dns("control.acme.clawlock.internal")],
        ] {
            assert!(check(names.clone()).is_err(), "{names:?}");
        }
        assert!(check_gateway_leaf(&[], "acme", &own).is_err());
    }

    #[test]
    fn class07_any_other_set_of_names_is_refused() {
        let dns = SanType::DnsName("gateway.acme.clawlock.internal".try_into().unwrap());
        for names in [
            vec![],
            vec![uri(POD), uri(POD)],
            vec![uri(POD), dns.clone()],
            vec![dns],
            vec![uri("spiffe://acme.example/ns/acme/sa/default/pod/1/x")],
            vec![uri("https://acme.example/ns/acme/sa/default/pod/1")],
        ] {
            assert!(peer_identity(Some(&[leaf(names.clone())])).is_err(), "{names:?}");
        }
        assert!(peer_identity(None).is_err());
        assert!(peer_identity(Some(&[])).is_err());
    }
}
