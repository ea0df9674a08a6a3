//! Provider types and the wire protocols that their upstreams speak, as data.

use serde::{Deserialize, Serialize};

use crate::status::words;

words! {
    /// A wire protocol of LLM vendors, as clients and upstreams speak it.
    Protocol {
        /// OpenAI Chat Completions.
        OpenaiChat = "openai-chat",
        /// OpenAI Responses.
        OpenaiResponses = "openai-responses",
        /// Anthropic Messages.
        AnthropicMessages = "anthropic-messages",
        /// Gemini generateContent.
        Gemini = "gemini",
    }
}

words! {
    /// What kind of upstream a provider group is.
    ProviderType {
        /// OpenAI.
        Openai = "openai",
        /// Any server that speaks OpenAI's protocols.
        Compatible = "compatible",
        /// Anthropic.
        Anthropic = "anthropic",
        /// Anthropic under another name.
        Claude = "claude",
        /// Gemini API.
        Gemini = "gemini",
        /// Gemini API under another name.
        Google = "google",
        /// Gemini API under another name.
        Aistudio = "aistudio",
        /// Vertex AI with a service account.
        Vertex = "vertex",
        /// Vertex AI with an API key.
        VertexExpress = "vertex-express",
        /// Azure OpenAI.
        Azure = "azure",
        /// Codex subscription.
        Codex = "codex",
        /// Claude Code subscription.
        ClaudeCode = "claude-code",
        /// Gemini CLI (Code Assist) subscription.
        GeminiCli = "gemini-cli",
        /// Antigravity subscription.
        Antigravity = "antigravity",
    }
}

impl ProviderType {
    /// The protocols that an upstream of this type speaks unless its provider group says otherwise, best first.
    pub const fn default_protocols(self) -> &'static [Protocol] {
        match self {
            Self::Openai | Self::Azure => &[Protocol::OpenaiChat, Protocol::OpenaiResponses],
            Self::Compatible => &[Protocol::OpenaiChat],
            Self::Codex => &[Protocol::OpenaiResponses],
            Self::Anthropic | Self::Claude | Self::ClaudeCode => &[Protocol::AnthropicMessages],
            Self::Gemini
            | Self::Google
            | Self::Aistudio
            | Self::Vertex
            | Self::VertexExpress
            | Self::GeminiCli
            | Self::Antigravity => &[Protocol::Gemini],
        }
    }

    /// The base URL that the vendor's SDK uses, for types that have one.
    pub const fn default_base_url(self) -> Option<&'static str> {
        match self {
            Self::Openai => Some("https://api.openai.com/v1"),
            Self::Anthropic | Self::Claude | Self::ClaudeCode => Some("https://api.anthropic.com"),
            Self::Gemini | Self::Google | Self::Aistudio => Some("https://generativelanguage.googleapis.com"),
            Self::Vertex | Self::VertexExpress => Some("https://aiplatform.googleapis.com"),
            Self::Codex => Some("https://chatgpt.com/backend-api/codex"),
            Self::GeminiCli | Self::Antigravity => Some("https://cloudcode-pa.googleapis.com"),
            Self::Compatible | Self::Azure => None,
        }
    }

    /// Whether a provider group of this type must bring its own base URL.
    pub const fn requires_base_url(self) -> bool {
        self.default_base_url().is_none()
    }

    /// Whether credentials of this type are OAuth tokens, not secrets.
    pub const fn is_oauth(self) -> bool {
        matches!(self, Self::Codex | Self::ClaudeCode | Self::GeminiCli | Self::Antigravity)
    }

    /// The Google location used where a provider group names none: `global` for Vertex, empty elsewhere.
    pub const fn default_google_location(self) -> &'static str {
        match self {
            Self::Vertex | Self::VertexExpress => "global",
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_speaks_something_and_only_self_hosted_ones_need_a_url() {
        for provider_type in ProviderType::ALL {
            assert!(!provider_type.default_protocols().is_empty());
            let expected = matches!(provider_type, ProviderType::Compatible | ProviderType::Azure);
            assert_eq!(provider_type.requires_base_url(), expected, "{provider_type}");
        }
    }
}
