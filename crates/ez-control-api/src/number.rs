//! Numbers of requests: whole ones within a range that the answer names, and amounts of money kept exact.

use std::fmt;

use ez_control::limits::MAX_COUNT;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A whole number from 0 to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole<const MAX: u64>(pub(crate) u64);

/// A limit of calls or tokens.
pub(crate) type Count = Whole<MAX_COUNT>;

/// An amount of money as it was written, be it as a JSON string or as a number: it never becomes a float. Whether it is an
/// amount is for the rules to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Amount(pub(crate) String);

/// The number in it.
impl<const MAX: u64> From<Whole<MAX>> for u64 {
    fn from(number: Whole<MAX>) -> Self {
        number.0
    }
}

impl<'de, const MAX: u64> Deserialize<'de> for Whole<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(Range::<MAX>).map(Self)
    }
}

/// Takes a number within the range, and names the range where it is none.
struct Range<const MAX: u64>;

impl<const MAX: u64> Visitor<'_> for Range<MAX> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from 0 to {MAX}")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        if number <= MAX { Ok(number) } else { Err(E::invalid_value(Unexpected::Unsigned(number), &self)) }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        Err(E::invalid_value(Unexpected::Signed(number), &self))
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str(text).map(Self).map_err(Error::custom),
            Some(b'-' | b'0'..=b'9') => Ok(Self(text.to_owned())),
            _ => Err(Error::custom("must be an amount of US dollars, as a string or a number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_is_within_its_range() {
        let read = |text: &str| serde_json::from_str::<Whole<10>>(text).map_err(|error| error.to_string());
        assert_eq!(read("0").map(u64::from), Ok(0));
        assert_eq!(read("10").map(u64::from), Ok(10));
        for wrong in ["11", "-1", "1.0", "1e1", "\"1\"", "null", "18446744073709551616"] {
            let told = read(wrong).unwrap_err();
            assert!(told.contains("expected a whole number from 0 to 10"), "{wrong}: {told}");
        }
    }

    #[test]
    fn an_amount_keeps_its_digits() {
        let read = |text: &str| serde_json::from_str::<Amount>(text).map(|amount| amount.0);
        let exact = "123456789012345678901234567890.10";
        assert_eq!(read(exact).unwrap(), exact);
        assert_eq!(read(&format!("\"{exact}\"")).unwrap(), exact);
        assert_eq!(read("\"\\u0031\"").unwrap(), "1");
        assert_eq!(read("-1").unwrap(), "-1");
        for wrong in ["true", "null", "[1]", "{}"] {
            assert!(read(wrong).unwrap_err().to_string().starts_with("must be an amount"), "{wrong}");
        }
    }
}
