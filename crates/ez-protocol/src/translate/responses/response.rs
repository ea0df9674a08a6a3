//! The response object: what every Responses answer is, whole, and what the first and the last event of a stream hold.

use std::borrow::Cow;

use super::super::event::{FinishReason, Start, Usage};
use super::super::target::AnswerContext;
use super::items::ItemStatus;
use crate::json::{Escaped, Writer};

/// How far a response has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    InProgress,
    Completed,
    /// For this reason.
    Incomplete(&'static str),
}

impl Status {
    /// How a response stands that ended for this reason; without one it was done.
    pub(super) const fn of(reason: Option<FinishReason>) -> Self {
        match reason {
            Some(FinishReason::Length | FinishReason::ContextFull) => Self::Incomplete("max_output_tokens"),
            Some(FinishReason::Refused) => Self::Incomplete("content_filter"),
            _ => Self::Completed,
        }
    }

    /// The word for it, which ends the name of the event, too.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete(_) => "incomplete",
        }
    }

    /// How the message stands that the response ends with.
    pub(super) const fn of_last_message(self) -> ItemStatus {
        match self {
            Self::InProgress | Self::Completed => ItemStatus::Completed,
            Self::Incomplete(_) => ItemStatus::Incomplete,
        }
    }
}

/// What a response tells of itself from its beginning on.
#[derive(Debug)]
pub(super) struct Head {
    id: Escaped<'static>,
    created_at: u64,
}

impl Head {
    /// The vendor's own where it speaks Responses, too; else made ones.
    pub(super) fn of(start: Start<'_>, context: &AnswerContext) -> Self {
        let id = start.id.filter(|id| id.as_str().starts_with("resp_"));
        let made = || Escaped::of_owned(format!("resp_{}", context.seed));
        Self {
            id: id.map_or_else(made, Escaped::into_owned),
            created_at: start.created_at.unwrap_or(context.created_at),
        }
    }
}

/// What is repeated of the request in front of the model's name, with what it is where the client said nothing.
const ECHO_BEFORE_MODEL: [(&str, &str); 2] = [("instructions", "null"), ("max_output_tokens", "null")];

/// The same behind the output: the vendor's defaults.
const ECHO_BEHIND_OUTPUT: [(&str, &str); 12] = [
    ("parallel_tool_calls", "true"),
    ("prompt_cache_key", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("safety_identifier", "null"),
    ("temperature", "1.0"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_p", "1.0"),
    ("truncation", "\"disabled\""),
    ("user", "null"),
    ("metadata", "{}"),
];

/// Writes a response object. `output` holds its finished items, as JSON texts.
pub(super) fn write_response(
    json: &mut Writer,
    context: &AnswerContext,
    head: &Head,
    status: Status,
    output: &[String],
    usage: Option<&Usage>,
) {
    json.object(|json| {
        json.key("id").escaped(&head.id);
        json.key("object").string("response");
        json.key("created_at").count(head.created_at);
        json.key("status").string(status.word());
        json.key("background").bool(false);
        json.key("error").null();
        json.key("incomplete_details");
        match status {
            Status::Incomplete(reason) => json.object(|json| json.key("reason").string(reason)),
            Status::InProgress | Status::Completed => json.null(),
        }
        write_echo(json, context, &ECHO_BEFORE_MODEL);
        json.key("max_tool_calls").null();
        json.key("model").string(&context.model);
        json.key("output").array(|json| output.iter().for_each(|item| json.raw(item)));
        json.key("previous_response_id").null();
        // Nothing is stored here, whatever was asked for.
        json.key("store").bool(false);
        write_echo(json, context, &ECHO_BEHIND_OUTPUT);
        json.key("top_logprobs").count(0);
        json.key("usage");
        match usage {
            Some(usage) => write_usage(json, usage),
            None => json.null(),
        }
    });
}

fn write_echo(json: &mut Writer, context: &AnswerContext, keys: &[(&str, &str)]) {
    for (key, default) in keys {
        let told = context.echo.iter().rev().find(|(name, _)| name == key);
        json.key(key).raw(&told.map_or(Cow::Borrowed(*default), |(_, value)| on_one_line(value)));
    }
}

/// A JSON text without line ends, which would end the data of an event. Inside strings there are none.
fn on_one_line(json: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_none() {
        return Cow::Borrowed(json);
    }
    Cow::Owned(json.replace(['\n', '\r'], " "))
}

/// Input includes what was cached, output includes reasoning.
fn write_usage(json: &mut Writer, usage: &Usage) {
    json.object(|json| {
        json.key("input_tokens").count(usage.input_total().unwrap_or(0));
        json.key("input_tokens_details").object(|json| {
            json.key("cached_tokens").count(usage.cache_read.unwrap_or(0));
            json.key("cache_write_tokens").count(usage.cache_write().unwrap_or(0));
        });
        json.key("output_tokens").count(usage.output_total().unwrap_or(0));
        json.key("output_tokens_details").object(|json| {
            json.key("reasoning_tokens").count(usage.reasoning.unwrap_or(0));
        });
        json.key("total_tokens").count(usage.total().unwrap_or(0));
    });
}
