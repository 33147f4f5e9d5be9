//! A Unix socket that waits for input only.
//!
//! Written by hand: tokio's own registers for output as well, and the kernel then wakes the load
//! generator, on its other core, each time that the measured process reads a request. That cost would
//! fall on whoever is measured. Requests are far smaller than a socket's buffer, so writes never wait.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

pub(super) struct LocalStream(AsyncFd<UnixStream>);

impl LocalStream {
    #[expect(
        deprecated,
        reason = "its successor is unsafe; it is unsound only for types that lie about their descriptor"
    )]
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_nonblocking(true)?;
        Ok(Self(AsyncFd::with_interest(stream, Interest::READABLE)?))
    }
}

impl AsyncRead for LocalStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let unfilled = buf.initialize_unfilled();
            match guard.try_io(|stream| stream.get_ref().read(unfilled)) {
                Ok(result) => return Poll::Ready(result.map(|count| buf.advance(count))),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.get_ref().write(data))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.get_ref().shutdown(std::net::Shutdown::Write))
    }
}
