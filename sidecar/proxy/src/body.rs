//! Bodies on their way through a gate: streamed with back-pressure, watched, and redacted.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use crate::guard::{Cut, Guard};
use crate::hop::client::OpenStream;
use crate::limits::{DISCARD, STREAM_WINDOW};
use crate::upstream::redact::RedactStream;

/// Why a body broke off.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// Reads a body on its way. What it refuses goes no further.
pub trait Inspect: Send + Sync {
    /// The next bytes, before they go on.
    ///
    /// # Errors
    /// When they must not.
    fn data(&mut self, bytes: &Bytes) -> Result<(), BodyError>;
    /// There are no more.
    ///
    /// # Errors
    /// When the body must not end here.
    fn end(&mut self) -> Result<(), BodyError>;
}

/// A body that a gate sends.
pub enum GateBody {
    /// Known bytes.
    Full(Full<Bytes>),
    /// Bytes from the other side.
    Stream(Pin<Box<Stream>>),
}

/// Bytes from the other side, with what happens to them on the way.
pub struct Stream {
    // Shared with the watch over a body whose reader may stall; `None` once that has ended it.
    inner: Arc<Mutex<Option<Incoming>>>,
    // Ends the watch when it is dropped.
    _watch: Option<oneshot::Sender<Infallible>>,
    guard: Guard,
    redact: Option<RedactStream>,
    inspect: Option<Box<dyn Inspect>>,
    // Whether trailers of it may pass.
    trailers: bool,
    // Trailers that wait until the redactor's tail is out.
    last: Option<Frame<Bytes>>,
    ended: bool,
    // The stream on the hop that it comes through.
    _open: Option<OpenStream>,
}

impl GateBody {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::Full(Full::default())
    }

    /// Known bytes.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Full::new(bytes.into()))
    }

    /// Passes on what comes in, as long as the guard agrees.
    #[must_use]
    pub fn stream(inner: Incoming, guard: Guard) -> Self {
        if inner.is_end_stream() {
            return Self::empty();
        }
        Self::Stream(Box::pin(Stream::new(inner, guard, None)))
    }

    /// Passes on a request's body. Its trailers stay here, as RFC 9110 section 6.5.1 lets them: some
    /// servers read them as headers, and no rule and no stripping has seen them.
    #[must_use]
    pub fn request(inner: Incoming, guard: Guard) -> Self {
        let mut body = Self::stream(inner, guard);
        if let Self::Stream(stream) = &mut body {
            stream.trailers = false;
        }
        body
    }

    /// Likewise, and holds on to the stream that it comes through.
    #[must_use]
    pub(crate) fn holding(mut self, open: Option<OpenStream>) -> Self {
        if let Self::Stream(stream) = &mut self {
            stream._open = open;
        }
        self
    }

    /// Likewise, and has it read on the way.
    ///
    /// # Errors
    /// When it is known already, and must not go on.
    pub fn inspected(mut self, mut inspect: Box<dyn Inspect>) -> Result<Self, BodyError> {
        match &mut self {
            Self::Stream(stream) => stream.inspect = Some(inspect),
            Self::Full(full) => {
                let known = full.clone().into_inner().unwrap_or_default();
                inspect.data(&known)?;
                inspect.end()?;
            }
        }
        Ok(self)
    }

    /// Passes on a response's body, and hides a credential.
    #[must_use]
    pub fn redacted(inner: Incoming, guard: Guard, redact: RedactStream) -> Self {
        if inner.is_end_stream() {
            return Self::empty();
        }
        Self::Stream(Box::pin(Stream::new(inner, guard, Some(redact))))
    }
}

impl From<Bytes> for GateBody {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl Body for GateBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(full) => Pin::new(full).poll_frame(cx).map_err(|never: Infallible| match never {}),
            Self::Stream(stream) => stream.as_mut().get_mut().poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(full) => full.is_end_stream(),
            Self::Stream(stream) if stream.ended => stream.last.is_none(),
            Self::Stream(stream) => {
                stream.redact.is_none()
                    && stream.inspect.is_none()
                    && lock(&stream.inner).as_ref().is_some_and(Incoming::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(full) => full.size_hint(),
            // Redaction keeps the length, but holds bytes back: the total is still the same.
            Self::Stream(stream) => lock(&stream.inner).as_ref().map(Incoming::size_hint).unwrap_or_default(),
        }
    }
}

fn lock(inner: &Mutex<Option<Incoming>>) -> MutexGuard<'_, Option<Incoming>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stream {
    fn new(inner: Incoming, guard: Guard, redact: Option<RedactStream>) -> Self {
        // A body is only asked for more while its reader takes it. One that fits the buffers on the way
        // is soon over; any other is watched, so that a reader which stalls does not keep it open.
        let long = inner.size_hint().upper().is_none_or(|size| size > u64::from(STREAM_WINDOW));
        let inner = Arc::new(Mutex::new(Some(inner)));
        let watch = long.then(|| {
            let (watch, over) = oneshot::channel();
            let (inner, revoked) = (inner.clone(), guard.revoked());
            tokio::spawn(async move {
                tokio::select! {
                    () = revoked => drop(lock(&inner).take()),
                    _ = over => {}
                }
            });
            watch
        });
        let (inspect, last, _open) = (None, None, None);
        Self { inner, _watch: watch, guard, redact, inspect, trailers: true, last, ended: false, _open }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(self.last.take().map(Ok));
        }
        loop {
            self.guard.check()?;
            let polled = match lock(&self.inner).as_mut() {
                Some(inner) => Pin::new(inner).poll_frame(cx),
                None => return Poll::Ready(Some(Err(Cut::Revoked.into()))),
            };
            let frame = match polled {
                Poll::Pending => {
                    ready!(self.guard.poll_revoked(cx))?;
                    return Poll::Pending;
                }
                Poll::Ready(frame) => frame.transpose()?,
            };
            self.guard.moved();
            if let Some(inspect) = &mut self.inspect {
                match frame.as_ref().map(Frame::data_ref) {
                    Some(Some(data)) => inspect.data(data)?,
                    // Trailers, or nothing more.
                    Some(None) | None => inspect.end()?,
                }
            }
            let frame = frame.filter(|frame| self.trailers || frame.is_data());
            let Some(redact) = &mut self.redact else {
                self.ended = frame.is_none();
                return Poll::Ready(frame.map(Ok));
            };
            match frame.map(Frame::into_data) {
                Some(Ok(data)) => {
                    let out = redact.push(data);
                    if !out.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(out))));
                    }
                }
                Some(Err(trailers)) => {
                    let trailers = trailers.into_trailers().ok().map(|mut fields| {
                        fields.remove(header::SET_COOKIE);
                        redact.redact_headers(&mut fields);
                        Frame::trailers(fields)
                    });
                    return Poll::Ready(self.finish(trailers));
                }
                None => return Poll::Ready(self.finish(None)),
            }
        }
    }

    fn finish(&mut self, trailers: Option<Frame<Bytes>>) -> Option<Result<Frame<Bytes>, BodyError>> {
        self.ended = true;
        self.last = trailers;
        let tail = self.redact.as_mut().map(RedactStream::finish).unwrap_or_default();
        if tail.is_empty() { self.last.take().map(Ok) } else { Some(Ok(Frame::data(tail))) }
    }
}

/// Why a body could not be read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It has more bytes than the bound.
    #[error("the body has more than {0} bytes")]
    TooLarge(usize),
    /// It did not arrive in time.
    #[error("the body did not arrive within {} s", .0.as_secs())]
    Timeout(Duration),
    /// It broke off.
    #[error("the body broke off")]
    Broken,
    /// Its reader may hold no more.
    #[error("too many bytes of bodies wait for decisions")]
    NoRoom,
}

/// Reads a body whole. What is beyond `limit` is thrown away, up to [`DISCARD`], before that is said: a
/// client that still writes would otherwise see its connection break instead of the answer. `room` is
/// asked for every piece that is kept.
///
/// # Errors
/// When it is larger than `limit`, too slow, breaks off, or there is no room for it.
pub async fn read<B>(
    body: B,
    limit: usize,
    timeout: Duration,
    mut room: impl FnMut(usize) -> bool,
) -> Result<Bytes, ReadError>
where
    B: Body<Data = Bytes>,
{
    let mut body = std::pin::pin!(body);
    let collect = async {
        let mut first = Bytes::new();
        // Many small pieces are copied together: kept apart, each would hold on to its whole buffer.
        let mut all = Vec::new();
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| ReadError::Broken)?.into_data() else { continue };
            size += data.len();
            if size > limit + DISCARD {
                break;
            }
            if size > limit {
                (first, all) = (Bytes::new(), Vec::new());
            } else if !room(data.len()) {
                return Err(ReadError::NoRoom);
            } else if first.is_empty() {
                first = data;
            } else {
                if all.is_empty() {
                    all.extend_from_slice(&first);
                }
                all.extend_from_slice(&data);
            }
        }
        match all.is_empty() {
            _ if size > limit => Err(ReadError::TooLarge(limit)),
            true => Ok(first),
            false => Ok(all.into()),
        }
    };
    tokio::time::timeout(timeout, collect).await.map_err(|_| ReadError::Timeout(timeout))?
}
