//! Parameters of a request that are one value each. Whoever writes a request takes those that its protocol has; what is
//! left over is told to the client as dropped, so that none can get lost in silence.

use super::refused::Refused;
use super::report::Report;
use crate::json::Value;

/// A parameter that some protocol has as one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Param {
    /// Randomness: 0 to 2, Anthropic's 0 to 1.
    Temperature,
    /// Nucleus sampling.
    TopP,
    /// Sampling among so many tokens (Anthropic, Gemini).
    TopK,
    /// For answers that repeat (OpenAI Chat, Gemini).
    Seed,
    /// OpenAI Chat, Gemini.
    PresencePenalty,
    /// OpenAI Chat, Gemini.
    FrequencyPenalty,
    /// OpenAI Chat.
    LogitBias,
    /// How long answers are (OpenAI).
    Verbosity,
    /// Who the end user is: OpenAI's `user` and `safety_identifier`, Anthropic's `metadata.user_id`.
    User,
    /// What OpenAI's prompt cache goes by.
    PromptCacheKey,
    /// `auto`, `default`, `flex`, `priority`, `standard_only` …
    ServiceTier,
    /// Whether the vendor keeps the answer (OpenAI).
    Store,
    /// Labels of the request, an object of strings: OpenAI's `metadata`, Gemini's `labels`.
    Metadata,
    /// Gemini's thresholds.
    SafetySettings,
    /// How finely Gemini looks at images.
    MediaResolution,
}

/// The parameters of a request, each as the client wrote it.
#[derive(Debug, Clone, Default)]
pub struct Params<'a> {
    given: Vec<Given<'a>>,
}

#[derive(Debug, Clone)]
struct Given<'a> {
    param: Param,
    /// The client's name for it, such as `generationConfig.topK`.
    name: &'static str,
    value: Value<'a>,
}

impl<'a> Params<'a> {
    /// Notes a parameter with the client's name for it. `null` counts as absent.
    pub fn give(&mut self, param: Param, name: &'static str, value: Option<Value<'a>>) {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            self.given.push(Given { param, name, value });
        }
    }

    /// Takes a parameter that the target has, to be written.
    pub fn take(&mut self, param: Param) -> Option<Value<'a>> {
        let at = self.given.iter().position(|given| given.param == param)?;
        Some(self.given.remove(at).value)
    }

    /// Looks at a parameter.
    pub fn get(&self, param: Param) -> Option<Value<'a>> {
        self.given.iter().find(|given| given.param == param).map(|given| given.value)
    }

    /// The client's name for a parameter that it gave.
    pub fn name(&self, param: Param) -> Option<&'static str> {
        self.given.iter().find(|given| given.param == param).map(|given| given.name)
    }

    /// Takes a parameter that must be a number. Where vendors take whole ones alone, `40.0` becomes `40`: Google's SDK writes
    /// every `topK` so.
    pub fn take_number(&mut self, param: Param) -> Result<Option<Value<'a>>, Refused> {
        let name = self.name(param).unwrap_or_default();
        match self.take(param) {
            Some(value) if value.number().is_none() => Err(Refused::wrong_type(name, "a number")),
            Some(value) if matches!(param, Param::TopK | Param::Seed) => Ok(Some(value.without_empty_fraction())),
            taken => Ok(taken),
        }
    }

    /// Reports what was not taken.
    pub fn drop_rest(self, report: &mut Report) {
        for given in self.given {
            report.dropped(given.name);
        }
    }
}
