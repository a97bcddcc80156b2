//! Which addresses an endpoint may have. Pure; asked at every new connection about the address connected to.
//!
//! The lists follow the IANA registries of special-purpose addresses (IPv4 and IPv6). IPv6 is judged the other way
//! round: only global unicast (2000::/3) passes, less its special parts, and the forms that carry an IPv4 address are
//! judged by that address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// An address that lies inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The address.
    pub address: IpAddr,
    /// What it is.
    pub reason: Reason,
}

/// What makes an address special.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 0.0.0.0/8, `::`.
    Unspecified,
    /// 127.0.0.0/8, `::1`.
    Loopback,
    /// RFC 1918, `fc00::/7`, site-local.
    Private,
    /// 169.254.0.0/16 (metadata services too), `fe80::/10`, Azure's 168.63.129.16.
    LinkLocal,
    /// 100.64.0.0/10.
    Shared,
    /// Documentation networks.
    Documentation,
    /// 198.18.0.0/15.
    Benchmarking,
    /// Multicast and broadcast.
    Multicast,
    /// Protocol assignments, tunnels, discard, and whatever is not global unicast.
    Special,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Unspecified => "an unspecified address",
            Reason::Loopback => "a loopback address",
            Reason::Private => "a private address",
            Reason::LinkLocal => "a link-local or metadata address",
            Reason::Shared => "a carrier-grade NAT address",
            Reason::Documentation => "a documentation address",
            Reason::Benchmarking => "a benchmarking address",
            Reason::Multicast => "a multicast or broadcast address",
            Reason::Special => "a special-purpose address",
        })
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.address, self.reason)
    }
}

/// Whether an endpoint may have this address. Allowed networks win, an IPv4 network also for an address that carries
/// an IPv4 address of it.
///
/// # Errors
/// [`Blocked`] when it may not.
pub fn judge(address: IpAddr, allowed: &[IpNet]) -> Result<(), Blocked> {
    if allowed.iter().any(|network| network.contains(&address)) {
        return Ok(());
    }
    let reason = match address {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => judge(IpAddr::V4(v4), allowed).err().map(|blocked| blocked.reason),
            None => special_v6(v6),
        },
    };
    match reason {
        None => Ok(()),
        Some(reason) => Err(Blocked { address, reason }),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<Reason> {
    match address.octets() {
        [0, ..] => Some(Reason::Unspecified),
        [127, ..] => Some(Reason::Loopback),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some(Reason::Private),
        // 168.63.129.16 looks public, and is the platform's own service on every Azure host.
        [169, 254, ..] | [168, 63, 129, 16] => Some(Reason::LinkLocal),
        [100, 64..=127, ..] => Some(Reason::Shared),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some(Reason::Documentation),
        [198, 18..=19, ..] => Some(Reason::Benchmarking),
        [224..=239, ..] | [255, 255, 255, 255] => Some(Reason::Multicast),
        // Protocol assignments, the 6to4 relay, and 240.0.0.0/4.
        [192, 0, 0, _] | [192, 88, 99, _] | [240..=255, ..] => Some(Reason::Special),
        _ => None,
    }
}

/// The IPv4 address that packets to this address would end at, where its form says so.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let carried = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        // Mapped (RFC 4291): the kernel speaks IPv4.
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(carried(high, low)),
        // NAT64 with the well-known prefix (RFC 6052), how IPv6-only clusters reach IPv4.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(carried(high, low)),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => Some(carried(high, low)),
        // ISATAP (RFC 5214) below a global prefix.
        [0x2000..=0x3fff, _, _, _, 0 | 0x200, 0x5efe, high, low] if special_v6(address).is_none() => {
            Some(carried(high, low))
        }
        _ => None,
    }
}

fn special_v6(address: Ipv6Addr) -> Option<Reason> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(Reason::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Reason::Loopback),
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Some(Reason::Private),
        [0xfe80..=0xfebf, ..] => Some(Reason::LinkLocal),
        [0xff00..=0xffff, ..] => Some(Reason::Multicast),
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Some(Reason::Documentation),
        [0x2001, 0x0002, 0, ..] => Some(Reason::Benchmarking),
        // IETF protocol assignments: Teredo, ORCHID and anycast services; no endpoint lives there.
        [0x2001, 0..=0x01ff, ..] => Some(Reason::Special),
        [0x2000..=0x3fff, ..] => None,
        // Compatible (deprecated), local NAT64 64:ff9b:1::/48 (where the IPv4 part stands is the operator's choice),
        // discard 100::/64, and what is not allocated.
        _ => Some(Reason::Special),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(address: &str, allowed: &[&str]) -> Result<(), Reason> {
        let allowed: Vec<IpNet> = allowed.iter().map(|network| network.parse().unwrap()).collect();
        judge(address.parse().unwrap(), &allowed).map_err(|blocked| blocked.reason)
    }

    #[test]
    fn addresses_inside_are_blocked() {
        for (address, reason) in [
            ("0.0.0.0", Reason::Unspecified),
            ("0.1.2.3", Reason::Unspecified),
            ("127.0.0.1", Reason::Loopback),
            ("127.255.255.254", Reason::Loopback),
            ("10.0.0.1", Reason::Private),
            ("172.16.0.1", Reason::Private),
            ("172.31.255.255", Reason::Private),
            ("192.168.1.1", Reason::Private),
            ("169.254.169.254", Reason::LinkLocal),
            ("168.63.129.16", Reason::LinkLocal),
            ("100.64.0.1", Reason::Shared),
            ("100.100.100.200", Reason::Shared),
            ("100.127.255.255", Reason::Shared),
            ("192.0.0.192", Reason::Special),
            ("192.0.2.1", Reason::Documentation),
            ("198.51.100.1", Reason::Documentation),
            ("203.0.113.1", Reason::Documentation),
            ("198.18.0.1", Reason::Benchmarking),
            ("198.19.255.255", Reason::Benchmarking),
            ("192.88.99.1", Reason::Special),
            ("224.0.0.1", Reason::Multicast),
            ("239.255.255.255", Reason::Multicast),
            ("240.0.0.1", Reason::Special),
            ("255.255.255.255", Reason::Multicast),
            ("::", Reason::Unspecified),
            ("::1", Reason::Loopback),
            ("fc00::1", Reason::Private),
            ("fd00:ec2::254", Reason::Private),
            ("fe80::1", Reason::LinkLocal),
            ("febf::1", Reason::LinkLocal),
            ("fec0::1", Reason::Private),
            ("ff02::1", Reason::Multicast),
            ("2001:db8::1", Reason::Documentation),
            ("3fff:fff::1", Reason::Documentation),
            ("2001:2::1", Reason::Benchmarking),
            ("2001::1", Reason::Special),
            ("2001:0:808:808::1", Reason::Special),
            ("2001:10::1", Reason::Special),
            ("2001:20::1", Reason::Special),
            ("100::1", Reason::Special),
            ("::ffff:127.0.0.1", Reason::Loopback),
            ("::ffff:a9fe:a9fe", Reason::LinkLocal),
            ("::127.0.0.1", Reason::Special),
            ("::8.8.8.8", Reason::Special),
            ("::ffff:0:127.0.0.1", Reason::Special),
            ("64:ff9b::10.0.0.1", Reason::Private),
            ("64:ff9b:1::8.8.8.8", Reason::Special),
            ("2002:7f00:1::", Reason::Loopback),
            ("2002:a00:1::1", Reason::Private),
            ("2a00:1450::5efe:10.0.0.1", Reason::Private),
            ("2a00:1450::200:5efe:127.0.0.1", Reason::Loopback),
            ("4000::1", Reason::Special),
        ] {
            assert_eq!(verdict(address, &[]), Err(reason), "{address}");
        }
    }

    #[test]
    fn public_addresses_pass() {
        for address in [
            "8.8.8.8",
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "169.253.0.1",
            "192.0.1.1",
            "192.88.98.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2a00:1450:4001::1",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "3ffe::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2a00:1450::5efe:8.8.8.8",
        ] {
            assert_eq!(verdict(address, &[]), Ok(()), "{address}");
        }
    }

    #[test]
    fn allowed_networks_win_and_allow_nothing_else() {
        assert_eq!(verdict("10.1.2.3", &["10.1.0.0/16"]), Ok(()));
        assert_eq!(verdict("::ffff:10.1.2.3", &["10.1.0.0/16"]), Ok(()));
        assert_eq!(verdict("64:ff9b::10.1.2.3", &["10.1.0.0/16"]), Ok(()));
        assert_eq!(verdict("fd00::7", &["fd00::/64"]), Ok(()));
        assert_eq!(verdict("10.2.0.1", &["10.1.0.0/16"]), Err(Reason::Private));
        assert_eq!(
            verdict("127.0.0.1", &["10.0.0.0/8", "::/0"]),
            Err(Reason::Loopback)
        );
        assert_eq!(verdict("::1", &["0.0.0.0/0"]), Err(Reason::Loopback));
    }
}
