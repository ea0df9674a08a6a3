//! What is told of each stream: its usage, its text, its end.

use bytes::Bytes;
use ez_protocol::Api;
use ez_protocol::error::{Fault, FaultKind};
use ez_protocol::sample::TextSample;
use ez_protocol::stream::{Meaning, StreamReader};
use proptest::prelude::*;

use crate::recorded::{End, STREAMS, read};

#[test]
fn every_stream_is_read_to_its_end_whatever_the_chunks() {
    for stream in STREAMS {
        let bytes = stream.bytes.as_bytes();
        let whole = read(stream.api, stream.content_type, &[bytes]);
        assert_eq!(whole.events.concat(), bytes, "{}", stream.name);
        assert_eq!(whole.tokens, stream.expected_tokens(), "{}", stream.name);
        assert_eq!(whole.text, stream.text, "{}", stream.name);
        assert_eq!(whole.end, End::Proper, "{}: {:?}", stream.name, whole.meanings);
        for at in 0..=bytes.len() {
            let (before, after) = bytes.split_at(at);
            let told = read(stream.api, stream.content_type, &[before, after]);
            assert_eq!(told.meanings, whole.meanings, "{} cut at {at}", stream.name);
            assert_eq!((told.tokens, &told.text), (whole.tokens, &whole.text), "{} cut at {at}", stream.name);
            assert_eq!(told.events.concat(), bytes, "{} cut at {at}", stream.name);
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(stream.api, stream.content_type, &single).meanings, whole.meanings, "{}", stream.name);
    }
}

#[test]
fn a_stream_that_stops_early_is_never_taken_for_complete() {
    for stream in STREAMS {
        let bytes = stream.bytes.trim_end().as_bytes();
        let first_end = first_proper_end(stream.api, stream.content_type, bytes);
        for at in 0..first_end {
            let told = read(stream.api, stream.content_type, &[&bytes[..at]]);
            assert_eq!(told.end, End::Cut, "{} ends after {at} of {} bytes", stream.name, bytes.len());
        }
    }
}

/// How many bytes are needed for a proper end: all of them, but for streams that tell their end before their last event.
fn first_proper_end(api: Api, content_type: &str, bytes: &[u8]) -> usize {
    match (api, content_type) {
        // One image alone is a whole stream, too.
        (Api::ImageGenerations, _) => {
            let text = std::str::from_utf8(bytes).unwrap();
            text.match_indices("\n\n").nth(1).unwrap().0
        }
        // The closing bracket comes after the last reason.
        (Api::StreamGenerateContent, content_type) if content_type.starts_with("application/json") => {
            bytes.iter().rposition(|byte| *byte == b'}').unwrap()
        }
        _ => bytes.len(),
    }
}

#[test]
fn errors_inside_streams_are_told() {
    let cases = [
        (Api::ChatCompletions, "text/event-stream", "data: {\"error\":{\"message\":\"busy\",\"code\":\"x\"}}\n\n"),
        (
            Api::Messages,
            "text/event-stream",
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n",
        ),
        (
            Api::Responses,
            "text/event-stream",
            "event: error\ndata: {\"type\":\"error\",\"code\":\"x\",\"message\":\"busy\",\"param\":null}\n\n",
        ),
        (
            Api::Responses,
            "text/event-stream",
            "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"x\",\"message\":\"busy\"}}}\n\n",
        ),
        (
            Api::StreamGenerateContent,
            "text/event-stream",
            "data: {\"error\":{\"code\":503,\"message\":\"busy\"}}\r\n\r\n",
        ),
        (
            Api::StreamGenerateContent,
            "text/event-stream",
            "{\n  \"error\": {\"code\": 503, \"message\": \"busy\"}\n}\n",
        ),
        (Api::StreamGenerateContent, "application/json", "[{\"error\":{\"code\":503,\"message\":\"busy\"}}\n]"),
        (Api::StreamGenerateContent, "application/json", "[{\"candidates\":[]},{\"error\":{\"message\":\"busy\"}}]"),
        (Api::StreamGenerateContent, "application/json", "{\"error\":{\"message\":\"busy\"}}"),
        (Api::Speech, "text/event-stream", "data: {\"type\":\"error\",\"error\":{\"message\":\"busy\"}}\n\n"),
    ];
    for (api, content_type, bytes) in cases {
        let told = read(api, content_type, &[bytes.as_bytes()]);
        assert_eq!(told.end, End::Error, "{bytes}: {:?}", told.meanings);
        let message = told.meanings.iter().find_map(|meaning| match meaning {
            Meaning::Error(error) => Some(error.message.as_str()),
            _ => None,
        });
        assert_eq!(message, Some("busy"), "{bytes}");
    }
}

#[test]
fn ends_that_are_none_are_told() {
    let cases = [
        (Api::Responses, "text/event-stream", "data: [DONE]\n\n"),
        (Api::StreamGenerateContent, "application/json", "[]"),
        (Api::StreamGenerateContent, "application/json", "[{\"candidates\":[{\"content\":{}}]}]"),
        (Api::StreamGenerateContent, "text/event-stream", "data: {\"candidates\":[{\"content\":{}}]}\n\n"),
        (Api::Messages, "text/event-stream", "data: [DONE]\n\n"),
    ];
    for (api, content_type, bytes) in cases {
        assert_eq!(read(api, content_type, &[bytes.as_bytes()]).end, End::Cut, "{api:?} {bytes}");
    }
}

#[test]
fn an_anthropic_stream_tells_its_input_before_its_output() {
    let mut reader = StreamReader::new(Api::Messages);
    reader.read(
        b"data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n",
    );
    let tokens = reader.tokens().expect("usage");
    assert_eq!((tokens.input_tokens, tokens.output_tokens), (Some(7), None));
}

#[test]
fn a_failed_response_still_reports_its_usage() {
    let mut reader = StreamReader::new(Api::Responses);
    let meaning = reader.read(
        b"data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"message\":\"x\"},\"usage\":{\"input_tokens\":7,\"output_tokens\":2}}}\n\n",
    );
    assert!(matches!(meaning, Meaning::Error(_)));
    assert_eq!(reader.tokens().and_then(|tokens| tokens.input_tokens), Some(7));
}

#[test]
fn the_model_is_renamed_wherever_a_protocol_names_it() {
    let cases = [
        (Api::ChatCompletions, "data: {\"model\":\"up\",\"choices\":[{\"model\":\"up\"}]}\n\n"),
        (
            Api::Messages,
            "event: x\r\ndata: {\"type\":\"message_start\",\"message\":{\"id\":1, \"model\" : \"up\"}}\r\n\r\n",
        ),
        (
            Api::Responses,
            "data: {\"type\":\"response.created\",\"response\":{\"model\":\"up\",\"tools\":[{\"model\":\"up\"}]}}\n\n",
        ),
        (Api::StreamGenerateContent, "data: {\"model\":\"up\",\"modelVersion\":\"up\"}\r\n\r\n"),
        (Api::StreamGenerateContent, ",\r\n{\"modelVersion\":\"up\"}"),
        (Api::StreamGenerateContent, "[{\"modelVersion\":\"up\"}"),
    ];
    let expected = [
        "data: {\"model\":\"public\",\"choices\":[{\"model\":\"up\"}]}\n\n",
        "event: x\r\ndata: {\"type\":\"message_start\",\"message\":{\"id\":1, \"model\" : \"public\"}}\r\n\r\n",
        "data: {\"type\":\"response.created\",\"response\":{\"model\":\"public\",\"tools\":[{\"model\":\"up\"}]}}\n\n",
        "data: {\"model\":\"up\",\"modelVersion\":\"public\"}\r\n\r\n",
        ",\r\n{\"modelVersion\":\"public\"}",
        "[{\"modelVersion\":\"public\"}",
    ];
    for ((api, event), expected) in cases.into_iter().zip(expected) {
        let renamed = StreamReader::new(api).rename(&Bytes::from_static(event.as_bytes()), "public");
        assert_eq!(renamed, expected.as_bytes(), "{api:?}");
    }
    for untouched in
        [": ping\n\n", "data: {\"text\":\"model\"}\n\n", "data: [DONE]\n\n", "data: {\"model\":\ndata: 1}\n\n"]
    {
        let event = Bytes::from_static(untouched.as_bytes());
        let renamed = StreamReader::new(Api::ChatCompletions).rename(&event, "public");
        assert_eq!(renamed.as_ptr(), event.as_ptr(), "{untouched:?} is passed as it is");
    }
}

#[test]
fn a_broken_stream_ends_in_its_own_frame() {
    let fault = Fault {
        status: 502,
        kind: FaultKind::Upstream,
        code: "upstream_truncated",
        message: "cut".into(),
        param: None,
    };
    let mut array = StreamReader::new(Api::StreamGenerateContent);
    let first = b"[{\"candidates\":[]}";
    array.read(first);
    let whole = [&first[..], &array.error_event(&fault, "req-1")].concat();
    let parsed: serde_json::Value = serde_json::from_slice(&whole).expect("a JSON array");
    assert_eq!(parsed[1]["error"]["status"], "INTERNAL");
    let told = array.last_event(Bytes::from_static(b",{\"error\":{}}"));
    assert!(serde_json::from_slice::<serde_json::Value>(&[&first[..], &told].concat()).is_ok());

    let mut responses = StreamReader::new(Api::Responses);
    responses.read(b"data: {\"type\":\"response.created\"}\n\n");
    let event = responses.error_event(&fault, "req-1");
    assert!(event.starts_with(b"event: error\ndata: "), "{event:?}");
    assert!(String::from_utf8_lossy(&event).contains("\"sequence_number\":1"), "{event:?}");
    assert_eq!(responses.last_event(event.clone()), event);
}

#[test]
fn a_tail_without_its_blank_line_is_completed_or_dropped() {
    let reader = StreamReader::new(Api::ChatCompletions);
    assert_eq!(reader.whole_tail(b"data: [DONE]").as_deref(), Some(&b"data: [DONE]\n\n"[..]));
    assert_eq!(reader.whole_tail(b"data: {\"a\":1}\n").as_deref(), Some(&b"data: {\"a\":1}\n\n"[..]));
    for cut in [&b"data: {\"a\":"[..], b"data: [DO", b"dat", b": ping", b"", b"\n"] {
        assert_eq!(reader.whole_tail(cut), None, "{cut:?}");
    }
}

/// The sample of a chat answer that was sent in these pieces.
fn sampled(pieces: &[String]) -> TextSample {
    let mut reader = StreamReader::new(Api::ChatCompletions);
    for piece in pieces {
        let piece = serde_json::to_string(piece).unwrap();
        reader.read(format!("data: {{\"choices\":[{{\"delta\":{{\"content\":{piece}}}}}]}}\n\n").as_bytes());
    }
    reader.output().clone()
}

#[test]
fn a_long_answer_is_sampled_and_its_length_told() {
    let pieces = vec!["twelve bytes".to_owned(); 10_000];
    let sample = sampled(&pieces);
    assert!((4_000..=4_096).contains(&sample.text().len()));
    let (told, truth) = (sample.total_bytes() as f64, 120_000.0);
    assert!((told / truth - 1.0).abs() < 0.02, "{told}");

    let in_one = sampled(&["x".repeat(1 << 20)]);
    assert!((in_one.total_bytes() as f64 / f64::from(1 << 20) - 1.0).abs() < 0.02, "{}", in_one.total_bytes());
}

proptest! {
    #[test]
    fn short_answers_are_sampled_whole(pieces in proptest::collection::vec(".{0,20}", 0..20)) {
        let sample = sampled(&pieces);
        prop_assert_eq!(sample.text(), pieces.concat());
        prop_assert_eq!(sample.total_bytes(), pieces.concat().len() as u64);
    }

    #[test]
    fn what_is_told_does_not_depend_on_the_chunks(
        which in 0..STREAMS.len(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
    ) {
        let stream = &STREAMS[which];
        let bytes = stream.bytes.as_bytes();
        let mut at: Vec<usize> = cuts.into_iter().map(|cut| cut.index(bytes.len())).collect();
        at.sort_unstable();
        at.push(bytes.len());
        let mut from = 0;
        let chunks: Vec<&[u8]> = at.into_iter().map(|to| &bytes[std::mem::replace(&mut from, to)..to]).collect();
        let told = read(stream.api, stream.content_type, &chunks);
        let whole = read(stream.api, stream.content_type, &[bytes]);
        prop_assert_eq!(told, whole);
    }
}
