use proptest::prelude::*;
use serde_json::Value as Json;

use super::super::corpus::{context, streamed, whole};
use super::*;
use crate::translate::opaque::OpaqueKind;

fn text(text: &'static str) -> Event<'static> {
    Event::Delta { choice: 0, text: Escaped::of(text) }
}

fn open(part: Part<'static>) -> Event<'static> {
    Event::Open { choice: 0, part }
}

fn call(id: Option<&'static str>, name: &'static str) -> Event<'static> {
    open(Part::ToolCall { id: id.map(Escaped::of), name: Escaped::of(name), is_custom: false, signature: None })
}

fn state(issuer: ez_contract::Protocol) -> Opaque<'static> {
    Opaque { issuer, kind: OpaqueKind::Signature, data: Escaped::of("AAAA") }
}

const CLOSE: Event<'static> = Event::Close { choice: 0 };

fn finish(reason: FinishReason) -> Event<'static> {
    Event::Finish { choice: 0, reason, stop_sequence: None }
}

/// What a client gets of events, streamed.
fn stream(events: &[Event<'static>], is_array: bool) -> String {
    let (mut writer, mut out) = (AnswerWriter::new(Arc::new(context(is_array))), String::new());
    events.iter().for_each(|event| writer.write(event.clone(), &mut out));
    writer.finish(&mut out);
    out
}

fn plain(events: &[Event<'static>]) -> String {
    let mut answer = Answer::default();
    events.iter().for_each(|event| answer.add(event.clone()));
    write_plain(&answer, &context(false))
}

/// The parts of each chunk, and what stands beside them in the last one.
fn check(events: &[Event<'static>], parts: &[&str], last: &str) {
    let out = stream(events, false);
    let chunks: Vec<Json> = out
        .split_terminator("\r\n\r\n")
        .map(|e| serde_json::from_str(e.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    let (end, before) = chunks.split_last().unwrap();
    let shown: Vec<_> = before.iter().map(|chunk| chunk["candidates"][0]["content"]["parts"][0].clone()).collect();
    let expected: Vec<Json> = parts.iter().map(|part| serde_json::from_str(part).unwrap()).collect();
    assert_eq!(shown, expected, "{events:?}");
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["responseId"] == end["responseId"] && chunk["modelVersion"] == "gemini-2.5-flash")
    );
    assert!(
        before
            .iter()
            .all(|chunk| chunk["candidates"][0].get("finishReason").is_none() && chunk.get("usageMetadata").is_none())
    );
    let mut end = end.clone();
    let ending = end["candidates"][0].as_object_mut().unwrap();
    assert_eq!(ending.remove("content").unwrap(), serde_json::json!({"parts":[{"text":""}],"role":"model"}));
    end.as_object_mut().unwrap().remove("modelVersion");
    end.as_object_mut().unwrap().remove("responseId");
    assert_eq!(end, serde_json::from_str::<Json>(last).unwrap(), "{events:?}");
}

#[test]
fn texts_go_out_as_they_come() {
    let usage =
        Usage { input_uncached: Some(2), cache_read: Some(5), output: Some(3), reasoning: Some(4), ..Usage::default() };
    check(
        &[
            Event::Start(Default::default()),
            open(Part::Reasoning),
            text("a"),
            CLOSE,
            open(Part::Text),
            text("b\\u00e9"),
            text(""),
            text("c"),
            CLOSE,
            finish(FinishReason::Length),
            Event::Usage(usage),
        ],
        &[r#"{"text":"a","thought":true}"#, r#"{"text":"b\\u00e9"}"#, r#"{"text":"c"}"#],
        r#"{"candidates":[{"finishReason":"MAX_TOKENS","index":0}],"usageMetadata":{"promptTokenCount":7,"cachedContentTokenCount":5,"candidatesTokenCount":3,"thoughtsTokenCount":4,"totalTokenCount":14}}"#,
    );
}

#[test]
fn calls_go_out_whole() {
    check(
        &[
            call(Some("x"), "f"),
            text(r#"{"a":1"#),
            text(".0}"),
            CLOSE,
            call(None, "g"),
            CLOSE,
            call(None, "h"),
            text(r#"{"cut"#),
            CLOSE,
            finish(FinishReason::ToolCalls),
        ],
        &[
            r#"{"functionCall":{"id":"x","name":"f","args":{"a":1.0}}}"#,
            r#"{"functionCall":{"id":"call_s1","name":"g","args":{}}}"#,
            r#"{"functionCall":{"id":"call_s2","name":"h","args":{"INVALID_JSON":"{\"cut"}}}"#,
        ],
        r#"{"candidates":[{"finishReason":"STOP","index":0}]}"#,
    );
}

#[test]
fn signatures_stand_behind_the_thoughts() {
    let sign = |issuer| Event::Note { choice: 0, note: Note::Signature(state(issuer)) };
    check(
        &[
            open(Part::Reasoning),
            text("a"),
            sign(ez_contract::Protocol::AnthropicMessages),
            CLOSE,
            open(Part::Reasoning),
            sign(ez_contract::Protocol::Gemini),
            CLOSE,
        ],
        &[
            r#"{"text":"a","thought":true}"#,
            r#"{"text":"","thought":true,"thoughtSignature":"ZXoxLmFzLkFBQUE="}"#,
            r#"{"text":"","thoughtSignature":"AAAA"}"#,
        ],
        r#"{"candidates":[{"finishReason":"STOP","index":0}]}"#,
    );
}

#[test]
fn sources_stand_at_the_end() {
    let citation = Citation { url: Escaped::of("https://x.test"), title: Some(Escaped::of("X")), range: None };
    check(
        &[
            open(Part::Text),
            text("a"),
            Event::Note { choice: 0, note: Note::Citation(citation) },
            CLOSE,
            finish(FinishReason::Refused),
        ],
        &[r#"{"text":"a"}"#],
        r#"{"candidates":[{"finishReason":"SAFETY","index":0,"citationMetadata":{"citationSources":[{"uri":"https://x.test","title":"X"}]}}]}"#,
    );
}

#[test]
fn an_array_is_one_json_text() {
    let events = [open(Part::Text), text("a"), CLOSE, finish(FinishReason::Stop)];
    let out = stream(&events, true);
    let elements: Vec<Json> = serde_json::from_str(&out).unwrap();
    assert_eq!(elements.len(), 2);
    assert!(out.contains("},\r\n{"));
    assert_eq!((stream(&[], true).as_str(), stream(&[], false).as_str()), ("[]", ""));
}

#[test]
fn custom_calls_are_wrapped() {
    let events = [
        open(Part::ToolCall { id: None, name: Escaped::of("sh"), is_custom: true, signature: None }),
        text("ls"),
        CLOSE,
    ];
    assert!(
        plain(&events).contains(r#""args":{"input":"ls"}"#)
            && stream(&events, false).contains(r#""args":{"input":"ls"}"#)
    );
}

proptest! {
    #[test]
    fn any_order_of_events_is_written(events in proptest::collection::vec(event(), 0..24)) {
        let out = stream(&events, true);
        prop_assert!(serde_json::from_str::<Vec<Json>>(&out).is_ok(), "{out}");
        prop_assert!(serde_json::from_str::<Json>(&plain(&events)).is_ok());
    }

    #[test]
    fn streams_and_whole_answers_say_the_same(parts in proptest::collection::vec(part(), 0..6)) {
        let mut events = vec![Event::Start(Default::default())];
        events.extend(parts.into_iter().flatten());
        events.push(finish(FinishReason::Stop));
        let (streamed, whole) = (streamed(&stream(&events, false)), whole(&plain(&events)).unwrap());
        prop_assert_eq!(streamed, whole);
    }
}

fn event() -> impl Strategy<Value = Event<'static>> {
    let choice = 0..3_u32;
    let text = proptest::sample::select(vec!["", "a", r#"{"a":1}"#, "\\"]);
    let part = proptest::sample::select(vec![
        Part::Text,
        Part::Refusal,
        Part::Reasoning,
        Part::ToolCall {
            id: None,
            name: Escaped::of("f"),
            is_custom: false,
            signature: Some(state(ez_contract::Protocol::Gemini)),
        },
        Part::Media { media_type: Escaped::of("image/png"), data: Escaped::of("AAAA") },
    ]);
    (choice, text, part, 0..7_u8).prop_map(|(choice, text, part, kind)| match kind {
        0 => Event::Start(Default::default()),
        1 => Event::Open { choice, part },
        2 => Event::Delta { choice, text: Escaped::of(text) },
        3 => Event::Note { choice, note: Note::Signature(state(ez_contract::Protocol::OpenaiResponses)) },
        4 => Event::Close { choice },
        5 => Event::Finish { choice, reason: FinishReason::Paused, stop_sequence: None },
        _ => Event::Usage(Usage::default()),
    })
}

/// The events of a part that says something.
fn part() -> impl Strategy<Value = Vec<Event<'static>>> {
    let signed = Event::Note { choice: 0, note: Note::Signature(state(ez_contract::Protocol::AnthropicMessages)) };
    prop_oneof![
        Just(vec![open(Part::Text), text("a"), text("b"), CLOSE, call(None, "f"), text(r#"{"x":"#), text("2}"), CLOSE]),
        Just(vec![open(Part::Reasoning), text("t"), signed.clone(), CLOSE]),
        Just(vec![open(Part::Reasoning), signed, CLOSE]),
    ]
}
