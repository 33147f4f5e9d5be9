//! One stream: what a sidecar or gateway is told, and what it says.
//!
//! It knows what it has sent, and sends what differs. It ends with the pod, with the pod's certificate,
//! when the tenant is gone, or when its time is over; the client comes back, and what it has stays in
//! force until then.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clawlock_compile::objects::names::Role;
use clawlock_control::message::MAX_KNOWN_DOCUMENTS;
use clawlock_control::{Encoded, Lines, MAX_LINE, ToClient, ToServer, VERSION, encode_line};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval_at, sleep, sleep_until, timeout};

use super::limits::{AGE, Bucket, GATEWAY_MESSAGES, HELLO_TIMEOUT, MESSAGES, PING, SEND_TIMEOUT};
use super::peer::Peer;
use crate::clock::{now_ms, since_boot};
use crate::halts::{Halts, Wanted};
use crate::pki::tenant::TenantCa;
use crate::replica::{Finding, Plugin, StreamAcks};
use crate::serving::trust::Authorities;
use crate::serving::{Assignments, Board, Canaries, Gone, Issued};

/// What a stream is fed from.
pub(crate) struct Sources {
    /// Whose it is.
    pub(crate) peer: Peer,
    /// Its tenant.
    pub(crate) tenant: String,
    /// Assignments.
    pub(crate) board: Arc<Board>,
    /// CAs.
    pub(crate) authorities: watch::Receiver<Authorities>,
    /// What must not be reachable.
    pub(crate) canaries: watch::Receiver<Canaries>,
    /// The public key that signs policy.
    pub(crate) policy_key: Vec<u8>,
    /// Where acknowledgements go.
    pub(crate) acks: StreamAcks,
    /// Where halts go that gates ask for.
    pub(crate) halts: Halts,
}

/// Why a stream ended.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum End {
    /// The client closed it.
    #[error("the client closed it")]
    Client,
    /// The client sent something that it must not.
    #[error("{0}")]
    Protocol(String),
    /// The pod is gone.
    #[error("the pod is gone")]
    Pod,
    /// The tenant is gone, or this server is.
    #[error("the tenant is no longer served")]
    Tenant,
    /// It was open for long enough.
    #[error("its time is over")]
    Age,
    /// The client took nothing any more.
    #[error("the client takes nothing")]
    Slow,
    /// A newer stream of the pod took its place.
    #[error("a newer stream of the pod took its place")]
    Replaced,
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Pod
    }
}

/// A stream while it is open.
struct Session {
    sources: Sources,
    out: mpsc::Sender<Bytes>,
    /// Documents that the client has.
    known: HashSet<String>,
    /// What was sent, by UID.
    sent: BTreeMap<String, Arc<Issued>>,
    trusted: Option<Arc<TenantCa>>,
    canaries: Option<Canaries>,
    bucket: Bucket,
    /// Newest generation that was acknowledged, by UID: a gateway has what all its pods have.
    acked: BTreeMap<String, u64>,
    /// Something was acknowledged that was not passed on yet.
    news: bool,
}

/// Runs a stream until it ends.
pub(crate) async fn run<S, E>(sources: Sources, inbound: S, out: mpsc::Sender<Bytes>, age: Duration) -> End
where
    S: Stream<Item = Result<Bytes, E>>,
{
    let inbound = std::pin::pin!(inbound);
    let rate = if sources.peer.role == Role::Gateway { GATEWAY_MESSAGES } else { MESSAGES };
    let session = Session {
        sources,
        out,
        known: HashSet::new(),
        sent: BTreeMap::new(),
        trusted: None,
        canaries: None,
        bucket: Bucket::full(rate, since_boot()),
        acked: BTreeMap::new(),
        news: false,
    };
    match session.run(inbound, age).await {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

/// How long a stream may last: about [`AGE`], and never past its certificate.
pub(crate) fn lifetime(not_after_ms: u64) -> Duration {
    let mut random = [0_u8; 2];
    // Without randomness all streams end at once, which is a nuisance and no danger.
    let _ = aws_lc_rs::rand::fill(&mut random);
    let spread = f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX);
    let age = AGE.mul_f64(0.8 + 0.4 * spread);
    age.min(Duration::from_millis(not_after_ms.saturating_sub(now_ms())))
}

/// What a stream listens to.
struct Feed {
    /// Its own pod: an agent's assignment, or whether a gateway's pod is there.
    own: watch::Receiver<Option<Arc<Issued>>>,
    /// A gateway's: all pods of its tenant.
    all: Option<watch::Receiver<Assignments>>,
    authorities: watch::Receiver<Authorities>,
    canaries: watch::Receiver<Canaries>,
}

impl Feed {
    fn new(sources: &Sources) -> Result<Self, End> {
        let Sources { peer, tenant, board, authorities, canaries, .. } = sources;
        let (own, all) = match peer.role {
            Role::Gateway => {
                let all = board.tenant(tenant).map_err(|Gone| End::Tenant)?;
                (board.gateway(tenant, &peer.uid)?, Some(all))
            }
            _ => (board.agent(tenant, &peer.uid)?, None),
        };
        Ok(Self { own, all, authorities: authorities.clone(), canaries: canaries.clone() })
    }

    /// The assignments as they are now, by UID.
    fn assignments(&mut self, uid: &str) -> Assignments {
        let issued = self.own.borrow_and_update().clone();
        match self.all.as_mut() {
            Some(all) => all.borrow_and_update().clone(),
            None => Arc::new(issued.map(|issued| (uid.to_owned(), issued)).into_iter().collect()),
        }
    }

    /// Resolves when something changed.
    async fn changed(&mut self) -> Result<(), End> {
        let Self { own, all, authorities, canaries } = self;
        let all = async {
            match all {
                Some(all) => all.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = own.changed() => changed.map_err(|_| End::Pod),
            changed = all => changed.map_err(|_| End::Tenant),
            changed = authorities.changed() => changed.map_err(|_| End::Tenant),
            changed = canaries.changed() => changed.map_err(|_| End::Tenant),
        }
    }
}

impl Session {
    async fn run<S, E>(
        mut self,
        mut inbound: std::pin::Pin<&mut S>,
        age: Duration,
    ) -> Result<std::convert::Infallible, End>
    where
        S: Stream<Item = Result<Bytes, E>>,
    {
        let end = Instant::now() + age;
        let mut lines = Lines::new();
        let hello = timeout(HELLO_TIMEOUT, first(&mut lines, inbound.as_mut())).await;
        self.hello(hello.map_err(|_| End::Protocol("no hello".to_owned()))??)?;
        let mut feed = Feed::new(&self.sources)?;
        self.send_news(&mut feed).await?;
        self.send(&ToClient::Synced {}).await?;
        // What came with the hello.
        self.take(&mut lines).await?;
        let mut ping = interval_at(Instant::now() + PING, PING);
        loop {
            tokio::select! {
                changed = feed.changed() => {
                    changed?;
                    self.send_news(&mut feed).await?;
                }
                _ = ping.tick() => self.send(&ToClient::Ping {}).await?,
                () = sleep_until(end) => return Err(End::Age),
                piece = inbound.next() => {
                    lines.push(&piece.and_then(Result::ok).ok_or(End::Client)?);
                    self.take(&mut lines).await?;
                }
            }
        }
    }

    /// Sends what differs from what was sent.
    async fn send_news(&mut self, feed: &mut Feed) -> Result<(), End> {
        let ca = feed.authorities.borrow_and_update().get(&self.sources.tenant).cloned();
        self.send_trust(ca).await?;
        let uid = self.sources.peer.uid.clone();
        let assignments = feed.assignments(&uid);
        self.send_assignments(&assignments).await?;
        let canaries = feed.canaries.borrow_and_update().clone();
        self.send_canaries(canaries).await
    }

    fn hello(&mut self, message: ToServer) -> Result<(), End> {
        let ToServer::Hello { version, documents } = message else {
            return Err(End::Protocol("the first message is no hello".to_owned()));
        };
        if version != VERSION {
            return Err(End::Protocol(format!("version {version} of the protocol is not spoken here, only {VERSION}")));
        }
        if documents.len() > MAX_KNOWN_DOCUMENTS {
            return Err(End::Protocol(format!("{} known documents; at most {MAX_KNOWN_DOCUMENTS}", documents.len())));
        }
        self.known = documents.into_iter().collect();
        Ok(())
    }

    /// Takes the messages that are there.
    async fn take(&mut self, lines: &mut Lines) -> Result<(), End> {
        while let Some(message) = lines.next_message().map_err(|error| End::Protocol(error.to_string()))? {
            // Who says too much is listened to more slowly.
            while !self.bucket.take(since_boot()) {
                sleep(self.bucket.pause()).await;
            }
            self.message(message)?;
        }
        self.pass_on();
        Ok(())
    }

    fn message(&mut self, message: ToServer) -> Result<(), End> {
        let peer = &self.sources.peer;
        match message {
            ToServer::Hello { .. } => Err(End::Protocol("a second hello".to_owned())),
            ToServer::Ack { generation, identity } => {
                let identity = match (peer.role, identity) {
                    (Role::Gateway, Some(identity)) => identity,
                    // It speaks for all of its pods at once: whatever it has been sent up to there is in force.
                    (Role::Gateway, None) => {
                        let all: Vec<_> = self.sent.values().map(|issued| issued.identity.clone()).collect();
                        for identity in all {
                            self.acknowledge(&identity, generation);
                        }
                        return Ok(());
                    }
                    (_, identity) if identity.as_ref().is_none_or(|named| *named == peer.identity) => {
                        peer.identity.clone()
                    }
                    _ => return Err(End::Protocol("an acknowledgement for another pod".to_owned())),
                };
                self.acknowledge(&identity, generation);
                Ok(())
            }
            ToServer::Halted { identity, reason, rule } => {
                if peer.role == Role::Agent && identity != peer.identity {
                    return Err(End::Protocol("a halt of another pod".to_owned()));
                }
                // Of a pod that has gone meanwhile there is nothing to halt; one that is not here yet is named again.
                let uid = identity.rsplit('/').next().unwrap_or_default();
                if let Some(issued) = self.sent.get(uid).filter(|issued| issued.identity == identity) {
                    let wanted = Wanted::new(&issued.pod, uid, &reason, rule).map_err(End::Protocol)?;
                    self.sources.halts.want(wanted);
                }
                Ok(())
            }
            ToServer::Isolation { outcome, target, own_node, detail } => {
                if peer.role != Role::Agent {
                    return Err(End::Protocol("only sidecars report isolation".to_owned()));
                }
                let pod = self.sent.values().next().map_or(peer.identity.as_str(), |issued| issued.pod.as_str());
                self.sources.acks.isolation(Finding::new(pod, outcome, target, &detail), own_node);
                Ok(())
            }
            ToServer::Plugin { state, detail } => {
                if peer.role != Role::Agent {
                    return Err(End::Protocol("only sidecars report plugins".to_owned()));
                }
                let pod = self.sent.values().next().map_or(peer.identity.as_str(), |issued| issued.pod.as_str());
                self.sources.acks.plugin(Plugin::new(pod, state, &detail));
                Ok(())
            }
        }
    }

    fn acknowledge(&mut self, identity: &str, generation: u64) {
        let uid = identity.rsplit('/').next().unwrap_or_default();
        // Only what was sent can be in force.
        let sent = self.sent.get(uid).filter(|issued| issued.identity == identity);
        if sent.is_some_and(|issued| generation <= issued.generation) {
            self.acked.insert(uid.to_owned(), generation);
            self.news = true;
        }
    }

    /// A gateway has a generation when every pod of its tenant has it there.
    fn pass_on(&mut self) {
        if std::mem::take(&mut self.news)
            && self.acked.len() == self.sent.len()
            && let Some(oldest) = self.acked.values().min()
        {
            self.sources.acks.generation(*oldest);
        }
    }

    async fn send_trust(&mut self, ca: Option<Arc<TenantCa>>) -> Result<(), End> {
        let Some(ca) = ca else { return Ok(()) };
        if self.trusted.as_ref().is_some_and(|known| Arc::ptr_eq(known, &ca)) {
            return Ok(());
        }
        let roots = ca.roots().iter().map(|root| Encoded(root.to_vec())).collect();
        let keys = vec![Encoded(self.sources.policy_key.clone())];
        self.trusted = Some(ca);
        self.send(&ToClient::Trust { roots, keys }).await
    }

    async fn send_canaries(&mut self, canaries: Canaries) -> Result<(), End> {
        if self.canaries.as_ref() == Some(&canaries) {
            return Ok(());
        }
        let Canaries { tripwire, nodes } = canaries.clone();
        self.canaries = Some(canaries);
        self.send(&ToClient::Canaries { tripwire, nodes }).await
    }

    async fn send_assignments(&mut self, assignments: &BTreeMap<String, Arc<Issued>>) -> Result<(), End> {
        let gone: Vec<String> = self.sent.keys().filter(|uid| !assignments.contains_key(*uid)).cloned().collect();
        for uid in gone {
            let Some(issued) = self.sent.remove(&uid) else { continue };
            self.news |= self.acked.remove(&uid).is_some();
            if self.sources.peer.role == Role::Gateway {
                self.send(&ToClient::Remove { identity: issued.identity.clone() }).await?;
            }
        }
        for (uid, issued) in assignments {
            if self.sent.get(uid).is_some_and(|sent| Arc::ptr_eq(sent, issued)) {
                continue;
            }
            self.send_assignment(issued).await?;
            self.sent.insert(uid.clone(), issued.clone());
        }
        // What no assignment names may be forgotten by the client, and is sent again when one does.
        self.pass_on();
        let sent = &self.sent;
        let named: HashSet<&str> =
            sent.values().flat_map(|issued| issued.documents.iter().map(|document| document.digest.as_str())).collect();
        self.known.retain(|digest| named.contains(digest.as_str()));
        Ok(())
    }

    async fn send_assignment(&mut self, issued: &Issued) -> Result<(), End> {
        let mut digests = Vec::new();
        for document in &issued.documents {
            digests.push(document.digest.clone());
            if !self.known.contains(&document.digest) {
                let envelope = Encoded(document.envelope.clone());
                self.send(&ToClient::Document { digest: document.digest.clone(), envelope }).await?;
                self.known.insert(document.digest.clone());
            }
        }
        let (identity, envelope) = (issued.identity.clone(), Encoded(issued.envelope.clone()));
        self.send(&ToClient::Assignment { identity, envelope, digests }).await
    }

    async fn send(&self, message: &ToClient) -> Result<(), End> {
        let line = encode_line(message);
        if line.len() > MAX_LINE {
            tracing::error!(
                tenant = self.sources.tenant,
                "a message of {} bytes is longer than the {MAX_LINE} that are read; an object is too large",
                line.len()
            );
            return Err(End::Protocol("a message is too long".to_owned()));
        }
        match timeout(SEND_TIMEOUT, self.out.send(Bytes::from(line))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Client),
            Err(_) => Err(End::Slow),
        }
    }
}

/// The first message.
async fn first<S, E>(lines: &mut Lines, mut inbound: std::pin::Pin<&mut S>) -> Result<ToServer, End>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    loop {
        if let Some(message) = lines.next_message().map_err(|error| End::Protocol(error.to_string()))? {
            return Ok(message);
        }
        lines.push(&inbound.next().await.and_then(Result::ok).ok_or(End::Client)?);
    }
}
