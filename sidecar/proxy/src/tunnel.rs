//! Raw streams: bytes in both directions until one side ends, the policy changes, or nothing moves.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::guard::{Cut, Guard};
use crate::limits::{STREAM_IDLE, TUNNEL_BUFFER};
use crate::upstream::redact::RedactStream;

/// Carries bytes between the client's side and the server's until both have ended or the guard cuts.
/// What the server sends is redacted.
///
/// # Errors
/// When the stream was cut.
pub(crate) async fn carry<C, S>(client: C, server: S, redact: Option<RedactStream>, guard: &Guard) -> Result<(), Cut>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (client_read, client_write) = tokio::io::split(client);
    let (server_read, server_write) = tokio::io::split(server);
    let moved = AtomicU64::new(0);
    let both = async {
        // One direction that breaks ends the other: a half-dead tunnel serves nobody.
        let result = tokio::try_join!(
            pump(client_read, server_write, None, &moved),
            pump(server_read, client_write, redact, &moved)
        );
        if let Err(error) = result {
            tracing::debug!(%error, "tunnel broke");
        }
    };
    let watched = async {
        tokio::select! {
            () = both => Ok(()),
            () = idle(&moved) => Err(Cut::Idle),
        }
    };
    guard.run(std::pin::pin!(watched)).await?
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut redact: Option<RedactStream>,
    moved: &AtomicU64,
) -> std::io::Result<()> {
    let mut buffer = BytesMut::with_capacity(TUNNEL_BUFFER);
    loop {
        buffer.reserve(TUNNEL_BUFFER);
        if from.read_buf(&mut buffer).await? == 0 {
            if let Some(redact) = &mut redact {
                to.write_all(&redact.finish()).await?;
            }
            return to.shutdown().await;
        }
        moved.fetch_add(1, Ordering::Relaxed);
        let data: Bytes = buffer.split().freeze();
        let data = match &mut redact {
            Some(redact) => redact.push(data),
            None => data,
        };
        to.write_all(&data).await?;
        to.flush().await?;
    }
}

async fn idle(moved: &AtomicU64) {
    loop {
        let seen = moved.load(Ordering::Relaxed);
        tokio::time::sleep(STREAM_IDLE).await;
        if moved.load(Ordering::Relaxed) == seen {
            return;
        }
    }
}
