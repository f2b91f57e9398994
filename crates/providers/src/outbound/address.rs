//! Which addresses a URL of a caller may lead to: public ones, and those of networks that the operator allows.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl From<IpAddr> for Network {
    /// This address alone.
    fn from(address: IpAddr) -> Self {
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }
}

/// The text names no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a network is an address and a length, such as 10.0.0.0/8 or fd00::/8")]
pub struct BadNetwork;

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| BadNetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), |prefix| prefix.parse().map_err(|_| BadNetwork))?;
        if prefix > most { Err(BadNetwork) } else { Ok(Self { address, prefix }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Network {
    /// Whether the address is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address| match address {
            IpAddr::V4(address) => u128::from(Ipv4Addr::to_bits(address)) << 96,
            IpAddr::V6(address) => Ipv6Addr::to_bits(address),
        };
        let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
        self.address.is_ipv4() == address.is_ipv4() && (bits(self.address) ^ bits(address)) & mask == 0
    }
}

/// Networks of the IANA registries of special addresses that no caller's URL may lead to.
const REFUSED_V4: [(Ipv4Addr, u8); 17] = [
    (Ipv4Addr::UNSPECIFIED, 8),            // "this network"
    (Ipv4Addr::new(10, 0, 0, 0), 8),       // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),    // carrier-grade NAT; also Alibaba's metadata
    (Ipv4Addr::new(127, 0, 0, 0), 8),      // loopback
    (Ipv4Addr::new(168, 63, 129, 16), 32), // Azure's wire server
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link-local, and with it the metadata of most clouds
    (Ipv4Addr::new(172, 16, 0, 0), 12),    // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),     // protocol assignments; also Oracle's metadata
    (Ipv4Addr::new(192, 0, 2, 0), 24),     // documentation
    (Ipv4Addr::new(192, 31, 196, 0), 24),  // AS112
    (Ipv4Addr::new(192, 88, 99, 0), 24),   // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),   // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),    // benchmarking
    (Ipv4Addr::new(198, 51, 100, 0), 24),  // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),   // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),      // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),      // reserved, and broadcast
];

/// Public addresses of IPv6 are in `2000::/3`. The following networks in it are not public.
const REFUSED_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments: Teredo, benchmarking, ORCHID
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// Whether an address is public.
fn is_public(address: IpAddr) -> bool {
    let within = |network: IpAddr, prefix| Network { address: network, prefix }.contains(address);
    match address {
        IpAddr::V4(_) => !REFUSED_V4.iter().any(|(network, prefix)| within((*network).into(), *prefix)),
        // Whatever embeds an address of IPv4 (mapped, compatible, NAT64) is outside of 2000::/3, or 6to4 or Teredo. A server with
        // an address of IPv4 has a name or a literal that says so.
        IpAddr::V6(_) => {
            within(IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0)), 3)
                && !REFUSED_V6.iter().any(|(network, prefix)| within((*network).into(), *prefix))
        }
    }
}

/// The addresses that URLs of callers may lead to.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    networks: Vec<Network>,
    /// Addresses of this server, and of its nodes: never allowed by being public.
    own: Vec<IpAddr>,
}

impl Allowed {
    /// Public addresses, and these networks.
    pub fn new(networks: Vec<Network>, own: Vec<IpAddr>) -> Self {
        Self { networks, own }
    }

    /// Whether the operator allows any network by name.
    pub fn names_any(&self) -> bool {
        !self.networks.is_empty()
    }

    /// Whether the operator allows the address by name.
    pub fn names(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// Whether a connection to the address may be made.
    pub fn allows(&self, address: IpAddr) -> bool {
        self.names(address) || (is_public(address) && !self.own.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(address: &str) -> bool {
        Allowed::default().allows(address.parse().expect("an address"))
    }

    #[track_caller]
    fn refused(addresses: &[&str]) {
        for address in addresses {
            assert!(!public(address), "{address}");
        }
    }

    #[test]
    fn public_addresses_are_allowed() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "172.15.255.255",
            "172.32.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "2606:4700::1111",
            "2a00::1",
        ] {
            assert!(public(address), "{address}");
        }
    }

    #[test]
    fn loopback_is_refused() {
        refused(&["127.0.0.1", "127.255.255.254", "::1"]);
    }

    #[test]
    fn private_networks_are_refused() {
        refused(&["10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1"]);
    }

    #[test]
    fn link_local_is_refused() {
        refused(&["169.254.0.1", "fe80::1", "febf::1", "fec0::1"]);
    }

    #[test]
    fn metadata_of_clouds_is_refused() {
        refused(&[
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "fd00:ec2::254",
            "fd20:ce::254",
        ]);
    }

    #[test]
    fn carrier_grade_nat_is_refused() {
        refused(&["100.64.0.1", "100.127.255.255"]);
    }

    #[test]
    fn multicast_is_refused() {
        refused(&["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"]);
    }

    #[test]
    fn unspecified_and_reserved_are_refused() {
        refused(&["0.0.0.0", "0.1.2.3", "240.0.0.1", "255.255.255.255", "::"]);
    }

    #[test]
    fn documentation_and_benchmarking_are_refused() {
        refused(&[
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "198.18.0.1",
            "198.19.255.255",
            "2001:db8::1",
            "3fff::1",
            "2001:2::1",
        ]);
    }

    #[test]
    fn embedded_addresses_are_refused() {
        // Mapped, compatible, NAT64 (both prefixes), 6to4, Teredo; of private and of public addresses.
        refused(&[
            "::ffff:10.0.0.1",
            "::ffff:8.8.8.8",
            "::10.0.0.1",
            "::8.8.8.8",
            "64:ff9b::a00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::a00:1",
        ]);
        refused(&["2002:a00:1::", "2002:808:808::1", "2001::1", "2001:0:a00:1::"]);
    }

    #[test]
    fn unique_local_is_refused() {
        refused(&["fc00::1", "fd12:3456::1", "fdff::1"]);
    }

    #[test]
    fn the_server_itself_is_refused_and_networks_can_be_allowed() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let own = Allowed::new(Vec::new(), vec![address("8.8.8.8")]);
        assert!(!own.allows(address("8.8.8.8")) && own.allows(address("8.8.4.4")));
        let networks = ["10.1.0.0/16", "fd00::/8", "127.0.0.1"].map(|text| text.parse().expect("a network"));
        let allowed = Allowed::new(networks.to_vec(), Vec::new());
        for (text, expected) in [
            ("10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd00::1", true),
            ("fc00::1", false),
            ("127.0.0.1", true),
            ("127.0.0.2", false),
        ] {
            assert_eq!(allowed.allows(address(text)), expected, "{text}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "ten/8", "10.0.0.0/", "10.0.0.0/-1"] {
            assert_eq!(bad.parse::<Network>(), Err(BadNetwork), "{bad}");
        }
        assert!("0.0.0.0/0".parse::<Network>().expect("all").contains(address("9.9.9.9")));
    }
}
