//! Says a reply in Gemini's generateContent.

use serde_json::{Value, json};

use super::super::answer::Job;
use super::signature::sign;
use super::{End, Reply, VENDOR_GEMINI, model, pieces};

pub(super) fn whole(job: &Job<'_>, reply: &Reply) -> Value {
    let mut parts = thoughts(reply).map(|text| vec![json!({"thought": true, "text": text})]).unwrap_or_default();
    if reply.calls.is_empty() {
        let mut part = json!({"text": reply.text});
        if let Some(signature) = signature(reply) {
            part["thoughtSignature"] = json!(signature);
        }
        parts.push(part);
    }
    parts.extend(calls(reply));
    let candidates = (0..reply.choices).map(|index| {
        json!({
            "content": {"parts": parts, "role": "model"}, "finishReason": finish_reason(&reply.end), "index": index,
        })
    });
    object(job, json!(candidates.collect::<Vec<_>>()), &usage(reply))
}

pub(super) fn events(job: &Job<'_>, reply: &Reply) -> Vec<String> {
    let text = |text: &String| json!({"text": text});
    let mut parts: Vec<Value> = Vec::new();
    let shown = pieces(thoughts(reply).unwrap_or_default());
    parts.extend(shown.iter().map(|text| json!({"thought": true, "text": text})));
    parts.extend(pieces(&reply.text).iter().map(text));
    parts.extend(calls(reply));
    let mut chunks: Vec<Value> = parts
        .into_iter()
        .map(|part| {
            let candidate = json!({"content": {"parts": [part], "role": "model"}, "index": 0});
            object(job, json!([candidate]), &usage(reply))
        })
        .collect();
    // The newest models say why they ended behind their calls, and sign texts in a part without words.
    let mut last = json!({"text": ""});
    if let Some(signature) = signature(reply).filter(|_| reply.calls.is_empty()) {
        last["thoughtSignature"] = json!(signature);
    }
    let candidate = json!({
        "content": {"parts": [last], "role": "model"}, "finishReason": finish_reason(&reply.end), "index": 0,
    });
    chunks.push(object(job, json!([candidate]), &usage(reply)));
    if job.sse {
        return chunks.iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect();
    }
    let elements = chunks.iter().enumerate();
    let mut events: Vec<String> =
        elements.map(|(index, chunk)| format!("{}{chunk}", if index == 0 { "[" } else { ",\r\n" })).collect();
    events.push("]".to_owned());
    events
}

/// Of parallel calls the first alone is signed. None has an id.
fn calls(reply: &Reply) -> Vec<Value> {
    let mut parts: Vec<Value> =
        reply.calls.iter().map(|call| json!({"functionCall": {"name": call.name, "args": call.arguments}})).collect();
    if let (Some(first), Some(signature)) = (parts.first_mut(), signature(reply)) {
        first["thoughtSignature"] = json!(signature);
    }
    parts
}

fn thoughts(reply: &Reply) -> Option<&str> {
    reply.thoughts.as_ref().map(|thoughts| thoughts.shown.as_str()).filter(|shown| !shown.is_empty())
}

fn signature(reply: &Reply) -> Option<String> {
    reply.thoughts.as_ref().map(|_| {
        let what = reply.calls.first().map_or(reply.text.as_str(), |call| call.name.as_str());
        sign(VENDOR_GEMINI, what)
    })
}

fn object(job: &Job<'_>, candidates: Value, usage: &Value) -> Value {
    json!({"candidates": candidates, "usageMetadata": usage, "modelVersion": model(job), "responseId": job.id("")})
}

fn finish_reason(end: &End) -> &'static str {
    if *end == End::Length { "MAX_TOKENS" } else { "STOP" }
}

fn usage(reply: &Reply) -> Value {
    let usage = reply.usage();
    let mut told = json!({
        "promptTokenCount": usage.input, "candidatesTokenCount": usage.output - usage.reasoning,
        "totalTokenCount": usage.input + usage.output, "cachedContentTokenCount": usage.cache_read,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.input}],
    });
    if usage.reasoning > 0 {
        told["thoughtsTokenCount"] = json!(usage.reasoning);
    }
    told
}
