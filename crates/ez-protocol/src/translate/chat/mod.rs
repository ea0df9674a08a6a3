//! OpenAI Chat Completions: its requests and answers, read and written.

mod choice_parts;
mod plan_messages;
mod read_answer;
mod read_content;
mod read_messages;
mod read_request;
mod read_tools;
mod reasoning_details;
mod write_answer;
mod write_messages;
mod write_parts;
mod write_plain;
mod write_request;
mod write_tools;

pub(super) use read_answer::{AnswerReader, read_plain};
pub(super) use read_request::read_request;
pub(super) use write_answer::AnswerWriter;
pub(super) use write_plain::write_plain;
pub(super) use write_request::write_request;

#[cfg(test)]
mod answer_tests;
#[cfg(test)]
mod message_tests;
#[cfg(test)]
mod request_tests;
