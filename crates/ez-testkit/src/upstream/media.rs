//! OpenAI images and audio: pictures and speech of made-up bytes, and the text of whatever was heard.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::answer::{Job, json_string};

/// Bytes of speech for each token of the answer.
const SPEECH_BYTES_PER_TOKEN: usize = 64;
/// What a picture begins with, and all there is of these.
const PNG_START: &[u8] = b"\x89PNG\r\n\x1a\n";

/// One picture in base64.
pub(super) fn image(job: &Job<'_>) -> Bytes {
    let (input, output) = (job.usage.input, job.usage.output);
    let before = format!(r#"{{"created":{},"data":[{{"b64_json":"{}"#, job.created_at, STANDARD.encode(PNG_START));
    let after = format!(
        r#""}}],"usage":{{"input_tokens":{input},"input_tokens_details":{{"image_tokens":0,"text_tokens":{input}}},"output_tokens":{},"total_tokens":{}}}}}"#,
        output,
        input + output,
    );
    [before, after].concat().into()
}

/// Sound that begins like MP3.
pub(super) fn speech(job: &Job<'_>) -> Bytes {
    let bare = job.plan.behaviour.tokens as usize * SPEECH_BYTES_PER_TOKEN;
    let mut sound = vec![0_u8; job.plan.behaviour.answer_bytes.unwrap_or(bare).max(2)];
    sound[..2].copy_from_slice(b"\xff\xfb");
    sound.into()
}

/// What was heard, as JSON.
pub(super) fn transcription(job: &Job<'_>) -> Bytes {
    let (text, input, output) = (&job.plan.text, job.usage.input, job.usage.output);
    format!(
        r#"{{"text":"{text}","usage":{{"type":"tokens","input_tokens":{input},"output_tokens":{output},"total_tokens":{}}}}}"#,
        input + output,
    )
    .into()
}

/// The same as plain text, which a form can ask for.
pub(super) fn transcribed_text(job: &Job<'_>) -> Bytes {
    let text: String = serde_json::from_str(&format!("\"{}\"", job.plan.text)).unwrap_or_default();
    Bytes::from(text + "\n")
}

/// The stream of a transcription: deltas, then the whole text with usage.
pub(super) fn transcription_events(job: &Job<'_>) -> Vec<super::body::Event> {
    let token = job.token_event("data: {\"type\":\"transcript.text.delta\",\"delta\":\"", "\"}\n\n");
    let mut events = vec![token; job.plan.behaviour.visible_tokens() as usize];
    let (input, output) = (job.usage.input, job.usage.output);
    let done = format!(
        "data: {{\"type\":{},\"text\":\"{}\",\"usage\":{{\"type\":\"tokens\",\"input_tokens\":{input},\"output_tokens\":{output},\"total_tokens\":{}}}}}\n\n",
        json_string("transcript.text.done"),
        job.plan.text,
        input + output,
    );
    events.push(super::body::Event::plain(done));
    events
}
