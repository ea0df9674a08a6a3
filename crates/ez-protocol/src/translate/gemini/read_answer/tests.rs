use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::corpus::{streamed, whole};
use super::*;

/// The events of chunks, in short.
fn events(chunks: &[&str]) -> Vec<String> {
    let (mut reader, mut told) = (AnswerReader::default(), Vec::new());
    for chunk in chunks {
        reader.read(Value::parse_object(chunk).unwrap(), &mut |event| told.push(shown(&event)));
    }
    reader.finish(&mut |event| told.push(shown(&event)));
    told
}

fn shown(event: &Event<'_>) -> String {
    match event {
        Event::Start(start) => format!("start {}", start.id.as_ref().map_or("-", Escaped::as_str)),
        Event::Open { choice, part: Part::ToolCall { id, name, signature, .. } } => {
            let signature = signature.as_ref().map_or("-", |signature| signature.data.as_str());
            format!("{choice} call {} {} {signature}", id.as_ref().map_or("-", Escaped::as_str), name.as_str())
        }
        Event::Open { choice, part: Part::Media { media_type, data } } => {
            format!("{choice} media {} {}", media_type.as_str(), data.as_str())
        }
        Event::Open { choice, part } => format!("{choice} {part:?}"),
        Event::Delta { choice, text } => format!("{choice} +{}", text.as_str()),
        Event::Note { choice, note: Note::Signature(signature) } => {
            format!("{choice} signed {}", signature.data.as_str())
        }
        Event::Note { choice, note: Note::Citation(citation) } => format!("{choice} from {}", citation.url.as_str()),
        Event::Close { choice } => format!("{choice} close"),
        Event::Finish { choice, reason, .. } => format!("{choice} {reason:?}"),
        Event::Usage(usage) => format!("usage {:?} {:?}", usage.input_total(), usage.output_total()),
    }
}

fn check(parts: &[&str], expected: &[&str]) {
    let chunks: Vec<_> = parts
        .iter()
        .map(|parts| format!(r#"{{"candidates":[{{"content":{{"parts":[{parts}]}},"finishReason":"STOP"}}]}}"#))
        .collect();
    let chunks: Vec<_> = chunks.iter().map(String::as_str).collect();
    let told = events(&chunks);
    assert_eq!(told.first().map(String::as_str), Some("start -"));
    assert_eq!(told[1..], *expected, "{parts:?}");
}

#[test]
fn texts_go_on_across_chunks() {
    check(
        &[r#"{"text":"a"}"#, r#"{"text":"b"},{"text":"c"}"#],
        &["0 Text", "0 +a", "0 +b", "0 +c", "0 close", "0 Stop"],
    );
    check(
        &[r#"{"text":"a","thought":true}"#, r#"{"text":"b","thought":true},{"text":"c"}"#],
        &["0 Reasoning", "0 +a", "0 +b", "0 close", "0 Text", "0 +c", "0 close", "0 Stop"],
    );
    check(&[r#"{"text":""}"#, ""], &["0 Stop"]);
}

#[test]
fn signatures_are_kept_wherever_they_stand() {
    check(
        &[r#"{"text":"a","thought":true,"thoughtSignature":"AAAA"}"#, r#"{"text":"b","thought":true}"#],
        &["0 Reasoning", "0 +a", "0 signed AAAA", "0 close", "0 Reasoning", "0 +b", "0 close", "0 Stop"],
    );
    check(
        &[r#"{"text":"a"}"#, r#"{"text":"","thoughtSignature":"AAAA"}"#],
        &["0 Text", "0 +a", "0 close", "0 Reasoning", "0 signed AAAA", "0 close", "0 Stop"],
    );
    check(
        &[
            r#"{"functionCall":{"name":"f","args":{"a": [1, "x y"]}},"thoughtSignature":"AAAA"},{"functionCall":{"id":"i","name":"g"}}"#,
        ],
        &["0 call - f AAAA", r#"0 +{\"a\":[1,\"x y\"]}"#, "0 close", "0 call i g -", "0 +{}", "0 close", "0 ToolCalls"],
    );
}

#[test]
fn arguments_in_pieces_are_put_together() {
    check(
        &[
            r#"{"functionCall":{"name":"f","willContinue":true}}"#,
            r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.a","stringValue":"x","willContinue":true}],"willContinue":true}}"#,
            r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.a","stringValue":"y"}],"willContinue":true}}"#,
            r#"{"functionCall":{}},{"text":"b"}"#,
        ],
        &["0 call - f -", r#"0 +{\"a\":\"xy\"}"#, "0 close", "0 Text", "0 +b", "0 close", "0 ToolCalls"],
    );
    // Cut off: as far as it came.
    check(
        &[r#"{"functionCall":{"name":"f","willContinue":true}}"#],
        &["0 call - f -", "0 +{}", "0 close", "0 ToolCalls"],
    );
    check(&[r#"{"functionCall":{}},{"functionCall":{"args":{}}}"#], &["0 Stop"]);
}

#[test]
fn files_are_whole() {
    check(
        &[r#"{"text":"a"},{"inlineData":{"mimeType":"image/png","data":"AA-_"}},{"inlineData":{"data":"x"}}"#],
        &["0 Text", "0 +a", "0 close", "0 media image/png AA+/", "0 close", "0 Stop"],
    );
    check(&[r#"{"thought":true,"inlineData":{"mimeType":"image/png","data":"AAAA"}}"#], &["0 Stop"]);
}

#[test]
fn ends_are_told_at_the_end() {
    let finish = |reason: &str, parts: &str| {
        let chunk = format!(r#"{{"candidates":[{{"content":{{"parts":[{parts}]}},"finishReason":"{reason}"}}]}}"#);
        events(&[&chunk]).pop().unwrap()
    };
    let call = r#"{"functionCall":{"name":"f"}}"#;
    assert_eq!(finish("MAX_TOKENS", call), "0 Length");
    assert_eq!(finish("STOP", call), "0 ToolCalls");
    assert_eq!(finish("IMAGE_SAFETY", ""), "0 Refused");
    assert_eq!(finish("MALFORMED_FUNCTION_CALL", ""), "0 Failed");
    assert_eq!(events(&[r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#]), ["start -", "0 Refused"]);
    assert_eq!(events(&[r#"{"usageMetadata":{"promptTokenCount":1},"responseId":"r"}"#]).last().unwrap(), "0 Failed");
    assert!(events(&[r#"{"error":{"code":500}}"#, "{}"]).is_empty());
}

#[test]
fn usage_is_merged_by_field() {
    let told = events(&[
        r#"{"responseId":"r","candidates":[{"content":{"parts":[{"text":"a"}]}}],"usageMetadata":{"promptTokenCount":9,"toolUsePromptTokenCount":2}}"#,
        r#"{"usageMetadata":{"trafficType":"X"}}"#,
        r#"{"usageMetadata":{"candidatesTokenCount":3,"thoughtsTokenCount":4}}"#,
    ]);
    let usage: Vec<_> = told.iter().filter(|event| event.starts_with("usage")).collect();
    assert_eq!(told[0], "start r");
    assert_eq!(usage, ["usage Some(11) None", "usage Some(11) Some(7)"]);
}

#[test]
fn pages_are_told_once_behind_the_text() {
    let told = events(&[
        r#"{"candidates":[{"content":{"parts":[{"text":"a"}]},"groundingMetadata":{"groundingChunks":[{"web":{"uri":"u","title":"t"}},{"maps":{}}]}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"b"}]},"groundingMetadata":{"groundingChunks":[{"web":{"uri":"u"}}]},"citationMetadata":{"citations":[{"uri":"v"},{"license":"x"}]}}]}"#,
    ]);
    assert_eq!(told, ["start -", "0 Text", "0 +a", "0 +b", "0 from u", "0 from v", "0 close", "0 Stop"]);
}

#[test]
fn candidates_are_kept_apart() {
    let told = events(&[
        r#"{"candidates":[{"index":1,"content":{"parts":[{"text":"a"}]}},{"content":{"parts":[{"text":"b"}]}}]}"#,
        r#"{"candidates":[{"index":1,"content":{"parts":[{"text":"c"}]},"finishReason":"MAX_TOKENS"}]}"#,
    ]);
    let expected = ["start -", "1 Text", "1 +a", "0 Text", "0 +b", "1 +c", "0 close", "0 Stop", "1 close", "1 Length"];
    assert_eq!(told, expected);
}

#[test]
fn bodies_of_other_kinds_are_none() {
    for body in ["{}", r#"{"error":{}}"#, r#"{"choices":[]}"#] {
        assert!(whole(body).is_none(), "{body}");
        assert!(streamed(&format!("data: {body}\n\n")).choices.is_empty());
    }
    let odd = r#"{"candidates":[5,{"content":7,"index":-1},{"content":{"parts":[7,{"text":7,"functionCall":{"name":{},"args":[]}}]}}],"usageMetadata":[],"promptFeedback":8}"#;
    assert_eq!(whole(odd).unwrap().choices.len(), 1);
}

proptest! {
    #[test]
    fn any_chunks_make_events_in_order(chunks in proptest::collection::vec(chunk(), 0..6)) {
        let (mut reader, mut events) = (AnswerReader::default(), Vec::new());
        for chunk in &chunks {
            let chunk = chunk.to_string();
            reader.read(Value::parse_object(&chunk).unwrap(), &mut |event| events.push((kind(&event), choice(&event))));
        }
        reader.finish(&mut |event| events.push((kind(&event), choice(&event))));
        prop_assert!(events.iter().enumerate().all(|(at, (kind, _))| (*kind == "start") == (at == 0)));
        for index in 0..3 {
            let told: Vec<_> = events.iter().filter(|(_, choice)| *choice == Some(index)).map(|(kind, _)| *kind).collect();
            let (mut is_open, mut is_over) = (false, false);
            for kind in told {
                prop_assert!(!is_over && is_open != (kind == "open" || kind == "finish"), "{:?}", events);
                is_open = kind != "close" && kind != "finish";
                is_over = kind == "finish";
            }
            prop_assert!(!is_open);
        }
    }

    #[test]
    fn parts_say_the_same_in_one_chunk_and_in_many(parts in proptest::collection::vec(part(), 0..8)) {
        let chunk = |parts: &[Json]| json!({"candidates": [{"content": {"parts": parts}}], "responseId": "r"});
        let stream: String = parts.iter().map(|part| format!("data: {}\n\n", chunk(std::slice::from_ref(part)))).collect();
        let one = whole(&chunk(&parts).to_string()).unwrap();
        if !parts.is_empty() {
            prop_assert_eq!(streamed(&stream), one);
        }
    }
}

fn kind(event: &Event<'_>) -> &'static str {
    match event {
        Event::Start(_) => "start",
        Event::Open { .. } => "open",
        Event::Delta { .. } => "delta",
        Event::Note { .. } => "note",
        Event::Close { .. } => "close",
        Event::Finish { .. } => "finish",
        Event::Usage(_) => "usage",
    }
}

fn choice(event: &Event<'_>) -> Option<u32> {
    match event {
        Event::Start(_) | Event::Usage(_) => None,
        Event::Open { choice, .. }
        | Event::Delta { choice, .. }
        | Event::Note { choice, .. }
        | Event::Close { choice }
        | Event::Finish { choice, .. } => Some(*choice),
    }
}

fn chunk() -> impl Strategy<Value = Json> {
    let reason = proptest::sample::select(vec![Json::Null, "STOP".into(), "MAX_TOKENS".into(), 7.into()]);
    let candidate = (0..3_u32, proptest::collection::vec(part(), 0..4), reason).prop_map(|(index, parts, reason)| {
        let grounding = json!({"groundingChunks": [{"web": {"uri": format!("u{index}")}}]});
        json!({"index": index, "content": {"parts": parts}, "finishReason": reason, "groundingMetadata": grounding})
    });
    prop_oneof![
        proptest::collection::vec(candidate, 0..3).prop_map(|candidates| json!({ "candidates": candidates })),
        Just(json!({"usageMetadata": {"promptTokenCount": 1}})),
        Just(json!({"promptFeedback": {"blockReason": "SAFETY"}})),
        Just(json!({"candidates": 7, "usageMetadata": "x"})),
        Just(json!({"x": 1})),
    ]
}

fn part() -> impl Strategy<Value = Json> {
    proptest::sample::select(vec![
        json!({"text": "a"}),
        json!({"text": ""}),
        json!({"text": "t", "thought": true}),
        json!({"text": "s", "thought": true, "thoughtSignature": "AAAA"}),
        json!({"text": "", "thoughtSignature": "AAAA"}),
        json!({"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "AAAA"}),
        json!({"functionCall": {"name": "p", "willContinue": true}}),
        json!({"functionCall": {"partialArgs": [{"jsonPath": "$.a", "stringValue": "x"}], "willContinue": true}}),
        json!({"functionCall": {}}),
        json!({"functionCall": 7}),
        json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}}),
        json!(7),
    ])
}
