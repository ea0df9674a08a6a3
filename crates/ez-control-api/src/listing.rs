//! Lists: pages of configuration, and cursors through what grows without bound.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::DateTime;
use ez_contract::TokenDigest;
use ez_store::alerts::AlertCursor;
use ez_store::logs::LogCursor;
use ez_store::{Page, Paged, Sort, SortField};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};

use crate::problem::{ApiError, FaultResponse};

/// How many items a list answers with where the caller does not say.
pub(crate) const DEFAULT_LIMIT: u64 = 20;
/// How many items a list answers with at most.
pub(crate) const MAX_LIMIT: u64 = 200;

/// Defines the query parameters of a list of configuration: its own filters beside `page`, `limit`, `search` and `sort`.
/// Written out by a macro, because serde cannot refuse unknown parameters of a flattened struct.
macro_rules! list_query {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default, serde::Deserialize, utoipa::IntoParams)]
        #[serde(deny_unknown_fields, default)]
        #[into_params(parameter_in = Query)]
        pub(crate) struct $name {
            /// Which page, from 1.
            #[param(minimum = 1)]
            page: Option<u64>,
            /// Items on a page.
            #[param(minimum = 1, maximum = 200)]
            limit: Option<u64>,
            /// Only records with this in their name (or another text that they are known by), in any case of letters.
            search: Option<String>,
            /// `id` (the default), `name`, `created_at` or `updated_at`; with a leading `-` highest first.
            #[param(value_type = Option<$crate::listing::SortParameter>)]
            sort: Option<$crate::listing::SortParameter>,
            $($(#[$field_doc])* $field: Option<$ty>,)*
        }

        impl $name {
            fn listing(&self) -> Result<$crate::listing::Listing, $crate::problem::ApiError> {
                $crate::listing::Listing::new(self.page, self.limit, self.sort)
            }

            fn search(&self) -> Option<String> {
                self.search.clone().filter(|term| !term.is_empty())
            }
        }
    };
}
pub(crate) use list_query;

/// Which part of a list of configuration to answer with, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listing {
    /// From 1.
    pub(crate) page: u64,
    /// From 1 to [`MAX_LIMIT`].
    pub(crate) limit: u64,
    pub(crate) sort: Sort,
}

/// The `sort` parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SortParameter(Sort);

/// A page of a list of configuration.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Page)]
pub(crate) struct PageResponse<T> {
    /// The records of the page.
    pub(crate) items: Vec<T>,
    /// Which page this is, from 1.
    pub(crate) page: u64,
    /// Records on a full page.
    pub(crate) limit: u64,
    /// Records on all pages.
    pub(crate) total: u64,
}

/// A stretch of a list that grows without bound, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stretch)]
pub(crate) struct StretchResponse<T> {
    /// The records.
    pub(crate) items: Vec<T>,
    /// What to give as `cursor` for the next stretch; `null` at the end.
    pub(crate) next_cursor: Option<String>,
}

impl Listing {
    pub(crate) fn new(page: Option<u64>, limit: Option<u64>, sort: Option<SortParameter>) -> Result<Self, ApiError> {
        let page = page.unwrap_or(1);
        let mut faults = limit_fault(limit);
        // The store counts rows in signed 64 bits.
        if page == 0 || page > i64::MAX as u64 / MAX_LIMIT {
            let message = "page must be 1 or more, and within reason".to_owned();
            faults.push(FaultResponse { pointer: "/page".to_owned(), message });
        }
        if !faults.is_empty() {
            return Err(ApiError::invalid(faults));
        }
        Ok(Self { page, limit: limit.unwrap_or(DEFAULT_LIMIT), sort: sort.map_or_else(Sort::default, |sort| sort.0) })
    }

    pub(crate) fn rows(&self) -> Page {
        Page { offset: (self.page - 1) * self.limit, limit: self.limit }
    }

    pub(crate) fn answer<R, T: From<R>>(&self, found: Paged<R>) -> PageResponse<T> {
        PageResponse {
            items: found.items.into_iter().map(T::from).collect(),
            page: self.page,
            limit: self.limit,
            total: found.total,
        }
    }
}

/// What `sort` may be, as the document lists it.
const ORDERS: [&str; 8] = ["id", "-id", "name", "-name", "created_at", "-created_at", "updated_at", "-updated_at"];

impl utoipa::PartialSchema for SortParameter {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(ORDERS)).into()
    }
}

impl ToSchema for SortParameter {
    fn name() -> std::borrow::Cow<'static, str> {
        "Sort".into()
    }
}

impl<'de> Deserialize<'de> for SortParameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (word, descending) = text.strip_prefix('-').map_or((text.as_str(), false), |word| (word, true));
        let by = match word {
            "id" => SortField::Id,
            "name" => SortField::Name,
            "created_at" => SortField::CreatedAt,
            "updated_at" => SortField::UpdatedAt,
            _ => {
                let message = format!("`{text}` is no order: use id, name, created_at or updated_at, or -id and so on");
                return Err(serde::de::Error::custom(message));
            }
        };
        Ok(Self(Sort { by, descending }))
    }
}

/// The limit of a cursor list, checked.
pub(crate) fn stretch_limit(limit: Option<u64>) -> Result<u64, ApiError> {
    let faults = limit_fault(limit);
    if faults.is_empty() { Ok(limit.unwrap_or(DEFAULT_LIMIT)) } else { Err(ApiError::invalid(faults)) }
}

/// The cursor after this log record.
pub(crate) fn encode_log_cursor(cursor: &LogCursor) -> String {
    encode(&format!("log:{}:{}", cursor.created_at.timestamp_micros(), cursor.id))
}

/// Errors: 422 where the text is not what [`encode_log_cursor`] makes.
pub(crate) fn decode_log_cursor(text: &str) -> Result<LogCursor, ApiError> {
    let decode = || {
        let place = decode(text, "log:")?;
        let (micros, id) = place.split_once(':')?;
        let created_at = DateTime::from_timestamp_micros(micros.parse().ok()?)?;
        let cursor = LogCursor { created_at, id: id.to_owned() };
        (encode_log_cursor(&cursor) == text).then_some(cursor)
    };
    decode().ok_or_else(unknown_cursor)
}

/// The cursor after this alert.
pub(crate) fn encode_alert_cursor(cursor: &AlertCursor) -> String {
    encode(&format!("alert:{}:{}", cursor.created_at.timestamp_micros(), cursor.id))
}

/// Errors: 422 where the text is not what [`encode_alert_cursor`] makes.
pub(crate) fn decode_alert_cursor(text: &str) -> Result<AlertCursor, ApiError> {
    let decode = || {
        let place = decode(text, "alert:")?;
        let (micros, id) = place.split_once(':')?;
        let created_at = DateTime::from_timestamp_micros(micros.parse().ok()?)?;
        Some(AlertCursor { created_at, id: id.parse().ok()? })
    };
    decode().ok_or_else(unknown_cursor)
}

/// The cursor after this audit entry.
pub(crate) fn encode_id_cursor(id: i64) -> String {
    encode(&format!("id:{id}"))
}

/// Errors: 422 where the text is not what [`encode_id_cursor`] makes.
pub(crate) fn decode_id_cursor(text: &str) -> Result<i64, ApiError> {
    decode(text, "id:").and_then(|id| id.parse().ok()).ok_or_else(unknown_cursor)
}

/// Bytes of the sum before each place, so that half a cursor, or one that was typed, is not taken for another place.
const SUM_CHARS: usize = 8;

fn encode(place: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}{place}", sum(place)))
}

fn sum(place: &str) -> String {
    TokenDigest::of(place).to_string().chars().take(SUM_CHARS).collect()
}

fn decode(text: &str, kind: &str) -> Option<String> {
    let place = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let (given, place) = place.split_at_checked(SUM_CHARS)?;
    if given != sum(place) {
        return None;
    }
    // No id holds a NUL, and not every database takes one in a comparison.
    place.strip_prefix(kind).filter(|place| !place.contains('\0')).map(str::to_owned)
}

fn unknown_cursor() -> ApiError {
    ApiError::invalid_at("/cursor", "this is no cursor of this list: give a next_cursor as it came, or none")
}

fn limit_fault(limit: Option<u64>) -> Vec<FaultResponse> {
    match limit {
        Some(limit) if limit == 0 || limit > MAX_LIMIT => vec![FaultResponse {
            pointer: "/limit".to_owned(),
            message: format!("limit must be from 1 to {MAX_LIMIT}"),
        }],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_start_at_one_and_faults_come_together() {
        let listing = Listing::new(Some(3), Some(50), None).unwrap();
        assert_eq!(listing.rows(), Page { offset: 100, limit: 50 });
        assert!(Listing::new(Some(0), Some(201), None).is_err());
        assert!(Listing::new(Some(u64::MAX), None, None).is_err());
    }

    #[test]
    fn cursors_come_back_as_they_went_and_forged_ones_are_refused() {
        let cursor = LogCursor { created_at: DateTime::from_timestamp_micros(17).unwrap(), id: "a:b".to_owned() };
        assert_eq!(decode_log_cursor(&encode_log_cursor(&cursor)).unwrap(), cursor);
        assert_eq!(decode_id_cursor(&encode_id_cursor(-4)).unwrap(), -4);
        let of_alert = AlertCursor { created_at: cursor.created_at, id: 9 };
        assert_eq!(decode_alert_cursor(&encode_alert_cursor(&of_alert)).unwrap(), of_alert);
        assert!(decode_alert_cursor(&encode_log_cursor(&cursor)).is_err());
        assert!(decode_log_cursor(&encode_id_cursor(1)).is_err());
        let with_nul = encode("log:17:a\0b");
        for forged in ["", "!", "bG9nOg", "bG9nOjE", "aWQ6eA", with_nul.as_str()] {
            assert!(decode_log_cursor(forged).is_err(), "{forged}");
            assert!(decode_id_cursor(forged).is_err(), "{forged}");
            assert!(decode_alert_cursor(forged).is_err(), "{forged}");
        }
        let whole = encode_log_cursor(&cursor);
        for length in 0..whole.len() {
            assert!(decode_log_cursor(&whole[..length]).is_err(), "{length}");
        }
        for unwritten in ["log:017:a", "log:+17:a", "log:17", "log::a", "log:99999999999999999999:a"] {
            assert!(decode_log_cursor(&encode(unwritten)).is_err(), "{unwritten}");
        }
    }
}
