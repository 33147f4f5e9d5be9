//! The first message of a TLS client, read but not answered: which server it asks for decides who answers.

use std::io::{self, Read};

use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits::CLIENT_HELLO;

/// Bytes that are read at once: one packet, mostly.
const PIECE: usize = 2 * 1024;

/// A client's first message.
pub(super) struct Hello {
    /// The message, for a handshake of our own.
    pub(super) accepted: Accepted,
    /// The bytes that it came in, for somebody else's.
    pub(super) bytes: Vec<u8>,
}

impl Hello {
    /// Whether it asks for this server.
    pub(super) fn asks_for(&self, name: &str) -> bool {
        self.accepted.client_hello().server_name().is_some_and(|asked| asked.eq_ignore_ascii_case(name))
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelloError {
    #[error("the client's first message has more than {CLIENT_HELLO} bytes")]
    TooLarge,
    #[error("the client's first message is not TLS: {0}")]
    Tls(rustls::Error),
    #[error("the client broke off: {0}")]
    Io(#[from] io::Error),
}

/// Reads it, in as many pieces as it comes. The caller bounds the time.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Hello, HelloError> {
    let mut acceptor = Acceptor::default();
    let mut bytes = Vec::with_capacity(PIECE);
    loop {
        let mut piece = [0; PIECE];
        let read = stream.read(&mut piece).await?;
        let mut new = &piece[..read];
        if new.is_empty() {
            return Err(HelloError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        if bytes.len() + new.len() > CLIENT_HELLO {
            return Err(HelloError::TooLarge);
        }
        bytes.extend_from_slice(new);
        while !new.is_empty() {
            if acceptor.read_tls(&mut new as &mut dyn Read)? == 0 {
                return Err(HelloError::TooLarge);
            }
            match acceptor.accept() {
                Ok(Some(accepted)) if new.is_empty() => return Ok(Hello { accepted, bytes }),
                // More than its first message: nobody of ours speaks before the answer.
                Ok(Some(_)) => return Err(HelloError::TooLarge),
                Ok(None) => {}
                Err((error, _alert)) => return Err(HelloError::Tls(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use std::sync::Arc;
    use tokio::io::AsyncWriteExt as _;

    const NAME: &str = "control.acme.clawlock.internal";

    fn first_message(name: &str, protocols: usize) -> Vec<u8> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = (0..protocols).map(|n| format!("protocol-{n:0>200}").into_bytes()).collect();
        let mut client = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same handshake message in records of so many bytes.
    fn in_records(bytes: &[u8], size: usize) -> Vec<u8> {
        let (head, message) = bytes.split_at(5);
        let record = |piece: &[u8]| {
            let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
            [&head[..3], &length, piece].concat()
        };
        message.chunks(size).flat_map(record).collect()
    }

    async fn read_in_pieces(bytes: &[u8], size: usize) -> Result<Hello, HelloError> {
        // Holds one piece, so that each is read by itself.
        let (mut near, mut far) = tokio::io::duplex(size);
        let send = async move {
            // It ends early when the other side has had enough.
            let _ = near.write_all(bytes).await;
        };
        let receive = async move { read(&mut far).await };
        tokio::join!(receive, send).0
    }

    #[tokio::test]
    async fn a_first_message_is_read_however_it_is_cut() {
        let whole = first_message(NAME, 1);
        for bytes in [whole.clone(), in_records(&whole, 100), in_records(&whole, 1)] {
            for size in [1, 2, 7, 300, bytes.len()] {
                let hello = read_in_pieces(&bytes, size).await.unwrap();
                assert_eq!(hello.bytes, bytes);
                assert!(hello.asks_for(NAME));
            }
        }
    }

    #[tokio::test]
    async fn only_the_very_name_is_asked_for() {
        let shouted = read_in_pieces(&first_message(&NAME.to_uppercase(), 0), 4096).await.unwrap();
        assert!(shouted.asks_for(NAME), "names of hosts have no case");
        for other in
            ["control.acme.clawlock.internal.evil.test", "xcontrol.acme.clawlock.internal", "control.acme", "::1"]
        {
            assert!(!read_in_pieces(&first_message(other, 0), 4096).await.unwrap().asks_for(NAME), "{other}");
        }
    }

    #[tokio::test]
    async fn a_large_one_is_read_and_a_larger_one_refused() {
        let large = first_message(NAME, 60);
        assert!(large.len() > CLIENT_HELLO / 2 && large.len() < CLIENT_HELLO);
        assert!(read_in_pieces(&large, 4096).await.unwrap().asks_for(NAME));
        let larger = first_message(NAME, 90);
        assert!(larger.len() > CLIENT_HELLO);
        assert!(matches!(read_in_pieces(&larger, 4096).await, Err(HelloError::TooLarge)));
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let whole = first_message(NAME, 0);
        // What follows at once is kept: the one who answers sees it.
        let more = [&whole[..], b"more"].concat();
        assert_eq!(read_in_pieces(&more, more.len()).await.unwrap().bytes, more);
        for cut in [0, 1, 5, whole.len() - 1] {
            assert!(matches!(read_in_pieces(&whole[..cut], 4096).await, Err(HelloError::Io(_))), "{cut}");
        }
        for bytes in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0x16, 3, 1, 0, 0], &[0; 64]]
        {
            assert!(
                matches!(read_in_pieces(bytes, 4096).await, Err(HelloError::Tls(_) | HelloError::Io(_))),
                "{bytes:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_byte_changed_on_the_way_goes_unnoticed_or_panics(at in 0_usize..400, with: u8) {
            let mut bytes = first_message(NAME, 0);
            let at = at % bytes.len();
            bytes[at] = with;
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            // Whatever is read is passed on as it came.
            if let Ok(hello) = runtime.block_on(read_in_pieces(&bytes, 100)) {
                proptest::prop_assert_eq!(hello.bytes, bytes);
            }
        }
    }
}
