//! Adding a credential, and hiding its echo.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clawlock_policy::document::{CredentialDoc, SecretKey};
use clawlock_policy::{Code, Denial, Upstream};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use lru::LruCache;
use zeroize::Zeroizing;

use super::redact::{RedactStream, Redactor};
use crate::credentials::{Credentials, Secret};
use crate::denial;
use crate::limits::POOL_KEYS;

/// A header with a credential, and what recognises its echo.
pub struct Injector {
    name: HeaderName,
    value: HeaderValue,
    redactor: Redactor,
}

impl Injector {
    /// Adds the credential, and forces that the response can be read for its echo.
    pub fn inject(&self, fields: &mut HeaderMap) {
        fields.insert(self.name.clone(), self.value.clone());
        fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // A range could cut an echo in two, each half unknown to the redactor.
        for name in [header::RANGE, header::IF_RANGE] {
            fields.remove(name);
        }
        // permessage-deflate would hide an echo in a WebSocket (RFC 7692).
        fields.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    }

    /// Redacts a response's body.
    #[must_use]
    pub fn stream(&self) -> RedactStream {
        self.redactor.stream()
    }

    /// Redacts a response's headers.
    pub fn redact_headers(&self, fields: &mut HeaderMap) {
        self.redactor.redact_headers(fields);
    }
}

struct Made {
    digest: Arc<str>,
    secret: Arc<Secret>,
    injector: Arc<Injector>,
}

/// Makes injectors, and keeps them until the secret or the upstream changes.
pub(crate) struct Injectors {
    credentials: Arc<dyn Credentials>,
    made: Mutex<LruCache<Arc<str>, Made>>,
}

impl Injectors {
    pub(crate) fn new(credentials: Arc<dyn Credentials>) -> Self {
        let size = POOL_KEYS.try_into().expect("POOL_KEYS is not zero");
        Self { credentials, made: Mutex::new(LruCache::new(size)) }
    }

    /// The injector of an upstream; `None` when it has no credential.
    pub(crate) fn of(&self, upstream: &Upstream) -> Result<Option<Arc<Injector>>, Denial> {
        let Some(key) = secret_key(&upstream.credential) else { return Ok(None) };
        let missing = |why: String| {
            denial::of(
                Code::CredentialUnavailable,
                format!("upstream {}: Secret {}, key {}: {why}", upstream.name, key.name, key.key),
            )
        };
        let secret = self.credentials.get(key).ok_or_else(|| missing("there is none".to_owned()))?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.get(&upstream.name)
            && known.digest == upstream.digest
            && Arc::ptr_eq(&known.secret, &secret)
        {
            return Ok(Some(known.injector.clone()));
        }
        let injector = Arc::new(make(&upstream.credential, &secret).map_err(missing)?);
        let kept = Made { digest: upstream.digest.clone(), secret, injector: injector.clone() };
        made.put(upstream.name.clone(), kept);
        Ok(Some(injector))
    }
}

fn secret_key(credential: &CredentialDoc) -> Option<&SecretKey> {
    match credential {
        CredentialDoc::None {} => None,
        CredentialDoc::Bearer { secret }
        | CredentialDoc::Header { name: _, secret }
        | CredentialDoc::Basic { username: _, secret } => Some(secret),
    }
}

fn make(credential: &CredentialDoc, secret: &Secret) -> Result<Injector, String> {
    let bytes = secret.expose();
    let (name, value) = match credential {
        CredentialDoc::None {} => return Err("the upstream has no credential".to_owned()),
        CredentialDoc::Bearer { secret: _ } => {
            (header::AUTHORIZATION, Zeroizing::new([b"Bearer ".as_slice(), bytes].concat()))
        }
        CredentialDoc::Header { name, secret: _ } => {
            let name = HeaderName::try_from(name).map_err(|_| "the header's name is not valid".to_owned())?;
            (name, Zeroizing::new(bytes.to_vec()))
        }
        CredentialDoc::Basic { username, secret: _ } => {
            let pair = Zeroizing::new([username.as_bytes(), b":", bytes].concat());
            let encoded = Zeroizing::new(STANDARD.encode(&*pair));
            (header::AUTHORIZATION, Zeroizing::new([b"Basic ".as_slice(), encoded.as_bytes()].concat()))
        }
    };
    let mut value = HeaderValue::from_bytes(&value).map_err(|_| "the value is not fit for a header".to_owned())?;
    value.set_sensitive(true);
    let redactor = match credential {
        CredentialDoc::Basic { username, secret: _ } => Redactor::basic(username, bytes),
        CredentialDoc::None {} | CredentialDoc::Bearer { .. } | CredentialDoc::Header { .. } => Redactor::new(bytes),
    };
    Ok(Injector { name, value, redactor: redactor.map_err(|error| error.to_string())? })
}
