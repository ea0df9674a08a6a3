//! Puts the fragments of a choice in order: parts come one after the other, also where a server mixes the fragments of
//! several calls. A call is closed when its arguments are whole; what comes in the meantime waits.

use std::collections::{HashMap, VecDeque};

use super::super::event::{Citation, Event, Note, Part};
use super::super::opaque::Opaque;
use crate::json::Escaped;

/// The kinds of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    Text,
    Refusal,
    Reasoning,
}

/// A fragment of a call.
#[derive(Debug, Default)]
pub(super) struct Call<'a> {
    pub(super) index: u64,
    pub(super) id: Option<Escaped<'a>>,
    pub(super) name: Option<Escaped<'a>>,
    pub(super) arguments: Option<Escaped<'a>>,
    pub(super) is_custom: bool,
    pub(super) signature: Option<Opaque<'a>>,
}

/// The parts of a choice: the first may be open, the others wait for it.
#[derive(Debug, Default)]
pub(super) struct ChoiceParts {
    slots: VecDeque<Slot>,
    /// How many slots came before the first one, so that places stay the same.
    gone: usize,
    /// The place of the last call of each index.
    calls: HashMap<u64, usize>,
    has_called: bool,
}

/// A part.
#[derive(Debug)]
struct Slot {
    what: What,
    /// Whether the client knows of it.
    is_open: bool,
    /// What waits to be told of it, in order.
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
enum What {
    Words {
        kind: Words,
        has_state: bool,
    },
    Call {
        id: Option<Escaped<'static>>,
        name: Escaped<'static>,
        is_custom: bool,
        signature: Option<Opaque<'static>>,
        json: Progress,
    },
    /// It is complete.
    Whole(Part<'static>),
}

#[derive(Debug)]
enum Waiting {
    Delta(Escaped<'static>),
    Note(Note<'static>),
}

impl ChoiceParts {
    /// More words of a kind. They go on with the last part where it is of this kind.
    pub(super) fn words(&mut self, choice: u32, kind: Words, text: Escaped<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        if text.is_empty() {
            return;
        }
        // Thoughts whose state was told are complete.
        let goes_on = self.slots.back().is_some_and(|slot| slot.is_words(kind) && !slot.has_state());
        if !goes_on {
            self.push(choice, Slot::of(What::Words { kind, has_state: false }), sink);
        }
        let last = self.last();
        self.tell(choice, last, text, sink);
    }

    /// The state of the thoughts that were told last; `is_apart` where it belongs to others that were not shown.
    pub(super) fn thought_state(
        &mut self,
        choice: u32,
        state: Opaque<'_>,
        is_apart: bool,
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        let goes_on =
            !is_apart && self.slots.back().is_some_and(|slot| slot.is_words(Words::Reasoning) && !slot.has_state());
        if !goes_on {
            self.push(choice, Slot::of(What::Words { kind: Words::Reasoning, has_state: false }), sink);
        }
        if let Some(Slot { what: What::Words { has_state, .. }, .. }) = self.slots.back_mut() {
            *has_state = true;
        }
        self.note(choice, Note::Signature(state), sink);
    }

    /// Where the text that was told last is taken from.
    pub(super) fn citation(&mut self, choice: u32, citation: Citation<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        if !self.slots.back().is_some_and(|slot| slot.is_words(Words::Text)) {
            self.push(choice, Slot::of(What::Words { kind: Words::Text, has_state: false }), sink);
        }
        self.note(choice, Note::Citation(citation), sink);
    }

    /// A part without deltas.
    pub(super) fn whole(&mut self, choice: u32, part: Part<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        self.push(choice, Slot::of(What::Whole(part.into_owned())), sink);
    }

    /// A fragment of a call.
    pub(super) fn call(&mut self, choice: u32, fragment: Call<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let known = self.calls.get(&fragment.index).copied();
        let goes_on = known.filter(|place| match self.slot(*place) {
            Some(slot) => slot.goes_on(&fragment),
            // It is complete: what tells nothing new is of no use, and what does is another call.
            None => fragment.id.is_none() && fragment.name.is_none(),
        });
        let place = match goes_on {
            Some(place) => place,
            None => {
                let json = Progress { is_free: fragment.is_custom, ..Progress::default() };
                let name = Escaped::EMPTY.into_owned();
                let is_custom = fragment.is_custom;
                self.push(choice, Slot::of(What::Call { id: None, name, is_custom, signature: None, json }), sink);
                let place = self.last();
                self.calls.insert(fragment.index, place);
                place
            }
        };
        self.has_called = true;
        if let Some(slot) = self.slot_mut(place) {
            slot.learn(&fragment);
        }
        self.advance(choice, sink);
        if let Some(arguments) = fragment.arguments.filter(|arguments| !arguments.is_empty()) {
            self.tell(choice, place, arguments, sink);
        }
    }

    /// Tells all that waits. Gives whether there was a call.
    pub(super) fn finish(mut self, choice: u32, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        while let Some(mut slot) = self.slots.pop_front() {
            slot.open(choice, sink);
            sink(Event::Close { choice });
        }
        self.has_called
    }

    /// The place of the last slot.
    fn last(&self) -> usize {
        (self.gone + self.slots.len()).saturating_sub(1)
    }

    fn slot(&self, place: usize) -> Option<&Slot> {
        self.slots.get(place.checked_sub(self.gone)?)
    }

    fn slot_mut(&mut self, place: usize) -> Option<&mut Slot> {
        self.slots.get_mut(place.checked_sub(self.gone)?)
    }

    fn push(&mut self, choice: u32, slot: Slot, sink: &mut dyn FnMut(Event<'_>)) {
        self.slots.push_back(slot);
        self.advance(choice, sink);
    }

    /// Opens the first part, and closes it where others wait and it is complete.
    fn advance(&mut self, choice: u32, sink: &mut dyn FnMut(Event<'_>)) {
        loop {
            let has_others = self.slots.len() > 1;
            let Some(first) = self.slots.front_mut() else { return };
            if !first.is_open && first.is_known() {
                first.open(choice, sink);
            }
            if !has_others || !first.is_open || !first.is_complete() {
                return;
            }
            sink(Event::Close { choice });
            self.slots.pop_front();
            self.gone += 1;
        }
    }

    /// More of the part at a place. What comes behind a complete call is nobody's.
    fn tell(&mut self, choice: u32, place: usize, text: Escaped<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(slot) = self.slot_mut(place) else { return };
        if let What::Call { json, .. } = &mut slot.what {
            json.add(&text);
        }
        if slot.is_open {
            sink(Event::Delta { choice, text });
            return self.advance(choice, sink);
        }
        match slot.waiting.last_mut() {
            Some(Waiting::Delta(waiting)) => waiting.push(&text),
            _ => slot.waiting.push(Waiting::Delta(text.into_owned())),
        }
    }

    /// Something about the last part.
    fn note(&mut self, choice: u32, note: Note<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(slot) = self.slots.back_mut() else { return };
        if slot.is_open {
            return sink(Event::Note { choice, note });
        }
        slot.waiting.push(Waiting::Note(match note {
            Note::Signature(state) => Note::Signature(state.into_owned()),
            Note::Citation(citation) => Note::Citation(citation.into_owned()),
        }));
    }
}

impl Slot {
    fn of(what: What) -> Self {
        Self { what, is_open: false, waiting: Vec::new() }
    }

    fn is_words(&self, wanted: Words) -> bool {
        matches!(self.what, What::Words { kind, .. } if kind == wanted)
    }

    fn has_state(&self) -> bool {
        matches!(self.what, What::Words { has_state: true, .. })
    }

    /// Whether enough is known to open it: a call needs its name.
    fn is_known(&self) -> bool {
        !matches!(&self.what, What::Call { name, .. } if name.is_empty())
    }

    fn is_complete(&self) -> bool {
        match &self.what {
            What::Call { json, .. } => json.is_free || json.is_done,
            What::Words { .. } | What::Whole(_) => true,
        }
    }

    /// Whether a fragment belongs to this call. Some servers send several calls under one index.
    fn goes_on(&self, fragment: &Call<'_>) -> bool {
        let What::Call { id, name, json, .. } = &self.what else { return false };
        match (id, &fragment.id) {
            (Some(id), Some(other)) => id == other,
            _ => fragment.name.is_none() || name.is_empty() || !json.is_done,
        }
    }

    /// Takes over what a fragment tells besides arguments.
    fn learn(&mut self, fragment: &Call<'_>) {
        let What::Call { id, name, signature, .. } = &mut self.what else { return };
        if id.is_none() {
            *id = fragment.id.clone().map(Escaped::into_owned);
        }
        if let Some(told) = fragment.name.as_ref().filter(|_| name.is_empty()) {
            *name = told.clone().into_owned();
        }
        if signature.is_none() {
            *signature = fragment.signature.clone().map(Opaque::into_owned);
        }
    }

    /// Tells of the part, and all that waits of it.
    fn open(&mut self, choice: u32, sink: &mut dyn FnMut(Event<'_>)) {
        if !self.is_open {
            self.is_open = true;
            sink(Event::Open { choice, part: self.part() });
        }
        for waiting in self.waiting.drain(..) {
            sink(match waiting {
                Waiting::Delta(text) => Event::Delta { choice, text },
                Waiting::Note(note) => Event::Note { choice, note },
            });
        }
    }

    fn part(&mut self) -> Part<'static> {
        match &mut self.what {
            What::Words { kind: Words::Text, .. } => Part::Text,
            What::Words { kind: Words::Refusal, .. } => Part::Refusal,
            What::Words { kind: Words::Reasoning, .. } => Part::Reasoning,
            What::Call { id, name, is_custom, signature, .. } => Part::ToolCall {
                id: id.clone(),
                name: name.clone(),
                is_custom: *is_custom,
                signature: signature.take(),
            },
            What::Whole(part) => std::mem::replace(part, Part::Text),
        }
    }
}

/// How far a JSON object has come, fragment by fragment.
#[derive(Debug, Default)]
struct Progress {
    /// Whether it is free text, which may end anywhere.
    is_free: bool,
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
    is_done: bool,
}

impl Progress {
    fn add(&mut self, text: &Escaped<'_>) {
        if self.is_free || self.is_done {
            return;
        }
        for byte in text.text().bytes() {
            match (self.is_in_string, byte) {
                (true, _) if self.is_escaped => self.is_escaped = false,
                (true, b'\\') => self.is_escaped = true,
                (_, b'"') => self.is_in_string = !self.is_in_string,
                (false, b'{' | b'[') => self.depth += 1,
                (false, b'}' | b']') => {
                    self.depth = self.depth.saturating_sub(1);
                    self.is_done |= self.depth == 0;
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(event: &Event<'_>) -> String {
        match event {
            Event::Open { part: Part::ToolCall { id, name, .. }, .. } => {
                format!("call {} {}", id.as_ref().map_or("-", Escaped::as_str), name.as_str())
            }
            Event::Open { part, .. } => format!("{part:?}"),
            Event::Delta { text, .. } => text.text().into_owned(),
            Event::Note { .. } => "note".into(),
            Event::Close { .. } => ";".into(),
            other => format!("{other:?}"),
        }
    }

    /// Fragments as `index id name arguments`, `-` for what is absent; words as `text …` and `think …`.
    fn told(fragments: &[&'static str]) -> String {
        let mut parts = ChoiceParts::default();
        let mut events = Vec::new();
        let mut sink = |event: Event<'_>| events.push(shown(&event));
        for fragment in fragments {
            let words: Vec<&'static str> = fragment.splitn(4, ' ').collect();
            let told = |at: usize| words.get(at).filter(|word| **word != "-").map(|word| Escaped::of(word));
            match words[0] {
                "text" => parts.words(0, Words::Text, Escaped::of(words[1]), &mut sink),
                "think" => parts.words(0, Words::Reasoning, Escaped::of(words[1]), &mut sink),
                index => {
                    let (index, is_custom) = (index.parse().unwrap(), false);
                    let (id, name, arguments) = (told(1), told(2), told(3));
                    parts.call(0, Call { index, id, name, arguments, is_custom, signature: None }, &mut sink);
                }
            }
        }
        parts.finish(0, &mut sink);
        events.join(" ")
    }

    #[test]
    fn parts_come_one_after_the_other() {
        let cases: [(&[&'static str], &str); 12] = [
            (&["0 i f {}", "text x", "0 j g {}"], "call i f {} ; Text x ; call j g {} ;"),
            (&["0 i f {}", "text x", "0 - - }"], "call i f {} ; Text x ;"),
            (&["think a", "think b", "text c", "text d"], "Reasoning a b ; Text c d ;"),
            (&["text a", "0 i f -", "0 - - {", "0 - - }", "text b"], "Text a ; call i f { } ; Text b ;"),
            (&["0 i f {}", "1 j g {}"], "call i f {} ; call j g {} ;"),
            (&["0 i f {", "1 j g {", "0 - - }", "1 - - }"], "call i f { } ; call j g { } ;"),
            (
                &["0 i f {", "1 j g {}", "2 k h {", "text x", "2 - - }"],
                "call i f { ; call j g {} ; call k h {} ; Text x ;",
            ),
            (&["0 i - -", "0 - f {", "0 i f }"], "call i f { } ;"),
            (&["0 i f {}", "0 j f {}"], "call i f {} ; call j f {} ;"),
            (&["0 - f {}", "0 - g {}"], "call - f {} ; call - g {} ;"),
            (&["0 i f -", "1 j g -"], "call i f ; call j g ;"),
            (&["0 i f {\"a\":\"}\\", "1 j g {}", "0 - - \"\"}"], "call i f {\"a\":\"}\\ \"\"} ; call j g {} ;"),
        ];
        for (fragments, expected) in cases {
            let expected = expected.to_owned();
            assert_eq!(told(fragments), expected, "{fragments:?}");
        }
    }
}
