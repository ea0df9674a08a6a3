//! Usage reports as vendors write them, made into one kind of count: input with cached input, output with reasoning.

use std::fmt;
use std::marker::PhantomData;

use ez_contract::usage::TokenUsage;
use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// OpenAI's reports: chat and its kin say `prompt_tokens` and `completion_tokens`; Responses, images and transcriptions
/// say `input_tokens` and `output_tokens`; embeddings and reranks may say `total_tokens` alone. Input includes what was
/// cached, output includes reasoning.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct OpenAiUsage {
    #[serde(default, deserialize_with = "count")]
    prompt_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    completion_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    pub(crate) total_tokens: Option<u64>,
    /// DeepSeek's spelling of cached input.
    #[serde(default, deserialize_with = "count")]
    prompt_cache_hit_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    prompt_tokens_details: Option<InputDetails>,
    #[serde(default, deserialize_with = "lenient")]
    input_tokens_details: Option<InputDetails>,
    #[serde(default, deserialize_with = "lenient")]
    completion_tokens_details: Option<OutputDetails>,
    #[serde(default, deserialize_with = "lenient")]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Debug, Default, Deserialize)]
struct InputDetails {
    #[serde(default, deserialize_with = "count")]
    cached_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    cache_write_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct OutputDetails {
    #[serde(default, deserialize_with = "count")]
    reasoning_tokens: Option<u64>,
}

impl OpenAiUsage {
    /// The counts; `None` where neither input nor output is told, which is as good as no report. Some servers fill in
    /// the other family's names with zeros, so the names that `chat` and its kin use go first.
    pub(crate) fn into_tokens(self) -> Option<TokenUsage> {
        let input_details = self.prompt_tokens_details.or(self.input_tokens_details).unwrap_or_default();
        let output_details = self.completion_tokens_details.or(self.output_tokens_details).unwrap_or_default();
        let larger = |a: Option<u64>, b: Option<u64>| a.max(b);
        let tokens = TokenUsage {
            input_tokens: larger(self.prompt_tokens, self.input_tokens),
            output_tokens: larger(self.completion_tokens, self.output_tokens),
            cache_read_tokens: input_details.cached_tokens.or(self.prompt_cache_hit_tokens),
            cache_write_tokens: input_details.cache_write_tokens,
            reasoning_tokens: output_details.reasoning_tokens,
        };
        (tokens.input_tokens.is_some() || tokens.output_tokens.is_some()).then_some(tokens)
    }

    /// The counts of an answer that holds no generated text (embeddings, reranks): all that is told is input.
    pub(crate) fn into_input_only(self) -> Option<TokenUsage> {
        let total = self.total_tokens;
        let tokens = self.into_tokens().unwrap_or_default();
        input_only(tokens.input_tokens.or(total))
    }
}

/// The counts of an answer without generated text.
pub(crate) fn input_only(input_tokens: Option<u64>) -> Option<TokenUsage> {
    let input_tokens = Some(input_tokens?);
    Some(TokenUsage { input_tokens, output_tokens: Some(0), ..TokenUsage::default() })
}

/// Anthropic's report, as far as it has come: `message_start` tells the input, `message_delta` the output so far and
/// sometimes a corrected input. Its `input_tokens` exclude what was read from or written to the cache.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct AnthropicUsage {
    #[serde(default, deserialize_with = "count")]
    input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    cache_creation: Option<CacheCreation>,
    #[serde(default, deserialize_with = "count")]
    cache_read_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    output_tokens_details: Option<ThinkingDetails>,
}

/// What `cache_creation_input_tokens` is made of, as far as it matters.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct CacheCreation {
    #[serde(default, deserialize_with = "count")]
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct ThinkingDetails {
    #[serde(default, deserialize_with = "count")]
    thinking_tokens: Option<u64>,
}

impl AnthropicUsage {
    /// Takes over every figure that a later report tells.
    pub(crate) fn merge(&mut self, later: Self) {
        take(&mut self.input_tokens, later.input_tokens);
        take(&mut self.cache_creation_input_tokens, later.cache_creation_input_tokens);
        take(&mut self.cache_creation, later.cache_creation);
        take(&mut self.cache_read_input_tokens, later.cache_read_input_tokens);
        take(&mut self.output_tokens, later.output_tokens);
        take(&mut self.output_tokens_details, later.output_tokens_details);
    }

    /// The same without the output.
    pub(crate) fn without_output(self) -> Self {
        Self { output_tokens: None, output_tokens_details: None, ..self }
    }

    /// How much of what was written to the cache stays there for an hour, where that is told.
    pub(crate) fn cache_write_1h(self) -> Option<u64> {
        let written = self.cache_creation_input_tokens?;
        Some(self.cache_creation?.ephemeral_1h_input_tokens?.min(written))
    }

    /// The counts; `None` where neither input nor output is told.
    pub(crate) fn tokens(self) -> Option<TokenUsage> {
        let cached =
            self.cache_creation_input_tokens.unwrap_or(0).saturating_add(self.cache_read_input_tokens.unwrap_or(0));
        let tokens = TokenUsage {
            input_tokens: self.input_tokens.map(|input| input.saturating_add(cached)),
            output_tokens: self.output_tokens,
            cache_read_tokens: self.cache_read_input_tokens,
            cache_write_tokens: self.cache_creation_input_tokens,
            reasoning_tokens: self.output_tokens_details.and_then(|details| details.thinking_tokens),
        };
        (tokens.input_tokens.is_some() || tokens.output_tokens.is_some()).then_some(tokens)
    }
}

/// Gemini's `usageMetadata`, a snapshot that each chunk renews; some chunks tell a few fields only. Candidates exclude
/// thoughts, and the prompt excludes what tools put into it.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GeminiUsage {
    #[serde(default, deserialize_with = "count")]
    prompt_token_count: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    tool_use_prompt_token_count: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    cached_content_token_count: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    candidates_token_count: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    thoughts_token_count: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    total_token_count: Option<u64>,
}

impl GeminiUsage {
    /// Takes over every figure that a later report tells.
    pub(crate) fn merge(&mut self, later: Self) {
        take(&mut self.prompt_token_count, later.prompt_token_count);
        take(&mut self.tool_use_prompt_token_count, later.tool_use_prompt_token_count);
        take(&mut self.cached_content_token_count, later.cached_content_token_count);
        take(&mut self.candidates_token_count, later.candidates_token_count);
        take(&mut self.thoughts_token_count, later.thoughts_token_count);
        take(&mut self.total_token_count, later.total_token_count);
    }

    /// Whether any figure is told.
    pub(crate) fn tells_any(&self) -> bool {
        self.prompt_token_count.is_some()
            || self.candidates_token_count.is_some()
            || self.thoughts_token_count.is_some()
    }

    /// The counts. A report that tells the total and the prompt but no candidates (a blocked prompt) has no output.
    pub(crate) fn tokens(self) -> Option<TokenUsage> {
        if !self.tells_any() {
            return None;
        }
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        let input_tokens = sum(self.prompt_token_count, self.tool_use_prompt_token_count);
        let told_output = sum(self.candidates_token_count, self.thoughts_token_count);
        let rest = self.total_token_count.zip(input_tokens).map(|(total, input)| total.saturating_sub(input));
        Some(TokenUsage {
            input_tokens,
            output_tokens: told_output.or(rest),
            cache_read_tokens: self.cached_content_token_count,
            cache_write_tokens: None,
            reasoning_tokens: self.thoughts_token_count,
        })
    }

    /// The counts of an embedding.
    pub(crate) fn into_input_only(self) -> Option<TokenUsage> {
        input_only(self.prompt_token_count.or(self.total_token_count))
    }
}

fn take<T>(kept: &mut Option<T>, later: Option<T>) {
    if later.is_some() {
        *kept = later;
    }
}

/// No call uses near so many tokens. What claims to is no count, and must not use up quotas and budgets.
const MAX_TOKENS: u64 = 1_000_000_000;

/// A count, or `None` where a server sends something that is none: one odd figure must not void the others.
pub(crate) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(match Told::<IgnoredAny>::deserialize(deserializer)? {
        Told::Count(count) => Some(count).filter(|count| *count <= MAX_TOKENS),
        Told::Object(_) | Told::Other => None,
    })
}

/// An object of counts, or `None` where a server sends something else.
pub(crate) fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(match Told::deserialize(deserializer)? {
        Told::Object(object) => Some(object),
        Told::Count(_) | Told::Other => None,
    })
}

/// What a server tells, whatever it is, read in one pass.
enum Told<T> {
    Count(u64),
    Object(T),
    Other,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Told<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ToldVisitor(PhantomData))
    }
}

struct ToldVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ToldVisitor<T> {
    type Value = Told<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_u64<E>(self, count: u64) -> Result<Self::Value, E> {
        Ok(Told::Count(count))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Told::Other)
    }

    fn visit_f64<E>(self, figure: f64) -> Result<Self::Value, E> {
        let is_count = figure >= 0.0 && figure.fract() == 0.0;
        Ok(if is_count { Told::Count(figure as u64) } else { Told::Other })
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Told::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Told::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Told::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_seq(elements).map(|_| Told::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Told::Object)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usage(input: u64, output: u64) -> TokenUsage {
        TokenUsage { input_tokens: Some(input), output_tokens: Some(output), ..TokenUsage::default() }
    }

    #[test]
    fn openai_reports_are_read_in_every_spelling() {
        let read = |text: &str| serde_json::from_str::<OpenAiUsage>(text).unwrap().into_tokens();
        let all = TokenUsage {
            cache_read_tokens: Some(60),
            cache_write_tokens: Some(10),
            reasoning_tokens: Some(7),
            ..usage(100, 20)
        };
        let chat = r#"{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120,
            "prompt_tokens_details":{"cached_tokens":60,"cache_write_tokens":10},
            "completion_tokens_details":{"reasoning_tokens":7}}"#;
        let responses = r#"{"input_tokens":100,"output_tokens":20,"total_tokens":120,
            "input_tokens_details":{"cached_tokens":60,"cache_write_tokens":10},
            "output_tokens_details":{"reasoning_tokens":7}}"#;
        assert_eq!((read(chat), read(responses)), (Some(all), Some(all)));
        let deepseek =
            r#"{"prompt_tokens":9,"completion_tokens":1,"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":5}"#;
        assert_eq!(read(deepseek), Some(TokenUsage { cache_read_tokens: Some(4), ..usage(9, 1) }));
        let both = r#"{"prompt_tokens":9,"completion_tokens":1,"input_tokens":0,"output_tokens":0}"#;
        assert_eq!(read(both), Some(usage(9, 1)), "zeros of the other family's names do not hide the figures");
        assert_eq!(read("{}"), None);
        assert_eq!(read(r#"{"type":"duration","seconds":12}"#), None);
        for odd in ["-1", "1.5", "\"5\"", "true", "null", "[5]", "{\"x\":5}"] {
            let report =
                format!(r#"{{"prompt_tokens":3.0,"completion_tokens":{odd},"prompt_tokens_details":{odd},"x":0}}"#);
            assert_eq!(read(&report), Some(TokenUsage { input_tokens: Some(3), ..TokenUsage::default() }), "{odd}");
        }
        for senseless in ["1000000001", "18446744073709551615", "1e300"] {
            let report = format!(r#"{{"prompt_tokens":3,"completion_tokens":{senseless}}}"#);
            let expected = TokenUsage { input_tokens: Some(3), ..TokenUsage::default() };
            assert_eq!(read(&report), Some(expected), "{senseless}");
        }
    }

    #[test]
    fn anthropic_input_includes_the_cache_and_later_figures_win() {
        let read = |text: &str| serde_json::from_str::<AnthropicUsage>(text).unwrap();
        let mut merged = read(
            r#"{"input_tokens":43,"cache_creation_input_tokens":10,"cache_read_input_tokens":60,"output_tokens":1}"#,
        );
        merged.merge(read(r#"{"input_tokens":61,"output_tokens":20,"output_tokens_details":{"thinking_tokens":5}}"#));
        merged.merge(read(r#"{"input_tokens":null,"output_tokens":22}"#));
        let expected = TokenUsage {
            cache_read_tokens: Some(60),
            cache_write_tokens: Some(10),
            reasoning_tokens: Some(5),
            ..usage(131, 22)
        };
        assert_eq!(merged.tokens(), Some(expected));
    }

    #[test]
    fn what_anthropic_caches_for_an_hour_is_part_of_what_it_caches() {
        let read = |text: &str| serde_json::from_str::<AnthropicUsage>(text).unwrap().cache_write_1h();
        let split = r#""cache_creation":{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":7}"#;
        assert_eq!(read(&format!(r#"{{"cache_creation_input_tokens":10,{split}}}"#)), Some(7));
        assert_eq!(read(&format!(r#"{{"cache_creation_input_tokens":5,{split}}}"#)), Some(5));
        assert_eq!(read(&format!("{{{split}}}")), None);
        assert_eq!(read(r#"{"cache_creation_input_tokens":10,"cache_creation":null}"#), None);
    }

    #[test]
    fn gemini_output_includes_thoughts_and_input_what_tools_put_in() {
        let read = |text: &str| serde_json::from_str::<GeminiUsage>(text).unwrap();
        let mut merged = read(
            r#"{"promptTokenCount":100,"toolUsePromptTokenCount":9,"cachedContentTokenCount":60,"candidatesTokenCount":1}"#,
        );
        merged.merge(read(r#"{"trafficType":"ON_DEMAND"}"#));
        merged.merge(read(r#"{"candidatesTokenCount":20,"thoughtsTokenCount":7,"totalTokenCount":136}"#));
        let expected = TokenUsage { cache_read_tokens: Some(60), reasoning_tokens: Some(7), ..usage(109, 27) };
        assert_eq!(merged.tokens(), Some(expected));
        assert_eq!(read(r#"{"promptTokenCount":8,"totalTokenCount":8}"#).tokens(), Some(usage(8, 0)));
        assert_eq!(read(r#"{"trafficType":"ON_DEMAND"}"#).tokens(), None);
    }

    proptest! {
        #[test]
        fn merging_reports_keeps_the_last_figure_of_each_field(
            reports in proptest::collection::vec(
                proptest::array::uniform3(proptest::option::of(0..u64::from(u32::MAX))),
                1..8,
            ),
        ) {
            let last = |field: usize| reports.iter().rev().find_map(|report| report[field]);
            let (input, read, output) = (last(0), last(1), last(2));
            let mut anthropic = AnthropicUsage::default();
            let mut gemini = GeminiUsage::default();
            for [input, read, output] in &reports {
                anthropic.merge(AnthropicUsage {
                    input_tokens: *input,
                    cache_read_input_tokens: *read,
                    output_tokens: *output,
                    ..AnthropicUsage::default()
                });
                gemini.merge(GeminiUsage {
                    prompt_token_count: *input,
                    cached_content_token_count: *read,
                    candidates_token_count: *output,
                    ..GeminiUsage::default()
                });
            }
            let anthropic = anthropic.tokens().unwrap_or_default();
            prop_assert_eq!(anthropic.input_tokens, input.map(|input| input + read.unwrap_or(0)));
            prop_assert_eq!(anthropic.output_tokens, output);
            let gemini = gemini.tokens().unwrap_or_default();
            prop_assert_eq!((gemini.input_tokens, gemini.output_tokens), (input, output));
        }
    }
}
