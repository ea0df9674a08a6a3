//! Embeddings of OpenAI and Gemini: deterministic vectors, one per input.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::Job;
use super::request::Ask;

/// The answer: floats, or base64 of little-endian `f32` if the request says so.
pub(super) fn whole(job: &Job<'_>, ask: &Ask<'_>, dimensions: u32) -> Bytes {
    let in_base64 = ask.encoding_format.as_deref() == Some("base64");
    let data: Vec<Value> = (0..inputs(ask))
        .map(|index| {
            let numbers = vector(index, dimensions);
            let embedding = if in_base64 {
                let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
                json!(STANDARD.encode(bytes))
            } else {
                json!(numbers)
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let data = Value::from(data);
    let tokens = job.usage.input;
    format!(
        r#"{{"object":"list","data":{data},"model":{},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#,
        job.model
    )
    .into()
}

/// The answer of Gemini's `embedContent`.
pub(super) fn gemini(dimensions: u32) -> Bytes {
    json!({"embedding": {"values": vector(0, dimensions)}}).to_string().into()
}

/// The answer of Gemini's `batchEmbedContents`.
pub(super) fn gemini_batch(ask: &Ask<'_>, default: u32) -> Bytes {
    let requests = ask.requests.iter().flatten().enumerate();
    let embeddings: Vec<Value> = requests
        .map(|(index, request)| json!({"values": vector(index, request.output_dimensionality.unwrap_or(default))}))
        .collect();
    json!({ "embeddings": embeddings }).to_string().into()
}

/// Inputs of a request: the items of an array, but a text or an array of token numbers is one input.
fn inputs(ask: &Ask<'_>) -> usize {
    let input = ask.input.map_or(Value::Null, |input| serde_json::from_str(input.get()).unwrap_or(Value::Null));
    match input {
        Value::Array(items) if !items.first().is_some_and(Value::is_number) => items.len(),
        _ => 1,
    }
}

/// Numbers that are exact in `f32` and in short decimals, different per input.
fn vector(index: usize, dimensions: u32) -> Vec<f32> {
    (0..dimensions).map(|position| ((index as u32 + position) % 16) as f32 / 16.0).collect()
}
