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
    /// Input, and sound or images that no text tells the size of.
    Media,
    /// Nothing that is charged for.
    Nothing,
}

const fn uses(api: Api) -> Uses {
    match api {
        Api::ChatCompletions
        | Api::Completions
        | Api::Responses
        | Api::Messages
        | Api::GenerateContent
        | Api::StreamGenerateContent => Uses::InputAndOutput,
        // What is heard or seen is told by files, which count a flat figure each; what is written of it is text.
        Api::Transcriptions | Api::Translations => Uses::InputAndOutput,
        Api::Embeddings | Api::EmbedContent | Api::BatchEmbedContents | Api::Rerank => Uses::Input,
        Api::ImageGenerations | Api::ImageEdits | Api::ImageVariations | Api::Speech => Uses::Media,
        Api::Moderations | Api::ResponsesInputTokens | Api::MessagesCountTokens | Api::CountTokens => Uses::Nothing,
    }
}

/// Whether vendors charge nothing for it: counting tokens.
pub(crate) const fn is_free(api: Api) -> bool {
    matches!(api, Api::ResponsesInputTokens | Api::MessagesCountTokens | Api::CountTokens)
}

/// Whether a prompt of this endpoint is charged for.
pub(crate) const fn counts_input(api: Api) -> bool {
    !matches!(uses(api), Uses::Nothing)
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

    /// What was used, as far as the upstream told it and else by the text. `None` where nothing is charged. Counting
    /// takes its time, and more at first, so it happens off the threads that serve calls.
    pub(crate) async fn estimate(
        self,
        told: Option<TokenUsage>,
        output: impl FnOnce() -> TextSample + Send + 'static,
    ) -> Option<TokenUsage> {
        let uses = uses(self.api);
        if uses == Uses::Nothing {
            return None;
        }
        let counted = tokio::task::spawn_blocking(move || {
            let told = told.unwrap_or_default();
            let of_prompt = || match &self.prompt {
                Prompt::Body(body) => estimate::tokens(&self.model, &TextSample::of_prompt(body)),
                Prompt::Tokens(tokens) => *tokens,
            };
            let input_tokens = told.input_tokens.unwrap_or_else(of_prompt);
            let seen = match uses {
                Uses::InputAndOutput => Some(estimate::tokens(&self.model, &output())),
                Uses::Input => Some(0),
                Uses::Media | Uses::Nothing => None,
            };
            // An upstream may have told of less than it has sent since.
            TokenUsage { input_tokens: Some(input_tokens), output_tokens: told.output_tokens.max(seen), ..told }
        });
        counted.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn estimated(api: Api, told: Option<TokenUsage>) -> Option<(Option<u64>, Option<u64>)> {
        let meter = Meter { api, model: "m".to_owned(), prompt: Prompt::Tokens(7) };
        let output = || TextSample::of_prompt(br#"{"text":"hello world"}"#);
        meter.estimate(told, output).await.map(|tokens| (tokens.input_tokens, tokens.output_tokens))
    }

    #[tokio::test]
    async fn what_is_charged_for_is_estimated_as_far_as_text_tells() {
        let cases = [
            (Api::ChatCompletions, Some((Some(7), Some(2)))),
            (Api::Transcriptions, Some((Some(7), Some(2)))),
            (Api::Embeddings, Some((Some(7), Some(0)))),
            (Api::Speech, Some((Some(7), None))),
            (Api::ImageGenerations, Some((Some(7), None))),
            (Api::Moderations, None),
            (Api::CountTokens, None),
        ];
        for (api, expected) in cases {
            assert_eq!(estimated(api, None).await, expected, "{api:?}");
        }
        let told = TokenUsage { input_tokens: Some(3), output_tokens: Some(90), ..TokenUsage::default() };
        assert_eq!(estimated(Api::ImageEdits, Some(told)).await, Some((Some(3), Some(90))), "what is told stands");
    }
}
