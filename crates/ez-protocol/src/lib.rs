//! LLM dialects: request peek and splice, SSE codec, usage extraction, error shapes. Bytes in, bytes out. Pure: the
//! same input gives the same output.

pub mod answer;
pub mod api;
pub mod error;
pub mod inspect;
mod openai_chat;
pub mod redact;
pub mod scan;
pub mod sse;
pub mod stream;

pub use api::Api;
