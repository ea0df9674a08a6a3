//! Answers of the corpus: streams tell what whole bodies tell, and what is written reads the same.

use std::path::PathBuf;
use std::sync::Arc;

use ez_contract::Protocol;
use proptest::prelude::*;

use super::super::answer::Answer;
use super::super::event::{Citation, Event, FinishReason, Note, Part, Start, Usage};
use super::super::opaque::{Opaque, OpaqueKind};
use super::super::target::AnswerContext;
use super::{AnswerReader, AnswerWriter, read_plain, write_plain};
use crate::json::{Escaped, Value};
use crate::sse::{self, EventFramer};

fn corpus(folder: &str) -> Vec<(String, Vec<u8>)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/translate/corpus/chat").join(folder);
    let files = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path());
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    files.map(|path| (name(&path), std::fs::read(path).unwrap())).collect()
}

fn context(wants_usage: bool) -> Arc<AnswerContext> {
    Arc::new(AnswerContext {
        client: Protocol::OpenaiChat,
        model: "gpt-4o".into(),
        seed: "seed".into(),
        created_at: 1_700_000_000,
        wants_usage,
        is_array: false,
        echo: Vec::new(),
    })
}

fn plain(body: &[u8]) -> Answer {
    let mut answer = Answer::default();
    read_plain(Value::object_in(body).unwrap(), &mut |event| answer.add(event)).unwrap();
    answer
}

fn streamed(stream: &[u8]) -> Answer {
    let (mut answer, mut reader) = (Answer::default(), AnswerReader::default());
    let mut framer = EventFramer::new(1 << 20);
    framer.push(stream);
    while let Some(event) = framer.next_event().unwrap() {
        let Some(data) = sse::data(&event) else { continue };
        if let Ok(data) = Value::object_in(data.as_ref()) {
            reader.read(data, &mut |event| answer.add(event));
        }
    }
    reader.finish(&mut |event| answer.add(event));
    answer
}

fn written(answer: &Answer, wants_usage: bool) -> String {
    let (mut writer, mut out) = (AnswerWriter::new(context(wants_usage)), String::new());
    let start = &answer.start;
    writer.write(Event::Start(Start { id: start.id.clone(), created_at: start.created_at }), &mut out);
    for choice in &answer.choices {
        let index = choice.index;
        for part in &choice.parts {
            writer.write(Event::Open { choice: index, part: part.part.clone() }, &mut out);
            writer.write(Event::Delta { choice: index, text: part.text.borrowed() }, &mut out);
            let notes = part.signature.clone().map(Note::Signature).into_iter();
            for note in notes.chain(part.citations.iter().cloned().map(Note::Citation)) {
                writer.write(Event::Note { choice: index, note }, &mut out);
            }
            writer.write(Event::Close { choice: index }, &mut out);
        }
        if let Some(reason) = choice.finish {
            writer.write(Event::Finish { choice: index, reason, stop_sequence: None }, &mut out);
        }
    }
    if let Some(usage) = answer.usage {
        writer.write(Event::Usage(usage), &mut out);
    }
    writer.finish(&mut out);
    out
}

#[test]
fn streams_tell_what_whole_answers_tell() {
    let streams = corpus("streams");
    assert!(streams.len() >= 15);
    for (name, body) in corpus("answers") {
        let (_, stream) = streams.iter().find(|(stream, _)| *stream == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(text_of(streamed(stream)), text_of(plain(&body)), "{name}");
    }
}

/// The answer with its texts as they read: escapes may be written otherwise.
fn text_of(mut answer: Answer) -> Answer {
    for part in answer.choices.iter_mut().flat_map(|choice| &mut choice.parts) {
        part.text = Escaped::of_owned(part.text.text().into_owned());
    }
    answer
}

#[test]
fn what_is_written_reads_the_same() {
    for (name, body) in corpus("answers") {
        let mut answer = plain(&body);
        let calls = answer.choices.iter_mut().flat_map(|choice| &mut choice.parts);
        for (number, part) in calls.filter(|part| matches!(part.part, Part::ToolCall { .. })).enumerate() {
            if part.text.is_empty() {
                part.text = Escaped::of("{}");
            }
            let Part::ToolCall { id, .. } = &mut part.part else { continue };
            id.get_or_insert_with(|| Escaped::of_owned(format!("call_seed{number}")));
        }
        let answer = text_of(answer);
        assert_eq!(text_of(plain(write_plain(&answer, &context(true)).as_bytes())), answer, "{name}");
        let stream = written(&answer, true);
        assert_eq!(text_of(streamed(stream.as_bytes())), answer, "{name}: {stream}");
        let without = written(&answer, false);
        assert!(!without.contains("\"usage\""), "{name}");
        assert!(without.ends_with("\n\ndata: [DONE]\n\n") && without.matches("[DONE]").count() == 1, "{name}");
    }
}

/// The answer's parts and ends, one per line.
fn shown(answer: &Answer) -> Vec<String> {
    let mut lines = Vec::new();
    for choice in &answer.choices {
        for part in &choice.parts {
            let head = match &part.part {
                Part::ToolCall { id, name, signature, .. } => {
                    let id = id.as_ref().map_or("-", Escaped::as_str);
                    let state = signature.as_ref().map(|s| format!(" {} {}", s.issuer, s.data.text()));
                    format!("call {id} {}{}", name.as_str(), state.unwrap_or_default())
                }
                Part::Media { media_type, .. } => media_type.as_str().to_owned(),
                part => format!("{part:?}"),
            };
            let state = part.signature.as_ref().map(|s| format!(" <{} {}>", s.issuer, s.data.text()));
            let cited: Vec<_> = part.citations.iter().map(|c| format!(" [{} {:?}]", c.url.text(), c.range)).collect();
            lines.push(format!("{head}: {}{}{}", part.text.text(), state.unwrap_or_default(), cited.concat()));
        }
        lines.push(format!("{} {:?}", choice.index, choice.finish.unwrap()));
    }
    lines
}

#[test]
fn answers_are_read() {
    let answers = corpus("answers");
    let cases: [(&str, &[&str]); 12] = [
        ("text", &["Text: Hello there!", "0 Stop"]),
        (
            "interleaved-tools",
            &[
                "Text: Looking.",
                "call chatcmpl-tool-1 get_weather: {\"city\":\"Paris\"}",
                "call chatcmpl-tool-2 get_time: {\"zone\":\"CET\"}",
                "0 ToolCalls",
            ],
        ),
        (
            "tools-finish-stop",
            &["call - get_weather: {\"city\":\"Paris\"}", "call - get_weather: {\"city\":\"Rome\"}", "0 ToolCalls"],
        ),
        (
            "google-signature",
            &["call function-call-1 get_weather gemini CpkCAdHtim9+/w==: {\"city\":\"Paris\"}", "0 ToolCalls"],
        ),
        ("reasoning-content", &["Reasoning: 2+2 is 4.", "Text: Four.", "0 Stop"]),
        (
            "reasoning-details",
            &[
                "Reasoning: 2+2 is 4. <openai-chat {\"type\":\"reasoning.text\",\"signature\":\"EqQBCkYIBxgCKkAh+/==\",\
                 \"format\":\"anthropic-claude-v1\",\"index\":0}>",
                "Text: Four.",
                "0 Stop",
            ],
        ),
        ("refusal", &["Refusal: I'm sorry, I can't help with that.", "0 Stop"]),
        ("tool-cut-off", &["call call_w write_file: {\"path\":\"a.txt\",\"text\":\"lor", "0 Length"]),
        ("content-filter", &["Text: The recipe", "0 Refused"]),
        ("empty", &["0 Length"]),
        (
            "citations",
            &["Text: Rain is due (example.com). [https://example.com/w?utm_source=openai Some((12, 25))]", "0 Stop"],
        ),
        ("image", &["Text: Here it is.", "image/png: ", "0 Stop"]),
    ];
    for (name, expected) in cases {
        let (_, body) = answers.iter().find(|(answer, _)| answer == name).unwrap();
        assert_eq!(shown(&plain(body)), expected, "{name}");
    }
    let (_, cache) = answers.iter().find(|(name, _)| name == "cache").unwrap();
    let expected = Usage {
        input_uncached: Some(24),
        cache_read: Some(1024),
        cache_write_5m: Some(1000),
        cache_write_1h: None,
        output: Some(2),
        reasoning: Some(0),
    };
    assert_eq!(plain(cache).usage, Some(expected));
    assert!(read_plain(Value::object_in(b"{\"object\":\"list\"}").unwrap(), &mut |_| ()).is_none());
}

#[test]
fn chunks_are_what_clients_expect() {
    let (mut writer, mut out) = (AnswerWriter::new(context(true)), String::new());
    let state = Opaque { issuer: Protocol::AnthropicMessages, kind: OpaqueKind::Signature, data: Escaped::of("sig") };
    let call = |id, signature| Part::ToolCall { id, name: Escaped::of("f"), is_custom: false, signature };
    let signed = Opaque { issuer: Protocol::Gemini, kind: OpaqueKind::Signature, data: Escaped::of("QUJD") };
    let citation = Citation { url: Escaped::of("https://e.org"), title: None, range: None };
    let events = [
        Event::Start(Start { id: None, created_at: Some(5) }),
        Event::Open { choice: 0, part: Part::Reasoning },
        Event::Delta { choice: 0, text: Escaped::of("hm") },
        Event::Note { choice: 0, note: Note::Signature(state) },
        Event::Close { choice: 0 },
        Event::Open { choice: 0, part: Part::Text },
        Event::Delta { choice: 0, text: Escaped::of("a\n") },
        Event::Note { choice: 0, note: Note::Citation(citation) },
        Event::Close { choice: 0 },
        Event::Open { choice: 0, part: call(None, Some(signed)) },
        Event::Close { choice: 0 },
        Event::Open { choice: 0, part: call(Some(Escaped::of("toolu_1")), None) },
        Event::Delta { choice: 0, text: Escaped::of("{}") },
        Event::Close { choice: 0 },
        Event::Usage(Usage { input_uncached: Some(3), output: Some(4), ..Usage::default() }),
        Event::Finish { choice: 0, reason: FinishReason::ToolCalls, stop_sequence: None },
    ];
    for event in events {
        writer.write(event, &mut out);
    }
    writer.finish(&mut out);
    let head =
        r#"data: {"id":"chatcmpl-seed","object":"chat.completion.chunk","created":5,"model":"gpt-4o","choices":["#;
    let deltas = [
        r#"{"role":"assistant","content":null,"reasoning_content":"hm"}"#,
        r#"{"reasoning_details":[{"type":"reasoning.text","text":"hm","signature":"sig","format":"anthropic-claude-v1","index":0}]}"#,
        r#"{"content":"a\n"}"#,
        r#"{"annotations":[{"index":0,"type":"url_citation","url_citation":{"start_index":0,"end_index":2,"url":"https://e.org","title":"https://e.org"}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"call_seed0","type":"function","function":{"name":"f","arguments":""},"extra_content":{"google":{"thought_signature":"QUJD"}}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}"#,
        r#"{"tool_calls":[{"index":1,"id":"toolu_1","type":"function","function":{"name":"f","arguments":""}}]}"#,
        r#"{"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]}"#,
    ];
    let chunk = |delta: &&str| format!("{head}{{\"index\":0,\"delta\":{delta},\"finish_reason\":null}}]}}\n\n");
    let mut expected: String = deltas.iter().map(chunk).collect();
    expected += &format!("{head}{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"tool_calls\"}}]}}\n\n");
    expected += &format!(
        "{head}],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}}}\n\ndata: [DONE]\n\n"
    );
    assert_eq!(out, expected);
    assert_eq!(writer.events(), 11);
}

#[test]
fn state_without_words_is_no_state_of_others() {
    let item = r#"{"type":"reasoning.text","text":"","signature":"s"}"#;
    let expected = ["Reasoning: a", "Reasoning: ", "Text: b", "0 Stop"].map(|line| line.trim_end().to_owned());
    let lines = |answer: &Answer| -> Vec<String> {
        shown(answer).iter().map(|line| line.split('<').next().unwrap().trim_end().to_owned()).collect()
    };
    let whole =
        format!(r#"{{"choices":[{{"message":{{"content":"b","reasoning":"a","reasoning_details":[{item}]}}}}]}}"#);
    assert_eq!(lines(&plain(whole.as_bytes())), expected);
    let chunk = |delta: String| format!("data: {{\"choices\":[{{\"delta\":{{{delta}}}}}]}}\n\n");
    let parts = [r#""reasoning":"a""#.into(), format!(r#""reasoning_details":[{item}]"#), r#""content":"b""#.into()];
    assert_eq!(lines(&streamed(parts.map(chunk).concat().as_bytes())), expected);
}

#[test]
fn clients_of_functions_are_answered_so() {
    let answers = corpus("answers");
    let (_, body) = answers.iter().find(|(name, _)| name == "function-call").unwrap();
    let answer = plain(body);
    let context = AnswerContext { echo: vec![("functions", "[]".into())], ..AnswerContext::clone(&context(false)) };
    let whole: serde_json::Value = serde_json::from_str(&write_plain(&answer, &context)).unwrap();
    let expected = serde_json::json!({
        "index": 0,
        "message": {
            "role": "assistant", "content": null, "refusal": null,
            "function_call": {"name": "get_weather", "arguments": "{\"city\":\"Paris\"}"}
        },
        "logprobs": null,
        "finish_reason": "function_call"
    });
    assert_eq!(whole["choices"][0], expected);
    let (mut writer, mut out) = (AnswerWriter::new(Arc::new(context)), String::new());
    let mut reader = AnswerReader::default();
    reader.read(Value::object_in(body).unwrap(), &mut |event| writer.write(event, &mut out));
    reader.finish(&mut |event| writer.write(event, &mut out));
    writer.finish(&mut out);
    assert_eq!(shown(&streamed(out.as_bytes())), shown(&answer));
    assert!(!out.contains("tool_calls") && out.contains(r#""finish_reason":"function_call""#), "{out}");
}

#[test]
fn each_state_keeps_its_own_words() {
    let item =
        |text: &str, state: &str| format!(r#"{{"type":"reasoning.text","text":"{text}","signature":"{state}"}}"#);
    let whole = format!(
        r#"{{"choices":[{{"message":{{"reasoning":"ab","reasoning_details":[{},{}]}},"finish_reason":"stop"}}]}}"#,
        item("a", "1"),
        item("b", "2")
    );
    let state = |number: u8| format!(r#"<openai-chat {{"type":"reasoning.text","signature":"{number}"}}>"#);
    let expected = [format!("Reasoning: a {}", state(1)), format!("Reasoning: b {}", state(2)), "0 Stop".into()];
    let answer = plain(whole.as_bytes());
    assert_eq!(shown(&answer), expected);
    assert_eq!(shown(&streamed(written(&answer, false).as_bytes())), expected);
}

#[test]
fn a_stream_of_nothing_is_an_answer() {
    let (mut writer, mut out) = (AnswerWriter::new(context(false)), String::new());
    writer.finish(&mut out);
    let answer = streamed(out.as_bytes());
    assert_eq!(shown(&answer), ["0 Stop"]);
    let body = write_plain(&Answer::default(), &context(false));
    assert_eq!(shown(&plain(body.as_bytes())), ["0 Stop"]);
}

/// Events in any order.
fn event() -> impl Strategy<Value = Event<'static>> {
    let choice = || 0..3_u32;
    let text = || "[a-z{}\"]{0,4}".prop_map(Escaped::of_owned);
    let state = text().prop_map(|data| Opaque { issuer: Protocol::Gemini, kind: OpaqueKind::Encrypted, data });
    let call = (proptest::option::of(text()), text(), any::<bool>()).prop_map(|(id, name, is_custom)| Part::ToolCall {
        id,
        name,
        is_custom,
        signature: None,
    });
    let part = prop_oneof![Just(Part::Text), Just(Part::Refusal), Just(Part::Reasoning), call];
    prop_oneof![
        Just(Event::Start(Start::default())),
        (choice(), part).prop_map(|(choice, part)| Event::Open { choice, part }),
        (choice(), text()).prop_map(|(choice, text)| Event::Delta { choice, text }),
        (choice(), state).prop_map(|(choice, state)| Event::Note { choice, note: Note::Signature(state) }),
        choice().prop_map(|choice| Event::Close { choice }),
        choice().prop_map(|choice| Event::Finish { choice, reason: FinishReason::Length, stop_sequence: None }),
        Just(Event::Usage(Usage::default())),
    ]
}

proptest! {
    #[test]
    fn any_events_give_whole_chunks_and_one_end(events in proptest::collection::vec(event(), 0..24)) {
        let (mut writer, mut out) = (AnswerWriter::new(context(true)), String::new());
        for event in events {
            writer.write(event, &mut out);
        }
        writer.finish(&mut out);
        let chunks: Vec<_> = out.split_terminator("\n\n").collect();
        prop_assert_eq!(chunks.len() as u64, writer.events());
        let (end, chunks) = chunks.split_last().unwrap();
        prop_assert_eq!(*end, "data: [DONE]");
        let mut finished = std::collections::HashMap::new();
        for chunk in chunks {
            let chunk: serde_json::Value = serde_json::from_str(chunk.strip_prefix("data: ").unwrap()).unwrap();
            for choice in chunk["choices"].as_array().unwrap() {
                prop_assert!(!finished.contains_key(&choice["index"].as_u64()), "nothing follows the end of a choice");
                if choice["finish_reason"].is_string() {
                    finished.insert(choice["index"].as_u64(), ());
                }
            }
        }
        prop_assert!(!finished.is_empty());
    }

    #[test]
    fn fragments_of_calls_are_put_together(
        order in proptest::collection::vec(0..3_u64, 0..40),
        cuts in proptest::collection::vec(1..6_usize, 40),
    ) {
        let texts = [r#"{"a":"}{\"","b":[1.0]}"#, r#"{"c":{}}"#, "{}"];
        let mut rest = texts;
        let mut reader = AnswerReader::default();
        let mut answer = Answer::default();
        let mut add = |index: u64, text: &str, is_first: bool| {
            let text = Escaped::of_owned(text.to_owned());
            let id = if is_first { format!(r#""id":"c{index}","#) } else { String::new() };
            let name = if is_first { format!(r#""name":"f{index}","#) } else { String::new() };
            let chunk = format!(
                r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{{"index":{index},{id}"function":{{{name}"arguments":"{}"}}}}]}}}}]}}"#,
                text.as_str()
            );
            reader.read(Value::parse_object(&chunk).unwrap(), &mut |event| answer.add(event));
        };
        for index in 0..3 {
            add(index, "", true);
        }
        for (index, cut) in order.into_iter().zip(cuts) {
            let at = usize::try_from(index).unwrap();
            let (now, later) = rest[at].split_at(cut.min(rest[at].len()));
            rest[at] = later;
            add(index, now, false);
        }
        for index in 0..3 {
            add(index, rest[usize::try_from(index).unwrap()], false);
        }
        reader.finish(&mut |event| answer.add(event));
        let calls: Vec<_> = answer.choices[0].parts.iter().map(|part| part.text.text().into_owned()).collect();
        prop_assert_eq!(calls, texts);
    }
}
