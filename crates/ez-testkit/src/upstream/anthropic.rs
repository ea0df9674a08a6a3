//! Anthropic Messages: the plain answer, the stream of named events and the token count.

use bytes::Bytes;

use super::answer::Job;
use super::body::Event;

/// The plain answer.
pub(super) fn whole(job: &Job<'_>) -> Bytes {
    let head = message_head(job);
    let usage = usage(job, job.usage.output);
    let tail = |stop_reason: &str| format!(r#"],"stop_reason":"{stop_reason}","stop_sequence":null,"usage":{usage}}}"#);
    match &job.tool_call {
        Some(call) => {
            let block = format!(
                r#"{{"type":"tool_use","id":"{}","name":{},"input":{}}}"#,
                job.id("toolu_"),
                call.name,
                call.arguments
            );
            [head, block, tail("tool_use")].concat().into()
        }
        None => job.whole(&format!(r#"{head}{{"type":"text","text":""#), &format!(r#""}}{}"#, tail("end_turn"))),
    }
}

/// The stream: message_start, one block with its deltas (and a ping after its start), message_delta, message_stop.
pub(super) fn events(job: &Job<'_>) -> Vec<Event> {
    let mut events = Vec::with_capacity(job.plan.behaviour.tokens as usize + 8);
    let mut push = |kind: &str, fields: &str| events.push(Event::plain(event(kind, fields)));
    let start =
        format!(r#"{}],"stop_reason":null,"stop_sequence":null,"usage":{}}}"#, message_head(job), usage(job, 1));
    let block = match &job.tool_call {
        Some(call) => format!(r#"{{"type":"tool_use","id":"{}","name":{},"input":{{}}}}"#, job.id("toolu_"), call.name),
        None => r#"{"type":"text","text":""}"#.to_owned(),
    };
    push("message_start", &format!(r#","message":{start}"#));
    push("content_block_start", &format!(r#","index":0,"content_block":{block}"#));
    push("ping", "");
    if let Some(call) = &job.tool_call {
        let delta = |fragment: &str| {
            event(
                "content_block_delta",
                &format!(r#","index":0,"delta":{{"type":"input_json_delta","partial_json":{fragment}}}"#),
            )
        };
        // The first delta of a tool is empty on the real wire too.
        events.push(Event::plain(delta(r#""""#)));
        events.extend(call.fragments().iter().map(|fragment| Event::token(delta(fragment))));
    } else {
        let before = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"";
        let token = job.token_event(before, "\"}}\n\n");
        events.extend(std::iter::repeat_n(token, job.plan.behaviour.visible_tokens() as usize));
    }
    let mut push = |kind: &str, fields: &str| events.push(Event::plain(event(kind, fields)));
    let stop_reason = if job.tool_call.is_some() { "tool_use" } else { "end_turn" };
    push("content_block_stop", r#","index":0"#);
    push(
        "message_delta",
        &format!(r#","delta":{{"stop_reason":"{stop_reason}","stop_sequence":null}},"usage":{}"#, final_usage(job)),
    );
    push("message_stop", "");
    events
}

/// The answer of `count_tokens`.
pub(super) fn count(job: &Job<'_>) -> Bytes {
    format!(r#"{{"input_tokens":{}}}"#, job.usage.input).into()
}

fn event(kind: &str, fields: &str) -> String {
    format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{fields}}}\n\n")
}

/// The message object up to the blocks of `content`.
fn message_head(job: &Job<'_>) -> String {
    format!(r#"{{"id":"{}","type":"message","role":"assistant","model":{},"content":["#, job.id("msg_"), job.model)
}

fn usage(job: &Job<'_>, output: u64) -> String {
    let (input, write, read) = input_counts(job);
    format!(
        r#"{{"input_tokens":{input},"cache_creation_input_tokens":{write},"cache_read_input_tokens":{read},"cache_creation":{{"ephemeral_5m_input_tokens":{write},"ephemeral_1h_input_tokens":0}},"output_tokens":{output}{},"service_tier":"standard"}}"#,
        thinking(job),
    )
}

/// The cumulative usage of `message_delta`.
fn final_usage(job: &Job<'_>) -> String {
    let (input, write, read) = input_counts(job);
    format!(
        r#"{{"input_tokens":{input},"cache_creation_input_tokens":{write},"cache_read_input_tokens":{read},"output_tokens":{}{}}}"#,
        job.usage.output,
        thinking(job),
    )
}

/// Input outside the cache, written to it, read from it: Anthropic counts them apart.
fn input_counts(job: &Job<'_>) -> (u64, u64, u64) {
    let usage = &job.usage;
    (usage.input - usage.cache_read - usage.cache_write, usage.cache_write, usage.cache_read)
}

fn thinking(job: &Job<'_>) -> String {
    match job.usage.reasoning {
        0 => String::new(),
        tokens => format!(r#","output_tokens_details":{{"thinking_tokens":{tokens}}}"#),
    }
}
