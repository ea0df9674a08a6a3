//! Extractors: request parts into typed values, with every refusal a problem that names what is wrong and where.

mod json;
mod path;
mod query;
mod sign_in;

pub(crate) use json::Json;
pub(crate) use path::Path;
pub(crate) use query::Query;
pub(crate) use sign_in::{AdminCtx, AnyoneCtx, InternalCtx, MasterCtx, bearer, origin};

use serde_path_to_error::Segment;

use crate::problem::FaultResponse;

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
    // Serde reports a missing field at its parent; the pointer should name the field.
    if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        pointer.push('/');
        pointer.push_str(field);
    }
    FaultResponse { pointer, message: message.to_owned() }
}
