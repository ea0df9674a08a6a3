//! What holds for any bytes whatever: nothing panics, nothing takes long (libFuzzer's `-timeout`), and what comes out is
//! JSON of the kind that the other side reads. Each function is one fuzz target.

mod mutate;

pub use ez_contract::Protocol;
pub use libfuzzer_sys;
pub use mutate::mutate;

use ez_protocol::Api;
use ez_protocol::error::{Fault, FaultKind};
use ez_protocol::json::Value;
use ez_protocol::sse::{self, EventFramer};
use ez_protocol::translate::capability::Capabilities;
use ez_protocol::translate::{Call, Gatherer, Refused, Translated};
use ez_protocol::translate::{counterparts, request as translate, whole_answer, without_foreign_state};
use serde_json::json;
use serde_json::value::RawValue;

/// A target, with mutations that know JSON and streams.
#[macro_export]
macro_rules! target {
    (|$bytes:ident| $check:expr) => {
        $crate::libfuzzer_sys::fuzz_target!(|$bytes: &[u8]| $check);
        $crate::libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            $crate::mutate(data, size, max_size, seed)
        });
    };
}

/// More than libFuzzer is told to make.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// A request of a chat client, translated to every other protocol.
pub fn request(client: Protocol, body: &[u8]) {
    for upstream in others(client) {
        for model in models(upstream) {
            let capabilities = Capabilities::of(upstream, model);
            for stream in [false, true] {
                if let Ok(translated) = chat(client, upstream, model, capabilities, stream, body) {
                    assert_object(&translated.body, client, upstream);
                }
            }
        }
    }
}

/// A vendor's whole answer, translated for the clients of every other protocol.
pub fn answer(vendor: Protocol, body: &[u8]) {
    let told = whole_answer(vendor, body);
    for client in others(vendor) {
        let answered = least_exchange(client, vendor, false).answer.plain(body);
        assert!(told.is_some() || answered.is_err(), "{client}: translated though nothing could be read");
        if let Ok(answered) = answered {
            assert_object(&answered, client, vendor);
            let is_read = whole_answer(client, &answered).is_some();
            assert!(is_read, "{vendor} to {client}: what was written cannot be read: {}", lossy(&answered));
        }
    }
}

/// A vendor's stream, translated for the clients of every other protocol, in one piece and in two.
pub fn stream(vendor: Protocol, bytes: &[u8]) {
    let events = events(&[bytes]);
    let mut gatherer = Gatherer::new(vendor);
    events.iter().for_each(|event| gatherer.event(event));
    gatherer.finish();
    let (before, after) = bytes.split_at(bytes.len() / 2);
    let events_of_halves = self::events(&[before, after]);
    for client in others(vendor) {
        let told = answered(client, vendor, false, &events);
        assert_eq!(lossy(&told), lossy(&answered(client, vendor, false, &events_of_halves)), "{vendor} to {client}");
        for event in self::events(&[&told]) {
            let data = sse::data(&event);
            let is_read = data.is_none_or(|data| data.as_ref() == b"[DONE]" || Value::object_in(data.as_ref()).is_ok());
            assert!(is_read, "{vendor} to {client}: {}", lossy(&event));
        }
        if client == Protocol::Gemini {
            let array = [b"{\"a\":", &answered(client, vendor, true, &events)[..], b"}"].concat();
            assert!(Value::object_in(&array).is_ok(), "{vendor} to {client}: {}", lossy(&array));
        }
    }
}

/// A request for embeddings, and the same bytes as an answer to a good one.
pub fn embeddings(bytes: &[u8]) {
    let pairs: [(Api, Api, &[u8]); 4] = [
        (Api::Embeddings, Api::BatchEmbedContents, br#"{"input":["a","b"],"encoding_format":"base64"}"#),
        (Api::Embeddings, Api::EmbedContent, br#"{"input":"a"}"#),
        (Api::EmbedContent, Api::Embeddings, br#"{"content":{"parts":[{"text":"a"}]}}"#),
        (Api::BatchEmbedContents, Api::Embeddings, br#"{"requests":[{"content":{"parts":[{"text":"a"}]}}]}"#),
    ];
    for (client, upstream, least) in pairs {
        exchange(client, upstream, &Capabilities::default(), least, bytes);
    }
}

/// A request to rank, and the same bytes as an answer to a good one.
pub fn rerank(bytes: &[u8]) {
    let requests: [&[u8]; 3] = [
        br#"{"query":"q","documents":["a","b"],"top_n":1}"#,
        br#"{"query":"q","documents":["a","b"],"top_k":1}"#,
        br#"{"query":"q","texts":["a","b"]}"#,
    ];
    for style in ["common", "voyage", "tei"] {
        let overrides = serde_json::from_value(json!({"rerank": style})).expect("the style is known");
        let capabilities = Capabilities::overridden(Protocol::OpenaiChat, "m", &overrides).expect("the style is known");
        for least in requests {
            exchange(Api::Rerank, Api::Rerank, &capabilities, least, bytes);
        }
    }
}

/// A request to count tokens, and the same bytes as an answer to a good one.
pub fn count(bytes: &[u8]) {
    let requests: [(Api, &[u8]); 3] = [
        (Api::MessagesCountTokens, br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#),
        (Api::CountTokens, br#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#),
        (Api::ResponsesInputTokens, br#"{"model":"m","input":"hi"}"#),
    ];
    for (client, least) in requests {
        for upstream in others(client.protocol()) {
            for api in counterparts(client, false, upstream) {
                exchange(client, *api, Capabilities::of(upstream, models(upstream)[0]), least, bytes);
            }
        }
    }
}

/// Other vendors' state taken out of a request, which leaves a request in which there is none.
pub fn foreign_state(body: &[u8]) {
    for protocol in Protocol::ALL {
        if let Some(left) = without_foreign_state(*protocol, body) {
            assert!(Value::object_in(&left).is_ok(), "{protocol}: {}", lossy(&left));
            let again = without_foreign_state(*protocol, &left);
            assert!(again.is_none(), "{protocol}: state was left in {}", lossy(&left));
        }
    }
}

/// Everything that is no chat: the bytes as a request, and as an answer to `least`.
fn exchange(client: Api, upstream: Api, capabilities: &Capabilities, least: &[u8], bytes: &[u8]) {
    for is_vertex in [false, true] {
        let call = Call { is_vertex, ..call(client, upstream, "m", capabilities) };
        if let Ok(translated) = translate(call, bytes) {
            assert_object(&translated.body, client.protocol(), upstream.protocol());
        }
        let mut good = translate(call, least).expect("the least request is taken");
        if let Ok(answer) = good.answer.plain(bytes) {
            let is_json = serde_json::from_slice::<&RawValue>(&answer).is_ok();
            assert!(is_json, "{client:?} from {upstream:?}: {}", lossy(&answer));
        }
    }
}

fn chat(
    client: Protocol,
    upstream: Protocol,
    model: &str,
    capabilities: &Capabilities,
    stream: bool,
    body: &[u8],
) -> Result<Translated, Refused> {
    let api = |protocol| counterparts(Api::ChatCompletions, stream, protocol)[0];
    translate(Call { stream, ..call(api(client), api(upstream), model, capabilities) }, body)
}

fn call<'c>(client: Api, upstream: Api, upstream_model: &'c str, capabilities: &'c Capabilities) -> Call<'c> {
    Call {
        client,
        upstream,
        model: "public-model",
        upstream_model,
        capabilities,
        is_vertex: false,
        stream: false,
        is_array: false,
        seed: "0123456789abcdef",
        created_at: 1_700_000_000,
    }
}

/// The least request of a client, to have its answer translated.
fn least_exchange(client: Protocol, vendor: Protocol, is_array: bool) -> Translated {
    let least: &[u8] = match client {
        Protocol::OpenaiChat => {
            br#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream_options":{"include_usage":true}}"#
        }
        Protocol::OpenaiResponses => br#"{"model":"m","input":"hi"}"#,
        Protocol::AnthropicMessages => br#"{"model":"m","max_tokens":100,"messages":[{"role":"user","content":"hi"}]}"#,
        Protocol::Gemini => br#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
    };
    let api = |protocol| counterparts(Api::ChatCompletions, true, protocol)[0];
    let model = models(vendor)[0];
    let call = call(api(client), api(vendor), model, Capabilities::of(vendor, model));
    translate(Call { stream: true, is_array, ..call }, least).expect("the least request is taken")
}

/// What the client gets for a vendor's stream.
fn answered(client: Protocol, vendor: Protocol, is_array: bool, events: &[Vec<u8>]) -> Vec<u8> {
    let mut translator = least_exchange(client, vendor, is_array).answer;
    let mut told: Vec<u8> = Vec::new();
    for event in events {
        told.extend_from_slice(&translator.event(event));
    }
    told.extend_from_slice(&translator.finish());
    if translator.failure().is_some() {
        // All that may follow is an error, which ends an array.
        let fault = Fault {
            status: 502,
            kind: FaultKind::Upstream,
            code: "upstream_error",
            message: "it went wrong".to_owned(),
            param: None,
        };
        told.extend_from_slice(&translator.error(&fault, "req-1"));
    }
    told
}

fn events(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut framer = EventFramer::new(MAX_EVENT_BYTES);
    let mut events = Vec::new();
    for chunk in chunks {
        framer.push(chunk);
        while let Ok(Some(event)) = framer.next_event() {
            events.push(event.to_vec());
        }
    }
    events.extend(framer.finish().map(|event| event.to_vec()));
    events
}

fn others(protocol: Protocol) -> impl Iterator<Item = Protocol> {
    Protocol::ALL.iter().copied().filter(move |other| *other != protocol)
}

/// A new and an old model of each vendor.
fn models(upstream: Protocol) -> [&'static str; 2] {
    match upstream {
        Protocol::OpenaiChat | Protocol::OpenaiResponses => ["gpt-5.4", "gpt-4o"],
        Protocol::AnthropicMessages => ["claude-opus-4-8", "claude-sonnet-4-5"],
        Protocol::Gemini => ["gemini-3-flash", "gemini-2.5-pro"],
    }
}

fn assert_object(body: &[u8], client: Protocol, upstream: Protocol) {
    let read = Value::object_in(body);
    assert!(read.is_ok(), "{client}, {upstream}: {read:?} {}", lossy(body));
}

fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
