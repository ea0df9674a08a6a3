//! Gemini generateContent: its requests and answers, read and written.
//!
//! Sources: facts/protocols.md, sections 2 to 5 and 10; the types of Google's SDK (`google/genai/types.py`).

mod call_ids;
mod file_types;
mod finish;
mod json_schema;
mod openapi;
mod openapi_node;
mod partial_args;
mod read_answer;
mod read_config;
mod read_parts;
mod read_request;
mod read_tools;
mod read_turns;
mod write_answer;
mod write_config;
mod write_part;
mod write_request;
mod write_response;
mod write_tools;
mod write_turns;

#[cfg(test)]
mod corpus;

pub(super) use json_schema::with_json_schemas;
pub(super) use read_answer::{AnswerReader, read_plain};
pub(super) use read_request::read_request;
pub(super) use write_answer::{AnswerWriter, write_plain};
pub(super) use write_request::write_request;

use crate::json::Escaped;

/// What stands in for a signature where a call has none (Google's documentation of thought signatures); the second word
/// means the same.
const NO_SIGNATURE: [&str; 2] = ["skip_thought_signature_validator", "context_engineering_is_the_way_to_go"];

/// Base64 in the standard alphabet and with padding: proto-JSON takes the alphabet for URLs, too, and Google's SDK for
/// Python writes it.
fn standard_base64(data: Escaped<'_>) -> Escaped<'_> {
    let is_odd = |byte: u8| matches!(byte, b'-' | b'_' | b'\\');
    if data.as_str().len().is_multiple_of(4) && !data.as_str().bytes().any(is_odd) {
        return data;
    }
    let mut standard = data.text().replace('-', "+").replace('_', "/");
    while !standard.len().is_multiple_of(4) {
        standard.push('=');
    }
    Escaped::of_owned(standard)
}
