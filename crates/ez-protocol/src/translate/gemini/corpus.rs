//! The corpus of this protocol: every request is read and written again, every answer says the same streamed and whole.

use std::path::PathBuf;

use ez_contract::Protocol;
use serde_json::Value as Json;

use super::super::answer::Answer;
use super::super::capability::Capabilities;
use super::super::conversation::settle;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::ChatRequest;
use super::super::target::{AnswerContext, Target};
use super::super::tool_names::ToolNames;
use super::*;
use crate::json::Value;

/// The files of a kind, by name.
fn files(kind: &str) -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/translate/corpus/gemini").join(kind);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// What a body of a client becomes for an upstream of the same protocol.
pub(super) fn rewritten(body: &str, model: &str) -> Result<(String, Vec<String>), Refused> {
    let schemas = with_json_schemas(Value::parse_object(body).unwrap());
    let body = schemas.as_deref().unwrap_or(body);
    let mut report = Report::default();
    let mut request = read_request(Value::parse_object(body).unwrap(), &mut report)?;
    request.turns = settle(request.turns, "contents")?;
    let body = written(request, model, &mut report)?;
    Ok((body, report.names().to_vec()))
}

/// A request as it is sent to a model.
pub(super) fn written(request: ChatRequest<'_>, model: &str, report: &mut Report) -> Result<String, Refused> {
    let names = ToolNames::of(&request, Protocol::Gemini)?;
    let capabilities = Capabilities::of(Protocol::Gemini, model);
    write_request(request, Target { model, capabilities, names: &names }, report).map(|written| written.body)
}

/// The events of a stream, put together.
pub(super) fn streamed(stream: &str) -> Answer {
    let (mut reader, mut answer) = (AnswerReader::default(), Answer::default());
    for event in stream.replace("\r\n", "\n").split("\n\n") {
        if let Some(data) = event.strip_prefix("data: ").and_then(Value::parse_object) {
            reader.read(data, &mut |event| answer.add(event));
        }
    }
    reader.finish(&mut |event| answer.add(event));
    answer
}

pub(super) fn whole(body: &str) -> Option<Answer> {
    let mut answer = Answer::default();
    read_plain(Value::parse_object(body).unwrap(), &mut |event| answer.add(event))?;
    Some(answer)
}

pub(super) fn context(is_array: bool) -> AnswerContext {
    AnswerContext {
        client: Protocol::Gemini,
        model: "gemini-2.5-flash".to_owned(),
        seed: "s".to_owned(),
        created_at: 0,
        wants_usage: true,
        is_array,
        echo: Vec::new(),
    }
}

#[test]
fn what_is_written_reads_the_same_again() {
    const REFUSED: [&str; 7] = [
        "cached_content",
        "cloud_storage",
        "executable_code",
        "google_file",
        "hosted_alone",
        "image_output",
        "logprobs",
    ];
    for (name, body) in files("requests") {
        let written = rewritten(&body, "gemini-3-flash");
        assert_eq!(written.is_err(), REFUSED.contains(&name.as_str()), "{name}: {written:?}");
        let Ok((once, _)) = written else { continue };
        let (twice, dropped) = rewritten(&once, "gemini-3-flash").unwrap();
        assert_eq!(once, twice, "{name}");
        assert!(dropped.is_empty(), "{name}: {dropped:?}");
        serde_json::from_str::<Json>(&once).unwrap();
    }
}

#[test]
fn streams_say_what_whole_answers_say() {
    let answers = files("answers");
    let streams = files("streams");
    assert!(answers.len() > 10 && answers.len() == streams.len());
    for ((name, body), (stream_name, stream)) in answers.iter().zip(&streams) {
        assert_eq!(name, stream_name);
        assert_eq!(streamed(stream), whole(body).unwrap(), "{name}");
    }
}

#[test]
fn what_a_client_gets_reads_the_same_again() {
    for (name, body) in files("answers") {
        let answer = whole(&body).unwrap();
        let plain = write_plain(&answer, &context(false));
        let again = whole(&plain).unwrap();
        assert_eq!(again.usage, answer.usage, "{name}");
        let texts = |answer: &Answer| -> Vec<_> {
            let parts =
                |choice: &super::super::answer::Choice| choice.parts.iter().map(|p| p.text.clone()).collect::<Vec<_>>();
            answer.choices.iter().map(|choice| (choice.finish, parts(choice))).collect()
        };
        if name != "malformed_call" {
            assert_eq!(texts(&again), texts(&answer), "{name}: {plain}");
        }
    }
}

#[test]
fn a_conversation_that_goes_on_begins_with_the_same_bytes() {
    let contents = |body: &str| -> Vec<String> {
        let contents = Value::parse_object(body).unwrap().get("contents").unwrap();
        contents.elements().unwrap_or_default().iter().map(|turn| turn.as_str().to_owned()).collect()
    };
    let mut compared = 0;
    for (name, body) in files("requests") {
        let Ok((full, _)) = rewritten(&body, "gemini-3-flash") else { continue };
        let (full, given) = (contents(&full), contents(&body));
        let all = Value::parse_object(&body).unwrap().get("contents").unwrap().as_str();
        for cut in 1..given.len() {
            let begun = body.replacen(all, &format!("[{}]", given[..cut].join(",")), 1);
            // A beginning that ends with open calls is none.
            let Ok((begun, _)) = rewritten(&begun, "gemini-3-flash") else { continue };
            let mut begun = contents(&begun);
            // The last turn may go on.
            begun.pop();
            assert_eq!(begun, full[..begun.len()], "{name} up to {cut}");
            compared += 1;
        }
    }
    assert!(compared > 10, "{compared}");
}
