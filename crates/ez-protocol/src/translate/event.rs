//! The intermediate form of an answer: the same events for a stream and for a whole body. Readers make them of what an
//! upstream sends, writers make of them what the client reads.
//!
//! Their order, which every reader keeps and every writer may rely on:
//! - [`Event::Start`] first, once;
//! - for each choice, parts one after the other: [`Event::Open`], any number of [`Event::Delta`] and [`Event::Note`], and
//!   [`Event::Close`]; parts of other choices may come in between, never other parts of the same choice;
//! - [`Event::Finish`] once per choice, behind its last part;
//! - [`Event::Usage`] whenever it is told, each replacing the one before;
//! - nothing marks the end: the writer's `finish` is called at the proper end of the upstream's answer, and there alone.

use ez_contract::usage::TokenUsage;

use super::opaque::Opaque;
use crate::json::Escaped;

/// Something that an answer tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// The answer begins.
    Start(Start<'a>),
    /// A part of a choice begins.
    Open {
        /// Which choice, from 0 on.
        choice: u32,
        /// What it is.
        part: Part<'a>,
    },
    /// More of the open part: words, or the arguments of a call as the JSON text that they are (free text for a custom
    /// tool).
    Delta {
        /// Which choice.
        choice: u32,
        /// The fragment. Characters may be cut in two.
        text: Escaped<'a>,
    },
    /// Something about the open part.
    Note {
        /// Which choice.
        choice: u32,
        /// What.
        note: Note<'a>,
    },
    /// The open part is complete.
    Close {
        /// Which choice.
        choice: u32,
    },
    /// A choice is complete.
    Finish {
        /// Which choice.
        choice: u32,
        /// Why it ended.
        reason: FinishReason,
        /// What the model wrote to end it, where the vendor tells.
        stop_sequence: Option<Escaped<'a>>,
    },
    /// What was used so far.
    Usage(Usage),
}

/// What an answer tells of itself at its beginning.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Start<'a> {
    /// The vendor's id of it.
    pub id: Option<Escaped<'a>>,
    /// When it was made, Unix seconds.
    pub created_at: Option<u64>,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Part<'a> {
    /// Words.
    Text,
    /// Words that refuse (OpenAI).
    Refusal,
    /// Thoughts, or a summary of them.
    Reasoning,
    /// A call. The deltas are its arguments: put together they are a JSON object, or empty where there are none.
    ToolCall {
        /// The vendor's id of it, where it has one; writers make one (`Ids`) where it has none.
        id: Option<Escaped<'a>>,
        /// As the upstream names the tool; writers give the client's name for it.
        name: Escaped<'a>,
        /// Whether the deltas are free text.
        is_custom: bool,
        /// The vendor's state that goes with it (Gemini's `thoughtSignature`).
        signature: Option<Opaque<'a>>,
    },
    /// An image, or another file, in base64, in one piece: no deltas follow.
    Media {
        /// Such as `image/png`.
        media_type: Escaped<'a>,
        /// The content.
        data: Escaped<'a>,
    },
}

/// Something about a part.
#[derive(Debug, Clone, PartialEq)]
pub enum Note<'a> {
    /// The vendor's state that belongs to reasoning. The last one stands.
    Signature(Opaque<'a>),
    /// Where a text is taken from.
    Citation(Citation<'a>),
}

/// Where a text is taken from.
#[derive(Debug, Clone, PartialEq)]
pub struct Citation<'a> {
    /// The page.
    pub url: Escaped<'a>,
    /// Its title.
    pub title: Option<Escaped<'a>>,
    /// Which characters of the part it is about, from and to, where that is told.
    pub range: Option<(u64, u64)>,
}

/// Why a choice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model was done.
    Stop,
    /// It wrote one of the request's stop sequences, where the vendor tells that apart.
    StopSequence,
    /// It wants the results of its calls. Readers say so only where there was a call.
    ToolCalls,
    /// The most output was reached.
    Length,
    /// The model's context is full.
    ContextFull,
    /// The vendor or the model would not.
    Refused,
    /// The vendor paused it; the client may send it back to go on (Anthropic's `pause_turn`).
    Paused,
    /// It went wrong (Gemini's `MALFORMED_FUNCTION_CALL` and its like).
    Failed,
}

/// What an answer used, in buckets that do not overlap. `None` means not told, which differs from zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input that came from no cache and went into none.
    pub input_uncached: Option<u64>,
    /// Input that was read from the vendor's cache.
    pub cache_read: Option<u64>,
    /// Input that was written to the vendor's cache, for 5 minutes or for a time that is not told.
    pub cache_write_5m: Option<u64>,
    /// Input that was written to the vendor's cache for an hour.
    pub cache_write_1h: Option<u64>,
    /// Output that was shown.
    pub output: Option<u64>,
    /// Output that was reasoning.
    pub reasoning: Option<u64>,
}

impl Usage {
    /// All input. `None` where none is told.
    pub fn input_total(&self) -> Option<u64> {
        sum([self.input_uncached, self.cache_read, self.cache_write_5m, self.cache_write_1h])
    }

    /// All output. `None` where none is told.
    pub fn output_total(&self) -> Option<u64> {
        sum([self.output, self.reasoning])
    }

    /// All of it.
    pub fn total(&self) -> Option<u64> {
        sum([self.input_total(), self.output_total()])
    }

    /// What was written to the cache, for whatever time. `None` where none is told.
    pub fn cache_write(&self) -> Option<u64> {
        sum([self.cache_write_5m, self.cache_write_1h])
    }

    /// Of counts that include what was cached and what was reasoned. `cache_write_1h` is part of `told.cache_write_tokens`.
    pub fn of(told: TokenUsage, cache_write_1h: Option<u64>) -> Self {
        let cached = told.cache_read_tokens.unwrap_or(0).saturating_add(told.cache_write_tokens.unwrap_or(0));
        let written_else = told.cache_write_tokens.map(|written| written.saturating_sub(cache_write_1h.unwrap_or(0)));
        Self {
            input_uncached: told.input_tokens.map(|input| input.saturating_sub(cached)),
            cache_read: told.cache_read_tokens,
            cache_write_5m: written_else,
            cache_write_1h,
            output: told.output_tokens.map(|output| output.saturating_sub(told.reasoning_tokens.unwrap_or(0))),
            reasoning: told.reasoning_tokens,
        }
    }
}

fn sum<const N: usize>(counts: [Option<u64>; N]) -> Option<u64> {
    let told = counts.iter().flatten();
    let is_told = counts.iter().any(Option::is_some);
    is_told.then(|| told.fold(0_u64, |sum, count| sum.saturating_add(*count)))
}
