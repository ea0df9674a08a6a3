//! What answers with scores: rerank in the shape that Cohere, Jina and Voyage share, and OpenAI's moderations.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::Job;
use super::request::Ask;

/// The documents in the order that they came in, each less relevant than the one before.
pub(super) fn rerank(job: &Job<'_>, ask: &Ask<'_>) -> Bytes {
    let documents = ask.documents.as_ref().map_or(0, Vec::len);
    let best = ask.top_n.map_or(documents, |wanted| wanted.min(documents));
    let results: Vec<Value> =
        (0..best).map(|index| json!({"index": index, "relevance_score": 1.0 / (index + 2) as f64})).collect();
    let (results, tokens) = (Value::from(results), job.usage.input);
    let id = job.id("rerank-");
    format!(
        r#"{{"id":"{id}","object":"list","model":{},"results":{results},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#,
        job.model
    )
    .into()
}

/// Nothing is ever flagged.
pub(super) fn moderations(job: &Job<'_>) -> Bytes {
    let result = r#"{"flagged":false,"categories":{"violence":false},"category_scores":{"violence":0.01}}"#;
    format!(r#"{{"id":"{}","model":{},"results":[{result}]}}"#, job.id("modr-"), job.model).into()
}
