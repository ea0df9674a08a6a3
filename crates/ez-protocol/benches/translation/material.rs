//! What is translated: an agent's long conversation and its answers, made for OpenAI Chat and brought into the other
//! protocols by the translation itself.

use ez_contract::Protocol;
use ez_protocol::Api;
use ez_protocol::sse::EventFramer;
use ez_protocol::translate::capability::Capabilities;
use ez_protocol::translate::{Call, Translated, counterparts, request};
use serde_json::{Value, json};

/// A vendor's stream.
pub(crate) struct Stream {
    pub(crate) bytes: Vec<u8>,
    pub(crate) events: usize,
}

/// All pairs of two protocols.
pub(crate) fn pairs() -> Vec<(Protocol, Protocol)> {
    let pair = |from: &Protocol| Protocol::ALL.iter().map(|to| (*from, *to)).collect::<Vec<_>>();
    Protocol::ALL.iter().flat_map(pair).filter(|(from, to)| from != to).collect()
}

/// The streaming chat endpoint of a protocol.
pub(crate) fn api(protocol: Protocol) -> Api {
    counterparts(Api::ChatCompletions, true, protocol)[0]
}

/// Translates a request for a stream.
pub(crate) fn exchange(client: Protocol, upstream: Protocol, body: &[u8]) -> Translated {
    let model = match upstream {
        Protocol::OpenaiChat | Protocol::OpenaiResponses => "gpt-5.4",
        Protocol::AnthropicMessages => "claude-opus-4-8",
        Protocol::Gemini => "gemini-3-flash",
    };
    let call = Call {
        client: api(client),
        upstream: api(upstream),
        model: "public-model",
        upstream_model: model,
        capabilities: Capabilities::of(upstream, model),
        is_vertex: false,
        stream: true,
        is_array: false,
        seed: "0123456789abcdef",
        created_at: 1_700_000_000,
    };
    request(call, body).unwrap()
}

/// The least request of a client.
pub(crate) fn least(client: Protocol) -> &'static [u8] {
    match client {
        Protocol::OpenaiChat => {
            br#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream_options":{"include_usage":true}}"#
        }
        Protocol::OpenaiResponses => br#"{"model":"m","input":"hi"}"#,
        Protocol::AnthropicMessages => br#"{"model":"m","max_tokens":100,"messages":[{"role":"user","content":"hi"}]}"#,
        Protocol::Gemini => br#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
    }
}

/// A conversation of 60 turns with 20 tools, calls and their results, and one image.
pub(crate) fn conversation(client: Protocol) -> Vec<u8> {
    const TURNS: usize = 60;
    const TOOLS: usize = 20;
    let mut messages = vec![json!({"role": "system", "content": words(4_000)})];
    messages.push(json!({"role": "user", "content": [
        {"type": "text", "text": "What is wrong on this page?"},
        {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,iVBORw0KGgo{}", "Ab9/".repeat(7_500))}},
    ]}));
    for turn in 0..TURNS / 2 {
        let (id, name) = (format!("call_{turn:020}"), format!("tool_{}", turn % TOOLS));
        let arguments = json!({"path": format!("/src/file_{turn}.rs"), "text": words(300), "line": turn}).to_string();
        messages.push(json!({"role": "assistant", "content": words(200), "tool_calls": [
            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}]}));
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": words(3_500)}));
    }
    messages.push(json!({"role": "user", "content": "Go on."}));
    let tools: Vec<_> = (0..TOOLS).map(tool).collect();
    let body = json!({"model": "m", "messages": messages, "tools": tools, "stream": true}).to_string();
    match client {
        Protocol::OpenaiChat => body.into_bytes(),
        other => exchange(Protocol::OpenaiChat, other, body.as_bytes()).body.to_vec(),
    }
}

fn tool(at: usize) -> Value {
    let property = |name: &str| json!({"type": "string", "description": format!("{name}: {}", words(60))});
    json!({"type": "function", "function": {
        "name": format!("tool_{at}"),
        "description": words(400),
        "parameters": {
            "type": "object",
            "properties": {
                "path": property("path"),
                "text": property("text"),
                "line": {"type": "integer", "minimum": 0},
                "edits": {"type": "array", "items": {"type": "object", "properties": {"from": property("from"), "to": property("to")}}},
            },
            "required": ["path"],
        },
    }})
}

/// About so many bytes of a text as programs and their outputs are, with a line's end and a quote now and then.
fn words(bytes: usize) -> String {
    "let found = \"value\"; // the first that fits, otherwise none at all\n".chars().cycle().take(bytes).collect()
}

/// What a vendor streams: text in small pieces, and calls with their arguments in pieces.
pub(crate) fn streams(vendor: Protocol) -> [Stream; 2] {
    const PIECES: usize = 1_000;
    let text = (0..PIECES).map(|at| json!({"content": if at % 20 == 0 { " line\n" } else { " word" }}));
    let tools = (0..PIECES).map(|at| {
        let (call, piece) = (at / 20, at % 20);
        let function = match piece {
            0 => json!({"index": call, "id": format!("call_{call}"), "type": "function",
                "function": {"name": "write", "arguments": ""}}),
            1 => json!({"index": call, "function": {"arguments": "{\"text\":\""}}),
            19 => json!({"index": call, "function": {"arguments": "\"}"}}),
            _ => json!({"index": call, "function": {"arguments": " word"}}),
        };
        json!({"tool_calls": [function]})
    });
    [stream(vendor, text, "stop"), stream(vendor, tools, "tool_calls")]
}

fn stream(vendor: Protocol, deltas: impl Iterator<Item = Value>, finish: &str) -> Stream {
    let chunk = |delta: Value, finish: Value| {
        let body = json!({"id": "chatcmpl-CKq2", "object": "chat.completion.chunk", "created": 1_760_000_000,
            "model": "gpt-5.4", "service_tier": "default", "system_fingerprint": null,
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]});
        format!("data: {body}\n\n")
    };
    let chunks: String = deltas.map(|delta| chunk(delta, Value::Null)).collect();
    let end = chunk(json!({}), json!(finish));
    let usage =
        r#"{"id":"chatcmpl-CKq2","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16}}"#;
    let chat = format!("{chunks}{end}data: {usage}\n\ndata: [DONE]\n\n");
    let bytes = match vendor {
        Protocol::OpenaiChat => chat.into_bytes(),
        other => {
            let mut translator = exchange(other, Protocol::OpenaiChat, least(other)).answer;
            let mut out = Vec::new();
            each_event(chat.as_bytes(), |event| out.extend_from_slice(&translator.event(event)));
            out.extend_from_slice(&translator.finish());
            out
        }
    };
    let mut events = 0;
    each_event(&bytes, |_| events += 1);
    Stream { bytes, events }
}

fn each_event(stream: &[u8], mut tell: impl FnMut(&[u8])) {
    let mut framer = EventFramer::new(1 << 20);
    framer.push(stream);
    while let Some(event) = framer.next_event().unwrap() {
        tell(&event);
    }
}
