//! Writes a OpenAI Chat Completions answer as a stream of chunks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::event::{Event, FinishReason, Note, Part, Start, Usage};
use super::super::opaque::Opaque;
use super::super::target::AnswerContext;
use super::reasoning_details;
use super::write_parts::{
    CallHead, characters, finish_word, knows_older_calls, write_call, write_citation, write_image, write_older_call,
    write_usage,
};
use crate::json::{Escaped, Writer};

/// Writes a stream, event by event.
#[derive(Debug)]
pub(in crate::translate) struct AnswerWriter {
    context: Arc<AnswerContext>,
    knows_older_calls: bool,
    /// What every chunk begins with; empty until the answer begins.
    head: String,
    choices: BTreeMap<u32, Choice>,
    /// How many calls were written, for the ids of those that have none.
    calls: usize,
    usage: Option<Usage>,
    /// Of the delta under way; kept for its room.
    delta: Writer,
    /// How many events with data were written.
    events: u64,
}

/// What was written of a choice.
#[derive(Debug, Default)]
struct Choice {
    has_role: bool,
    is_finished: bool,
    open: Open,
    /// How many calls it has.
    calls: u64,
    /// How many items of `reasoning_details` it has.
    details: u64,
    /// How many of `annotations`.
    annotations: u64,
    /// How many of `images`.
    images: u64,
    /// How many characters of text, and how many of them came before the open part.
    characters: u64,
    characters_before: u64,
}

/// The open part.
#[derive(Debug, Default)]
enum Open {
    #[default]
    Nothing,
    Text,
    Refusal,
    /// With its words so far, and their state: they are told together.
    Reasoning {
        words: Escaped<'static>,
        state: Option<Opaque<'static>>,
    },
    Call {
        is_custom: bool,
        is_empty: bool,
    },
    /// It takes no deltas.
    Whole,
}

impl AnswerWriter {
    pub(in crate::translate) fn new(context: Arc<AnswerContext>) -> Self {
        Self {
            knows_older_calls: knows_older_calls(&context),
            context,
            head: String::new(),
            choices: BTreeMap::new(),
            calls: 0,
            usage: None,
            delta: Writer::default(),
            events: 0,
        }
    }

    /// Writes what an event means to the client, if anything, as whole server-sent events.
    pub(in crate::translate) fn write(&mut self, event: Event<'_>, out: &mut String) {
        match event {
            Event::Start(start) => self.start(&start),
            Event::Open { choice, part } => self.open(choice, part, out),
            Event::Delta { choice, text } => self.delta(choice, &text, out),
            Event::Note { choice, note } => self.note(choice, &note, out),
            Event::Close { choice } => self.close(choice, out),
            Event::Finish { choice, reason, .. } => self.finish_choice(choice, reason, out),
            Event::Usage(usage) => self.usage = Some(usage),
        }
    }

    /// Writes what ends the stream.
    pub(in crate::translate) fn finish(&mut self, out: &mut String) {
        if self.choices.is_empty() {
            self.finish_choice(0, FinishReason::Stop, out);
        }
        let open: Vec<_> =
            self.choices.iter().filter(|(_, choice)| !choice.is_finished).map(|(index, _)| *index).collect();
        for index in open {
            self.finish_choice(index, FinishReason::Stop, out);
        }
        if let Some(usage) = self.usage.filter(|_| self.context.wants_usage) {
            self.begin(out);
            out.push_str("],\"usage\":");
            self.delta.clear();
            write_usage(&mut self.delta, &usage);
            out.push_str(self.delta.as_str());
            out.push_str("}\n\n");
        }
        out.push_str("data: [DONE]\n\n");
        self.events += 1;
    }

    /// How many events with data were written, for the number of one that comes next.
    pub(in crate::translate) fn events(&self) -> u64 {
        self.events
    }

    fn start(&mut self, start: &Start<'_>) {
        if !self.head.is_empty() {
            return;
        }
        let mut json = Writer::default();
        json.object(|json| {
            json.key("id").escaped(&answer_id(start, &self.context));
            json.key("object").string("chat.completion.chunk");
            json.key("created").count(start.created_at.unwrap_or(self.context.created_at));
            json.key("model").string(&self.context.model);
        });
        let head = json.finish();
        let members = head.strip_suffix('}').unwrap_or_default();
        self.head = format!("data: {members},\"choices\":[");
    }

    /// Begins a chunk.
    fn begin(&mut self, out: &mut String) {
        if self.head.is_empty() {
            self.start(&Start::default());
        }
        self.events += 1;
        out.push_str(&self.head);
    }

    /// Writes a chunk of a choice: `fill` writes the members of its delta.
    fn chunk(&mut self, index: u32, finish: Option<&str>, out: &mut String, fill: impl FnOnce(&mut Writer)) {
        self.begin(out);
        let choice = self.choices.entry(index).or_default();
        let is_first = !std::mem::replace(&mut choice.has_role, true);
        self.delta.clear();
        self.delta.object(|json| {
            json.key("index").count(index.into());
            json.key("delta").object(|json| {
                if is_first {
                    json.key("role").string("assistant");
                    let has_content = matches!(choice.open, Open::Text) || finish.is_some();
                    if has_content { json.key("content").string("") } else { json.key("content").null() }
                }
                fill(json);
            });
            json.key("finish_reason");
            match finish {
                Some(word) => json.string(word),
                None => json.null(),
            }
        });
        out.push_str(self.delta.as_str());
        out.push_str("]}\n\n");
    }

    /// The choice, where more of it may come.
    fn choice(&mut self, index: u32) -> Option<&mut Choice> {
        let choice = self.choices.entry(index).or_default();
        (!choice.is_finished).then_some(choice)
    }

    fn open(&mut self, index: u32, part: Part<'_>, out: &mut String) {
        self.close(index, out);
        let Some(choice) = self.choice(index) else { return };
        match part {
            Part::Text => {
                choice.open = Open::Text;
                choice.characters_before = choice.characters;
                if !choice.has_role {
                    self.chunk(index, None, out, |_| ());
                }
            }
            Part::Refusal => choice.open = Open::Refusal,
            Part::Reasoning => choice.open = Open::Reasoning { words: Escaped::EMPTY, state: None },
            Part::ToolCall { id, name, is_custom, signature } => {
                choice.open = Open::Call { is_custom, is_empty: true };
                let number = choice.calls;
                choice.calls += 1;
                let id = self.context.call_id(id.as_ref(), "call_", self.calls);
                self.calls += 1;
                let arguments = &Escaped::EMPTY;
                let (id, name, signature) = (&id, &name, signature.as_ref());
                if self.knows_older_calls && number == 0 {
                    return self.chunk(index, None, out, |json| write_older_call(json, Some(name), arguments));
                }
                let call = CallHead { index: Some(number), id, name, is_custom, arguments, signature };
                self.chunk(index, None, out, |json| json.key("tool_calls").array(|json| write_call(json, &call)));
            }
            Part::Media { media_type, data } => {
                choice.open = Open::Whole;
                let number = Some(choice.images);
                choice.images += 1;
                self.chunk(index, None, out, |json| {
                    json.key("images").array(|json| write_image(json, number, &media_type, &data));
                });
            }
        }
    }

    fn delta(&mut self, index: u32, text: &Escaped<'_>, out: &mut String) {
        if self.choice(index).is_some_and(|choice| matches!(choice.open, Open::Nothing)) {
            self.open(index, Part::Text, out);
        }
        let Some(choice) = self.choice(index).filter(|_| !text.is_empty()) else { return };
        let (key, is_custom) = match &mut choice.open {
            Open::Text => {
                choice.characters = choice.characters.saturating_add(characters(text));
                ("content", false)
            }
            Open::Refusal => ("refusal", false),
            Open::Reasoning { words, .. } => {
                words.push(text);
                ("reasoning_content", false)
            }
            Open::Call { is_custom, is_empty } => {
                *is_empty = false;
                ("tool_calls", *is_custom)
            }
            Open::Whole | Open::Nothing => return,
        };
        if key == "tool_calls" {
            return self.arguments(index, is_custom, text, out);
        }
        self.chunk(index, None, out, |json| json.key(key).escaped(text));
    }

    fn arguments(&mut self, index: u32, is_custom: bool, text: &Escaped<'_>, out: &mut String) {
        let number = self.choice(index).map_or(0, |choice| choice.calls.saturating_sub(1));
        if self.knows_older_calls && number == 0 {
            return self.chunk(index, None, out, |json| write_older_call(json, None, text));
        }
        let (kind, key) = if is_custom { ("custom", "input") } else { ("function", "arguments") };
        self.chunk(index, None, out, |json| {
            json.key("tool_calls").array(|json| {
                json.object(|json| {
                    json.key("index").count(number);
                    json.key(kind).object(|json| json.key(key).escaped(text));
                });
            });
        });
    }

    fn note(&mut self, index: u32, note: &Note<'_>, out: &mut String) {
        let Some(choice) = self.choice(index) else { return };
        match note {
            Note::Signature(told) => match &mut choice.open {
                Open::Reasoning { state, .. } => *state = Some(told.clone().into_owned()),
                _ => self.details(index, &Escaped::EMPTY, told, out),
            },
            Note::Citation(citation) => {
                let (from, to) = (choice.characters_before, choice.characters);
                let number = Some(choice.annotations);
                choice.annotations += 1;
                self.chunk(index, None, out, |json| {
                    json.key("annotations").array(|json| write_citation(json, number, citation, from, to));
                });
            }
        }
    }

    fn details(&mut self, index: u32, words: &Escaped<'_>, state: &Opaque<'_>, out: &mut String) {
        let mut number = self.choice(index).map_or(0, |choice| choice.details);
        self.chunk(index, None, out, |json| {
            let fill = |json: &mut Writer| reasoning_details::write(json, words, state, &mut number);
            json.key("reasoning_details").array(fill);
        });
        if let Some(choice) = self.choice(index) {
            choice.details = number;
        }
    }

    fn close(&mut self, index: u32, out: &mut String) {
        let Some(choice) = self.choice(index) else { return };
        match std::mem::take(&mut choice.open) {
            Open::Call { is_custom: false, is_empty: true } => self.arguments(index, false, &Escaped::of("{}"), out),
            Open::Reasoning { words, state: Some(state) } => self.details(index, &words, &state, out),
            _ => {}
        }
    }

    fn finish_choice(&mut self, index: u32, reason: FinishReason, out: &mut String) {
        self.close(index, out);
        if self.choice(index).is_none() {
            return;
        }
        let word = finish_word(reason, self.knows_older_calls);
        self.chunk(index, Some(word), out, |_| ());
        if let Some(choice) = self.choice(index) {
            choice.is_finished = true;
        }
    }
}

/// The vendor's id of an answer, or one that is made.
pub(super) fn answer_id(start: &Start<'_>, context: &AnswerContext) -> Escaped<'static> {
    match start.id.as_ref().filter(|id| !id.is_empty()) {
        Some(id) => id.clone().into_owned(),
        None => Escaped::of_owned(format!("chatcmpl-{}", context.seed)),
    }
}
