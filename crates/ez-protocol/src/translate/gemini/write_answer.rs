//! Writes a Gemini generateContent answer, streamed or whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::answer::{Answer, WholePart};
use super::super::event::{Citation, Event, FinishReason, Note, Part, Usage};
use super::super::opaque::Opaque;
use super::super::target::AnswerContext;
use super::write_part::write_inline;
use super::write_response::{CALL_PREFIX, Ending, Response, WholeCall, write_candidate, write_words};
use crate::json::{Escaped, Writer};

/// Writes a stream, event by event: a chunk for each piece of text and for each whole call, and one at the end with why
/// the candidates ended and what was used, which stand together in Gemini's streams.
#[derive(Debug)]
pub(in crate::translate) struct AnswerWriter {
    context: Arc<AnswerContext>,
    /// How many events with data were written.
    events: u64,
    /// The answer's id.
    id: Escaped<'static>,
    /// How many calls were told, for their ids.
    calls: usize,
    /// By their index.
    candidates: BTreeMap<u32, Candidate>,
    usage: Option<Usage>,
    /// The chunk under way; kept for its room.
    json: Writer,
}

#[derive(Debug, Default)]
struct Candidate {
    open: Open,
    citations: Vec<Citation<'static>>,
    finish: Option<FinishReason>,
}

/// The part that is open.
#[derive(Debug, Default)]
enum Open {
    #[default]
    Nothing,
    Text,
    Thought {
        has_text: bool,
        signature: Option<Opaque<'static>>,
    },
    /// Put together, since Gemini's calls are whole.
    Call(Box<WholeCall<'static>>),
}

impl AnswerWriter {
    pub(in crate::translate) fn new(context: Arc<AnswerContext>) -> Self {
        let id = response_id(None, &context);
        let (candidates, json) = (BTreeMap::new(), Writer::default());
        Self { context, events: 0, id, calls: 0, candidates, usage: None, json }
    }

    /// Writes what an event means to the client, if anything, as whole server-sent events.
    pub(in crate::translate) fn write(&mut self, event: Event<'_>, out: &mut String) {
        match event {
            Event::Start(start) => {
                self.id = response_id(start.id.as_ref(), &self.context);
                // From here on there is an answer to end.
                self.candidates.entry(0).or_default();
            }
            Event::Open { choice, part } => self.open(choice, part, out),
            Event::Delta { choice, text } => self.say(choice, &text, out),
            Event::Note { choice, note } => self.note(choice, note),
            Event::Close { choice } => self.close(choice, out),
            Event::Finish { choice, reason, .. } => {
                self.close(choice, out);
                self.candidates.entry(choice).or_default().finish = Some(reason);
            }
            Event::Usage(usage) => self.usage = Some(usage),
        }
    }

    /// Writes what ends the stream.
    pub(in crate::translate) fn finish(&mut self, out: &mut String) {
        let open: Vec<u32> = self.candidates.keys().copied().collect();
        open.into_iter().for_each(|choice| self.close(choice, out));
        let candidates = std::mem::take(&mut self.candidates);
        let usage = self.usage.take();
        if !candidates.is_empty() || usage.is_some() {
            self.chunk(usage, out, |json| {
                for (index, candidate) in &candidates {
                    let reason = candidate.finish.unwrap_or(FinishReason::Stop);
                    let ending = Ending { reason, citations: &candidate.citations };
                    write_candidate(json, *index, Some(&ending), |json| {
                        write_words(json, &Escaped::EMPTY, false, None)
                    });
                }
            });
        }
        if self.context.is_array {
            out.push_str(if self.events == 0 { "[]" } else { "]" });
        }
    }

    /// How many events with data were written, for the number of one that comes next.
    pub(in crate::translate) fn events(&self) -> u64 {
        self.events
    }

    fn open(&mut self, choice: u32, part: Part<'_>, out: &mut String) {
        self.close(choice, out);
        let open = match part {
            Part::Text | Part::Refusal => Open::Text,
            Part::Reasoning => Open::Thought { has_text: false, signature: None },
            Part::ToolCall { id, name, is_custom, signature } => {
                let id = self.context.call_id(id.as_ref(), CALL_PREFIX, self.calls);
                self.calls += 1;
                let (name, signature) = (name.into_owned(), signature.map(Opaque::into_owned));
                Open::Call(Box::new(WholeCall { id, name, is_custom, signature, arguments: Escaped::EMPTY }))
            }
            Part::Media { media_type, data } => {
                self.part(choice, out, |json| json.object(|json| write_inline(json, &media_type, &data)));
                Open::Nothing
            }
        };
        self.candidates.entry(choice).or_default().open = open;
    }

    fn say(&mut self, choice: u32, text: &Escaped<'_>, out: &mut String) {
        if text.is_empty() {
            return;
        }
        let is_thought = match self.candidates.get_mut(&choice).map(|candidate| &mut candidate.open) {
            Some(Open::Text) => false,
            Some(Open::Thought { has_text, .. }) => {
                *has_text = true;
                true
            }
            Some(Open::Call(call)) => return call.arguments.push(text),
            Some(Open::Nothing) | None => return,
        };
        self.part(choice, out, |json| write_words(json, text, is_thought, None));
    }

    fn note(&mut self, choice: u32, note: Note<'_>) {
        let Some(candidate) = self.candidates.get_mut(&choice) else { return };
        match (note, &mut candidate.open) {
            (Note::Signature(told), Open::Thought { signature, .. }) => *signature = Some(told.into_owned()),
            (Note::Signature(_), _) => {}
            (Note::Citation(citation), _) => candidate.citations.push(citation.into_owned()),
        }
    }

    fn close(&mut self, choice: u32, out: &mut String) {
        let Some(candidate) = self.candidates.get_mut(&choice) else { return };
        match std::mem::take(&mut candidate.open) {
            Open::Thought { has_text, signature: Some(signature) } => {
                self.part(choice, out, |json| write_words(json, &Escaped::EMPTY, has_text, Some(&signature)));
            }
            Open::Call(call) => self.part(choice, out, |json| call.write(json)),
            Open::Nothing | Open::Text | Open::Thought { signature: None, .. } => {}
        }
    }

    /// Writes a chunk with one part.
    fn part(&mut self, choice: u32, out: &mut String, part: impl FnOnce(&mut Writer)) {
        self.chunk(None, out, |json| write_candidate(json, choice, None, part));
    }

    /// Writes a chunk, framed.
    fn chunk(&mut self, usage: Option<Usage>, out: &mut String, candidates: impl FnOnce(&mut Writer)) {
        self.json.clear();
        let response = Response { id: &self.id, model: &self.context.model, usage: usage.as_ref() };
        response.write(&mut self.json, candidates);
        out.push_str(match (self.context.is_array, self.events) {
            (false, _) => "data: ",
            (true, 0) => "[",
            (true, _) => ",\r\n",
        });
        out.push_str(self.json.as_str());
        if !self.context.is_array {
            out.push_str("\r\n\r\n");
        }
        self.events += 1;
    }
}

/// The answer's id: the vendor's where it gave one.
fn response_id(told: Option<&Escaped<'_>>, context: &AnswerContext) -> Escaped<'static> {
    context.call_id(told, "", 0)
}

/// A whole answer.
pub(in crate::translate) fn write_plain(answer: &Answer, context: &AnswerContext) -> String {
    let id = response_id(answer.start.id.as_ref(), context);
    let response = Response { id: &id, model: &context.model, usage: answer.usage.as_ref() };
    let mut json = Writer::with_capacity(1 << 10);
    let mut calls = 0;
    response.write(&mut json, |json| {
        for choice in &answer.choices {
            let citations: Vec<_> = choice.parts.iter().flat_map(|part| part.citations.iter().cloned()).collect();
            let ending = Ending { reason: choice.finish.unwrap_or(FinishReason::Stop), citations: &citations };
            write_candidate(json, choice.index, Some(&ending), |json| {
                choice.parts.iter().for_each(|part| write_part(json, part, &mut calls, context));
                // Google's SDK takes a content without parts for none.
                if choice.parts.is_empty() {
                    write_words(json, &Escaped::EMPTY, false, None);
                }
            });
        }
    });
    json.finish()
}

fn write_part(json: &mut Writer, part: &WholePart, calls: &mut usize, context: &AnswerContext) {
    match &part.part {
        Part::Text | Part::Refusal => write_words(json, &part.text, false, None),
        Part::Reasoning => write_words(json, &part.text, !part.text.is_empty(), part.signature.as_ref()),
        Part::ToolCall { id, name, is_custom, signature } => {
            let id = context.call_id(id.as_ref(), CALL_PREFIX, *calls);
            *calls += 1;
            let (name, arguments) = (name.borrowed(), part.text.borrowed());
            let signature = signature.clone();
            WholeCall { id, name, is_custom: *is_custom, signature, arguments }.write(json);
        }
        Part::Media { media_type, data } => json.object(|json| write_inline(json, media_type, data)),
    }
}

#[cfg(test)]
mod tests;
