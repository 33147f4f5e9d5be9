//! The anchor: the root that every sidecar and gateway carries in its arguments, and the leaves of the
//! control API under it.
//!
//! The anchor lives as long as any pod carries it, so it is never rolled here. It signs leaves of the
//! control API only: roots and signing keys travel inside that TLS and can change at any time.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clawlock_compile::objects::names::ANCHOR_SECRET;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use super::PkiError;
use super::secrets::{Secrets, required, wrong};
use super::x509::{Authority, IssuedLeaf, LeafParams};
use crate::clock::{millis, now_ms};

/// How long the anchor holds: longer than any pod.
const LIFETIME: Duration = Duration::from_secs(20 * 365 * 86_400);
/// How long a leaf of the control API holds. Its key lives in memory, so a short time costs nothing.
const LEAF_LIFETIME: Duration = Duration::from_secs(86_400);
/// Most leaves that are kept; a tenant has one.
const MAX_LEAVES: usize = 16_384;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// The anchor and this replica's leaves under it.
pub(crate) struct Anchor {
    authority: Authority,
    base64: String,
    /// One key for all leaves of this process.
    key: KeyPair,
    signer: Arc<dyn SigningKey>,
    leaves: Mutex<HashMap<String, Leaf>>,
}

struct Leaf {
    certified: Arc<CertifiedKey>,
    not_after_ms: u64,
}

impl Anchor {
    /// Reads the anchor, or makes it; answers its Secret as well.
    ///
    /// # Errors
    /// When it is neither there nor could be made, or is something else.
    pub(crate) async fn load(secrets: &Secrets) -> Result<(Self, Secret), PkiError> {
        let make = || {
            let (_, pems) = Authority::generate("clawlock control", now_ms(), LIFETIME)?;
            let key = pems.key.as_bytes().to_vec();
            Ok(BTreeMap::from([(CERTIFICATE, pems.certificate.into_bytes()), (KEY, key)]))
        };
        let secret = secrets.find_or_create(ANCHOR_SECRET, make).await?;
        Ok((Self::read(&secret)?, secret))
    }

    fn read(secret: &Secret) -> Result<Self, PkiError> {
        let authority = Authority::read(required(secret, CERTIFICATE)?, required(secret, KEY)?);
        Self::of(authority.map_err(|reason| wrong(secret, CERTIFICATE, reason))?)
    }

    /// Leaves under an authority.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn of(authority: Authority) -> Result<Self, PkiError> {
        let base64 = BASE64.encode(authority.certificate());
        let key = KeyPair::generate()?;
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = any_ecdsa_type(&der).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        Ok(Self { authority, base64, key, signer, leaves: Mutex::default() })
    }

    /// The root's certificate in base64 of its DER, as pods carry it.
    pub(crate) fn base64(&self) -> &str {
        &self.base64
    }

    /// The root's certificate.
    #[cfg(test)]
    pub(crate) fn certificate(&self) -> &rustls::pki_types::CertificateDer<'static> {
        self.authority.certificate()
    }

    /// The leaf for a name of the control API, made anew after a third of its time.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn leaf(&self, name: &str) -> Result<Arc<CertifiedKey>, PkiError> {
        let now_ms = now_ms();
        let renew_before = millis(LEAF_LIFETIME) / 3 * 2;
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(name).filter(|leaf| now_ms + renew_before < leaf.not_after_ms) {
            return Ok(leaf.certified.clone());
        }
        let names = vec![SanType::DnsName(name.try_into()?)];
        let params =
            LeafParams { names, usages: vec![ExtendedKeyUsagePurpose::ServerAuth], now_ms, lifetime: LEAF_LIFETIME };
        let IssuedLeaf { certificate, not_after_ms } = self.authority.issue(&self.key, params)?;
        let certified = Arc::new(CertifiedKey::new(vec![certificate], self.signer.clone()));
        if leaves.len() >= MAX_LEAVES {
            leaves.clear();
        }
        leaves.insert(name.to_owned(), Leaf { certified: certified.clone(), not_after_ms });
        Ok(certified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_made_once_per_name() {
        let (authority, _) = Authority::generate("test", now_ms(), LIFETIME).unwrap();
        let anchor = Anchor::of(authority).unwrap();
        let one = anchor.leaf("control.acme.clawlock.internal").unwrap();
        let again = anchor.leaf("control.acme.clawlock.internal").unwrap();
        let other = anchor.leaf("control.other.clawlock.internal").unwrap();
        assert!(Arc::ptr_eq(&one, &again));
        assert_ne!(one.cert, other.cert);
        assert!(!anchor.base64().is_empty() && !anchor.certificate().is_empty());
    }

    #[test]
    fn a_secret_without_a_key_is_named() {
        let secret = super::super::secrets::new_secret(ANCHOR_SECRET, "Opaque", BTreeMap::new());
        let error = Anchor::read(&secret).err().unwrap().to_string();
        assert!(error.starts_with("Secret clawlock-anchor, key tls.crt: there is no such key"), "{error}");
    }
}
