//! LLM dialects: request peek and splice, stream framing, usage extraction, error shapes. Bytes in, bytes out. Pure: the
//! same input gives the same output.

pub mod answer;
mod anthropic;
pub mod api;
pub mod error;
pub mod estimate;
mod event_type;
mod form;
pub mod framer;
mod gemini;
pub mod inspect;
pub mod json;
pub mod json_array;
mod openai;
pub mod prefix;
pub mod redact;
mod reference;
mod responses;
pub mod sample;
pub mod scan;
pub mod sse;
pub mod stream;
pub mod translate;
mod usage;
mod vendor_error;
pub mod vendor_limits;

pub use api::Api;
