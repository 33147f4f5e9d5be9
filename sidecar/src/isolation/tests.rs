//! The loop: a made-up gateway, real sockets on loopback, the real table.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

use clawlock_control::client::Canaries;
use clawlock_control::{IsolationOutcome, IsolationTarget};
use clawlock_policy::SpiffeId;
use clawlock_policy::envelope::TrustedKeys;
use clawlock_proxy::clock::SystemClock;
use clawlock_proxy::voucher::{Node, Ports, Tripwire, Voucher};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

/// No other test listens here.
const TRIPWIRE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 83, 0, 1));
const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 83, 0, 2));
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 83, 0, 9));
/// A port for each world, below those that the kernel gives out: a world beside this one must not be given it.
static NEXT_PORT: AtomicU16 = AtomicU16::new(20_000);

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(30);

/// A gateway that vouches, or does not.
#[derive(Clone, Default)]
struct Gateway(Arc<Mutex<bool>>);

impl Gateway {
    fn vouches(&self, vouches: bool) {
        *self.0.lock().unwrap() = vouches;
    }
}

impl Vouch for Gateway {
    async fn vouch(&self) -> Result<Voucher, String> {
        if !*self.0.lock().unwrap() {
            return Err("no gateway".to_owned());
        }
        let tripwire = vec![Tripwire { address: TRIPWIRE, tcp: true, udp: true }];
        Ok(Voucher { tripwire, nodes: vec![Node { address: NODE, tcp: true }], checked_ms: 1 })
    }
}

struct World {
    gateway: Gateway,
    ports: Ports,
    table: Arc<PolicyTable>,
    known: watch::Sender<Known>,
    phase: watch::Receiver<Phase>,
    reports: mpsc::Receiver<ToServer>,
}

impl World {
    async fn start(pace: Pace) -> Self {
        let gateway = Gateway::default();
        let free = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let ports = Ports { tripwire: free, node: free };
        let table = Arc::new(PolicyTable::new(TrustedKeys::default(), Arc::new(SystemClock)));
        close(&table, Phase::Unproven);
        let (known, knowing) = watch::channel(Known::default());
        let (phase, phases) = watch::channel(Phase::Unproven);
        let (outbox, reports) = mpsc::channel(4);
        let here = Here { host: OWN, ports };
        let isolation = Isolation {
            gateway: gateway.clone(),
            here,
            pace,
            known: knowing,
            table: table.clone(),
            phase,
            reports: outbox,
        };
        tokio::spawn(isolation.run());
        Self { gateway, ports, table, known, phase: phases, reports }
    }

    fn certify(&self) {
        let canaries = Canaries { tripwire: vec![TRIPWIRE], nodes: vec![NODE] };
        self.known.send_modify(|known| (known.certified, known.canaries) = (true, canaries));
    }

    async fn reaches(&mut self, phase: Phase) {
        let reached = tokio::time::timeout(DEADLINE, self.phase.wait_for(|now| *now == phase)).await;
        reached.unwrap_or_else(|_| panic!("never {phase:?}")).unwrap();
    }

    /// Why the gate refuses.
    fn code(&self) -> Code {
        let nobody = SpiffeId::of_pod("acme.example", "acme", "default", "uid-1").unwrap();
        self.table.active(&nobody).unwrap_err().code
    }
}

fn quick() -> Pace {
    let pause = Duration::from_millis(5);
    Pace { unproven: pause, isolated: pause, breached: pause }
}

#[tokio::test]
async fn the_gate_opens_with_the_proof_closes_with_an_answer_and_opens_again() {
    let mut world = World::start(quick()).await;
    assert_eq!(world.code(), Code::NotIsolated);
    world.certify();
    world.gateway.vouches(true);
    world.reaches(Phase::Isolated).await;
    assert_eq!(world.code(), Code::NoAssignment, "the gate is open; it has no policy here");
    let epoch = world.table.epoch();
    let listener = TcpListener::bind((TRIPWIRE, world.ports.tripwire)).await.unwrap();
    world.reaches(Phase::Breached).await;
    assert_eq!(world.code(), Code::NotIsolated);
    assert!(epoch.has_changed().unwrap(), "open streams are decided again");
    drop(listener);
    world.reaches(Phase::Isolated).await;
    let socket = UdpSocket::bind((TRIPWIRE, world.ports.tripwire)).await.unwrap();
    tokio::spawn(async move {
        let mut question = [0; 64];
        while let Ok((length, from)) = socket.recv_from(&mut question).await {
            socket.send_to(&question[..length], from).await.unwrap();
        }
    });
    world.reaches(Phase::Breached).await;
    assert_eq!(world.code(), Code::NotIsolated);
}

#[tokio::test]
async fn every_change_is_reported() {
    let mut world = World::start(quick()).await;
    world.certify();
    let mut seen = BTreeSet::new();
    let mut told = async |world: &mut World, wanted: IsolationOutcome| {
        loop {
            let report = tokio::time::timeout(DEADLINE, world.reports.recv()).await.expect("no report").unwrap();
            let ToServer::Isolation { outcome, target, detail, .. } = report else { panic!("{report:?}") };
            assert!(seen.insert(format!("{} {outcome:?}", seen.len())));
            if outcome == wanted {
                return (target, detail);
            }
        }
    };
    let (_, detail) = told(&mut world, IsolationOutcome::NotVouched).await;
    assert!(detail.contains("no gateway"), "{detail}");
    world.gateway.vouches(true);
    let (target, detail) = told(&mut world, IsolationOutcome::Dropped).await;
    assert_eq!(target, IsolationTarget::Tripwire);
    assert!(detail.contains("tripwire 127.83.0.1 dropped (tcp"), "{detail}");
    assert!(detail.contains("node 127.83.0.2 dropped (tcp"), "{detail}");
    let _node = TcpListener::bind((NODE, world.ports.node)).await.unwrap();
    let (target, detail) = told(&mut world, IsolationOutcome::Answered).await;
    assert_eq!(target, IsolationTarget::Node);
    assert!(detail.contains("node 127.83.0.2 answered (tcp)"), "{detail}");
}

#[tokio::test]
async fn a_new_stream_hears_what_holds() {
    let mut world = World::start(quick()).await;
    world.certify();
    for _ in 0..3 {
        let report = tokio::time::timeout(DEADLINE, world.reports.recv()).await.expect("no report").unwrap();
        assert!(matches!(report, ToServer::Isolation { outcome: IsolationOutcome::NotVouched, .. }), "{report:?}");
        world.known.send_modify(|known| known.synced += 1);
    }
}

#[tokio::test]
async fn a_running_pod_goes_on_for_its_grace_without_a_voucher_and_one_that_starts_waits() {
    let mut world = World::start(Pace::default()).await;
    world.certify();
    world.gateway.vouches(true);
    world.reaches(Phase::Isolated).await;
    world.gateway.vouches(false);
    // From here on no socket is waited for: only time passes, as fast as it can.
    tokio::time::pause();
    let from = Instant::now();
    world.phase.wait_for(|now| *now != Phase::Isolated).await.unwrap();
    let went_on = from.elapsed();
    let late = Duration::from_secs(1);
    assert!(went_on < GRACE + late && went_on > GRACE - Duration::from_secs(60), "{went_on:?}");
    assert_eq!((*world.phase.borrow(), world.code()), (Phase::Unproven, Code::NotIsolated));
    tokio::time::sleep(10 * GRACE).await;
    assert_eq!(*world.phase.borrow(), Phase::Unproven);
    tokio::time::resume();
    world.gateway.vouches(true);
    world.reaches(Phase::Isolated).await;
}

#[tokio::test]
async fn without_a_certificate_nobody_is_asked() {
    let world = World::start(quick()).await;
    world.gateway.vouches(true);
    world.known.send_modify(|known| known.synced += 1);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!((*world.phase.borrow(), world.code()), (Phase::Unproven, Code::NotIsolated));
}
