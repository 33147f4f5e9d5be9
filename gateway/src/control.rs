//! The way to the control API: the gateway's own, and that of its sidecars' bytes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use clawlock_control::client::{Dial, Dialling};
use clawlock_proxy::hop::splice::Onward;
use clawlock_proxy::upstream::resolve::SystemResolver;
use tokio::net::TcpStream;

use crate::args::{Control, ControlHost};

/// Most addresses that one dial tries.
const TRIED: usize = 4;

/// Dials the control API.
pub(crate) struct ControlWay {
    control: Control,
    resolver: SystemResolver,
    /// Where the next dial begins, so that replicas behind one name share the load.
    turn: AtomicUsize,
}

impl ControlWay {
    /// The way to one control API.
    pub(crate) fn new(control: Control, resolver: SystemResolver) -> Self {
        Self { control, resolver, turn: AtomicUsize::default() }
    }

    async fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        match &self.control.host {
            ControlHost::Address(address) => Ok(vec![*address]),
            ControlHost::Name(name) => {
                let unresolved = |error| io::Error::new(io::ErrorKind::NotFound, format!("{name}: {error}"));
                self.resolver.search(name).await.map_err(unresolved)
            }
        }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let addresses = self.addresses().await?;
        let from = self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len().max(1);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the control API's name has no address");
        for address in addresses.iter().cycle().skip(from).take(addresses.len().min(TRIED)) {
            match TcpStream::connect(SocketAddr::new(*address, self.control.port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Dial for ControlWay {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(self.connect())
    }
}

impl Onward for ControlWay {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(self.connect())
    }
}
