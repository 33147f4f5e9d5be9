//! Certificate and stream, side by side: the one is renewed from a third of its life, the other resumed after every
//! break. A renewal does not touch the stream; only when the certificate that it was opened with is about to end is it
//! opened again with the newer one.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Method, Request, StatusCode};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use rustls_pki_types::CertificateDer;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use zeroize::Zeroizing;

use super::connection::{ConnectError, connect};
use super::pause::{Pause, jittered};
use super::reading::Reading;
use super::store::Store;
use super::{Dial, Identity, SharedReceiver, enrol};
use crate::message::{MAX_CERTIFICATE_ANSWER, Problem};
use crate::{STREAM, ToServer, VERSION, control_name, encode_line};

/// A stream on which nothing comes for so long is dead: the server says something every 20 s.
const SILENCE: Duration = Duration::from_secs(60);

/// How long the server may take to begin to answer.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream that lasted so long did not fail: it ended.
const LASTED: Duration = Duration::from_secs(10);

/// Streams in a row that broke before a word was heard: then the certificate may be what is refused, which TLS 1.3 tells
/// a client only as a broken connection.
const UNHEARD: u32 = 3;

/// Pieces that wait for the server: hello, and what follows while it is read.
const OUTBOX: usize = 4;

/// Largest token that is read, in bytes: the kubelet's have some 1,500.
const MAX_TOKEN: usize = 16 * 1024;

/// Longest life of a certificate that is counted with: a year.
const MAX_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

type Outbox = Sender<Bytes, std::convert::Infallible>;

/// Who asks whom.
pub struct Config {
    /// The tenant.
    pub tenant: String,
    /// The root under which the control API proves itself.
    pub anchor: CertificateDer<'static>,
    /// The way to it.
    pub dial: Arc<dyn Dial>,
    /// The pod's token, which the kubelet renews.
    pub token: PathBuf,
}

/// Runs until it is dropped. Reports go to the server as soon as there is a stream.
pub async fn run(config: Config, receiver: SharedReceiver, reports: mpsc::Receiver<ToServer>) {
    let (leaves, leaf) = watch::channel(None);
    let refused = Notify::new();
    let session = Session { config, receiver, refused };
    tokio::join!(session.certificates(&leaves), session.streams(leaf, reports));
}

/// A certificate with its times.
struct Leaf {
    identity: Identity,
    /// The root that issued it.
    issuer: Option<CertificateDer<'static>>,
    /// From when on a newer one is asked for.
    renew: Instant,
    /// From when on a stream that was opened with it is opened again.
    replace: Instant,
    end: Instant,
}

struct Session {
    config: Config,
    receiver: SharedReceiver,
    /// The certificate was refused: another one is needed.
    refused: Notify,
}

/// Why a stream ended.
enum End {
    /// The server ended it, as it does from time to time.
    Server,
    /// Its certificate is about to end, and there is a newer one.
    Leaf,
    /// The server refused the certificate.
    Refused(String),
    /// It broke before a word was heard.
    Unheard(String),
    /// It broke.
    Broken(String),
}

impl Session {
    /// Sees to it that there is a certificate, always.
    async fn certificates(&self, leaves: &watch::Sender<Option<Arc<Leaf>>>) {
        let mut pause = Pause::new();
        loop {
            match self.enrol().await {
                Ok(leaf) => {
                    pause = Pause::new();
                    let renew = leaf.renew;
                    // What was refused before was the one before.
                    let _ = self.refused.notified().now_or_never();
                    leaves.send_replace(Some(Arc::new(leaf)));
                    tokio::select! {
                        () = sleep_until(renew) => {}
                        () = self.refused.notified() => {}
                    }
                }
                Err(why) => {
                    tracing::warn!(%why, "no certificate; one that there is goes on until it ends");
                    sleep(pause.next()).await;
                }
            }
        }
    }

    async fn enrol(&self) -> Result<Leaf, String> {
        let Config { tenant, anchor, dial, token } = &self.config;
        let token = read_token(token)?;
        let (identity, trust) =
            enrol(dial.as_ref(), tenant, anchor, token.trim()).await.map_err(|error| error.to_string())?;
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
        let left = u64::try_from(u128::from(identity.not_after_ms).saturating_sub(now_ms)).unwrap_or(u64::MAX);
        if left == 0 {
            return Err("the new certificate has already ended; look at this node's clock".to_owned());
        }
        self.receiver.identity(&identity, &trust)?;
        let issuer = trust.roots.into_iter().next();
        // A stranger's idea of the end of time must not overflow ours.
        let (now, left) = (Instant::now(), Duration::from_millis(left).min(MAX_LIFE));
        let replace = now + left - left / 10;
        Ok(Leaf { identity, issuer, renew: now + jittered(left / 3), replace, end: now + left })
    }

    /// Sees to it that there is a stream, whenever there is a certificate.
    async fn streams(&self, mut leaves: watch::Receiver<Option<Arc<Leaf>>>, mut reports: mpsc::Receiver<ToServer>) {
        let mut store = Store::default();
        let (mut pause, mut unheard) = (Pause::new(), 0);
        loop {
            let valid = |leaf: &Option<Arc<Leaf>>| leaf.as_ref().is_some_and(|leaf| Instant::now() < leaf.end);
            let Ok(leaf) = leaves.wait_for(valid).await.map(|leaf| leaf.clone()) else { return };
            let Some(leaf) = leaf else { continue };
            let began = Instant::now();
            let end = Box::pin(self.stream(&leaf, &mut leaves, &mut store, &mut reports)).await;
            unheard = if matches!(end, End::Unheard(_)) { unheard + 1 } else { 0 };
            match end {
                End::Leaf => continue,
                End::Server => tracing::debug!("the control stream ended; it is resumed"),
                End::Refused(why) => {
                    tracing::warn!(%why, "the certificate was refused; another one is asked for");
                    self.refused.notify_one();
                }
                End::Unheard(why) | End::Broken(why) => {
                    tracing::warn!(%why, "no control stream; what is in force stays until its validity ends");
                }
            }
            if unheard >= UNHEARD {
                unheard = 0;
                self.refused.notify_one();
            }
            if began.elapsed() >= LASTED {
                pause = Pause::new();
            }
            sleep(pause.next()).await;
        }
    }

    async fn stream(
        &self,
        leaf: &Arc<Leaf>,
        leaves: &mut watch::Receiver<Option<Arc<Leaf>>>,
        store: &mut Store,
        reports: &mut mpsc::Receiver<ToServer>,
    ) -> End {
        store.collect();
        let (mut incoming, mut outbox) = match self.open(leaf, store).await {
            Ok(open) => open,
            Err(end) => return end,
        };
        let mut reading = Reading::default();
        let (mut heard, mut any) = (Instant::now(), false);
        // Nothing that is said may keep us from listening: a server that sends a thousand assignments does not
        // read the acknowledgements of the first meanwhile.
        let mut waiting: Option<Bytes> = None;
        loop {
            if waiting.is_none() {
                waiting = Some(reading.acknowledge()).filter(|acks| !acks.is_empty()).map(|acks| lines(&acks));
            }
            tokio::select! {
                frame = incoming.frame() => match frame {
                    None if any => return End::Server,
                    None => return End::Unheard("the control API ended the stream at once".to_owned()),
                    Some(Err(error)) if any => return End::Broken(format!("the control stream broke off: {error}")),
                    Some(Err(error)) => return End::Unheard(format!("the control stream broke off: {error}")),
                    Some(Ok(frame)) => {
                        let Ok(piece) = frame.into_data() else { continue };
                        match reading.take(&piece, store, self.receiver.as_ref()) {
                            Ok(true) => {
                                (heard, any) = (Instant::now(), true);
                                self.judge(reading.roots(), leaves.borrow().as_deref());
                            }
                            Ok(false) => {}
                            Err(why) => return End::Broken(format!("the control stream was closed: {why}")),
                        }
                    }
                },
                sent = outbox.send_data(waiting.clone().unwrap_or_default()), if waiting.is_some() => match sent {
                    Ok(()) => waiting = None,
                    Err(_) => return End::Broken("the control stream takes nothing any more".to_owned()),
                },
                Some(report) = reports.recv(), if waiting.is_none() => waiting = Some(lines(&[report])),
                () = newer(leaf, leaves) => return End::Leaf,
                () = sleep_until(heard + SILENCE) => {
                    return End::Broken(format!("nothing was heard for {} s", SILENCE.as_secs()));
                }
            }
        }
    }

    /// Asks for another certificate when the root of the present one is trusted no longer: nobody takes it any more.
    fn judge(&self, roots: Option<Vec<CertificateDer<'static>>>, leaf: Option<&Leaf>) {
        let (Some(roots), Some(Leaf { issuer: Some(issuer), .. })) = (roots, leaf) else { return };
        if !roots.contains(issuer) {
            tracing::warn!("the tenant has another CA; another certificate is asked for");
            self.refused.notify_one();
        }
    }

    /// Opens a stream and says hello.
    async fn open(&self, leaf: &Leaf, store: &Store) -> Result<(Incoming, Outbox), End> {
        let Config { tenant, anchor, dial, .. } = &self.config;
        let connected = connect(dial.as_ref(), tenant, anchor, Some(&leaf.identity)).await;
        let mut sender = connected.map_err(|error| match error {
            ConnectError::Http(_) => End::Unheard(error.to_string()),
            _ => End::Broken(error.to_string()),
        })?;
        let (mut outbox, body) = Channel::new(OUTBOX);
        let hello = ToServer::Hello { version: VERSION, documents: store.digests() };
        // The first that waits: there is room.
        let said = outbox.send_data(lines(&[hello])).await;
        said.map_err(|_| End::Unheard("the control stream takes nothing".to_owned()))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://{}{STREAM}", control_name(tenant)))
            .body(body.boxed())
            .map_err(|error| End::Broken(error.to_string()))?;
        let answered = timeout(BEGIN_TIMEOUT, sender.send_request(request)).await;
        let response = answered
            .map_err(|_| End::Broken("the control API did not begin to answer".to_owned()))?
            .map_err(|error| End::Unheard(format!("the control API broke off: {error}")))?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok((response.into_body(), outbox));
        }
        let why = refusal(status, response.into_body()).await;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(End::Refused(why)),
            _ => Err(End::Broken(why)),
        }
    }
}

/// Completes once the leaf is about to end and there is a newer one.
async fn newer(leaf: &Arc<Leaf>, leaves: &mut watch::Receiver<Option<Arc<Leaf>>>) {
    sleep_until(leaf.replace).await;
    let other = |current: &Option<Arc<Leaf>>| current.as_ref().is_some_and(|current| !Arc::ptr_eq(current, leaf));
    if leaves.wait_for(other).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn lines(messages: &[ToServer]) -> Bytes {
    messages.iter().flat_map(encode_line).collect()
}

async fn refusal(status: StatusCode, body: Incoming) -> String {
    let body = timeout(BEGIN_TIMEOUT, Limited::new(body, MAX_CERTIFICATE_ANSWER).collect()).await;
    let body = body.ok().and_then(Result::ok);
    let problem = body.and_then(|body| serde_json::from_slice::<Problem>(&body.to_bytes()).ok());
    problem.map_or_else(|| format!("the control API answered {status}"), |problem| problem.to_string())
}

/// Reads the pod's token, which is a credential. The file is in memory, so that this does not wait for a disk.
fn read_token(path: &Path) -> Result<Zeroizing<String>, String> {
    let failed = |why: &dyn std::fmt::Display| format!("the pod's token {}: {why}", path.display());
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    // One piece of memory, so that no copy is left where it grew.
    let mut token = Zeroizing::new(String::with_capacity(MAX_TOKEN + 1));
    let bound = u64::try_from(MAX_TOKEN + 1).unwrap_or(u64::MAX);
    file.take(bound).read_to_string(&mut token).map_err(|error| failed(&error))?;
    match token.trim().len() {
        0 => Err(failed(&"it is empty")),
        length if length > MAX_TOKEN => Err(failed(&"it is larger than 16 KiB")),
        _ => Ok(token),
    }
}
