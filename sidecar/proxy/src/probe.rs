//! Does somebody answer? One question by TCP or UDP, for the canaries of a sidecar and for the gateway that
//! vouches for them.
//!
//! What could not be asked is told apart from what was not answered: only the latter proves anything.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, UdpSocket};

/// Times a UDP question is asked within its bound: a lost packet must not look like a dropped one.
const ASKED: u32 = 3;

/// A DNS question for the root's name servers (RFC 1035 section 4): every DNS server has an answer, should
/// one stand where the tripwire is expected.
const QUESTION: [u8; 17] = [0xc1, 0xaf, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Somebody answered.
    Answered,
    /// Nobody did, or the network said that nobody is there.
    Silent(ErrorKind),
    /// It could not be asked; this says nothing of the network.
    NotAsked(ErrorKind),
}

impl Answer {
    /// What an error of a socket means.
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            kind @ (ErrorKind::TimedOut
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            // What packet filters answer to a sender of their own machine.
            | ErrorKind::PermissionDenied) => Self::Silent(kind),
            kind => Self::NotAsked(kind),
        }
    }
}

/// Connects by TCP.
pub async fn tcp(address: SocketAddr, bound: Duration) -> Answer {
    match tokio::time::timeout(bound, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Answer::Answered,
        Ok(Err(error)) => Answer::of(&error),
        Err(_) => Answer::Silent(ErrorKind::TimedOut),
    }
}

/// Asks by UDP and waits for any answer.
pub async fn udp(address: SocketAddr, bound: Duration) -> Answer {
    match tokio::time::timeout(bound, ask(address, bound / ASKED)).await {
        Ok(Ok(())) => Answer::Answered,
        Ok(Err(error)) => Answer::of(&error),
        Err(_) => Answer::Silent(ErrorKind::TimedOut),
    }
}

async fn ask(address: SocketAddr, pause: Duration) -> io::Result<()> {
    let any = match address.ip() {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected, so that only this address can answer, and refusals by the network are told.
    socket.connect(address).await?;
    let mut answer = [0; 512];
    loop {
        socket.send(&QUESTION).await?;
        if let Ok(received) = tokio::time::timeout(pause, socket.recv(&mut answer)).await {
            return received.map(|_| ());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const BOUND: Duration = Duration::from_millis(200);

    fn loopback() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }

    #[tokio::test]
    async fn a_listener_answers_and_an_empty_port_does_not() {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(tcp(address, BOUND).await, Answer::Answered);
        drop(listener);
        assert_eq!(tcp(address, BOUND).await, Answer::Silent(ErrorKind::ConnectionRefused));
    }

    #[tokio::test]
    async fn a_server_answers_by_udp_a_silent_one_does_not_and_an_empty_port_refuses() {
        let server = UdpSocket::bind(loopback()).await.unwrap();
        let address = server.local_addr().unwrap();
        assert_eq!(udp(address, BOUND).await, Answer::Silent(ErrorKind::TimedOut));
        let answering = tokio::spawn(async move {
            let mut question = [0; 64];
            // The questions that were not answered are still there, first.
            loop {
                let (length, from) = server.recv_from(&mut question).await.unwrap();
                assert_eq!(question[..length], QUESTION);
                server.send_to(b"here", from).await.unwrap();
            }
        });
        assert_eq!(udp(address, BOUND).await, Answer::Answered);
        answering.abort();
        assert!(answering.await.unwrap_err().is_cancelled());
        assert_eq!(udp(address, BOUND).await, Answer::Silent(ErrorKind::ConnectionRefused));
    }

    #[test]
    fn a_fault_of_our_own_proves_nothing() {
        assert_eq!(
            Answer::of(&io::Error::from_raw_os_error(24)),
            Answer::NotAsked(io::Error::from_raw_os_error(24).kind())
        );
        assert!(matches!(Answer::of(&ErrorKind::AddrNotAvailable.into()), Answer::NotAsked(_)));
        assert!(matches!(Answer::of(&ErrorKind::HostUnreachable.into()), Answer::Silent(_)));
    }
}
