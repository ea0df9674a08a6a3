//! JSON read and written without a document: values are looked at where they stand, and what nobody asked about is passed
//! on as it was written (order of properties, text of numbers, escapes of strings).

mod escaped;
mod value;
mod walk;
mod writer;

pub use escaped::Escaped;
pub use value::{Kind, Value};
pub use writer::Writer;

/// A JSON string with its quotes.
pub(crate) fn json_string(text: &str) -> Vec<u8> {
    // Writing a string into memory cannot fail.
    serde_json::to_vec(text).unwrap_or_default()
}
