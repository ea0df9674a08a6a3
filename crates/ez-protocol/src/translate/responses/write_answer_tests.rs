use std::sync::Arc;

use ez_contract::Protocol;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::super::answer::Answer;
use super::super::super::call::{self, Call};
use super::super::super::capability::Capabilities;
use super::super::super::opaque::OpaqueKind;
use super::super::read_answer::tests::{CORPUS, plain, streamed};
use super::super::write_plain::write_plain;
use super::*;
use crate::api::Api;
use crate::sse::{self, EventFramer};

fn context(echo: &[(&'static str, &str)]) -> Arc<AnswerContext> {
    Arc::new(AnswerContext {
        client: Protocol::OpenaiResponses,
        model: "claude-sonnet-4-5".to_owned(),
        seed: "s33d".to_owned(),
        created_at: 1_700_000_000,
        wants_usage: true,
        is_array: false,
        echo: echo.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
    })
}

/// The events of an answer, each part's text in fragments of a few bytes.
fn events_of(answer: &Answer) -> Vec<Event<'static>> {
    let mut events = vec![Event::Start(Start { id: answer.start.id.clone(), created_at: answer.start.created_at })];
    for choice in &answer.choices {
        let index = choice.index;
        for part in &choice.parts {
            events.push(Event::Open { choice: index, part: part.part.clone() });
            let characters: Vec<char> = part.text.text().chars().collect();
            let texts = characters.chunks(5).map(|chunk| Escaped::of_owned(chunk.iter().collect()));
            events.extend(texts.map(|text| Event::Delta { choice: index, text }));
            let signature = part.signature.clone().map(Note::Signature);
            let notes = signature.into_iter().chain(part.citations.iter().cloned().map(Note::Citation));
            events.extend(notes.map(|note| Event::Note { choice: index, note }));
            events.push(Event::Close { choice: index });
        }
        if let Some(reason) = choice.finish {
            events.push(Event::Finish { choice: index, reason, stop_sequence: None });
        }
    }
    events.extend(answer.usage.map(Event::Usage));
    events
}

fn write(events: Vec<Event<'_>>, context: &Arc<AnswerContext>) -> String {
    let (mut writer, mut out) = (AnswerWriter::new(context.clone()), String::new());
    for event in events {
        writer.write(event, &mut out);
    }
    writer.finish(&mut out);
    writer.finish(&mut out);
    assert_eq!(writer.events() as usize, out.matches("\ndata: ").count());
    out
}

/// Reads a stream as a client does, and checks names, numbers and places. Gives its events.
fn read_back(stream: &str) -> Vec<Json> {
    let mut framer = EventFramer::new(1 << 20);
    framer.push(stream.as_bytes());
    let (mut events, mut items) = (Vec::new(), 0);
    while let Some(event) = framer.next_event().unwrap() {
        let json: Json = serde_json::from_slice(sse::data(&event).unwrap().as_ref()).unwrap();
        assert_eq!(json["type"].as_str().unwrap().as_bytes(), sse::event_name(&event).unwrap());
        assert_eq!(json["sequence_number"], events.len());
        if !json["output_index"].is_null() {
            assert_eq!(json["output_index"], items, "items come one after the other: {json}");
        }
        items += usize::from(json["type"] == "response.output_item.done");
        events.push(json);
    }
    assert!(framer.finish().is_none());
    events
}

fn names(events: &[Json]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap().strip_prefix("response.").unwrap()).collect()
}

fn tool_call(name: &'static str, signature: Option<Opaque<'static>>) -> Part<'static> {
    Part::ToolCall { id: None, name: Escaped::of(name), is_custom: false, signature }
}

#[test]
fn what_was_read_is_written_the_same() {
    for (name, body, _) in CORPUS {
        let context = context(&[]);
        let answer = plain(body);
        let stream = write(events_of(&answer), &context);
        let events = read_back(&stream);
        let whole: Json = serde_json::from_str(&write_plain(&answer, &context)).unwrap();
        assert_eq!(events.last().unwrap()["response"], whole, "{name}: the stream ends with the whole body");
        let again = plain(&whole.to_string());
        let text_of = |answer: &Answer| {
            let parts = answer.choices[0].parts.iter();
            let shown = parts.map(|p| format!("{:?} {} {:?} {:?}", p.part, p.text.text(), p.signature, p.citations));
            shown.collect::<Vec<_>>()
        };
        assert_eq!(text_of(&again), text_of(&answer), "{name}");
        assert_eq!(text_of(&streamed(&stream)), text_of(&answer), "{name}");
        let finish = |answer: &Answer| answer.choices[0].finish;
        assert_eq!((finish(&again), again.start.id), (finish(&answer), answer.start.id.clone()), "{name}");
        let totals = |answer: &Answer| answer.usage.and_then(|usage| usage.total());
        assert_eq!(totals(&streamed(&stream)), totals(&answer), "{name}");
    }
}

#[test]
fn events_come_in_the_vendors_order() {
    let state = Opaque { issuer: Protocol::Gemini, kind: OpaqueKind::Signature, data: Escaped::of("c2ln") };
    let delta = |text| Event::Delta { choice: 0, text: Escaped::of(text) };
    let events = vec![
        Event::Start(Start { id: Some(Escaped::of("msg_1")), created_at: None }),
        Event::Open { choice: 0, part: Part::Reasoning },
        delta("hm"),
        Event::Close { choice: 0 },
        Event::Open { choice: 0, part: Part::Text },
        delta("hi"),
        Event::Close { choice: 0 },
        Event::Open { choice: 0, part: Part::Refusal },
        delta("no"),
        Event::Close { choice: 0 },
        Event::Open { choice: 0, part: tool_call("f", Some(state)) },
        Event::Close { choice: 0 },
        Event::Finish { choice: 0, reason: FinishReason::ToolCalls, stop_sequence: None },
    ];
    let stream = write(events, &context(&[]));
    let events = read_back(&stream);
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "content_part.added",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(names(&events), expected);
    let response = &events.last().unwrap()["response"];
    assert_eq!((&response["id"], &response["created_at"]), (&json!("resp_s33d"), &json!(1_700_000_000)));
    assert_eq!(response["model"], "claude-sonnet-4-5");
    let output = json!([
        {"id": "rs_s33d0", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"id": "msg_s33d1", "type": "message", "status": "completed", "role": "assistant", "content": [
            {"type": "output_text", "annotations": [], "logprobs": [], "text": "hi"},
            {"type": "refusal", "refusal": "no"},
        ]},
        {"id": "rs_s33d2", "type": "reasoning", "summary": [], "encrypted_content": "ez1.gs.c2ln"},
        {"id": "fc_s33d3", "type": "function_call", "status": "completed", "arguments": "{}", "call_id": "call_s33d3",
         "name": "f"},
    ]);
    assert_eq!(response["output"], output);
}

#[test]
fn a_response_repeats_what_was_asked() {
    let echo = [
        ("instructions", r#""Be \u0062rief.""#),
        ("temperature", "0.70"),
        ("tools", r#"[{"type":"namespace","name":"crm","tools":[{"type":"function","name":"find"}]}]"#),
    ];
    let context = context(&echo);
    let mut answer = Answer::default();
    answer.add(Event::Open { choice: 0, part: tool_call("crm__find", None) });
    answer.add(Event::Finish { choice: 0, reason: FinishReason::ToolCalls, stop_sequence: None });
    let written = write_plain(&answer, &context);
    for piece in [r#""instructions":"Be \u0062rief.""#, r#""temperature":0.70,"#, r#""store":false"#, r#""top_p":1.0"#]
    {
        assert!(written.contains(piece), "{piece} in {written}");
    }
    let json: Json = serde_json::from_str(&written).unwrap();
    let call = &json["output"][0];
    assert_eq!((&call["name"], &call["namespace"]), (&json!("find"), &json!("crm")));
    let streamed = read_back(&write(events_of(&answer), &context));
    assert_eq!(streamed.last().unwrap()["response"], json);
}

#[test]
fn a_call_in_a_namespace_comes_back_as_such() {
    let namespaced = include_str!("../../../tests/translate/corpus/responses/requests/namespace_tools.json");
    check_namespace(namespaced, "crm", "find_customer");
    let added = include_str!("../../../tests/translate/corpus/responses/requests/agent_codex_additional_tools.json");
    check_namespace(added, "clock", "sleep");
}

/// Checks that a call of a request's tool is told in the tool's namespace.
fn check_namespace(body: &str, namespace: &str, name: &str) {
    let call = Call {
        client: Api::Responses,
        upstream: Api::Responses,
        model: "alias",
        upstream_model: "gpt-5.4",
        capabilities: Capabilities::of(Protocol::OpenaiResponses, "gpt-5.4"),
        stream: true,
        is_vertex: false,
        is_array: false,
        seed: "s33d",
        created_at: 1_700_000_000,
    };
    let mut translated = call::request(call, body.as_bytes()).unwrap();
    let sent: Json = serde_json::from_slice(&translated.body).unwrap();
    let flat = format!("{namespace}__{name}");
    let has_tool = sent["tools"].as_array().unwrap().iter().any(|tool| tool["name"] == flat);
    assert_eq!((&sent["model"], has_tool), (&json!("gpt-5.4"), true));
    let item = format!(r#"{{"type":"function_call","name":"{flat}","call_id":"call_1","arguments":"{{}}"}}"#);
    let done = format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{item}}}"#);
    let mut stream = translated.answer.event(format!("data: {done}\n\n").as_bytes()).to_vec();
    stream.extend(translated.answer.event(b"data: {\"type\":\"response.completed\",\"response\":{}}\n\n"));
    stream.extend(translated.answer.finish());
    let events = read_back(std::str::from_utf8(&stream).unwrap());
    let call = &events.last().unwrap()["response"]["output"][0];
    assert_eq!((&call["name"], &call["namespace"]), (&json!(name), &json!(namespace)));
    assert_eq!((&call["call_id"], &events[0]["response"]["model"]), (&json!("call_1"), &json!("alias")));
}

#[test]
fn ends_are_told_apart() {
    let cases = [
        (FinishReason::Stop, "completed", Json::Null, "completed"),
        (FinishReason::StopSequence, "completed", Json::Null, "completed"),
        (FinishReason::Failed, "completed", Json::Null, "completed"),
        (FinishReason::Length, "incomplete", json!("max_output_tokens"), "incomplete"),
        (FinishReason::ContextFull, "incomplete", json!("max_output_tokens"), "incomplete"),
        (FinishReason::Refused, "incomplete", json!("content_filter"), "incomplete"),
    ];
    for (reason, status, why, of_message) in cases {
        let events = vec![
            Event::Open { choice: 0, part: Part::Text },
            Event::Close { choice: 0 },
            Event::Finish { choice: 0, reason, stop_sequence: None },
        ];
        let events = read_back(&write(events, &context(&[])));
        assert_eq!(names(&events).last(), Some(&status));
        let response = &events.last().unwrap()["response"];
        assert_eq!((&response["status"], &response["incomplete_details"]["reason"]), (&json!(status), &why));
        assert_eq!(response["output"][0]["status"], of_message, "{reason:?}");
    }
}

#[test]
fn usage_includes_what_was_cached_and_reasoned() {
    let usage = Usage {
        input_uncached: Some(10),
        cache_read: Some(60),
        cache_write_5m: Some(5),
        cache_write_1h: Some(1),
        output: Some(7),
        reasoning: Some(3),
    };
    let events = read_back(&write(vec![Event::Usage(usage)], &context(&[])));
    let expected = json!({
        "input_tokens": 76, "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 6},
        "output_tokens": 10, "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 86,
    });
    assert_eq!(events.last().unwrap()["response"]["usage"], expected);
    assert!(events[0]["response"]["usage"].is_null());
}

fn event() -> impl Strategy<Value = Event<'static>> {
    let call = |is_custom| Part::ToolCall { id: None, name: Escaped::of("f"), is_custom, signature: None };
    let media = |media_type| Part::Media { media_type: Escaped::of(media_type), data: Escaped::of("AAAA") };
    let parts =
        [Part::Text, Part::Refusal, Part::Reasoning, call(false), call(true), media("image/png"), media("audio/wav")];
    let citation = Citation { url: Escaped::of("u"), title: None, range: None };
    let mut all: Vec<_> = parts.into_iter().map(|part| Event::Open { choice: 0, part }).collect();
    all.extend([
        Event::Start(Start::default()),
        Event::Delta { choice: 0, text: Escaped::of("x") },
        Event::Delta { choice: 1, text: Escaped::of("other") },
        Event::Note { choice: 0, note: Note::Citation(citation) },
        Event::Close { choice: 0 },
        Event::Finish { choice: 0, reason: FinishReason::Length, stop_sequence: None },
        Event::Usage(Usage::default()),
    ]);
    proptest::sample::select(all)
}

proptest! {
    #[test]
    fn any_order_of_events_gives_a_stream_with_one_end(events in proptest::collection::vec(event(), 0..24)) {
        let events = read_back(&write(events, &context(&[])));
        let is_end = |name: &&&str| matches!(**name, "completed" | "incomplete");
        prop_assert_eq!(names(&events).iter().filter(is_end).count(), 1);
        let added = names(&events).iter().filter(|name| **name == "output_item.added").count();
        prop_assert_eq!(events.last().unwrap()["response"]["output"].as_array().unwrap().len(), added);
    }
}
