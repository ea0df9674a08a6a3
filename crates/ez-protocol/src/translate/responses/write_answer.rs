//! Writes an OpenAI Responses answer as a stream.

use std::sync::Arc;

use super::super::event::{Citation, Event, FinishReason, Note, Part, Start, Usage};
use super::super::opaque::Opaque;
use super::super::target::AnswerContext;
use super::items::{self, CallHead, ItemStatus};
use super::namespaces::Namespaces;
use super::numbered_events::Events;
use super::response::{Head, Status, write_response};
use crate::json::Escaped;

/// Writes a stream, event by event.
#[derive(Debug)]
pub(in crate::translate) struct AnswerWriter {
    context: Arc<AnswerContext>,
    namespaces: Namespaces,
    events: Events,
    /// What the response says of itself; `None` before its first event.
    head: Option<Head>,
    open: Open,
    /// The finished items, as they were written: the last event repeats them.
    output: Vec<String>,
    usage: Option<Usage>,
    reason: Option<FinishReason>,
    is_finished: bool,
}

/// The item under way.
#[derive(Debug)]
enum Open {
    Nothing,
    Message(Message),
    Reasoning(Thoughts),
    Call { head: CallHead, input: Escaped<'static> },
}

/// A message: texts that follow each other are parts of one.
#[derive(Debug)]
struct Message {
    id: Escaped<'static>,
    content: Vec<String>,
    part: Option<Words>,
}

#[derive(Debug)]
struct Words {
    is_refusal: bool,
    text: Escaped<'static>,
    citations: Vec<String>,
}

#[derive(Debug)]
struct Thoughts {
    id: Escaped<'static>,
    text: Escaped<'static>,
    state: Option<Opaque<'static>>,
}

impl AnswerWriter {
    pub(in crate::translate) fn new(context: Arc<AnswerContext>) -> Self {
        let namespaces = Namespaces::of(&context);
        Self {
            context,
            namespaces,
            events: Events::default(),
            head: None,
            open: Open::Nothing,
            output: Vec::new(),
            usage: None,
            reason: None,
            is_finished: false,
        }
    }

    /// Writes what an event means to the client, if anything, as whole server-sent events. There is one choice.
    pub(in crate::translate) fn write(&mut self, event: Event<'_>, out: &mut String) {
        match event {
            Event::Start(start) => self.start(start, out),
            Event::Open { choice: 0, part } => {
                self.start(Start::default(), out);
                self.close_part(out);
                self.open(part, out);
            }
            Event::Delta { choice: 0, text } => self.delta(&text, out),
            Event::Note { choice: 0, note } => self.note(note, out),
            Event::Close { choice: 0 } => self.close_part(out),
            Event::Finish { choice: 0, reason, .. } => self.reason = Some(reason),
            Event::Usage(usage) => self.usage = Some(usage),
            _ => {}
        }
    }

    /// Writes what ends the stream.
    pub(in crate::translate) fn finish(&mut self, out: &mut String) {
        if self.is_finished {
            return;
        }
        self.is_finished = true;
        self.start(Start::default(), out);
        self.close_part(out);
        let status = Status::of(self.reason);
        self.close_message(status.of_last_message(), out);
        self.response(&format!("response.{}", status.word()), status, out);
    }

    /// How many events with data were written, for the number of one that comes next.
    pub(in crate::translate) fn events(&self) -> u64 {
        self.events.written
    }

    fn start(&mut self, start: Start<'_>, out: &mut String) {
        if self.head.is_none() {
            self.head = Some(Head::of(start, &self.context));
            self.response("response.created", Status::InProgress, out);
            self.response("response.in_progress", Status::InProgress, out);
        }
    }

    fn response(&mut self, kind: &str, status: Status, out: &mut String) {
        let Some(head) = &self.head else { return };
        // Only the last event tells it.
        let usage = self.usage.as_ref().filter(|_| status != Status::InProgress);
        self.events.write(out, kind, |json| {
            json.key("response");
            write_response(json, &self.context, head, status, &self.output, usage);
        });
    }

    fn made_id(&self, prefix: &str) -> Escaped<'static> {
        self.context.made_id(prefix, self.output.len())
    }

    fn open(&mut self, part: Part<'_>, out: &mut String) {
        match part {
            Part::Text => self.open_words(false, out),
            Part::Refusal => self.open_words(true, out),
            other => {
                self.close_message(ItemStatus::Completed, out);
                match other {
                    Part::ToolCall { id, name, is_custom, signature } => {
                        if let Some(state) = signature {
                            self.open_thoughts(Some(state.into_owned()), out);
                            self.close_part(out);
                        }
                        self.open_call(id.as_ref(), name.into_owned(), is_custom, out);
                    }
                    Part::Media { media_type, data } => self.image(&media_type, &data, out),
                    _ => self.open_thoughts(None, out),
                }
            }
        }
    }

    fn open_words(&mut self, is_refusal: bool, out: &mut String) {
        let index = self.output.len();
        if !matches!(self.open, Open::Message(_)) {
            let id = self.made_id("msg_");
            let item = items::message(&id, ItemStatus::InProgress, &[]);
            self.events.item(out, "response.output_item.added", index, &item);
            self.open = Open::Message(Message { id, content: Vec::new(), part: None });
        }
        let Open::Message(message) = &mut self.open else { return };
        let place = Some(("content_index", message.content.len()));
        let part = items::words(is_refusal, &Escaped::EMPTY, &[]);
        self.events.piece(out, "response.content_part.added", (&message.id, index), place, |json| {
            json.key("part").raw(&part);
        });
        message.part = Some(Words { is_refusal, text: Escaped::EMPTY, citations: Vec::new() });
    }

    fn open_thoughts(&mut self, state: Option<Opaque<'static>>, out: &mut String) {
        let id = self.made_id("rs_");
        let item = items::reasoning(&id, &Escaped::EMPTY, None);
        self.events.item(out, "response.output_item.added", self.output.len(), &item);
        self.open = Open::Reasoning(Thoughts { id, text: Escaped::EMPTY, state });
    }

    fn open_call(&mut self, id: Option<&Escaped<'_>>, name: Escaped<'static>, is_custom: bool, out: &mut String) {
        let head = CallHead {
            id: self.made_id(CallHead::prefix(is_custom)),
            call_id: self.context.call_id(id, "call_", self.output.len()),
            name,
            is_custom,
        };
        let item = head.item(ItemStatus::InProgress, &Escaped::EMPTY, &self.namespaces);
        self.events.item(out, "response.output_item.added", self.output.len(), &item);
        self.open = Open::Call { head, input: Escaped::EMPTY };
    }

    /// Images alone have an item of their own.
    fn image(&mut self, media_type: &Escaped<'_>, data: &Escaped<'_>, out: &mut String) {
        let media_type = media_type.text();
        if !media_type.starts_with("image/") {
            return;
        }
        let (id, index) = (self.made_id("ig_"), self.output.len());
        let item = items::image(&id, ItemStatus::InProgress, &media_type, None);
        self.events.item(out, "response.output_item.added", index, &item);
        self.events.piece(out, "response.image_generation_call.completed", (&id, index), None, |_| ());
        self.item_done(items::image(&id, ItemStatus::Completed, &media_type, Some(data)), out);
    }

    fn delta(&mut self, text: &Escaped<'_>, out: &mut String) {
        if text.is_empty() {
            return;
        }
        let index = self.output.len();
        match &mut self.open {
            Open::Nothing | Open::Message(Message { part: None, .. }) => {}
            Open::Message(Message { id, content, part: Some(part) }) => {
                part.text.push(text);
                let (kind, is_refusal) = match part.is_refusal {
                    true => ("response.refusal.delta", true),
                    false => ("response.output_text.delta", false),
                };
                let place = Some(("content_index", content.len()));
                self.events.piece(out, kind, (id, index), place, |json| {
                    json.key("delta").escaped(text);
                    if !is_refusal {
                        json.key("logprobs").raw("[]");
                    }
                });
            }
            Open::Reasoning(thoughts) => {
                let (item, place) = ((&thoughts.id, index), Some(("summary_index", 0)));
                if thoughts.text.is_empty() {
                    let part = items::summary(&Escaped::EMPTY);
                    self.events.piece(out, "response.reasoning_summary_part.added", item, place, |json| {
                        json.key("part").raw(&part);
                    });
                }
                self.events.piece(out, "response.reasoning_summary_text.delta", item, place, |json| {
                    json.key("delta").escaped(text);
                });
                thoughts.text.push(text);
            }
            Open::Call { head, input } => {
                input.push(text);
                call_delta(&mut self.events, head, index, text, out);
            }
        }
    }

    fn note(&mut self, note: Note<'_>, out: &mut String) {
        match (note, &mut self.open) {
            (Note::Signature(state), Open::Reasoning(thoughts)) => thoughts.state = Some(state.into_owned()),
            (Note::Citation(citation), Open::Message(message)) => {
                cite(&mut self.events, message, self.output.len(), &citation, out);
            }
            _ => {}
        }
    }

    /// Ends the part under way. A message stays open: another text may follow.
    fn close_part(&mut self, out: &mut String) {
        let index = self.output.len();
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => {}
            Open::Message(mut message) => {
                if let Some(part) = message.part.take() {
                    end_words(&mut self.events, &mut message, &part, index, out);
                }
                self.open = Open::Message(message);
            }
            Open::Reasoning(Thoughts { id, text, state }) => {
                if !text.is_empty() {
                    end_summary(&mut self.events, &id, &text, index, out);
                }
                self.item_done(items::reasoning(&id, &text, state.as_ref()), out);
            }
            Open::Call { head, mut input } => {
                if input.is_empty() && !head.is_custom {
                    // Clients parse it.
                    input = Escaped::of("{}");
                    call_delta(&mut self.events, &head, index, &input, out);
                }
                let (kind, key) = match head.is_custom {
                    true => ("response.custom_tool_call_input.done", "input"),
                    false => ("response.function_call_arguments.done", "arguments"),
                };
                self.events.piece(out, kind, (&head.id, index), None, |json| json.key(key).escaped(&input));
                self.item_done(head.item(ItemStatus::Completed, &input, &self.namespaces), out);
            }
        }
    }

    /// Ends a message.
    fn close_message(&mut self, status: ItemStatus, out: &mut String) {
        if let Open::Message(message) = std::mem::replace(&mut self.open, Open::Nothing) {
            self.item_done(items::message(&message.id, status, &message.content), out);
        }
    }

    fn item_done(&mut self, item: String, out: &mut String) {
        self.events.item(out, "response.output_item.done", self.output.len(), &item);
        self.output.push(item);
    }
}

fn call_delta(events: &mut Events, head: &CallHead, index: usize, text: &Escaped<'_>, out: &mut String) {
    let kind = match head.is_custom {
        true => "response.custom_tool_call_input.delta",
        false => "response.function_call_arguments.delta",
    };
    events.piece(out, kind, (&head.id, index), None, |json| json.key("delta").escaped(text));
}

fn cite(events: &mut Events, message: &mut Message, index: usize, told: &Citation<'_>, out: &mut String) {
    let Some(part) = message.part.as_mut().filter(|part| !part.is_refusal) else { return };
    let annotation = items::citation(told);
    let place = Some(("content_index", message.content.len()));
    events.piece(out, "response.output_text.annotation.added", (&message.id, index), place, |json| {
        json.key("annotation_index").count(part.citations.len() as u64);
        json.key("annotation").raw(&annotation);
    });
    part.citations.push(annotation);
}

fn end_words(events: &mut Events, message: &mut Message, part: &Words, index: usize, out: &mut String) {
    let place = Some(("content_index", message.content.len()));
    let kind = if part.is_refusal { "response.refusal.done" } else { "response.output_text.done" };
    events.piece(out, kind, (&message.id, index), place, |json| {
        if part.is_refusal {
            json.key("refusal").escaped(&part.text);
        } else {
            json.key("logprobs").raw("[]");
            json.key("text").escaped(&part.text);
        }
    });
    let written = items::words(part.is_refusal, &part.text, &part.citations);
    events.piece(out, "response.content_part.done", (&message.id, index), place, |json| {
        json.key("part").raw(&written);
    });
    message.content.push(written);
}

fn end_summary(events: &mut Events, id: &Escaped<'_>, text: &Escaped<'_>, index: usize, out: &mut String) {
    let place = Some(("summary_index", 0));
    events.piece(out, "response.reasoning_summary_text.done", (id, index), place, |json| {
        json.key("text").escaped(text);
    });
    let part = items::summary(text);
    events.piece(out, "response.reasoning_summary_part.done", (id, index), place, |json| {
        json.key("part").raw(&part);
    });
}

#[cfg(test)]
#[path = "write_answer_tests.rs"]
mod tests;
