//! URLs, however they are spelled, end as addresses that are judged, or as names that only a resolver can read.

use std::net::{IpAddr, Ipv4Addr};

use hooklane_egress::guard::judge;
use hooklane_egress::target::{Host, Target};
use http::Uri;
use proptest::prelude::*;
use url::Url;

/// What the connector sees of a URL.
fn host(url: &str) -> Host {
    let url = Url::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
    Target::of(&Uri::try_from(url.as_str()).unwrap()).unwrap().host
}

fn full_width(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '0'..='9' => char::from_u32(c as u32 - '0' as u32 + '０' as u32).unwrap(),
            '.' => '。',
            other => other,
        })
        .collect()
}

/// An IPv4 address in the spellings that some program somewhere understands.
fn spellings(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    let number = u32::from(address);
    let (low16, low24) = (number & 0xffff, number & 0xff_ffff);
    vec![
        format!("{number}"),
        format!("0x{number:x}"),
        format!("0X{number:X}"),
        format!("0{number:o}"),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a}.{low24}"),
        format!("{a}.{b}.{low16}"),
        format!("{a}.{b}.{c}.{d}."),
        format!("user:password@{address}"),
        format!("example.com@{address}"),
        full_width(&address.to_string()),
        address.to_string().replace('.', "%2e"),
        format!(
            "%3{}{}",
            a.to_string().chars().next().unwrap(),
            &address.to_string()[1..]
        ),
        format!("[::ffff:{address}]"),
        format!("[0:0:0:0:0:FFFF:{address}]"),
        format!("[64:ff9b::{address}]"),
        format!("[2002:{:x}:{:x}::1]", number >> 16, low16),
    ]
}

#[path = "../property/url_guard.rs"]
mod url_guard;

proptest! {
    #[test]
    fn every_spelling_of_an_ipv4_address_is_judged_as_that_address(number: u32, port: u16) {
        let address = Ipv4Addr::from(number);
        let expected = judge(IpAddr::V4(address), &[]).map_err(|blocked| blocked.reason);
        for spelling in spellings(address) {
            match host(&format!("http://{spelling}:{port}/x")) {
                Host::Literal(found) => {
                    prop_assert_eq!(judge(found, &[]).map_err(|blocked| blocked.reason), expected, "{}", spelling);
                }
                Host::Name(name) => prop_assert!(false, "{} is the name {}", spelling, name),
            }
        }
    }

    #[test]
    fn what_a_url_calls_an_address_the_connector_calls_an_address(text in "\\PC{0,40}") {
        url_guard::check(&format!("http://{text}/"));
        url_guard::check(&text);
    }

    #[test]
    fn numbers_and_dots_never_end_as_names(text in "[0-9a-fxA-FX.]{0,20}[0-9]\\.?") {
        // A last label of digits makes it an address or no URL: a resolver that reads `127.1` itself never gets it.
        if let Ok(url) = Url::parse(&format!("https://{text}/")) {
            let last = text.trim_end_matches('.').rsplit('.').next().unwrap();
            if last.bytes().all(|byte| byte.is_ascii_digit()) {
                prop_assert!(matches!(host(url.as_str()), Host::Literal(_)), "{}", url);
            }
        }
    }
}
