//! The fields that may be said of what a model takes, and their words.

use super::{Field, Shape, Style};

/// Tokens that a field may hold at most.
const MAX_TOKENS: u64 = 100_000_000;

/// Sampling parameters.
pub(super) const SAMPLING: &[&str] =
    &["temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "logit_bias"];

/// How hard to reason, from not at all to as hard as may be.
pub(super) const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// The fields that may be said of a model.
pub const FIELDS: &[Field] = &[
    optional(
        "rejects",
        "Sampling parameters that it refuses; they are left out.",
        Shape::Words { allowed: SAMPLING, min: 0 },
    ),
    optional(
        "rejects_while_reasoning",
        "Sampling parameters that it refuses while it reasons.",
        Shape::Words { allowed: SAMPLING, min: 0 },
    ),
    optional(
        "excludes_top_p_beside_temperature",
        "Whether it refuses `top_p` where `temperature` is set, too (OpenAI Chat, Anthropic).",
        Shape::Flag,
    ),
    optional(
        "token_cap",
        "The field that caps its output (OpenAI Chat).",
        Shape::Word(&["max_tokens", "max_completion_tokens"]),
    ),
    optional("instructions", "The role that instructs it (OpenAI).", Shape::Word(&["system", "developer"])),
    optional(
        "compatible",
        "Whether another vendor than OpenAI serves it in OpenAI's form: it takes `top_k` and thoughts that come back, and \
         none of OpenAI's own parameters (OpenAI Chat).",
        Shape::Flag,
    ),
    optional("reasoning", "How it is asked to reason; counts as a whole.", Shape::Styled(REASONING)),
    optional("prefill", "Whether it goes on from a last turn of its own (OpenAI Chat, Anthropic).", Shape::Flag),
    optional(
        "mid_conversation_system",
        "Whether it takes instructions in the middle of a conversation (Anthropic).",
        Shape::Flag,
    ),
    optional(
        "structured_output",
        "How it is held to a schema (Anthropic): `native` with `output_config.format`, `tool` with a tool that it must call.",
        Shape::Word(&["native", "tool"]),
    ),
    optional(
        "schema",
        "How schemas are written for it (Gemini): as JSON Schema, or as the subset of OpenAPI that older models know.",
        Shape::Word(&["json_schema", "openapi"]),
    ),
    optional("tools_beside_schema", "Whether it takes tools and an output schema together (Gemini).", Shape::Flag),
    optional(
        "signs_calls",
        "Whether it refuses calls of its own that come back without their signature (Gemini, also in OpenAI's form).",
        Shape::Flag,
    ),
    optional(
        "rerank",
        "How it is asked to rerank: `common` as Cohere and Jina are, `voyage`, or `tei` as Text Embeddings Inference is.",
        Shape::Word(&["common", "voyage", "tei"]),
    ),
    optional(
        "default_max_output_tokens",
        "The cap to set where the client set none and the vendor wants one (Anthropic), tokens.",
        Shape::Tokens { min: 1, max: MAX_TOKENS },
    ),
];

/// How a model is asked to reason.
const REASONING: &[Style] = &[
    Style { name: "none", about: "It does not, or cannot be asked.", fields: &[] },
    Style { name: "effort", about: "With a word (OpenAI's `reasoning_effort`).", fields: &[EFFORTS_FIELD] },
    Style {
        name: "budget",
        about: "With a budget of tokens (Anthropic's `budget_tokens`, Gemini's `thinkingBudget`).",
        fields: &[
            required("min_budget", "The least, tokens.", Shape::Tokens { min: 0, max: MAX_TOKENS }),
            required(
                "max_budget",
                "The most, tokens; not less than `min_budget`.",
                Shape::Tokens { min: 0, max: MAX_TOKENS },
            ),
            CAN_DISABLE_FIELD,
        ],
    },
    Style {
        name: "adaptive",
        about: "As it sees fit, within a word (Anthropic's `adaptive` and `effort`).",
        fields: &[EFFORTS_FIELD, CAN_DISABLE_FIELD],
    },
    Style { name: "level", about: "With a word and never not (Gemini's `thinkingLevel`).", fields: &[EFFORTS_FIELD] },
];

const EFFORTS_FIELD: Field = required("efforts", "The words that it knows.", Shape::Words { allowed: EFFORTS, min: 1 });

const CAN_DISABLE_FIELD: Field =
    optional("can_disable", "Whether it can be asked not to; absent means that it cannot.", Shape::Flag);

const fn optional(name: &'static str, about: &'static str, shape: Shape) -> Field {
    Field { name, about, shape, is_required: false }
}

const fn required(name: &'static str, about: &'static str, shape: Shape) -> Field {
    Field { name, about, shape, is_required: true }
}
