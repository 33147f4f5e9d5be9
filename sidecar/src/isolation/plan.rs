//! What a round tries: addresses that the operator named and for which the gateway has just vouched. Silence of
//! any other would prove nothing.

use std::net::IpAddr;

use clawlock_control::client::Canaries;
use clawlock_proxy::voucher::{Node, Tripwire, Voucher};

/// Tripwires that one round tries. One would do; more notice sooner that a part of the network is open.
const TRIPWIRES: usize = 4;

/// What a round tries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Tripwires, by TCP and UDP.
    pub(crate) tripwires: Vec<IpAddr>,
    /// Another node, by TCP.
    pub(crate) node: Option<IpAddr>,
}

impl Plan {
    /// Plans the round number `turn` of a pod on node `host`.
    pub(crate) fn of(voucher: &Voucher, canaries: &Canaries, host: IpAddr, turn: usize) -> Self {
        let tripwires: Vec<IpAddr> = tripwires(voucher).filter(|address| canaries.tripwire.contains(address)).collect();
        let other = |address: &IpAddr| {
            // A node may have an address of each family. Of the pod's own node only this one is known.
            *address != host && address.is_ipv4() == host.is_ipv4() && canaries.nodes.contains(address)
        };
        let nodes: Vec<IpAddr> = nodes(voucher).filter(other).collect();
        let turned = tripwires.iter().cycle().skip(turn % tripwires.len().max(1));
        Self {
            tripwires: turned.take(TRIPWIRES.min(tripwires.len())).copied().collect(),
            node: nodes.get(turn % nodes.len().max(1)).copied(),
        }
    }

    /// Whether a voucher vouches for all of it.
    pub(crate) fn is_vouched_by(&self, voucher: &Voucher) -> bool {
        let Self { tripwires: tried, node } = self;
        let all = tried.iter().all(|tried| tripwires(voucher).any(|address| address == *tried));
        all && node.is_none_or(|tried| nodes(voucher).any(|address| address == tried))
    }
}

/// Tripwires that answered the gateway both ways.
fn tripwires(voucher: &Voucher) -> impl Iterator<Item = IpAddr> {
    voucher.tripwire.iter().filter_map(|Tripwire { address, tcp, udp }| (*tcp && *udp).then_some(*address))
}

/// Nodes that answered the gateway.
fn nodes(voucher: &Voucher) -> impl Iterator<Item = IpAddr> {
    voucher.nodes.iter().filter_map(|Node { address, tcp }| tcp.then_some(*address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ip(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    fn tripwire(last: u8, tcp: bool, udp: bool) -> Tripwire {
        Tripwire { address: ip(last), tcp, udp }
    }

    fn node(last: u8, tcp: bool) -> Node {
        Node { address: ip(last), tcp }
    }

    fn named(tripwire: &[u8], nodes: &[u8]) -> Canaries {
        let ips = |numbers: &[u8]| numbers.iter().copied().map(ip).collect();
        Canaries { tripwire: ips(tripwire), nodes: ips(nodes) }
    }

    #[test]
    fn only_what_is_named_and_vouched_for_is_tried() {
        let tripwire =
            vec![tripwire(1, true, false), tripwire(2, false, true), tripwire(3, true, true), tripwire(4, true, true)];
        let nodes = vec![node(11, true), node(12, false), node(13, true), node(14, true)];
        let voucher = Voucher { tripwire, nodes, checked_ms: 1 };
        let canaries = named(&[1, 2, 3], &[11, 12, 13]);
        let expected = Plan { tripwires: vec![ip(3)], node: Some(ip(13)) };
        assert_eq!(Plan::of(&voucher, &canaries, ip(11), 0), expected);
        assert_eq!(Plan::of(&voucher, &Canaries::default(), ip(11), 0), Plan::default());
        assert!(expected.is_vouched_by(&voucher));
        let without = Voucher { nodes: Vec::new(), ..voucher.clone() };
        assert!(!expected.is_vouched_by(&without));
        assert!(!Plan { tripwires: vec![ip(3), ip(2)], node: None }.is_vouched_by(&voucher));
    }

    #[test]
    fn the_own_node_is_left_out_whatever_the_family() {
        let second: IpAddr = "fd00::11".parse().unwrap();
        let nodes = vec![node(11, true), Node { address: second, tcp: true }];
        let voucher = Voucher { tripwire: Vec::new(), nodes, checked_ms: 1 };
        let canaries = Canaries { tripwire: Vec::new(), nodes: vec![ip(11), second] };
        assert_eq!(Plan::of(&voucher, &canaries, ip(11), 0).node, None);
        assert_eq!(Plan::of(&voucher, &canaries, second, 0).node, None);
        assert_eq!(Plan::of(&voucher, &canaries, ip(12), 0).node, Some(ip(11)));
    }

    #[test]
    fn rounds_walk_through_many() {
        let tripwire = (1..=6).map(|last| tripwire(last, true, true)).collect();
        let voucher = Voucher { tripwire, nodes: vec![node(21, true), node(22, true)], checked_ms: 1 };
        let canaries = named(&[1, 2, 3, 4, 5, 6], &[21, 22]);
        let plan = |turn| Plan::of(&voucher, &canaries, ip(20), turn);
        assert_eq!(plan(0).tripwires, [ip(1), ip(2), ip(3), ip(4)]);
        assert_eq!(plan(5).tripwires, [ip(6), ip(1), ip(2), ip(3)]);
        assert_eq!([plan(0).node, plan(1).node, plan(2).node], [Some(ip(21)), Some(ip(22)), Some(ip(21))]);
    }
}
