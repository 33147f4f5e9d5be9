//! Minimal counterpart of the agent's gate: a forward proxy that takes absolute-form requests and
//! CONNECT, ends the client's TLS with the one leaf it has and forwards over HTTP/2 with mTLS. It
//! decides nothing and checks nothing. Like the agent's gate it writes no record of what is allowed:
//! the gateway does.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio_rustls::TlsAcceptor;

use super::hop::{Hop, UPSTREAM};
use super::{accept, listen};
use crate::child::Ready;
use crate::pki::Pki;

struct Agent {
    hop: Hop,
    tls: TlsAcceptor,
}

type Answer = Result<Response<BoxBody<Bytes, hyper::Error>>, String>;

/// Serves; `next` is the gateway's port.
pub(super) async fn run(dir: &Path, next: u16) -> Result<(), String> {
    let pki = Pki::open(dir);
    let agent = Arc::new(Agent {
        hop: Hop::connect(dir, next).await?,
        tls: TlsAcceptor::from(pki.server("origin", false, b"http/1.1")?),
    });
    let (listener, port) = listen().await?;
    Ready { port, ca: Some(pki.ca()), socket: None }.announce()?;
    loop {
        let stream = accept(&listener).await?;
        let agent = agent.clone();
        let service = service_fn(move |request| answer(agent.clone(), request));
        tokio::spawn(async move {
            // What goes wrong here, the load generator sees as a broken connection.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
    }
}

async fn answer(agent: Arc<Agent>, request: Request<Incoming>) -> Answer {
    if request.method() == Method::CONNECT {
        tokio::spawn(intercept(agent, request));
        return Ok(Response::new(Empty::new().map_err(|never| match never {}).boxed()));
    }
    let authority = request.uri().authority().cloned().ok_or("the request is not in absolute form")?;
    forward(&agent, request, Scheme::HTTP, authority).await
}

async fn intercept(agent: Arc<Agent>, request: Request<Incoming>) {
    let Some(authority) = request.uri().authority().cloned() else { return };
    // A client that goes away during its handshake has nothing to be told.
    let Ok(stream) = hyper::upgrade::on(request).await else { return };
    let Ok(stream) = agent.tls.accept(TokioIo::new(stream)).await else { return };
    let service = service_fn(|request| forward(&agent, request, Scheme::HTTPS, authority.clone()));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn forward(agent: &Agent, mut request: Request<Incoming>, scheme: Scheme, authority: Authority) -> Answer {
    let path = request.uri().path_and_query().cloned().ok_or("the request has no path")?;
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path);
    *request.uri_mut() = uri.build().map_err(|e| e.to_string())?;
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.remove(header::HOST);
    headers.remove(header::CONNECTION);
    headers.insert(UPSTREAM, HeaderValue::from_static("bench"));
    Ok(agent.hop.send(request).await?.map(BodyExt::boxed))
}
