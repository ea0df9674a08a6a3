//! What each protocol calls the parts of a request, for faults and for what is dropped.

use ez_contract::Protocol;

/// A protocol's names for the parts of a chat request.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    pub turns: &'static str,
    pub tools: &'static str,
    pub tool_choice: &'static str,
    pub parallel_tool_calls: &'static str,
    pub max_output_tokens: &'static str,
    pub stop: &'static str,
    pub choices: &'static str,
    pub output: &'static str,
    pub effort: &'static str,
    pub budget: &'static str,
    pub shown: &'static str,
    pub cache: &'static str,
}

impl Words {
    /// The names of a protocol; where it has no such field, what comes nearest.
    pub const fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::OpenaiChat => Self {
                turns: "messages",
                tools: "tools",
                tool_choice: "tool_choice",
                parallel_tool_calls: "parallel_tool_calls",
                max_output_tokens: "max_completion_tokens",
                stop: "stop",
                choices: "n",
                output: "response_format",
                effort: "reasoning_effort",
                budget: "reasoning_effort",
                shown: "reasoning_effort",
                cache: "cache_control",
            },
            Protocol::OpenaiResponses => Self {
                turns: "input",
                tools: "tools",
                tool_choice: "tool_choice",
                parallel_tool_calls: "parallel_tool_calls",
                max_output_tokens: "max_output_tokens",
                stop: "stop",
                choices: "n",
                output: "text.format",
                effort: "reasoning.effort",
                budget: "reasoning.effort",
                shown: "reasoning.summary",
                cache: "cache_control",
            },
            Protocol::AnthropicMessages => Self {
                turns: "messages",
                tools: "tools",
                tool_choice: "tool_choice",
                parallel_tool_calls: "tool_choice.disable_parallel_tool_use",
                max_output_tokens: "max_tokens",
                stop: "stop_sequences",
                choices: "n",
                output: "output_config.format",
                effort: "output_config.effort",
                budget: "thinking",
                shown: "thinking.display",
                cache: "cache_control",
            },
            Protocol::Gemini => Self {
                turns: "contents",
                tools: "tools",
                tool_choice: "toolConfig",
                parallel_tool_calls: "toolConfig",
                max_output_tokens: "generationConfig.maxOutputTokens",
                stop: "generationConfig.stopSequences",
                choices: "generationConfig.candidateCount",
                output: "generationConfig.responseJsonSchema",
                effort: "generationConfig.thinkingConfig.thinkingLevel",
                budget: "generationConfig.thinkingConfig.thinkingBudget",
                shown: "generationConfig.thinkingConfig.includeThoughts",
                cache: "cachedContent",
            },
        }
    }
}
