//! Streams in the shapes that vendors send, and a reader that puts together what framer and reader tell of one.

use bytes::Bytes;
use ez_contract::usage::TokenUsage;
use ez_protocol::Api;
use ez_protocol::framer::Framer;
use ez_protocol::stream::{Meaning, StreamReader};

/// A stream and what is to be told of it.
pub(crate) struct Recorded {
    pub(crate) name: &'static str,
    pub(crate) api: Api,
    pub(crate) content_type: &'static str,
    pub(crate) bytes: &'static str,
    /// Input, output, cache read, cache write, reasoning.
    pub(crate) tokens: [Option<u64>; 5],
    pub(crate) text: &'static str,
}

const SSE: &str = "text/event-stream";
const JSON: &str = "application/json; charset=UTF-8";

pub(crate) const STREAMS: &[Recorded] = &[
    Recorded {
        name: "chat with usage",
        api: Api::ChatCompletions,
        content_type: SSE,
        bytes: concat!(
            "data: {\"id\":\"c\",\"model\":\"up\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n",
            ": OPENROUTER PROCESSING\n\n",
            "data: {\"id\":\"c\",\"model\":\"up\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"h\\u00e9llo \\\"\"}}],\"usage\":null}\n\n",
            "data: {\"id\":\"c\",\"model\":\"up\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}],\"usage\":null}\n\n",
            "data: {\"id\":\"c\",\"model\":\"up\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":5,\"prompt_tokens_details\":{\"cached_tokens\":4},\"completion_tokens_details\":{\"reasoning_tokens\":2}}}\n\n",
            "data: [DONE]\n\n",
        ),
        tokens: [Some(9), Some(5), Some(4), None, Some(2)],
        text: "h\u{e9}llo \"f{}",
    },
    Recorded {
        name: "legacy completion, CRLF and a byte order mark",
        api: Api::Completions,
        content_type: "text/event-stream; charset=utf-8",
        bytes: "\u{feff}data:{\"choices\":[{\"text\":\"hi\"}],\"model\":\"up\"}\r\n\r\ndata:[DONE]\r\n\r\n",
        tokens: [None; 5],
        text: "hi",
    },
    Recorded {
        name: "usage told twice on chunks with content",
        api: Api::ChatCompletions,
        content_type: SSE,
        bytes: concat!(
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\r\r",
            "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":7}}\r\r",
            "data: [DONE]\r\r",
        ),
        tokens: [Some(3), Some(7), None, None, None],
        text: "a",
    },
    Recorded {
        name: "responses",
        api: Api::Responses,
        content_type: SSE,
        bytes: concat!(
            "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r\",\"model\":\"up\",\"usage\":null,\"error\":null}}\n\n",
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"hell\",\"obfuscation\":\"x\"}\n\n",
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":2,\"delta\":\"o\"}\n\n",
            "event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"sequence_number\":3,\"text\":\"hello\"}\n\n",
            "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":4,\"response\":{\"id\":\"r\",\"model\":\"up\",\"status\":\"completed\",\"error\":null,\"usage\":{\"input_tokens\":9,\"input_tokens_details\":{\"cached_tokens\":4},\"output_tokens\":5,\"output_tokens_details\":{\"reasoning_tokens\":0}}}}\n\n",
        ),
        tokens: [Some(9), Some(5), Some(4), None, Some(0)],
        text: "hello",
    },
    Recorded {
        name: "messages",
        api: Api::Messages,
        content_type: SSE,
        bytes: concat!(
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"up\",\"usage\":{\"input_tokens\":3,\"cache_creation_input_tokens\":1,\"cache_read_input_tokens\":4,\"output_tokens\":1}}}\n\n",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: ping\ndata: {\"type\": \"ping\"}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"AAAA\"}}\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"input_tokens\":4,\"output_tokens\":5}}\n\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ),
        tokens: [Some(9), Some(5), Some(4), Some(1), None],
        text: "hi{\"a\":hm",
    },
    Recorded {
        name: "gemini events",
        api: Api::StreamGenerateContent,
        content_type: SSE,
        bytes: concat!(
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"he\"}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":1,\"totalTokenCount\":10},\"modelVersion\":\"up\"}\r\n\r\n",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"llo\"}]}}],\"usageMetadata\":{\"trafficType\":\"ON_DEMAND\"},\"modelVersion\":\"up\"}\r\n\r\n",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":3,\"thoughtsTokenCount\":2,\"totalTokenCount\":14},\"modelVersion\":\"up\"}\r\n\r\n",
        ),
        tokens: [Some(9), Some(5), None, None, Some(2)],
        text: "hello",
    },
    Recorded {
        name: "gemini array",
        api: Api::StreamGenerateContent,
        content_type: JSON,
        bytes: concat!(
            "[{\n  \"candidates\": [{\"content\": {\"parts\": [{\"text\": \"[he\"}]}}],\n  \"modelVersion\": \"up\"\n}\n",
            ",\r\n{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"llo}\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":5},\"modelVersion\":\"up\"}",
            "\n]",
        ),
        tokens: [Some(9), Some(5), None, None, None],
        text: "[hello}",
    },
    Recorded {
        name: "gemini refuses the prompt",
        api: Api::StreamGenerateContent,
        content_type: JSON,
        bytes: "[{\"promptFeedback\":{\"blockReason\":\"SAFETY\"},\"usageMetadata\":{\"promptTokenCount\":9,\"totalTokenCount\":9}}]",
        tokens: [Some(9), Some(0), None, None, None],
        text: "",
    },
    Recorded {
        name: "transcription",
        api: Api::Transcriptions,
        content_type: SSE,
        bytes: concat!(
            "data: {\"type\":\"transcript.text.delta\",\"delta\":\"hi\"}\n\n",
            "data: {\"type\":\"transcript.text.done\",\"text\":\"hi\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":9,\"output_tokens\":5,\"total_tokens\":14}}\n\n",
        ),
        tokens: [Some(9), Some(5), None, None, None],
        text: "hi",
    },
    Recorded {
        name: "speech",
        api: Api::Speech,
        content_type: SSE,
        bytes: concat!(
            "data: {\"type\":\"speech.audio.delta\",\"audio\":\"AAAA\"}\n\n",
            "data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":9,\"output_tokens\":5,\"total_tokens\":14}}\n\n",
        ),
        tokens: [Some(9), Some(5), None, None, None],
        text: "",
    },
    Recorded {
        name: "two images",
        api: Api::ImageGenerations,
        content_type: SSE,
        bytes: concat!(
            "event: image_generation.partial_image\ndata: {\"type\":\"image_generation.partial_image\",\"b64_json\":\"AAAA\"}\n\n",
            "event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"b64_json\":\"AAAA\"}\n\n",
            "event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"b64_json\":\"AAAA\",\"usage\":{\"input_tokens\":9,\"output_tokens\":5}}\n\n",
        ),
        tokens: [Some(9), Some(5), None, None, None],
        text: "",
    },
];

/// What was told of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// The events, whose bytes together are what came.
    pub(crate) events: Vec<Bytes>,
    pub(crate) meanings: Vec<Meaning>,
    pub(crate) tokens: Option<TokenUsage>,
    pub(crate) text: String,
    pub(crate) end: End,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With its terminal event, or where it may end without one.
    Proper,
    /// With an error event.
    Error,
    /// Before that.
    Cut,
}

impl Recorded {
    pub(crate) fn expected_tokens(&self) -> Option<TokenUsage> {
        let [input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens] = self.tokens;
        let tokens =
            TokenUsage { input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens };
        (tokens != TokenUsage::default()).then_some(tokens)
    }
}

/// Reads a stream as the gateway does.
pub(crate) fn read(api: Api, content_type: &str, chunks: &[&[u8]]) -> Told {
    let mut framer = Framer::of(api, Some(content_type), 1 << 20).expect("a stream");
    let mut reader = StreamReader::new(api);
    let (mut events, mut meanings) = (Vec::new(), Vec::new());
    for chunk in chunks {
        framer.push(chunk);
        while let Some(event) = framer.next_event().expect("small events") {
            meanings.push(reader.read(&event));
            events.push(event);
        }
    }
    if let Some(tail) = framer.finish() {
        if let Some(whole) = reader.whole_tail(&tail) {
            meanings.push(reader.read(&whole));
        }
        events.push(tail);
    }
    let ends = |meaning: &&Meaning| matches!(meaning, Meaning::Terminal | Meaning::Truncated | Meaning::Error(_));
    let end = match meanings.iter().find(ends) {
        Some(Meaning::Terminal) => End::Proper,
        Some(Meaning::Error(_)) => End::Error,
        Some(_) => End::Cut,
        None if reader.may_end() => End::Proper,
        None => End::Cut,
    };
    Told { events, meanings, tokens: reader.tokens(), text: reader.output().text().to_owned(), end }
}
