//! Gemini generateContent: the plain answer, the stream as SSE or as a JSON array, and the token count.

use bytes::Bytes;

use super::answer::Job;
use super::body::Event;

/// Puts objects into the frames of a stream.
struct Framed {
    events: Vec<Event>,
    sse: bool,
}

/// The plain answer.
pub(super) fn whole(job: &Job<'_>) -> Bytes {
    let tail = tail(job, job.visible_output(), true);
    match function_call(job) {
        Some(part) => [OBJECT_HEAD, &part, &tail].concat().into(),
        None => job.whole(&format!(r#"{OBJECT_HEAD}{{"text":""#), &format!(r#""}}{tail}"#)),
    }
}

/// The stream: one object per token with the usage so far, a last one with the finish reason, `]` in the array form.
pub(super) fn events(job: &Job<'_>) -> Vec<Event> {
    let mut stream = Framed { events: Vec::with_capacity(job.plan.behaviour.tokens as usize + 2), sse: job.sse };
    if let Some(part) = function_call(job) {
        let (before, after) = stream.frame();
        let text = [&before, OBJECT_HEAD, &part, &tail(job, job.visible_output(), false), after].concat();
        stream.events.push(Event::token(text));
    } else {
        for sent in 1..=job.visible_output() {
            let (before, after) = stream.frame();
            let before = format!(r#"{before}{OBJECT_HEAD}{{"text":""#);
            stream.events.push(job.token_event(&before, &format!(r#""}}{}{after}"#, tail(job, sent, false))));
        }
    }
    let (before, after) = stream.frame();
    let last = [&before, OBJECT_HEAD, r#"{"text":""}"#, &tail(job, job.visible_output(), true), after].concat();
    stream.events.push(Event::plain(last));
    if !job.sse {
        stream.events.push(Event::plain("]"));
    }
    stream.events
}

/// The answer of `countTokens`.
pub(super) fn count(job: &Job<'_>) -> Bytes {
    let tokens = job.usage.input;
    format!(r#"{{"totalTokens":{tokens},"promptTokensDetails":[{{"modality":"TEXT","tokenCount":{tokens}}}]}}"#).into()
}

impl Framed {
    fn frame(&self) -> (String, &'static str) {
        match (self.sse, self.events.is_empty()) {
            (true, _) => ("data: ".to_owned(), "\r\n\r\n"),
            (false, true) => ("[".to_owned(), ""),
            (false, false) => (",\r\n".to_owned(), ""),
        }
    }
}

impl Job<'_> {
    /// Output outside the reasoning: Gemini counts the two apart.
    fn visible_output(&self) -> u64 {
        self.usage.output - self.usage.reasoning
    }
}

/// An answer object up to its one part.
const OBJECT_HEAD: &str = r#"{"candidates":[{"content":{"parts":["#;

/// An answer object after its part.
fn tail(job: &Job<'_>, candidate_tokens: u64, finished: bool) -> String {
    let usage = &job.usage;
    let optional = |name: &str, tokens: u64| if tokens > 0 { format!(r#","{name}":{tokens}"#) } else { String::new() };
    format!(
        r#"],"role":"model"}}{},"index":0}}],"usageMetadata":{{"promptTokenCount":{input},"candidatesTokenCount":{candidate_tokens},"totalTokenCount":{}{}{},"promptTokensDetails":[{{"modality":"TEXT","tokenCount":{input}}}]}},"modelVersion":{},"responseId":"{}"}}"#,
        if finished { r#","finishReason":"STOP""# } else { "" },
        usage.input + candidate_tokens + usage.reasoning,
        optional("cachedContentTokenCount", usage.cache_read),
        optional("thoughtsTokenCount", usage.reasoning),
        job.model,
        job.id(""),
        input = usage.input,
    )
}

fn function_call(job: &Job<'_>) -> Option<String> {
    let call = job.tool_call.as_ref()?;
    Some(format!(r#"{{"functionCall":{{"name":{},"args":{}}}}}"#, call.name, call.arguments))
}
