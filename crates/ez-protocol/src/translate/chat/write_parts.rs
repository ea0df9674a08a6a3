//! Writes what stands in deltas and messages alike: calls, pictures, citations, usage.

use ez_contract::Protocol;

use super::super::event::{Citation, FinishReason, Usage};
use super::super::media;
use super::super::opaque::Opaque;
use super::super::target::AnswerContext;
use super::read_tools::OLDER_CALLS;
use super::write_messages::write_signature;
use crate::json::{Escaped, Writer};

/// A call, or the beginning of one.
pub(super) struct CallHead<'c> {
    /// Its number, where it is told in a stream.
    pub(super) index: Option<u64>,
    pub(super) id: &'c Escaped<'c>,
    pub(super) name: &'c Escaped<'c>,
    pub(super) is_custom: bool,
    /// What is known of its arguments, or of its free text.
    pub(super) arguments: &'c Escaped<'c>,
    pub(super) signature: Option<&'c Opaque<'c>>,
}

/// Writes an element of `tool_calls`.
pub(super) fn write_call(json: &mut Writer, call: &CallHead<'_>) {
    json.object(|json| {
        write_index(json, call.index);
        json.key("id").escaped(call.id);
        let (kind, arguments) = if call.is_custom { ("custom", "input") } else { ("function", "arguments") };
        json.key("type").string(kind);
        json.key(kind).object(|json| {
            json.key("name").escaped(call.name);
            json.key(arguments).escaped(call.arguments);
        });
        if let Some(signature) = call.signature {
            // Google's field is Gemini's own.
            write_signature(json, &signature.carried_by(Protocol::Gemini));
        }
    });
}

/// Writes the number of an element where it is told in a stream: OpenAI's SDK puts lists of deltas together by it, and
/// fails where a second element has none.
fn write_index(json: &mut Writer, index: Option<u64>) {
    if let Some(index) = index {
        json.key("index").count(index);
    }
}

/// Writes an element of `images`, as OpenRouter has it. `index` is its number, where it is told in a stream.
pub(super) fn write_image(json: &mut Writer, index: Option<u64>, media_type: &Escaped<'_>, data: &Escaped<'_>) {
    json.object(|json| {
        write_index(json, index);
        json.key("type").string("image_url");
        json.key("image_url").object(|json| media::write_data_url(json.key("url"), media_type, data));
    });
}

/// Writes an element of `annotations`. `index` is its number, where it is told in a stream; `from` and `to` are where the
/// cited part stands in the message, in characters.
pub(super) fn write_citation(json: &mut Writer, index: Option<u64>, citation: &Citation<'_>, from: u64, to: u64) {
    let (start, end) = match citation.range {
        Some((start, end)) => (from.saturating_add(start), from.saturating_add(end)),
        None => (from, to),
    };
    json.object(|json| {
        write_index(json, index);
        json.key("type").string("url_citation");
        json.key("url_citation").object(|json| {
            json.key("start_index").count(start);
            json.key("end_index").count(end);
            json.key("url").escaped(&citation.url);
            json.key("title").escaped(citation.title.as_ref().unwrap_or(&citation.url));
        });
    });
}

/// Writes a `usage`: input with what was cached, output with reasoning.
pub(super) fn write_usage(json: &mut Writer, usage: &Usage) {
    json.object(|json| {
        json.key("prompt_tokens").count(usage.input_total().unwrap_or(0));
        json.key("completion_tokens").count(usage.output_total().unwrap_or(0));
        json.key("total_tokens").count(usage.total().unwrap_or(0));
        if usage.cache_read.is_some() || usage.cache_write().is_some() {
            json.key("prompt_tokens_details").object(|json| {
                if let Some(tokens) = usage.cache_read {
                    json.key("cached_tokens").count(tokens);
                }
                if let Some(tokens) = usage.cache_write() {
                    json.key("cache_write_tokens").count(tokens);
                }
            });
        }
        if let Some(tokens) = usage.reasoning {
            json.key("completion_tokens_details").object(|json| json.key("reasoning_tokens").count(tokens));
        }
    });
}

/// Whether the client knows calls as `function_call` alone, which is the first of an answer.
pub(super) fn knows_older_calls(context: &AnswerContext) -> bool {
    context.echo.iter().any(|(key, _)| *key == OLDER_CALLS)
}

/// Writes a `function_call`: both halves, or one of them in a stream.
pub(super) fn write_older_call(json: &mut Writer, name: Option<&Escaped<'_>>, arguments: &Escaped<'_>) {
    json.key("function_call").object(|json| {
        if let Some(name) = name {
            json.key("name").escaped(name);
        }
        json.key("arguments").escaped(arguments);
    });
}

/// The word for why a choice ended.
pub(super) const fn finish_word(reason: FinishReason, knows_older_calls: bool) -> &'static str {
    match reason {
        FinishReason::ToolCalls if knows_older_calls => "function_call",
        // A pause has no word: a client that sends the answer back goes on where it ended.
        FinishReason::Stop | FinishReason::StopSequence | FinishReason::Paused | FinishReason::Failed => "stop",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Length | FinishReason::ContextFull => "length",
        FinishReason::Refused => "content_filter",
    }
}

/// How many characters a text has.
pub(super) fn characters(text: &Escaped<'_>) -> u64 {
    u64::try_from(text.text().chars().count()).unwrap_or(u64::MAX)
}
