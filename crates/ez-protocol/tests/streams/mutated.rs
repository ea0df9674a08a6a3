//! Recorded streams with faults put into them: nothing panics, no byte is lost, and what is told stays the same where the
//! fault is none.

use ez_contract::Protocol;
use ez_protocol::Api;
use ez_protocol::answer::{is_opaque, read_answer, vendor_error};
use ez_protocol::inspect::{RequestForm, RequestPeek};
use ez_protocol::prefix::stable_prefix;
use ez_protocol::stream::{Meaning, StreamReader};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::recorded::{End, STREAMS, read};

const EVERY_API: &[Api] = &[
    Api::ChatCompletions,
    Api::Completions,
    Api::Embeddings,
    Api::Rerank,
    Api::ImageGenerations,
    Api::ImageEdits,
    Api::ImageVariations,
    Api::Speech,
    Api::Transcriptions,
    Api::Translations,
    Api::Moderations,
    Api::Responses,
    Api::Messages,
    Api::MessagesCountTokens,
    Api::GenerateContent,
    Api::StreamGenerateContent,
    Api::CountTokens,
    Api::EmbedContent,
    Api::BatchEmbedContents,
];

/// What is done to a stream at one place.
#[derive(Debug, Clone)]
enum Fault {
    Insert(Vec<u8>),
    Remove(usize),
    Replace(u8),
    CutOff,
}

/// What makes parsers stumble.
const INSERTED: &[&[u8]] =
    &[b"\r", b"\n", b"\r\n\r\n", b"\xef\xbb\xbf", b": ping\n\n", b"data: ", b"\"", b"\\", b"]", b"}", b"\0", b"\xff"];

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        proptest::sample::select(INSERTED).prop_map(|bytes| Fault::Insert(bytes.to_vec())),
        (1_usize..40).prop_map(Fault::Remove),
        any::<u8>().prop_map(Fault::Replace),
        Just(Fault::CutOff),
    ]
}

fn apply(bytes: &mut Vec<u8>, place: &Index, fault: &Fault) {
    if bytes.is_empty() {
        return;
    }
    let at = place.index(bytes.len());
    match fault {
        Fault::Insert(inserted) => drop(bytes.splice(at..at, inserted.iter().copied())),
        Fault::Remove(length) => drop(bytes.drain(at..(at + length).min(bytes.len()))),
        Fault::Replace(byte) => bytes[at] = *byte,
        Fault::CutOff => bytes.truncate(at),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_stream_is_read_without_loss(
        which in 0..STREAMS.len(),
        faults in proptest::collection::vec((any::<Index>(), fault()), 1..4),
        cut in any::<Index>(),
    ) {
        let stream = &STREAMS[which];
        let mut bytes = stream.bytes.as_bytes().to_vec();
        for (place, fault) in &faults {
            apply(&mut bytes, place, fault);
        }
        let whole = read(stream.api, stream.content_type, &[&bytes]);
        prop_assert_eq!(whole.events.concat(), &bytes[..], "no byte is lost or made up");
        let (before, after) = bytes.split_at(cut.index(bytes.len() + 1));
        let told = read(stream.api, stream.content_type, &[before, after]);
        prop_assert_eq!((told.tokens, told.text, told.end), (whole.tokens, whole.text, whole.end));
    }

    #[test]
    fn comments_between_events_change_nothing(which in 0..STREAMS.len(), places in proptest::collection::vec(any::<Index>(), 1..4)) {
        let stream = &STREAMS[which];
        prop_assume!(stream.content_type.starts_with("text/event-stream"));
        let plain = read(stream.api, stream.content_type, &[stream.bytes.as_bytes()]);
        let mut events: Vec<Vec<u8>> = plain.events.iter().map(|event| event.to_vec()).collect();
        for place in places {
            // Behind the first event, because a mark of the byte order belongs to the very beginning.
            events.insert(1 + place.index(events.len()), b": ping\r\n\r\n".to_vec());
        }
        let told = read(stream.api, stream.content_type, &[&events.concat()]);
        prop_assert_eq!((told.tokens, told.text, told.end), (plain.tokens, plain.text, End::Proper));
        let meanings: Vec<_> = told.meanings.into_iter().filter(|meaning| *meaning != Meaning::Other).collect();
        let expected: Vec<_> = plain.meanings.into_iter().filter(|meaning| *meaning != Meaning::Other).collect();
        prop_assert_eq!(meanings, expected);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(
        which in 0..EVERY_API.len(),
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
        text in r#"(data: |event: |error|"|\{|\}|\[|\]|:|,|\\|usage|type|model|1|null| |\n|\r|message|requests|delta){0,30}"#,
        form in r#"multipart/form-data; boundary=[a-z"]{0,4}"#,
    ) {
        let api = EVERY_API[which];
        for body in [&bytes[..], text.as_bytes()] {
            let mut reader = StreamReader::new(api);
            reader.read(body);
            reader.read(body);
            let event = bytes::Bytes::copy_from_slice(body);
            let _ = (reader.rename(&event, "m"), reader.whole_tail(body), reader.last_event(event), reader.may_end());
            let _ = read_answer(api, body, Some("m"));
            let _ = stable_prefix(api, body);
            let _ = is_opaque(api, Some(&text));
            for protocol in Protocol::ALL {
                let _ = vendor_error(*protocol, body);
            }
            for content_type in [None, Some(form.as_str())] {
                for path_model in [None, Some("m")] {
                    if let Ok(peek) = RequestPeek::of(RequestForm { api, path_model, content_type }, body) {
                        let _ = peek.upstream_body(&bytes::Bytes::copy_from_slice(body), "other");
                    }
                }
            }
        }
    }
}
