//! Reading sequences of hostile length.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

/// Reads a sequence into a vector that grows with what is really there. Serde's own reserves room by the length that
/// stands in front, up to a megabyte for each of the sequences that lie in each other.
pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(Growing(PhantomData))
}

struct Growing<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Growing<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use serde::de::value::{Error, SeqDeserializer};

    use super::*;

    /// Three numbers that pretend to be a million.
    struct Boasting(u8);

    impl Iterator for Boasting {
        type Item = u8;

        fn next(&mut self) -> Option<u8> {
            self.0 = self.0.checked_sub(1)?;
            Some(self.0)
        }

        fn size_hint(&self) -> (usize, Option<usize>) {
            (1_000_000, Some(1_000_000))
        }
    }

    #[test]
    fn room_is_taken_by_what_is_there_and_not_by_what_is_announced() {
        let items: Vec<u8> = deserialize(SeqDeserializer::<_, Error>::new(Boasting(3))).unwrap();
        assert_eq!(items, [2, 1, 0]);
        assert!(items.capacity() < 100);
    }
}
