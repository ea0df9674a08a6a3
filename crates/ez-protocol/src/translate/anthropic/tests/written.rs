use std::sync::Arc;

use ez_contract::Protocol;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::super::answer::Answer;
use super::super::super::event::{Citation, Event, FinishReason, Note, Part, Start, Usage};
use super::super::super::opaque::{Opaque, OpaqueKind};
use super::super::super::target::AnswerContext;
use super::super::{AnswerWriter, read_plain, write_plain};
use super::corpus;
use crate::json::{Escaped, Value};

fn context() -> Arc<AnswerContext> {
    Arc::new(AnswerContext {
        client: Protocol::AnthropicMessages,
        model: "asked-for".to_owned(),
        seed: "seed1".to_owned(),
        created_at: 1,
        wants_usage: true,
        is_array: false,
        echo: Vec::new(),
    })
}

/// The stream of an answer: its events, framed.
fn streamed(events: &[Event<'_>]) -> Vec<Json> {
    let (mut out, mut writer) = (String::new(), AnswerWriter::new(context()));
    events.iter().for_each(|event| writer.write(event.clone(), &mut out));
    writer.finish(&mut out);
    writer.finish(&mut out);
    let events: Vec<Json> = out.split_terminator("\n\n").map(parsed).collect();
    assert_eq!(events.len() as u64, writer.events());
    events
}

/// An event's data; its name must be the type.
fn parsed(event: &str) -> Json {
    let (name, data) = event.split_once("\ndata: ").expect("data");
    let data: Json = serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}"));
    assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
    data
}

/// Puts a stream together as the vendor's SDKs do, and checks the order of its events.
fn accumulated(events: &[Json]) -> Json {
    let mut message = events.first().expect("an event")["message"].clone();
    let (mut open, mut input) = (None, String::new());
    for event in &events[1..events.len() - 2] {
        let index = event["index"].as_u64().expect("an index") as usize;
        let blocks = message["content"].as_array_mut().expect("blocks");
        match event["type"].as_str().expect("a type") {
            "content_block_start" => {
                assert_eq!((open, index), (None, blocks.len()));
                blocks.push(event["content_block"].clone());
                (open, input) = (Some(index), String::new());
            }
            "content_block_delta" => {
                assert_eq!(open, Some(index));
                let delta = &event["delta"];
                let (field, text) = match delta["type"].as_str().expect("a type") {
                    "text_delta" => ("text", &delta["text"]),
                    "thinking_delta" => ("thinking", &delta["thinking"]),
                    "signature_delta" => ("signature", &delta["signature"]),
                    "input_json_delta" => {
                        input.push_str(delta["partial_json"].as_str().expect("text"));
                        continue;
                    }
                    other => panic!("{other}"),
                };
                let whole = [blocks[index][field].as_str(), text.as_str()].map(|text| text.expect("text")).concat();
                blocks[index][field] = json!(whole);
            }
            "content_block_stop" => {
                assert_eq!(open.take(), Some(index));
                if !input.is_empty() {
                    blocks[index]["input"] = serde_json::from_str(&input).expect("arguments");
                }
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(open, None);
    let [delta, stop] = &events[events.len() - 2..] else { panic!("an end") };
    assert_eq!((&delta["type"], &stop["type"]), (&json!("message_delta"), &json!("message_stop")));
    message["stop_reason"] = delta["delta"]["stop_reason"].clone();
    message["stop_sequence"] = delta["delta"]["stop_sequence"].clone();
    message["usage"] = delta["usage"].clone();
    message
}

fn whole(events: &[Event<'_>]) -> Json {
    let mut answer = Answer::default();
    events.iter().for_each(|event| answer.add(event.clone()));
    serde_json::from_str(&write_plain(&answer, &context())).expect("JSON")
}

/// The message that the events make, streamed and whole.
fn message(events: &[Event<'_>]) -> Json {
    let whole = whole(events);
    assert_eq!(accumulated(&streamed(events)), whole);
    whole
}

#[test]
fn answers_of_the_vendor_are_written_as_they_were() {
    for (name, body) in corpus("answers") {
        let mut events = Vec::new();
        let body: Json = serde_json::from_str(&body).unwrap();
        let text = body.to_string();
        read_plain(Value::parse_object(&text).unwrap(), &mut |event| events.push(into_owned(event))).unwrap();
        let written = message(&events);
        let mut expected = body.clone();
        expected["model"] = json!("asked-for");
        for key in ["service_tier", "inference_geo"] {
            expected["usage"].as_object_mut().unwrap().remove(key);
        }
        expected.as_object_mut().unwrap().remove("stop_details");
        let blocks = expected["content"].as_array_mut().unwrap();
        blocks.retain(|block| {
            let kind = block["type"].as_str().unwrap();
            !kind.starts_with("server_") && !kind.starts_with("web_") && block["text"] != ""
        });
        blocks.iter_mut().filter_map(Json::as_object_mut).for_each(|block| {
            block.remove("citations");
        });
        assert_eq!(written, expected, "{name}");
    }
}

fn into_owned(event: Event<'_>) -> Event<'static> {
    match event {
        Event::Start(start) => Event::Start(Start { id: start.id.map(Escaped::into_owned), ..start }),
        Event::Open { choice, part } => Event::Open { choice, part: part.into_owned() },
        Event::Delta { choice, text } => Event::Delta { choice, text: text.into_owned() },
        Event::Note { choice, note: Note::Signature(state) } => {
            Event::Note { choice, note: Note::Signature(state.into_owned()) }
        }
        Event::Note { choice, note: Note::Citation(citation) } => {
            Event::Note { choice, note: Note::Citation(citation.into_owned()) }
        }
        Event::Close { choice } => Event::Close { choice },
        Event::Finish { choice, reason, stop_sequence } => {
            Event::Finish { choice, reason, stop_sequence: stop_sequence.map(Escaped::into_owned) }
        }
        Event::Usage(usage) => Event::Usage(usage),
    }
}

fn open(part: Part<'static>) -> Event<'static> {
    Event::Open { choice: 0, part }
}

fn delta(text: &'static str) -> Event<'static> {
    Event::Delta { choice: 0, text: Escaped::of(text) }
}

fn state(issuer: Protocol, kind: OpaqueKind) -> Opaque<'static> {
    Opaque { issuer, kind, data: Escaped::of("data") }
}

fn call(is_custom: bool, signature: Option<Opaque<'static>>) -> Event<'static> {
    open(Part::ToolCall { id: None, name: Escaped::of("f"), is_custom, signature })
}

const CLOSE: Event<'static> = Event::Close { choice: 0 };

#[test]
fn parts_become_blocks() {
    let sign = |issuer, kind| Event::Note { choice: 0, note: Note::Signature(state(issuer, kind)) };
    let (signature, encrypted) = (OpaqueKind::Signature, OpaqueKind::Encrypted);
    let (own, gemini, openai) = (Protocol::AnthropicMessages, Protocol::Gemini, Protocol::OpenaiResponses);
    let thinking =
        |words: &str, signature: &str| json!({"type": "thinking", "thinking": words, "signature": signature});
    let tool = |input: Json| json!({"type": "tool_use", "id": "toolu_seed10", "name": "f", "input": input});
    let citation = Citation { url: Escaped::of("https://a"), title: None, range: None };
    let cases = [
        (vec![open(Part::Text), CLOSE], json!([])),
        (
            vec![open(Part::Text), delta("a"), Event::Note { choice: 0, note: Note::Citation(citation) }, CLOSE],
            json!([{"type": "text", "text": "a"}]),
        ),
        (vec![open(Part::Reasoning), CLOSE], json!([])),
        (vec![open(Part::Reasoning), delta("hm"), CLOSE], json!([thinking("hm", "")])),
        (vec![open(Part::Reasoning), delta("hm"), sign(own, signature), CLOSE], json!([thinking("hm", "data")])),
        (vec![open(Part::Reasoning), sign(own, signature), CLOSE], json!([thinking("", "data")])),
        (
            vec![open(Part::Reasoning), delta("hm"), sign(openai, encrypted), CLOSE],
            json!([thinking("hm", "ez1.re.data")]),
        ),
        (
            vec![open(Part::Reasoning), sign(own, encrypted), CLOSE],
            json!([{"type": "redacted_thinking", "data": "data"}]),
        ),
        (
            vec![open(Part::Reasoning), delta("hm"), sign(own, encrypted), CLOSE],
            json!([thinking("hm", ""), {"type": "redacted_thinking", "data": "data"}]),
        ),
        (vec![call(false, None), CLOSE], json!([tool(json!({}))])),
        (vec![call(false, None), delta("{\"a\":"), delta("1}"), CLOSE], json!([tool(json!({"a": 1}))])),
        (
            vec![call(false, Some(state(gemini, signature))), delta("{}"), CLOSE],
            json!([thinking("", "ez1.gs.data"), tool(json!({}))]),
        ),
        (
            vec![call(true, None), delta("say \"hi\"\n"), delta("\\"), CLOSE],
            json!([tool(json!({"input": "say \"hi\"\n\\"}))]),
        ),
        (vec![call(true, None), CLOSE], json!([tool(json!({"input": ""}))])),
        (
            vec![open(Part::Media { media_type: Escaped::of("image/png"), data: Escaped::of("AAAA") }), CLOSE],
            json!([{"type": "text", "text": "[The model made a file of the type image/png, which this protocol cannot carry.]"}]),
        ),
    ];
    for (events, expected) in cases {
        assert_eq!(message(&events)["content"], expected, "{events:?}");
    }
}

#[test]
fn an_answer_does_not_end_with_state_alone() {
    let words = || vec![open(Part::Text), delta("a"), CLOSE];
    let state = || {
        let state = state(Protocol::Gemini, OpaqueKind::Signature);
        vec![open(Part::Reasoning), Event::Note { choice: 0, note: Note::Signature(state) }, CLOSE]
    };
    let empty = || vec![open(Part::Text), CLOSE];
    let (text, thinking) =
        (json!({"type": "text", "text": "a"}), json!({"type": "thinking", "thinking": "", "signature": "ez1.gs.data"}));
    let cases = [
        (vec![words(), state()], json!([text])),
        (vec![words(), state(), empty(), state()], json!([text])),
        (vec![words(), state(), words()], json!([text, thinking, text])),
        (vec![words(), state(), state(), words(), state()], json!([text, thinking, thinking, text])),
        (vec![state()], json!([thinking])),
        (vec![state(), words()], json!([thinking, text])),
    ];
    for (events, expected) in cases {
        assert_eq!(message(&events.concat())["content"], expected, "{events:?}");
    }
    let called = [words(), state(), vec![call(false, None), CLOSE]].concat();
    assert_eq!(message(&called)["content"][1], thinking);
}

#[test]
fn a_character_cut_in_two_in_a_custom_call_is_whole_again() {
    let half = |written: &'static str| {
        let text = Value::parse_object(written).and_then(|object| object.get("t")?.string()).unwrap();
        Event::Delta { choice: 0, text }
    };
    let events = [call(true, None), half(r#"{"t":"\ud83d"}"#), half(r#"{"t":"\ude00"}"#), CLOSE];
    assert_eq!(message(&events)["content"][0]["input"]["input"], "\u{1f600}");
}

#[test]
fn calls_that_are_broken_are_kept_in_an_object() {
    let events = [call(false, None), delta("{\"a\":"), CLOSE];
    assert_eq!(whole(&events)["content"][0]["input"], json!({"INVALID_JSON": "{\"a\":"}));
}

#[test]
fn ends_are_told_in_anthropics_words() {
    let finish = |reason| Event::Finish { choice: 0, reason, stop_sequence: None };
    let called = || vec![call(false, None), CLOSE];
    let cases = [
        (vec![], FinishReason::Stop, "end_turn"),
        (vec![], FinishReason::Failed, "end_turn"),
        (called(), FinishReason::ToolCalls, "tool_use"),
        (called(), FinishReason::Stop, "tool_use"),
        (called(), FinishReason::Length, "max_tokens"),
        (vec![open(Part::Refusal), delta("No."), CLOSE], FinishReason::Stop, "refusal"),
        (vec![], FinishReason::Refused, "refusal"),
        (vec![], FinishReason::ContextFull, "model_context_window_exceeded"),
        (vec![], FinishReason::Paused, "pause_turn"),
    ];
    for (mut events, reason, expected) in cases {
        events.push(finish(reason));
        assert_eq!(message(&events)["stop_reason"], expected, "{reason:?}");
    }
    let stopped =
        Event::Finish { choice: 0, reason: FinishReason::StopSequence, stop_sequence: Some(Escaped::of("END")) };
    assert_eq!(message(&[stopped])["stop_sequence"], "END");
    assert_eq!(message(&[])["stop_reason"], "end_turn");
}

#[test]
fn usage_is_told_as_far_as_it_is_known() {
    let none = message(&[])["usage"].clone();
    assert_eq!(none, json!({"input_tokens": 0, "output_tokens": 0}));
    let usage = Usage {
        input_uncached: Some(10),
        cache_read: Some(60),
        cache_write_5m: Some(7),
        cache_write_1h: None,
        output: Some(5),
        reasoning: Some(3),
    };
    let expected = json!({
        "input_tokens": 10, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 60, "output_tokens": 8,
        "output_tokens_details": {"thinking_tokens": 3},
    });
    assert_eq!(message(&[Event::Usage(usage)])["usage"], expected);
    let events = streamed(&[Event::Usage(usage), Event::Start(Start::default())]);
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], 10, "what is known by then");
}

#[test]
fn ids_are_the_vendors_where_they_can_be() {
    let id = |id: Option<&'static str>| {
        let start = Start { id: id.map(Escaped::of), created_at: None };
        message(&[Event::Start(start)])["id"].clone()
    };
    assert_eq!([id(None), id(Some("resp_1")), id(Some("msg_1"))], ["msg_seed1", "msg_seed1", "msg_1"]);
    assert_eq!(message(&[Event::Start(Start::default())])["model"], "asked-for");
}

fn any_event() -> impl Strategy<Value = Event<'static>> {
    let choice = prop_oneof![4 => Just(0_u32), 1 => Just(1_u32)];
    let text = prop::sample::select(vec!["", "a", "\"\\\n", "{\"a\":1}", "{}"]).prop_map(Escaped::of);
    let kind = prop::sample::select(vec![OpaqueKind::Signature, OpaqueKind::Encrypted]);
    let state = (prop::sample::select(Protocol::ALL.to_vec()), kind).prop_map(|(issuer, kind)| state(issuer, kind));
    let part = prop_oneof![
        Just(Part::Text),
        Just(Part::Refusal),
        Just(Part::Reasoning),
        Just(Part::Media { media_type: Escaped::of("image/png"), data: Escaped::of("AAAA") }),
        (any::<bool>(), prop::option::of(state.clone())).prop_map(|(is_custom, signature)| {
            Part::ToolCall { id: None, name: Escaped::of("f"), is_custom, signature }
        }),
    ];
    (choice, text, state, part, 0..7_u8).prop_map(|(choice, text, state, part, kind)| match kind {
        0 => Event::Start(Start::default()),
        1 => Event::Open { choice, part },
        2 => Event::Note { choice, note: Note::Signature(state) },
        3 => Event::Close { choice },
        4 => Event::Finish { choice, reason: FinishReason::Length, stop_sequence: Some(text) },
        5 => Event::Usage(Usage::default()),
        _ => Event::Delta { choice, text },
    })
}

proptest! {
    /// Indexes, order and the one end hold whatever comes, as long as arguments are none that are broken.
    #[test]
    fn any_events_make_a_stream_in_order(events in prop::collection::vec(any_event(), 0..20)) {
        let events = streamed(&events);
        let ends = events.iter().filter(|event| event["type"] == "message_stop").count();
        let starts = events.iter().filter(|event| event["type"] == "message_start").count();
        prop_assert_eq!((starts, ends), (1, 1));
        let mut open = None;
        let mut next = 0;
        for event in &events {
            match event["type"].as_str().unwrap() {
                "content_block_start" => {
                    prop_assert_eq!((open, event["index"].as_u64()), (None, Some(next)));
                    open = Some(next);
                    next += 1;
                }
                "content_block_delta" => prop_assert_eq!(event["index"].as_u64(), open),
                "content_block_stop" => prop_assert_eq!(event["index"].as_u64(), open.take()),
                _ => prop_assert_eq!(open, None),
            }
        }
    }

    #[test]
    fn any_events_make_a_body(events in prop::collection::vec(any_event(), 0..20)) {
        prop_assert!(whole(&events)["content"].is_array());
    }
}
