//! Says a reply in Anthropic Messages.

use serde_json::{Value, json};

use super::super::answer::Job;
use super::signature::sign;
use super::{End, Reply, VENDOR_ANTHROPIC, call_id, model, pieces};

pub(super) fn whole(job: &Job<'_>, reply: &Reply) -> Value {
    let (reason, sequence) = stop(&reply.end);
    message(job, &json!(blocks(job, reply)), reason, sequence, &usage(reply, reply.usage().output))
}

pub(super) fn events(job: &Job<'_>, reply: &Reply) -> Vec<String> {
    let start = message(job, &json!([]), Value::Null, Value::Null, &usage(reply, 1));
    let mut events = vec![event(json!({"type": "message_start", "message": start}))];
    for (index, block) in blocks(job, reply).iter().enumerate() {
        let (empty, deltas) = cut(block);
        events.push(event(json!({"type": "content_block_start", "index": index, "content_block": empty})));
        if index == 0 {
            events.push(event(json!({"type": "ping"})));
        }
        let delta = |delta: &Value| event(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        events.extend(deltas.iter().map(delta));
        events.push(event(json!({"type": "content_block_stop", "index": index})));
    }
    let (reason, sequence) = stop(&reply.end);
    let mut told = usage(reply, reply.usage().output);
    told.as_object_mut()
        .into_iter()
        .for_each(|told| told.retain(|key, _| key != "cache_creation" && key != "service_tier"));
    let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
    events.push(event(json!({"type": "message_delta", "delta": delta, "usage": told})));
    events.push(event(json!({"type": "message_stop"})));
    events
}

fn event(event: Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())
}

/// A block as it begins, and the deltas that fill it.
fn cut(block: &Value) -> (Value, Vec<Value>) {
    let text = |key: &str| block[key].as_str().unwrap_or_default();
    let mut empty = block.clone();
    match text("type") {
        "text" => {
            empty["text"] = json!("");
            let delta = |piece: &String| json!({"type": "text_delta", "text": piece});
            (empty, pieces(text("text")).iter().map(delta).collect())
        }
        "thinking" => {
            (empty["thinking"], empty["signature"]) = (json!(""), json!(""));
            let delta = |piece: &String| json!({"type": "thinking_delta", "thinking": piece});
            let mut deltas: Vec<_> = pieces(text("thinking")).iter().map(delta).collect();
            deltas.push(json!({"type": "signature_delta", "signature": text("signature")}));
            (empty, deltas)
        }
        _ => {
            empty["input"] = json!({});
            let delta = |piece: &String| json!({"type": "input_json_delta", "partial_json": piece});
            // The first delta of a tool is empty on the real wire too.
            let mut deltas = vec![delta(&String::new())];
            deltas.extend(pieces(&block["input"].to_string()).iter().map(delta));
            (empty, deltas)
        }
    }
}

fn blocks(job: &Job<'_>, reply: &Reply) -> Vec<Value> {
    let mut blocks = Vec::new();
    if let Some(thoughts) = &reply.thoughts {
        let signature = sign(VENDOR_ANTHROPIC, &thoughts.shown);
        blocks.push(json!({"type": "thinking", "thinking": thoughts.shown, "signature": signature}));
    }
    if !reply.text.is_empty() {
        blocks.push(json!({"type": "text", "text": reply.text}));
    }
    blocks.extend(reply.calls.iter().enumerate().map(|(number, call)| {
        json!({
            "type": "tool_use", "id": call_id(job, "toolu_", number), "name": call.name, "input": call.arguments,
        })
    }));
    blocks
}

fn message(job: &Job<'_>, content: &Value, reason: Value, sequence: Value, usage: &Value) -> Value {
    json!({
        "id": job.id("msg_"), "type": "message", "role": "assistant", "model": model(job), "content": content,
        "stop_reason": reason, "stop_sequence": sequence, "usage": usage,
    })
}

fn stop(end: &End) -> (Value, Value) {
    match end {
        End::Stop => (json!("end_turn"), Value::Null),
        End::StopSequence(sequence) => (json!("stop_sequence"), json!(sequence)),
        End::Calls => (json!("tool_use"), Value::Null),
        End::Length => (json!("max_tokens"), Value::Null),
    }
}

fn usage(reply: &Reply, output: u64) -> Value {
    let usage = reply.usage();
    let mut told = json!({
        "input_tokens": usage.input - usage.cache_read - usage.cache_write,
        "cache_creation_input_tokens": usage.cache_write, "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {"ephemeral_5m_input_tokens": usage.cache_write, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output, "service_tier": "standard",
    });
    if usage.reasoning > 0 {
        told["output_tokens_details"] = json!({"thinking_tokens": usage.reasoning});
    }
    told
}
