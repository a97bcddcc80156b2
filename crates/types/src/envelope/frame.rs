//! `magic (2) | version (1) | head length (4, big endian) | head (postcard) | payload`.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{EnvelopeError, VERSION};

/// Magic, version and head length.
const PREFIX_BYTES: usize = 7;

/// What begins with these two bytes, is of today's version, and holds these two parts.
pub(crate) fn write(magic: [u8; 2], head: &impl Serialize, payload: &[u8]) -> Bytes {
    // Heads hold only types whose serialisation cannot fail (no maps of unknown length, no custom errors).
    let head = postcard::to_stdvec(head).expect("a head of plain data serialises");
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + head.len() + payload.len());
    bytes.put_slice(&magic);
    bytes.put_u8(VERSION);
    bytes.put_u32(head.len() as u32);
    bytes.put_slice(&head);
    bytes.put_slice(payload);
    bytes.freeze()
}

/// Reads both parts; the payload shares memory with `bytes`.
pub(crate) fn read<T: DeserializeOwned>(magic: [u8; 2], bytes: Bytes) -> Result<(T, Bytes), EnvelopeError> {
    let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(EnvelopeError::NotOurs);
    };
    let [m0, m1, version, l0, l1, l2, l3] = *prefix;
    if [m0, m1] != magic {
        return Err(EnvelopeError::NotOurs);
    }
    check_version(version)?;
    let head_bytes = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    if bytes.len() - PREFIX_BYTES < head_bytes {
        return Err(EnvelopeError::Broken(format!(
            "a head of {head_bytes} bytes does not fit"
        )));
    }
    let payload_at = PREFIX_BYTES + head_bytes;
    let (head, rest) = postcard::take_from_bytes::<T>(&bytes[PREFIX_BYTES..payload_at])
        .map_err(|error| EnvelopeError::Broken(error.to_string()))?;
    if !rest.is_empty() {
        return Err(EnvelopeError::Broken(format!(
            "{} bytes after the head",
            rest.len()
        )));
    }
    Ok((head, bytes.slice(payload_at..)))
}

pub(crate) fn check_version(version: u8) -> Result<(), EnvelopeError> {
    match version {
        0 => Err(EnvelopeError::Broken("version 0 does not exist".to_owned())),
        VERSION => Ok(()),
        version => Err(EnvelopeError::Newer { version }),
    }
}
