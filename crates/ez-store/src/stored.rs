//! How a value of a record is kept in a column: the few column types are text, 64-bit integer, boolean and JSON.

use chrono::{DateTime, Utc};
use ez_contract::TokenDigest;
use ez_contract::alerts::{AlertSeverity, AlertType};
use ez_contract::capability::CapabilityOverrides;
use ez_contract::models::ModelKind;
use ez_contract::provider::{Protocol, ProviderType};
use ez_contract::request_body::BodyEncoding;
use ez_contract::selector::SelectorType;
use ez_contract::snapshot::ClientGone;
use ez_contract::status::{ApiKeyStatus, KeyStatus, RecordStatus};
use ez_contract::usage::{EndedBy, UsageSource};
use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::error::StoreError;
use crate::words::{ActorKind, AlertStatus, DeliveryStatus, FlushKind, IssuedBy, QuotaReset, RecordKind};

/// A value that a column holds in the form `Column`, the same on both databases.
pub(crate) trait Stored: Sized {
    /// The column's type.
    type Column;

    /// The column's value.
    fn store(&self) -> Self::Column;

    /// Reads the column's value, or says why it is none.
    fn load(column: Self::Column) -> Result<Self, String>;
}

/// The column type of a field type. An alias, because SeaORM's derive cannot read a qualified path.
pub(crate) type ColumnOf<T> = <T as Stored>::Column;

/// Loads a column, naming it when it cannot be read.
pub(crate) fn load<T: Stored>(
    table: &'static str,
    column: &str,
    id: &dyn std::fmt::Display,
    value: T::Column,
) -> Result<T, StoreError> {
    T::load(value).map_err(|reason| StoreError::Corrupt {
        table,
        column: column.to_owned(),
        id: id.to_string(),
        reason,
    })
}

impl Stored for String {
    type Column = String;

    fn store(&self) -> String {
        // PostgreSQL's text cannot hold NUL, and one such byte in an error text must not block a batch of records.
        self.replace('\0', "\u{fffd}")
    }

    fn load(column: String) -> Result<Self, String> {
        Ok(column)
    }
}

impl Stored for bool {
    type Column = bool;

    fn store(&self) -> bool {
        *self
    }

    fn load(column: bool) -> Result<Self, String> {
        Ok(column)
    }
}

/// Integers are 64-bit signed in the database; what does not fit there (no real count does) is kept as the highest.
macro_rules! stored_integers {
    ($($integer:ty),+) => {$(
        impl Stored for $integer {
            type Column = i64;

            fn store(&self) -> i64 {
                i64::try_from(*self).unwrap_or(i64::MAX)
            }

            fn load(column: i64) -> Result<Self, String> {
                <$integer>::try_from(column).map_err(|_| format!("{column} is out of range"))
            }
        }
    )+};
}

stored_integers!(i32, i64, u16, u32, u64);

/// Microseconds since the Unix epoch: exact, ordered and computable alike on both databases, where a time column is
/// text on one of them.
impl Stored for DateTime<Utc> {
    type Column = i64;

    fn store(&self) -> i64 {
        self.timestamp_micros()
    }

    fn load(column: i64) -> Result<Self, String> {
        Self::from_timestamp_micros(column).ok_or_else(|| format!("{column} is no time in microseconds"))
    }
}

/// Types that are kept as the text that they are displayed as.
macro_rules! stored_texts {
    ($($text:ty),+) => {$(
        impl Stored for $text {
            type Column = String;

            fn store(&self) -> String {
                self.to_string()
            }

            fn load(column: String) -> Result<Self, String> {
                column.parse().map_err(|error: <$text as std::str::FromStr>::Err| error.to_string())
            }
        }
    )+};
}

stored_texts!(
    RecordStatus,
    KeyStatus,
    ApiKeyStatus,
    ProviderType,
    Protocol,
    SelectorType,
    EndedBy,
    UsageSource,
    ClientGone,
    BodyEncoding
);
stored_texts!(RecordKind, ActorKind, FlushKind, IssuedBy, QuotaReset, TokenDigest, Uuid, ModelKind, Decimal);
stored_texts!(AlertType, AlertSeverity, AlertStatus, DeliveryStatus);

impl<T: Stored> Stored for Option<T> {
    type Column = Option<T::Column>;

    fn store(&self) -> Option<T::Column> {
        self.as_ref().map(T::store)
    }

    fn load(column: Option<T::Column>) -> Result<Self, String> {
        column.map(T::load).transpose()
    }
}

impl<T: Stored<Column = String>> Stored for Vec<T> {
    type Column = Json;

    fn store(&self) -> Json {
        self.iter().map(T::store).collect()
    }

    fn load(column: Json) -> Result<Self, String> {
        let texts: Vec<String> = serde_json::from_value(column).map_err(|error| error.to_string())?;
        texts.into_iter().map(T::load).collect()
    }
}

impl Stored for Json {
    type Column = Json;

    fn store(&self) -> Json {
        self.clone()
    }

    fn load(column: Json) -> Result<Self, String> {
        Ok(column)
    }
}

/// Nothing said is kept as `NULL`, as in rows from before the column.
impl Stored for CapabilityOverrides {
    type Column = Option<Json>;

    fn store(&self) -> Option<Json> {
        (!self.is_empty()).then(|| self.fields().clone().into())
    }

    fn load(column: Option<Json>) -> Result<Self, String> {
        let Some(column) = column else { return Ok(Self::default()) };
        serde_json::from_value(column).map_err(|error| error.to_string())
    }
}
