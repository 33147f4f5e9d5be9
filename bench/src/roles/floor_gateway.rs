//! Minimal counterpart of the gateway: takes HTTP/2 with mTLS, appends the same record per request
//! and forwards to the origin over kept-alive HTTP/1.1, plain or in TLS. It decides nothing.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clawlock_audit::Gate;
use http::uri::Scheme;
use http::{Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::log::Log;
use super::{accept, listen};
use crate::pki::{self, HOST, Pki};

struct Gateway {
    log: Log,
    plain: Pool,
    tls: Pool,
}

/// Kept-alive connections to one origin.
struct Pool {
    port: u16,
    tls: Option<TlsConnector>,
    idle: Mutex<VecDeque<SendRequest<Incoming>>>,
}

/// Starts serving and answers the port.
pub(super) async fn start(dir: &Path, origin: u16, origin_tls: u16) -> Result<u16, String> {
    let acceptor = TlsAcceptor::from(Pki::open(dir).server("hop-server", true, b"h2")?);
    let ca: PathBuf = Pki::open(dir).ca();
    let gateway = Arc::new(Gateway {
        log: Log::create(dir, "floor-gateway.jsonl", Gate::Gateway)?,
        plain: Pool { port: origin, tls: None, idle: Mutex::default() },
        tls: Pool {
            port: origin_tls,
            tls: Some(TlsConnector::from(pki::client(&ca, b"http/1.1")?)),
            idle: Mutex::default(),
        },
    });
    let (listener, port) = listen().await?;
    tokio::spawn(async move {
        while let Ok(stream) = accept(&listener).await {
            let (acceptor, gateway) = (acceptor.clone(), gateway.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request| forward(gateway.clone(), request));
                // What goes wrong here, the agent's side reports.
                let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(port)
}

async fn forward(gateway: Arc<Gateway>, mut request: Request<Incoming>) -> Result<Response<Incoming>, String> {
    let uri = request.uri().clone();
    let (scheme, authority) = uri.scheme().zip(uri.authority()).ok_or("the hop's request has no target")?;
    let path = uri.path_and_query().cloned().ok_or("the request has no path")?;
    gateway.log.append(None, Log::http(request.method(), format!("{scheme}://{authority}"), path.path()))?;
    let host = authority.as_str().try_into().map_err(|_| "the authority is no header value")?;
    request.headers_mut().insert(header::HOST, host);
    request.headers_mut().remove(super::hop::UPSTREAM);
    *request.uri_mut() = Uri::from(path);
    *request.version_mut() = Version::HTTP_11;
    let pool = if *scheme == Scheme::HTTPS { &gateway.tls } else { &gateway.plain };
    pool.send(request).await
}

impl Pool {
    async fn send(&self, request: Request<Incoming>) -> Result<Response<Incoming>, String> {
        let idle = self.lock().pop_front();
        let mut sender = match idle {
            Some(sender) if sender.is_ready() => sender,
            _ => self.dial().await?,
        };
        let answer = sender.send_request(request).await.map_err(|e| format!("origin: {e}"))?;
        self.lock().push_back(sender);
        Ok(answer)
    }

    async fn dial(&self) -> Result<SendRequest<Incoming>, String> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.map_err(|e| format!("origin: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let Some(tls) = &self.tls else { return open(stream).await };
        let name = ServerName::try_from(HOST).map_err(|e| e.to_string())?;
        open(tls.connect(name, stream).await.map_err(|e| format!("origin: {e}"))?).await
    }

    // A poisoned lock still guards whole connections.
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<SendRequest<Incoming>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn open<S>(stream: S) -> Result<SendRequest<Incoming>, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| format!("origin: {e}"))?;
    tokio::spawn(connection);
    Ok(sender)
}
