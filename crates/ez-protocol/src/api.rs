//! The client APIs: which vendor endpoint a call is, and so its protocol, its scope and what its answers look like.

use ez_contract::{Operation, Protocol};

/// One endpoint of a vendor's API, whatever path a client reached it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    /// OpenAI `POST /v1/chat/completions`.
    ChatCompletions,
    /// OpenAI `POST /v1/completions`.
    Completions,
    /// OpenAI `POST /v1/embeddings`.
    Embeddings,
    /// `POST /v1/rerank`, in the shape that Cohere, Jina and Voyage share.
    Rerank,
    /// OpenAI `POST /v1/images/generations`.
    ImageGenerations,
    /// OpenAI `POST /v1/images/edits`.
    ImageEdits,
    /// OpenAI `POST /v1/images/variations`.
    ImageVariations,
    /// OpenAI `POST /v1/audio/speech`.
    Speech,
    /// OpenAI `POST /v1/audio/transcriptions`.
    Transcriptions,
    /// OpenAI `POST /v1/audio/translations`.
    Translations,
    /// OpenAI `POST /v1/moderations`.
    Moderations,
    /// OpenAI `POST /v1/responses`.
    Responses,
    /// OpenAI `POST /v1/responses/input_tokens`.
    ResponsesInputTokens,
    /// Anthropic `POST /v1/messages`.
    Messages,
    /// Anthropic `POST /v1/messages/count_tokens`.
    MessagesCountTokens,
    /// Gemini `:generateContent`.
    GenerateContent,
    /// Gemini `:streamGenerateContent`, as server-sent events (`alt=sse`) or as one JSON array.
    StreamGenerateContent,
    /// Gemini `:countTokens`.
    CountTokens,
    /// Gemini `:embedContent`.
    EmbedContent,
    /// Gemini `:batchEmbedContents`.
    BatchEmbedContents,
}

impl Api {
    /// The protocol that its requests, answers and errors are in.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::ChatCompletions
            | Self::Completions
            | Self::Embeddings
            | Self::Rerank
            | Self::ImageGenerations
            | Self::ImageEdits
            | Self::ImageVariations
            | Self::Speech
            | Self::Transcriptions
            | Self::Translations
            | Self::Moderations => Protocol::OpenaiChat,
            Self::Responses | Self::ResponsesInputTokens => Protocol::OpenaiResponses,
            Self::Messages | Self::MessagesCountTokens => Protocol::AnthropicMessages,
            Self::GenerateContent
            | Self::StreamGenerateContent
            | Self::CountTokens
            | Self::EmbedContent
            | Self::BatchEmbedContents => Protocol::Gemini,
        }
    }

    /// What the caller's scopes must allow.
    pub const fn operation(self) -> Operation {
        match self {
            Self::ChatCompletions
            | Self::Responses
            | Self::ResponsesInputTokens
            | Self::Messages
            | Self::MessagesCountTokens
            | Self::GenerateContent
            | Self::StreamGenerateContent
            | Self::CountTokens => Operation::Chat,
            Self::Completions => Operation::Completions,
            Self::Embeddings | Self::EmbedContent | Self::BatchEmbedContents => Operation::Embeddings,
            Self::Rerank => Operation::Rerank,
            Self::ImageGenerations | Self::ImageEdits | Self::ImageVariations => Operation::Images,
            Self::Speech | Self::Transcriptions | Self::Translations => Operation::Audio,
            Self::Moderations => Operation::Moderations,
        }
    }
}
