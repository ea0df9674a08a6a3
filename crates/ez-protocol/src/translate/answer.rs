//! A whole answer, put together of its events: what writers make a plain body of.

use super::event::{Citation, Event, FinishReason, Note, Part, Start, Usage};
use super::opaque::Opaque;
use crate::json::Escaped;

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// What it told of itself.
    pub start: Start<'static>,
    /// In order of their index.
    pub choices: Vec<Choice>,
    /// What it used, where that is told.
    pub usage: Option<Usage>,
}

/// One of the answers that a request asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Its index.
    pub index: u32,
    /// Its parts in their order.
    pub parts: Vec<WholePart>,
    /// Why it ended; `None` where the upstream never said.
    pub finish: Option<FinishReason>,
    /// What the model wrote to end it, where the vendor tells.
    pub stop_sequence: Option<Escaped<'static>>,
}

/// A part with all that was told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct WholePart {
    /// What it is.
    pub part: Part<'static>,
    /// All of its deltas.
    pub text: Escaped<'static>,
    /// The state that belongs to it, where it is reasoning.
    pub signature: Option<Opaque<'static>>,
    /// Where it is taken from.
    pub citations: Vec<Citation<'static>>,
}

impl Answer {
    /// Takes the next event.
    pub fn add(&mut self, event: Event<'_>) {
        match event {
            Event::Start(start) => {
                self.start = Start { id: start.id.map(Escaped::into_owned), created_at: start.created_at };
            }
            Event::Open { choice, part } => {
                let part = WholePart {
                    part: part.into_owned(),
                    text: Escaped::EMPTY.into_owned(),
                    signature: None,
                    citations: Vec::new(),
                };
                self.choice(choice).parts.push(part);
            }
            Event::Delta { choice, text } => {
                if let Some(part) = self.choice(choice).parts.last_mut() {
                    part.text.push(&text);
                }
            }
            Event::Note { choice, note } => {
                if let Some(part) = self.choice(choice).parts.last_mut() {
                    match note {
                        Note::Signature(signature) => part.signature = Some(signature.into_owned()),
                        Note::Citation(citation) => part.citations.push(citation.into_owned()),
                    }
                }
            }
            Event::Close { .. } => {}
            Event::Finish { choice, reason, stop_sequence } => {
                let choice = self.choice(choice);
                choice.finish = Some(reason);
                choice.stop_sequence = stop_sequence.map(Escaped::into_owned);
            }
            Event::Usage(usage) => self.usage = Some(usage),
        }
    }

    /// The choice with this index.
    fn choice(&mut self, index: u32) -> &mut Choice {
        let at = match self.choices.binary_search_by_key(&index, |choice| choice.index) {
            Ok(at) => at,
            Err(at) => {
                let choice = Choice { index, parts: Vec::new(), finish: None, stop_sequence: None };
                self.choices.insert(at, choice);
                at
            }
        };
        &mut self.choices[at]
    }
}

impl Part<'_> {
    /// The same, kept apart from its document.
    pub fn into_owned(self) -> Part<'static> {
        match self {
            Self::Text => Part::Text,
            Self::Refusal => Part::Refusal,
            Self::Reasoning => Part::Reasoning,
            Self::ToolCall { id, name, is_custom, signature } => Part::ToolCall {
                id: id.map(Escaped::into_owned),
                name: name.into_owned(),
                is_custom,
                signature: signature.map(Opaque::into_owned),
            },
            Self::Media { media_type, data } => {
                Part::Media { media_type: media_type.into_owned(), data: data.into_owned() }
            }
        }
    }
}

impl Citation<'_> {
    /// The same, kept apart from its document.
    pub fn into_owned(self) -> Citation<'static> {
        let Self { url, title, range } = self;
        Citation { url: url.into_owned(), title: title.map(Escaped::into_owned), range }
    }
}
