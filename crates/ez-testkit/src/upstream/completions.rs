//! OpenAI Completions, the endpoint before chat: the plain answer and the stream of chunks.

use bytes::Bytes;

use super::answer::Job;
use super::body::Event;

/// The plain answer.
pub(super) fn whole(job: &Job<'_>) -> Bytes {
    let before = format!(r#"{},"choices":[{{"text":""#, head(job));
    let after = format!(r#"","index":0,"logprobs":null,"finish_reason":"stop"}}],"usage":{}}}"#, usage(job));
    job.whole(&before, &after)
}

/// The stream: deltas, finish, usage if asked for, `[DONE]`.
pub(super) fn events(job: &Job<'_>) -> Vec<Event> {
    let head = head(job);
    let before = format!(r#"data: {head},"choices":[{{"text":""#);
    let after = |finish_reason: &str| {
        format!("\",\"index\":0,\"logprobs\":null,\"finish_reason\":{finish_reason}}}],\"usage\":null}}\n\n")
    };
    let token = job.token_event(&before, &after("null"));
    let mut events = vec![token; job.plan.behaviour.visible_tokens() as usize];
    events.push(Event::plain(format!("{before}{}", after(r#""stop""#))));
    if job.include_usage {
        events.push(Event::plain(format!("data: {head},\"choices\":[],\"usage\":{}}}\n\n", usage(job))));
    }
    events.push(Event::plain("data: [DONE]\n\n"));
    events
}

fn head(job: &Job<'_>) -> String {
    format!(
        r#"{{"id":"{}","object":"text_completion","created":{},"model":{}"#,
        job.id("cmpl-"),
        job.created_at,
        job.model
    )
}

fn usage(job: &Job<'_>) -> String {
    let (input, output) = (job.usage.input, job.usage.output);
    format!(r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}"#, input + output)
}
