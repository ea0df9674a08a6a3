//! The list of models in each vendor's shape.

use bytes::Bytes;
use serde_json::json;

use super::route::Vendor;

/// What is listed when every model is accepted.
const MODEL_WHEN_ANY: &str = "sim-model";

/// The answer of `GET …/models`.
pub(super) fn whole(vendor: Vendor, models: &[String]) -> Bytes {
    let any = [MODEL_WHEN_ANY.to_owned()];
    let models = if models.is_empty() { &any[..] } else { models };
    let entries = models.iter().map(|model| match vendor {
        Vendor::OpenAi => json!({"id": model, "object": "model", "created": 1_700_000_000, "owned_by": "sim"}),
        Vendor::Anthropic => {
            json!({"type": "model", "id": model, "display_name": model, "created_at": "2025-01-01T00:00:00Z"})
        }
        Vendor::Gemini => json!({
            "name": format!("models/{model}"), "version": "001", "displayName": model,
            "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        }),
    });
    let entries: Vec<_> = entries.collect();
    let list = match vendor {
        Vendor::OpenAi => json!({"object": "list", "data": entries}),
        Vendor::Anthropic => {
            json!({"data": entries, "has_more": false, "first_id": models.first(), "last_id": models.last()})
        }
        Vendor::Gemini => json!({"models": entries}),
    };
    list.to_string().into()
}
