//! As much of RFC 1035 as a scripted server needs: one question in, address records out.

use std::net::IpAddr;

use super::{Answer, RecordType};

const HEADER_BYTES: usize = 12;
const CLASS_IN: u16 = 1;
/// QR (an answer), AA (authoritative), RA (recursion available).
const FLAGS_ANSWER: u16 = 0x8480;
const RECURSION_DESIRED: u16 = 0x0100;
const SERVER_FAILURE: u16 = 2;
const NO_SUCH_NAME: u16 = 3;
/// A pointer to the name in the question, which begins right after the header.
const NAME_OF_QUESTION: u16 = 0xC000 | HEADER_BYTES as u16;

pub(super) struct Query {
    id: u16,
    flags: u16,
    /// As it was sent: resolvers compare its letter case.
    question: Vec<u8>,
    pub(super) name: String,
    pub(super) record: RecordType,
}

pub(super) fn parse(datagram: &[u8]) -> Option<Query> {
    let (header, rest) = datagram.split_at_checked(HEADER_BYTES)?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (id, flags, questions) = (word(0), word(2), word(4));
    if flags & 0x8000 != 0 || questions != 1 {
        return None;
    }
    let mut labels = Vec::new();
    let mut at = 0;
    loop {
        let length = usize::from(*rest.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(
            std::str::from_utf8(rest.get(at..at + length)?)
                .ok()?
                .to_ascii_lowercase(),
        );
        at += length;
    }
    let record = match u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?) {
        1 => RecordType::A,
        28 => RecordType::Aaaa,
        other => RecordType::Other(other),
    };
    Some(Query {
        id,
        flags,
        question: rest.get(..at + 4)?.to_vec(),
        name: labels.join("."),
        record,
    })
}

pub(super) fn reply(query: &Query, answer: &Answer) -> Option<Vec<u8>> {
    let (code, addresses, ttl_s) = match answer {
        Answer::Silence => return None,
        Answer::ServerFailure => (SERVER_FAILURE, &[][..], 0),
        Answer::NoSuchName => (NO_SUCH_NAME, &[][..], 0),
        Answer::Addresses { addresses, ttl_s } => (0, &addresses[..], *ttl_s),
    };
    let records: Vec<Vec<u8>> = addresses
        .iter()
        .filter_map(|address| record(query.record, *address, ttl_s))
        .collect();
    let mut reply = Vec::new();
    let flags = FLAGS_ANSWER | (query.flags & RECURSION_DESIRED) | code;
    for word in [query.id, flags, 1, u16::try_from(records.len()).ok()?, 0, 0] {
        reply.extend(word.to_be_bytes());
    }
    reply.extend(&query.question);
    reply.extend(records.concat());
    Some(reply)
}

fn record(asked: RecordType, address: IpAddr, ttl_s: u32) -> Option<Vec<u8>> {
    let (number, data) = match (asked, address) {
        (RecordType::A, IpAddr::V4(address)) => (1_u16, address.octets().to_vec()),
        (RecordType::Aaaa, IpAddr::V6(address)) => (28, address.octets().to_vec()),
        _ => return None,
    };
    let mut record = Vec::new();
    record.extend(NAME_OF_QUESTION.to_be_bytes());
    record.extend(number.to_be_bytes());
    record.extend(CLASS_IN.to_be_bytes());
    record.extend(ttl_s.to_be_bytes());
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    Some(record)
}
