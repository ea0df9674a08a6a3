//! Any client to any upstream: requests and answers of one chat protocol made into another's, through one intermediate form
//! (`request`, `event`), with one reader and one writer per protocol and direction. Pure and total: any input gives a
//! translation or a fault that names the field.
//!
//! The way of a call: `read_request` of the client's protocol → [`conversation`], [`tool_names`] → `write_request` of the
//! upstream's; back: `read_answer` of the upstream's → [`restore`] → `write_answer` of the client's, event by event for
//! streams and for whole bodies alike.

pub mod answer;
pub mod capability;
pub mod event;
pub mod opaque;
pub mod params;
pub mod request;

mod anthropic;
mod call;
mod chat;
mod conversation;
mod count;
mod counterpart;
mod effort;
mod embeddings;
mod exchange;
mod fields;
mod foreign;
mod gemini;
mod media;
mod refused;
mod report;
mod rerank;
mod responses;
mod restore;
mod target;
mod tool_names;
mod tool_schema;
mod words;

pub use call::{AnswerTranslator, Call, Translated, UnreadableAnswer, request};
pub use count::estimated_count;
pub use counterpart::{chat_of_count, counterparts};
pub use exchange::{Gatherer, whole_answer};
pub use foreign::without_foreign_state;
pub use refused::Refused;
pub use target::AnswerContext;
