//! For any text that is a URL: the connector sees the host that the URL has. An address stays an address, and so is
//! judged; a name is one that no program would read as an address. Shared with the fuzz target.

use std::net::IpAddr;

use hooklane_egress::guard::judge;
use hooklane_egress::target::{Host, Target};
use http::Uri;
use url::Url;

/// Panics when the property does not hold for this text.
pub fn check(text: &str) {
    let Ok(url) = Url::parse(text) else { return };
    let Ok(uri) = Uri::try_from(url.as_str()) else {
        return;
    };
    let Some(target) = Target::of(&uri) else { return };
    assert_eq!(url.port_or_known_default(), Some(target.port), "{text}");
    match (url.host(), target.host) {
        (Some(url::Host::Ipv4(address)), Host::Literal(found)) => same(IpAddr::V4(address), found, text),
        (Some(url::Host::Ipv6(address)), Host::Literal(found)) => same(IpAddr::V6(address), found, text),
        (Some(url::Host::Domain(name)), Host::Name(found)) => {
            assert_eq!(name, found, "{text}");
            // What `inet_aton` reads as an address (`127.1`, `0x7f.1`, `2130706433`) ends in a number.
            let last = found
                .strip_suffix('.')
                .unwrap_or(&found)
                .rsplit('.')
                .next()
                .unwrap_or_default();
            let is_decimal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
            let is_hex = last
                .strip_prefix("0x")
                .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
            assert!(!is_decimal && !is_hex, "{text} is the name {found}");
        }
        (said, found) => panic!("{text}: the URL says {said:?}, the connector {found:?}"),
    }
}

fn same(said: IpAddr, found: IpAddr, text: &str) {
    assert_eq!(said, found, "{text}");
    // An address that the standard library knows as inside never passes.
    let is_inside = match found {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_unspecified()
        }
    };
    assert!(!is_inside || judge(found, &[]).is_err(), "{text}");
}
