//! Anthropic Messages: its requests and answers, read and written.

mod output_schema;
mod read_answer;
mod read_blocks;
mod read_request;
mod read_tools;
mod read_turns;
mod write_answer;
mod write_blocks;
mod write_plain;
mod write_request;
mod write_thinking;
mod write_tools;
mod write_turns;

pub(super) use read_answer::{AnswerReader, read_plain};
pub(super) use read_request::read_request;
pub(super) use write_answer::AnswerWriter;
pub(super) use write_plain::write_plain;
pub(super) use write_request::write_request;

#[cfg(test)]
mod tests;
