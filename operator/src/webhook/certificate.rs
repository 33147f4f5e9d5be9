//! The certificate of the webhooks: from the Secret that the operator writes into the TLS handshake.
//!
//! A new one is in use from the next handshake on; open connections keep theirs. One that cannot be used is
//! logged and does not take the place of one that can.

use std::sync::{Arc, RwLock};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Most bytes of the chain and of the key: one leaf, at most one intermediate, one key.
const MAX_PEM: usize = 64 * 1024;

/// Why a Secret holds no certificate that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadCertificate {
    /// A key of the Secret is missing.
    #[error("there is no {0} in it")]
    Missing(&'static str),
    /// A part is no PEM of its kind, or too long.
    #[error("{0} is no PEM of at most {MAX_PEM} bytes")]
    Pem(&'static str),
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("certificate and key do not fit: {0}")]
    Pair(#[from] rustls::Error),
}

/// The certificate in use; none until the Secret was read.
#[derive(Debug, Default)]
pub(super) struct Certificate {
    current: RwLock<Option<Arc<CertifiedKey>>>,
}

impl Certificate {
    /// Takes the certificate of a Secret into use. Answers whether it is another than before.
    ///
    /// # Errors
    /// When it cannot be used; the one before stays.
    pub(super) fn replace(&self, secret: &Secret) -> Result<bool, BadCertificate> {
        let new = read(secret)?;
        let mut current = self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let changed = current.as_ref().is_none_or(|old| old.cert != new.cert);
        *current = Some(Arc::new(new));
        Ok(changed)
    }

    /// Whether there is one.
    pub(super) fn is_there(&self) -> bool {
        self.get().is_some()
    }

    fn get(&self) -> Option<Arc<CertifiedKey>> {
        self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.get()
    }
}

/// TLS 1.3 with whichever certificate is in use. The API server is the only client, and it speaks it.
///
/// # Errors
/// When the library was built without TLS 1.3.
pub(super) fn tls(certificate: Arc<Certificate>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(&[&TLS13])?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read(secret: &Secret) -> Result<CertifiedKey, BadCertificate> {
    let part = |name: &'static str| {
        let found = secret.data.as_ref().and_then(|data| data.get(name));
        let ByteString(bytes) = found.ok_or(BadCertificate::Missing(name))?;
        if bytes.len() > MAX_PEM { Err(BadCertificate::Pem(name)) } else { Ok(bytes.as_slice()) }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(part("tls.crt")?).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(BadCertificate::Pem("tls.crt"))?;
    let key = PrivateKeyDer::from_pem_slice(part("tls.key")?).map_err(|_| BadCertificate::Pem("tls.key"))?;
    Ok(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    /// A Secret with a certificate for this name, and the certificate.
    pub(in crate::webhook) fn secret(name: &str) -> (Secret, CertificateDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        let data = [("tls.crt", certificate.pem()), ("tls.key", key.serialize_pem())];
        let data = data.into_iter().map(|(name, pem)| (name.to_owned(), ByteString(pem.into_bytes()))).collect();
        (Secret { data: Some(data), ..Secret::default() }, certificate.der().clone())
    }

    #[test]
    fn a_new_certificate_takes_the_place_of_the_old() {
        let certificate = Certificate::default();
        assert!(!certificate.is_there());
        let (first, der) = secret("a.test");
        assert!(certificate.replace(&first).unwrap());
        assert_eq!(certificate.get().unwrap().cert, [der]);
        assert!(!certificate.replace(&first).unwrap(), "the same again is no change");
        let (second, der) = secret("b.test");
        assert!(certificate.replace(&second).unwrap());
        assert_eq!(certificate.get().unwrap().cert, [der]);
    }

    #[test]
    fn what_cannot_be_used_leaves_the_old_one() {
        let certificate = Certificate::default();
        let (good, der) = secret("a.test");
        certificate.replace(&good).unwrap();
        let with = |name: &str, bytes: &[u8]| {
            let mut secret = good.clone();
            secret.data.as_mut().unwrap().insert(name.to_owned(), ByteString(bytes.to_vec()));
            secret
        };
        let mut missing = good.clone();
        missing.data.as_mut().unwrap().remove("tls.key");
        let foreign = secret("c.test").0.data.unwrap().remove("tls.key").unwrap();
        for bad in [
            Secret::default(),
            missing,
            with("tls.crt", b"no pem"),
            with("tls.crt", &vec![b'a'; MAX_PEM + 1]),
            with("tls.key", b""),
            with("tls.key", &foreign.0),
        ] {
            assert!(certificate.replace(&bad).is_err());
        }
        assert_eq!(certificate.get().unwrap().cert, [der]);
    }
}
