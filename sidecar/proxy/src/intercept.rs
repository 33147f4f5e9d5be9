//! The interception CA: how the agent gate reads the TLS of an agent that trusts it.
//!
//! One P-256 CA per gate, in a folder that only the gate's user can read, so that a restart of the gate
//! does not break an agent that read `ca.crt` at its start. Leaves share one key that never leaves
//! memory; each host has a TLS configuration of its own that answers to exactly that server name.
//! Since every host is intercepted or refused, an agent needs no other root: `ca.crt` alone is the
//! bundle for variables that replace a client's whole store. The CA enters no system trust store.

mod issue;
mod store;

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use clawlock_policy::HostName;
use lru::LruCache;
use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{ServerConfig, version};
use x509_parser::prelude::{FromDer, X509Certificate};

use issue::{CA_VALIDITY, LEAF_RENEWAL, LEAF_VALIDITY, Validity};
pub use store::CaError;
use store::Store;

/// Hosts whose certificate and configuration are kept: some 3 KiB each, and more than the upstreams
/// of a tenant.
const HOSTS: NonZeroUsize = NonZeroUsize::new(512).unwrap();

/// Certificates that may be made in one second. Each costs a signature and replaces a cached host, so
/// an agent that walks through names must not do it at will.
const MINTED_PER_SECOND: u32 = 50;

/// Certificates that may be made at once, for an agent that opens many hosts at its start.
const MINTED_AT_ONCE: u32 = 200;

/// What the CA's certificate must still be valid for when it is loaded; otherwise a new one over the
/// same key and name is made, which clients that trust the old one accept, too.
const CA_RENEWAL: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// TLS 1.3 tickets per handshake. One is enough for a client that reconnects; a second costs 20 µs.
const TICKETS: usize = 1;

/// Why there is no certificate for a host.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// Too many were made in the last second.
    #[error("more than {MINTED_PER_SECOND} certificates per second for new hosts; retry in a second")]
    TooMany,
    /// It could not be made.
    #[error("the certificate for {host} could not be made: {source}")]
    Make {
        /// The host.
        host: HostName,
        /// Why not.
        source: rcgen::Error,
    },
    /// TLS could not be set up.
    #[error("TLS for {host} could not be set up: {source}")]
    Tls {
        /// The host.
        host: HostName,
        /// Why not.
        source: rustls::Error,
    },
}

/// The CA, its leaves and the TLS configurations that serve them.
pub struct InterceptionCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    /// When the CA ends; no leaf outlives it.
    until: SystemTime,
    leaf: KeyPair,
    signer: Arc<dyn SigningKey>,
    provider: Arc<CryptoProvider>,
    tickets: Arc<dyn ProducesTickets>,
    state: Mutex<State>,
}

struct State {
    hosts: LruCache<HostName, Served>,
    budget: Budget,
}

struct Served {
    config: Arc<ServerConfig>,
    validity: Validity,
}

impl fmt::Debug for InterceptionCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InterceptionCa(..)")
    }
}

impl InterceptionCa {
    /// The CA of a folder. The folder is made when it is not there, with mode 0700, and in it `ca.key`
    /// (0600) and `ca.crt` (0644).
    ///
    /// # Errors
    /// When the folder or key is another user's or open to others, is not readable or writable, or does
    /// not hold a P-256 key and its certificate.
    pub fn load_or_create(dir: &Path) -> Result<Self, CaError> {
        let store = Store::open(dir)?;
        let key = load_key(&store)?;
        let now = SystemTime::now();
        let known = match store.read_certificate()? {
            Some(pem) => parse_certificate(&store, pem, &key)?.filter(|known| known.1.holds(now, CA_RENEWAL)),
            None => None,
        };
        if let Some((certificate, validity, pem)) = known {
            return Self::new(key, certificate, pem, validity.until);
        }
        let certificate = issue::ca(&key, now)?;
        let pem = certificate.pem();
        store.write_certificate(&pem)?;
        Self::new(key, certificate.der().clone(), pem, Validity::starting(now, CA_VALIDITY).until)
    }

    /// A CA that ends with the process, for an agent that starts after it.
    ///
    /// # Errors
    /// When keys cannot be made.
    pub fn in_memory() -> Result<Self, CaError> {
        let key = KeyPair::generate()?;
        let now = SystemTime::now();
        let certificate = issue::ca(&key, now)?;
        let pem = certificate.pem();
        Self::new(key, certificate.der().clone(), pem, Validity::starting(now, CA_VALIDITY).until)
    }

    fn new(
        key: KeyPair,
        certificate: CertificateDer<'static>,
        pem: String,
        until: SystemTime,
    ) -> Result<Self, CaError> {
        let leaf = KeyPair::generate()?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.serialized_der()));
        let signer = aws_lc_rs::sign::any_ecdsa_type(&der)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&certificate, key)?,
            certificate,
            pem,
            until,
            leaf,
            signer,
            provider: Arc::new(aws_lc_rs::default_provider()),
            tickets: aws_lc_rs::Ticketer::new()?,
            state: Mutex::new(State { hosts: LruCache::new(HOSTS), budget: Budget::new(Instant::now()) }),
        })
    }

    /// What agents must trust, in PEM: the content of `ca.crt`.
    #[must_use]
    pub fn bundle_pem(&self) -> &str {
        &self.pem
    }

    /// The same in DER.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// TLS for one host: 1.2 and 1.3, `h2` and `http/1.1`. A ClientHello that names another server, or
    /// none, fails: a client that asked for a tunnel by name sends that name.
    ///
    /// # Errors
    /// When the host is new and too many were new in the last second, or making it fails.
    pub fn server_config(&self, host: &HostName) -> Result<Arc<ServerConfig>, MintError> {
        self.config_at(host, SystemTime::now(), Instant::now())
    }

    fn config_at(&self, host: &HostName, now: SystemTime, tick: Instant) -> Result<Arc<ServerConfig>, MintError> {
        // Held while a certificate is made: two tunnels to a new host then make one, and the budget
        // bounds how long others wait.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(served) = state.hosts.get(host)
            && served.validity.holds(now, LEAF_RENEWAL)
        {
            return Ok(served.config.clone());
        }
        if !state.budget.take(tick) {
            return Err(MintError::TooMany);
        }
        let mut validity = Validity::starting(now, LEAF_VALIDITY);
        validity.until = validity.until.min(self.until);
        let config = self.mint(host, validity)?;
        state.hosts.put(host.clone(), Served { config: config.clone(), validity });
        Ok(config)
    }

    fn mint(&self, host: &HostName, validity: Validity) -> Result<Arc<ServerConfig>, MintError> {
        let leaf = issue::leaf(host, validity, &self.leaf, &self.issuer)
            .map_err(|source| MintError::Make { host: host.clone(), source })?;
        let key = CertifiedKey::new(vec![leaf.der().clone()], self.signer.clone());
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|source| MintError::Tls { host: host.clone(), source })?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(OneHost { host: host.clone(), key: Arc::new(key) }));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Sessions are kept by the clients, in tickets: nothing here grows with their number. A ticket
        // names its server; for another one rustls starts a full handshake.
        config.ticketer = self.tickets.clone();
        config.send_tls13_tickets = TICKETS;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }
}

/// Answers to one server name.
struct OneHost {
    host: HostName,
    key: Arc<CertifiedKey>,
}

impl fmt::Debug for OneHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OneHost({})", self.host)
    }
}

impl ResolvesServerCert for OneHost {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name()?;
        named.eq_ignore_ascii_case(self.host.as_str()).then(|| self.key.clone())
    }
}

/// A token bucket of [`MINTED_PER_SECOND`], of size [`MINTED_AT_ONCE`].
struct Budget {
    left: f64,
    at: Instant,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { left: f64::from(MINTED_AT_ONCE), at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * f64::from(MINTED_PER_SECOND)).min(f64::from(MINTED_AT_ONCE));
        self.at = self.at.max(now);
        let some = self.left >= 1.0;
        if some {
            self.left -= 1.0;
        }
        some
    }
}

fn load_key(store: &Store) -> Result<KeyPair, CaError> {
    if let Some(pem) = store.read_key()? {
        return parse_key(store, &pem);
    }
    let key = KeyPair::generate()?;
    let pem = zeroize::Zeroizing::new(key.serialize_pem());
    if store.write_key(&pem)? {
        return Ok(key);
    }
    // Another process made one in between.
    let pem = store.read_key()?.ok_or_else(|| broken_key(store))?;
    parse_key(store, &pem)
}

fn parse_key(store: &Store, pem: &str) -> Result<KeyPair, CaError> {
    KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256).map_err(|_| broken_key(store))
}

fn broken_key(store: &Store) -> CaError {
    CaError::Content {
        path: store.key.clone(),
        why: "is not a P-256 key in PKCS #8",
        todo: "remove it and ca.crt so that a new CA is made, and start the agent again",
    }
}

type Known = (CertificateDer<'static>, Validity, String);

/// The certificate; `None` when its validity cannot be told and it must be made anew.
fn parse_certificate(store: &Store, pem: String, key: &KeyPair) -> Result<Option<Known>, CaError> {
    let broken = |why| CaError::Content {
        path: store.certificate.clone(),
        why,
        todo: "remove it so that it is made anew from ca.key",
    };
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| broken("is not a certificate in PEM"))?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| broken("is not a certificate"))?;
    if certificate.public_key().subject_public_key.data != key.public_key_raw() {
        return Err(broken("is not the certificate of ca.key"));
    }
    if !certificate.is_ca() {
        return Err(broken("is not the certificate of a CA"));
    }
    let time = |time: x509_parser::time::ASN1Time| {
        u64::try_from(time.timestamp()).ok().map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    };
    let validity = certificate.validity();
    let validity = time(validity.not_before).zip(time(validity.not_after));
    Ok(validity.map(|(from, until)| (der.clone(), Validity { from, until }, pem)))
}

#[cfg(test)]
mod tests;
