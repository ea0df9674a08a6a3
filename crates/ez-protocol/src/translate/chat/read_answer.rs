//! Reads a OpenAI Chat Completions answer, streamed or whole: a message is one delta that tells all.

use std::collections::BTreeMap;

use super::super::event::{Citation, Event, FinishReason, Part, Start, Usage};
use super::super::media;
use super::super::opaque::{Opaque, OpaqueKind};
use super::super::request::{MediaKind, MediaSource};
use super::choice_parts::{Call, ChoiceParts, Words};
use super::reasoning_details::{Detail, call_signature};
use crate::json::{Escaped, Value};
use crate::usage::OpenAiUsage;

/// Reads a stream, event by event.
#[derive(Debug, Default)]
pub(in crate::translate) struct AnswerReader {
    has_started: bool,
    choices: BTreeMap<u32, Choice>,
}

/// What is known of a choice.
#[derive(Debug, Default)]
struct Choice {
    parts: ChoiceParts,
    /// Whether thoughts were told in plain words alone: items that come later repeat these.
    has_plain_thoughts: bool,
    finish: Option<FinishReason>,
}

impl AnswerReader {
    /// Tells what the data of the next event means.
    pub(in crate::translate) fn read(&mut self, data: Value<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let mut start = Start::default();
        let (mut choices, mut usage) = (None, None);
        for (key, value) in data.members().unwrap_or_default() {
            match key.as_str() {
                "id" => start.id = value.string().filter(|id| !id.is_empty()),
                "created" => start.created_at = value.count().filter(|seconds| *seconds > 0),
                "choices" => choices = value.elements(),
                "usage" if !value.is_null() => usage = Some(value),
                // Groq's place for it.
                "x_groq" => usage = usage.or(value.get("usage")),
                _ => {}
            }
        }
        let choices = choices.unwrap_or_default();
        // Azure begins with a chunk that tells of its filter alone.
        if !self.has_started && (start.id.is_some() || !choices.is_empty()) {
            self.has_started = true;
            sink(Event::Start(start));
        }
        for choice in choices {
            // Moonshot's place for it.
            usage = usage.or(self.read_choice(choice, sink));
        }
        if let Some(usage) = usage.and_then(read_usage) {
            sink(Event::Usage(usage));
        }
    }

    /// Tells what was held back until the proper end.
    pub(in crate::translate) fn finish(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if !self.has_started {
            self.has_started = true;
            sink(Event::Start(Start::default()));
        }
        for (index, choice) in std::mem::take(&mut self.choices) {
            let has_called = choice.parts.finish(index, sink);
            let reason = match choice.finish.unwrap_or(FinishReason::Stop) {
                // Some servers say `stop` behind their calls, and some call nothing and say they did.
                FinishReason::Stop | FinishReason::ToolCalls if has_called => FinishReason::ToolCalls,
                FinishReason::ToolCalls => FinishReason::Stop,
                other => other,
            };
            sink(Event::Finish { choice: index, reason, stop_sequence: None });
        }
    }

    /// Reads an element of `choices`; gives the usage that it tells, where it does.
    fn read_choice<'v>(&mut self, value: Value<'v>, sink: &mut dyn FnMut(Event<'_>)) -> Option<Value<'v>> {
        let (mut index, mut delta, mut finish, mut usage) = (Some(0), None, None, None);
        for (key, value) in value.members().unwrap_or_default() {
            match key.as_str() {
                "index" if !value.is_null() => index = value.count().and_then(|index| u32::try_from(index).ok()),
                "delta" | "message" if !value.is_null() => delta = Some(value),
                "finish_reason" => finish = value.string().and_then(|word| finish_reason(&word)),
                "usage" if !value.is_null() => usage = Some(value),
                _ => {}
            }
        }
        let index = index?;
        let choice = self.choices.entry(index).or_default();
        if let Some(delta) = delta {
            Delta::of(delta).tell(index, choice, sink);
        }
        choice.finish = finish.or(choice.finish);
        usage
    }
}

/// Tells what a whole answer means. `None` where it is none.
pub(in crate::translate) fn read_plain(body: Value<'_>, sink: &mut dyn FnMut(Event<'_>)) -> Option<()> {
    body.get("choices")?.elements()?;
    let mut reader = AnswerReader::default();
    reader.read(body, sink);
    reader.finish(sink);
    Some(())
}

fn read_usage(value: Value<'_>) -> Option<Usage> {
    let usage: OpenAiUsage = serde_json::from_str(value.as_str()).ok()?;
    Some(Usage::of(usage.into_tokens()?, None))
}

fn finish_reason(word: &Escaped<'_>) -> Option<FinishReason> {
    match word.as_str() {
        "" => None,
        "tool_calls" | "function_call" => Some(FinishReason::ToolCalls),
        "length" | "max_tokens" => Some(FinishReason::Length),
        "content_filter" => Some(FinishReason::Refused),
        "error" => Some(FinishReason::Failed),
        _ => Some(FinishReason::Stop),
    }
}

/// What a delta or a message tells.
#[derive(Default)]
struct Delta<'v> {
    details: Option<Value<'v>>,
    reasoning: Option<Value<'v>>,
    content: Option<Value<'v>>,
    refusal: Option<Escaped<'v>>,
    annotations: Option<Value<'v>>,
    images: Option<Value<'v>>,
    calls: Option<Value<'v>>,
    older_call: Option<Value<'v>>,
}

impl<'v> Delta<'v> {
    fn of(value: Value<'v>) -> Self {
        let mut delta = Self::default();
        for (key, value) in value.members().unwrap_or_default() {
            if value.is_null() {
                continue;
            }
            match key.as_str() {
                "content" => delta.content = Some(value),
                // Some servers send the same words under both names.
                "reasoning_content" | "reasoning" if !value.is("") => delta.reasoning = Some(value),
                "reasoning_details" => delta.details = Some(value),
                "refusal" => delta.refusal = value.string(),
                "annotations" => delta.annotations = Some(value),
                "images" => delta.images = Some(value),
                "tool_calls" => delta.calls = Some(value),
                "function_call" => delta.older_call = Some(value),
                _ => {}
            }
        }
        delta
    }

    /// Tells it in the order in which a message is said.
    fn tell(self, choice: u32, state: &mut Choice, sink: &mut dyn FnMut(Event<'_>)) {
        self.tell_thoughts(choice, state, sink);
        let parts = &mut state.parts;
        if let Some(content) = self.content {
            tell_content(content, choice, parts, sink);
        }
        if let Some(refusal) = self.refusal {
            parts.words(choice, Words::Refusal, refusal, sink);
        }
        for annotation in self.annotations.and_then(Value::elements).unwrap_or_default() {
            if let Some(citation) = citation(annotation) {
                parts.citation(choice, citation, sink);
            }
        }
        for image in self.images.and_then(Value::elements).unwrap_or_default() {
            tell_image(image, choice, parts, sink);
        }
        for (at, call) in self.calls.and_then(Value::elements).unwrap_or_default().into_iter().enumerate() {
            parts.call(choice, read_call(call, at), sink);
        }
        if let Some(function) = self.older_call {
            let call = Call { index: u64::MAX, ..Call::default() };
            parts.call(choice, with_function(call, function), sink);
        }
    }

    fn tell_thoughts(&self, choice: u32, state: &mut Choice, sink: &mut dyn FnMut(Event<'_>)) {
        let details: Vec<_> = self.details.map(|list| Detail::all(list).collect()).unwrap_or_default();
        let has_words = details.iter().any(|detail| detail.text.as_ref().is_some_and(|text| !text.is_empty()));
        // Where both stand side by side they are the same, and the items say which words a state belongs to.
        let uses_details = has_words && !state.has_plain_thoughts;
        if let Some(words) = self.reasoning.and_then(Value::string).filter(|_| !uses_details) {
            state.has_plain_thoughts = true;
            state.parts.words(choice, Words::Reasoning, words, sink);
        }
        let mut has_told = false;
        for detail in details {
            let issued = detail.state_of_upstream();
            let is_wordless = detail.text.as_ref().map(Escaped::is_empty);
            // Beside plain words, state without words belongs to thoughts that were not shown.
            let is_apart = match detail.kind {
                OpaqueKind::Signature => is_wordless == Some(true),
                OpaqueKind::Encrypted => !has_told,
            };
            has_told = is_wordless == Some(false);
            if let Some(words) = detail.text.filter(|_| uses_details) {
                state.parts.words(choice, Words::Reasoning, words, sink);
            }
            if let Some(issued) = issued {
                state.parts.thought_state(choice, issued, is_apart && state.has_plain_thoughts, sink);
            }
        }
    }
}

/// Tells a content: a string, or Mistral's parts.
fn tell_content(content: Value<'_>, choice: u32, parts: &mut ChoiceParts, sink: &mut dyn FnMut(Event<'_>)) {
    if let Some(text) = content.string() {
        return parts.words(choice, Words::Text, text, sink);
    }
    for part in content.elements().unwrap_or_default() {
        if let Some(text) = part.get("text").and_then(Value::string) {
            parts.words(choice, Words::Text, text, sink);
        } else if let Some(thoughts) = part.get("thinking") {
            for thought in thoughts.elements().unwrap_or_default() {
                if let Some(text) = thought.get("text").and_then(Value::string) {
                    parts.words(choice, Words::Reasoning, text, sink);
                }
            }
        } else {
            tell_image(part, choice, parts, sink);
        }
    }
}

fn tell_image(image: Value<'_>, choice: u32, parts: &mut ChoiceParts, sink: &mut dyn FnMut(Event<'_>)) {
    let url = image.get("image_url").and_then(|inner| inner.get("url").unwrap_or(inner).string());
    match url.map(|url| media::of_url(MediaKind::Image, url)) {
        Some(MediaSource::Base64 { media_type, data }) => parts.whole(choice, Part::Media { media_type, data }, sink),
        // An address is told in words: there is nothing else for it.
        Some(MediaSource::Url { url, .. } | MediaSource::Text(url)) => parts.words(choice, Words::Text, url, sink),
        None => {}
    }
}

fn citation(annotation: Value<'_>) -> Option<Citation<'_>> {
    let cited = annotation.get("url_citation")?;
    let place = |key: &str| cited.get(key).and_then(Value::count);
    Some(Citation {
        url: cited.get("url")?.string()?,
        title: cited.get("title").and_then(Value::string),
        range: place("start_index").zip(place("end_index")),
    })
}

/// Reads an element of `tool_calls`; `at` is its place, for servers that tell no index.
fn read_call(value: Value<'_>, at: usize) -> Call<'_> {
    let mut call = Call { index: u64::try_from(at).unwrap_or(u64::MAX), ..Call::default() };
    let mut function = None;
    for (key, value) in value.members().unwrap_or_default() {
        match key.as_str() {
            "index" => call.index = value.count().unwrap_or(call.index),
            "id" => call.id = value.string().filter(|id| !id.is_empty()),
            "function" if !value.is_null() => function = Some(value),
            "custom" if !value.is_null() => {
                function = Some(value);
                call.is_custom = true;
            }
            "extra_content" => {
                let signature = call_signature(value);
                call.signature =
                    signature.map(|data| Opaque::read(ez_contract::Protocol::Gemini, OpaqueKind::Signature, data));
            }
            _ => {}
        }
    }
    match function {
        Some(function) => with_function(call, function),
        None => call,
    }
}

fn with_function<'v>(mut call: Call<'v>, function: Value<'v>) -> Call<'v> {
    for (key, value) in function.members().unwrap_or_default() {
        match key.as_str() {
            "name" => call.name = value.string().filter(|name| !name.is_empty()),
            // Some servers send the object itself.
            "arguments" | "input" if !value.is_null() => {
                call.arguments = Some(value.string().unwrap_or_else(|| Escaped::of(value.as_str())));
            }
            _ => {}
        }
    }
    call
}
