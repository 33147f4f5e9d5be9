//! Which addresses the gateway may dial.
//!
//! A name that an agent can choose must not lead the gateway into its own network, so only public
//! addresses are dialled, and beyond them the networks that the platform team names in
//! `allowedCIDRs`. What is public follows IANA's special-purpose registries (RFC 6890) with their
//! entries of every kind, also those that are globally reachable, and refuses every address that
//! embeds another one: a translator on the way would dial the inner address. An address that is not
//! in the allocated unicast space of IPv6 (`2000::/3`) is not public either.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// An address that must not be dialled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {address} is {kind} and in none of the upstream's allowedCIDRs")]
pub struct AddressRefused {
    /// The address.
    pub address: IpAddr,
    /// What kind of address it is.
    pub kind: &'static str,
}

/// Checks an address just before it is dialled; the same value must then be dialled, not the name.
///
/// # Errors
/// When it is neither public nor in an allowed network.
pub fn check(address: IpAddr, allowed: &[IpNet]) -> Result<(), AddressRefused> {
    if allowed.iter().any(|network| covers(network, address)) {
        return Ok(());
    }
    let kind = match address {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    };
    kind.map_or(Ok(()), |kind| Err(AddressRefused { address, kind }))
}

/// Whether a network holds the address. An IPv4 network holds IPv4-mapped addresses too, because the
/// kernel dials the inner address of those (RFC 4291 section 2.5.5.2).
fn covers(network: &IpNet, address: IpAddr) -> bool {
    match (network, address) {
        (IpNet::V4(network), IpAddr::V4(v4)) => network.contains(&v4),
        (IpNet::V4(network), IpAddr::V6(v6)) => v6.to_ipv4_mapped().is_some_and(|v4| network.contains(&v4)),
        (IpNet::V6(network), IpAddr::V6(v6)) => network.contains(&v6),
        (IpNet::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Addresses that answer a cloud's instances with their credentials. All but the second are in a
/// special network as well; they stand here for their name in the message.
const METADATA_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    // Azure's platform channel: an address out of public space, answered by every host.
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(169, 254, 170, 2),
];

/// The same over IPv6.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Networks of IPv4 that are not public: base address, prefix length, kind.
const SPECIAL_V4: [(Ipv4Addr, u32, &str); 18] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "of this network or unspecified (RFC 791)"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private (RFC 1918)"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared by a carrier's NAT (RFC 6598)"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local (RFC 3927)"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private (RFC 1918)"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "for IETF protocols (RFC 6890)"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "for documentation (RFC 5737)"),
    (Ipv4Addr::new(192, 31, 196, 0), 24, "of the AS112 service (RFC 7535)"),
    (Ipv4Addr::new(192, 52, 193, 0), 24, "for multicast tunnels (RFC 7450)"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a 6to4 relay (RFC 7526)"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private (RFC 1918)"),
    (Ipv4Addr::new(192, 175, 48, 0), 24, "of the AS112 service (RFC 7534)"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for benchmarks (RFC 2544)"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "for documentation (RFC 5737)"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "for documentation (RFC 5737)"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved or broadcast (RFC 1112)"),
];

/// Networks of IPv6 that are not public. The order tells: the first that holds the address names it.
const SPECIAL_V6: [(Ipv6Addr, u32, &str); 20] = [
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (v6(0, 0, 0, 0, 0, 0xffff), 96, "IPv4-mapped (RFC 4291)"),
    (v6(0, 0, 0, 0, 0xffff, 0), 96, "IPv4-translated (RFC 2765)"),
    (v6(0, 0, 0, 0, 0, 0), 96, "IPv4-compatible (RFC 4291)"),
    (v6(0x64, 0xff9b, 0, 0, 0, 0), 96, "translated to IPv4 by NAT64 (RFC 6052)"),
    (v6(0x64, 0xff9b, 1, 0, 0, 0), 48, "translated to IPv4 by a local NAT64 (RFC 8215)"),
    (v6(0x100, 0, 0, 0, 0, 0), 64, "discarded (RFC 6666)"),
    (v6(0x2001, 0, 0, 0, 0, 0), 32, "a Teredo tunnel to IPv4 (RFC 4380)"),
    (v6(0x2001, 0xdb8, 0, 0, 0, 0), 32, "for documentation (RFC 3849)"),
    (v6(0x2001, 0, 0, 0, 0, 0), 23, "for IETF protocols (RFC 2928)"),
    (v6(0x2002, 0, 0, 0, 0, 0), 16, "a 6to4 tunnel to IPv4 (RFC 3056)"),
    (v6(0x2620, 0x4f, 0x8000, 0, 0, 0), 48, "of the AS112 service (RFC 7534)"),
    (v6(0x3ffe, 0, 0, 0, 0, 0), 16, "of the 6bone, which was returned (RFC 3701)"),
    (v6(0x3fff, 0, 0, 0, 0, 0), 20, "for documentation (RFC 9637)"),
    (v6(0x5f00, 0, 0, 0, 0, 0), 16, "for segment routing (RFC 9602)"),
    (v6(0xfc00, 0, 0, 0, 0, 0), 7, "private (unique local, RFC 4193)"),
    (v6(0xfe80, 0, 0, 0, 0, 0), 10, "link-local (RFC 4291)"),
    (v6(0xfec0, 0, 0, 0, 0, 0), 10, "site-local (RFC 3879)"),
    (v6(0xff00, 0, 0, 0, 0, 0), 8, "multicast"),
];

/// A network's address by its first six groups.
const fn v6(a: u16, b: u16, c: u16, d: u16, e: u16, f: u16) -> Ipv6Addr {
    Ipv6Addr::new(a, b, c, d, e, f, 0, 0)
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    if METADATA_V4.contains(&address) {
        return Some("a cloud's metadata service");
    }
    let held =
        |(base, prefix, _): &&(Ipv4Addr, u32, &str)| (address.to_bits() ^ base.to_bits()).leading_zeros() >= *prefix;
    SPECIAL_V4.iter().find(held).map(|(_, _, kind)| *kind)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    if METADATA_V6.contains(&address) {
        return Some("a cloud's metadata service");
    }
    let held =
        |(base, prefix, _): &&(Ipv6Addr, u32, &str)| (address.to_bits() ^ base.to_bits()).leading_zeros() >= *prefix;
    if let Some((_, _, kind)) = SPECIAL_V6.iter().find(held) {
        return Some(kind);
    }
    let unicast = address.segments()[0] & 0xe000 == 0x2000;
    (!unicast).then_some("outside of the allocated unicast space (RFC 4291)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> bool {
        check(text.parse().unwrap(), &[]).is_err()
    }

    #[test]
    fn public_addresses_pass() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450::1",
            "2000::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2001:db7:ffff::1",
            "2001:db9::1",
            "2003::1",
            "3fff:1000::1",
        ] {
            assert!(!refused(public), "{public}");
        }
    }

    /// Both ends of every network, and what lies in it under other names.
    #[test]
    fn class04_special_addresses_are_refused() {
        for special in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.0",
            "169.254.169.254",
            "169.254.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.0",
            "192.0.0.192",
            "192.0.0.255",
            "192.0.2.1",
            "192.31.196.1",
            "192.52.193.1",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
            "192.175.48.1",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "100.100.100.200",
            "::",
            "::1",
            "::2",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "64:ff9b:1:ffff::1",
            "100::1",
            "100:0:0:1::1",
            "2001::1",
            "2001:0:ffff::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:1ff:ffff::1",
            "2001:db8::1",
            "2002::1",
            "2002:7f00:1::1",
            "2620:4f:8000::1",
            "3ffe::1",
            "3fff::1",
            "3fff:fff::1",
            "5f00::1",
            "4000::1",
            "1fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "feff::1",
            "ff02::1",
            "e000::1",
        ] {
            assert!(refused(special), "{special}");
        }
    }

    #[test]
    fn class05_metadata_is_named_and_only_an_allowed_network_opens_it() {
        let metadata: IpAddr = "169.254.169.254".parse().unwrap();
        let error = check(metadata, &["10.0.0.0/8".parse().unwrap()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "address 169.254.169.254 is a cloud's metadata service and in none of the upstream's allowedCIDRs"
        );
        assert_eq!(check(metadata, &["169.254.169.254/32".parse().unwrap()]), Ok(()));
    }

    #[test]
    fn a_mapped_address_counts_as_its_inner_one_and_other_embeddings_do_not() {
        let allowed = ["127.0.0.0/8".parse().unwrap()];
        assert_eq!(check("::ffff:127.0.0.1".parse().unwrap(), &allowed), Ok(()));
        for other in ["::127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::", "::ffff:0:127.0.0.1"] {
            assert!(check(other.parse().unwrap(), &allowed).is_err(), "{other}");
        }
        assert!(check("10.0.0.1".parse().unwrap(), &["::/0".parse().unwrap()]).is_err());
        assert_eq!(check("fd12::1".parse().unwrap(), &["fd12::/16".parse().unwrap()]), Ok(()));
    }

    fn net() -> impl Strategy<Value = IpNet> {
        prop_oneof![
            (any::<u32>(), 0u8..=32)
                .prop_map(|(bits, len)| { IpNet::new(IpAddr::V4(Ipv4Addr::from_bits(bits)), len).unwrap() }),
            (any::<u128>(), 0u8..=128)
                .prop_map(|(bits, len)| { IpNet::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), len).unwrap() }),
        ]
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
            any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
            any::<u32>().prop_map(|bits| IpAddr::V6(Ipv4Addr::from_bits(bits).to_ipv6_mapped())),
        ]
    }

    proptest! {
        #[test]
        fn class04_what_the_standard_library_calls_special_never_passes(address in address()) {
            if check(address, &[]).is_ok() {
                prop_assert!(!address.is_loopback() && !address.is_unspecified() && !address.is_multicast());
                match address {
                    IpAddr::V4(v4) => {
                        prop_assert!(!v4.is_private() && !v4.is_link_local() && !v4.is_broadcast() && !v4.is_documentation());
                    }
                    IpAddr::V6(v6) => {
                        prop_assert!(!v6.is_unique_local() && !v6.is_unicast_link_local());
                        prop_assert!(v6.to_ipv4().is_none(), "embeds an IPv4 address");
                    }
                }
            }
        }

        #[test]
        fn an_allowed_network_adds_exactly_its_addresses(address in address(), network in net()) {
            let with = check(address, &[network]).is_ok();
            let inner = match (network, address) {
                (IpNet::V4(_), IpAddr::V6(v6)) => v6.to_ipv4_mapped().map(IpAddr::V4),
                _ => Some(address),
            };
            let held = inner.is_some_and(|inner| network.contains(&inner));
            prop_assert_eq!(with, held || check(address, &[]).is_ok());
        }
    }
}
