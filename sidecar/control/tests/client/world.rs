//! A client that writes down what it is told.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use clawlock_control::ToServer;
use clawlock_control::client::{self, Canaries, Config, Dial, Dialling, Identity, Receiver, Trust};
use clawlock_policy::SpiffeId;
use clawlock_policy::document::Assignment;
use clawlock_policy::envelope::{self, Envelope, TrustedKeys};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::server::{Control, SOON, TENANT, Who, pod, token_file};

/// The token of all tests.
pub(crate) const TOKEN: &str = "token-of-the-pod";

/// Connects to whatever address it has now.
#[derive(Clone)]
pub(crate) struct To(pub(crate) Arc<Mutex<SocketAddr>>);

impl Dial for To {
    fn dial(&self) -> Dialling<'_> {
        let address = *self.0.lock().unwrap();
        Box::pin(TcpStream::connect(address))
    }
}

/// Nobody is there.
pub(crate) struct Nowhere;

impl Dial for Nowhere {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into())))
    }
}

/// What a client was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) identities: usize,
    pub(crate) trusts: usize,
    /// Identity, generation and number of documents of each assignment.
    pub(crate) assignments: Vec<(String, u64, usize)>,
    pub(crate) removed: Vec<String>,
    pub(crate) withdrawn: Vec<String>,
    pub(crate) canaries: Option<Canaries>,
    pub(crate) synced: usize,
}

/// Verifies as a policy table does, and writes down.
pub(crate) struct Notebook {
    keys: Mutex<TrustedKeys>,
    told: watch::Sender<Told>,
}

impl Notebook {
    fn note(&self, edit: impl FnOnce(&mut Told)) {
        self.told.send_modify(edit);
    }

    fn keep(&self, trust: &Trust) {
        *self.keys.lock().unwrap() = TrustedKeys::new(trust.keys.iter().cloned());
    }
}

impl Receiver for Notebook {
    fn identity(&self, _: &Identity, trust: &Trust) -> Result<(), String> {
        self.keep(trust);
        self.note(|told| told.identities += 1);
        Ok(())
    }

    fn trust(&self, trust: &Trust) -> Result<(), String> {
        self.keep(trust);
        self.note(|told| told.trusts += 1);
        Ok(())
    }

    fn assignment(&self, envelope: &[u8], documents: &[Vec<u8>]) -> Result<u64, String> {
        let envelope = Envelope::decode(envelope).map_err(|error| error.to_string())?;
        let keys = self.keys.lock().unwrap().clone();
        let payload = envelope.verify(envelope::ASSIGNMENT, &keys).map_err(|error| error.to_string())?;
        let Assignment { identity, generation, .. } =
            clawlock_policy::codec::decode_assignment(payload).map_err(|error| error.to_string())?;
        self.note(|told| told.assignments.push((identity, generation, documents.len())));
        Ok(generation)
    }

    fn remove(&self, identity: &SpiffeId) {
        self.note(|told| told.removed.push(identity.to_string()));
    }

    fn withdraw(&self, identity: &SpiffeId) {
        self.note(|told| told.withdrawn.push(identity.to_string()));
    }

    fn canaries(&self, canaries: Canaries) {
        self.note(|told| told.canaries = Some(canaries));
    }

    fn synced(&self) {
        self.note(|told| told.synced += 1);
    }
}

/// A client that runs against a control API.
pub(crate) struct Client {
    pub(crate) to: To,
    pub(crate) identity: SpiffeId,
    pub(crate) reports: mpsc::Sender<ToServer>,
    pub(crate) folder: tempfile::TempDir,
    told: watch::Receiver<Told>,
    task: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// A sidecar of pod `uid-1` whose token is known.
    pub(crate) fn sidecar(control: &Control) -> Self {
        let (_, identity) = pod("uid-1");
        control.admit(TOKEN, Who::agent(&identity));
        Self::start(control, identity)
    }

    /// A gateway.
    pub(crate) fn gateway(control: &Control) -> Self {
        let (_, identity) = pod("gateway-0");
        control.admit(TOKEN, Who::gateway(&identity));
        Self::start(control, identity)
    }

    pub(crate) fn start(control: &Control, identity: SpiffeId) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let to = To(Arc::new(Mutex::new(control.address)));
        let config = Config {
            tenant: TENANT.to_owned(),
            anchor: control.anchor.der.clone(),
            dial: Arc::new(to.clone()),
            token: token_file(folder.path(), &format!("{TOKEN}\n")),
        };
        let (sender, told) = watch::channel(Told::default());
        let receiver = Arc::new(Notebook { keys: Mutex::default(), told: sender });
        let (reports, inbox) = mpsc::channel(4);
        let task = tokio::spawn(client::run(config, receiver, inbox));
        Self { to, identity, reports, folder, told, task }
    }

    /// Waits until what it was told is as it must become.
    pub(crate) async fn until(&mut self, what: impl Fn(&Told) -> bool) -> Told {
        let came = tokio::time::timeout(SOON, self.told.wait_for(|told| what(told))).await;
        let came = came.ok().map(|told| told.unwrap().clone());
        came.unwrap_or_else(|| panic!("it did not come to this: {:?}", self.told()))
    }

    /// What it was told so far.
    pub(crate) fn told(&self) -> Told {
        self.told.borrow().clone()
    }
}
