//! Says a reply in OpenAI Responses.

use serde_json::{Value, json};

use super::super::answer::Job;
use super::signature::sign;
use super::{End, Reply, SaidCall, VENDOR_RESPONSES, call_id, model, pieces};

/// Writes events with rising sequence numbers.
#[derive(Default)]
struct Numbered {
    events: Vec<String>,
}

impl Numbered {
    fn push(&mut self, kind: &str, mut event: Value) {
        event["type"] = json!(kind);
        event["sequence_number"] = json!(self.events.len());
        self.events.push(format!("event: {kind}\ndata: {event}\n\n"));
    }
}

pub(super) fn whole(job: &Job<'_>, reply: &Reply) -> Value {
    response(job, reply, &items(job, reply), true)
}

pub(super) fn events(job: &Job<'_>, reply: &Reply) -> Vec<String> {
    let mut stream = Numbered::default();
    let started = response(job, reply, &[], false);
    stream.push("response.created", json!({"response": started}));
    stream.push("response.in_progress", json!({"response": started}));
    let items = items(job, reply);
    for (index, item) in items.iter().enumerate() {
        let mut empty = item.clone();
        for key in ["content", "summary", "arguments", "input", "status"] {
            match (key, empty.get_mut(key)) {
                ("status", Some(status)) => *status = json!("in_progress"),
                (_, Some(Value::String(text))) => text.clear(),
                (_, Some(Value::Array(parts))) => parts.clear(),
                _ => {}
            }
        }
        stream.push("response.output_item.added", json!({"output_index": index, "item": empty}));
        parts(&mut stream, index, item);
        stream.push("response.output_item.done", json!({"output_index": index, "item": item}));
    }
    let kind = if reply.end == End::Length { "response.incomplete" } else { "response.completed" };
    stream.push(kind, json!({"response": response(job, reply, &items, true)}));
    stream.events
}

/// The events of an item between its beginning and its end.
fn parts(stream: &mut Numbered, index: usize, item: &Value) {
    let place = |more: Value| {
        let mut place = json!({"item_id": item["id"], "output_index": index});
        place.as_object_mut().into_iter().for_each(|place| place.extend(more.as_object().cloned().unwrap_or_default()));
        place
    };
    match item["type"].as_str() {
        Some("message") => {
            let part = &item["content"][0];
            let text = part["text"].as_str().unwrap_or_default();
            let mut empty = part.clone();
            empty["text"] = json!("");
            stream.push("response.content_part.added", place(json!({"content_index": 0, "part": empty})));
            for piece in pieces(text) {
                let delta = json!({"content_index": 0, "logprobs": [], "delta": piece, "obfuscation": "x1Y"});
                stream.push("response.output_text.delta", place(delta));
            }
            stream.push("response.output_text.done", place(json!({"content_index": 0, "logprobs": [], "text": text})));
            stream.push("response.content_part.done", place(json!({"content_index": 0, "part": part})));
        }
        Some("reasoning") => {
            for (number, part) in item["summary"].as_array().into_iter().flatten().enumerate() {
                let text = part["text"].as_str().unwrap_or_default();
                let at = |more: Value| {
                    let mut at = place(more);
                    at["summary_index"] = json!(number);
                    at
                };
                let empty = json!({"type": "summary_text", "text": ""});
                stream.push("response.reasoning_summary_part.added", at(json!({"part": empty})));
                for piece in pieces(text) {
                    stream.push("response.reasoning_summary_text.delta", at(json!({"delta": piece})));
                }
                stream.push("response.reasoning_summary_text.done", at(json!({"text": text})));
                stream.push("response.reasoning_summary_part.done", at(json!({"part": part})));
            }
        }
        Some(kind) => {
            let (key, event) = if kind == "function_call" {
                ("arguments", "function_call_arguments")
            } else {
                ("input", "custom_tool_call_input")
            };
            let text = item[key].as_str().unwrap_or_default();
            for piece in pieces(text) {
                stream.push(&format!("response.{event}.delta"), place(json!({"delta": piece})));
            }
            stream.push(&format!("response.{event}.done"), place(json!({key: text, "name": item["name"]})));
        }
        None => {}
    }
}

fn items(job: &Job<'_>, reply: &Reply) -> Vec<Value> {
    let mut items = Vec::new();
    if let Some(thoughts) = &reply.thoughts {
        let shown = Some(&thoughts.shown).filter(|shown| !shown.is_empty());
        let summary: Vec<_> = shown.iter().map(|text| json!({"type": "summary_text", "text": text})).collect();
        let mut item = json!({"id": job.id("rs_"), "type": "reasoning", "summary": summary});
        if thoughts.is_hidden_form {
            item["encrypted_content"] = json!(sign(VENDOR_RESPONSES, &job.id("rs_")));
        }
        items.push(item);
    }
    if reply.calls.is_empty() {
        let part = json!({"type": "output_text", "annotations": [], "logprobs": [], "text": reply.text});
        let status = if reply.end == End::Length { "incomplete" } else { "completed" };
        items.push(
            json!({"id": job.id("msg_"), "type": "message", "status": status, "role": "assistant", "content": [part]}),
        );
    }
    items.extend(reply.calls.iter().enumerate().map(|(number, call)| call_item(job, number, call)));
    items
}

fn call_item(job: &Job<'_>, number: usize, call: &SaidCall) -> Value {
    let (kind, key, prefix) = match call.arguments.is_string() {
        false => ("function_call", "arguments", "fc_"),
        true => ("custom_tool_call", "input", "ctc_"),
    };
    json!({
        "id": call_id(job, prefix, number), "type": kind, "status": "completed", key: call.input(),
        "call_id": call_id(job, "call_", number), "name": call.name,
    })
}

fn response(job: &Job<'_>, reply: &Reply, items: &[Value], is_finished: bool) -> Value {
    let is_cut = is_finished && reply.end == End::Length;
    let status = match (is_finished, is_cut) {
        (false, _) => "in_progress",
        (true, true) => "incomplete",
        (true, false) => "completed",
    };
    json!({
        "id": job.id("resp_"), "object": "response", "created_at": job.created_at, "status": status,
        "background": false, "error": null,
        "incomplete_details": if is_cut { json!({"reason": "max_output_tokens"}) } else { Value::Null },
        "instructions": null, "max_output_tokens": null, "model": model(job), "output": items,
        "parallel_tool_calls": true, "previous_response_id": null, "reasoning": {"effort": null, "summary": null},
        "service_tier": "default", "store": true, "temperature": 1.0, "text": {"format": {"type": "text"}},
        "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled", "user": null, "metadata": {},
        "usage": if is_finished { usage(reply) } else { Value::Null },
    })
}

fn usage(reply: &Reply) -> Value {
    let usage = reply.usage();
    json!({
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output, "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    })
}
