//! One connection of the load generator.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::local::LocalStream;
use crate::pki::HOST;

/// How a request reaches what is measured.
#[derive(Clone)]
pub(crate) enum Style {
    /// Straight to a server: origin form.
    Direct,
    /// Straight to a server, over TLS.
    DirectTls(Arc<ClientConfig>),
    /// Through a forward proxy in absolute form, to `http://HOST:PORT`.
    Absolute {
        /// The port of the URL.
        port: u16,
    },
    /// Through a forward proxy with CONNECT, then TLS and origin form.
    Connect {
        /// The port of the CONNECT target.
        port: u16,
        /// What the client trusts.
        tls: Arc<ClientConfig>,
    },
    /// `POST /v1/decide` on a Unix socket, each with a request id of its own.
    Decide {
        /// The socket.
        socket: PathBuf,
    },
}

/// What is measured, as a client sees it.
#[derive(Clone)]
pub(crate) struct Target {
    /// TCP port on loopback; not used by [`Style::Decide`].
    pub(crate) port: u16,
    /// How requests get there.
    pub(crate) style: Style,
}

/// Body of `POST /v1/decide`: a call of the `exec` tool. The request id is replaced in each request.
const DECIDE_BODY: &str = r#"{"version":1,"requestId":"0000000000000000","tool":"exec","args":{"command":"ls -la /workspace/src","workdir":"/workspace","timeout":30,"background":false}}"#;

/// What stands in the place of the request id.
const ID: &[u8; 16] = b"0000000000000000";

impl Target {
    /// The bytes of one request.
    fn request(&self) -> Vec<u8> {
        match &self.style {
            Style::Direct | Style::DirectTls(_) | Style::Connect { .. } => {
                format!("GET /v1/items/42 HTTP/1.1\r\nHost: {HOST}{}\r\nAccept: */*\r\nUser-Agent: bench/1\r\n\r\n", self.port_suffix())
            }
            Style::Absolute { port } => format!(
                "GET http://{HOST}:{port}/v1/items/42 HTTP/1.1\r\nHost: {HOST}:{port}\r\nAccept: */*\r\nUser-Agent: bench/1\r\n\r\n"
            ),
            Style::Decide { .. } => format!(
                "POST /v1/decide HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{DECIDE_BODY}",
                DECIDE_BODY.len()
            ),
        }
        .into_bytes()
    }

    fn port_suffix(&self) -> String {
        match self.style {
            Style::Connect { port, .. } => format!(":{port}"),
            _ => String::new(),
        }
    }

    async fn dial(&self) -> Result<Box<dyn Stream>, String> {
        if let Style::Decide { socket } = &self.style {
            let stream = LocalStream::connect(socket).map_err(|e| format!("{}: {e}", socket.display()))?;
            return Ok(Box::new(stream));
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut stream = TcpStream::connect(address).await.map_err(|e| format!("{address}: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let tls = match &self.style {
            Style::Connect { port, tls } => {
                connect_through(&mut stream, *port).await?;
                tls
            }
            Style::DirectTls(tls) => tls,
            Style::Direct | Style::Absolute { .. } | Style::Decide { .. } => return Ok(Box::new(stream)),
        };
        let name = ServerName::try_from(HOST).map_err(|e| e.to_string())?;
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await.map_err(|e| format!("TLS: {e}"))?;
        Ok(Box::new(stream))
    }
}

async fn connect_through(stream: &mut TcpStream, port: u16) -> Result<(), String> {
    let head = format!("CONNECT {HOST}:{port} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.map_err(|e| format!("CONNECT: {e}"))?;
    let mut answer = Vec::with_capacity(256);
    while head_end(&answer).is_none() {
        if stream.read_buf(&mut answer).await.map_err(|e| format!("CONNECT: {e}"))? == 0 {
            return Err("CONNECT: the proxy closed the connection".to_owned());
        }
    }
    check_status(&answer)
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection that carries one request after the other.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    request: Vec<u8>,
    id_at: Option<usize>,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(target: &Target) -> Result<Self, String> {
        let request = target.request();
        let id_at = matches!(target.style, Style::Decide { .. })
            .then(|| request.windows(ID.len()).position(|w| w == ID).expect("the decide body has a request id"));
        Ok(Self { stream: target.dial().await?, request, id_at, answer: Vec::with_capacity(4096) })
    }

    /// Sends a request and reads its whole answer, which must have status 200. `id` is unique in a run.
    pub(crate) async fn exchange(&mut self, id: u64) -> Result<(), String> {
        if let Some(at) = self.id_at {
            self.request[at..at + ID.len()].copy_from_slice(&hex(id));
        }
        self.stream.write_all(&self.request).await.map_err(|e| format!("request: {e}"))?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await.map_err(|e| format!("answer: {e}"))? == 0 {
                return Err("the connection was closed before the answer's end".to_owned());
            }
            if complete(&self.answer)? {
                return Ok(());
            }
        }
    }
}

fn hex(id: u64) -> [u8; 16] {
    let mut text = *ID;
    for (place, byte) in text.iter_mut().enumerate() {
        *byte = b"0123456789abcdef"[usize::from((id >> (60 - 4 * place)).to_le_bytes()[0] & 0xf)];
    }
    text
}

fn head_end(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn check_status(answer: &[u8]) -> Result<(), String> {
    if answer.starts_with(b"HTTP/1.1 200 ") || answer.starts_with(b"HTTP/1.0 200 ") {
        return Ok(());
    }
    Err(format!("an answer that is not 200: {}", String::from_utf8_lossy(answer)))
}

fn complete(answer: &[u8]) -> Result<bool, String> {
    let Some(head) = head_end(answer) else { return Ok(false) };
    let lines = || answer[..head].split(|byte| *byte == b'\n');
    let value = |name: &str| {
        lines().find_map(|line| {
            let (key, value) = line.split_at_checked(name.len())?;
            key.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
        })
    };
    let body = &answer[head..];
    let done = if let Some(length) = value("content-length:") {
        let length: usize =
            std::str::from_utf8(length).ok().and_then(|text| text.parse().ok()).ok_or("a bad Content-Length")?;
        body.len() >= length
    } else if value("transfer-encoding:").is_some() {
        body.ends_with(b"0\r\n\r\n")
    } else {
        return Err("an answer whose end cannot be seen".to_owned());
    };
    if done {
        check_status(answer)?;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_answer_is_found() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n";
        assert_eq!(complete(head.as_bytes()), Ok(false));
        assert_eq!(complete(format!("{head}ab").as_bytes()), Ok(false));
        assert_eq!(complete(format!("{head}abc").as_bytes()), Ok(true));
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(complete(format!("{head}1\r\na\r\n").as_bytes()), Ok(false));
        assert_eq!(complete(format!("{head}1\r\na\r\n0\r\n\r\n").as_bytes()), Ok(true));
    }

    #[test]
    fn a_refusal_is_an_error_that_shows_the_answer() {
        let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
        assert!(complete(answer.as_bytes()).unwrap_err().contains("403 Forbidden"));
        assert!(complete(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn request_ids_are_distinct_and_of_one_length() {
        assert_eq!(&hex(0), b"0000000000000000");
        assert_eq!(&hex(0x1f), b"000000000000001f");
        assert_eq!(&hex(u64::MAX), b"ffffffffffffffff");
    }
}
