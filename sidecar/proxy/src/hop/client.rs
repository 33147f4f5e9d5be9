//! The sidecar's end of the hop: a few long-lived connections to the gateway. The certificate that they are made
//! with may be replaced at any time: new connections use the new one, and those before end by themselves once
//! nothing is open on them.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::body::GateBody;
use crate::limits::{
    CONNECTION_WINDOW, HEADERS, HOP_ATTEMPTS, HOP_CONNECT_TIMEOUT, HOP_PAUSE, HOP_POOL, HOP_STREAMS, RESPONSE_TIMEOUT,
    STREAM_WINDOW, VOUCHER_TIMEOUT,
};
use crate::voucher::{self, Voucher};

/// Why the gateway did not answer.
#[derive(Debug, thiserror::Error)]
pub enum HopError {
    /// There is no certificate to prove ourselves with.
    #[error("there is no identity yet: no certificate has been issued to this pod")]
    NoIdentity,
    /// It could not be connected.
    #[error("the gateway at {0} could not be connected: {1}")]
    Connect(SocketAddr, io::Error),
    /// It took too long.
    #[error("the gateway at {0} did not answer in time")]
    Timeout(SocketAddr),
    /// The connection broke.
    #[error("the connection to the gateway broke: {0}")]
    Broken(#[from] hyper::Error),
    /// It did not vouch.
    #[error("the gateway did not vouch: {0}")]
    Voucher(String),
}

/// Where the gateway is.
#[derive(Clone)]
pub struct Endpoint {
    /// Its address.
    pub address: SocketAddr,
    /// The name that its certificate must carry.
    pub name: ServerName<'static>,
    /// Certificates and roots.
    pub tls: Arc<ClientConfig>,
}

type Sender = SendRequest<GateBody>;

/// Sends requests to the gateway.
#[derive(Default)]
pub struct HopClient {
    // `None` until there is an identity.
    endpoint: ArcSwapOption<Endpoint>,
    slots: [Slot; HOP_POOL],
}

/// The place of one connection, which is made when first needed and again when it broke.
#[derive(Default)]
struct Slot {
    connection: Mutex<Option<Link>>,
    // Every open stream holds a clone.
    streams: Arc<()>,
}

/// A connection, and what it was made with.
#[derive(Clone)]
struct Link {
    sender: Sender,
    by: Arc<Endpoint>,
    /// The gateway takes no more requests here.
    spent: Arc<AtomicBool>,
}

impl Link {
    fn takes_requests(&self) -> bool {
        !self.sender.is_closed() && !self.spent.load(Ordering::Relaxed)
    }
}

impl Slot {
    fn open_streams(&self) -> usize {
        Arc::strong_count(&self.streams) - 1
    }
}

/// Held by a stream for as long as it is open, as an extension of its response's head.
#[derive(Clone)]
pub(crate) struct OpenStream(#[expect(dead_code, reason = "counted, not read")] Arc<()>);

impl HopClient {
    /// A client without connections.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        let client = Self::without_identity();
        client.replace(endpoint);
        client
    }

    /// A client that refuses every request until [`HopClient::replace`] gives it an endpoint.
    #[must_use]
    pub fn without_identity() -> Self {
        Self::default()
    }

    /// Makes new connections with this endpoint from now on. Requests that are open go on where they are, and a
    /// connection whose last one has ended ends too.
    pub fn replace(&self, endpoint: Endpoint) {
        self.endpoint.store(Some(Arc::new(endpoint)));
    }

    fn endpoint(&self) -> Result<Arc<Endpoint>, HopError> {
        self.endpoint.load_full().ok_or(HopError::NoIdentity)
    }

    fn timeout(&self) -> HopError {
        self.endpoint().map_or_else(|error| error, |endpoint| HopError::Timeout(endpoint.address))
    }

    /// Sends a request and answers the response's head.
    ///
    /// # Errors
    /// When the gateway cannot be reached or the connection breaks. A request that the gateway may have begun to
    /// serve is never sent again.
    pub async fn send(&self, mut request: Request<GateBody>) -> Result<Response<Incoming>, HopError> {
        for _ in 0..HOP_ATTEMPTS {
            let (Link { mut sender, by: _, spent }, open) = self.link().await?;
            let copy = copy(&request);
            let answer = tokio::time::timeout(RESPONSE_TIMEOUT, sender.try_send_request(request)).await;
            match answer.map_err(|_| self.timeout())? {
                Ok(mut response) => {
                    response.extensions_mut().insert(open);
                    return Ok(response);
                }
                // The gateway closed the connection before it took the request: another one will do.
                Err(mut error) => match error.take_message().or(copy.filter(|_| was_not_taken(error.error()))) {
                    Some(unsent) => {
                        spent.store(true, Ordering::Relaxed);
                        request = unsent;
                    }
                    None => return Err(error.into_error().into()),
                },
            }
        }
        Err(self.timeout())
    }

    /// Whether the gateway can be connected now.
    pub async fn is_reachable(&self) -> bool {
        self.link().await.is_ok()
    }

    /// Asks the gateway what it reaches right now, of all that must not be reachable from here.
    ///
    /// # Errors
    /// When the gateway cannot be reached, does not vouch for anything, or answers something else.
    pub async fn voucher(&self) -> Result<Voucher, HopError> {
        let endpoint = self.endpoint()?;
        let wrong = |what: &dyn std::fmt::Display| HopError::Voucher(what.to_string());
        let uri = Uri::builder()
            .scheme("https")
            .authority(endpoint.name.to_str().as_ref())
            .path_and_query(voucher::PATH)
            .build()
            .map_err(|error| wrong(&error))?;
        let mut request = Request::new(GateBody::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        *request.version_mut() = http::Version::HTTP_2;
        let exchange = async {
            // The head's extension counts the stream as open for as long as its body is read.
            let (head, body) = Box::pin(self.send(request)).await?.into_parts();
            let body = Limited::new(body, voucher::MAX_VOUCHER).collect().await;
            Ok::<_, HopError>((head.status, body.map_err(|error| wrong(&error))?.to_bytes()))
        };
        let answered = tokio::time::timeout(VOUCHER_TIMEOUT, exchange).await;
        let (status, body) = answered.map_err(|_| HopError::Timeout(endpoint.address))??;
        if status != StatusCode::OK {
            return Err(wrong(&format_args!("it answered {status}")));
        }
        serde_json::from_slice(&body).map_err(|error| wrong(&error))
    }

    async fn link(&self) -> Result<(Link, OpenStream), HopError> {
        // The wait for the slot counts too: behind a gateway that hangs, requests would queue up.
        tokio::time::timeout(HOP_CONNECT_TIMEOUT, self.slot()).await.map_err(|_| self.timeout())?
    }

    async fn slot(&self) -> Result<(Link, OpenStream), HopError> {
        let slot = self.choose();
        let open = OpenStream(slot.streams.clone());
        let mut connection = slot.connection.lock().await;
        if let Some(link) = connection.as_ref()
            && link.takes_requests()
            && self.endpoint.load().as_ref().is_some_and(|endpoint| Arc::ptr_eq(&link.by, endpoint))
        {
            return Ok((link.clone(), open));
        }
        let endpoint = self.endpoint()?;
        let link = match Box::pin(connect_patiently(&endpoint)).await {
            Ok(sender) => Link { sender, by: endpoint, spent: Arc::default() },
            Err(error) => match connection.take() {
                // Until the certificate that it was made with ends, an older connection will do.
                Some(link) if link.takes_requests() => {
                    tracing::warn!(%error, "no hop connection with the new certificate; the old one goes on");
                    Link { by: endpoint, ..link }
                }
                _ => return Err(error),
            },
        };
        *connection = Some(link.clone());
        Ok((link, open))
    }

    /// The first connection that is not full; when all are, the one with the fewest streams. Few busy
    /// connections carry more in one write than many idle ones.
    fn choose(&self) -> &Slot {
        let [first, ..] = &self.slots;
        let free = self.slots.iter().find(|slot| slot.open_streams() < HOP_STREAMS);
        free.or_else(|| self.slots.iter().min_by_key(|slot| slot.open_streams())).unwrap_or(first)
    }
}

/// The same request once more, when its body is at hand.
fn copy(request: &Request<GateBody>) -> Option<Request<GateBody>> {
    let GateBody::Full(body) = request.body() else { return None };
    let mut copy = Request::new(GateBody::Full(body.clone()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// Whether the gateway has said that it did not take a request: one that crossed its GOAWAY on the way. Streams up to
/// the last one that a GOAWAY names get no such error (RFC 9113, section 6.8).
fn was_not_taken(error: &hyper::Error) -> bool {
    let error = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    error.is_some_and(|error| error.is_remote() && error.is_go_away())
}

/// Connects; where a gateway has just gone, another one may answer at the same address a moment later.
async fn connect_patiently(endpoint: &Endpoint) -> Result<Sender, HopError> {
    let mut pause = HOP_PAUSE;
    for _ in 1..HOP_ATTEMPTS {
        match connect(endpoint).await {
            Err(HopError::Connect(_, error)) if is_passing(&error) => {}
            connected => return connected,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    connect(endpoint).await
}

/// Whether an error is that of a gateway that ends or begins, and not of one that will not have us.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset | UnexpectedEof)
}

async fn connect(endpoint: &Endpoint) -> Result<Sender, HopError> {
    let Endpoint { address, name, tls } = endpoint;
    let refused = |error| HopError::Connect(*address, error);
    let tcp = TcpStream::connect(address).await.map_err(refused)?;
    tcp.set_nodelay(true).map_err(refused)?;
    let stream = TlsConnector::from(tls.clone()).connect(name.clone(), tcp).await.map_err(refused)?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(HEADERS).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "hop connection ended");
        }
    });
    Ok(sender)
}
