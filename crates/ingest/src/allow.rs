//! Which addresses may connect.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whether a connection from `peer` is served. An empty list allows all. The address is the connection's own: no header
/// such as `X-Forwarded-For` is asked, since anybody can send one.
pub(crate) fn allows(networks: &[IpNet], peer: IpAddr) -> bool {
    // A listener on [::] shows an IPv4 client as ::ffff:a.b.c.d; the list would hold a.b.c.d.
    let peer = peer.to_canonical();
    networks.is_empty() || networks.iter().any(|network| network.contains(&peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(networks: &[&str], peer: &str) -> bool {
        let networks: Vec<IpNet> = networks.iter().map(|text| text.parse().unwrap()).collect();
        allows(&networks, peer.parse().unwrap())
    }

    #[test]
    fn an_empty_list_allows_all() {
        assert!(judge(&[], "203.0.113.9"));
    }

    #[test]
    fn only_listed_networks_pass_however_the_address_is_spelled() {
        let list = ["10.0.0.0/8", "2001:db8::/32"];
        assert!(judge(&list, "10.1.2.3"));
        assert!(judge(&list, "::ffff:10.1.2.3"));
        assert!(judge(&list, "2001:db8::1"));
        assert!(!judge(&list, "11.1.2.3"));
        assert!(!judge(&list, "::ffff:11.1.2.3"));
        assert!(!judge(&list, "::10.1.2.3"));
    }
}
