//! One message a line: JSON without line breaks, ended by one (NDJSON).

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest line in bytes: the largest signed envelope in base64, and its frame.
pub const MAX_LINE: usize = 2 * 1024 * 1024;

/// Why a line was refused.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It is longer than [`MAX_LINE`].
    #[error("a message has more than {MAX_LINE} bytes")]
    TooLong,
    /// It does not parse.
    #[error("a message cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Encodes a message as a line.
///
/// # Panics
/// Never: messages have only strings, numbers and lists of them.
#[must_use]
pub fn encode_line<T: Serialize>(message: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("a message has only strings, numbers and lists");
    line.push(b'\n');
    line
}

/// Puts lines together from pieces.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Where the next line begins.
    from: usize,
    /// Up to here there is no line break.
    searched: usize,
}

impl Lines {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece. Take all messages out before the next one, or memory is not bounded.
    pub fn push(&mut self, piece: &[u8]) {
        // Once per piece and not once per line: many short lines would move what is behind them each time.
        self.buffer.drain(..self.from);
        self.searched -= self.from;
        self.from = 0;
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole message, if there is one. Empty lines are passed over.
    ///
    /// # Errors
    /// When the line is too long or does not parse; then the stream is to be ended.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, LineError> {
        loop {
            let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                return if self.buffer.len() - self.from > MAX_LINE { Err(LineError::TooLong) } else { Ok(None) };
            };
            let end = self.searched + end;
            let line = &self.buffer[self.from..end];
            (self.from, self.searched) = (end + 1, end + 1);
            if line.len() > MAX_LINE {
                return Err(LineError::TooLong);
            }
            if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
                return Ok(Some(serde_json::from_slice(line)?));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Encoded, ToClient, ToServer};
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn lines_come_together_from_any_pieces() {
        let messages = vec![
            ToServer::Hello { version: 1, documents: vec!["sha256:aa".into()] },
            ToServer::Ack { generation: 3, identity: Some("spiffe://a/ns/b/sa/c/pod/d".into()) },
        ];
        let bytes: Vec<u8> = messages.iter().flat_map(encode_line).collect();
        for size in 1..bytes.len() {
            let mut lines = Lines::new();
            let mut read: Vec<ToServer> = Vec::new();
            for piece in bytes.chunks(size) {
                lines.push(piece);
                while let Some(message) = lines.next_message().unwrap() {
                    read.push(message);
                }
            }
            assert_eq!(read, messages, "pieces of {size}");
        }
    }

    #[test]
    fn memory_is_bounded_and_garbage_is_refused() {
        let mut lines = Lines::new();
        lines.push(&vec![b' '; MAX_LINE + 1]);
        assert!(matches!(lines.next_message::<ToClient>(), Err(LineError::TooLong)));
        for garbage in ["{", "\0\0\n", "[]\n", "{\"type\":\"ping\"}{}\n", "\u{fffd}\n"] {
            let mut lines = Lines::new();
            lines.push(garbage.as_bytes());
            assert!(!matches!(lines.next_message::<ToClient>(), Ok(Some(_))), "{garbage:?}");
        }
        let mut lines = Lines::new();
        lines.push(&[b' '; MAX_LINE]);
        lines.push(b" \n{\"type\":\"ping\"}\n");
        assert!(matches!(lines.next_message::<ToClient>(), Err(LineError::TooLong)), "also when its end has come");
        let mut lines = Lines::new();
        lines.push(b"\n\r\n{\"type\":\"ping\"}\n");
        assert_eq!(lines.next_message::<ToClient>().unwrap(), Some(ToClient::Ping {}));
    }

    proptest! {
        #[test]
        fn fuzz_nothing_that_a_peer_sends_panics_or_takes_memory(
            pieces in vec(vec(any::<u8>(), 0..300), 0..20)
        ) {
            let mut lines = Lines::new();
            for piece in pieces {
                lines.push(&piece);
                while let Ok(Some(_)) = lines.next_message::<ToServer>() {}
                prop_assert!(lines.buffer.len() <= MAX_LINE + piece.len());
            }
        }

        #[test]
        fn fuzz_messages_come_out_as_they_went_in(
            messages in vec(to_client(), 0..8), size in 1..64usize
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(encode_line).collect();
            let mut lines = Lines::new();
            let mut read: Vec<ToClient> = Vec::new();
            for piece in bytes.chunks(size) {
                lines.push(piece);
                while let Some(message) = lines.next_message().unwrap() {
                    read.push(message);
                }
            }
            prop_assert_eq!(read, messages);
        }
    }

    fn to_client() -> impl Strategy<Value = ToClient> {
        let bytes = || vec(any::<u8>(), 0..40).prop_map(Encoded);
        let list = || vec(vec(any::<u8>(), 0..40).prop_map(Encoded), 0..3);
        prop_oneof![
            (list(), list()).prop_map(|(roots, keys)| ToClient::Trust { roots, keys }),
            (any::<String>(), bytes()).prop_map(|(digest, envelope)| ToClient::Document { digest, envelope }),
            (any::<String>(), bytes(), vec(any::<String>(), 0..3))
                .prop_map(|(identity, envelope, digests)| ToClient::Assignment { identity, envelope, digests }),
            any::<String>().prop_map(|identity| ToClient::Remove { identity }),
            (vec(any::<std::net::IpAddr>(), 0..3), vec(any::<std::net::IpAddr>(), 0..3))
                .prop_map(|(tripwire, nodes)| ToClient::Canaries { tripwire, nodes }),
            Just(ToClient::Synced {}),
            Just(ToClient::Ping {}),
        ]
    }
}
