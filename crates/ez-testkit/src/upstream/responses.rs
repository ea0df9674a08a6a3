//! OpenAI Responses: the plain answer and the stream of numbered events.

use bytes::Bytes;

use super::answer::{Job, json_string};
use super::body::Event;

/// Writes events with rising sequence numbers.
struct Numbered {
    events: Vec<Event>,
}

/// The plain answer.
pub(super) fn whole(job: &Job<'_>) -> Bytes {
    let (head, tail) = (object_head(job, "completed"), object_tail(job, true));
    match &job.tool_call {
        Some(call) => [head, function_call(job, "completed", &call.arguments), tail].concat().into(),
        None => {
            let before = format!(r#"{head}{},"content":[{PART_HEAD}"#, message_head(job, "completed"));
            job.whole(&before, &format!(r#""}}]}}{tail}"#))
        }
    }
}

/// The stream: created, in_progress, the one item with its parts and deltas, completed.
pub(super) fn events(job: &Job<'_>) -> Vec<Event> {
    let mut stream = Numbered { events: Vec::with_capacity(job.plan.behaviour.tokens as usize + 8) };
    let started = [object_head(job, "in_progress"), object_tail(job, false)].concat();
    stream.push("response.created", &format!(r#""response":{started}"#));
    stream.push("response.in_progress", &format!(r#""response":{started}"#));
    let item =
        if job.tool_call.is_some() { function_call_events(job, &mut stream) } else { message_events(job, &mut stream) };
    let completed = [object_head(job, "completed"), item, object_tail(job, true)].concat();
    stream.push("response.completed", &format!(r#""response":{completed}"#));
    stream.events
}

impl Numbered {
    fn push(&mut self, kind: &str, fields: &str) {
        let event = self.head(kind) + fields + "}\n\n";
        self.events.push(Event::plain(event));
    }

    fn head(&self, kind: &str) -> String {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{},", self.events.len())
    }
}

/// The events of a text message; returns the finished item. Timestamps are in the deltas only.
fn message_events(job: &Job<'_>, stream: &mut Numbered) -> String {
    let text = &job.plan.text;
    let place = format!(r#""item_id":"{}","output_index":0,"content_index":0"#, job.id("msg_"));
    let empty_item = format!(r#"{},"content":[]}}"#, message_head(job, "in_progress"));
    let part = format!(r#"{PART_HEAD}{text}"}}"#);
    let item = format!(r#"{},"content":[{part}]}}"#, message_head(job, "completed"));

    stream.push("response.output_item.added", &format!(r#""output_index":0,"item":{empty_item}"#));
    stream.push("response.content_part.added", &format!(r#"{place},"part":{PART_HEAD}"}}"#));
    for _ in 0..job.plan.behaviour.visible_tokens() {
        let before = format!(r#"{}{place},"logprobs":[],"delta":""#, stream.head("response.output_text.delta"));
        stream.events.push(job.token_event(&before, "\"}\n\n"));
    }
    stream.push("response.output_text.done", &format!(r#"{place},"logprobs":[],"text":"{text}""#));
    stream.push("response.content_part.done", &format!(r#"{place},"part":{part}"#));
    stream.push("response.output_item.done", &format!(r#""output_index":0,"item":{item}"#));
    item
}

/// The events of a function call; returns the finished item.
fn function_call_events(job: &Job<'_>, stream: &mut Numbered) -> String {
    let Some(call) = &job.tool_call else { return String::new() };
    let place = format!(r#""item_id":"{}","output_index":0"#, job.id("fc_"));
    let item = function_call(job, "completed", &call.arguments);
    let empty_item = function_call(job, "in_progress", "");
    stream.push("response.output_item.added", &format!(r#""output_index":0,"item":{empty_item}"#));
    for fragment in call.fragments() {
        let head = stream.head("response.function_call_arguments.delta");
        stream.events.push(Event::token(format!("{head}{place},\"delta\":{fragment}}}\n\n")));
    }
    let arguments = json_string(&call.arguments);
    stream.push("response.function_call_arguments.done", &format!(r#"{place},"arguments":{arguments}"#));
    stream.push("response.output_item.done", &format!(r#""output_index":0,"item":{item}"#));
    item
}

/// A text part up to its text.
const PART_HEAD: &str = r#"{"type":"output_text","annotations":[],"logprobs":[],"text":""#;

fn message_head(job: &Job<'_>, status: &str) -> String {
    format!(r#"{{"id":"{}","type":"message","status":"{status}","role":"assistant""#, job.id("msg_"))
}

fn function_call(job: &Job<'_>, status: &str, arguments: &str) -> String {
    let name = job.tool_call.as_ref().map_or("null", |call| call.name.as_str());
    format!(
        r#"{{"id":"{}","type":"function_call","status":"{status}","arguments":{},"call_id":"{}","name":{name}}}"#,
        job.id("fc_"),
        json_string(arguments),
        job.id("call_"),
    )
}

/// The response object up to the items of `output`.
fn object_head(job: &Job<'_>, status: &str) -> String {
    format!(
        r#"{{"id":"{}","object":"response","created_at":{},"status":"{status}","background":false,"error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":{},"output":["#,
        job.id("resp_"),
        job.created_at,
        job.model,
    )
}

/// The response object after the items of `output`.
fn object_tail(job: &Job<'_>, finished: bool) -> String {
    let usage = &job.usage;
    let cache_write =
        if usage.cache_write > 0 { format!(r#","cache_write_tokens":{}"#, usage.cache_write) } else { String::new() };
    let usage = if finished {
        format!(
            r#"{{"input_tokens":{},"input_tokens_details":{{"cached_tokens":{}{cache_write}}},"output_tokens":{},"output_tokens_details":{{"reasoning_tokens":{}}},"total_tokens":{}}}"#,
            usage.input,
            usage.cache_read,
            usage.output,
            usage.reasoning,
            usage.input + usage.output,
        )
    } else {
        "null".to_owned()
    };
    format!(
        r#"],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{{"effort":null,"summary":null}},"service_tier":"default","store":true,"temperature":1.0,"text":{{"format":{{"type":"text"}}}},"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":{usage},"user":null,"metadata":{{}}}}"#
    )
}
