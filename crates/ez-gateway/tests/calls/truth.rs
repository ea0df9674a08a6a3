//! Stream truth: an answer cut anywhere is told as what it is, is accounted for once, and is never a made-up success.

use ez_contract::usage::{EndedBy, TokenUsage, UsageSource};
use ez_testkit::upstream::{Behaviour, Fault};

use crate::protocols::{STREAMS, form, with_every_vendor};

const CUTS: usize = 40;

/// What only a whole stream holds.
fn ends_properly(path: &str, text: &str) -> bool {
    match path {
        "/v1/chat/completions" | "/v1/completions" => text.contains("[DONE]"),
        "/v1/responses" => text.contains("event: response.completed"),
        "/v1/messages" => text.contains("event: message_stop"),
        _ => text.contains("finishReason") && !text.contains("\"error\""),
    }
}

fn tells_error(path: &str, text: &str) -> bool {
    match path {
        "/v1/responses" | "/v1/messages" => text.contains("event: error"),
        _ => text.contains("\"error\""),
    }
}

#[tokio::test]
async fn a_stream_cut_anywhere_is_classified_right_and_settled_once() {
    for (path, body, _) in STREAMS {
        let whole = {
            let gateway = with_every_vendor().await;
            let answer = gateway.call(gateway.request(path, *body)).await;
            assert!(ends_properly(path, &answer.text()), "{path}");
            gateway.finish().await;
            answer.body.len()
        };
        for cut in 0..CUTS {
            let after_bytes = Some(whole * cut / CUTS);
            let fault = if cut % 2 == 0 {
                Fault::Truncate { after_events: None, after_bytes }
            } else {
                Fault::Reset { after_bytes }
            };
            let gateway = with_every_vendor().await;
            gateway.upstream.set(Behaviour::failing(fault.clone()));
            let answer = gateway.call(gateway.request(path, *body)).await;
            let text = answer.text();
            assert!(!ends_properly(path, &text), "{path} {fault:?}: {text}");
            assert!(tells_error(path, &text) || answer.status != 200, "{path} {fault:?}: {text}");
            if path.ends_with(":streamGenerateContent") {
                let parsed = serde_json::from_str::<serde_json::Value>(&text);
                assert!(parsed.is_ok(), "{path} {fault:?}: an array stays an array: {text}");
            }
            let record = gateway.finish_with_one_record().await;
            assert_eq!(record.ended_by, EndedBy::Upstream, "{path} {fault:?}");
            assert_eq!(record.status, answer.status.as_u16(), "{path} {fault:?}");
            assert!(record.error.is_some() && record.is_failure());
        }
    }
}

#[tokio::test]
async fn a_plain_answer_cut_anywhere_is_never_half_an_answer() {
    let chat = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    let messages = r#"{"model":"claude","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    let gemini = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;
    for (path, body) in
        [("/v1/chat/completions", chat), ("/v1/messages", messages), ("/v1beta/models/gemini:generateContent", gemini)]
    {
        for cut in 0..CUTS {
            // Shorter than the answer of each.
            let after_bytes = Some(300 * cut / CUTS);
            let fault = if cut % 2 == 0 {
                Fault::Truncate { after_events: None, after_bytes }
            } else {
                Fault::Reset { after_bytes }
            };
            let gateway = with_every_vendor().await;
            gateway.upstream.set(Behaviour::failing(fault.clone()));
            let answer = gateway.call(gateway.request(path, body)).await;
            assert_eq!(answer.status.as_u16(), 502, "{path} {fault:?}: {}", answer.text());
            assert!(answer.json().get("error").is_some(), "{path} {fault:?}: {}", answer.text());
            let record = gateway.finish_with_one_record().await;
            assert_eq!((record.ended_by, record.status), (EndedBy::Upstream, 502), "{path} {fault:?}");
        }
    }
}

#[tokio::test]
async fn sound_that_breaks_off_does_not_look_whole() {
    let gateway = with_every_vendor().await;
    let fault = Fault::Reset { after_bytes: Some(100_000) };
    gateway.upstream.set(Behaviour { answer_bytes: Some(300_000), ..Behaviour::failing(fault) });
    let request = gateway.request("/v1/audio/speech", r#"{"model":"m","input":"hi","voice":"v"}"#);
    let response = gateway.send(request).await;
    assert!(http_body_util::BodyExt::collect(response.into_body()).await.is_err(), "the connection breaks");
    let record = gateway.finish_with_one_record().await;
    assert_eq!((record.status, record.ended_by), (200, EndedBy::Upstream));
    assert_eq!((record.usage_source, record.tokens.output_tokens), (UsageSource::Estimated, None), "no text tells it");
    assert!(record.tokens.input_tokens.is_some_and(|tokens| tokens > 0), "{:?}", record.tokens);
}

#[tokio::test]
async fn a_transcription_that_breaks_off_is_estimated_by_what_was_written() {
    let gateway = with_every_vendor().await;
    gateway.upstream.set(Behaviour::failing(Fault::Truncate { after_events: Some(4), after_bytes: None }));
    let request = form(&gateway, "/v1/audio/transcriptions", &[("model", "m"), ("stream", "true")]);
    let answer = gateway.call(request).await;
    assert!(answer.text().contains("\"error\""), "{}", answer.text());
    let record = gateway.finish_with_one_record().await;
    assert_eq!((record.ended_by, record.usage_source), (EndedBy::Upstream, UsageSource::Estimated), "{record:?}");
    let TokenUsage { input_tokens, output_tokens, .. } = record.tokens;
    assert!(input_tokens >= Some(1_000) && output_tokens > Some(0) && output_tokens < Some(16), "{:?}", record.tokens);
}
