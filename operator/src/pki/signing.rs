//! The key that signs policy documents, assignments and the stored state.

use std::collections::BTreeMap;
use std::sync::Arc;

use clawlock_compile::objects::names::SIGNING_SECRET;
use clawlock_policy::envelope::{Envelope, SigningKey, TrustedKeys};
use k8s_openapi::api::core::v1::Secret;
use zeroize::Zeroizing;

use super::PkiError;
use super::secrets::{Secrets, required, wrong};

/// The key under which the seed stands.
const SEED: &str = "seed";

/// Signs, and verifies what was signed.
#[derive(Clone)]
pub(crate) struct Signer {
    key: Arc<SigningKey>,
    trusted: Arc<TrustedKeys>,
}

impl Signer {
    /// Reads the key, or makes it; answers its Secret as well.
    ///
    /// # Errors
    /// When it is neither there nor could be made, or is something else.
    pub(crate) async fn load(secrets: &Secrets) -> Result<(Self, Secret), PkiError> {
        let make = || {
            let seed = Zeroizing::new(new_seed()?);
            Ok(BTreeMap::from([(SEED, seed.to_vec())]))
        };
        let secret = secrets.find_or_create(SIGNING_SECRET, make).await?;
        Ok((Self::read(&secret)?, secret))
    }

    fn read(secret: &Secret) -> Result<Self, PkiError> {
        let key = SigningKey::from_seed(required(secret, SEED)?);
        key.map(Self::of).map_err(|error| wrong(secret, SEED, error.to_string()))
    }

    /// A signer by a key.
    pub(crate) fn of(key: SigningKey) -> Self {
        let trusted = TrustedKeys::new([key.public().clone()]);
        Self { key: Arc::new(key), trusted: Arc::new(trusted) }
    }

    /// Signs a payload; answers the envelope's encoding.
    pub(crate) fn sign(&self, payload_type: &str, payload: &[u8]) -> Vec<u8> {
        Envelope::sign(payload_type, payload, &self.key).encode()
    }

    /// The payload of an envelope that this key signed.
    pub(crate) fn open(&self, payload_type: &str, envelope: &[u8]) -> Result<Vec<u8>, String> {
        let envelope = Envelope::decode(envelope).map_err(|error| error.to_string())?;
        envelope.verify(payload_type, &self.trusted).map(<[u8]>::to_vec).map_err(|error| error.to_string())
    }

    /// The public half.
    pub(crate) fn public(&self) -> &[u8] {
        self.key.public().as_bytes()
    }
}

/// 32 bytes of the system's randomness.
fn new_seed() -> Result<[u8; 32], PkiError> {
    let mut seed = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| rcgen::Error::RingUnspecified)?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_is_opened_as_its_type_only() {
        let signer = Signer::of(SigningKey::from_seed(&new_seed().unwrap()).unwrap());
        let envelope = signer.sign("a", b"payload");
        assert_eq!(signer.open("a", &envelope).unwrap(), b"payload");
        assert!(signer.open("b", &envelope).is_err());
        let other = Signer::of(SigningKey::from_seed(&new_seed().unwrap()).unwrap());
        assert!(other.open("a", &envelope).is_err());
        assert_ne!(signer.public(), other.public());
    }
}
