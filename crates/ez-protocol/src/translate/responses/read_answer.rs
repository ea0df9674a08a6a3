//! Reads an OpenAI Responses answer, streamed or whole.

use std::collections::{BTreeMap, BTreeSet};

use super::super::event::{Event, FinishReason, Note, Start, Usage};
use super::super::opaque::Opaque;
use super::read_item::{Item, Piece, Sink};
use crate::json::{Escaped, Value};
use crate::usage::OpenAiUsage;

/// Reads a stream, event by event. Items may come side by side; they are told one after the other, which holds back those
/// that begin before an earlier one is done.
#[derive(Debug, Default)]
pub(in crate::translate) struct AnswerReader {
    is_started: bool,
    is_finished: bool,
    has_called: bool,
    /// The item that is being told, by its `output_index`: ids of items change under way on some servers.
    current: Option<u64>,
    items: BTreeMap<u64, Waiting>,
    done: BTreeSet<u64>,
    /// Whether a server gave several items the same index.
    has_reused: bool,
    /// The item that was last spoken of, for servers that leave out its index.
    last: u64,
}

/// An item, and what it has to tell when its turn comes.
#[derive(Debug, Default)]
struct Waiting {
    item: Item,
    events: Vec<Event<'static>>,
    is_done: bool,
}

impl AnswerReader {
    /// Tells what the data of the next event means.
    pub(in crate::translate) fn read(&mut self, data: Value<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        if self.is_finished {
            return;
        }
        let told = Told::of(data);
        let kind = told.kind.as_ref().map(Escaped::text);
        let Some(kind) = kind.as_deref().and_then(|kind| kind.strip_prefix("response.")) else { return };
        match kind {
            "created" | "in_progress" | "queued" => self.start(told.response, sink),
            "completed" | "incomplete" | "failed" | "cancelled" => self.terminal(kind, told.response, sink),
            "output_item.done" => {
                if let Some(value) = told.item {
                    let index = self.with_item(&told, sink, |item, sink| item.done(value, sink));
                    self.item_done(index, sink);
                }
            }
            _ => {
                if let Some(news) = told.news(kind) {
                    self.with_item(&told, sink, |item, sink| news.tell(item, sink));
                }
            }
        }
    }

    /// Tells what was held back until the proper end.
    pub(in crate::translate) fn finish(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if !self.is_finished {
            self.terminal("completed", None, sink);
        }
    }

    fn start(&mut self, response: Option<Value<'_>>, sink: Sink<'_>) {
        if !self.is_started {
            self.is_started = true;
            let id = response.and_then(|response| response.get("id")?.string());
            let created_at = response.and_then(|response| response.get("created_at")?.count());
            sink(Event::Start(Start { id, created_at }));
        }
    }

    /// Lets an item tell something: now where it is its turn, else later. Gives its index.
    fn with_item(&mut self, told: &Told<'_>, sink: Sink<'_>, tell: impl FnOnce(&mut Item, Sink<'_>)) -> u64 {
        self.start(None, sink);
        let index = told.output_index.unwrap_or(self.last);
        self.last = index;
        if told.is_added() && self.done.remove(&index) {
            self.has_reused = true;
        }
        if self.done.contains(&index) {
            return index;
        }
        let current = *self.current.get_or_insert(index);
        let waiting = self.items.entry(index).or_default();
        if waiting.is_done {
            return index;
        }
        if current == index {
            tell(&mut waiting.item, sink);
        } else {
            let Waiting { item, events, .. } = waiting;
            tell(item, &mut |event| events.push(kept(event)));
        }
        index
    }

    /// The item is complete: where it was its turn, the next one is told.
    fn item_done(&mut self, index: u64, sink: Sink<'_>) {
        if let Some(waiting) = self.items.get_mut(&index) {
            waiting.is_done = true;
        }
        while let Some(current) = self.current {
            if self.items.get(&current).is_some_and(|waiting| !waiting.is_done) {
                return;
            }
            if let Some(waiting) = self.items.remove(&current) {
                self.has_called |= waiting.item.has_called;
            }
            self.done.insert(current);
            self.current = self.items.first_entry().map(|mut next| {
                std::mem::take(&mut next.get_mut().events).into_iter().for_each(&mut *sink);
                *next.key()
            });
        }
    }

    /// The last event: it holds the whole response.
    fn terminal(&mut self, kind: &str, response: Option<Value<'_>>, sink: Sink<'_>) {
        self.start(response, sink);
        while let Some(index) = self.current {
            if let Some(waiting) = self.items.get_mut(&index) {
                waiting.item.close(sink);
            }
            self.item_done(index, sink);
        }
        let output = response.and_then(|response| response.get("output")?.elements()).unwrap_or_default();
        // Places and indexes go together, or the server counts in its own way and nothing can be said.
        let has_place = |last: &u64| usize::try_from(*last).is_ok_and(|last| last < output.len());
        if !self.has_reused && self.done.last().is_none_or(has_place) {
            for (_, item) in (0..).zip(output).filter(|(index, _)| !self.done.contains(index)) {
                self.has_called |= tell_whole(item, sink);
            }
        }
        self.is_finished = true;
        tell_end(kind, response, self.has_called, sink);
    }
}

/// Tells what a whole answer means. `None` where it is none.
pub(in crate::translate) fn read_plain(body: Value<'_>, sink: &mut dyn FnMut(Event<'_>)) -> Option<()> {
    body.get("output")?.elements()?;
    AnswerReader::default().terminal("completed", Some(body), sink);
    Some(())
}

/// Tells an item that nothing was told of. Whether it is a call.
fn tell_whole(value: Value<'_>, sink: Sink<'_>) -> bool {
    let mut item = Item::default();
    item.done(value, sink);
    item.has_called
}

/// Tells the usage, and how a response ended: as it says itself, else as its last event is called.
fn tell_end(kind: &str, response: Option<Value<'_>>, has_called: bool, sink: Sink<'_>) {
    let told = response.and_then(|response| response.get("status")?.string());
    let told = told.as_ref().map(Escaped::text);
    let status = told.as_deref().unwrap_or(kind);
    let usage = response.and_then(|response| response.get("usage"));
    let usage = usage.and_then(|usage| serde_json::from_str::<OpenAiUsage>(usage.as_str()).ok()?.into_tokens());
    if let Some(tokens) = usage {
        sink(Event::Usage(Usage::of(tokens, None)));
    }
    let details = response.and_then(|response| response.get("incomplete_details")?.get("reason")?.string());
    let reason = match (status, details.as_ref().map(Escaped::text).as_deref()) {
        ("failed" | "cancelled", _) => FinishReason::Failed,
        ("incomplete", Some("content_filter")) => FinishReason::Refused,
        ("incomplete", _) => FinishReason::Length,
        _ if has_called => FinishReason::ToolCalls,
        _ => FinishReason::Stop,
    };
    sink(Event::Finish { choice: 0, reason, stop_sequence: None });
}

/// The fields of an event that say anything, read in one pass.
#[derive(Default)]
struct Told<'a> {
    kind: Option<Escaped<'a>>,
    output_index: Option<u64>,
    /// `content_index` or `summary_index`.
    place: u64,
    delta: Option<Escaped<'a>>,
    /// `text`, `refusal`, `arguments` or `input`: all of what came in deltas.
    whole: Option<Escaped<'a>>,
    item: Option<Value<'a>>,
    part: Option<Value<'a>>,
    annotation: Option<Value<'a>>,
    response: Option<Value<'a>>,
}

impl<'a> Told<'a> {
    fn of(data: Value<'a>) -> Self {
        let mut told = Self::default();
        for (key, value) in data.members().unwrap_or_default() {
            match key.as_str() {
                "type" => told.kind = value.string(),
                "output_index" => told.output_index = value.count(),
                "content_index" | "summary_index" => told.place = value.count().unwrap_or(0),
                "delta" => told.delta = value.string(),
                "text" | "refusal" | "arguments" | "input" => told.whole = value.string(),
                "item" => told.item = Some(value),
                "part" => told.part = Some(value),
                "annotation" => told.annotation = Some(value),
                "response" => told.response = Some(value),
                _ => {}
            }
        }
        told
    }

    fn is_added(&self) -> bool {
        self.kind.as_ref().is_some_and(|kind| kind.is("response.output_item.added"))
    }

    /// What it says of its item. `None` where that is nothing.
    fn news(&self, kind: &str) -> Option<News<'a>> {
        match kind {
            "output_item.added" => self.item.map(News::Added),
            "content_part.added" => self.part.map(|part| News::PartAdded(self.place, part)),
            "content_part.done" => self.part.map(|part| News::Part(self.place, part)),
            "output_text.annotation.added" => self.annotation.map(|told| News::Annotation(self.place, told)),
            _ => {
                let (what, step) = kind.rsplit_once('.')?;
                let piece = match what {
                    "output_text" => Piece::Text(self.place),
                    "refusal" => Piece::Refusal(self.place),
                    "reasoning_text" => Piece::Thought(self.place),
                    "reasoning_summary_text" => Piece::Summary(self.place),
                    "function_call_arguments" | "custom_tool_call_input" => Piece::Input,
                    _ => return None,
                };
                match step {
                    "delta" => self.delta.clone().map(|text| News::Delta(piece, text)),
                    "done" => self.whole.clone().map(|text| News::Whole(piece, text)),
                    _ => None,
                }
            }
        }
    }
}

/// What an event says of an item.
enum News<'a> {
    Added(Value<'a>),
    PartAdded(u64, Value<'a>),
    Part(u64, Value<'a>),
    Annotation(u64, Value<'a>),
    Delta(Piece, Escaped<'a>),
    Whole(Piece, Escaped<'a>),
}

impl News<'_> {
    fn tell(self, item: &mut Item, sink: Sink<'_>) {
        match self {
            Self::Added(value) => item.added(value, sink),
            Self::PartAdded(at, part) => item.part_added(at, part, sink),
            Self::Part(at, part) => item.part(at, part, sink),
            Self::Annotation(at, annotation) => item.annotation(at, annotation, sink),
            Self::Delta(piece, text) => item.delta(piece, text, sink),
            Self::Whole(piece, text) => item.whole(piece, text, sink),
        }
    }
}

/// An event of an item, kept until its turn.
fn kept(event: Event<'_>) -> Event<'static> {
    match event {
        Event::Open { choice, part } => Event::Open { choice, part: part.into_owned() },
        Event::Delta { choice, text } => Event::Delta { choice, text: text.into_owned() },
        Event::Note { choice, note } => {
            let note = match note {
                Note::Signature(state) => Note::Signature(Opaque::into_owned(state)),
                Note::Citation(citation) => Note::Citation(citation.into_owned()),
            };
            Event::Note { choice, note }
        }
        Event::Close { choice } => Event::Close { choice },
        Event::Finish { choice, reason, stop_sequence } => {
            Event::Finish { choice, reason, stop_sequence: stop_sequence.map(Escaped::into_owned) }
        }
        Event::Start(Start { id, created_at }) => Event::Start(Start { id: id.map(Escaped::into_owned), created_at }),
        Event::Usage(usage) => Event::Usage(usage),
    }
}

#[cfg(test)]
#[path = "read_answer_tests.rs"]
pub(super) mod tests;
