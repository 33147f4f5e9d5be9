//! A gateway that costs nothing: the hop's HTTP/2 with mTLS, and the origin's answer at once.

use std::convert::Infallible;
use std::path::Path;

use bytes::Bytes;
use http::{Response, header};
use http_body_util::Full;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_rustls::TlsAcceptor;

use super::{accept, listen, origin};
use crate::child::Ready;
use crate::pki::Pki;

/// Serves.
pub(super) async fn run(dir: &Path) -> Result<(), String> {
    let acceptor = TlsAcceptor::from(Pki::open(dir).server("hop-server", true, b"h2")?);
    let body = Bytes::from(origin::body());
    let (listener, port) = listen().await?;
    Ready::tcp(port).announce()?;
    loop {
        let stream = accept(&listener).await?;
        let (acceptor, body) = (acceptor.clone(), body.clone());
        tokio::spawn(async move {
            let stream = match acceptor.accept(stream).await {
                Ok(stream) => stream,
                Err(e) => return eprintln!("stub gateway: {e}"),
            };
            let service = service_fn(move |_request| {
                let answer = Response::builder()
                    .header(header::CONTENT_TYPE, "application/json")
                    .header(header::CONTENT_LENGTH, body.len())
                    .body(Full::new(body.clone()))
                    .expect("the parts are constants");
                async { Ok::<_, Infallible>(answer) }
            });
            // A connection that the gate drops has ended as it should.
            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
