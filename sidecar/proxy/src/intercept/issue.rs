//! The certificates: what stands in the CA's and in a leaf's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use clawlock_policy::HostName;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};

/// How far certificates reach back, for clients whose clock is behind.
pub(super) const BACKDATE: Duration = Duration::from_secs(24 * 60 * 60);

/// Validity of the CA. Agents read it once at their start, and the folder may outlive many of them.
pub(super) const CA_VALIDITY: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// Validity of a leaf, the backdate included. Apple's clients refuse more than 398 days.
pub(super) const LEAF_VALIDITY: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// What a leaf's validity must still hold for it to be served: the longest that a client may go on
/// checking a connection's certificate.
pub(super) const LEAF_RENEWAL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Bytes of a serial number: random, since leaves share a key and a client may refuse two
/// certificates of one issuer and serial (RFC 5280 section 4.1.2.2 allows 20 bytes).
const SERIAL: usize = 16;

/// A span of time in which a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
}

impl Validity {
    /// A validity that began a [`BACKDATE`] ago.
    pub(super) fn starting(now: SystemTime, length: Duration) -> Self {
        Self { from: now - BACKDATE, until: now - BACKDATE + length }
    }

    /// Whether it holds now and for a while longer. A clock that was set back makes it false, too.
    pub(super) fn holds(&self, now: SystemTime, longer: Duration) -> bool {
        self.from <= now && now + longer < self.until
    }
}

/// The CA's name: it says where the CA is good for, and ends in a part of the key's digest, so that
/// two CAs of two machines are two names.
fn name(key: &KeyPair) -> DistinguishedName {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.public_key_raw());
    let id: String = digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Clawlock");
    name.push(DnType::CommonName, format!("Clawlock interception CA {id}, only for agents behind it"));
    name
}

/// The CA's certificate over its own key.
pub(super) fn ca(key: &KeyPair, now: SystemTime) -> Result<Certificate, rcgen::Error> {
    let mut params = params(Validity::starting(now, CA_VALIDITY))?;
    params.distinguished_name = name(key);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.self_signed(key)
}

/// A leaf for one host. The name stands in the SAN only: a common name has 64 characters at most.
pub(super) fn leaf(
    host: &HostName,
    validity: Validity,
    key: &KeyPair,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<Certificate, rcgen::Error> {
    let mut params = params(validity)?;
    params.distinguished_name.push(DnType::CommonName, "Clawlock");
    params.subject_alt_names = vec![SanType::DnsName(host.as_str().try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.signed_by(key, issuer)
}

fn params(validity: Validity) -> Result<CertificateParams, rcgen::Error> {
    let mut serial = [0; SERIAL];
    rand::fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
    // Positive, and of full length in DER.
    serial[0] = serial[0] & 0x3f | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + validity.from.duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_after = epoch + validity.until.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

    #[test]
    fn a_leaf_is_for_one_host_and_for_servers() {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let ca = ca(&ca_key, now).unwrap();
        let issuer = Issuer::from_ca_cert_der(ca.der(), ca_key).unwrap();
        let host = HostName::parse("api.stripe.com").unwrap();
        let make = || leaf(&host, Validity::starting(now, LEAF_VALIDITY), &key, &issuer).unwrap();
        let (first, second) = (make(), make());
        let (_, leaf) = X509Certificate::from_der(first.der()).unwrap();
        let (_, again) = X509Certificate::from_der(second.der()).unwrap();
        assert_ne!(leaf.raw_serial(), again.raw_serial());
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [GeneralName::DNSName("api.stripe.com")]);
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth && !usage.any);
        assert!(leaf.basic_constraints().unwrap().is_none_or(|constraints| !constraints.value.ca));
        let validity = leaf.validity();
        assert_eq!(validity.not_before.timestamp(), 1_800_000_000 - 86_400);
        assert!(validity.not_after.timestamp() - validity.not_before.timestamp() < 398 * 86_400);
        let (_, ca) = X509Certificate::from_der(ca.der()).unwrap();
        let constraints = ca.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        assert_eq!(ca.validity().not_after.timestamp(), 1_800_000_000 - 86_400 + 3650 * 86_400);
    }

    #[test]
    fn a_clock_set_back_or_near_the_end_does_not_hold() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let validity = Validity::starting(now, LEAF_VALIDITY);
        assert!(validity.holds(now, LEAF_RENEWAL));
        assert!(!validity.holds(now - BACKDATE - Duration::from_secs(1), LEAF_RENEWAL));
        assert!(!validity.holds(now + LEAF_VALIDITY - BACKDATE - LEAF_RENEWAL, LEAF_RENEWAL));
    }
}
