//! Writes JSON values that are spliced into bytes.

/// A JSON string with its quotes.
pub(crate) fn json_string(text: &str) -> Vec<u8> {
    // Writing a string into memory cannot fail.
    serde_json::to_vec(text).unwrap_or_default()
}
