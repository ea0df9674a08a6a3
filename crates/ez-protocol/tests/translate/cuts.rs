//! What is told must not depend on how the bytes arrive, nor on whether they were streamed.

use ez_contract::Protocol;
use ez_protocol::json::{Escaped, Value};
use ez_protocol::translate::answer::{Answer, WholePart};
use ez_protocol::translate::event::{Part, Start};
use ez_protocol::translate::whole_answer;

use crate::corpus::{events, gathered, pairs, samples, translate_answer, translate_stream};

#[test]
fn a_stream_cut_at_every_byte_translates_the_same() {
    for (client, vendor) in pairs() {
        for sample in samples(vendor, "streams") {
            let uncut = events(&[&sample.bytes]);
            let whole = translate_stream(client, vendor, &[&sample.bytes]);
            for at in 0..sample.bytes.len() {
                let (head, tail) = sample.bytes.split_at(at);
                // Most cuts give the very same events, and a translation depends on nothing else.
                if events(&[head, tail]) == uncut {
                    continue;
                }
                let cut = translate_stream(client, vendor, &[head, tail]);
                assert_eq!(cut, whole, "{vendor} to {client}, {} cut at {at}", sample.name);
            }
        }
    }
}

/// Google's SDK takes whatever line is not empty for data; others know comments.
#[test]
fn keep_alives_are_what_the_clients_sdk_takes_for_none() {
    let ping = b"event: ping\ndata: {\"type\":\"ping\"}\n\n";
    for client in [Protocol::OpenaiChat, Protocol::OpenaiResponses, Protocol::Gemini] {
        let stream = translate_stream(client, Protocol::AnthropicMessages, &[ping, b": more\n\n"]);
        let expected = if client == Protocol::Gemini { "\r\n\r\n" } else { ": keep-alive\n\n: keep-alive\n\n" };
        assert!(stream.starts_with(expected), "{client}: {stream:?}");
    }
}

/// Without what an answer is free to tell otherwise when it is streamed: ids that were made, and arguments of nothing.
fn comparable(mut answer: Answer) -> Answer {
    answer.start = Start::default();
    for part in answer.choices.iter_mut().flat_map(|choice| &mut choice.parts) {
        if let Part::ToolCall { id, is_custom, .. } = &mut part.part {
            *id = None;
            if part.text.is_empty() && !*is_custom {
                part.text = Escaped::of("{}");
            }
            // Arguments that were cut off pass as they are in fragments; where a whole answer must have an object, they are
            // put into one.
            let written = part.text.text().into_owned();
            let cut_off = Value::parse_object(&written).and_then(|object| object.get("INVALID_JSON")?.string());
            if let Some(cut_off) = cut_off {
                part.text = cut_off.into_owned();
            }
        }
        // The same characters may be escaped or not.
        part.text = Escaped::of_owned(part.text.text().into_owned());
    }
    answer
}

/// Chat's messages have one field for each kind of part, and so no order among them.
fn in_fields(mut answer: Answer) -> Answer {
    let field = |part: &WholePart| match part.part {
        Part::Reasoning => 0,
        Part::Text => 1,
        Part::Refusal => 2,
        Part::ToolCall { .. } => 3,
        Part::Media { .. } => 4,
    };
    for choice in &mut answer.choices {
        choice.parts.sort_by_key(field);
        choice.parts.dedup_by(|part, before| {
            let is_one = field(part) == field(before) && matches!(part.part, Part::Text | Part::Refusal);
            if is_one {
                before.text.push(&part.text);
                before.citations.append(&mut part.citations);
            }
            // In a stream, a signature comes as a piece of its own.
            let is_signature = field(part) == 0 && field(before) == 0 && part.text.is_empty();
            if is_signature && before.signature.is_none() {
                before.signature = part.signature.take();
            }
            is_one || is_signature
        });
    }
    answer
}

#[test]
fn a_stream_put_together_is_the_whole_answer() {
    for vendor in Protocol::ALL {
        let streams = samples(*vendor, "streams");
        let mut compared = 0;
        for sample in samples(*vendor, "answers") {
            let Some(stream) = streams.iter().find(|stream| stream.name == sample.name) else { continue };
            let whole = whole_answer(*vendor, &sample.bytes).unwrap();
            assert_eq!(comparable(gathered(*vendor, &stream.bytes)), comparable(whole), "{vendor} {}", sample.name);
            for client in Protocol::ALL.iter().filter(|client| *client != vendor) {
                let Ok(answer) = translate_answer(*client, *vendor, &sample.bytes) else { continue };
                let streamed = translate_stream(*client, *vendor, &[&stream.bytes]);
                let (answer, streamed) =
                    (whole_answer(*client, answer.as_bytes()).unwrap(), gathered(*client, streamed.as_bytes()));
                let (mut streamed, mut answer) = (comparable(streamed), comparable(answer));
                if *client == Protocol::OpenaiChat {
                    (streamed, answer) = (in_fields(streamed), in_fields(answer));
                }
                assert_eq!(streamed, answer, "{vendor} to {client}, {}", sample.name);
            }
            compared += 1;
        }
        assert!(compared >= 5, "{vendor}: only {compared} answers are there in both forms");
    }
}
