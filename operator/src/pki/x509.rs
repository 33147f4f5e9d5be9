//! Certificate authorities and what they sign: P-256 only, no name that the caller did not give.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::PkiError;
use crate::clock::millis;

/// How far behind this clock another machine's may be: a certificate is valid from this long ago.
pub(crate) const SKEW: Duration = Duration::from_secs(300);

/// A certificate authority with its key.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    not_before_ms: u64,
    not_after_ms: u64,
}

/// An authority as it is stored.
pub(crate) struct Pems {
    /// Its certificate.
    pub(crate) certificate: String,
    /// Its key, PKCS#8.
    pub(crate) key: Zeroizing<String>,
}

/// What a leaf is to say.
pub(crate) struct LeafParams {
    /// Its names; there are no others.
    pub(crate) names: Vec<SanType>,
    /// What it is good for.
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    /// Now, in milliseconds since the Unix epoch.
    pub(crate) now_ms: u64,
    /// How long it holds, from now on.
    pub(crate) lifetime: Duration,
}

/// A leaf.
pub(crate) struct IssuedLeaf {
    /// The certificate.
    pub(crate) certificate: CertificateDer<'static>,
    /// Its end, in milliseconds since the Unix epoch.
    pub(crate) not_after_ms: u64,
}

impl Authority {
    /// Makes an authority that signs leaves only. Its name is unique, so that two authorities of one owner
    /// are told apart.
    ///
    /// # Errors
    /// When the system has no randomness, or the clock is absurd.
    pub(crate) fn generate(name: &str, now_ms: u64, lifetime: Duration) -> Result<(Self, Pems), PkiError> {
        let key = KeyPair::generate()?;
        let mut params = params(now_ms, now_ms.saturating_add(millis(lifetime)))?;
        params.distinguished_name.push(DnType::CommonName, format!("{name} {}", key_id(&key)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key)?;
        let pems = Pems { certificate: certificate.pem(), key: Zeroizing::new(key.serialize_pem()) };
        Ok((Self::of(certificate.der().clone(), key).map_err(unreadable)?, pems))
    }

    /// Reads an authority. The reason of a failure names no part of the key.
    pub(crate) fn read(certificate: &[u8], key: &[u8]) -> Result<Self, String> {
        let certificate = read_certificate(certificate)?;
        let key = std::str::from_utf8(key).map_err(|_| "the key is no PEM text")?;
        let key = KeyPair::from_pem(key).map_err(|_| "the key is no PKCS#8 key in PEM")?;
        Self::of(certificate, key)
    }

    fn of(certificate: CertificateDer<'static>, key: KeyPair) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| "the certificate cannot be parsed")?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err("certificate and key do not belong together".to_owned());
        }
        if !parsed.is_ca() {
            return Err("the certificate is no authority's".to_owned());
        }
        let at = |time: ASN1Time| u64::try_from(time.timestamp()).unwrap_or_default().saturating_mul(1000);
        let (not_before_ms, not_after_ms) = (at(parsed.validity().not_before), at(parsed.validity().not_after));
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| error.to_string())?;
        Ok(Self { certificate, issuer, not_before_ms, not_after_ms })
    }

    /// Its certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// From when on it holds, in milliseconds since the Unix epoch.
    pub(crate) fn not_before_ms(&self) -> u64 {
        self.not_before_ms
    }

    /// Signs a leaf. It never outlives its authority.
    ///
    /// # Errors
    /// When a time cannot be written.
    pub(crate) fn issue(&self, key: &impl PublicKeyData, leaf: LeafParams) -> Result<IssuedLeaf, PkiError> {
        let LeafParams { names, usages, now_ms, lifetime } = leaf;
        // Certificates count whole seconds.
        let not_after_ms = now_ms.saturating_add(millis(lifetime)).min(self.not_after_ms) / 1000 * 1000;
        let mut params = params(now_ms, not_after_ms)?;
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer)?.der().clone();
        Ok(IssuedLeaf { certificate, not_after_ms })
    }
}

fn params(now_ms: u64, until_ms: u64) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    // The default names the library.
    params.distinguished_name = DistinguishedName::new();
    let at = |ms: u64| {
        let time = i64::try_from(ms / 1000).ok().and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
        time.ok_or(PkiError::Time(ms))
    };
    params.not_before = at(now_ms.saturating_sub(millis(SKEW)))?.to_datetime();
    params.not_after = at(until_ms)?.to_datetime();
    Ok(params)
}

/// The first 16 hex digits of the digest of a public key.
fn key_id(key: &KeyPair) -> String {
    let digest = clawlock_policy::codec::digest(key.public_key_raw());
    digest.rsplit(':').next().and_then(|hex| hex.get(..16)).unwrap_or_default().to_owned()
}

fn unreadable(reason: String) -> PkiError {
    tracing::error!("a certificate that was just made cannot be read: {reason}");
    PkiError::Make(rcgen::Error::CouldNotParseCertificate)
}

/// The one certificate of a PEM text.
pub(crate) fn read_certificate(pem: &[u8]) -> Result<CertificateDer<'static>, String> {
    let mut all = read_certificates(pem)?;
    match (all.pop(), all.is_empty()) {
        (Some(certificate), true) => Ok(certificate),
        _ => Err("not exactly one certificate in PEM".to_owned()),
    }
}

/// Most certificates of one PEM text: old and new while rotating, with room.
const MAX_CERTIFICATES: usize = 16;

/// The certificates of a PEM text.
pub(crate) fn read_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(MAX_CERTIFICATES).collect();
    all.map_err(|error| format!("no certificate in PEM: {error}"))
}

/// The end of a certificate, in milliseconds since the Unix epoch; zero when it cannot be parsed.
pub(crate) fn end_ms(certificate: &CertificateDer<'_>) -> u64 {
    let end = X509Certificate::from_der(certificate).ok().map(|(_, parsed)| parsed.validity().not_after.timestamp());
    end.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default().saturating_mul(1000)
}

/// The beginning of a certificate, in milliseconds since the Unix epoch; zero when it cannot be parsed.
pub(crate) fn start_ms(certificate: &CertificateDer<'_>) -> u64 {
    let start = X509Certificate::from_der(certificate).ok().map(|(_, parsed)| parsed.validity().not_before.timestamp());
    start.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default().saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const DAY: Duration = Duration::from_secs(86_400);

    fn leaf(lifetime: Duration) -> LeafParams {
        let names = vec![SanType::DnsName("a.example".try_into().unwrap())];
        LeafParams { names, usages: vec![ExtendedKeyUsagePurpose::ServerAuth], now_ms: NOW, lifetime }
    }

    #[test]
    fn an_authority_survives_being_stored() {
        let (made, pems) = Authority::generate("test", NOW, DAY).unwrap();
        let read = Authority::read(pems.certificate.as_bytes(), pems.key.as_bytes()).unwrap();
        assert_eq!(made.certificate(), read.certificate());
        assert_eq!((read.not_before_ms(), read.not_after_ms), (NOW - millis(SKEW), NOW + millis(DAY)));
        let key = KeyPair::generate().unwrap();
        let issued = read.issue(&key, leaf(Duration::from_secs(60))).unwrap();
        assert_eq!(issued.not_after_ms, NOW + 60_000);
        assert_eq!(end_ms(&issued.certificate), NOW + 60_000);
    }

    #[test]
    fn a_leaf_does_not_outlive_its_authority() {
        let (authority, _) = Authority::generate("test", NOW, DAY).unwrap();
        let issued = authority.issue(&KeyPair::generate().unwrap(), leaf(DAY * 2)).unwrap();
        assert_eq!(issued.not_after_ms, NOW + millis(DAY));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_without_being_told() {
        let (_, one) = Authority::generate("one", NOW, DAY).unwrap();
        let (_, two) = Authority::generate("two", NOW, DAY).unwrap();
        let error = Authority::read(one.certificate.as_bytes(), two.key.as_bytes()).err().unwrap();
        assert_eq!(error, "certificate and key do not belong together");
        let error = Authority::read(one.certificate.as_bytes(), b"secret-text").err().unwrap();
        assert!(!error.contains("secret-text"));
    }

    #[test]
    fn a_leaf_is_no_authority() {
        let (authority, _) = Authority::generate("test", NOW, DAY).unwrap();
        let key = KeyPair::generate().unwrap();
        let issued = authority.issue(&key, leaf(DAY)).unwrap();
        assert!(Authority::of(issued.certificate, key).is_err());
    }
}
