use super::*;
use std::collections::BTreeMap;

use clawlock_policy::codec;
use clawlock_policy::document::{Assignment, Document, PodDoc, TenantDoc};
use clawlock_policy::envelope::{self, Envelope, SigningKey};
use clawlock_proxy::admin::Ready as _;
use clawlock_proxy::clock::SystemClock;
use clawlock_proxy::hop::splice::{Dialling, Onward, Splice};
use clawlock_proxy::voucher::Ports;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

const OWN: &str = "spiffe://acme.example/ns/acme-platform/sa/clawlock-gateway/pod/1";
const POD: &str = "spiffe://acme.example/ns/acme/sa/default/pod/2";

struct Nowhere;

impl Onward for Nowhere {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(std::future::ready(Err(std::io::ErrorKind::NotConnected.into())))
    }
}

struct World {
    installer: Installer,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    key: SigningKey,
}

impl World {
    fn new() -> Self {
        let policies = PolicyTable::new(TrustedKeys::default(), Arc::new(SystemClock)).of_tenant("acme");
        let policies = Arc::new(policies);
        let parts = Parts {
            front: Front::of_gateway(Splice::new("control.acme.clawlock.internal".to_owned(), Arc::new(Nowhere))),
            policies: policies.clone(),
            vouchers: Arc::new(Vouchers::new("gateway.acme".to_owned(), Ports::default(), policies.clone())),
            readiness: Arc::new(Readiness::new(policies)),
            figures: Figures::default(),
        };
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        let installer = Installer::new("acme".to_owned(), SpiffeId::parse(OWN).unwrap(), parts);
        Self { installer, issuer: Issuer::new(params, key), root, key: SigningKey::generate().unwrap() }
    }

    fn identity(&self, dns: &str, uri: &str) -> Identity {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            vec![SanType::DnsName(dns.try_into().unwrap()), SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        Identity { chain, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(), not_after_ms: u64::MAX }
    }

    fn own(&self) -> Identity {
        self.identity("gateway.acme.clawlock.internal", OWN)
    }

    fn trust(&self) -> Trust {
        Trust { roots: vec![self.root.clone()], keys: vec![self.key.public().clone()] }
    }

    /// A signed assignment, with its one document.
    fn assignment(&self, tenant: &str, generation: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
        let document = codec::encode(&Document::Tenant(TenantDoc {
            name: tenant.to_owned(),
            guardrails: Vec::new(),
            limits: vec![],
            tool_categories: vec![],
            audit_until_ms: None,
            allowed_modes: Vec::new(),
        }));
        let now = self.installer.parts.policies.now_ms();
        let assignment = Assignment {
            tenant: tenant.to_owned(),
            identity: POD.to_owned(),
            pod: PodDoc {
                namespace: "acme".to_owned(),
                name: "agent-0".to_owned(),
                uid: "2".to_owned(),
                service_account: "default".to_owned(),
                labels: BTreeMap::new(),
            },
            plugin_optional: None,
            digests: vec![codec::digest(&document)],
            generation,
            issued_at_ms: now,
            not_after_ms: now + 3_600_000,
        };
        let sign = |kind, payload: &[u8]| Envelope::sign(kind, payload, &self.key).encode();
        let documents = vec![sign(envelope::DOCUMENT, &document)];
        (sign(envelope::ASSIGNMENT, &codec::encode_assignment(&assignment)), documents)
    }

    fn install(&self, (assignment, documents): &(Vec<u8>, Vec<Vec<u8>>)) -> Result<u64, String> {
        self.installer.assignment(assignment, documents)
    }

    fn has_policy(&self) -> bool {
        self.installer.parts.policies.has(&SpiffeId::parse(POD).unwrap())
    }
}

#[test]
fn only_this_gateways_own_certificate_is_taken() {
    let world = World::new();
    for (dns, uri) in [
        ("gateway.other.clawlock.internal", OWN),
        ("control.acme.clawlock.internal", OWN),
        ("gateway.acme.clawlock.internal", POD),
    ] {
        assert!(world.installer.identity(&world.identity(dns, uri), &world.trust()).is_err(), "{dns} {uri}");
    }
    // A key that is not the certificate's.
    let mixed = Identity { key: world.own().key, ..world.own() };
    assert!(world.installer.identity(&mixed, &world.trust()).is_err());
    assert!(world.installer.trust(&world.trust()).is_err(), "there is no certificate yet");
    assert!(world.installer.identity(&world.own(), &world.trust()).is_ok());
    assert!(world.installer.trust(&world.trust()).is_ok());
}

#[test]
fn assignments_need_a_trusted_key_and_this_tenant() {
    let world = World::new();
    assert!(world.install(&world.assignment("acme", 1)).is_err(), "no key is trusted yet");
    world.installer.identity(&world.own(), &world.trust()).unwrap();
    assert!(world.install(&world.assignment("other", 1)).unwrap_err().contains("not for"));
    assert!(!world.has_policy());
    assert_eq!(world.install(&world.assignment("acme", 1)), Ok(1));
    assert!(world.has_policy());
    assert_eq!(world.installer.parts.figures.refused_assignments.get(), 2);
    // Another key alone: what is in force stays, what the old one signed does not come in any more.
    let other = SigningKey::generate().unwrap().public().clone();
    world.installer.trust(&Trust { keys: vec![other], ..world.trust() }).unwrap();
    assert!(world.has_policy());
    assert!(world.install(&world.assignment("acme", 2)).is_err());
}

#[test]
fn who_is_removed_needs_a_newer_generation_and_who_is_withdrawn_does_not() {
    let world = World::new();
    let pod = SpiffeId::parse(POD).unwrap();
    world.installer.identity(&world.own(), &world.trust()).unwrap();
    let first = world.assignment("acme", 1);
    world.install(&first).unwrap();
    world.installer.withdraw(&pod);
    assert!(!world.has_policy());
    assert_eq!(world.install(&first), Ok(1));
    world.installer.remove(&pod);
    assert!(!world.has_policy());
    assert!(world.install(&first).is_err());
    assert_eq!(world.install(&world.assignment("acme", 2)), Ok(2));
}

#[tokio::test]
async fn a_gateway_is_ready_with_certificate_policy_and_secrets() {
    let world = World::new();
    let readiness = world.installer.parts.readiness.clone();
    assert!(readiness.why_not().await.is_some());
    world.installer.identity(&world.own(), &world.trust()).unwrap();
    world.installer.synced();
    assert_eq!(readiness.why_not().await, Some("the Secrets have not been read"));
    readiness.secrets();
    assert_eq!(readiness.why_not().await, None);
}
