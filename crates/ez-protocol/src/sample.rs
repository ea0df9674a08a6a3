//! The text of a prompt or an answer, as far as an estimate of its tokens needs it: a beginning, and how much there was.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::api::Api;
use crate::scan;

/// The beginning of a text and the length of all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextSample {
    text: String,
    is_full: bool,
    /// Text that came after the sample was full.
    later_text_bytes: u64,
    /// Bytes of the events that were looked into.
    read_event_bytes: u64,
    /// Bytes of the events behind them, which were not.
    later_event_bytes: u64,
    /// Images and other files beside the text.
    blobs: u64,
}

/// Where an answer keeps its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextPlace {
    /// Behind `choices` (chat and legacy completions).
    Choices,
    /// Behind `delta` (events of Anthropic, Responses, transcriptions).
    Delta,
    /// Behind `candidates` (Gemini).
    Candidates,
    /// Behind `content` (Anthropic).
    Content,
    /// Behind `output` (Responses).
    Output,
    /// Behind `text` (transcriptions).
    Text,
}

/// How much text is kept. Enough to know how many bytes make a token; a thousand streams keep 4 MiB.
const MAX_SAMPLE_BYTES: usize = 4 << 10;

impl TextSample {
    /// The text of a request's JSON body in any protocol. A form has none that is read here.
    pub fn of_prompt(body: &[u8]) -> Self {
        let mut sample = Self::default();
        if body.trim_ascii_start().first() != Some(&b'{') {
            return sample;
        }
        scan::strings(body, |key, value| {
            if scan::is_blob(value) {
                sample.blobs += 1;
            } else if !tells_kind(key) {
                sample.push(value);
            }
            ControlFlow::Continue(())
        });
        sample
    }

    /// The text that a plain answer of `api` holds.
    pub fn of_answer(api: Api, body: &[u8]) -> Self {
        let place = match api {
            Api::ChatCompletions | Api::Completions => TextPlace::Choices,
            Api::Responses => TextPlace::Output,
            Api::Messages => TextPlace::Content,
            Api::GenerateContent | Api::StreamGenerateContent => TextPlace::Candidates,
            Api::Transcriptions | Api::Translations => TextPlace::Text,
            Api::Embeddings
            | Api::Rerank
            | Api::ImageGenerations
            | Api::ImageEdits
            | Api::ImageVariations
            | Api::Speech
            | Api::Moderations
            | Api::ResponsesInputTokens
            | Api::MessagesCountTokens
            | Api::CountTokens
            | Api::EmbedContent
            | Api::BatchEmbedContents => return Self::default(),
        };
        let mut sample = Self::default();
        sample.note(body, place);
        sample
    }

    /// The beginning of the text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How long the whole text is, bytes. Exact but for long streams: events behind a full sample are taken to be as dense
    /// as those before, which saves looking into each.
    pub fn total_bytes(&self) -> u64 {
        let read = (self.text.len() as u64).saturating_add(self.later_text_bytes);
        let unread = u128::from(self.later_event_bytes) * u128::from(read) / u128::from(self.read_event_bytes.max(1));
        read.saturating_add(u64::try_from(unread).unwrap_or(u64::MAX))
    }

    /// Images and other files beside the text.
    pub fn blobs(&self) -> u64 {
        self.blobs
    }

    /// Takes in an answer or the data of an event.
    pub(crate) fn note(&mut self, data: &[u8], place: TextPlace) {
        if self.is_full {
            self.later_event_bytes = self.later_event_bytes.saturating_add(data.len() as u64);
            return;
        }
        let Some(from) = place.anchor().find(data) else { return };
        let before = self.text.len();
        scan::strings(&data[from..], |key, value| {
            if is_text(key) {
                self.push(value);
            }
            ControlFlow::Continue(())
        });
        if self.text.len() > before {
            self.read_event_bytes += data.len() as u64;
        }
    }

    /// Adds a JSON string's text; what does not fit is only counted.
    fn push(&mut self, written: &[u8]) {
        if self.is_full {
            self.later_text_bytes += written.len() as u64;
            return;
        }
        if memchr::memchr(b'\\', written).is_none() {
            self.push_text(std::str::from_utf8(written).unwrap_or_default());
            return;
        }
        let quoted = [b"\"", written, b"\""].concat();
        if let Ok(text) = serde_json::from_slice::<String>(&quoted) {
            self.push_text(&text);
        }
    }

    fn push_text(&mut self, text: &str) {
        let room = MAX_SAMPLE_BYTES - self.text.len();
        let end = (0..=room.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.text.push_str(&text[..end]);
        self.later_text_bytes += (text.len() - end) as u64;
        self.is_full = end < text.len() || self.text.len() == MAX_SAMPLE_BYTES;
    }
}

impl TextPlace {
    /// The key that stands before the text; made once, as it is looked for in every event.
    fn anchor(self) -> &'static Finder<'static> {
        static ANCHORS: LazyLock<[Finder<'static>; 6]> = LazyLock::new(|| {
            [r#""choices""#, r#""delta""#, r#""candidates""#, r#""content""#, r#""output""#, r#""text""#]
                .map(Finder::new)
        });
        let [choices, delta, candidates, content, output, text] = &*ANCHORS;
        match self {
            Self::Choices => choices,
            Self::Delta => delta,
            Self::Candidates => candidates,
            Self::Content => content,
            Self::Output => output,
            Self::Text => text,
        }
    }
}

/// Keys that an answer's text stands under, in any protocol: what a model wrote, said, thought, or wants a tool to be
/// called with.
fn is_text(key: &[u8]) -> bool {
    matches!(
        key,
        b"content"
            | b"text"
            | b"delta"
            | b"arguments"
            | b"partial_json"
            | b"thinking"
            | b"reasoning_content"
            | b"reasoning"
            | b"refusal"
            | b"name"
    )
}

/// Keys of a request whose values are no part of the prompt.
fn tells_kind(key: &[u8]) -> bool {
    matches!(
        key,
        b"model"
            | b"type"
            | b"role"
            | b"id"
            | b"call_id"
            | b"tool_call_id"
            | b"tool_use_id"
            | b"media_type"
            | b"mimeType"
            | b"mime_type"
            | b"detail"
            | b"ttl"
            | b"user"
            | b"signature"
            | b"thoughtSignature"
            | b"encrypted_content"
            | b"encoding_format"
            | b"previous_response_id"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_its_words_in_every_protocol() {
        let cases = [
            (r#"{"model":"m","messages":[{"role":"user","content":"h\u00e9"}],"stop":["x"]}"#, "h\u{e9}x"),
            (r#"{"system":[{"type":"text","text":"a"}],"messages":[{"role":"user","content":"b"}]}"#, "ab"),
            (r#"{"contents":[{"parts":[{"text":"a"}]}]}"#, "a"),
            (r#"{"instructions":"a","input":"b","previous_response_id":"resp_1"}"#, "ab"),
            ("--XX\r\nname=\"model\"", ""),
            ("", ""),
        ];
        for (body, expected) in cases {
            let sample = TextSample::of_prompt(body.as_bytes());
            assert_eq!((sample.text(), sample.total_bytes()), (expected, expected.len() as u64), "{body}");
        }
        let image = "iVBORw0KGgoA".repeat(1_000);
        let body =
            format!(r#"{{"messages":[{{"content":[{{"url":"data:image/png;base64,{image}"}},{{"text":"a"}}]}}]}}"#);
        let sample = TextSample::of_prompt(body.as_bytes());
        assert_eq!((sample.text(), sample.blobs()), ("a", 1));
    }

    #[test]
    fn an_answer_is_what_the_model_wrote() {
        let cases = [
            (
                Api::ChatCompletions,
                r#"{"id":"x","choices":[{"message":{"role":"assistant","content":"a","tool_calls":[{"id":"c","function":{"name":"f","arguments":"{}"}}]}}]}"#,
                "af{}",
            ),
            (Api::Completions, r#"{"choices":[{"text":"a"},{"text":"b"}]}"#, "ab"),
            (
                Api::Messages,
                r#"{"model":"m","content":[{"type":"thinking","thinking":"a"},{"type":"text","text":"b"}]}"#,
                "ab",
            ),
            (
                Api::Responses,
                r#"{"instructions":"x","output":[{"type":"message","content":[{"type":"output_text","text":"a"}]}]}"#,
                "a",
            ),
            (Api::GenerateContent, r#"{"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"}}]}"#, "a"),
            (Api::Transcriptions, r#"{"language":"en","text":"a"}"#, "a"),
            (Api::Embeddings, r#"{"data":[{"embedding":"AAAA"}]}"#, ""),
        ];
        for (api, body, expected) in cases {
            assert_eq!(TextSample::of_answer(api, body.as_bytes()).text(), expected, "{api:?}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_counted_whole() {
        let body = format!(r#"{{"input":["a{}","{}"]}}"#, "\u{5b57}".repeat(3_000), "b\\n".repeat(500));
        let sample = TextSample::of_prompt(body.as_bytes());
        assert_eq!(sample.text().len(), 1 + 1_365 * 3);
        assert_eq!(sample.total_bytes(), 1 + 9_000 + 1_500, "text behind the sample counts as it is written");
    }
}
