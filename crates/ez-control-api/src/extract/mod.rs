//! Extractors: request parts into typed values, with every refusal a problem that names what is wrong and where.

mod json;
mod no_body;
mod path;
mod query;
mod sign_in;
mod wishes;

pub(crate) use json::{Json, OptionalJson};
pub(crate) use no_body::NoBody;
pub(crate) use path::Path;
pub(crate) use query::Query;
pub(crate) use sign_in::{AdminCtx, AnyoneCtx, InternalCtx, MasterCtx, bearer, origin};
pub(crate) use wishes::Wishes;

use serde_path_to_error::Segment;

use crate::problem::FaultResponse;

/// What the standard library says of a text that is no number.
const UNREADABLE_NUMBERS: &[&str] = &[
    "invalid digit found in string",
    "cannot parse integer from empty string",
    "number too large to fit in target type",
    "number too small to fit in target type",
];

/// The fault behind a value that does not fit its type, with a JSON pointer to it.
fn fault_of(path: &serde_path_to_error::Path, message: &str) -> FaultResponse {
    let mut pointer = String::new();
    for segment in path.iter() {
        let token = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.replace('~', "~0").replace('/', "~1"),
            Segment::Enum { variant } => variant.clone(),
            Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&token);
    }
    // Serde reports these at the parent; the pointer should name the field.
    let named = ["missing field `", "duplicate field `"].iter().find_map(|words| message.strip_prefix(words));
    if let Some(field) = named.and_then(|rest| rest.strip_suffix('`')) {
        pointer.push('/');
        pointer.push_str(field);
    }
    FaultResponse { pointer, message: in_our_words(message) }
}

/// Types of the programming language, and its words on numbers, do not say what is wanted.
fn in_our_words(message: &str) -> String {
    if UNREADABLE_NUMBERS.contains(&message) {
        return "must be a whole number in the range of this parameter".to_owned();
    }
    let (fault, expected) = message.rsplit_once("expected ").unwrap_or((message, ""));
    let range = match expected {
        "u32" => "0 to 4294967295",
        "i32" => "-2147483648 to 2147483647",
        "u64" => "0 to 18446744073709551615",
        "i64" => "-9223372036854775808 to 9223372036854775807",
        _ => return message.to_owned(),
    };
    format!("{fault}expected a whole number from {range}")
}
