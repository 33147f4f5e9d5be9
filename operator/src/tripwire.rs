//! The tripwire: it accepts TCP and answers UDP on port 53, from everywhere. Nothing listens better: an
//! agent's pod that hears from it is not isolated, and its sidecar closes.
//!
//! It reads nothing, decides nothing and holds nothing, so there is nothing in it to attack but its bounds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::admin::{self, Health};
use crate::args::TripwireArgs;

/// Connections at once: canaries hold one for milliseconds.
const CONNECTIONS: usize = 256;
/// Longest that a connection may last.
const CONNECTION_TIME: Duration = Duration::from_secs(2);
/// Largest datagram that is answered; longer ones are no canary's.
const MAX_DATAGRAM: usize = 512;
/// What is answered: it is short, so that forged senders gain nothing from it.
const ANSWER: &[u8] = b"clawlock tripwire\n";

#[derive(Default)]
struct Counted {
    tcp: AtomicU64,
    udp: AtomicU64,
}

impl Health for Counted {
    fn not_ready(&self) -> Option<String> {
        None
    }

    fn metrics(&self) -> String {
        let (tcp, udp) = (self.tcp.load(Ordering::Relaxed), self.udp.load(Ordering::Relaxed));
        format!(
            "# TYPE clawlock_tripwire_touches counter\n\
             # HELP clawlock_tripwire_touches Connections and datagrams.\n\
             clawlock_tripwire_touches_total{{protocol=\"TCP\"}} {tcp}\n\
             clawlock_tripwire_touches_total{{protocol=\"UDP\"}} {udp}\n\
             # EOF\n"
        )
    }
}

/// Runs until SIGTERM.
///
/// # Errors
/// When an address cannot be had.
pub(crate) async fn run(args: TripwireArgs) -> Result<(), String> {
    let TripwireArgs { port, admin_listen } = args;
    let counted = Arc::new(Counted::default());
    let admin = admin::bind(admin_listen).await?;
    let mut bound = 0_usize;
    let mut problem = String::new();
    // `[::]` takes IPv4 as well on most machines; then the second address is in use already.
    for address in [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)] {
        match listen(SocketAddr::new(address, port), &counted).await {
            Ok(()) => bound += 1,
            Err(error) => problem = format!("{address} port {port}: {error}"),
        }
    }
    if bound == 0 {
        return Err(format!("{problem}; allow unprivileged ports from 0 on (sysctl), or pass another port"));
    }
    let mut stop = signal(SignalKind::terminate()).map_err(|error| format!("no signals can be received: {error}"))?;
    tokio::select! {
        () = admin::serve(admin, counted) => {}
        _ = stop.recv() => {}
    }
    Ok(())
}

async fn listen(address: SocketAddr, counted: &Arc<Counted>) -> std::io::Result<()> {
    let tcp = TcpListener::bind(address).await?;
    let udp = UdpSocket::bind(SocketAddr::new(address.ip(), tcp.local_addr()?.port())).await?;
    tokio::spawn(accept(tcp, counted.clone()));
    tokio::spawn(answer(udp, counted.clone()));
    Ok(())
}

async fn accept(listener: TcpListener, counted: Arc<Counted>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((tcp, _)) = listener.accept().await else {
            // Out of descriptors, say.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        counted.tcp.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let _permit = permit;
            // The peer may have gone; that it came is what counts.
            let _ = tokio::time::timeout(CONNECTION_TIME, greet(tcp)).await;
        });
    }
}

async fn greet(mut tcp: TcpStream) -> std::io::Result<()> {
    tcp.write_all(ANSWER).await?;
    tcp.shutdown().await
}

async fn answer(socket: UdpSocket, counted: Arc<Counted>) {
    let mut datagram = [0_u8; MAX_DATAGRAM];
    loop {
        match socket.recv_from(&mut datagram).await {
            Ok((length, from)) => {
                counted.udp.fetch_add(1, Ordering::Relaxed);
                // Never more than came in: nobody is to be flooded through this.
                let length = length.min(ANSWER.len());
                let _ = socket.send_to(&ANSWER[..length], from).await;
            }
            // An answer that could not be delivered shows up here.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn it_accepts_tcp_and_answers_udp() {
        let counted = Arc::new(Counted::default());
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (tcp_at, udp_at) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
        tokio::spawn(accept(tcp, counted.clone()));
        tokio::spawn(answer(udp, counted.clone()));
        let mut text = Vec::new();
        TcpStream::connect(tcp_at).await.unwrap().read_to_end(&mut text).await.unwrap();
        assert_eq!(text, ANSWER);
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(b"ping", udp_at).await.unwrap();
        let mut answer = [0_u8; 64];
        let (length, _) = client.recv_from(&mut answer).await.unwrap();
        assert_eq!(length, 4, "an answer is no longer than the question");
        assert!(counted.metrics().contains("protocol=\"UDP\"} 1"));
    }
}
