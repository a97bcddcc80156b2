//! Fields of a PATCH.

use schemars::{JsonSchema, Schema, SchemaGenerator};
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

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

/// For a field that may be missing, but not `null`: `Option` would take `null` for missing.
pub(crate) fn not_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
