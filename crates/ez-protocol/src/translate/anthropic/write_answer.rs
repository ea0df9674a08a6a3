//! Writes an Anthropic Messages answer as a stream.
//!
//! Blocks begin with their first content, so that none of them is empty: clients send back what they got, and Anthropic
//! refuses empty blocks. Citations are left out: the vendor's own carry the cited text and an index that only it can make.

use std::fmt::Write as _;
use std::sync::Arc;

use ez_contract::Protocol;

use super::super::event::{Event, Note, Part, Usage};
use super::super::opaque::Opaque;
use super::super::restore;
use super::super::target::AnswerContext;
use super::write_blocks::write_input;
use super::write_plain::{self, Ending};
use crate::json::{Escaped, Writer};

/// Writes a stream, event by event.
#[derive(Debug)]
pub(in crate::translate) struct AnswerWriter {
    context: Arc<AnswerContext>,
    /// How many events with data were written.
    events: u64,
    has_started: bool,
    has_ended: bool,
    open: Open,
    /// How many blocks have begun.
    blocks: u64,
    calls: usize,
    /// Whether the block that began last holds words.
    has_words_last: bool,
    /// State without words, behind some: it is written in front of the next block, and left out where there is none
    /// ([`write_plain`] says why).
    waiting: Vec<Opaque<'static>>,
    ending: Ending,
    usage: Option<Usage>,
    /// Of the event under way; kept for its room.
    json: Writer,
}

/// The part under way.
#[derive(Debug)]
enum Open {
    Nothing,
    /// Words, refusing ones included.
    Text {
        has_begun: bool,
    },
    Reasoning {
        has_begun: bool,
        state: Option<Opaque<'static>>,
    },
    Call(Arguments),
    /// A call whose free text is wrapped in an object.
    CustomCall,
}

/// The arguments of a call. Anthropic's are an object, and its SDK fails on anything else.
#[derive(Debug)]
enum Arguments {
    /// They are an object as far as they came, and pass.
    Object,
    /// None yet, or something else: they are put into an object once they are whole.
    Held(Escaped<'static>),
}

impl AnswerWriter {
    pub(in crate::translate) fn new(context: Arc<AnswerContext>) -> Self {
        Self {
            context,
            events: 0,
            has_started: false,
            has_ended: false,
            open: Open::Nothing,
            blocks: 0,
            calls: 0,
            has_words_last: false,
            waiting: Vec::new(),
            ending: Ending::default(),
            usage: None,
            json: Writer::default(),
        }
    }

    /// Writes what an event means to the client, if anything, as whole server-sent events. There is one answer: the first
    /// choice.
    pub(in crate::translate) fn write(&mut self, event: Event<'_>, out: &mut String) {
        match event {
            Event::Start(start) => self.start(start.id.as_ref(), out),
            Event::Open { choice: 0, part } => self.open(part, out),
            Event::Delta { choice: 0, text } => self.delta(&text, out),
            Event::Note { choice: 0, note: Note::Signature(state) } => {
                if let Open::Reasoning { state: kept, .. } = &mut self.open {
                    *kept = Some(state.into_owned());
                }
            }
            Event::Close { choice: 0 } => self.close(out),
            Event::Finish { choice: 0, reason, stop_sequence } => {
                self.ending.reason = reason;
                self.ending.stop_sequence = stop_sequence.map(Escaped::into_owned);
            }
            Event::Usage(usage) => self.usage = Some(usage),
            _ => {}
        }
    }

    /// Writes what ends the stream.
    pub(in crate::translate) fn finish(&mut self, out: &mut String) {
        if self.has_ended {
            return;
        }
        self.has_ended = true;
        self.start(None, out);
        self.close(out);
        let Self { ending, usage, .. } = self;
        self.json.clear();
        self.json.object(|json| {
            json.key("type").string("message_delta");
            json.key("delta").object(|json| write_plain::write_ending(json, ending));
            json.key("usage").object(|json| write_plain::write_usage(json, *usage));
        });
        self.put("message_delta", out);
        self.json.clear();
        self.json.raw(r#"{"type":"message_stop"}"#);
        self.put("message_stop", out);
    }

    /// How many events with data were written, for the number of one that comes next.
    pub(in crate::translate) fn events(&self) -> u64 {
        self.events
    }

    fn start(&mut self, id: Option<&Escaped<'_>>, out: &mut String) {
        if std::mem::replace(&mut self.has_started, true) {
            return;
        }
        let Self { context, usage, .. } = self;
        self.json.clear();
        self.json.object(|json| {
            json.key("type").string("message_start");
            json.key("message").object(|json| {
                write_plain::write_head(json, id, context);
                json.key("content").array(|_| ());
                json.key("stop_reason").null();
                json.key("stop_sequence").null();
                json.key("usage").object(|json| write_plain::write_usage(json, *usage));
            });
        });
        self.put("message_start", out);
    }

    fn open(&mut self, part: Part<'_>, out: &mut String) {
        self.start(None, out);
        self.close(out);
        self.open = match part {
            Part::Text => Open::Text { has_begun: false },
            Part::Refusal => {
                self.ending.has_refused = true;
                Open::Text { has_begun: false }
            }
            Part::Reasoning => Open::Reasoning { has_begun: false, state: None },
            Part::ToolCall { id, name, is_custom, signature } => {
                if let Some(signature) = signature {
                    self.thinking(&signature, out);
                }
                let id = self.context.call_id(id.as_ref(), "toolu_", self.calls);
                self.calls += 1;
                self.ending.has_called = true;
                self.begin(out, |json| write_plain::write_call(json, &id, &name, "{}"));
                if is_custom {
                    self.fragment("input_json_delta", "partial_json", &opening_of_input(), out);
                }
                if is_custom { Open::CustomCall } else { Open::Call(Arguments::Held(Escaped::EMPTY)) }
            }
            Part::Media { media_type, .. } => {
                self.begin_words(out);
                self.fragment("text_delta", "text", &write_plain::unseen(&media_type), out);
                self.stop(out);
                Open::Nothing
            }
        };
    }

    fn delta(&mut self, text: &Escaped<'_>, out: &mut String) {
        if text.is_empty() {
            return;
        }
        match &mut self.open {
            Open::Nothing => {}
            Open::Text { has_begun } => {
                if !std::mem::replace(has_begun, true) {
                    self.begin_words(out);
                }
                self.fragment("text_delta", "text", text, out);
            }
            Open::Reasoning { has_begun, .. } => {
                if !std::mem::replace(has_begun, true) {
                    self.begin(out, |json| write_plain::write_thinking(json, &Escaped::EMPTY, None));
                }
                self.fragment("thinking_delta", "thinking", text, out);
            }
            Open::Call(Arguments::Object) => self.fragment("input_json_delta", "partial_json", text, out),
            Open::Call(arguments @ Arguments::Held(_)) => {
                if let Some(passing) = arguments.take(text) {
                    self.fragment("input_json_delta", "partial_json", &passing, out);
                }
            }
            // The text stands inside a string of the arguments, which stand inside a string themselves.
            Open::CustomCall => self.fragment("input_json_delta", "partial_json", &Escaped::of(text.as_str()), out),
        }
    }

    fn close(&mut self, out: &mut String) {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing | Open::Text { has_begun: false } => {}
            Open::Text { has_begun: true } | Open::Call(Arguments::Object) => self.stop(out),
            Open::Call(Arguments::Held(held)) => {
                // A call without arguments began with all of them.
                if !held.is_empty() {
                    let mut input = Writer::default();
                    write_input(&mut input, &held);
                    self.fragment("input_json_delta", "partial_json", &Escaped::of(input.as_str()), out);
                }
                self.stop(out);
            }
            Open::CustomCall => {
                self.fragment("input_json_delta", "partial_json", &Escaped::of("\"}"), out);
                self.stop(out);
            }
            Open::Reasoning { has_begun, state } => self.close_reasoning(has_begun, state, out),
        }
    }

    fn close_reasoning(&mut self, has_begun: bool, state: Option<Opaque<'_>>, out: &mut String) {
        match state {
            None if !has_begun => {}
            None => self.stop(out),
            Some(state) if write_plain::is_redacted(&state) => {
                if has_begun {
                    self.stop(out);
                }
                self.begin(out, |json| write_plain::write_redacted(json, &state));
                self.stop(out);
            }
            Some(state) if has_begun => self.sign(&state, out),
            Some(state) if self.has_words_last => self.waiting.push(state.into_owned()),
            Some(state) => self.thinking(&state, out),
        }
    }

    /// A thinking block without words, for the state alone.
    fn thinking(&mut self, state: &Opaque<'_>, out: &mut String) {
        self.begin(out, |json| write_plain::write_thinking(json, &Escaped::EMPTY, None));
        self.sign(state, out);
    }

    /// The state of the thinking block under way, and its end.
    fn sign(&mut self, state: &Opaque<'_>, out: &mut String) {
        self.fragment("signature_delta", "signature", &state.carried_by(Protocol::AnthropicMessages), out);
        self.stop(out);
    }

    fn begin_words(&mut self, out: &mut String) {
        self.begin(out, |json| write_plain::write_text(json, &Escaped::EMPTY));
        self.has_words_last = true;
    }

    /// Begins a block.
    fn begin(&mut self, out: &mut String, fill: impl FnOnce(&mut Writer)) {
        self.has_words_last = false;
        for state in std::mem::take(&mut self.waiting) {
            self.thinking(&state, out);
        }
        let index = self.blocks;
        self.blocks += 1;
        self.json.clear();
        self.json.object(|json| {
            json.key("type").string("content_block_start");
            json.key("index").count(index);
            json.key("content_block").object(fill);
        });
        self.put("content_block_start", out);
    }

    /// Ends the block that began last.
    fn stop(&mut self, out: &mut String) {
        let index = self.blocks.saturating_sub(1);
        self.json.clear();
        self.json.object(|json| {
            json.key("type").string("content_block_stop");
            json.key("index").count(index);
        });
        self.put("content_block_stop", out);
    }

    /// More of the block that began last. Nearly all of a stream is this.
    fn fragment(&mut self, kind: &str, field: &str, text: &Escaped<'_>, out: &mut String) {
        self.events += 1;
        out.reserve(text.as_str().len() + 160);
        out.push_str("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
        // A `String` takes every write.
        let _ = write!(out, "{},\"delta\":{{\"type\":\"{kind}\",\"{field}\":\"", self.blocks.saturating_sub(1));
        out.push_str(text.as_str());
        out.push_str("\"}}\n\n");
    }

    /// The event that was made.
    fn put(&mut self, name: &str, out: &mut String) {
        self.events += 1;
        for part in ["event: ", name, "\ndata: ", self.json.as_str(), "\n\n"] {
            out.push_str(part);
        }
    }
}

impl Arguments {
    /// Takes more of arguments that were held. Gives all of them once they are known to be an object.
    fn take(&mut self, more: &Escaped<'_>) -> Option<Escaped<'static>> {
        let Self::Held(held) = self else { return None };
        let is_known = !held.text().trim_start().is_empty();
        held.push(more);
        if is_known || !held.text().trim_start().starts_with('{') {
            return None;
        }
        let Self::Held(held) = std::mem::replace(self, Self::Object) else { return None };
        Some(held)
    }
}

/// What stands before the free text that a custom tool is called with.
fn opening_of_input() -> Escaped<'static> {
    Escaped::of_owned(format!("{{\"{}\":\"", restore::CUSTOM_INPUT))
}
