//! The sidecar's end of the hop: a few long-lived connections to the gateway.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
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
    CONNECTION_WINDOW, HEADERS, HOP_CONNECT_TIMEOUT, HOP_POOL, HOP_STREAMS, RESPONSE_TIMEOUT, STREAM_WINDOW,
};

/// Why the gateway did not answer.
#[derive(Debug, thiserror::Error)]
pub enum HopError {
    /// It could not be connected.
    #[error("the gateway at {0} could not be connected: {1}")]
    Connect(SocketAddr, std::io::Error),
    /// It took too long.
    #[error("the gateway at {0} did not answer in time")]
    Timeout(SocketAddr),
    /// The connection broke.
    #[error("the connection to the gateway broke: {0}")]
    Broken(#[from] hyper::Error),
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
pub struct HopClient {
    endpoint: Endpoint,
    slots: [Slot; HOP_POOL],
}

/// The place of one connection, which is made when first needed and again when it broke.
#[derive(Default)]
struct Slot {
    connection: Mutex<Option<Sender>>,
    // Every open stream holds a clone.
    streams: Arc<()>,
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
        Self { endpoint, slots: Default::default() }
    }

    /// Sends a request and answers the response's head.
    ///
    /// # Errors
    /// When the gateway cannot be reached or the connection breaks. A request whose first byte may have
    /// left is never sent again.
    pub async fn send(&self, mut request: Request<GateBody>) -> Result<Response<Incoming>, HopError> {
        for _ in 0..2 {
            let (mut sender, open) = self.sender().await?;
            let answer = tokio::time::timeout(RESPONSE_TIMEOUT, sender.try_send_request(request)).await;
            match answer.map_err(|_| HopError::Timeout(self.endpoint.address))? {
                Ok(mut response) => {
                    response.extensions_mut().insert(open);
                    return Ok(response);
                }
                // The gateway closed the connection before it took the request: another one will do.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        Err(HopError::Timeout(self.endpoint.address))
    }

    /// Whether the gateway can be connected now.
    pub async fn is_reachable(&self) -> bool {
        self.sender().await.is_ok()
    }

    async fn sender(&self) -> Result<(Sender, OpenStream), HopError> {
        // The wait for the slot counts too: behind a gateway that hangs, requests would queue up.
        tokio::time::timeout(HOP_CONNECT_TIMEOUT, self.slot())
            .await
            .map_err(|_| HopError::Timeout(self.endpoint.address))?
    }

    async fn slot(&self) -> Result<(Sender, OpenStream), HopError> {
        let slot = self.choose();
        let open = OpenStream(slot.streams.clone());
        let mut connection = slot.connection.lock().await;
        if let Some(sender) = connection.as_mut()
            && !sender.is_closed()
        {
            return Ok((sender.clone(), open));
        }
        let sender = Box::pin(self.connect()).await?;
        *connection = Some(sender.clone());
        Ok((sender, open))
    }

    /// The first connection that is not full; when all are, the one with the fewest streams. Few busy
    /// connections carry more in one write than many idle ones.
    fn choose(&self) -> &Slot {
        let [first, ..] = &self.slots;
        let free = self.slots.iter().find(|slot| slot.open_streams() < HOP_STREAMS);
        free.or_else(|| self.slots.iter().min_by_key(|slot| slot.open_streams())).unwrap_or(first)
    }

    async fn connect(&self) -> Result<Sender, HopError> {
        let Endpoint { address, name, tls } = &self.endpoint;
        let refused = |error| HopError::Connect(*address, error);
        let tcp = TcpStream::connect(address).await.map_err(refused)?;
        tcp.set_nodelay(true).map_err(refused)?;
        let stream = TlsConnector::from(tls.clone()).connect(name.clone(), tcp).await.map_err(refused)?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(HEADERS).unwrap_or(u32::MAX))
            .keep_alive_interval(std::time::Duration::from_secs(30))
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
}
