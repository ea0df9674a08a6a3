use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::super::answer::Answer;
use super::super::super::event::{Event, FinishReason};
use super::super::{AnswerReader, read_plain};
use super::corpus;
use crate::json::{Escaped, Value};
use crate::sse;

/// What a stream tells, whole.
fn of_stream(stream: &str) -> Answer {
    let mut answer = Answer::default();
    let mut reader = AnswerReader::default();
    let lines = stream.replace("\r\n", "\n");
    for event in lines.split_inclusive("\n\n") {
        if let Some(data) = sse::data(event.as_bytes()) {
            let data = Value::object_in(data.as_ref()).expect("an object");
            reader.read(data, &mut |event| answer.add(event));
        }
    }
    reader.finish(&mut |event| answer.add(event));
    answer
}

fn of_body(body: &str) -> Answer {
    let mut answer = Answer::default();
    read_plain(Value::parse_object(body).expect("an object"), &mut |event| answer.add(event)).expect("an answer");
    answer
}

/// The same with escapes read, so that texts compare whatever way they were written.
fn shown(answer: &Answer) -> String {
    let mut answer = answer.clone();
    for part in answer.choices.iter_mut().flat_map(|choice| &mut choice.parts) {
        part.text = Escaped::of_owned(part.text.text().into_owned());
    }
    format!("{answer:#?}")
}

#[test]
fn streams_and_bodies_tell_the_same() {
    let answers = corpus("answers");
    let streams = corpus("streams");
    assert_eq!(answers.len(), streams.len());
    for ((name, body), (streamed, stream)) in answers.iter().zip(&streams) {
        assert_eq!(name, streamed);
        assert_eq!(shown(&of_stream(stream)), shown(&of_body(body)), "{name}");
    }
}

#[test]
fn answers_are_read_for_what_they_are() {
    let read = |name: &str| of_body(&super::file("answers", name));
    let finishes = [
        ("text", FinishReason::Stop),
        ("two_calls", FinishReason::ToolCalls),
        ("call_cut_off", FinishReason::Length),
        ("refusal", FinishReason::Refused),
        ("max_tokens", FinishReason::Length),
        ("stop_sequence", FinishReason::StopSequence),
        ("context_full", FinishReason::ContextFull),
        ("web_search", FinishReason::Paused),
        ("empty", FinishReason::Stop),
    ];
    for (name, reason) in finishes {
        assert_eq!(read(name).choices[0].finish, Some(reason), "{name}");
    }
    assert!(read("stop_sequence").choices[0].stop_sequence.as_ref().unwrap().is("three"));
    let cached = read("cached").usage.unwrap();
    assert_eq!(
        (cached.cache_write_5m, cached.cache_write_1h, cached.input_total()),
        (Some(2_000), Some(500), Some(20_503))
    );
    assert_eq!(read("thinking").usage.unwrap().output, Some(15));
    let found = read("web_search");
    assert_eq!(found.choices[0].parts.len(), 1, "what a hosted tool did passes in silence");
    assert!(found.choices[0].parts[0].citations[0].url.is("https://example.org/k2"));
}

#[test]
fn arguments_that_come_at_once_are_not_lost() {
    let start = r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"a","name":"f","input":{"a":1}}}"#;
    let delta = r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#;
    let other = r#"{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"x"}}"#;
    for (events, expected) in [(vec![start, other], r#"{"a":1}"#), (vec![start, delta], "{}")] {
        let stream: String = events.into_iter().map(|event| format!("data: {event}\n\n")).collect();
        assert_eq!(of_stream(&stream).choices[0].parts[0].text.text(), expected);
    }
    assert!(read_plain(Value::parse_object(r#"{"error":{}}"#).unwrap(), &mut |_| ()).is_none());
}

/// Events of this protocol in any order, with blocks and fragments of any kind.
fn any_event() -> impl Strategy<Value = Json> {
    let block = prop::sample::select(vec![
        json!({"type": "text", "text": ""}),
        json!({"type": "text", "text": "a", "citations": [{"type": "web_search_result_location", "url": "u"}, 1]}),
        json!({"type": "thinking", "thinking": "", "signature": "s"}),
        json!({"type": "redacted_thinking", "data": "d"}),
        json!({"type": "tool_use", "id": "a", "name": "f", "input": {"a": 1}}),
        json!({"type": "tool_use", "input": 5}),
        json!({"type": "server_tool_use", "input": {}}),
        json!({"type": 5}),
        json!(null),
    ]);
    let delta = prop::sample::select(vec![
        json!({"type": "text_delta", "text": "a"}),
        json!({"type": "thinking_delta", "thinking": "a"}),
        json!({"type": "signature_delta", "signature": "ez1.gs.x"}),
        json!({"type": "input_json_delta", "partial_json": "{}"}),
        json!({"type": "citations_delta", "citation": {"type": "web_search_result_location", "url": "u"}}),
        json!({"type": "glow_delta"}),
        json!([]),
    ]);
    let end = json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}});
    let index = 0..2_u64;
    prop_oneof![
        1 => Just(json!({"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1}}})),
        4 => (index.clone(), block).prop_map(
            |(index, block)| json!({"type": "content_block_start", "index": index, "content_block": block})
        ),
        6 => (index.clone(), delta)
            .prop_map(|(index, delta)| json!({"type": "content_block_delta", "index": index, "delta": delta})),
        3 => index.prop_map(|index| json!({"type": "content_block_stop", "index": index})),
        1 => Just(end),
        1 => Just(json!({"type": "message_delta", "usage": [], "delta": {"stop_reason": null}})),
        1 => Just(json!({"index": 1})),
    ]
}

proptest! {
    /// What writers rely on holds whatever comes.
    #[test]
    fn any_stream_is_told_in_order(events in prop::collection::vec(any_event(), 0..20)) {
        let mut told = Vec::new();
        let mut reader = AnswerReader::default();
        let mut note = |event: Event<'_>| told.push(match event {
            Event::Start(_) => "start",
            Event::Open { .. } => "open",
            Event::Delta { .. } | Event::Note { .. } => "more",
            Event::Close { .. } => "close",
            Event::Finish { .. } => "finish",
            Event::Usage(_) => "usage",
        });
        for event in &events {
            let text = event.to_string();
            reader.read(Value::parse_object(&text).expect("an object"), &mut note);
        }
        reader.finish(&mut note);
        prop_assert!(told.first().is_none_or(|first| *first == "start"));
        let count = |kind| told.iter().filter(|told| **told == kind).count();
        prop_assert!(count("start") <= 1 && count("finish") <= 1);
        let (mut is_open, mut has_finished) = (false, false);
        for kind in told {
            match kind {
                "usage" | "start" => continue,
                "open" => prop_assert!(!std::mem::replace(&mut is_open, true)),
                "close" => prop_assert!(std::mem::replace(&mut is_open, false)),
                "finish" => prop_assert!(!is_open && !std::mem::replace(&mut has_finished, true)),
                _ => prop_assert!(is_open),
            }
            prop_assert!(!has_finished || kind == "finish");
        }
        prop_assert!(!is_open);
    }
}
