//! Metering: what a call used, where its upstream does not tell.

use bytes::Bytes;
use ez_contract::usage::TokenUsage;
use ez_protocol::Api;
use ez_protocol::estimate;
use ez_protocol::sample::TextSample;

/// What the prompt of a call is known by.
#[derive(Debug, Clone)]
pub(crate) enum Prompt {
    /// Its body.
    Body(Bytes),
    /// About how many tokens it has: streams do not keep the body for as long as they run.
    Tokens(u64),
}

/// What estimates are made with.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    pub(crate) api: Api,
    /// As the upstream calls it.
    pub(crate) model: String,
    pub(crate) prompt: Prompt,
}

/// What an endpoint uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Uses {
    InputAndOutput,
    Input,
    /// Nothing, or something that is not counted in tokens of text.
    Other,
}

const fn uses(api: Api) -> Uses {
    match api {
        Api::ChatCompletions
        | Api::Completions
        | Api::Responses
        | Api::Messages
        | Api::GenerateContent
        | Api::StreamGenerateContent => Uses::InputAndOutput,
        Api::Embeddings | Api::EmbedContent | Api::BatchEmbedContents | Api::Rerank => Uses::Input,
        Api::ImageGenerations
        | Api::ImageEdits
        | Api::ImageVariations
        | Api::Speech
        | Api::Transcriptions
        | Api::Translations
        | Api::Moderations
        | Api::MessagesCountTokens
        | Api::CountTokens => Uses::Other,
    }
}

/// Whether vendors charge nothing for it: counting tokens.
pub(crate) const fn is_free(api: Api) -> bool {
    matches!(api, Api::MessagesCountTokens | Api::CountTokens)
}

/// Whether a prompt of this endpoint is made of tokens.
pub(crate) const fn counts_input(api: Api) -> bool {
    !matches!(uses(api), Uses::Other)
}

/// Whether a stream of this endpoint tells its usage only once, at its end, so that what was told is all of it.
const fn tells_usage_once(api: Api) -> bool {
    matches!(api, Api::ChatCompletions | Api::Completions | Api::Responses)
}

/// No tokens, which is known.
pub(crate) fn nothing() -> TokenUsage {
    TokenUsage { input_tokens: Some(0), output_tokens: Some(0), ..TokenUsage::default() }
}

impl Meter {
    /// Whether what an upstream told is the truth about a stream that came to its proper end, or did not.
    pub(crate) fn is_all_told(&self, told: Option<TokenUsage>, is_whole: bool) -> bool {
        told.is_some_and(|told| told.output_tokens.is_some()) && (is_whole || tells_usage_once(self.api))
    }

    /// What was used, as far as the upstream told it and else by the text. `None` where text says nothing of it. Counting
    /// takes its time, and more at first, so it happens off the threads that serve calls.
    pub(crate) async fn estimate(
        self,
        told: Option<TokenUsage>,
        output: impl FnOnce() -> TextSample + Send + 'static,
    ) -> Option<TokenUsage> {
        let uses = uses(self.api);
        if uses == Uses::Other {
            return None;
        }
        let counted = tokio::task::spawn_blocking(move || {
            let told = told.unwrap_or_default();
            let of_prompt = || match &self.prompt {
                Prompt::Body(body) => estimate::tokens(&self.model, &TextSample::of_prompt(body)),
                Prompt::Tokens(tokens) => *tokens,
            };
            let input_tokens = told.input_tokens.unwrap_or_else(of_prompt);
            let seen = if uses == Uses::Input { 0 } else { estimate::tokens(&self.model, &output()) };
            // An upstream may have told of less than it has sent since.
            let output_tokens = told.output_tokens.unwrap_or_default().max(seen);
            TokenUsage { input_tokens: Some(input_tokens), output_tokens: Some(output_tokens), ..told }
        });
        counted.await.ok()
    }
}
