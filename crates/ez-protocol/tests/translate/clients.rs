//! What the vendors' own SDKs ask of a stream beyond its protocol: found by feeding them every golden.

use std::collections::BTreeMap;

use ez_contract::Protocol;
use ez_protocol::sse;
use ez_protocol::translate::UnreadableAnswer;
use serde_json::{Value, json};

use crate::corpus::{events, least_request, model, pairs, samples, translate, translate_answer, translate_stream};

/// Every stream of the corpus as a client of this protocol gets it.
fn streams_to(client: Protocol) -> impl Iterator<Item = (String, String)> {
    let vendors = pairs().filter(move |(to, _)| *to == client).map(|(_, vendor)| vendor);
    vendors.flat_map(move |vendor| {
        let streams = samples(vendor, "streams").into_iter();
        streams.map(move |sample| {
            (format!("{vendor}'s {}", sample.name), translate_stream(client, vendor, &[&sample.bytes]))
        })
    })
}

#[test]
fn googles_sdk_reads_every_line_as_data() {
    for (name, stream) in streams_to(Protocol::Gemini) {
        // A line of anything else, comments included, is to it the JSON text of an error.
        let other = stream.lines().find(|line| !line.is_empty() && !line.starts_with("data: {"));
        assert_eq!(other, None, "{name}");
    }
}

#[test]
fn openais_sdk_puts_lists_together_by_their_indexes() {
    for (name, stream) in streams_to(Protocol::OpenaiChat) {
        let mut next: BTreeMap<(u64, String), u64> = BTreeMap::new();
        for data in stream.lines().filter_map(|line| line.strip_prefix("data: {")) {
            let chunk: Value = serde_json::from_str(&format!("{{{data}")).unwrap();
            for choice in chunk["choices"].as_array().unwrap() {
                for (key, list) in choice["delta"].as_object().unwrap() {
                    let next = next.entry((choice["index"].as_u64().unwrap(), key.clone())).or_default();
                    for entry in list.as_array().into_iter().flatten() {
                        let index = entry["index"].as_u64().unwrap_or_else(|| panic!("{name}: {key} without index"));
                        assert!(index == *next || index + 1 == *next, "{name}: {key} {index} after {next}");
                        *next = index + 1;
                    }
                }
            }
        }
    }
}

/// What the Anthropic client's SDK makes of the arguments of the one call that a chat upstream sends in these fragments.
fn input_of(fragments: &[&str]) -> Value {
    let chunk = |delta: Value| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta}]}));
    let call = |arguments: &str| json!({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]});
    let mut stream = chunk(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]}));
    fragments.iter().for_each(|fragment| stream.push_str(&chunk(call(fragment))));
    stream.push_str("data: [DONE]\n\n");
    let written = translate_stream(Protocol::AnthropicMessages, Protocol::OpenaiChat, &[stream.as_bytes()]);
    let events = written.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let json: String = events.filter_map(|event| Some(event["delta"]["partial_json"].as_str()?.to_owned())).collect();
    if json.is_empty() { json!({}) } else { serde_json::from_str(&json).unwrap_or_else(|e| panic!("{json}: {e}")) }
}

#[test]
fn anthropics_sdk_reads_the_arguments_of_a_call_as_an_object() {
    let cases: [(&[&str], Value); 7] = [
        (&[], json!({})),
        (&["", " "], json!({})),
        (&["{\"a\"", ":1}"], json!({"a": 1})),
        (&["\n", " {", "}"], json!({})),
        (&["null"], json!({"INVALID_JSON": "null"})),
        (&["[", "{}", "]"], json!({"INVALID_JSON": "[{}]"})),
        (&["Par", "is \"FR\" {"], json!({"INVALID_JSON": "Paris \"FR\" {"})),
    ];
    for (fragments, expected) in cases {
        assert_eq!(input_of(fragments), expected, "{fragments:?}");
    }
}

#[test]
fn an_array_of_chunks_is_read_like_their_events() {
    for sample in samples(Protocol::Gemini, "streams") {
        let uncut = events(&[&sample.bytes]);
        let mut array = Vec::new();
        for (at, event) in uncut.iter().filter_map(|event| Some(sse::data(event)?.as_ref().to_vec())).enumerate() {
            array.push([if at == 0 { "[".as_bytes() } else { b",\r\n" }, &event].concat());
        }
        array.push(b"]".to_vec());
        for (client, vendor) in pairs().filter(|(_, vendor)| *vendor == Protocol::Gemini) {
            let mut translator = translate(client, vendor, model(vendor), least_request(client)).unwrap().answer;
            let mut out: Vec<u8> = array.iter().flat_map(|element| translator.event(element)).collect();
            out.extend(translator.finish());
            let expected = translate_stream(client, vendor, &[&sample.bytes]);
            let of_data = |text: &str| text.lines().filter(|line| line.starts_with("data")).collect::<String>();
            assert_eq!(of_data(&String::from_utf8(out).unwrap()), of_data(&expected), "{client}, {}", sample.name);
        }
    }
}

#[test]
fn a_stream_of_which_a_part_cannot_be_read_has_no_proper_end() {
    for (client, vendor) in pairs() {
        let mut translator = translate(client, vendor, model(vendor), least_request(client)).unwrap().answer;
        assert!(translator.event(b"data: \n\n").is_empty() && translator.event(b"data: [DONE]\n\n").is_empty());
        assert_eq!(translator.failure(), None, "{vendor} to {client}: what is no object is nobody's");
        translator.event(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\nb\"}}]}\n\n");
        translator.finish();
        assert_eq!(translator.failure(), Some(UnreadableAnswer::Unknown), "{vendor} to {client}");
    }
}

#[test]
fn calls_are_told_as_the_end_also_where_a_server_of_anthropics_protocol_does_not() {
    let call = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#;
    let stop = r#"{"type":"content_block_stop","index":0}"#;
    let end_turn = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}"#;
    let cut_off = r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":3}}"#;
    for (end, expected) in [(None, "tool_calls"), (Some(end_turn), "tool_calls"), (Some(cut_off), "length")] {
        let said = [call, stop].into_iter().chain(end).chain([r#"{"type":"message_stop"}"#]);
        let stream: String = said.map(|data| format!("data: {data}\n\n")).collect();
        let written = translate_stream(Protocol::OpenaiChat, Protocol::AnthropicMessages, &[stream.as_bytes()]);
        assert!(written.contains(&format!(r#""finish_reason":"{expected}""#)), "{end:?}: {written}");
    }
    let body = r#"{"content":[{"type":"tool_use","id":"t","name":"f","input":{}}],"stop_reason":"end_turn"}"#;
    let whole = translate_answer(Protocol::OpenaiChat, Protocol::AnthropicMessages, body.as_bytes()).unwrap();
    assert!(whole.contains(r#""finish_reason":"tool_calls""#), "{whole}");
}
