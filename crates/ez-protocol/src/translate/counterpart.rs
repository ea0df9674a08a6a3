//! Which endpoint of another protocol a call becomes.

use ez_contract::Protocol;

use crate::api::Api;

/// The chat whose tokens an endpoint counts; `None` where it counts none.
pub const fn chat_of_count(api: Api) -> Option<Api> {
    match api {
        Api::MessagesCountTokens => Some(Api::Messages),
        Api::CountTokens => Some(Api::GenerateContent),
        Api::ResponsesInputTokens => Some(Api::Responses),
        _ => None,
    }
}

/// The endpoints of `upstream`'s protocol that a call may become, best first; none where it has no such thing. `stream`
/// tells whether the client asked for a stream.
pub fn counterparts(client: Api, stream: bool, upstream: Protocol) -> &'static [Api] {
    match client {
        Api::ChatCompletions | Api::Responses | Api::Messages | Api::GenerateContent | Api::StreamGenerateContent => {
            match upstream {
                Protocol::OpenaiChat => &[Api::ChatCompletions],
                Protocol::OpenaiResponses => &[Api::Responses],
                Protocol::AnthropicMessages => &[Api::Messages],
                Protocol::Gemini if stream => &[Api::StreamGenerateContent],
                Protocol::Gemini => &[Api::GenerateContent],
            }
        }
        Api::MessagesCountTokens | Api::CountTokens | Api::ResponsesInputTokens => match upstream {
            Protocol::OpenaiChat => &[],
            Protocol::OpenaiResponses => &[Api::ResponsesInputTokens],
            Protocol::AnthropicMessages => &[Api::MessagesCountTokens],
            Protocol::Gemini => &[Api::CountTokens],
        },
        Api::Embeddings if upstream == Protocol::Gemini => &[Api::BatchEmbedContents, Api::EmbedContent],
        Api::EmbedContent | Api::BatchEmbedContents if upstream == Protocol::OpenaiChat => &[Api::Embeddings],
        _ => &[],
    }
}
