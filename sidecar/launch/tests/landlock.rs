//! What the kernel of this machine really enforces. Every test says on which side of the support it
//! ran and asserts that side; none passes without an assertion.

#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::thread;

use clawlock_launch::{Confinement, LaunchError, MAX_PORTS, Report, exec, probe, restrict};

fn confinement(ports: &[u16]) -> Confinement {
    Confinement::to_ports(ports.iter().map(|port| NonZeroU16::new(*port).unwrap())).unwrap()
}

/// Runs `body` restricted, on a thread of its own, so that the rules end with it.
fn restricted<T: Send + 'static>(confinement: Confinement, body: impl FnOnce() -> T + Send + 'static) -> (Report, T) {
    thread::spawn(move || {
        let report = restrict(&confinement).unwrap();
        (report, body())
    })
    .join()
    .unwrap()
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn connects_to_the_allowed_port_and_no_other() {
    let (_allowed, allowed_port) = listener();
    let (_other, other_port) = listener();
    let (report, (allowed, other)) = restricted(confinement(&[allowed_port]), move || {
        (TcpStream::connect(("127.0.0.1", allowed_port)), TcpStream::connect(("127.0.0.1", other_port)))
    });
    println!("this kernel enforces: {report}");
    assert!(allowed.is_ok(), "{allowed:?}");
    match report {
        Report::Full | Report::Partial => assert_eq!(other.unwrap_err().kind(), ErrorKind::PermissionDenied),
        Report::NotEnforced(_) => assert!(other.is_ok(), "nothing is enforced, and the report says so"),
    }
}

#[test]
fn without_a_port_nothing_is_reachable_and_listening_stays_free() {
    let (_open, port) = listener();
    let (report, (connected, listening)) = restricted(confinement(&[]), move || {
        (TcpStream::connect(("127.0.0.1", port)), TcpListener::bind("127.0.0.1:0"))
    });
    println!("this kernel enforces: {report}");
    assert!(listening.is_ok(), "OpenClaw listens on a port of its own");
    match report {
        Report::Full | Report::Partial => assert_eq!(connected.unwrap_err().kind(), ErrorKind::PermissionDenied),
        Report::NotEnforced(_) => assert!(connected.is_ok()),
    }
}

#[test]
fn neither_signals_nor_abstract_sockets_leave_the_fence() {
    let name = SocketAddr::from_abstract_name(format!("clawlock-launch-{}", std::process::id())).unwrap();
    let _outside = UnixListener::bind_addr(&name).unwrap();
    let mut sleeper = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
    let pid = sleeper.id().to_string();
    let (report, (signal, socket)) = restricted(confinement(&[]), move || {
        let signal = Command::new("kill").args(["-TERM", &pid]).stderr(Stdio::null()).status().map(|s| s.success());
        let socket: io::Result<UnixStream> = UnixStream::connect_addr(&name);
        (signal.unwrap(), socket)
    });
    println!("this kernel enforces: {report}");
    if report == Report::Full {
        assert!(!signal, "the signal went through");
        assert_eq!(socket.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(sleeper.try_wait().unwrap().is_none(), "the process outside lives");
    } else {
        assert!(signal && socket.is_ok(), "not enforced, and the report says so");
    }
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

#[test]
fn a_process_outside_cannot_be_inspected() {
    // The link is read under the kernel's ptrace check. (`/proc/PID/environ` is too, but root passes
    // that one by CAP_PERFMON, and this test must say the same for every user.)
    let mut sleeper = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
    let path = format!("/proc/{}/cwd", sleeper.id());
    let (report, link) = restricted(confinement(&[]), move || std::fs::read_link(path));
    println!("this kernel enforces: {report}");
    match report {
        Report::Full | Report::Partial => assert_eq!(link.unwrap_err().kind(), ErrorKind::PermissionDenied),
        Report::NotEnforced(_) => assert!(link.is_ok()),
    }
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

#[test]
fn probing_leaves_the_caller_free() {
    let (_open, port) = listener();
    let probed = probe(&confinement(&[])).unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok(), "the caller was restricted");
    let (report, ()) = restricted(confinement(&[]), || ());
    assert_eq!(probed, report);
}

#[test]
fn a_missing_program_is_named() {
    let result = thread::spawn(|| exec(&confinement(&[]), "/no/such/agent".into(), Vec::new())).join().unwrap();
    let Err(error) = result;
    assert!(matches!(error, LaunchError::Exec { .. }));
    assert!(error.to_string().contains("/no/such/agent"), "{error}");
}

#[test]
fn the_number_of_ports_is_bounded() {
    let ports = (1..=MAX_PORTS + 1).map(|port| NonZeroU16::new(u16::try_from(port).unwrap()).unwrap());
    assert!(matches!(Confinement::to_ports(ports), Err(LaunchError::TooManyPorts(n)) if n == MAX_PORTS + 1));
}

#[test]
fn every_report_says_what_it_leaves_open() {
    for report in [Report::Full, Report::Partial, Report::NotEnforced("no reason")] {
        assert!(!report.unconfined().is_empty());
        assert!(!report.to_string().is_empty());
    }
}
