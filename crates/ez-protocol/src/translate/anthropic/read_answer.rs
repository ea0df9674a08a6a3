//! Reads an Anthropic Messages answer, streamed or whole.

use ez_contract::Protocol;

use super::super::event::{Citation, Event, FinishReason, Note, Part, Start, Usage};
use super::super::opaque::{Opaque, OpaqueKind};
use crate::json::{Escaped, Value};
use crate::usage::AnthropicUsage;

/// Reads a stream, event by event.
#[derive(Debug, Default)]
pub(in crate::translate) struct AnswerReader {
    has_started: bool,
    has_finished: bool,
    has_called: bool,
    /// The block under way.
    open: Option<OpenBlock>,
    /// As far as it was told.
    usage: AnthropicUsage,
}

/// A block under way.
#[derive(Debug)]
struct OpenBlock {
    index: u64,
    kind: BlockKind,
    /// The arguments of a call that came with its beginning, for servers that send no fragments of them.
    input: Option<String>,
}

/// What a block is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlockKind {
    Text,
    Reasoning,
    ToolCall,
    /// What a hosted tool did, or something newer than this: it passes in silence.
    Unknown,
}

/// The members of an object.
type Members<'a> = Vec<(Escaped<'a>, Value<'a>)>;

impl AnswerReader {
    /// Tells what the data of the next event means.
    pub(in crate::translate) fn read(&mut self, data: Value<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(members) = data.members() else { return };
        let Some(kind) = string_of(&members, "type") else { return };
        match kind.text().as_ref() {
            "message_start" => self.start(member(&members, "message"), sink),
            "content_block_start" => self.block_start(&members, sink),
            "content_block_delta" => self.block_delta(&members, sink),
            "content_block_stop" if self.is_open(&members) => self.close(sink),
            "message_delta" => self.message_delta(&members, sink),
            // `message_stop` is the proper end, which the caller knows; pings and what is newer say nothing.
            _ => {}
        }
    }

    /// Tells what was held back until the proper end.
    pub(in crate::translate) fn finish(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        self.close(sink);
        if self.has_started && !std::mem::replace(&mut self.has_finished, true) {
            // Some servers do not say why.
            sink(finish_of(&Vec::new(), self.has_called));
        }
    }

    /// Some servers splice a second beginning into the stream: it says nothing new.
    fn start(&mut self, message: Option<Value<'_>>, sink: &mut dyn FnMut(Event<'_>)) {
        if self.has_started {
            return;
        }
        self.has_started = true;
        let id = message.and_then(|message| message.get("id")?.string());
        sink(Event::Start(Start { id, created_at: None }));
        if let Some(told) = message.and_then(|message| read_usage(message.get("usage"))) {
            // The output that it tells is a placeholder: nothing has been written yet.
            self.usage.merge(told.without_output());
            tell_usage(self.usage, sink);
        }
    }

    fn block_start(&mut self, members: &Members<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(block) = member(members, "content_block").and_then(Value::members) else { return };
        if self.has_finished {
            return;
        }
        self.start(None, sink);
        self.close(sink);
        let kind = open_block(&block, sink);
        let mut input = None;
        if kind == BlockKind::ToolCall {
            self.has_called = true;
            input = member(&block, "input").filter(|input| !is_empty_input(*input)).map(|v| v.as_str().to_owned());
        }
        self.open = Some(OpenBlock { index: index_of(members), kind, input });
    }

    /// Whether an event is about the block under way.
    fn is_open(&self, members: &Members<'_>) -> bool {
        self.open.as_ref().is_some_and(|open| open.index == index_of(members))
    }

    fn block_delta(&mut self, members: &Members<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(open) = self.open.as_mut().filter(|open| open.index == index_of(members)) else { return };
        let Some(delta) = member(members, "delta").and_then(Value::members) else { return };
        let Some(kind) = string_of(&delta, "type") else { return };
        let text = match (kind.text().as_ref(), open.kind) {
            ("text_delta", BlockKind::Text) => string_of(&delta, "text"),
            ("thinking_delta", BlockKind::Reasoning) => string_of(&delta, "thinking"),
            ("input_json_delta", BlockKind::ToolCall) => string_of(&delta, "partial_json"),
            ("signature_delta", BlockKind::Reasoning) => return tell_state(&delta, "signature", sink),
            ("citations_delta", BlockKind::Text) => {
                return tell_citation(member(&delta, "citation"), sink);
            }
            _ => None,
        };
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            open.input = None;
            sink(Event::Delta { choice: 0, text });
        }
    }

    fn close(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(open) = self.open.take().filter(|open| open.kind != BlockKind::Unknown) else { return };
        if let Some(input) = open.input {
            sink(Event::Delta { choice: 0, text: Escaped::of(&input) });
        }
        sink(Event::Close { choice: 0 });
    }

    fn message_delta(&mut self, members: &Members<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        self.start(None, sink);
        if let Some(told) = read_usage(member(members, "usage")) {
            self.usage.merge(told);
            tell_usage(self.usage, sink);
        }
        let Some(delta) = member(members, "delta").and_then(Value::members) else { return };
        if !self.has_finished && member(&delta, "stop_reason").is_some() {
            self.has_finished = true;
            self.close(sink);
            sink(finish_of(&delta, self.has_called));
        }
    }
}

/// Tells what a whole answer means. `None` where it is none.
pub(in crate::translate) fn read_plain(body: Value<'_>, sink: &mut dyn FnMut(Event<'_>)) -> Option<()> {
    let message = body.members()?;
    let blocks = member(&message, "content")?.elements()?;
    sink(Event::Start(Start { id: string_of(&message, "id"), created_at: None }));
    let mut has_called = false;
    for block in blocks.into_iter().filter_map(Value::members) {
        let kind = open_block(&block, sink);
        if kind == BlockKind::ToolCall {
            has_called = true;
            if let Some(input) = member(&block, "input").filter(|input| !is_empty_input(*input)) {
                sink(Event::Delta { choice: 0, text: Escaped::of(input.as_str()) });
            }
        }
        if kind != BlockKind::Unknown {
            sink(Event::Close { choice: 0 });
        }
    }
    if let Some(usage) = read_usage(member(&message, "usage")) {
        tell_usage(usage, sink);
    }
    sink(finish_of(&message, has_called));
    Some(())
}

/// Tells of a block what stands at its beginning: all of it where the answer is whole, but for the arguments of a call.
fn open_block(block: &Members<'_>, sink: &mut dyn FnMut(Event<'_>)) -> BlockKind {
    let kind = string_of(block, "type");
    match kind.as_ref().map(Escaped::text).as_deref() {
        Some("text") => {
            sink(Event::Open { choice: 0, part: Part::Text });
            tell_text(string_of(block, "text"), sink);
            let citations = member(block, "citations").and_then(Value::elements).unwrap_or_default();
            citations.into_iter().for_each(|citation| tell_citation(Some(citation), sink));
            BlockKind::Text
        }
        Some("thinking") => {
            sink(Event::Open { choice: 0, part: Part::Reasoning });
            tell_text(string_of(block, "thinking"), sink);
            tell_state(block, "signature", sink);
            BlockKind::Reasoning
        }
        Some("redacted_thinking") => {
            sink(Event::Open { choice: 0, part: Part::Reasoning });
            tell_state(block, "data", sink);
            BlockKind::Reasoning
        }
        Some("tool_use") => {
            let id = string_of(block, "id");
            let name = string_of(block, "name").unwrap_or(Escaped::EMPTY);
            sink(Event::Open { choice: 0, part: Part::ToolCall { id, name, is_custom: false, signature: None } });
            BlockKind::ToolCall
        }
        _ => BlockKind::Unknown,
    }
}

fn tell_text(text: Option<Escaped<'_>>, sink: &mut dyn FnMut(Event<'_>)) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        sink(Event::Delta { choice: 0, text });
    }
}

/// Tells the state that stands in a block's field.
fn tell_state(block: &Members<'_>, field: &str, sink: &mut dyn FnMut(Event<'_>)) {
    let kind = if field == "data" { OpaqueKind::Encrypted } else { OpaqueKind::Signature };
    if let Some(data) = string_of(block, field).filter(|data| !data.is_empty()) {
        let state = Opaque::read(Protocol::AnthropicMessages, kind, data);
        sink(Event::Note { choice: 0, note: Note::Signature(state) });
    }
}

/// Tells of a page that a text is taken from. Places in the documents of the request have no words elsewhere.
fn tell_citation(citation: Option<Value<'_>>, sink: &mut dyn FnMut(Event<'_>)) {
    let Some(members) = citation.and_then(Value::members) else { return };
    if !string_of(&members, "type").is_some_and(|kind| kind.is("web_search_result_location")) {
        return;
    }
    if let Some(url) = string_of(&members, "url") {
        let citation = Citation { url, title: string_of(&members, "title"), range: None };
        sink(Event::Note { choice: 0, note: Note::Citation(citation) });
    }
}

fn read_usage(usage: Option<Value<'_>>) -> Option<AnthropicUsage> {
    serde_json::from_str(usage?.as_str()).ok()
}

fn tell_usage(usage: AnthropicUsage, sink: &mut dyn FnMut(Event<'_>)) {
    if let Some(tokens) = usage.tokens() {
        sink(Event::Usage(Usage::of(tokens, usage.cache_write_1h())));
    }
}

/// The end that a message or the delta of one tells.
fn finish_of<'a>(message: &Members<'a>, has_called: bool) -> Event<'a> {
    let told = string_of(message, "stop_reason");
    let reason = match told.as_ref().map(Escaped::text).as_deref() {
        Some("stop_sequence") => FinishReason::StopSequence,
        Some("max_tokens") => FinishReason::Length,
        Some("model_context_window_exceeded") => FinishReason::ContextFull,
        Some("refusal") => FinishReason::Refused,
        Some("pause_turn") => FinishReason::Paused,
        // Some servers say `end_turn` behind their calls.
        _ if has_called => FinishReason::ToolCalls,
        _ => FinishReason::Stop,
    };
    Event::Finish { choice: 0, reason, stop_sequence: string_of(message, "stop_sequence") }
}

/// Whether a call takes nothing.
fn is_empty_input(input: Value<'_>) -> bool {
    input.members().is_some_and(|members| members.is_empty())
}

fn index_of(members: &Members<'_>) -> u64 {
    member(members, "index").and_then(Value::count).unwrap_or(0)
}

/// A member; `null` counts as absent.
fn member<'a>(members: &Members<'a>, key: &str) -> Option<Value<'a>> {
    let (_, value) = members.iter().rev().find(|(name, _)| name.is(key))?;
    (!value.is_null()).then_some(*value)
}

fn string_of<'a>(members: &Members<'a>, key: &str) -> Option<Escaped<'a>> {
    member(members, key)?.string()
}
