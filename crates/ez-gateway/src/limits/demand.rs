//! Demand: what a call will probably need of its limits, from what can be seen of its request.

use chrono::{DateTime, Utc};
use ez_protocol::Api;

use crate::inspect::Inspected;
use crate::metering::is_free;
use crate::routing::Model;

/// Output that is counted on where a request does not bound it. The truth is settled when the call ends.
const DEFAULT_OUTPUT_TOKENS: u64 = 1_024;

/// What a call will probably need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Tokens, input and output.
    pub(crate) tokens: u64,
    /// Billionths of a US dollar; 0 where no price is known.
    pub(crate) nanos: u64,
    /// When the call arrived.
    pub(crate) now: DateTime<Utc>,
}

impl Demand {
    /// The demand of a call to this model.
    pub(crate) fn of(inspected: &Inspected, model: Option<&Model>, now: DateTime<Utc>) -> Self {
        let input = if is_free(inspected.api) { 0 } else { inspected.peek.estimated_input_tokens() };
        let output = if writes_text(inspected.api) { output_of(inspected, model) } else { 0 };
        let nanos = model.and_then(|model| model.prices.as_ref());
        let nanos = nanos.map_or(0, |prices| prices.estimate_nanos(input, output));
        Self { tokens: input.saturating_add(output), nanos, now }
    }

    /// The demand of a call that uses no tokens of its own.
    pub(crate) const fn without_tokens(now: DateTime<Utc>) -> Self {
        Self { tokens: 0, nanos: 0, now }
    }
}

/// The output that the request allows, for each answer that it asks for.
fn output_of(inspected: &Inspected, model: Option<&Model>) -> u64 {
    let asked = inspected.peek.max_output_tokens.unwrap_or(DEFAULT_OUTPUT_TOKENS);
    let most = model.map(|model| model.snapshot.max_output_tokens).filter(|most| *most > 0);
    asked.min(most.unwrap_or(u64::MAX)).saturating_mul(inspected.peek.choices)
}

/// Whether answers of this API are text that a model writes.
const fn writes_text(api: Api) -> bool {
    match api {
        Api::ChatCompletions
        | Api::Completions
        | Api::Responses
        | Api::Messages
        | Api::GenerateContent
        | Api::StreamGenerateContent => true,
        Api::Embeddings
        | Api::Rerank
        | Api::ImageGenerations
        | Api::ImageEdits
        | Api::ImageVariations
        | Api::Speech
        | Api::Transcriptions
        | Api::Translations
        | Api::Moderations
        | Api::ResponsesInputTokens
        | Api::MessagesCountTokens
        | Api::CountTokens
        | Api::EmbedContent
        | Api::BatchEmbedContents => false,
    }
}
