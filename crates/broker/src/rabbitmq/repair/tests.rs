use lapin::BasicProperties;
use lapin::protocol::basic::parse_properties;
use lapin::types::{AMQPValue, FieldTable};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const MESSAGE_ID: u16 = 0x0080;
const TYPE: u16 = 0x0020;
const HEADERS: u16 = 0x2000;

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()][..], text].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn entry(name: &[u8], kind: u8, value: &[u8]) -> Vec<u8> {
    [&short(name)[..], &[kind], value].concat()
}

/// A content header of `basic`, for a body of seven bytes.
fn header(flags: u16, properties: &[u8]) -> Vec<u8> {
    [
        &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7][..],
        &flags.to_be_bytes(),
        properties,
    ]
    .concat()
}

fn mended(kind: u8, payload: &[u8], bytes_max: usize) -> Vec<u8> {
    let mut payload = payload.to_vec();
    let length = mend(kind, &mut payload, bytes_max);
    payload.truncate(length);
    payload
}

/// What lapin reads there, if it can.
fn read(payload: &[u8]) -> Option<BasicProperties> {
    parse_properties(&payload[12..])
        .ok()
        .filter(|(rest, _)| rest.is_empty())
        .map(|(_, properties)| properties)
}

fn table(properties: &BasicProperties) -> FieldTable {
    properties.headers().clone().expect("headers")
}

#[test]
fn text_that_is_no_utf_8_is_marked_and_the_rest_stays() {
    // Goal: Latin-1 and cut sequences, in properties and names of headers, at every level.
    let deep = entry(b"\xff", b'F', &long(&entry(b"k\xc3", b't', &[1])));
    let properties = [long(&deep), short("é".as_bytes()), short(b"caf\xe9 \xf0\x9f\x92")];
    let payload = header(HEADERS | MESSAGE_ID | TYPE, &properties.concat());
    assert!(read(&payload).is_none(), "lapin learned to read it");
    let read = read(&mended(HEADER, &payload, usize::MAX)).expect("readable");
    assert_eq!(read.message_id().as_ref().unwrap().as_str(), "é");
    assert_eq!(
        read.kind().as_ref().unwrap().as_str(),
        "caf\u{1a} \u{1a}\u{1a}\u{1a}"
    );
    let headers = table(&read);
    let AMQPValue::FieldTable(inner) = &headers.inner()["\u{1a}"] else {
        panic!("{headers:?}");
    };
    assert_eq!(inner.inner()["k\u{1a}"], AMQPValue::Boolean(true));
}

#[test]
fn names_in_methods_that_bring_messages_are_mended() {
    // Goal: deliver, get-ok and return carry a producer's routing key; other methods are none of our business.
    let (tag, nine) = (short(b"tag"), [0xff; 9]);
    let names = [short(b"hooklane.events"), short(b"caf\xe9")].concat();
    let good = [short(b"hooklane.events"), short(b"caf\x1a")].concat();
    for (method, before) in [
        (DELIVER, [&tag[..], &nine].concat()),
        (GET_OK, nine.to_vec()),
        (RETURN, [&[1, 56][..], &short(b"NO_ROUTE")].concat()),
    ] {
        let method = [&BASIC.to_be_bytes()[..], &method.to_be_bytes(), &before].concat();
        let payload = [&method[..], &names, &[0, 0, 0, 3]].concat();
        let expected = [&method[..], &good, &[0, 0, 0, 3]].concat();
        assert_eq!(mended(METHOD, &payload, usize::MAX), expected);
    }
    for other in [
        &[0, 60, 0, 11, 3, 0xff][..],
        &[0, 10, 0, 50, 0xff],
        &[0, 60, 0, 60, 9, 1],
        &[0],
    ] {
        assert_eq!(mended(METHOD, other, usize::MAX), other);
    }
}

/// Lists or tables in each other, the outermost with its type in front.
fn nested(kind: u8, levels: usize) -> Vec<u8> {
    let mut value = Vec::new();
    for _ in 0..levels {
        let name = if kind == b'F' && !value.is_empty() {
            short(b"n")
        } else {
            Vec::new()
        };
        value = [&[kind][..], &long(&[&name[..], &value].concat())].concat();
    }
    value
}

#[test]
fn what_lies_too_deep_becomes_bytes_with_the_same_content() {
    // Goal: as deep as we keep headers nothing changes; below that nothing recurses.
    for kind in [b'A', b'F'] {
        let with = |levels| header(HEADERS, &long(&[short(b"h"), nested(kind, levels)].concat()));
        let kept = with(HEADER_LEVELS_MAX);
        assert_eq!(mended(HEADER, &kept, usize::MAX), kept);
        let deeper = mended(HEADER, &with(HEADER_LEVELS_MAX + 3), usize::MAX);
        let mut value = table(&read(&deeper).expect("readable")).inner()["h"].clone();
        for _ in 0..HEADER_LEVELS_MAX {
            value = match value {
                AMQPValue::FieldArray(list) => list.as_slice()[0].clone(),
                AMQPValue::FieldTable(table) => table.inner()["n"].clone(),
                other => panic!("{other:?}"),
            };
        }
        let content = nested(kind, 2);
        let name = if kind == b'F' { short(b"n") } else { Vec::new() };
        assert_eq!(value, AMQPValue::ByteArray([name, content].concat().into()));
        // 500 levels are more than enough to see that their number does not matter, and quick to build.
        assert!(read(&mended(HEADER, &with(500), usize::MAX)).is_some());
    }
}

#[test]
fn a_list_that_cannot_be_read_becomes_bytes() {
    // Goal: an unknown type inside spoils its list only.
    let list = entry(b"list", b'A', &long(b"Q?"));
    let payload = header(HEADERS, &long(&[list, entry(b"b", b't', &[1])].concat()));
    let headers = table(&read(&mended(HEADER, &payload, usize::MAX)).expect("readable"));
    assert_eq!(
        headers.inner()["list"],
        AMQPValue::ByteArray(b"Q?".to_vec().into())
    );
    assert_eq!(headers.inner()["b"], AMQPValue::Boolean(true));
}

#[test]
fn headers_that_cannot_be_kept_say_why_and_leave_the_broker_s_count() {
    // Goal: too large for the frame agreed on, or of an unknown type: properties before and behind are as they were.
    let large = [
        entry(b"large", b'S', &long(&[b'x'; 500])),
        entry(b"x-delivery-count", b'l', &[0, 0, 0, 0, 0, 0, 0, 3]),
    ];
    let unknown = [
        entry(b"x-delivery-count", b'B', &[3]),
        entry(b"h", b'Q', &[0; 99]),
    ];
    for (headers, bytes_max, reason) in [(large, 400, TOO_LARGE), (unknown, usize::MAX, UNREADABLE)] {
        let properties = [long(&headers.concat()), short(b"id-1"), short(b"a.b")].concat();
        let mended = mended(
            HEADER,
            &header(HEADERS | MESSAGE_ID | TYPE, &properties),
            bytes_max,
        );
        assert!(mended.len() <= bytes_max);
        let read = read(&mended).expect("readable");
        assert_eq!(read.message_id().as_ref().unwrap().as_str(), "id-1");
        assert_eq!(read.kind().as_ref().unwrap().as_str(), "a.b");
        let headers = table(&read);
        assert_eq!(
            headers.inner()[UNREADABLE_HEADER],
            AMQPValue::LongString(reason.into())
        );
        assert!(headers.inner().contains_key("x-delivery-count"), "{headers:?}");
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-zé]{0,12}".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..20),
    ]
}

/// A value with its type, at most that deep.
fn value(levels: u32) -> impl Strategy<Value = Vec<u8>> {
    let sized = |kinds: &'static [u8], bytes: usize| {
        (proptest::sample::select(kinds), vec(any::<u8>(), bytes))
            .prop_map(|(kind, bytes)| [&[kind][..], &bytes].concat())
    };
    let leaf = prop_oneof![
        sized(b"V", 0),
        sized(b"tbB", 1),
        sized(b"sUu", 2),
        sized(b"Iif", 4),
        sized(b"D", 5),
        sized(b"lLdT", 8),
        (proptest::sample::select(&b"Sx"[..]), vec(any::<u8>(), 0..50)).prop_map(|(kind, bytes)| [
            &[kind][..],
            &long(&bytes)
        ]
        .concat()),
    ];
    leaf.prop_recursive(levels, 40, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|list| [&b"A"[..], &long(&list.concat())].concat()),
            vec((name(), inner), 0..3).prop_map(|list| [&b"F"[..], &long(&entries(&list))].concat()),
        ]
    })
}

fn entries(list: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let each = list
        .iter()
        .map(|(name, value)| [&short(name)[..], value].concat());
    each.collect::<Vec<_>>().concat()
}

fn message(levels: u32) -> impl Strategy<Value = Vec<u8>> {
    (vec((name(), value(levels)), 0..4), name(), name()).prop_map(|(headers, id, kind)| {
        let properties = [long(&entries(&headers)), short(&id), short(&kind)].concat();
        header(HEADERS | MESSAGE_ID | TYPE, &properties)
    })
}

proptest! {
    #[test]
    fn whatever_a_producer_writes_can_be_read_then(payload in message(12)) {
        // Goal: lapin reads every repaired header; none is longer, and a second repair changes nothing.
        let once = mended(HEADER, &payload, usize::MAX);
        prop_assert_eq!(once.len(), payload.len());
        prop_assert!(read(&once).is_some());
        prop_assert_eq!(mended(HEADER, &once, usize::MAX), once);
    }

    #[test]
    fn what_lapin_reads_anyway_stays_as_it_is(payload in message(5)) {
        // Goal: no valid message is changed, as long as its headers are no deeper than we keep them.
        if read(&payload).is_some() {
            prop_assert_eq!(mended(HEADER, &payload, usize::MAX), payload);
        }
    }

    #[test]
    fn any_bytes_are_survived(
        kind in 0..9u8,
        payload in vec(any::<u8>(), 0..200),
        bytes_max in 0..300usize,
    ) {
        // Goal: no panic, nothing longer.
        prop_assert!(mended(kind, &payload, bytes_max).len() <= payload.len());
    }
}
