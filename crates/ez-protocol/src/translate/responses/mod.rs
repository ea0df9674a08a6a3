//! OpenAI Responses: its requests and answers, read and written.

mod items;
mod namespaces;
mod numbered_events;
mod read_answer;
mod read_content;
mod read_input;
mod read_item;
mod read_request;
mod read_tools;
mod response;
mod write_answer;
mod write_content;
mod write_input;
mod write_plain;
mod write_request;
mod write_tools;

pub(super) use read_answer::{AnswerReader, read_plain};
pub(super) use read_request::read_request;
pub(super) use write_answer::AnswerWriter;
pub(super) use write_plain::write_plain;
pub(super) use write_request::write_request;
