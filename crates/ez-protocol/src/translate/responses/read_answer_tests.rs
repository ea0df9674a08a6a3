use proptest::prelude::*;

use super::super::super::answer::Answer;
use super::super::super::event::Part;
use super::super::read_request::tests::json;
use super::*;
use crate::sse::{self, EventFramer};

/// The answers of the corpus: name, whole body, stream.
pub(in super::super) const CORPUS: [(&str, &str, &str); 19] = {
    macro_rules! corpus {
        ($($name:literal),* $(,)?) => {[$((
            $name,
            include_str!(concat!("../../../tests/translate/corpus/responses/answers/", $name, ".json")),
            include_str!(concat!("../../../tests/translate/corpus/responses/streams/", $name, ".sse")),
        )),*]};
    }
    corpus![
        "annotations",
        "call_without_arguments",
        "changing_ids",
        "content_filter",
        "custom_tool",
        "empty_text",
        "image",
        "length",
        "parallel_calls",
        "raw_reasoning",
        "reasoning",
        "reasoning_and_call",
        "refusal",
        "side_by_side",
        "text",
        "text_and_call",
        "two_parts",
        "unicode_cut",
        "without_deltas",
    ]
};

pub(in super::super) fn plain(body: &str) -> Answer {
    let mut answer = Answer::default();
    let body = Value::object_in(body.as_bytes()).unwrap();
    read_plain(body, &mut |event| answer.add(event)).unwrap();
    answer
}

/// Reads a stream, and checks that its events come in order.
pub(in super::super) fn streamed(stream: &str) -> Answer {
    let mut framer = EventFramer::new(1 << 20);
    framer.push(stream.as_bytes());
    let (mut answer, mut reader, mut order) = (Answer::default(), AnswerReader::default(), Order::default());
    let mut sink = |event: Event<'_>| {
        order.check(&event);
        answer.add(event);
    };
    let mut feed = |event: &[u8]| {
        if let Some(data) = sse::data(event)
            && let Ok(data) = Value::object_in(data.as_ref())
        {
            reader.read(data, &mut sink);
        }
    };
    while let Some(event) = framer.next_event().unwrap() {
        feed(&event);
    }
    framer.finish().iter().for_each(|event| feed(event));
    reader.finish(&mut sink);
    assert!(order.is_finished);
    answer
}

/// The order that every reader keeps.
#[derive(Default)]
struct Order {
    is_started: bool,
    is_open: bool,
    is_finished: bool,
}

impl Order {
    fn check(&mut self, event: &Event<'_>) {
        assert!(!self.is_finished, "nothing follows the end: {event:?}");
        assert_eq!(self.is_started, !matches!(event, Event::Start(_)), "{event:?}");
        match event {
            Event::Start(_) => self.is_started = true,
            Event::Open { .. } => assert!(!std::mem::replace(&mut self.is_open, true), "{event:?}"),
            Event::Close { .. } => assert!(std::mem::replace(&mut self.is_open, false), "{event:?}"),
            Event::Delta { .. } | Event::Note { .. } => assert!(self.is_open, "{event:?}"),
            Event::Finish { .. } => {
                assert!(!self.is_open);
                self.is_finished = true;
            }
            Event::Usage(_) => {}
        }
    }
}

fn shown(answer: &Answer) -> Vec<String> {
    let mut lines = Vec::new();
    for part in answer.choices.iter().flat_map(|choice| &choice.parts) {
        let what = match &part.part {
            Part::ToolCall { id, name, is_custom, .. } => {
                let id = id.as_ref().map(|id| id.text().into_owned()).unwrap_or_default();
                format!("call{} {id} {}", if *is_custom { " custom" } else { "" }, name.text())
            }
            Part::Media { media_type, data } => format!("media {} {}", media_type.as_str(), data.as_str()),
            other => format!("{other:?}").to_lowercase(),
        };
        let mut line = format!("{what}: {}", part.text.text());
        if let Some(state) = &part.signature {
            line += &format!(" [{:?} {:?} {}]", state.issuer, state.kind, state.data.as_str());
        }
        for citation in &part.citations {
            line += &format!(" [{} {:?}]", citation.url.as_str(), citation.range);
        }
        lines.push(line);
    }
    lines.extend(answer.choices.iter().map(|choice| format!("{:?}", choice.finish.unwrap())));
    lines
}

#[test]
fn stream_and_whole_body_tell_the_same() {
    for (name, body, stream) in CORPUS {
        assert_eq!(streamed(stream), plain(body), "{name}");
    }
}

#[test]
fn answers_are_read() {
    let cases: [(&str, &[&str]); 11] = [
        (
            "parallel_calls",
            &[
                r#"call call_p1 get_weather: {"location":"Paris, France","n":1.0}"#,
                r#"call call_p2 get_weather: {"location":"Bogotá, Colombia"}"#,
                "ToolCalls",
            ],
        ),
        (
            "reasoning",
            &[
                "reasoning: **Weighing**\n\nThe statue is large.\n\n**Computing**\n\nArea times density. \
             [OpenaiResponses Encrypted gAAAAABo9b7Kx-_final==]",
                "text: About 30 tonnes.",
                "Stop",
            ],
        ),
        (
            "reasoning_and_call",
            &[
                "reasoning:  [OpenaiResponses Encrypted gAAAAABo9b7M]",
                r#"call call_h1 shell: {"command":["ls","-la"]}"#,
                "ToolCalls",
            ],
        ),
        ("raw_reasoning", &["reasoning: User says hi. Greet.", "text: Hello!", "Stop"]),
        ("refusal", &["refusal: I'm sorry, I can't assist with that.", "Stop"]),
        ("length", &["text: Once upon a time, in a", "Length"]),
        ("content_filter", &["text: The", "Refused"]),
        (
            "annotations",
            &[
                "text: Otters are back in town. [https://example.com/otters?utm_source=openai Some((0, 12))] \
             [https://example.org/ Some((13, 20))]",
                "Stop",
            ],
        ),
        ("custom_tool", &["call custom call_ct code_exec: print(\"hello world\")\n", "ToolCalls"]),
        ("image", &["media image/jpeg /9j/4AAQSkZJRg==: ", "text: Here.", "Stop"]),
        (
            "without_deltas",
            &[
                "reasoning: Short. [OpenaiResponses Encrypted gAAAAABdone]",
                "text: Whole.",
                r#"call call_d1 go: {"fast":true}"#,
                "ToolCalls",
            ],
        ),
    ];
    for (name, expected) in cases {
        let (_, body, _) = CORPUS.into_iter().find(|(other, ..)| *other == name).unwrap();
        assert_eq!(shown(&plain(body)), expected, "{name}");
    }
}

#[test]
fn usage_is_told_in_buckets() {
    let (_, body, _) = CORPUS[8];
    let expected = Usage {
        input_uncached: Some(128),
        cache_read: Some(1_920),
        cache_write_5m: Some(0),
        output: Some(56),
        reasoning: Some(0),
        ..Usage::default()
    };
    assert_eq!(plain(body).usage, Some(expected));
    assert_eq!(plain(r#"{"output":[],"usage":null}"#).usage, None);
}

#[test]
fn the_beginning_is_told_first_and_once() {
    let (_, body, _) = CORPUS[0];
    let start = plain(body).start;
    assert_eq!((start.id, start.created_at), (Some(Escaped::of("resp_68af4030ann")), Some(1_756_315_696)));
    let late = r#"data: {"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"a"}

data: {"type":"response.created","response":{"id":"resp_1"}}

"#;
    let answer = streamed(late);
    assert_eq!((answer.start.id.clone(), shown(&answer)), (None, vec!["text: a".to_owned(), "Stop".to_owned()]));
}

#[test]
fn sloppy_servers_are_understood() {
    let cases = [
        // Without the ends of items, and without indexes.
        (
            r#"{"type":"response.output_item.added","item":{"type":"function_call","name":"f","call_id":"c"}}
            {"type":"response.function_call_arguments.delta","delta":"{}"}
            {"type":"response.completed","response":{"status":"completed","output":[]}}"#,
            "call c f: {}|ToolCalls",
        ),
        // All items at the same index.
        (
            r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message","content":[]}}
            {"type":"response.output_text.delta","output_index":0,"delta":"a"}
            {"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":[]}}
            {"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","name":"f"}}
            {"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","name":"f"}}
            {"type":"response.completed","response":{"output":[{"type":"message"},{"type":"function_call","name":"f"}]}}"#,
            "text: a|call  f: |ToolCalls",
        ),
        // An end that is cut off stays one; what follows the end is nothing.
        (
            r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","name":"f"}}
            {"type":"response.function_call_arguments.delta","output_index":0,"delta":"{\"a"}
            {"type":"response.incomplete","response":{"incomplete_details":{"reason":"max_output_tokens"}}}
            {"type":"response.output_text.delta","output_index":1,"delta":"late"}"#,
            "call  f: {\"a|Length",
        ),
        // A call whose name comes last.
        (
            r#"{"type":"response.function_call_arguments.delta","output_index":0,"delta":"{}"}
            {"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","name":"f","arguments":"{}"}}"#,
            "call  f: {}|ToolCalls",
        ),
        (r#"{"type":"response.failed","response":{"status":"failed","error":{"message":"x"}}}"#, "Failed"),
        (r#"{"type":"response.incomplete","response":{"incomplete_details":{"reason":"steered"}}}"#, "Length"),
        ("", "Stop"),
    ];
    for (events, expected) in cases {
        let stream: String = events.lines().map(|line| format!("data: {}\n\n", line.trim())).collect();
        assert_eq!(shown(&streamed(&stream)).join("|"), expected, "{events}");
    }
    assert!(read_plain(Value::EMPTY_OBJECT, &mut |_| ()).is_none());
}

fn event() -> impl Strategy<Value = String> {
    let kinds = proptest::sample::select(vec![
        "output_item.added",
        "output_item.done",
        "content_part.added",
        "content_part.done",
        "output_text.delta",
        "output_text.done",
        "output_text.annotation.added",
        "refusal.delta",
        "refusal.done",
        "reasoning_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "custom_tool_call_input.delta",
        "created",
        "in_progress",
    ]);
    let items = proptest::sample::select(vec![
        r#"{"type":"message","content":[{"type":"output_text","text":"w"},{"type":"refusal","refusal":"r"},7]}"#,
        r#"{"type":"function_call","name":"f","call_id":"c","arguments":"{}"}"#,
        r#"{"type":"custom_tool_call","name":"f","input":"x"}"#,
        r#"{"type":"reasoning","summary":[{"text":"s"}],"content":[{"text":"t"}],"encrypted_content":"e"}"#,
        r#"{"type":"image_generation_call","result":"AAAA"}"#,
        r#"{"type":"web_search_call"}"#,
        "7",
        "null",
    ]);
    let part = r#"{"type":"output_text","text":"p","annotations":[{"type":"url_citation","url":"u"}]}"#;
    (kinds, items, 0..4_u64, 0..3_u64, "[a-z]{0,2}").prop_map(move |(kind, item, index, place, text)| {
        format!(
            r#"{{"type":"response.{kind}","output_index":{index},"content_index":{place},"delta":"{text}","text":"{text}","arguments":"{text}","item":{item},"part":{part},"annotation":{{"type":"url_citation","url":"u"}},"response":{{"id":"resp_1","output":[{item}]}}}}"#
        )
    })
}

proptest! {
    #[test]
    fn any_body_is_read_or_none(output in json(), other in json()) {
        let body = format!(r#"{{"id":{other},"output":{output},"usage":{other},"status":{other}}}"#);
        let (mut answer, mut order) = (Answer::default(), Order::default());
        let read = read_plain(Value::object_in(body.as_bytes()).unwrap(), &mut |event| {
            order.check(&event);
            answer.add(event);
        });
        prop_assert_eq!(read.is_some(), order.is_finished);
    }

    #[test]
    fn events_in_any_order_keep_the_order_of_the_intermediate_form(
        events in proptest::collection::vec(event(), 0..24),
        has_end: bool,
    ) {
        let mut stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        if has_end {
            stream += "data: {\"type\":\"response.completed\",\"response\":{\"output\":[{\"type\":\"message\"}]}}\n\n";
        }
        prop_assert_eq!(streamed(&stream).choices.len(), 1);
    }
}
