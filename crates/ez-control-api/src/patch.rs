//! The three things that a change can say of a field: nothing, clear it, set it.

use serde::{Deserialize, Deserializer};

/// A field of a PUT that may be cleared: absent leaves it alone, `null` clears it. Needs `#[serde(default)]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Patch<T> {
    /// The field is not in the request.
    #[default]
    Absent,
    /// It is `null`.
    Clear,
    /// It has a value.
    Set(T),
}

impl<T> Patch<T> {
    /// Converts the value, where there is one.
    pub(crate) fn map<U>(self, convert: impl FnOnce(T) -> U) -> Patch<U> {
        match self {
            Self::Absent => Patch::Absent,
            Self::Clear => Patch::Clear,
            Self::Set(value) => Patch::Set(convert(value)),
        }
    }
}

/// As the rules take it: `None` leaves the field alone, `Some(None)` clears it.
impl<T> From<Patch<T>> for Option<Option<T>> {
    fn from(patch: Patch<T>) -> Self {
        match patch {
            Patch::Absent => None,
            Patch::Clear => Some(None),
            Patch::Set(value) => Some(Some(value)),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|value| value.map_or(Self::Clear, Self::Set))
    }
}

/// Reads a field of a PUT that cannot be cleared: absent leaves it alone, `null` is refused where plain `Option` would
/// silently ignore it. Needs `#[serde(default)]` beside it.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Change {
        #[serde(default)]
        clearable: Patch<u32>,
        #[serde(default, deserialize_with = "present")]
        required: Option<u32>,
    }

    #[test]
    fn absent_null_and_a_value_differ() {
        let read = |text: &str| serde_json::from_str::<Change>(text);
        assert_eq!(read("{}").unwrap(), Change { clearable: Patch::Absent, required: None });
        assert_eq!(read(r#"{"clearable":null}"#).unwrap().clearable, Patch::Clear);
        assert_eq!(
            read(r#"{"clearable":1,"required":2}"#).unwrap(),
            Change { clearable: Patch::Set(1), required: Some(2) }
        );
        assert!(read(r#"{"required":null}"#).is_err());
    }
}
