//! Reads a Gemini generateContent answer, streamed or whole: both are chunks of the same shape.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use ez_contract::Protocol;

use super::super::event::{Citation, Event, FinishReason, Note, Part, Start, Usage};
use super::super::opaque::{Opaque, OpaqueKind};
use super::finish::read_reason;
use super::partial_args::PartialArgs;
use super::standard_base64;
use crate::json::{Escaped, Kind, Value};
use crate::usage::GeminiUsage;

/// Where events go.
type Sink<'s> = &'s mut dyn FnMut(Event<'_>);

/// Reads a stream, event by event.
#[derive(Debug, Default)]
pub(in crate::translate) struct AnswerReader {
    has_started: bool,
    usage: GeminiUsage,
    /// By their index.
    candidates: BTreeMap<u32, Candidate>,
    /// The prompt was refused, which is an answer without candidates.
    is_blocked: bool,
}

/// How far a candidate has come.
#[derive(Debug, Default)]
struct Candidate {
    open: Open,
    has_called: bool,
    /// The last that was told: older models tell `STOP` with every chunk.
    reason: Option<FinishReason>,
    /// Those that wait for the end of a text.
    citations: Vec<Citation<'static>>,
    /// The pages that were told already: chunks repeat them.
    cited: HashSet<String>,
}

/// The part that is open.
#[derive(Debug, Default)]
enum Open {
    #[default]
    Nothing,
    Text,
    Thought,
    /// A call whose arguments come in pieces.
    Call(PartialArgs),
}

impl AnswerReader {
    /// Tells what the data of the next event means.
    pub(in crate::translate) fn read(&mut self, data: Value<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let mut start = Start::default();
        let (mut candidates, mut usage, mut is_answer) = (None, None, false);
        for (name, value) in data.members().unwrap_or_default() {
            match name.as_str() {
                "candidates" => candidates = value.elements(),
                "usageMetadata" => usage = serde_json::from_str::<GeminiUsage>(value.as_str()).ok(),
                "promptFeedback" => self.is_blocked |= is_block(value),
                "responseId" => start.id = value.string().filter(|id| !id.is_empty()),
                "createTime" => start.created_at = read_time(value),
                "modelVersion" => {}
                _ => continue,
            }
            is_answer = true;
        }
        if is_answer && !std::mem::replace(&mut self.has_started, true) {
            sink(Event::Start(start));
        }
        for candidate in candidates.unwrap_or_default() {
            self.read_candidate(candidate, sink);
        }
        if let Some(usage) = usage {
            self.usage.merge(usage);
            if let Some(tokens) = usage.tokens().and_then(|_| self.usage.tokens()) {
                sink(Event::Usage(Usage::of(tokens, None)));
            }
        }
    }

    /// Tells what was held back until the proper end.
    pub(in crate::translate) fn finish(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if !self.has_started {
            return;
        }
        if self.candidates.is_empty() {
            // An answer of nothing at all is no success.
            let reason = if self.is_blocked { FinishReason::Refused } else { FinishReason::Failed };
            sink(Event::Finish { choice: 0, reason, stop_sequence: None });
        }
        for (choice, mut candidate) in std::mem::take(&mut self.candidates) {
            candidate.finish(choice, self.is_blocked, sink);
        }
    }

    fn read_candidate(&mut self, candidate: Value<'_>, sink: Sink<'_>) {
        let members = candidate.members().unwrap_or_default();
        let index = members.iter().find(|(name, _)| name.is("index")).and_then(|(_, value)| value.count());
        let choice = index.and_then(|index| u32::try_from(index).ok()).unwrap_or(0);
        let state = self.candidates.entry(choice).or_default();
        // Citations wait for the end of the text that they stand beside.
        for (name, value) in &members {
            match name.as_str() {
                "citationMetadata" => state.cite_sources(*value),
                "groundingMetadata" => state.cite_grounding(*value),
                "finishReason" => {
                    let reason = value.string().and_then(|word| read_reason(&word.text()));
                    state.reason = reason.or(state.reason);
                }
                _ => {}
            }
        }
        let content = members.iter().find(|(name, _)| name.is("content")).map(|(_, value)| *value);
        for part in content.and_then(|content| content.get("parts")?.elements()).unwrap_or_default() {
            state.read_part(choice, part, sink);
        }
    }
}

impl Candidate {
    fn read_part(&mut self, choice: u32, part: Value<'_>, sink: Sink<'_>) {
        let (mut text, mut call, mut inline, mut signature, mut is_thought) = (None, None, None, None, false);
        for (name, value) in part.members().unwrap_or_default() {
            match name.as_str() {
                "text" => text = value.string(),
                "functionCall" => call = Some(value),
                "inlineData" => inline = Some(value),
                "thought" => is_thought = value.bool() == Some(true),
                "thoughtSignature" => signature = value.string().filter(|signature| !signature.is_empty()),
                _ => {}
            }
        }
        let signature =
            signature.map(|value| Opaque::read(Protocol::Gemini, OpaqueKind::Signature, standard_base64(value)));
        if let Some(call) = call {
            return self.read_call(choice, call, signature, sink);
        }
        // What a model draws while it thinks is none of its answer.
        if let Some(inline) = inline.filter(|_| !is_thought) {
            self.read_media(choice, inline, sink);
        }
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.open(choice, if is_thought { Open::Thought } else { Open::Text }, sink);
            sink(Event::Delta { choice, text });
        }
        if let Some(signature) = signature {
            // It belongs to the thoughts that it came with; else it stands by itself.
            if !is_thought {
                self.close(choice, sink);
            }
            self.open(choice, Open::Thought, sink);
            sink(Event::Note { choice, note: Note::Signature(signature) });
            self.close(choice, sink);
        }
    }

    fn read_call(&mut self, choice: u32, call: Value<'_>, signature: Option<Opaque<'_>>, sink: Sink<'_>) {
        let (mut id, mut name, mut args, mut pieces, mut goes_on) = (None, None, None, None, false);
        for (key, value) in call.members().unwrap_or_default() {
            match key.as_str() {
                "id" => id = value.string().filter(|id| !id.is_empty()),
                "name" => name = value.string().filter(|name| !name.is_empty()),
                "args" => args = Some(value).filter(|args| args.kind() == Kind::Object),
                "partialArgs" => pieces = value.elements(),
                "willContinue" => goes_on = value.bool() == Some(true),
                _ => {}
            }
        }
        if let Some(name) = name {
            self.close(choice, sink);
            self.has_called = true;
            sink(Event::Open { choice, part: Part::ToolCall { id, name, is_custom: false, signature } });
            if pieces.is_none() && !goes_on {
                let args = compact(args.unwrap_or(Value::EMPTY_OBJECT).as_str());
                sink(Event::Delta { choice, text: Escaped::of(&args) });
                return sink(Event::Close { choice });
            }
            self.open = Open::Call(PartialArgs::default());
        }
        let Open::Call(partial) = &mut self.open else { return };
        if let Some(args) = args {
            partial.set(args);
        }
        pieces.unwrap_or_default().into_iter().for_each(|piece| partial.add(piece));
        if !goes_on {
            self.close(choice, sink);
        }
    }

    fn read_media(&mut self, choice: u32, inline: Value<'_>, sink: Sink<'_>) {
        let text = |key: &str| inline.get(key).and_then(Value::string);
        let (Some(media_type), Some(data)) = (text("mimeType"), text("data")) else { return };
        self.close(choice, sink);
        sink(Event::Open { choice, part: Part::Media { media_type, data: standard_base64(data) } });
        sink(Event::Close { choice });
    }

    /// Opens a part of words, unless one of its kind is open.
    fn open(&mut self, choice: u32, kind: Open, sink: Sink<'_>) {
        let part = match (&self.open, &kind) {
            (Open::Text, Open::Text) | (Open::Thought, Open::Thought) => return,
            (_, Open::Thought) => Part::Reasoning,
            _ => Part::Text,
        };
        self.close(choice, sink);
        self.open = kind;
        sink(Event::Open { choice, part });
    }

    fn close(&mut self, choice: u32, sink: Sink<'_>) {
        match std::mem::take(&mut self.open) {
            Open::Nothing => return,
            Open::Thought => {}
            Open::Text => {
                for citation in self.citations.drain(..) {
                    sink(Event::Note { choice, note: Note::Citation(citation) });
                }
            }
            Open::Call(args) => sink(Event::Delta { choice, text: Escaped::of_owned(args.json()) }),
        }
        sink(Event::Close { choice });
    }

    fn finish(&mut self, choice: u32, is_blocked: bool, sink: Sink<'_>) {
        if !self.citations.is_empty() {
            self.open(choice, Open::Text, sink);
        }
        self.close(choice, sink);
        let reason = match self.reason {
            None if is_blocked => FinishReason::Refused,
            None | Some(FinishReason::Stop) if self.has_called => FinishReason::ToolCalls,
            None => FinishReason::Stop,
            Some(reason) => reason,
        };
        sink(Event::Finish { choice, reason, stop_sequence: None });
    }

    /// Notes the sources of a text. Their places are counted in bytes of all of it, so they are left out.
    fn cite_sources(&mut self, metadata: Value<'_>) {
        let sources = metadata.get("citationSources").or_else(|| metadata.get("citations"));
        for source in sources.and_then(Value::elements).unwrap_or_default() {
            self.cite(source);
        }
    }

    /// Notes the pages that a search found.
    fn cite_grounding(&mut self, metadata: Value<'_>) {
        let chunks = metadata.get("groundingChunks").and_then(Value::elements).unwrap_or_default();
        chunks.into_iter().filter_map(|chunk| chunk.get("web")).for_each(|page| self.cite(page));
    }

    fn cite(&mut self, source: Value<'_>) {
        let text = |key: &str| source.get(key).and_then(Value::string).filter(|text| !text.is_empty());
        let Some(url) = text("uri") else { return };
        if self.cited.insert(url.text().into_owned()) {
            let title = text("title").map(Escaped::into_owned);
            self.citations.push(Citation { url: url.into_owned(), title, range: None });
        }
    }
}

fn is_block(feedback: Value<'_>) -> bool {
    let reason = feedback.get("blockReason").and_then(Value::string);
    reason.is_some_and(|reason| !reason.is_empty() && !reason.is("BLOCKED_REASON_UNSPECIFIED"))
}

/// A JSON text without the white space between its words: whole answers are written in lines, streams are not, and the
/// arguments of a call are to be the same.
fn compact(json: &str) -> Cow<'_, str> {
    let is_space = |c: char| matches!(c, ' ' | '\n' | '\r' | '\t');
    if !json.contains(is_space) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    let (mut is_string, mut is_escape) = (false, false);
    for c in json.chars() {
        if is_string || !is_space(c) {
            out.push(c);
        }
        is_string ^= c == '"' && !is_escape;
        is_escape = is_string && c == '\\' && !is_escape;
    }
    Cow::Owned(out)
}

/// Unix seconds of a time that Vertex tells (RFC 3339).
fn read_time(value: Value<'_>) -> Option<u64> {
    let time = chrono::DateTime::parse_from_rfc3339(&value.string()?.text()).ok()?;
    u64::try_from(time.timestamp()).ok()
}

/// Tells what a whole answer means. `None` where it is none.
pub(in crate::translate) fn read_plain(body: Value<'_>, sink: &mut dyn FnMut(Event<'_>)) -> Option<()> {
    let mut reader = AnswerReader::default();
    reader.read(body, sink);
    reader.finish(sink);
    reader.has_started.then_some(())
}

#[cfg(test)]
mod tests;
