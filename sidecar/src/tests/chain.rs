//! The whole chain: a pod that is unknown until its token is proven, its gateway that passes it on to the control API
//! without reading it, and a control API of the real messages.

#[allow(dead_code, reason = "shared with the tests of the client, which need other parts of it")]
#[path = "../../control/tests/common/server.rs"]
mod server;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clawlock_audit::JsonLines;
use clawlock_control::client::{self, Canaries, Dial, Identity, Receiver, Trust};
use clawlock_control::{IsolationOutcome, ToClient, ToServer, control_name};
use clawlock_policy::document::Document;
use clawlock_policy::envelope::TrustedKeys;
use clawlock_policy::{HostName, SpiffeId};
use clawlock_proxy::clock::SystemClock;
use clawlock_proxy::drain::Drain;
use clawlock_proxy::gateway::Gateway;
use clawlock_proxy::hop::Front;
use clawlock_proxy::hop::splice::{Onward, Splice};
use clawlock_proxy::metrics::Metrics;
use clawlock_proxy::policies::PolicyTable;
use clawlock_proxy::tls::{Leaf, hop_server};
use clawlock_proxy::upstream::Upstreams;
use clawlock_proxy::upstream::resolve::Overrides;
use clawlock_proxy::voucher::{Ports, Targets, Vouchers};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::world::{
    DEADLINE, GATEWAY_NAME, HOST, Log, NoNames, NoSecrets, TENANT, TRIPWIRE, documents, tripwire, upstream,
};
use crate::args::{Config, Places};
use crate::isolation::Pace;
use crate::sidecar::{Addresses, Sidecar, Stream as Wires};
use server::{Control, Stream, Who, pod, token_file};

/// The way to the control API, which a test can block.
#[derive(Clone)]
struct Way(watch::Sender<Option<SocketAddr>>);

impl Way {
    async fn connect(self) -> std::io::Result<TcpStream> {
        let address = *self.0.borrow();
        match address {
            Some(address) => TcpStream::connect(address).await,
            None => Err(std::io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

impl Dial for Way {
    fn dial(&self) -> client::Dialling<'_> {
        Box::pin(self.clone().connect())
    }
}

impl Onward for Way {
    fn dial(&self) -> clawlock_proxy::hop::splice::Dialling<'_> {
        Box::pin(self.clone().connect())
    }
}

/// A fixed way: the sidecar's to its gateway.
struct To(SocketAddr);

impl Dial for To {
    fn dial(&self) -> client::Dialling<'_> {
        Box::pin(TcpStream::connect(self.0))
    }
}

/// What a gateway does with what comes over its stream.
struct Installer {
    front: Front,
    table: Arc<PolicyTable>,
    vouchers: Arc<Vouchers>,
    current: Mutex<Option<Identity>>,
}

impl Installer {
    fn put_in_force(&self, identity: &Identity, trust: &Trust) -> Result<(), String> {
        let Identity { chain, key, not_after_ms: _ } = identity.copy();
        self.front.set_tls(hop_server(&trust.roots, Leaf { chain, key }).map_err(|error| error.to_string())?);
        self.table.trust(TrustedKeys::new(trust.keys.iter().cloned()));
        Ok(())
    }
}

impl Receiver for Installer {
    fn identity(&self, identity: &Identity, trust: &Trust) -> Result<(), String> {
        *self.current.lock().unwrap() = Some(identity.copy());
        self.put_in_force(identity, trust)
    }

    fn trust(&self, trust: &Trust) -> Result<(), String> {
        self.put_in_force(self.current.lock().unwrap().as_ref().unwrap(), trust)
    }

    fn assignment(&self, envelope: &[u8], documents: &[Vec<u8>]) -> Result<u64, String> {
        self.table.install(envelope, documents).map_err(|error| error.to_string())
    }

    fn remove(&self, identity: &SpiffeId) {
        self.table.remove(identity);
    }

    fn withdraw(&self, identity: &SpiffeId) {
        self.table.withdraw(identity);
    }

    fn canaries(&self, Canaries { tripwire, nodes }: Canaries) {
        self.vouchers.set_targets(Targets { tripwire, nodes });
    }

    fn synced(&self) {}
}

/// What the operator has stored: the pod's documents and their generation. No documents: the pod is gone.
type Stored = (Option<Vec<Document>>, u64);

/// What the operator was told.
#[derive(Clone, Default)]
struct Heard(watch::Sender<Vec<(String, ToServer)>>);

impl Heard {
    /// Waits until somebody has said something like this.
    async fn until(&self, what: impl Fn(&str, &ToServer) -> bool) {
        let mut all = self.0.subscribe();
        let heard = all.wait_for(|all| all.iter().any(|(who, said)| what(who, said)));
        assert!(tokio::time::timeout(DEADLINE, heard).await.is_ok(), "it was not said: {:?}", self.0.borrow());
    }
}

struct Chain {
    control: Arc<Control>,
    stored: watch::Sender<Stored>,
    heard: Heard,
    way: Way,
    sidecar: Addresses,
    upstream: u16,
    /// What runs ends with it.
    _tasks: JoinSet<()>,
    _running: (Sidecar, Drain, tempfile::TempDir, TcpSocket),
}

impl Chain {
    /// Everything, with certificates that live so long.
    async fn start(ttl: Duration) -> Self {
        let control = Arc::new(Control::start().await);
        control.set_ttl(ttl);
        let (_, identity) = pod("uid-1");
        let (_, gateways) = pod("gateway-0");
        control.admit("the pod's token", Who::agent(&identity));
        control.admit("the gateway's token", Who::gateway(&gateways));
        let upstream = upstream().await;
        let stored = watch::channel((Some(documents(upstream)), 1)).0;
        let heard = Heard::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(operate(control.clone(), stored.clone(), heard.clone()));

        let folder = tempfile::tempdir().unwrap();
        let way = Way(watch::channel(Some(control.address)).0);
        let table = Arc::new(PolicyTable::new(TrustedKeys::default(), Arc::new(SystemClock)));
        let ports = Ports { tripwire: tripwire().await, node: 1 };
        let vouchers = Arc::new(Vouchers::new(GATEWAY_NAME.to_owned(), ports, table.clone()));
        let front = Front::of_gateway(Splice::new(control_name(TENANT), Arc::new(way.clone())));
        let hosts = HashMap::from([(HostName::parse(HOST).unwrap(), vec![Ipv4Addr::LOCALHOST.into()])]);
        let upstreams = Upstreams::new(Arc::new(Overrides::new(hosts, NoNames)), Arc::new(NoSecrets));
        let audit = Arc::new(JsonLines::new(Log::default()).unwrap());
        let gateway = Gateway::new(table.clone(), audit, Arc::new(Metrics::default()), upstreams);
        let gateway = Arc::new(gateway.vouching(vouchers.clone()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let drain = Drain::new();
        tasks.spawn(gateway.serve(listener, front.clone(), drain.watcher()));
        let installer = Arc::new(Installer { front, table, vouchers, current: Mutex::default() });
        std::fs::create_dir(folder.path().join("gateway")).unwrap();
        let config =
            |token, dial| client::Config { tenant: TENANT.to_owned(), anchor: control.anchor.der.clone(), dial, token };
        let token = token_file(&folder.path().join("gateway"), "the gateway's token");
        tasks.spawn(client::run(config(token, Arc::new(way.clone())), installer, mpsc::channel(1).1));

        let agent = folder.path().join("agent");
        std::fs::create_dir(&agent).unwrap();
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        // Held, so that no other test takes it, but nobody listens.
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind((TRIPWIRE, 0).into()).unwrap();
        let free = silent.local_addr().unwrap().port();
        let pause = Duration::from_millis(20);
        let token = token_file(folder.path(), "the pod's token");
        let places = Places {
            token: token.clone(),
            private: folder.path().join("private").join("ca"),
            agent,
            proxy: local,
            decide: local,
            health: local,
        };
        let started = Sidecar::closed(
            Config {
                tenant: TENANT.to_owned(),
                pod: "agent-0".to_owned(),
                identity,
                gateway: address,
                anchor: control.anchor.der.clone(),
                host: Ipv4Addr::LOCALHOST.into(),
                places,
                canaries: Ports { tripwire: free, node: free },
                pace: Pace { unproven: pause, isolated: pause, breached: pause },
            },
            Log::default(),
        );
        let (running, Wires { intake, reports }, sidecar) = Box::pin(started).await.unwrap();
        tasks.spawn(client::run(config(token, Arc::new(To(address))), intake, reports));
        Self {
            control,
            stored,
            heard,
            way,
            sidecar,
            upstream,
            _tasks: tasks,
            _running: (running, drain, folder, silent),
        }
    }

    /// The same, once the agent may start.
    async fn started(ttl: Duration) -> Self {
        let chain = Self::start(ttl).await;
        chain.until("/", "HTTP/1.1 200 ").await;
        chain
    }

    /// Changes what is stored.
    fn store(&self, documents: Option<Vec<Document>>) {
        self.stored.send_modify(|stored| *stored = (documents, stored.1 + 1));
    }

    /// A request of the agent, with the answer still to be read.
    async fn open(&self, path: &str) -> TcpStream {
        let authority = format!("{HOST}:{}", self.upstream);
        let mut tcp = TcpStream::connect(self.sidecar.proxy).await.unwrap();
        let head = format!("GET http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        tcp.write_all(head.as_bytes()).await.unwrap();
        tcp
    }

    async fn ask(&self, path: &str) -> String {
        let mut answer = String::new();
        self.open(path).await.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Waits until a request is answered so.
    async fn until(&self, path: &str, what: &str) {
        let mut last = String::new();
        let asked = tokio::time::timeout(DEADLINE, async {
            while !last.contains(what) {
                last = self.ask(path).await;
            }
        });
        let came = asked.await.is_ok();
        assert!(came, "{path} is never {what}, but {last}");
    }
}

/// The operator: tells every stream what is stored, and writes down what it hears.
async fn operate(control: Arc<Control>, stored: watch::Sender<Stored>, heard: Heard) {
    let mut streams = JoinSet::new();
    loop {
        let stream = control.accept().await;
        streams.spawn(tell(control.clone(), stored.subscribe(), stream, heard.clone()));
    }
}

async fn tell(control: Arc<Control>, mut stored: watch::Receiver<Stored>, mut stream: Stream, heard: Heard) {
    let (pod, identity) = pod("uid-1");
    let who = stream.who.join(" ");
    let canaries = ToClient::Canaries { tripwire: vec![TRIPWIRE], nodes: Vec::new() };
    stream.say(&[control.trust(), canaries]).await;
    let mut synced = false;
    loop {
        let (documents, generation) = stored.borrow_and_update().clone();
        match documents {
            Some(documents) => stream.say(&control.policy(&pod, &identity, &documents, generation)).await,
            None if who.contains("gateway") => {
                stream.say(&[ToClient::Remove { identity: identity.to_string() }]).await;
            }
            None => {}
        }
        if !std::mem::replace(&mut synced, true) {
            stream.say(&[ToClient::Synced {}]).await;
        }
        loop {
            tokio::select! {
                changed = stored.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                said = stream.listen() => match said {
                    Some(said) => heard.0.send_modify(|all| all.push((who.clone(), said))),
                    None => return,
                }
            }
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_its_identity_policy_and_proof_through_a_gateway_that_reads_nothing_of_it() {
    let chain = Box::pin(Chain::started(DAY)).await;
    let (_, identity) = pod("uid-1");
    let acknowledged = |who: &str, generation: u64| {
        let who = who.to_owned();
        let of = Some(identity.to_string());
        move |by: &str, said: &ToServer| {
            by.contains(&who) && *said == ToServer::Ack { generation, identity: of.clone() }
        }
    };
    for who in ["gateway.acme", "uid-1"] {
        chain.heard.until(acknowledged(who, 1)).await;
    }
    let isolated =
        |_: &str, said: &ToServer| matches!(said, ToServer::Isolation { outcome: IsolationOutcome::Dropped, .. });
    chain.heard.until(isolated).await;
    // An edit, in force at both gates.
    chain.store(Some(documents(1)));
    for who in ["gateway.acme", "uid-1"] {
        chain.heard.until(acknowledged(who, 2)).await;
    }
    assert!(chain.ask("/").await.contains("UnknownUpstream"));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_roll_under_requests_and_no_request_fails() {
    // Renewed every second or so, at both ends of the hop.
    let chain = Arc::new(Box::pin(Chain::started(Duration::from_secs(4))).await);
    let begun = chain.control.issued();
    let mut asking = JoinSet::new();
    for _ in 0..4 {
        let chain = chain.clone();
        asking.spawn(async move {
            let mut answers = 0_u32;
            while chain.control.issued() < begun + 8 {
                let answer = chain.ask("/").await;
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                answers += 1;
            }
            answers
        });
    }
    let answers = tokio::time::timeout(DEADLINE, asking.join_all()).await.expect("certificates are renewed");
    assert!(answers.iter().all(|answers| *answers > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_gone_is_refused_by_the_gateway_and_what_it_has_open_ends() {
    let chain = Box::pin(Chain::started(DAY)).await;
    let mut open = chain.open("/stream").await;
    let mut seen = Vec::new();
    while !seen.ends_with(b"begun\r\n") {
        seen.push(open.read_u8().await.unwrap());
    }
    // The sidecar is told nothing: a stolen certificate would not be, either.
    chain.store(None);
    let ended = async { while open.read_u8().await.is_ok() {} };
    tokio::time::timeout(DEADLINE, ended).await.expect("the open stream ends");
    chain.until("/", "NoAssignment").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_while_the_operator_is_away_and_its_return_is_noticed() {
    let chain = Box::pin(Chain::started(DAY)).await;
    chain.way.0.send_replace(None);
    // All streams break, and no new one gets through.
    chain.control.hang_up();
    for _ in 0..20 {
        assert!(chain.ask("/").await.starts_with("HTTP/1.1 200 "));
    }
    chain.store(Some(documents(1)));
    chain.way.0.send_replace(Some(chain.control.address));
    chain.until("/", "UnknownUpstream").await;
}
