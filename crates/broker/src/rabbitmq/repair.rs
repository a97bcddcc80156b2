//! Frames that lapin's parser would end the connection over, or the process, made harmless. Pure.
//!
//! The broker looks neither at the text in a message's properties nor at how deep its headers are nested. lapin ends the whole
//! connection over a string that is not UTF-8, and overflows its stack on some thousand levels: the message comes again on
//! the next connection, so one bad producer would stop all consumers for good (measured). So:
//! - bytes that are no UTF-8 become [`SUBSTITUTE`], in properties, names of headers and routing keys;
//! - lists and tables that lie too deep become byte arrays, with the same content;
//! - headers that cannot be read, or that make a frame too large (the broker adds some on the way), are replaced by one that
//!   says so, [`UNREADABLE_HEADER`].
//!
//! Everything is done in place, and nothing gets longer.

use std::ops::Range;

use hooklane_types::header_value::HEADER_LEVELS_MAX;

use crate::port::{SUBSTITUTE, UNREADABLE_HEADER};

/// Frame types of AMQP 0-9-1.
pub(crate) const METHOD: u8 = 1;
pub(crate) const HEADER: u8 = 2;
pub(crate) const BODY: u8 = 3;
pub(crate) const HEARTBEAT: u8 = 8;

const BASIC: u16 = 60;
const RETURN: u16 = 50;
const DELIVER: u16 = 60;
const GET_OK: u16 = 71;
/// The one header of the broker's that we judge by.
const DELIVERY_COUNT: &[u8] = b"x-delivery-count";
const TOO_LARGE: &str = "the headers are too large for a frame";
const UNREADABLE: &str = "the headers cannot be read";

/// What properties are, in the order of their flags from the highest bit on.
const PROPERTIES: [Property; 14] = {
    use Property::{Headers, Octet, Text, Timestamp};
    [
        Text, Text, Headers, Octet, Octet, Text, Text, Text, Text, Timestamp, Text, Text, Text, Text,
    ]
};

#[derive(Clone, Copy)]
enum Property {
    Text,
    Headers,
    Octet,
    Timestamp,
}

/// Mends the payload of a whole method or header frame of at most `bytes_max` bytes. What comes back is its new length. What
/// does not read as AMQP is left as it is: the parser shall judge it.
pub(crate) fn mend(kind: u8, payload: &mut [u8], bytes_max: usize) -> usize {
    match kind {
        METHOD => {
            mend_method(payload);
            payload.len()
        }
        HEADER => mend_header(payload, bytes_max),
        _ => payload.len(),
    }
}

fn mend_method(payload: &mut [u8]) -> Option<()> {
    let mut walk = Walk::over(payload);
    if walk.u16()? != BASIC {
        return Some(());
    }
    match walk.u16()? {
        RETURN => {
            walk.skip(2)?;
            walk.text()?;
        }
        DELIVER => {
            walk.text()?;
            // Delivery tag, redelivered.
            walk.skip(9)?;
        }
        GET_OK => walk.skip(9)?,
        _ => return Some(()),
    }
    // Exchange, routing key.
    walk.text()?;
    walk.text()
}

fn mend_header(payload: &mut [u8], bytes_max: usize) -> usize {
    let length = payload.len();
    let Some(found) = read_properties(payload) else {
        return length;
    };
    let detail = match (found.is_readable, length > bytes_max) {
        (true, false) => return length,
        (false, _) => UNREADABLE,
        (true, true) => TOO_LARGE,
    };
    let count = found.delivery_count.map(|range| payload[range].to_vec());
    let table = replacement(detail, count.as_deref().unwrap_or_default());
    let Range { start, end } = found.headers;
    if table.len() > end - start {
        // Not to be seen from a broker: it reads the headers of what it takes.
        return length;
    }
    payload[start..start + table.len()].copy_from_slice(&table);
    payload.copy_within(end.., start + table.len());
    length - (end - start - table.len())
}

/// A table with its length: our header, and the entry given.
fn replacement(detail: &str, entry: &[u8]) -> Vec<u8> {
    let mut table = vec![0; 4];
    let short = |text: &str| u8::try_from(text.len()).unwrap_or(u8::MAX);
    table.push(short(UNREADABLE_HEADER));
    table.extend_from_slice(UNREADABLE_HEADER.as_bytes());
    table.extend_from_slice(&[b'S', 0, 0, 0, short(detail)]);
    table.extend_from_slice(detail.as_bytes());
    table.extend_from_slice(entry);
    let bytes = u32::try_from(table.len() - 4).unwrap_or(u32::MAX);
    table[..4].copy_from_slice(&bytes.to_be_bytes());
    table
}

/// What was found in a content header.
#[derive(Default)]
struct Found {
    /// The table of headers, with its length.
    headers: Range<usize>,
    is_readable: bool,
    /// The broker's own entry in it.
    delivery_count: Option<Range<usize>>,
}

/// Walks over the properties, and mends their texts. `None` if this is no content header.
fn read_properties(payload: &mut [u8]) -> Option<Found> {
    let mut walk = Walk::over(payload);
    // Class, weight, body size.
    walk.skip(12)?;
    let flags = walk.u16()?;
    let mut found = Found {
        is_readable: true,
        ..Found::default()
    };
    for (place, property) in PROPERTIES.into_iter().enumerate() {
        if flags & (0x8000 >> place) == 0 {
            continue;
        }
        match property {
            Property::Text => walk.text()?,
            Property::Octet => walk.skip(1)?,
            Property::Timestamp => walk.skip(8)?,
            Property::Headers => {
                let start = walk.at;
                let content = walk.long()?;
                found.headers = start..content.end;
                found.is_readable = walk.table(content, 0, &mut found.delivery_count).is_some();
                walk.at = found.headers.end;
            }
        }
    }
    Some(found)
}

/// A place in a payload, and how far it may go.
struct Walk<'a> {
    bytes: &'a mut [u8],
    at: usize,
    end: usize,
}

impl Walk<'_> {
    fn over(bytes: &mut [u8]) -> Walk<'_> {
        let end = bytes.len();
        Walk { bytes, at: 0, end }
    }

    fn take(&mut self, bytes: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(bytes).filter(|end| *end <= self.end)?;
        let taken = self.at..end;
        self.at = end;
        Some(taken)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.take(bytes).map(drop)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|range| self.bytes[range.start])
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    /// What stands behind a length of four bytes.
    fn long(&mut self) -> Option<Range<usize>> {
        let length = self.take(4)?;
        let length: [u8; 4] = self.bytes[length].try_into().ok()?;
        self.take(usize::try_from(u32::from_be_bytes(length)).ok()?)
    }

    /// A text of at most 255 bytes, mended.
    fn text(&mut self) -> Option<()> {
        let length = self.u8()?;
        let text = self.take(length.into())?;
        substitute(&mut self.bytes[text]);
        Some(())
    }

    /// The entries of a table; `level` tells how deep they lie.
    fn table(
        &mut self,
        content: Range<usize>,
        level: usize,
        delivery_count: &mut Option<Range<usize>>,
    ) -> Option<()> {
        self.within(content, |walk| {
            let start = walk.at;
            walk.text()?;
            let is_count = level == 0 && walk.bytes[start + 1..walk.at] == *DELIVERY_COUNT;
            walk.value(level + 1)?;
            if is_count {
                *delivery_count = Some(start..walk.at);
            }
            Some(())
        })
    }

    fn value(&mut self, level: usize) -> Option<()> {
        let kind_at = self.at;
        match self.u8()? {
            b'V' => Some(()),
            b't' | b'b' | b'B' => self.skip(1),
            b's' | b'U' | b'u' => self.skip(2),
            b'I' | b'i' | b'f' => self.skip(4),
            b'D' => self.skip(5),
            b'l' | b'L' | b'd' | b'T' => self.skip(8),
            b'S' | b'x' => self.long().map(drop),
            kind @ (b'A' | b'F') => {
                let content = self.long()?;
                let is_readable = level <= HEADER_LEVELS_MAX
                    && match kind {
                        b'F' => self.table(content, level, &mut None),
                        _ => self.within(content, |walk| walk.value(level + 1)),
                    }
                    .is_some();
                if !is_readable {
                    // The same form: a length of four bytes, and bytes.
                    self.bytes[kind_at] = b'x';
                }
                Some(())
            }
            _ => None,
        }
    }

    /// Reads one thing after the other until the content is used up. Behind it the walk goes on in any case.
    fn within(&mut self, content: Range<usize>, mut read: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        let end = std::mem::replace(&mut self.end, content.end);
        self.at = content.start;
        let mut read_all = Some(());
        while read_all.is_some() && self.at < self.end {
            read_all = read(self);
        }
        self.at = content.end;
        self.end = end;
        read_all
    }
}

fn substitute(mut text: &mut [u8]) {
    while let Err(error) = std::str::from_utf8(text) {
        let (_, bad) = text.split_at_mut(error.valid_up_to());
        let (bad, rest) = bad.split_at_mut(error.error_len().unwrap_or(bad.len()));
        bad.fill(SUBSTITUTE);
        text = rest;
    }
}

#[cfg(test)]
mod tests;
