//! Resolving, checking, dialling and verifying an upstream, and sending one request.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use clawlock_audit::Receipt;
use clawlock_policy::document::Scheme;
use clawlock_policy::{Code, Denial, Permit, Upstream};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use lru::LruCache;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address;
use super::inject::{Injector, Injectors};
use super::pool::{Connection, Key, Pool};
use super::resolve::Resolve;
use crate::body::GateBody;
use crate::credentials::Credentials;
use crate::denial;
use crate::limits::{
    ADDRESSES, CONNECT_TIMEOUT, CONNECTION_WINDOW, HEADER_FIELDS, HEADERS, HTTP1_BUFFER, POOL_KEYS, RESOLVE_TIMEOUT,
    RESPONSE_TIMEOUT, STREAM_WINDOW,
};
use crate::request::Target;

/// The tenant's upstreams as the gateway reaches them.
pub struct Upstreams {
    resolver: Arc<dyn Resolve>,
    injectors: Injectors,
    pool: Arc<Pool>,
    tls: Mutex<LruCache<Arc<str>, TlsPair>>,
    public_roots: Arc<RootCertStore>,
}

/// TLS configurations of one upstream.
#[derive(Clone)]
struct TlsPair {
    /// HTTP/2 or HTTP/1.1.
    any: Arc<ClientConfig>,
    /// HTTP/1.1 only, for WebSocket.
    http1: Arc<ClientConfig>,
}

/// What the one request will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// Request and response.
    Http,
    /// A WebSocket handshake (RFC 6455), after which the connection belongs to it alone.
    WebSocket,
}

/// The right and the means to send one request to one upstream.
pub struct Way<'a> {
    upstreams: &'a Upstreams,
    upstream: Arc<Upstream>,
    key: Key,
    exchange: Exchange,
    connection: Connection,
    reused: bool,
    injector: Option<Arc<Injector>>,
}

impl Upstreams {
    /// Upstreams reached through a resolver, with credentials from a source. Certificates are verified
    /// by the public roots that are compiled in, unless an upstream names its own.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolve>, credentials: Arc<dyn Credentials>) -> Self {
        let public_roots = Arc::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
        let size = POOL_KEYS.try_into().expect("POOL_KEYS is not zero");
        Self {
            resolver,
            injectors: Injectors::new(credentials),
            pool: Arc::new(Pool::new()),
            tls: Mutex::new(LruCache::new(size)),
            public_roots,
        }
    }

    /// Opens the way to an upstream: the only one. The permit says why, the receipt that it is recorded.
    ///
    /// # Errors
    /// When the credential is not there, the name does not resolve, no address is allowed, none answers,
    /// or the certificate is not the upstream's.
    pub async fn connect_upstream(
        &self,
        permit: Permit,
        receipt: Receipt,
        upstream: Arc<Upstream>,
        target: &Target,
        exchange: Exchange,
    ) -> Result<Way<'_>, Denial> {
        let Receipt { .. } = receipt;
        let injector = if permit.credential() { self.injectors.of(&upstream)? } else { None };
        if injector.is_some() && upstream.scheme != Scheme::Https {
            let detail = format!("upstream {} has a credential and no TLS", upstream.name);
            return Err(denial::of(Code::CredentialUnavailable, detail));
        }
        let key = Key { digest: upstream.digest.clone(), target: target.clone() };
        let kept = if exchange == Exchange::Http { self.pool.take(&key) } else { None };
        let (connection, reused) = match kept {
            Some(connection) => (connection, true),
            // Boxed: dialling is rare, and its state is larger than all the rest of a request's.
            None => (Box::pin(self.dial(&upstream, &key, exchange)).await?, false),
        };
        Ok(Way { upstreams: self, upstream, key, exchange, connection, reused, injector })
    }

    async fn dial(&self, upstream: &Upstream, key: &Key, exchange: Exchange) -> Result<Connection, Denial> {
        let target = &key.target;
        let addresses = self.addresses(upstream, target).await?;
        let tls = match target.scheme {
            Scheme::Https => Some(self.tls(upstream)?),
            Scheme::Http => None,
        };
        let mut last = None;
        for address in addresses {
            let attempt = open(SocketAddr::new(address, target.port), target, tls.as_ref(), exchange);
            match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
                Ok(Ok(connection)) => {
                    if let Connection::Http2(sender) = &connection {
                        self.pool.share(key.clone(), sender.clone());
                    }
                    return Ok(connection);
                }
                Ok(Err(denial)) => last = Some(denial),
                Err(_) => {
                    let detail = format!("{} at {address} did not answer within {CONNECT_TIMEOUT:?}", target.text());
                    last = Some(denial::of(Code::UpstreamUnavailable, detail));
                }
            }
        }
        Err(last.unwrap_or_else(|| denial::of(Code::NameNotResolved, format!("{} has no address", target.host))))
    }

    /// The allowed addresses of a target. One that is not allowed is never dialled, whatever stands
    /// beside it.
    async fn addresses(&self, upstream: &Upstream, target: &Target) -> Result<Vec<IpAddr>, Denial> {
        let host = &target.host;
        let found = tokio::time::timeout(RESOLVE_TIMEOUT, self.resolver.resolve(host)).await;
        let unresolved = |why: String| denial::of(Code::NameNotResolved, format!("{host}: {why}"));
        let found = found
            .map_err(|_| unresolved(format!("no answer within {RESOLVE_TIMEOUT:?}")))?
            .map_err(|error| unresolved(error.to_string()))?;
        let mut allowed = Vec::new();
        let mut refused = None;
        for address in found {
            match address::check(address, &upstream.allowed_cidrs) {
                Ok(()) => allowed.push(address),
                Err(error) => refused = Some(error),
            }
        }
        if allowed.is_empty() {
            return Err(match refused {
                Some(error) => denial::of(Code::AddressRefused, format!("{host}: {error}")),
                None => unresolved("it has no address".to_owned()),
            });
        }
        allowed.truncate(ADDRESSES);
        Ok(allowed)
    }

    fn tls(&self, upstream: &Upstream) -> Result<TlsPair, Denial> {
        let mut cache = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pair) = cache.get(&upstream.digest) {
            return Ok(pair.clone());
        }
        let roots = match &upstream.ca_pem {
            None => self.public_roots.clone(),
            Some(pem) => Arc::new(parse_roots(pem).map_err(|why| {
                denial::of(Code::UpstreamUntrusted, format!("upstream {}: tls.caRef: {why}", upstream.name))
            })?),
        };
        let pair =
            TlsPair { any: tls_config(roots.clone(), &[b"h2", b"http/1.1"]), http1: tls_config(roots, &[b"http/1.1"]) };
        cache.put(upstream.digest.clone(), pair.clone());
        Ok(pair)
    }
}

fn parse_roots(pem: &str) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        store.add(certificate).map_err(|error| error.to_string())?;
    }
    if store.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(store) }
}

fn tls_config(roots: Arc<RootCertStore>, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

async fn open(
    address: SocketAddr,
    target: &Target,
    tls: Option<&TlsPair>,
    exchange: Exchange,
) -> Result<Connection, Denial> {
    let unavailable = |error: &dyn std::fmt::Display| {
        denial::of(Code::UpstreamUnavailable, format!("{} at {address}: {error}", target.text()))
    };
    let tcp = TcpStream::connect(address).await.map_err(|error| unavailable(&error))?;
    tcp.set_nodelay(true).map_err(|error| unavailable(&error))?;
    let Some(tls) = tls else {
        return handshake1(TokioIo::new(tcp)).await.map_err(|error| unavailable(&error));
    };
    let name = ServerName::try_from(target.host.to_string()).map_err(|error| unavailable(&error))?;
    let config = match exchange {
        Exchange::Http => &tls.any,
        Exchange::WebSocket => &tls.http1,
    };
    let stream = TlsConnector::from(config.clone()).connect(name, tcp).await.map_err(|error| {
        let trust = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match trust {
            Some(rustls::Error::InvalidCertificate(why)) => denial::of(
                Code::UpstreamUntrusted,
                format!("the certificate of {} at {address} is not valid: {why:?}", target.text()),
            ),
            _ => unavailable(&error),
        }
    })?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        return handshake2(TokioIo::new(stream)).await.map_err(|error| unavailable(&error));
    }
    handshake1(TokioIo::new(stream)).await.map_err(|error| unavailable(&error))
}

async fn handshake1<I>(io: I) -> hyper::Result<Connection>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::Builder::new().max_headers(HEADER_FIELDS).max_buf_size(HTTP1_BUFFER).handshake(io).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Ok(Connection::Http1(sender))
}

async fn handshake2<I>(io: I) -> hyper::Result<Connection>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(HEADERS).unwrap_or(u32::MAX))
        .handshake(io)
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Ok(Connection::Http2(sender))
}

impl Way<'_> {
    /// Sends the one request, with the credential if the permit carries it, and answers the response's
    /// head with the injector whose echo must be hidden.
    ///
    /// # Errors
    /// When the upstream breaks off or takes too long. A request of which a byte may have left is never
    /// sent again.
    pub async fn send(
        self,
        mut request: Request<GateBody>,
    ) -> Result<(Response<Incoming>, Option<Arc<Injector>>), Denial> {
        let Self { upstreams, upstream, key, exchange, connection, reused, injector } = self;
        if let Some(injector) = &injector {
            injector.inject(request.headers_mut());
        }
        let unsent = match attempt(&upstreams.pool, &key, exchange, connection, request).await? {
            Ok(response) => return Ok((response, injector)),
            Err(unsent) => unsent,
        };
        // A kept connection may have been closed by the upstream meanwhile; a new one has not.
        if reused {
            let connection = Box::pin(upstreams.dial(&upstream, &key, exchange)).await?;
            if let Ok(response) = attempt(&upstreams.pool, &key, exchange, connection, unsent).await? {
                return Ok((response, injector));
            }
        }
        Err(broken(&key.target, &"the connection closed before the request"))
    }
}

/// Sends a request on a connection. `Ok(Err(request))`: not a byte of it was sent.
async fn attempt(
    pool: &Arc<Pool>,
    key: &Key,
    exchange: Exchange,
    connection: Connection,
    mut request: Request<GateBody>,
) -> Result<Result<Response<Incoming>, Request<GateBody>>, Denial> {
    let target = &key.target;
    let slow = |_| denial::of(Code::UpstreamUnavailable, format!("{} took too long to answer", target.text()));
    address_to(&mut request, target, &connection).map_err(|error| broken(target, &error))?;
    let answer = match connection {
        Connection::Http1(mut sender) => {
            let answer = tokio::time::timeout(RESPONSE_TIMEOUT, sender.try_send_request(request)).await;
            if exchange == Exchange::Http {
                keep(pool.clone(), key.clone(), sender);
            }
            answer
        }
        Connection::Http2(mut sender) => tokio::time::timeout(RESPONSE_TIMEOUT, sender.try_send_request(request)).await,
    };
    match answer.map_err(slow)? {
        Ok(response) => Ok(Ok(response)),
        Err(mut error) => match error.take_message() {
            Some(unsent) => Ok(Err(unsent)),
            None => Err(broken(target, &error.into_error())),
        },
    }
}

/// Keeps an HTTP/1 connection once its exchange is over; a closed one ends here.
fn keep(pool: Arc<Pool>, key: Key, mut sender: http1::SendRequest<GateBody>) {
    if sender.is_ready() {
        return pool.put(key, sender);
    }
    if !sender.is_closed() {
        tokio::spawn(async move {
            if sender.ready().await.is_ok() {
                pool.put(key, sender);
            }
        });
    }
}

/// Writes the one name of the target in the form of the connection's protocol.
fn address_to(request: &mut Request<GateBody>, target: &Target, connection: &Connection) -> Result<(), http::Error> {
    let path = request.uri().path_and_query().cloned();
    let builder = Uri::builder().path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    match connection {
        Connection::Http1(_) => {
            *request.uri_mut() = builder.build()?;
            *request.version_mut() = Version::HTTP_11;
            request.headers_mut().insert(header::HOST, HeaderValue::try_from(target.authority())?);
        }
        Connection::Http2(_) => {
            *request.uri_mut() = builder.scheme(target.scheme.as_str()).authority(target.authority()).build()?;
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(header::HOST);
        }
    }
    Ok(())
}

fn broken(target: &Target, error: &dyn std::fmt::Display) -> Denial {
    denial::of(Code::UpstreamUnavailable, format!("{}: {error}", target.text()))
}
