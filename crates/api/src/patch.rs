//! Fields of a PATCH.

use serde::{Deserialize, Deserializer};

/// A field that may be missing, `null`, or given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Field<T> {
    /// What is there stays.
    #[default]
    Missing,
    /// It is taken away.
    Null,
    /// It is replaced.
    Given(T),
}

impl<T> Field<T> {
    /// What is there afterwards.
    pub(crate) fn or<U: From<T>>(self, there: Option<U>) -> Option<U> {
        match self {
            Field::Missing => there,
            Field::Null => None,
            Field::Given(value) => Some(value.into()),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Field<T>, D::Error> {
        let given = Option::<T>::deserialize(deserializer)?;
        Ok(given.map_or(Field::Null, Field::Given))
    }
}

/// For a field that may be missing, but not `null`: `Option` would take `null` for missing.
pub(crate) fn not_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
