//! Streams: what each event means to the gateway, in whatever protocol, and whether a stream has come to its end.

use std::sync::LazyLock;

use bytes::Bytes;
use ez_contract::usage::TokenUsage;
use memchr::memmem::Finder;

use crate::answer::{VendorError, model_key};
use crate::anthropic::{self, AnthropicEvent};
use crate::api::Api;
use crate::error::{self, Fault};
use crate::gemini::{self, Candidates, GeminiEvent};
use crate::json::json_string;
use crate::openai::{self, OpenAiEvent};
use crate::responses::{self, ResponsesEvent};
use crate::sample::{TextPlace, TextSample};
use crate::usage::{AnthropicUsage, GeminiUsage};
use crate::{scan, sse};

/// What an event of a stream means to the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// The stream's proper end. It may report usage and name the model, too.
    Terminal,
    /// The stream's end, but no proper one: the answer is not complete.
    Truncated,
    /// An error inside the stream. It may report usage, too.
    Error(VendorError),
    /// It reports usage. `usage_only` where it exists for that alone, and only because the gateway asked for it.
    Usage {
        /// Whether the event exists for the usage alone.
        usage_only: bool,
    },
    /// Content.
    Content,
    /// A comment, a keep-alive, or something unknown: it passes.
    Other,
}

/// Reads one stream, event by event.
#[derive(Debug, Clone)]
pub struct StreamReader {
    api: Api,
    state: State,
    output: TextSample,
    /// Whether the events are elements of a JSON array.
    is_array: bool,
    /// How many events with data were read.
    events: u64,
}

/// What a protocol's events told so far.
#[derive(Debug, Clone)]
enum State {
    Chunks { tokens: Option<TokenUsage> },
    Media { tokens: Option<TokenUsage>, is_complete: bool },
    Responses { tokens: Option<TokenUsage> },
    Anthropic { usage: AnthropicUsage },
    Gemini { usage: GeminiUsage, candidates: Candidates },
}

impl StreamReader {
    /// A reader for an answer of `api`.
    pub fn new(api: Api) -> Self {
        let state = match api {
            Api::Messages | Api::MessagesCountTokens => State::Anthropic { usage: AnthropicUsage::default() },
            Api::GenerateContent
            | Api::StreamGenerateContent
            | Api::CountTokens
            | Api::EmbedContent
            | Api::BatchEmbedContents => {
                State::Gemini { usage: GeminiUsage::default(), candidates: Candidates::default() }
            }
            Api::Responses | Api::ResponsesInputTokens => State::Responses { tokens: None },
            Api::ImageGenerations
            | Api::ImageEdits
            | Api::ImageVariations
            | Api::Speech
            | Api::Transcriptions
            | Api::Translations => State::Media { tokens: None, is_complete: false },
            Api::ChatCompletions | Api::Completions | Api::Embeddings | Api::Rerank | Api::Moderations => {
                State::Chunks { tokens: None }
            }
        };
        Self { api, state, output: TextSample::default(), is_array: false, events: 0 }
    }

    /// Tells what the next event means.
    pub fn read(&mut self, event: &[u8]) -> Meaning {
        self.is_array |= self.api == Api::StreamGenerateContent && event.trim_ascii_start().first() == Some(&b'[');
        let Some(data) = self.data(event) else { return Meaning::Other };
        let data = data.as_ref().trim_ascii();
        self.events += 1;
        if self.is_array && data.is_empty() {
            return if self.may_end() { Meaning::Terminal } else { Meaning::Truncated };
        }
        let meaning = self.state.read(data);
        if matches!(meaning, Meaning::Content | Meaning::Usage { usage_only: false })
            && let Some(place) = self.text_place(data)
        {
            self.output.note(data, place);
        }
        meaning
    }

    /// The usage that was reported so far. An Anthropic stream tells its input at once and its output at its end; until
    /// then the output is `None`, and what was sent of it is to be estimated.
    pub fn tokens(&self) -> Option<TokenUsage> {
        match &self.state {
            State::Chunks { tokens } | State::Media { tokens, .. } | State::Responses { tokens } => *tokens,
            State::Anthropic { usage } => usage.tokens(),
            State::Gemini { usage, .. } => usage.tokens(),
        }
    }

    /// The text that was sent so far, as far as an estimate of its tokens needs it.
    pub fn output(&self) -> &TextSample {
        &self.output
    }

    /// Whether a stream that ends here, without a terminal event, has come to its proper end.
    pub fn may_end(&self) -> bool {
        match &self.state {
            State::Chunks { .. } | State::Responses { .. } | State::Anthropic { .. } => false,
            State::Media { is_complete, .. } => *is_complete,
            State::Gemini { candidates, .. } => candidates.all_finished(),
        }
    }

    /// The event with the model that it names replaced; the same bytes where it names none or came in several data lines.
    pub fn rename(&self, event: &Bytes, model: &str) -> Bytes {
        let Some(sse::Data::One(data)) = self.data(event) else { return event.clone() };
        let Some(at) = self.model_place(data) else { return event.clone() };
        // `data` is a slice of `event`, so their distance is its offset.
        let offset = data.as_ptr() as usize - event.as_ptr() as usize;
        scan::splice(event, vec![(offset + at.start..offset + at.end, json_string(model))])
    }

    /// What stands behind the last blank line when a stream ends: some servers leave that line out after their last
    /// event, which is then completed here. `None` where the event itself was cut off; half an event must not be passed.
    pub fn whole_tail(&self, tail: &[u8]) -> Option<Bytes> {
        if self.is_array {
            return None;
        }
        let data = self.data(tail)?;
        let data = data.as_ref().trim_ascii();
        let is_whole = data == b"[DONE]" || scan::members(data).is_ok();
        is_whole.then(|| Bytes::from([tail.trim_ascii_end(), b"\n\n"].concat()))
    }

    /// What ends this stream with an error, in its own frame.
    pub fn error_event(&self, fault: &Fault, request_id: &str) -> Bytes {
        if self.is_array {
            let element = error::render(self.api.protocol(), fault, request_id);
            return Bytes::from([b",\r\n", &element[..], b"]"].concat());
        }
        error::render_event(self.api.protocol(), fault, request_id, self.events)
    }

    /// An event behind which nothing follows, with what closes the frame: the bracket of an array.
    pub fn last_event(&self, event: Bytes) -> Bytes {
        if self.is_array { Bytes::from([&event[..], b"]"].concat()) } else { event }
    }

    /// The API whose answer this is.
    pub fn api(&self) -> Api {
        self.api
    }

    fn data<'e>(&self, event: &'e [u8]) -> Option<sse::Data<'e>> {
        data_of(self.api, event)
    }

    /// Where an event names its model.
    fn model_place(&self, data: &[u8]) -> Option<std::ops::Range<usize>> {
        let key = model_key(self.api.protocol());
        // Most events name none, and need no scan.
        static MODEL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"model"));
        MODEL.find(data)?;
        let members = scan::members(data).ok()?;
        let nested_in = match self.state {
            State::Responses { .. } => Some("response"),
            State::Anthropic { .. } => Some("message"),
            State::Chunks { .. } | State::Media { .. } | State::Gemini { .. } => None,
        };
        let Some(outer) = nested_in.and_then(|outer| scan::value_of(data, &members, outer)) else {
            return scan::value_of(data, &members, key);
        };
        let inner = &data[outer.clone()];
        let at = scan::value_of(inner, &scan::members(inner).ok()?, key)?;
        Some(outer.start + at.start..outer.start + at.end)
    }

    /// Where an event's text is to be looked for, if it has any.
    fn text_place(&self, data: &[u8]) -> Option<TextPlace> {
        match self.state {
            State::Chunks { .. } => Some(TextPlace::Choices),
            State::Anthropic { .. } | State::Responses { .. } => Some(TextPlace::Delta),
            State::Gemini { .. } => Some(TextPlace::Candidates),
            State::Media { .. } => {
                matches!(self.api, Api::Transcriptions | Api::Translations).then_some(TextPlace::Delta)
            }
        }
        .filter(|_| data.first() == Some(&b'{'))
    }
}

impl State {
    fn read(&mut self, data: &[u8]) -> Meaning {
        match self {
            Self::Chunks { tokens } => of_openai(openai::classify_chunk(data), tokens, &mut false),
            Self::Media { tokens, is_complete } => of_openai(openai::classify_media(data), tokens, is_complete),
            Self::Responses { tokens } => match responses::classify(data) {
                ResponsesEvent::Terminal(told) => {
                    *tokens = told;
                    Meaning::Terminal
                }
                ResponsesEvent::Error(error, told) => {
                    *tokens = told;
                    Meaning::Error(error)
                }
                ResponsesEvent::Done => Meaning::Truncated,
                ResponsesEvent::Content => Meaning::Content,
                ResponsesEvent::Other => Meaning::Other,
            },
            Self::Anthropic { usage } => match anthropic::classify(data) {
                AnthropicEvent::Terminal => Meaning::Terminal,
                AnthropicEvent::Error(error) => Meaning::Error(error),
                AnthropicEvent::Usage(told) => {
                    usage.merge(told);
                    Meaning::Usage { usage_only: false }
                }
                AnthropicEvent::Content => Meaning::Content,
                AnthropicEvent::Other => Meaning::Other,
            },
            Self::Gemini { usage, candidates } => match gemini::classify(data, candidates) {
                GeminiEvent::Error(error) => Meaning::Error(error),
                GeminiEvent::Chunk(Some(told)) => {
                    usage.merge(told);
                    Meaning::Usage { usage_only: false }
                }
                GeminiEvent::Chunk(None) => Meaning::Content,
                GeminiEvent::Other => Meaning::Other,
            },
        }
    }
}

/// The data of an event of an answer of `api`, whatever its frame; empty for the closing bracket of an array.
pub(crate) fn data_of(api: Api, event: &[u8]) -> Option<sse::Data<'_>> {
    if api != Api::StreamGenerateContent {
        return sse::data(event);
    }
    let rest = event.trim_ascii_start();
    match rest.first()? {
        // An element of an array, or an error that a stream of events has without a field name.
        b'[' | b',' => match rest[1..].trim_ascii_start() {
            [b']', ..] => Some(sse::Data::One(b"")),
            element => Some(sse::Data::One(element)),
        },
        b'{' => Some(sse::Data::One(rest)),
        b']' => Some(sse::Data::One(b"")),
        _ => sse::data(event),
    }
}

fn of_openai(event: OpenAiEvent, tokens: &mut Option<TokenUsage>, is_complete: &mut bool) -> Meaning {
    match event {
        OpenAiEvent::Terminal(told) => {
            *tokens = told.or(*tokens);
            Meaning::Terminal
        }
        OpenAiEvent::Error(error) => Meaning::Error(error),
        OpenAiEvent::Usage { tokens: told, usage_only } => {
            *tokens = Some(told);
            Meaning::Usage { usage_only }
        }
        OpenAiEvent::Complete(told) => {
            *is_complete = true;
            *tokens = told.or(*tokens);
            if told.is_some() { Meaning::Usage { usage_only: false } } else { Meaning::Content }
        }
        OpenAiEvent::Content => Meaning::Content,
        OpenAiEvent::Other => Meaning::Other,
    }
}
