//! Writes an Anthropic Messages answer as a whole, and the pieces that a stream of it has, too.

use ez_contract::Protocol;

use super::super::answer::{Answer, WholePart};
use super::super::event::{FinishReason, Part, Usage};
use super::super::opaque::{Opaque, OpaqueKind};
use super::super::restore;
use super::super::target::AnswerContext;
use super::write_blocks::write_input;
use crate::json::{Escaped, Writer};

/// A whole answer: the first choice, of which there is one.
pub(in crate::translate) fn write_plain(answer: &Answer, context: &AnswerContext) -> String {
    let choice = answer.choices.first().filter(|choice| choice.index == 0);
    let parts = choice.map(|choice| choice.parts.as_slice()).unwrap_or_default();
    let is = |kind: fn(&Part<'_>) -> bool| parts.iter().any(|part| kind(&part.part));
    let ending = Ending {
        reason: choice.and_then(|choice| choice.finish).unwrap_or(FinishReason::Stop),
        stop_sequence: choice.and_then(|choice| choice.stop_sequence.clone()),
        has_called: is(|part| matches!(part, Part::ToolCall { .. })),
        has_refused: is(|part| matches!(part, Part::Refusal)),
    };
    let bytes: usize = parts.iter().map(|part| part.text.as_str().len() + 128).sum();
    let mut json = Writer::with_capacity(bytes + 512);
    json.object(|json| {
        write_head(json, answer.start.id.as_ref(), context);
        json.key("content").array(|json| {
            let mut calls = 0;
            for part in without_last_state(parts) {
                write_part(json, part, &mut calls, context);
            }
        });
        write_ending(json, &ending);
        json.key("usage").object(|json| write_usage(json, answer.usage));
    });
    json.finish()
}

/// The parts without the state that stands alone behind the last words, as Gemini signs texts: nobody needs it back, and
/// an answer of this protocol does not end with a thinking block. Clients look for their text in the last one.
fn without_last_state(parts: &[WholePart]) -> &[WholePart] {
    let is_nothing = |part: &WholePart| match &part.part {
        Part::Text | Part::Refusal => part.text.is_empty(),
        Part::Reasoning => part.text.is_empty() && !part.signature.as_ref().is_some_and(is_redacted),
        Part::Media { .. } | Part::ToolCall { .. } => false,
    };
    let last = parts.iter().rposition(|part| !is_nothing(part));
    let is_words = |part: &WholePart| matches!(part.part, Part::Text | Part::Refusal | Part::Media { .. });
    match last.and_then(|last| parts.get(..=last)) {
        Some(shown) if shown.last().is_some_and(is_words) => shown,
        _ => parts,
    }
}

/// Writes the blocks that a part becomes: none where it is empty, two where its state needs a block of its own.
fn write_part(json: &mut Writer, part: &WholePart, calls: &mut usize, context: &AnswerContext) {
    match &part.part {
        Part::Text | Part::Refusal if part.text.is_empty() => {}
        Part::Text | Part::Refusal => json.object(|json| write_text(json, &part.text)),
        Part::Media { media_type, .. } => json.object(|json| write_text(json, &unseen(media_type))),
        Part::Reasoning => {
            let state = part.signature.as_ref();
            let redacted = state.filter(|state| is_redacted(state));
            let signature = state.filter(|state| !is_redacted(state));
            if !part.text.is_empty() || signature.is_some() {
                json.object(|json| write_thinking(json, &part.text, signature));
            }
            if let Some(state) = redacted {
                json.object(|json| write_redacted(json, state));
            }
        }
        Part::ToolCall { id, name, is_custom, signature } => {
            if let Some(signature) = signature {
                json.object(|json| write_thinking(json, &Escaped::EMPTY, Some(signature)));
            }
            let id = context.call_id(id.as_ref(), "toolu_", *calls);
            *calls += 1;
            let mut input = Writer::with_capacity(part.text.as_str().len() + 16);
            if *is_custom {
                input.raw(&restore::wrapped_input(&part.text));
            } else {
                write_input(&mut input, &part.text);
            }
            json.object(|json| write_call(json, &id, name, input.as_str()));
        }
    }
}

/// What the answer says of itself, up to its content.
pub(super) fn write_head(json: &mut Writer, id: Option<&Escaped<'_>>, context: &AnswerContext) {
    json.key("id");
    match id.filter(|id| id.as_str().starts_with("msg_")) {
        Some(id) => json.escaped(id),
        None => json.string(&format!("msg_{}", context.seed)),
    }
    json.key("type").string("message");
    json.key("role").string("assistant");
    json.key("model").string(&context.model);
}

pub(super) fn write_text(json: &mut Writer, text: &Escaped<'_>) {
    json.key("type").string("text");
    json.key("text").escaped(text);
}

pub(super) fn write_thinking(json: &mut Writer, text: &Escaped<'_>, state: Option<&Opaque<'_>>) {
    json.key("type").string("thinking");
    json.key("thinking").escaped(text);
    let carried = state.map(|state| state.carried_by(Protocol::AnthropicMessages));
    json.key("signature").escaped(&carried.unwrap_or(Escaped::EMPTY));
}

/// Whether a state has a block of its own.
pub(super) fn is_redacted(state: &Opaque<'_>) -> bool {
    state.issuer == Protocol::AnthropicMessages && state.kind == OpaqueKind::Encrypted
}

pub(super) fn write_redacted(json: &mut Writer, state: &Opaque<'_>) {
    json.key("type").string("redacted_thinking");
    json.key("data").escaped(&state.data);
}

/// `input` is a JSON object.
pub(super) fn write_call(json: &mut Writer, id: &Escaped<'_>, name: &Escaped<'_>, input: &str) {
    json.key("type").string("tool_use");
    json.key("id").escaped(id);
    json.key("name").escaped(name);
    json.key("input").raw(input);
}

/// What is said of a file that the model made: no block of an answer holds one.
pub(super) fn unseen(media_type: &Escaped<'_>) -> Escaped<'static> {
    let mut text = Escaped::of("[The model made a file of the type ").into_owned();
    text.push(media_type);
    text.push(&Escaped::of(", which this protocol cannot carry.]"));
    text
}

/// How an answer ended.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) reason: FinishReason,
    pub(super) stop_sequence: Option<Escaped<'static>>,
    pub(super) has_called: bool,
    pub(super) has_refused: bool,
}

impl Default for Ending {
    fn default() -> Self {
        Self { reason: FinishReason::Stop, stop_sequence: None, has_called: false, has_refused: false }
    }
}

pub(super) fn write_ending(json: &mut Writer, ending: &Ending) {
    json.key("stop_reason").string(match ending.reason {
        FinishReason::Stop if ending.has_refused => "refusal",
        // Clients run tools where they read this; some servers say that the model was done.
        FinishReason::Stop if ending.has_called => "tool_use",
        FinishReason::Stop | FinishReason::Failed => "end_turn",
        FinishReason::StopSequence => "stop_sequence",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::Length => "max_tokens",
        FinishReason::ContextFull => "model_context_window_exceeded",
        FinishReason::Refused => "refusal",
        FinishReason::Paused => "pause_turn",
    });
    json.key("stop_sequence");
    match &ending.stop_sequence {
        Some(sequence) => json.escaped(sequence),
        None => json.null(),
    }
}

/// Writes the counts. Input excludes what was cached; what is not told is left out, but for the two that must be there.
pub(super) fn write_usage(json: &mut Writer, usage: Option<Usage>) {
    let usage = usage.unwrap_or_default();
    json.key("input_tokens").count(usage.input_uncached.unwrap_or(0));
    if let Some(written) = usage.cache_write() {
        json.key("cache_creation_input_tokens").count(written);
    }
    if let Some(read) = usage.cache_read {
        json.key("cache_read_input_tokens").count(read);
    }
    if let Some(one_hour) = usage.cache_write_1h {
        json.key("cache_creation").object(|json| {
            json.key("ephemeral_5m_input_tokens").count(usage.cache_write_5m.unwrap_or(0));
            json.key("ephemeral_1h_input_tokens").count(one_hour);
        });
    }
    json.key("output_tokens").count(usage.output_total().unwrap_or(0));
    if let Some(thinking) = usage.reasoning {
        json.key("output_tokens_details").object(|json| json.key("thinking_tokens").count(thinking));
    }
}
