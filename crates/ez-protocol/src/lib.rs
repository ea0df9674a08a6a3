//! LLM dialects: request peek and splice, SSE codec, usage extraction, error shapes. Bytes in, bytes out. Pure: the
//! same input gives the same output.

pub mod error;
pub mod inspect;
pub mod openai_chat;
pub mod redact;
pub mod scan;
pub mod sse;
