//! What a model takes, as data: one row per family in `capabilities.json`, found by the upstream's name for the model. The
//! last row of each protocol is the newest behaviour, so that a model newer than this table is asked as its kin are. A
//! model of the catalogue may say otherwise, field by field, in the fields of [`ez_contract::capability::FIELDS`].
//!
//! Sources: facts/protocols.md, sections 2.5 and 10.

use std::sync::LazyLock;

use ez_contract::Protocol;
use ez_contract::capability::CapabilityOverrides;
use serde::{Deserialize, Serialize};

use super::params::Param;
use super::request::Effort;
use super::rerank::RerankStyle;

/// What a model takes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capabilities {
    /// Sampling parameters that it refuses.
    pub rejects: Vec<Sampling>,
    /// Sampling parameters that it refuses while it reasons.
    pub rejects_while_reasoning: Vec<Sampling>,
    /// Whether it refuses `top_p` where `temperature` is set, too.
    pub excludes_top_p_beside_temperature: bool,
    /// The field that caps its output (OpenAI Chat).
    pub token_cap: TokenCap,
    /// The role that instructs it (OpenAI).
    pub instructions: InstructionRole,
    /// Whether another vendor than OpenAI serves it in OpenAI's form: such servers take `max_tokens`, `top_k` and thoughts
    /// that come back (`reasoning_content`), and none of OpenAI's own parameters (OpenAI Chat).
    pub compatible: bool,
    /// How it is asked to reason.
    pub reasoning: ReasoningStyle,
    /// Whether it goes on from a last turn of its own (Anthropic).
    pub prefill: bool,
    /// Whether it takes instructions in the middle of a conversation (Anthropic).
    pub mid_conversation_system: bool,
    /// How it is held to a schema (Anthropic).
    pub structured_output: StructuredOutput,
    /// How schemas are written for it (Gemini).
    pub schema: SchemaStyle,
    /// Whether it takes tools and an output schema together (Gemini).
    pub tools_beside_schema: bool,
    /// Whether it refuses calls of its own that come back without their signature (Gemini).
    pub signs_calls: bool,
    /// How it is asked to rerank; as the client asks where nothing is known.
    pub rerank: Option<RerankStyle>,
    /// The cap to set where the client set none and the vendor wants one (Anthropic), tokens.
    pub default_max_output_tokens: u64,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            rejects: Vec::new(),
            rejects_while_reasoning: Vec::new(),
            excludes_top_p_beside_temperature: false,
            token_cap: TokenCap::MaxTokens,
            instructions: InstructionRole::System,
            compatible: false,
            reasoning: ReasoningStyle::None,
            prefill: false,
            mid_conversation_system: false,
            structured_output: StructuredOutput::Native,
            schema: SchemaStyle::JsonSchema,
            tools_beside_schema: true,
            signs_calls: false,
            rerank: None,
            default_max_output_tokens: 8_192,
        }
    }
}

/// A sampling parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the parameter of this name")]
pub enum Sampling {
    Temperature,
    TopP,
    TopK,
    Seed,
    PresencePenalty,
    FrequencyPenalty,
    LogitBias,
}

impl Sampling {
    /// The parameter of a request.
    pub const fn param(self) -> Param {
        match self {
            Self::Temperature => Param::Temperature,
            Self::TopP => Param::TopP,
            Self::TopK => Param::TopK,
            Self::Seed => Param::Seed,
            Self::PresencePenalty => Param::PresencePenalty,
            Self::FrequencyPenalty => Param::FrequencyPenalty,
            Self::LogitBias => Param::LogitBias,
        }
    }
}

/// The field that caps output (OpenAI Chat).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenCap {
    /// `max_tokens`, which every compatible server knows.
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

/// The role that instructs (OpenAI).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstructionRole {
    /// `system`.
    System,
    /// `developer`.
    Developer,
}

/// How a model is held to a schema (Anthropic).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StructuredOutput {
    /// With `output_config.format`.
    Native,
    /// With a tool that it must call; its call is made into text on the way back.
    Tool,
}

/// How schemas are written (Gemini).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaStyle {
    /// As JSON Schema (`responseJsonSchema`, `parametersJsonSchema`).
    JsonSchema,
    /// As the subset of OpenAPI 3.0 that older models know (`responseSchema`, `parameters`).
    Openapi,
}

/// How a model is asked to reason.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "style", rename_all = "snake_case", deny_unknown_fields)]
pub enum ReasoningStyle {
    /// It does not, or cannot be asked.
    None,
    /// With a word (OpenAI's `reasoning_effort`).
    Effort {
        /// Those that it knows.
        efforts: Vec<Effort>,
    },
    /// With a budget of tokens (Anthropic's `budget_tokens`, Gemini's `thinkingBudget`).
    Budget {
        /// The least, tokens.
        min_budget: u64,
        /// The most, tokens.
        max_budget: u64,
        /// Whether it can be asked not to.
        #[serde(default)]
        can_disable: bool,
    },
    /// As it sees fit, within a word (Anthropic's `adaptive` and `effort`).
    Adaptive {
        /// Those that it knows.
        efforts: Vec<Effort>,
        /// Whether it can be asked not to.
        #[serde(default)]
        can_disable: bool,
    },
    /// With a word and never not (Gemini's `thinkingLevel`).
    Level {
        /// Those that it knows.
        efforts: Vec<Effort>,
    },
}

/// A row of the table.
struct Family {
    protocols: Vec<Protocol>,
    models: Vec<String>,
    capabilities: Capabilities,
    /// The same, to be overridden.
    fields: serde_json::Map<String, serde_json::Value>,
}

/// The table. A test reads every row of it.
static FAMILIES: LazyLock<Vec<Family>> = LazyLock::new(|| {
    let rows: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_str(include_str!("capabilities.json")).unwrap_or_default();
    rows.into_iter().filter_map(|fields| read_family(fields).ok()).collect()
});

fn read_family(mut fields: serde_json::Map<String, serde_json::Value>) -> Result<Family, serde_json::Error> {
    let mut take = |key: &str| fields.remove(key).unwrap_or_default();
    let (protocols, models) = (serde_json::from_value(take("protocols"))?, serde_json::from_value(take("models"))?);
    let capabilities = serde_json::from_value(fields.clone().into())?;
    Ok(Family { protocols, models, capabilities, fields })
}

/// Why a catalogue entry says nothing that is understood.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidOverrides(#[from] serde_json::Error);

impl Capabilities {
    /// What the upstream's model of this name takes, where it is asked in this protocol.
    pub fn of(protocol: Protocol, model: &str) -> &'static Self {
        static NOTHING_KNOWN: LazyLock<Capabilities> = LazyLock::new(Capabilities::default);
        family(protocol, model).map_or(&NOTHING_KNOWN, |family| &family.capabilities)
    }

    /// The same with what the catalogue says of the model.
    pub fn overridden(
        protocol: Protocol,
        model: &str,
        overrides: &CapabilityOverrides,
    ) -> Result<Self, InvalidOverrides> {
        let mut fields = family(protocol, model).map(|family| family.fields.clone()).unwrap_or_default();
        fields.extend(overrides.fields().iter().map(|(key, value)| (key.clone(), value.clone())));
        Ok(serde_json::from_value(fields.into())?)
    }
}

fn family(protocol: Protocol, model: &str) -> Option<&'static Family> {
    // `publishers/x/models/claude-…`, `anthropic/claude-…`, `us.anthropic.claude-…-v1:0`.
    let name = model.rsplit('/').next().unwrap_or_default();
    let name = name.find("anthropic.").map_or(name, |at| &name[at + "anthropic.".len()..]);
    let name = name.strip_prefix("ft:").unwrap_or(name).to_ascii_lowercase();
    FAMILIES.iter().find(|family| {
        family.protocols.contains(&protocol) && family.models.iter().any(|pattern| matches(pattern, &name))
    })
}

/// Whether a name is what a pattern says: `*` stands for anything, `[0-9]` for a digit.
fn matches(pattern: &str, name: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix('*') {
        return (0..=name.len()).any(|at| name.is_char_boundary(at) && matches(rest, &name[at..]));
    }
    if let Some(rest) = pattern.strip_prefix("[0-9]") {
        return name.starts_with(|c: char| c.is_ascii_digit()) && matches(rest, &name[1..]);
    }
    match (pattern.chars().next(), name.chars().next()) {
        (None, None) => true,
        (Some(expected), Some(c)) => expected == c && matches(&pattern[c.len_utf8()..], &name[c.len_utf8()..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value as Json, json};

    use super::*;

    #[test]
    fn every_row_is_read_and_every_protocol_ends_with_one_for_all_models() {
        let rows: Vec<Map<String, Json>> = serde_json::from_str(include_str!("capabilities.json")).unwrap();
        for row in rows {
            if let Err(e) = read_family(row.clone()) {
                panic!("{row:?}: {e}");
            }
        }
        for protocol in Protocol::ALL {
            assert!(family(*protocol, "").is_some(), "{protocol}");
        }
    }

    #[test]
    fn models_are_found_by_their_family() {
        use Protocol::{AnthropicMessages, Gemini, OpenaiChat};
        let style = |protocol, model: &str| match Capabilities::of(protocol, model).reasoning {
            ReasoningStyle::None => "none",
            ReasoningStyle::Effort { .. } => "effort",
            ReasoningStyle::Budget { .. } => "budget",
            ReasoningStyle::Adaptive { .. } => "adaptive",
            ReasoningStyle::Level { .. } => "level",
        };
        let cases = [
            (OpenaiChat, "gpt-4o-mini", "none"),
            (OpenaiChat, "openai/o3", "effort"),
            (OpenaiChat, "gpt-5-chat-latest", "none"),
            (OpenaiChat, "gpt-5.4", "effort"),
            (OpenaiChat, "llama-3", "effort"),
            (OpenaiChat, "openai/gpt-oss-120b", "effort"),
            (OpenaiChat, "google/gemini-3-pro-preview", "effort"),
            (AnthropicMessages, "claude-3-haiku-20240307", "none"),
            (AnthropicMessages, "claude-sonnet-4-20250514", "budget"),
            (AnthropicMessages, "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "budget"),
            (AnthropicMessages, "claude-opus-4-6", "adaptive"),
            (AnthropicMessages, "claude-opus-9", "adaptive"),
            (AnthropicMessages, "glm-4.6", "budget"),
            (Gemini, "models/gemini-2.0-flash", "none"),
            (Gemini, "gemini-2.5-flash", "budget"),
            (Gemini, "gemini-4-pro", "level"),
        ];
        for (protocol, model, expected) in cases {
            assert_eq!(style(protocol, model), expected, "{protocol} {model}");
        }
        assert!(Capabilities::of(AnthropicMessages, "claude-opus-9").rejects.contains(&Sampling::Temperature));
        assert!(Capabilities::of(AnthropicMessages, "claude-3-5-sonnet-latest").rejects.is_empty());
        assert_eq!(Capabilities::of(OpenaiChat, "o1").token_cap, TokenCap::MaxCompletionTokens);
        assert_eq!(Capabilities::of(OpenaiChat, "qwen3").token_cap, TokenCap::MaxTokens);
        let compatible = |model: &str| Capabilities::of(OpenaiChat, model).compatible;
        assert!(compatible("qwen3") && compatible("gpt-oss-20b") && compatible("gemini-3-pro") && !compatible("gpt-6"));
    }

    fn overrides(said: Json) -> CapabilityOverrides {
        serde_json::from_value(said).unwrap()
    }

    #[test]
    fn the_catalogue_has_the_last_word() {
        let said = overrides(json!({"rejects": ["seed"], "default_max_output_tokens": 5}));
        let own = Capabilities::overridden(Protocol::AnthropicMessages, "claude-opus-9", &said).unwrap();
        assert_eq!((own.rejects, own.default_max_output_tokens), (vec![Sampling::Seed], 5));
        assert!(own.mid_conversation_system);
        let nothing = Capabilities::overridden(Protocol::Gemini, "x", &CapabilityOverrides::default()).unwrap();
        assert_eq!(&nothing, Capabilities::of(Protocol::Gemini, "x"));
    }

    #[test]
    fn patterns_match_whole_names() {
        assert!(matches("a*c", "abbc") && matches("*", "") && matches("o[0-9]*", "o5-pro"));
        assert!(!matches("a*c", "abbcd") && !matches("gpt-5", "gpt-5.1") && !matches("o[0-9]*", "omni"));
    }
}
