//! The origin: 300 bytes of JSON for every request, over HTTP/1.1, plain or in TLS. It reads no more
//! than it must, so that its core is left to the load generator.

use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::{accept, listen};
use crate::child::Ready;
use crate::pki::Pki;

/// Size of the answer's body, as in the peers' published measurements.
const BODY: usize = 300;

/// The answer's body: JSON of 300 bytes.
pub(super) fn body() -> String {
    let start = r#"{"id":"42","object":"item","items":[1,2,3],"text":""#;
    let end = r#""}"#;
    format!("{start}{}{end}", "x".repeat(BODY - start.len() - end.len()))
}

/// Serves plain HTTP.
pub(super) async fn run() -> Result<(), String> {
    let (listener, port) = listen().await?;
    Ready::tcp(port).announce()?;
    loop {
        let stream = accept(&listener).await?;
        tokio::spawn(serve(stream));
    }
}

/// Serves HTTP in TLS.
pub(super) async fn run_tls(dir: &Path) -> Result<(), String> {
    let acceptor = TlsAcceptor::from(Pki::open(dir).server("origin", false, b"http/1.1")?);
    let (listener, port) = listen().await?;
    Ready::tcp(port).announce()?;
    loop {
        let stream = accept(&listener).await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A client that gives up its handshake has nothing to be told.
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream).await;
            }
        });
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let body = body();
    let answer =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut read = Vec::with_capacity(2048);
    // Requests have no body: each ends with its head. The peer ends the connection.
    while matches!(stream.read_buf(&mut read).await, Ok(n) if n > 0) {
        if read.ends_with(b"\r\n\r\n") {
            read.clear();
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_body_is_json_of_300_bytes() {
        let body = super::body();
        assert_eq!(body.len(), 300);
        assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
    }
}
