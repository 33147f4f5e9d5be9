//! The client end of the hop, as small as it gets: one HTTP/2 connection with mTLS.

use std::net::Ipv4Addr;
use std::path::Path;

use http::{HeaderName, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::pki::{GATEWAY, Pki};

/// The header with which the hop names the upstream.
pub(super) const UPSTREAM: HeaderName = HeaderName::from_static("clawlock-upstream");

/// A connection to a gateway.
#[derive(Clone)]
pub(super) struct Hop {
    sender: SendRequest<Incoming>,
}

impl Hop {
    /// Connects.
    pub(super) async fn connect(dir: &Path, port: u16) -> Result<Self, String> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(|e| format!("the hop: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let name = ServerName::try_from(GATEWAY).map_err(|e| e.to_string())?;
        let tls = TlsConnector::from(Pki::open(dir).hop_client()?);
        let stream = tls.connect(name, stream).await.map_err(|e| format!("the hop: {e}"))?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| format!("the hop: {e}"))?;
        tokio::spawn(async move {
            if let Err(e) = connection.await {
                eprintln!("the hop: {e}");
            }
        });
        Ok(Self { sender })
    }

    /// Forwards a request.
    pub(super) async fn send(&self, request: Request<Incoming>) -> Result<Response<Incoming>, String> {
        self.sender.clone().send_request(request).await.map_err(|e| format!("the hop: {e}"))
    }
}
