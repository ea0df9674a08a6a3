//! Reads one item of a Responses answer, whether it comes in pieces, whole, or both: what was told once is not told again.

use std::collections::BTreeMap;

use ez_contract::Protocol;

use super::super::event::{Citation, Event, Note, Part};
use super::super::opaque::{Opaque, OpaqueKind};
use super::read_input::image_type;
use crate::json::{Escaped, Value};

/// A piece of an item, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Piece {
    /// Words of a message.
    Text(u64),
    /// Words of a message that refuse.
    Refusal(u64),
    /// The model's own thoughts.
    Thought(u64),
    /// A summary of them.
    Summary(u64),
    /// What a call is made with.
    Input,
}

impl Piece {
    /// The pieces of one item's reasoning are one part.
    const fn is_reasoning(self) -> bool {
        matches!(self, Self::Thought(_) | Self::Summary(_))
    }

    const fn is_words(self) -> bool {
        matches!(self, Self::Text(_) | Self::Refusal(_))
    }
}

/// Where events go.
pub(super) type Sink<'s> = &'s mut dyn FnMut(Event<'_>);

/// What was told of an item so far.
#[derive(Debug, Default)]
pub(super) struct Item {
    /// The piece whose part is open.
    open: Option<Piece>,
    pieces: BTreeMap<Piece, Told>,
    /// Whether its reasoning has any words.
    has_thought: bool,
    /// Whether it is a call.
    pub(super) has_called: bool,
}

/// What was told of a piece.
#[derive(Debug, Default)]
struct Told {
    has_words: bool,
    annotations: usize,
}

impl Item {
    /// The item begins.
    pub(super) fn added(&mut self, item: Value<'_>, sink: Sink<'_>) {
        match kind(item).as_deref() {
            Some("function_call") => self.call(item, false, sink),
            Some("custom_tool_call") => self.call(item, true, sink),
            _ => {}
        }
    }

    /// A piece of a message begins.
    pub(super) fn part_added(&mut self, at: u64, part: Value<'_>, sink: Sink<'_>) {
        if let Some((piece, _)) = words_of(at, part) {
            self.words(piece, sink);
        }
    }

    /// More of a piece.
    pub(super) fn delta(&mut self, piece: Piece, text: Escaped<'_>, sink: Sink<'_>) {
        if text.is_empty() {
            return self.words(piece, sink);
        }
        if !self.opened(piece, sink) {
            return;
        }
        self.pieces.entry(piece).or_default().has_words = true;
        sink(Event::Delta { choice: 0, text });
    }

    /// The whole of a piece, which some servers send alone.
    pub(super) fn whole(&mut self, piece: Piece, text: Escaped<'_>, sink: Sink<'_>) {
        if !self.pieces.get(&piece).is_some_and(|told| told.has_words) {
            self.delta(piece, text, sink);
        }
    }

    /// Where a text is from.
    pub(super) fn annotation(&mut self, at: u64, annotation: Value<'_>, sink: Sink<'_>) {
        let piece = Piece::Text(at);
        if self.open == Some(piece) {
            self.pieces.entry(piece).or_default().annotations += 1;
            if let Some(citation) = citation(annotation) {
                sink(Event::Note { choice: 0, note: Note::Citation(citation) });
            }
        }
    }

    /// The whole of a part of a message.
    pub(super) fn part(&mut self, at: u64, part: Value<'_>, sink: Sink<'_>) {
        let Some((piece, text)) = words_of(at, part) else { return };
        self.whole(piece, text, sink);
        let told = self.pieces.get(&piece).map_or(0, |told| told.annotations);
        let annotations = part.get("annotations").and_then(Value::elements).unwrap_or_default();
        for annotation in annotations.into_iter().skip(told) {
            self.annotation(at, annotation, sink);
        }
    }

    /// The whole item.
    pub(super) fn done(&mut self, item: Value<'_>, sink: Sink<'_>) {
        match kind(item).as_deref() {
            Some("message") => {
                for (at, part) in numbered(item, "content") {
                    self.part(at, part, sink);
                }
            }
            Some("reasoning") => self.reasoning(item, sink),
            Some("function_call") => {
                self.call(item, false, sink);
                self.whole(Piece::Input, string(item, "arguments"), sink);
            }
            Some("custom_tool_call") => {
                self.call(item, true, sink);
                self.whole(Piece::Input, string(item, "input"), sink);
            }
            Some("image_generation_call") => self.image(item, sink),
            // Items of the vendor's own tools: their outcome stands in the text.
            _ => {}
        }
        self.close(sink);
    }

    /// The part that is open is complete.
    pub(super) fn close(&mut self, sink: Sink<'_>) {
        if self.open.take().is_some() {
            sink(Event::Close { choice: 0 });
        }
    }

    /// A piece of a message is there, words or not.
    fn words(&mut self, piece: Piece, sink: Sink<'_>) {
        if piece.is_words() && !self.pieces.contains_key(&piece) {
            self.opened(piece, sink);
            self.pieces.insert(piece, Told::default());
        }
    }

    /// Opens the part of a piece, unless it is open. False where nothing is known of it yet.
    fn opened(&mut self, piece: Piece, sink: Sink<'_>) -> bool {
        if self.open == Some(piece) {
            self.has_thought |= piece.is_reasoning();
            return true;
        }
        if piece == Piece::Input {
            return false;
        }
        if piece.is_reasoning() && self.open.is_some_and(Piece::is_reasoning) {
            if self.has_thought {
                sink(Event::Delta { choice: 0, text: Escaped::of("\n\n").borrowed() });
            }
        } else {
            self.close(sink);
            let part = match piece {
                Piece::Refusal(_) => Part::Refusal,
                Piece::Thought(_) | Piece::Summary(_) => Part::Reasoning,
                Piece::Text(_) | Piece::Input => Part::Text,
            };
            sink(Event::Open { choice: 0, part });
        }
        self.has_thought |= piece.is_reasoning();
        self.open = Some(piece);
        true
    }

    fn call(&mut self, item: Value<'_>, is_custom: bool, sink: Sink<'_>) {
        let Some(name) = item.get("name").and_then(Value::string).filter(|_| !self.has_called) else { return };
        self.close(sink);
        let id = item.get("call_id").and_then(Value::string);
        sink(Event::Open { choice: 0, part: Part::ToolCall { id, name, is_custom, signature: None } });
        (self.has_called, self.open) = (true, Some(Piece::Input));
    }

    fn reasoning(&mut self, item: Value<'_>, sink: Sink<'_>) {
        for (at, part) in numbered(item, "content") {
            self.whole(Piece::Thought(at), string(part, "text"), sink);
        }
        for (at, part) in numbered(item, "summary") {
            self.whole(Piece::Summary(at), string(part, "text"), sink);
        }
        let state = string(item, "encrypted_content");
        if state.is_empty() {
            return;
        }
        if !self.open.is_some_and(Piece::is_reasoning) {
            self.close(sink);
            sink(Event::Open { choice: 0, part: Part::Reasoning });
            self.open = Some(Piece::Summary(0));
        }
        let state = Opaque::read(Protocol::OpenaiResponses, OpaqueKind::Encrypted, state);
        sink(Event::Note { choice: 0, note: Note::Signature(state) });
    }

    fn image(&mut self, item: Value<'_>, sink: Sink<'_>) {
        let data = string(item, "result");
        if data.is_empty() {
            return;
        }
        self.close(sink);
        let format = item.get("output_format").and_then(Value::string);
        let part = Part::Media { media_type: image_type(format.as_ref()), data };
        sink(Event::Open { choice: 0, part });
        sink(Event::Close { choice: 0 });
    }
}

/// The piece that a part of a message is, and its words.
fn words_of(at: u64, part: Value<'_>) -> Option<(Piece, Escaped<'_>)> {
    match kind(part).as_deref() {
        Some("output_text") => Some((Piece::Text(at), string(part, "text"))),
        Some("refusal") => Some((Piece::Refusal(at), string(part, "refusal"))),
        _ => None,
    }
}

/// A page that a text is from. Files of the vendor's are known to nobody else.
fn citation(annotation: Value<'_>) -> Option<Citation<'_>> {
    if kind(annotation).as_deref() != Some("url_citation") {
        return None;
    }
    let place = |key| annotation.get(key).and_then(Value::count);
    Some(Citation {
        url: annotation.get("url")?.string()?,
        title: annotation.get("title").and_then(Value::string),
        range: place("start_index").zip(place("end_index")),
    })
}

fn kind(item: Value<'_>) -> Option<std::borrow::Cow<'_, str>> {
    item.get("type")?.string().map(Escaped::into_text)
}

fn string<'a>(item: Value<'a>, key: &str) -> Escaped<'a> {
    item.get(key).and_then(Value::string).unwrap_or(Escaped::EMPTY)
}

fn numbered<'a>(item: Value<'a>, key: &str) -> impl Iterator<Item = (u64, Value<'a>)> + use<'a> {
    (0..).zip(item.get(key).and_then(Value::elements).unwrap_or_default())
}
