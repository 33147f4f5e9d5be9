//! Signed envelopes: DSSE v1 (Dead Simple Signing Envelope) with Ed25519 (RFC 8032).
//!
//! The signature covers the payload's type and bytes, so a document cannot pass for an assignment. A
//! payload comes out of an envelope only through [`Envelope::verify`]. Keys are named by the digest of
//! their public half; the name only chooses a key, it proves nothing.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::signature::{ED25519, ED25519_PUBLIC_KEY_LEN, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::codec::{MAX_ASSIGNMENT, MAX_DOCUMENT, digest};
use crate::json;

/// Payload type of a [`Document`](crate::document::Document).
pub const DOCUMENT: &str = "application/vnd.clawlock.document.v1+json";

/// Payload type of an [`Assignment`](crate::document::Assignment).
pub const ASSIGNMENT: &str = "application/vnd.clawlock.assignment.v1+json";

/// Largest envelope in bytes: the largest payload in base64, and its signatures.
pub const MAX_ENVELOPE: usize = MAX_DOCUMENT / 3 * 4 + 64 * 1024;

/// Most signatures: the current and the next key, with room. Bounds the work of verifying.
pub const MAX_SIGNATURES: usize = 8;

const _: () = assert!(MAX_ASSIGNMENT <= MAX_DOCUMENT && MAX_ENVELOPE <= json::MAX_JSON);

/// Why an envelope was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EnvelopeError(String);

impl EnvelopeError {
    fn new<T>(reason: impl Into<String>) -> Result<T, Self> {
        Err(Self(reason.into()))
    }
}

/// A key that signs. Its secret half never leaves the process.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, EnvelopeError> {
        Self::from_pair(Ed25519KeyPair::generate().map_err(|_| EnvelopeError("no key could be made".into()))?)
    }

    /// Makes the key of a 32-byte seed (RFC 8032 section 5.1.5).
    ///
    /// # Errors
    /// When the seed has another length.
    pub fn from_seed(seed: &[u8]) -> Result<Self, EnvelopeError> {
        let refuse = |_| EnvelopeError("an Ed25519 seed has 32 bytes".into());
        Self::from_pair(Ed25519KeyPair::from_seed_unchecked(seed).map_err(refuse)?)
    }

    fn from_pair(pair: Ed25519KeyPair) -> Result<Self, EnvelopeError> {
        let public = PublicKey::from_bytes(pair.public_key().as_ref())?;
        Ok(Self { pair, public })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.id)
    }
}

/// A key that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    bytes: [u8; ED25519_PUBLIC_KEY_LEN],
    id: String,
}

impl PublicKey {
    /// Reads the 32 bytes of an Ed25519 public key.
    ///
    /// # Errors
    /// When there are not 32.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let Ok(bytes) = <[u8; ED25519_PUBLIC_KEY_LEN]>::try_from(bytes) else {
            return EnvelopeError::new("an Ed25519 public key has 32 bytes");
        };
        Ok(Self { id: digest(&bytes), bytes })
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key's name: the digest of its bytes.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether a signature over a message is this key's.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, signature).is_ok()
    }
}

/// The keys whose signatures count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedKeys(BTreeMap<String, PublicKey>);

impl TrustedKeys {
    /// Trusts these keys. Without keys nothing verifies.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self(keys.into_iter().map(|key| (key.id.clone(), key)).collect())
    }
}

/// A payload with signatures over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    payload_type: String,
    payload: Vec<u8>,
    signatures: Vec<(String, Vec<u8>)>,
}

/// The envelope as JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    payload_type: String,
    payload: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    keyid: String,
    sig: String,
}

impl Envelope {
    /// Signs a payload.
    #[must_use]
    pub fn sign(payload_type: &str, payload: &[u8], key: &SigningKey) -> Self {
        let signature = key.pair.sign(&pae(payload_type, payload)).as_ref().to_vec();
        Self {
            payload_type: payload_type.to_owned(),
            payload: payload.to_vec(),
            signatures: vec![(key.public.id.clone(), signature)],
        }
    }

    /// Adds another key's signature, as during the rotation of keys.
    #[must_use]
    pub fn signed_also_by(mut self, key: &SigningKey) -> Self {
        let signature = key.pair.sign(&pae(&self.payload_type, &self.payload));
        self.signatures.push((key.public.id.clone(), signature.as_ref().to_vec()));
        self
    }

    /// The envelope's encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { payload_type, payload, signatures } = self;
        let signature = |(id, sig): &(String, Vec<u8>)| WireSignature { keyid: id.clone(), sig: BASE64.encode(sig) };
        let wire = Wire {
            payload_type: payload_type.clone(),
            payload: BASE64.encode(payload),
            signatures: signatures.iter().map(signature).collect(),
        };
        serde_json::to_vec(&wire).expect("writing to memory does not fail")
    }

    /// Reads an envelope. Nothing is proven yet: the payload is out of reach until
    /// [`Envelope::verify`].
    ///
    /// # Errors
    /// When it is larger than [`MAX_ENVELOPE`], not strict JSON, has an unknown or missing field, no
    /// signature or more than [`MAX_SIGNATURES`], or base64 that is not canonical.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > MAX_ENVELOPE {
            return EnvelopeError::new(format!("an envelope of {} bytes, more than {MAX_ENVELOPE}", bytes.len()));
        }
        let value = json::parse(bytes).map_err(|error| EnvelopeError(format!("envelope: {error}")))?;
        let wire: Wire = serde_json::from_value(value).map_err(|error| EnvelopeError(format!("envelope: {error}")))?;
        let Wire { payload_type, payload, signatures } = wire;
        if signatures.is_empty() || signatures.len() > MAX_SIGNATURES {
            return EnvelopeError::new(format!("an envelope has 1 to {MAX_SIGNATURES} signatures"));
        }
        let unbase = |text: &str, what: &str| {
            BASE64.decode(text).map_err(|_| EnvelopeError(format!("the envelope's {what} is not base64")))
        };
        let payload = unbase(&payload, "payload")?;
        let signatures = signatures
            .into_iter()
            .map(|WireSignature { keyid, sig }| Ok((keyid, unbase(&sig, "signature")?)))
            .collect::<Result<Vec<_>, EnvelopeError>>()?;
        Ok(Self { payload_type, payload, signatures })
    }

    /// The payload, when a trusted key signed it as this type. Signatures of other keys are ignored.
    ///
    /// # Errors
    /// When the type is another, or no trusted key's signature is there and correct.
    pub fn verify(&self, payload_type: &str, trusted: &TrustedKeys) -> Result<&[u8], EnvelopeError> {
        if self.payload_type != payload_type {
            return EnvelopeError::new(format!(
                "the envelope holds {}, not {payload_type}",
                json::shown(&self.payload_type)
            ));
        }
        let message = pae(payload_type, &self.payload);
        let mut known = self.signatures.iter().filter_map(|(id, sig)| Some((trusted.0.get(id)?, sig))).peekable();
        if known.peek().is_none() {
            return EnvelopeError::new("no trusted key signed the envelope");
        }
        if !known.any(|(key, signature)| key.verifies(&message, signature)) {
            return EnvelopeError::new("the envelope's signature is wrong");
        }
        Ok(&self.payload)
    }
}

/// What is signed: DSSE's pre-authentication encoding.
fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}
