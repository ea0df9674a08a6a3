//! The corpus: what clients send and vendors answer, per protocol, and how the tests translate it.

use std::path::{Path, PathBuf};

use ez_contract::Protocol;
use ez_protocol::Api;
use ez_protocol::sse::EventFramer;
use ez_protocol::translate::answer::Answer;
use ez_protocol::translate::capability::Capabilities;
use ez_protocol::translate::{Call, Gatherer, Refused, Translated, counterparts, request};

/// A file of the corpus.
pub(crate) struct Sample {
    pub(crate) protocol: Protocol,
    /// Without its ending.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// What the corpus holds of a protocol: `requests`, `answers` or `streams`.
pub(crate) fn samples(protocol: Protocol, kind: &str) -> Vec<Sample> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/translate/corpus").join(folder(protocol)).join(kind);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    let sample = |path: PathBuf| Sample {
        protocol,
        name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        bytes: std::fs::read(&path).unwrap(),
    };
    paths.into_iter().map(sample).collect()
}

/// What the corpus and the goldens call a protocol.
pub(crate) fn folder(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::OpenaiChat => "chat",
        Protocol::OpenaiResponses => "responses",
        Protocol::AnthropicMessages => "messages",
        Protocol::Gemini => "gemini",
    }
}

/// All pairs of two protocols.
pub(crate) fn pairs() -> impl Iterator<Item = (Protocol, Protocol)> {
    let pair = |from: &Protocol| Protocol::ALL.iter().map(|to| (*from, *to)).collect::<Vec<_>>();
    Protocol::ALL.iter().flat_map(pair).filter(|(from, to)| from != to)
}

/// A model of each protocol's vendor, of the newest family.
pub(crate) fn model(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::OpenaiChat | Protocol::OpenaiResponses => "gpt-5.4",
        Protocol::AnthropicMessages => "claude-opus-4-8",
        Protocol::Gemini => "gemini-3-flash",
    }
}

/// The chat endpoint of a protocol.
pub(crate) fn chat_api(protocol: Protocol, stream: bool) -> Api {
    counterparts(Api::ChatCompletions, stream, protocol)[0]
}

pub(crate) fn asks_for_stream(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|body| body["stream"] == true)
}

/// Translates a request from one protocol to another's model.
pub(crate) fn translate(from: Protocol, to: Protocol, model: &str, body: &[u8]) -> Result<Translated, Refused> {
    let stream = asks_for_stream(body);
    request(
        Call {
            client: chat_api(from, stream),
            upstream: chat_api(to, stream),
            model: "public-model",
            upstream_model: model,
            capabilities: Capabilities::of(to, model),
            is_vertex: false,
            stream,
            is_array: false,
            seed: "0123456789abcdef",
            created_at: 1_700_000_000,
        },
        body,
    )
}

/// The least request of a protocol: what a test of answers begins with.
pub(crate) fn least_request(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::OpenaiChat => {
            br#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}"#
        }
        Protocol::OpenaiResponses => br#"{"model":"m","input":"hi","stream":true}"#,
        Protocol::AnthropicMessages => {
            br#"{"model":"m","max_tokens":100,"messages":[{"role":"user","content":"hi"}],"stream":true}"#
        }
        Protocol::Gemini => br#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
    }
}

/// Cuts a stream into its events.
pub(crate) fn events(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut framer = EventFramer::new(1 << 20);
    let mut events = Vec::new();
    for chunk in chunks {
        framer.push(chunk);
        while let Some(event) = framer.next_event().unwrap() {
            events.push(event.to_vec());
        }
    }
    events.extend(framer.finish().map(|event| event.to_vec()));
    events
}

/// The client's stream that a vendor's makes.
pub(crate) fn translate_stream(client: Protocol, vendor: Protocol, chunks: &[&[u8]]) -> String {
    let mut translator = translate(client, vendor, model(vendor), least_request(client)).unwrap().answer;
    let mut out = Vec::new();
    for event in events(chunks) {
        out.extend_from_slice(&translator.event(&event));
    }
    out.extend_from_slice(&translator.finish());
    String::from_utf8(out).unwrap()
}

/// The client's whole answer that a vendor's makes.
pub(crate) fn translate_answer(client: Protocol, vendor: Protocol, body: &[u8]) -> Result<String, String> {
    let mut translator = translate(client, vendor, model(vendor), least_request(client)).unwrap().answer;
    let translated = translator.plain(body).map_err(|e| e.to_string())?;
    Ok(String::from_utf8(translated.to_vec()).unwrap())
}

/// What a stream tells, put together.
pub(crate) fn gathered(protocol: Protocol, stream: &[u8]) -> Answer {
    let mut gatherer = Gatherer::new(protocol);
    events(&[stream]).iter().for_each(|event| gatherer.event(event));
    gatherer.finish()
}

/// A JSON text over several lines, with nothing else changed: escapes and numbers stand as they were written.
pub(crate) fn indented(json: &str) -> String {
    let mut out = String::new();
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    let mut rest = json.chars().peekable();
    while let Some(c) = rest.next() {
        if in_string {
            out.push(c);
            in_string = c != '"' || is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                if rest.peek().is_some_and(|next| matches!(next, '}' | ']')) {
                    continue;
                }
                depth += 1;
                line(&mut out, depth);
            }
            '}' | ']' => {
                if !out.ends_with(['{', '[']) {
                    depth = depth.saturating_sub(1);
                    line(&mut out, depth);
                }
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            _ => {
                in_string = c == '"';
                out.push(c);
            }
        }
    }
    out
}
