//! The names of OpenTelemetry's semantic conventions for GenAI, which stand here alone: attributes, their values, and
//! instruments with their buckets (github.com/open-telemetry/semantic-conventions-genai, `docs/gen-ai/gen-ai-spans.md` and
//! `gen-ai-metrics.md`). They are not stable yet; these are those that superseded version 1.36.
//!
//! A call is a server's span here: below the client's, and above whatever the upstream makes of it.

use ez_contract::{Operation, Protocol, ProviderType, UsageRecord};

use super::operation_word;

pub(super) const OPERATION_NAME: &str = "gen_ai.operation.name";
pub(super) const PROVIDER_NAME: &str = "gen_ai.provider.name";
pub(super) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(super) const REQUEST_STREAM: &str = "gen_ai.request.stream";
pub(super) const RESPONSE_MODEL: &str = "gen_ai.response.model";
/// Seconds, of streams.
pub(super) const TIME_TO_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
pub(super) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub(super) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// Part of the input tokens, as is the next.
pub(super) const CACHE_READ_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
pub(super) const CACHE_WRITE_TOKENS: &str = "gen_ai.usage.cache_creation.input_tokens";
/// Part of the output tokens.
pub(super) const REASONING_TOKENS: &str = "gen_ai.usage.reasoning.output_tokens";
/// `input` or `output`.
pub(super) const TOKEN_TYPE: &str = "gen_ai.token.type";
pub(super) const SERVER_ADDRESS: &str = "server.address";
pub(super) const SERVER_PORT: &str = "server.port";
/// An HTTP status, or what ended the call where that is none of a failure.
pub(super) const ERROR_TYPE: &str = "error.type";
pub(super) const HTTP_STATUS: &str = "http.response.status_code";
/// True on the one series for all that have no place (OpenTelemetry's SDK specification, "cardinality limits").
pub(super) const OVERFLOW: &str = "otel.metric.overflow";

/// What is told to be the provider of a call that none was asked for.
const OURSELVES: &str = "ez-api";

/// A histogram as the conventions ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Instrument {
    /// Arrival to the last byte.
    RequestDuration,
    /// Arrival to the first byte of streams that came to their end.
    TimeToFirstToken,
    /// The rest of these by the output tokens but the first.
    TimePerOutputToken,
    /// Tokens as upstreams counted them.
    TokenUsage,
}

impl Instrument {
    pub(super) const ALL: [Self; 4] =
        [Self::RequestDuration, Self::TimeToFirstToken, Self::TimePerOutputToken, Self::TokenUsage];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RequestDuration => "gen_ai.server.request.duration",
            Self::TimeToFirstToken => "gen_ai.server.time_to_first_token",
            Self::TimePerOutputToken => "gen_ai.server.time_per_output_token",
            Self::TokenUsage => "gen_ai.client.token.usage",
        }
    }

    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::TokenUsage => "{token}",
            _ => "s",
        }
    }

    /// Upper bounds of the buckets but the last.
    pub(super) fn bounds(self) -> &'static [f64] {
        match self {
            Self::RequestDuration => {
                &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
            }
            Self::TimeToFirstToken => {
                &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]
            }
            Self::TimePerOutputToken => &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5],
            Self::TokenUsage => &[
                1.0,
                4.0,
                16.0,
                64.0,
                256.0,
                1_024.0,
                4_096.0,
                16_384.0,
                65_536.0,
                262_144.0,
                1_048_576.0,
                4_194_304.0,
                16_777_216.0,
                67_108_864.0,
            ],
        }
    }
}

/// The conventions' word for what was asked; ours where they have none.
pub(super) fn operation_name(record: &UsageRecord, operation: Option<Operation>) -> &'static str {
    match operation {
        Some(Operation::Chat) if record.protocol == Protocol::Gemini => "generate_content",
        Some(Operation::Completions) => "text_completion",
        _ => operation_word(operation),
    }
}

/// The conventions' word for a vendor; ours where they have none.
pub(super) fn provider_name(provider_type: Option<ProviderType>) -> &'static str {
    match provider_type {
        Some(ProviderType::Anthropic | ProviderType::Claude | ProviderType::ClaudeCode) => "anthropic",
        Some(ProviderType::Openai | ProviderType::Codex) => "openai",
        Some(ProviderType::Gemini | ProviderType::Google | ProviderType::Aistudio | ProviderType::GeminiCli) => {
            "gcp.gemini"
        }
        Some(ProviderType::Vertex | ProviderType::VertexExpress) => "gcp.vertex_ai",
        Some(ProviderType::Azure) => "azure.ai.openai",
        Some(other) => other.as_str(),
        None => OURSELVES,
    }
}

/// What went wrong, in one of few words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ErrorType {
    /// The status that the client saw.
    Status(u16),
    /// What ended an answer that had begun well.
    EndedBy(&'static str),
}

impl std::fmt::Display for ErrorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::EndedBy(word) => f.write_str(word),
        }
    }
}

/// What went wrong; `None` of a call that did not fail.
pub(super) fn error_type(record: &UsageRecord) -> Option<ErrorType> {
    record.is_failure().then(|| match record.status {
        status @ 400.. => ErrorType::Status(status),
        _ => ErrorType::EndedBy(record.ended_by.as_str()),
    })
}
