//! What an upstream offers (pure): its provider group says which protocols it speaks, its type which endpoints there are.

use ez_contract::snapshot::ProviderSnapshot;
use ez_contract::{Protocol, ProviderType};
use ez_protocol::Api;

/// The protocols of an upstream: its provider group's own, else those of its type.
pub(crate) fn protocols_of(provider: &ProviderSnapshot) -> &[Protocol] {
    let own = &provider.protocols;
    if own.is_empty() { provider.provider_type.default_protocols() } else { own }
}

/// Whether upstreams of a type have an endpoint, where they speak its protocol at all (facts/protocols.md, section 1).
pub(crate) const fn offers(provider_type: ProviderType, api: Api) -> bool {
    match provider_type {
        // Whoever set the protocols knows the server; what it lacks it says itself.
        ProviderType::Compatible => true,
        ProviderType::Openai => !matches!(api, Api::Rerank),
        ProviderType::Azure => matches!(
            api,
            Api::ChatCompletions
                | Api::Responses
                | Api::Completions
                | Api::Embeddings
                | Api::ImageGenerations
                | Api::ImageEdits
                | Api::Speech
                | Api::Transcriptions
                | Api::Translations
        ),
        ProviderType::Anthropic | ProviderType::Claude => {
            matches!(api, Api::Messages | Api::MessagesCountTokens | Api::ChatCompletions)
        }
        ProviderType::Gemini | ProviderType::Google | ProviderType::Aistudio => matches!(
            api,
            Api::GenerateContent
                | Api::StreamGenerateContent
                | Api::CountTokens
                | Api::EmbedContent
                | Api::BatchEmbedContents
                | Api::ChatCompletions
                | Api::Embeddings
                | Api::ImageGenerations
        ),
        ProviderType::Vertex => matches!(
            api,
            Api::GenerateContent
                | Api::StreamGenerateContent
                | Api::CountTokens
                | Api::EmbedContent
                | Api::ChatCompletions
        ),
        ProviderType::VertexExpress => {
            matches!(api, Api::GenerateContent | Api::StreamGenerateContent | Api::CountTokens)
        }
        // Subscriptions have endpoints of their own.
        ProviderType::Codex | ProviderType::ClaudeCode | ProviderType::GeminiCli | ProviderType::Antigravity => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_offer_what_their_vendors_have() {
        use Api::{
            BatchEmbedContents, ChatCompletions, EmbedContent, Embeddings, GenerateContent, ImageVariations, Messages,
            Moderations, Rerank, Responses, Speech,
        };
        let cases: [(&str, &[Api], &[Api]); 9] = [
            ("compatible", &[ChatCompletions, Rerank, Messages, GenerateContent], &[]),
            ("openai", &[ChatCompletions, Responses, Moderations, Speech], &[Rerank]),
            ("azure", &[ChatCompletions, Responses, Embeddings, Speech], &[Rerank, Moderations, ImageVariations]),
            ("anthropic", &[Messages, ChatCompletions], &[Embeddings, Responses]),
            ("claude", &[Messages], &[GenerateContent]),
            ("gemini", &[GenerateContent, BatchEmbedContents, Embeddings], &[Responses, Messages]),
            ("vertex", &[GenerateContent, EmbedContent, ChatCompletions], &[BatchEmbedContents, Embeddings]),
            ("vertex-express", &[GenerateContent], &[EmbedContent, ChatCompletions]),
            ("codex", &[], &[Responses]),
        ];
        for (provider_type, offered, missing) in cases {
            let provider_type: ProviderType = provider_type.parse().unwrap();
            for api in offered {
                assert!(offers(provider_type, *api), "{provider_type} {api:?}");
            }
            for api in missing {
                assert!(!offers(provider_type, *api), "{provider_type} {api:?}");
            }
        }
    }

    #[test]
    fn every_type_offers_an_endpoint_of_each_protocol_that_it_speaks() {
        let one_of = |protocol| match protocol {
            Protocol::OpenaiChat => Api::ChatCompletions,
            Protocol::OpenaiResponses => Api::Responses,
            Protocol::AnthropicMessages => Api::Messages,
            Protocol::Gemini => Api::GenerateContent,
        };
        for provider_type in ProviderType::ALL.iter().filter(|provider_type| !provider_type.is_oauth()) {
            for protocol in provider_type.default_protocols() {
                assert!(offers(*provider_type, one_of(*protocol)), "{provider_type} {protocol}");
            }
        }
    }
}
