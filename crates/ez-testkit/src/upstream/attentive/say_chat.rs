//! Says a reply in OpenAI Chat Completions.

use serde_json::{Value, json};

use super::super::answer::Job;
use super::{End, Reply, SaidCall, call_id, model, pieces};

pub(super) fn whole(job: &Job<'_>, reply: &Reply) -> Value {
    let calls = reply.calls.iter().enumerate().map(|(number, call)| tool_call(job, number, call));
    let mut message = json!({"role": "assistant", "content": null, "refusal": null, "annotations": []});
    if reply.calls.is_empty() {
        message["content"] = json!(reply.text);
    } else {
        message["tool_calls"] = calls.collect();
    }
    if let Some(shown) = shown(reply) {
        message["reasoning_content"] = json!(shown);
    }
    let choices = (0..reply.choices).map(|index| {
        json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish_reason(&reply.end)})
    });
    json!({
        "id": job.id("chatcmpl-"), "object": "chat.completion", "created": job.created_at, "model": model(job),
        "choices": choices.collect::<Vec<_>>(), "usage": usage(reply), "service_tier": "default",
        "system_fingerprint": "fp_sim",
    })
}

pub(super) fn events(job: &Job<'_>, reply: &Reply) -> Vec<String> {
    let mut deltas = vec![json!({"role": "assistant", "content": "", "refusal": null})];
    deltas.extend(pieces(shown(reply).unwrap_or_default()).iter().map(|piece| json!({"reasoning_content": piece})));
    deltas.extend(pieces(&reply.text).iter().map(|piece| json!({"content": piece})));
    for (number, call) in reply.calls.iter().enumerate() {
        let (mut first, kind, input) = (tool_call(job, number, call), kind(call), input_key(call));
        let arguments = first[kind][input].as_str().unwrap_or_default().to_owned();
        first[kind][input] = json!("");
        first["index"] = json!(number);
        deltas.push(json!({"tool_calls": [first]}));
        let fragment = |piece: &String| json!({"tool_calls": [{"index": number, kind: {input: piece}}]});
        deltas.extend(pieces(&arguments).iter().map(fragment));
    }
    let mut choices: Vec<Value> = deltas.into_iter().map(|delta| choice(delta, Value::Null)).collect();
    choices.push(choice(json!({}), json!(finish_reason(&reply.end))));
    let mut events: Vec<String> = choices.into_iter().map(|choice| chunk(job, json!([choice]), &Value::Null)).collect();
    if job.include_usage {
        events.push(chunk(job, json!([]), &usage(reply)));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn choice(delta: Value, finish_reason: Value) -> Value {
    json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason})
}

fn chunk(job: &Job<'_>, choices: Value, usage: &Value) -> String {
    let mut chunk = json!({
        "id": job.id("chatcmpl-"), "object": "chat.completion.chunk", "created": job.created_at, "model": model(job),
        "service_tier": "default", "system_fingerprint": "fp_sim", "choices": choices,
    });
    if job.include_usage {
        chunk["usage"] = usage.clone();
    }
    format!("data: {chunk}\n\n")
}

fn tool_call(job: &Job<'_>, number: usize, call: &SaidCall) -> Value {
    let id = call_id(job, "call_", number);
    json!({"id": id, "type": kind(call), kind(call): {"name": call.name, input_key(call): call.input()}})
}

fn kind(call: &SaidCall) -> &'static str {
    if call.arguments.is_string() { "custom" } else { "function" }
}

fn input_key(call: &SaidCall) -> &'static str {
    if call.arguments.is_string() { "input" } else { "arguments" }
}

fn shown(reply: &Reply) -> Option<&str> {
    reply.thoughts.as_ref().map(|thoughts| thoughts.shown.as_str()).filter(|shown| !shown.is_empty())
}

fn finish_reason(end: &End) -> &'static str {
    match end {
        End::Stop | End::StopSequence(_) => "stop",
        End::Calls => "tool_calls",
        End::Length => "length",
    }
}

fn usage(reply: &Reply) -> Value {
    let usage = reply.usage();
    json!({
        "prompt_tokens": usage.input, "completion_tokens": usage.output, "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read, "audio_tokens": 0, "cache_write_tokens": usage.cache_write,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning, "audio_tokens": 0, "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}
