//! OpenAI Chat Completions: the plain answer and the stream of chunks.

use bytes::Bytes;

use super::answer::{Job, Usage};
use super::body::Event;

/// The plain answer.
pub(super) fn whole(job: &Job<'_>) -> Bytes {
    let head = format!(
        r#"{{"id":"{}","object":"chat.completion","created":{},"model":{},"choices":[{{"index":0,"message":{{"role":"assistant","#,
        job.id("chatcmpl-"),
        job.created_at,
        job.model,
    );
    let tail = |finish_reason: &str| {
        format!(
            r#","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"{finish_reason}"}}],"usage":{},"service_tier":"default","system_fingerprint":"fp_sim"}}"#,
            usage(&job.usage),
        )
    };
    let Some(call) = &job.tool_call else {
        return job.whole(&format!(r#"{head}"content":""#), &format!(r#""{}"#, tail("stop")));
    };
    let arguments = super::answer::json_string(&call.arguments);
    let calls = format!(
        r#""content":null,"tool_calls":[{{"id":"{}","type":"function","function":{{"name":{},"arguments":{arguments}}}}}]"#,
        job.id("call_"),
        call.name,
    );
    [head, calls, tail("tool_calls")].concat().into()
}

/// The stream: role, deltas, finish, usage if asked for, `[DONE]`.
pub(super) fn events(job: &Job<'_>) -> Vec<Event> {
    let start = format!(
        r#"data: {{"id":"{}","object":"chat.completion.chunk","created":{},"model":{},"service_tier":"default","system_fingerprint":"fp_sim","#,
        job.id("chatcmpl-"),
        job.created_at,
        job.model,
    );
    let no_usage = if job.include_usage { r#","usage":null"# } else { "" };
    let before_delta = format!(r#"{start}"choices":[{{"index":0,"delta":"#);
    let after_delta =
        |finish_reason: &str| format!(r#","logprobs":null,"finish_reason":{finish_reason}}}]{no_usage}}}{}"#, "\n\n");
    let chunk = |delta: &str, finish_reason: &str| [&before_delta, delta, &after_delta(finish_reason)].concat();

    let mut events = Vec::with_capacity(job.plan.behaviour.tokens as usize + 4);
    if let Some(call) = &job.tool_call {
        let first = format!(
            r#"{{"role":"assistant","content":null,"tool_calls":[{{"index":0,"id":"{}","type":"function","function":{{"name":{},"arguments":""}}}}],"refusal":null}}"#,
            job.id("call_"),
            call.name,
        );
        events.push(Event::plain(chunk(&first, "null")));
        for fragment in call.fragments() {
            let delta = format!(r#"{{"tool_calls":[{{"index":0,"function":{{"arguments":{fragment}}}}}]}}"#);
            events.push(Event::token(chunk(&delta, "null")));
        }
        events.push(Event::plain(chunk("{}", r#""tool_calls""#)));
    } else {
        events.push(Event::plain(chunk(r#"{"role":"assistant","content":"","refusal":null}"#, "null")));
        let before = format!(r#"{before_delta}{{"content":""#);
        let token = job.token_event(&before, &format!(r#""}}{}"#, after_delta("null")));
        events.extend(std::iter::repeat_n(token, job.plan.behaviour.visible_tokens() as usize));
        events.push(Event::plain(chunk("{}", r#""stop""#)));
    }
    if job.include_usage {
        events.push(Event::plain(format!("{start}\"choices\":[],\"usage\":{}}}\n\n", usage(&job.usage))));
    }
    events.push(Event::plain("data: [DONE]\n\n"));
    events
}

fn usage(usage: &Usage) -> String {
    let cache_write =
        if usage.cache_write > 0 { format!(r#","cache_write_tokens":{}"#, usage.cache_write) } else { String::new() };
    format!(
        r#"{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":{},"audio_tokens":0{cache_write}}},"completion_tokens_details":{{"reasoning_tokens":{},"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#,
        usage.input,
        usage.output,
        usage.input + usage.output,
        usage.cache_read,
        usage.reasoning,
    )
}
