//! Rounds against sockets on loopback: the gateway's word is made up, the tries are real.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use clawlock_proxy::voucher::{Node, Tripwire};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use super::*;

/// A gateway that says what it is told to, once each.
struct Says(Mutex<VecDeque<Result<Voucher, String>>>);

impl Says {
    fn all(vouchers: impl IntoIterator<Item = Result<Voucher, String>>) -> Self {
        Self(Mutex::new(vouchers.into_iter().collect()))
    }

    fn left(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Vouch for Says {
    async fn vouch(&self) -> Result<Voucher, String> {
        self.0.lock().unwrap().pop_front().unwrap_or_else(|| Err("asked once too often".to_owned()))
    }
}

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 83, 1, last).into()
}

/// Tripwire 127.83.1.1, other node 127.83.1.2, own node 127.83.1.9.
fn voucher() -> Voucher {
    let tripwire = vec![Tripwire { address: ip(1), tcp: true, udp: true }];
    let nodes = vec![Node { address: ip(2), tcp: true }, Node { address: ip(9), tcp: true }];
    Voucher { tripwire, nodes, checked_ms: 1 }
}

fn canaries() -> Canaries {
    Canaries { tripwire: vec![ip(1)], nodes: vec![ip(2), ip(9)] }
}

/// A port at which nobody is, TCP and UDP.
async fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind((ip(1), 0)).await.unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind((ip(1), port)).await.is_ok() {
            return port;
        }
    }
}

async fn try_once(gateway: &Says, ports: Ports) -> Round {
    round(gateway, &canaries(), Here { host: ip(9), ports }, 0, true).await
}

#[tokio::test]
async fn nobody_there_and_still_vouched_for_is_dropped() {
    let ports = Ports { tripwire: free_port().await, node: free_port().await };
    let gateway = Says::all([Ok(voucher()), Ok(voucher())]);
    let found = try_once(&gateway, ports).await;
    assert!(matches!(found.finding(), Finding::Dropped { .. }), "{found:?}");
    assert_eq!(gateway.left(), 0, "a refusal is believed after a second voucher only");
    let Tried::Dropped(text) = &found.tripwire else { panic!("{found:?}") };
    assert!(text.starts_with("tripwire 127.83.1.1 dropped (tcp: ") && text.contains(", udp: "), "{text}");
    let Tried::Dropped(text) = &found.node else { panic!("{found:?}") };
    assert!(text.starts_with("node 127.83.1.2 dropped (tcp: "), "{text}");
    assert_eq!(found.own_node, Some(false));
}

#[tokio::test]
async fn who_refuses_and_is_gone_meanwhile_proves_nothing() {
    let ports = Ports { tripwire: free_port().await, node: free_port().await };
    let gone = Voucher { tripwire: vec![Tripwire { address: ip(1), tcp: true, udp: false }], ..voucher() };
    for second in [Ok(gone), Err("gateway away".to_owned())] {
        let found = try_once(&Says::all([Ok(voucher()), second]), ports).await;
        assert_eq!(found.finding(), Finding::NotVouched, "{found:?}");
    }
}

#[tokio::test]
async fn a_tripwire_that_accepts_is_an_answer() {
    let listener = TcpListener::bind((ip(1), 0)).await.unwrap();
    let ports = Ports { tripwire: listener.local_addr().unwrap().port(), node: free_port().await };
    let found = try_once(&Says::all([Ok(voucher())]), ports).await;
    assert_eq!(found.finding(), Finding::Answered);
    assert_eq!(found.tripwire, Tried::Answered("tripwire 127.83.1.1 answered (tcp)".into()));
}

#[tokio::test]
async fn a_tripwire_that_answers_by_udp_alone_is_an_answer() {
    let server = UdpSocket::bind((ip(1), 0)).await.unwrap();
    let ports = Ports { tripwire: server.local_addr().unwrap().port(), node: free_port().await };
    let answering = tokio::spawn(async move {
        let mut question = [0; 64];
        let (length, from) = server.recv_from(&mut question).await.unwrap();
        server.send_to(&question[..length], from).await.unwrap();
    });
    let found = try_once(&Says::all([Ok(voucher())]), ports).await;
    answering.await.unwrap();
    assert_eq!(found.finding(), Finding::Answered);
    assert_eq!(found.tripwire, Tried::Answered("tripwire 127.83.1.1 answered (udp)".into()));
}

#[tokio::test]
async fn another_node_that_answers_is_an_answer_and_the_own_one_is_not() {
    let listener = TcpListener::bind((ip(2), 0)).await.unwrap();
    let node = listener.local_addr().unwrap().port();
    let tripwire = free_port().await;
    let found = try_once(&Says::all([Ok(voucher())]), Ports { tripwire, node }).await;
    assert_eq!((found.finding(), found.own_node), (Finding::Answered, Some(false)));
    drop(listener);
    let listener = TcpListener::bind((ip(9), 0)).await.unwrap();
    let node = listener.local_addr().unwrap().port();
    let found = try_once(&Says::all([Ok(voucher()), Ok(voucher())]), Ports { tripwire, node }).await;
    assert!(matches!(found.finding(), Finding::Dropped { .. }), "{found:?}");
    assert_eq!(found.own_node, Some(true));
}

#[tokio::test]
async fn silence_is_dropped_without_another_voucher() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((ip(1), 0).into()).unwrap();
    // Its queue has one place; once that is taken, the kernel drops who comes.
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let _first = TcpStream::connect(address).await.unwrap();
    let _udp = UdpSocket::bind(address).await.unwrap();
    let gateway = Says::all([Ok(Voucher { nodes: Vec::new(), ..voucher() })]);
    let ports = Ports { tripwire: address.port(), node: address.port() };
    let found = round(&gateway, &canaries(), Here { host: ip(9), ports }, 0, false).await;
    assert_eq!(found.tripwire, Tried::Dropped("tripwire 127.83.1.1 dropped (tcp, udp)".into()));
    assert!(matches!(found.finding(), Finding::Dropped { .. }));
    assert_eq!(found.own_node, None);
}

#[tokio::test]
async fn without_a_voucher_nothing_is_tried() {
    let listener = std::net::TcpListener::bind((ip(1), 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let ports = Ports { tripwire: port, node: port };
    let nobody = Voucher { tripwire: Vec::new(), nodes: Vec::new(), checked_ms: 1 };
    for said in [Err("no gateway".to_owned()), Ok(nobody)] {
        let found = round(&Says::all([said]), &canaries(), Here { host: ip(9), ports }, 0, false).await;
        assert_eq!(found.finding(), Finding::NotVouched);
    }
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "something was tried");
}

#[tokio::test]
async fn a_cluster_of_one_node_is_proven_by_its_tripwire() {
    let ports = Ports { tripwire: free_port().await, node: free_port().await };
    let alone = || Voucher { nodes: vec![Node { address: ip(9), tcp: true }], ..voucher() };
    let found = try_once(&Says::all([Ok(alone()), Ok(alone())]), ports).await;
    assert!(matches!(found.finding(), Finding::Dropped { .. }), "{found:?}");
    assert!(matches!(found.node, Tried::Absent(_)), "{found:?}");
}

#[test]
fn what_could_not_be_tried_proves_nothing() {
    let question = |protocol, answer| Question { address: ip(1), protocol, answer };
    let silent = Answer::Silent(ErrorKind::TimedOut);
    let asked = |udp| judge("tripwire", [question("tcp", silent), question("udp", udp)].iter());
    assert_eq!(asked(silent), Tried::Dropped("tripwire 127.83.1.1 dropped (tcp, udp)".into()));
    let Tried::Unproven(text) = asked(Answer::NotAsked(ErrorKind::AddrInUse)) else { panic!("believed") };
    assert!(text.starts_with("tripwire 127.83.1.1 could not be tried (udp: "), "{text}");
    assert_eq!(asked(Answer::Answered), Tried::Answered("tripwire 127.83.1.1 answered (udp)".into()));
}

#[test]
fn several_are_told_one_by_one() {
    let question =
        |last, protocol| Question { address: ip(last), protocol, answer: Answer::Silent(ErrorKind::TimedOut) };
    let all = [question(1, "tcp"), question(1, "udp"), question(2, "tcp"), question(2, "udp")];
    let expected = "tripwire 127.83.1.1 dropped (tcp, udp), tripwire 127.83.1.2 dropped (tcp, udp)";
    assert_eq!(judge("tripwire", all.iter()), Tried::Dropped(expected.into()));
}

#[test]
fn every_combination_of_what_was_tried_means_something() {
    let asked = || [Tried::Dropped, Tried::Answered, Tried::Unproven, Tried::Absent].map(|tried| tried(String::new()));
    for tripwire in asked() {
        for node in asked() {
            let answered = matches!(tripwire, Tried::Answered(_)) || matches!(node, Tried::Answered(_));
            let clean = matches!(tripwire, Tried::Dropped(_)) && matches!(node, Tried::Dropped(_) | Tried::Absent(_));
            let finding = Round::example(tripwire.clone(), node.clone()).finding();
            assert_eq!(finding == Finding::Answered, answered, "{tripwire:?} {node:?}");
            assert_eq!(matches!(finding, Finding::Dropped { .. }), clean, "{tripwire:?} {node:?}");
        }
    }
}
