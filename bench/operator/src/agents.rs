//! The agents: for each pod the client that its sidecar has. What they receive is counted here and put in force nowhere.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clawlock_control::client::{Canaries, Config, Dial, Dialling, Identity, Receiver, Trust, run};
use clawlock_policy::SpiffeId;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use tokio::net::TcpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::process::write;

/// Between the starts of two agents: a tenant gets 50 certificates a second, after the first 200.
const PACE: Duration = Duration::from_millis(15);

/// An agent's pod.
pub(crate) struct Place {
    /// Its tenant.
    pub(crate) tenant: String,
    /// The number of the tenant.
    pub(crate) number: usize,
    /// Its own number.
    pub(crate) agent: usize,
    /// The token that a kubelet would project.
    pub(crate) token: String,
}

/// All agents.
pub(crate) struct Agents {
    shared: Arc<Shared>,
    anchor: CertificateDer<'static>,
    dir: PathBuf,
}

struct Shared {
    /// Where the replicas are. An agent tries them in turn, as behind a Service that does not know yet who is dead.
    ports: RwLock<Vec<u16>>,
    next: AtomicUsize,
    /// Streams count when they began in this round.
    round: AtomicU64,
    streams: watch::Sender<usize>,
    edit: Mutex<Edit>,
    arrived: watch::Sender<usize>,
    /// The edit that made a document, by the document.
    documents: Mutex<HashMap<u64, u64>>,
}

/// What is waited for.
struct Edit {
    number: u64,
    last: Instant,
}

impl Agents {
    /// Nobody yet.
    pub(crate) fn new(anchor: CertificateDer<'static>, dir: &Path, port: u16) -> Self {
        let shared = Shared {
            ports: RwLock::new(vec![port]),
            next: AtomicUsize::new(0),
            round: AtomicU64::new(1),
            streams: watch::channel(0).0,
            edit: Mutex::new(Edit { number: 0, last: Instant::now() }),
            arrived: watch::channel(0).0,
            documents: Mutex::default(),
        };
        Self { shared: Arc::new(shared), anchor, dir: dir.to_owned() }
    }

    /// Starts the clients of pods, one after the other as pods start.
    pub(crate) async fn join(&self, places: &[Place]) -> Result<(), String> {
        for Place { tenant, number, agent, token: text } in places {
            let token = self.dir.join(format!("token-{tenant}-{agent}"));
            write(&token, text.as_bytes())?;
            let source = u8::try_from(*number % 200).map_err(|error| error.to_string())?;
            let way = Way { shared: self.shared.clone(), source: Ipv4Addr::new(127, 0, 1, source + 1) };
            let config = Config { tenant: tenant.clone(), anchor: self.anchor.clone(), dial: Arc::new(way), token };
            let seat = Seat { shared: self.shared.clone(), round: AtomicU64::new(0), edit: AtomicU64::new(0) };
            // Their isolation is not what is measured: no reports.
            tokio::spawn(run(config, Arc::new(seat), mpsc::channel(1).1));
            tokio::time::sleep(PACE).await;
        }
        Ok(())
    }

    /// Waits until so many agents have a stream and all that they are to have.
    pub(crate) async fn all_streams(&self, count: usize, bound: Duration) -> Result<(), String> {
        reach(&self.shared.streams, count, bound)
            .await
            .map_err(|have| format!("{have} of {count} agents have a stream after {} s", bound.as_secs()))
    }

    /// From now on only streams that begin now count, and these are the replicas.
    pub(crate) fn again(&self, ports: Vec<u16>) {
        self.shared.round.fetch_add(1, Ordering::SeqCst);
        self.shared.streams.send_replace(0);
        self.replicas(ports);
    }

    /// From now on these are the replicas.
    pub(crate) fn replicas(&self, ports: Vec<u16>) {
        *self.shared.ports.write().unwrap_or_else(PoisonError::into_inner) = ports;
    }

    /// From now on documents of this edit are waited for.
    pub(crate) fn expect(&self, number: u64) {
        *self.shared.edit() = Edit { number, last: Instant::now() };
        self.shared.arrived.send_replace(0);
    }

    /// Waits until so many agents have the documents of the edit; answers when the last of them had.
    pub(crate) async fn all_arrived(&self, count: usize, bound: Duration) -> Result<Instant, String> {
        reach(&self.shared.arrived, count, bound)
            .await
            .map_err(|have| format!("{have} of {count} agents have the new document after {} s", bound.as_secs()))?;
        Ok(self.shared.edit().last)
    }
}

async fn reach(count: &watch::Sender<usize>, wanted: usize, bound: Duration) -> Result<(), usize> {
    let mut count = count.subscribe();
    let reached = timeout(bound, count.wait_for(|count| *count >= wanted)).await.is_ok();
    if reached { Ok(()) } else { Err(*count.borrow()) }
}

impl Shared {
    fn edit(&self) -> std::sync::MutexGuard<'_, Edit> {
        self.edit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The edit that made a document. Each is read once, by whoever gets it first.
    fn edit_of(&self, document: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        document.hash(&mut hasher);
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        *documents.entry(hasher.finish()).or_insert_with(|| {
            let payload = payload(document).unwrap_or_default();
            let text = String::from_utf8_lossy(&payload);
            let number = text.split("\"edit-").nth(1).and_then(|rest| rest.split('"').next());
            number.and_then(|number| number.parse().ok()).unwrap_or_default()
        })
    }
}

/// What is in an envelope. Nobody here acts on it, so that the signature, which costs a sidecar a fraction of a
/// millisecond, is not verified: this machine would verify for a thousand.
fn payload(envelope: &[u8]) -> Result<Vec<u8>, String> {
    #[derive(Deserialize)]
    struct Envelope {
        payload: String,
    }
    let Envelope { payload } = serde_json::from_slice(envelope).map_err(|error| error.to_string())?;
    BASE64.decode(payload).map_err(|error| error.to_string())
}

/// The way of one agent to the replicas.
struct Way {
    shared: Arc<Shared>,
    /// An address for each tenant: one has too few ports for all.
    source: Ipv4Addr,
}

impl Dial for Way {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(async move {
            let port = {
                let ports = self.shared.ports.read().unwrap_or_else(PoisonError::into_inner);
                ports[self.shared.next.fetch_add(1, Ordering::Relaxed) % ports.len()]
            };
            let socket = TcpSocket::new_v4()?;
            socket.bind((self.source, 0).into())?;
            socket.connect((Ipv4Addr::LOCALHOST, port).into()).await
        })
    }
}

/// One agent.
struct Seat {
    shared: Arc<Shared>,
    /// The round of its stream.
    round: AtomicU64,
    /// The newest edit that it has.
    edit: AtomicU64,
}

impl Receiver for Seat {
    fn identity(&self, _: &Identity, _: &Trust) -> Result<(), String> {
        Ok(())
    }

    fn trust(&self, _: &Trust) -> Result<(), String> {
        Ok(())
    }

    fn assignment(&self, envelope: &[u8], documents: &[Vec<u8>]) -> Result<u64, String> {
        let now = Instant::now();
        #[derive(Deserialize)]
        struct Assignment {
            generation: u64,
        }
        let newest = documents.iter().map(|document| self.shared.edit_of(document)).max().unwrap_or_default();
        if self.edit.swap(newest, Ordering::SeqCst) != newest {
            let mut edit = self.shared.edit();
            if edit.number == newest {
                edit.last = edit.last.max(now);
                self.shared.arrived.send_modify(|count| *count += 1);
            }
        }
        let Assignment { generation } =
            serde_json::from_slice(&payload(envelope)?).map_err(|error| error.to_string())?;
        Ok(generation)
    }

    fn remove(&self, _: &SpiffeId) {}

    fn canaries(&self, _: Canaries) {}

    fn synced(&self) {
        let round = self.shared.round.load(Ordering::SeqCst);
        if self.round.swap(round, Ordering::SeqCst) != round {
            self.shared.streams.send_modify(|count| *count += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawlock_policy::envelope::{ASSIGNMENT, DOCUMENT, Envelope, SigningKey};

    fn sealed(payload_type: &str, payload: &str) -> Vec<u8> {
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        Envelope::sign(payload_type, payload.as_bytes(), &key).encode()
    }

    #[test]
    fn an_agent_counts_once_for_the_edit_that_is_waited_for() {
        let agents = Agents::new(CertificateDer::from(Vec::new()), Path::new("/"), 1);
        let shared = agents.shared.clone();
        let seat = Seat { shared: shared.clone(), round: AtomicU64::new(0), edit: AtomicU64::new(0) };
        let assignment = sealed(ASSIGNMENT, r#"{"generation":7}"#);
        let document = |edit: u64| sealed(DOCUMENT, &format!(r#"{{"rules":[{{"name":"edit-{edit}"}}]}}"#));
        let give = |edit: u64| seat.assignment(&assignment, &[document(0), document(edit)]);
        agents.expect(3);
        assert_eq!(give(2), Ok(7));
        assert_eq!(*shared.arrived.borrow(), 0, "the one before");
        assert_eq!((give(3), give(3)), (Ok(7), Ok(7)));
        assert_eq!(*shared.arrived.borrow(), 1, "a renewal");
    }

    #[test]
    fn a_stream_counts_once_in_each_round() {
        let agents = Agents::new(CertificateDer::from(Vec::new()), Path::new("/"), 1);
        let shared = agents.shared.clone();
        let seat = Seat { shared: shared.clone(), round: AtomicU64::new(0), edit: AtomicU64::new(0) };
        seat.synced();
        seat.synced();
        assert_eq!(*shared.streams.borrow(), 1);
        agents.again(vec![1, 2]);
        assert_eq!(*shared.streams.borrow(), 0);
        seat.synced();
        assert_eq!(*shared.streams.borrow(), 1);
    }
}
