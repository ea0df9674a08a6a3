//! Times as clients may give them: RFC 3339 or Unix seconds.

use std::fmt;

use chrono::{DateTime, Datelike, SubsecRound, Utc};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
use utoipa::openapi::{ObjectBuilder, OneOfBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// A time in a request: an RFC 3339 text, or whole seconds since 1970-01-01T00:00:00Z. It has the microseconds that the
/// database keeps and nothing finer, so that what is answered at once and what is read later are the same, with one tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timestamp(pub(crate) DateTime<Utc>);

impl From<Timestamp> for DateTime<Utc> {
    fn from(time: Timestamp) -> Self {
        time.0
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimestampVisitor)
    }
}

impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("RFC 3339"));
        let seconds = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .description(Some("Unix seconds"));
        OneOfBuilder::new().item(text).item(seconds).description(Some("A time, UTC.")).into()
    }
}

impl ToSchema for Timestamp {}

struct TimestampVisitor;

impl Visitor<'_> for TimestampVisitor {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time as RFC 3339 (2026-01-31T12:00:00Z) or Unix seconds")
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Timestamp, E> {
        DateTime::from_timestamp(seconds, 0)
            .and_then(writable)
            .ok_or_else(|| E::custom(format!("`{seconds}` is out of range: write Unix seconds of the years 0 to 9999")))
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Timestamp, E> {
        self.visit_i64(i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Timestamp, E> {
        // In a query both forms come as text.
        if let Ok(seconds) = text.parse() {
            return self.visit_i64(seconds);
        }
        let time = DateTime::parse_from_rfc3339(text).ok().and_then(|time| writable(time.to_utc()));
        time.ok_or_else(|| {
            E::custom(format!("`{text}` is no time: write RFC 3339 (2026-01-31T12:00:00Z) or Unix seconds"))
        })
    }
}

/// A time that can be answered with again: RFC 3339 has four digits for the year.
fn writable(time: DateTime<Utc>) -> Option<Timestamp> {
    (0..=9999).contains(&time.year()).then_some(Timestamp(time.trunc_subsecs(6)))
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn both_forms_mean_the_same_moment() {
        let read = |json: &str| serde_json::from_str::<Timestamp>(json).map(|time| time.0.timestamp());
        for form in ["1767139200", "\"1767139200\"", "\"2025-12-31T00:00:00Z\"", "\"2025-12-31T01:00:00+01:00\""] {
            assert_eq!(read(form).unwrap(), 1_767_139_200, "{form}");
        }
        assert_eq!(read("253402300799").unwrap(), 253_402_300_799);
        let fine = serde_json::from_str::<Timestamp>("\"2025-12-31T00:00:00.123456789Z\"").unwrap();
        assert_eq!(fine.0.timestamp_subsec_nanos(), 123_456_000, "no finer than it is kept");
        let year_10000 = ["253402300800", "\"9999-12-31T23:30:00-01:00\"", "-99999999999"];
        for bad in ["\"soon\"", "true", "1.5", "99999999999999999"].into_iter().chain(year_10000) {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
