//! Selectors: which upstream model of a provider group a binding stands for.

use regex::RegexBuilder;
use serde::{Deserialize, Serialize};

use crate::status::words;

/// Bytes of a compiled expression. Every one is compiled again with each change that touches its binding.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Models that an error names.
const MAX_HITS_TOLD: usize = 10;

words! {
    /// How a selector compares its value with a provider group's models.
    SelectorType {
        /// Equal.
        Exact = "exact",
        /// Unanchored regular expression that must hit exactly one model.
        Regex = "regex",
        /// Lower-cased ids after the last `/` are equal, for exactly one model.
        NormalizeExact = "normalize_exact",
    }
}

/// Why a selector picked no model. Every one of them makes the candidate a `config_error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Nothing matched.
    #[error("no model of the provider group matches `{0}`")]
    NoHit(String),
    /// Several models matched where one must.
    #[error("several models of the provider group match `{value}`: {hits}")]
    SeveralHits {
        /// The selector's value.
        value: String,
        /// The models that matched, separated by commas: the first ten, and how many more there are.
        hits: String,
    },
    /// The value is no regular expression, or takes too much memory as one.
    #[error("`{0}` is not a valid regular expression, or too large a one: repeat less, or write `[0-9]` for `\\d`")]
    InvalidRegex(String),
}

/// Picks the upstream model among a provider group's `models`. `value` is the binding's `selector_value`, or its
/// public model where that is empty.
pub fn select<'m>(selector_type: SelectorType, value: &str, models: &'m [String]) -> Result<&'m str, SelectorError> {
    let hits: Vec<&str> = match selector_type {
        SelectorType::Exact => models.iter().filter(|model| *model == value).map(String::as_str).take(1).collect(),
        SelectorType::Regex => {
            let regex = RegexBuilder::new(value)
                .size_limit(MAX_REGEX_BYTES)
                .build()
                .map_err(|_| SelectorError::InvalidRegex(value.to_owned()))?;
            models.iter().filter(|model| regex.is_match(model)).map(String::as_str).collect()
        }
        SelectorType::NormalizeExact => {
            let wanted = normalize(value);
            models.iter().filter(|model| normalize(model) == wanted).map(String::as_str).collect()
        }
    };
    match hits.as_slice() {
        [] => Err(SelectorError::NoHit(value.to_owned())),
        [only] => Ok(only),
        several => Err(SelectorError::SeveralHits { value: value.to_owned(), hits: told(several) }),
    }
}

fn told(hits: &[&str]) -> String {
    let named = hits.get(..MAX_HITS_TOLD).unwrap_or(hits);
    let more = hits.len() - named.len();
    let named = named.join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

/// A model id without what vendors put before it: lower-case, and only what follows the last `/`.
pub fn normalize(model: &str) -> String {
    model.rsplit('/').next().unwrap_or(model).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(selector_type: SelectorType, value: &str, expected: Result<&str, &str>) {
        let models: Vec<String> = ["gpt-4o", "gpt-4o-mini", "Kimi-K2", "a/dup", "b/DUP"].map(str::to_owned).into();
        let picked = select(selector_type, value, &models);
        match expected {
            Ok(model) => assert_eq!(picked, Ok(model), "{selector_type} {value}"),
            Err(text) => {
                let message = picked.unwrap_err().to_string();
                assert!(message.contains(text), "{selector_type} {value}: {message}");
            }
        }
    }

    #[test]
    fn each_kind_hits_exactly_one_model_or_says_why_not() {
        check(SelectorType::Exact, "gpt-4o", Ok("gpt-4o"));
        check(SelectorType::Exact, "gpt-4", Err("no model"));
        check(SelectorType::Regex, "mini$", Ok("gpt-4o-mini"));
        check(SelectorType::Regex, "gpt", Err("several models of the provider group match `gpt`: gpt-4o, gpt-4o-mini"));
        check(SelectorType::Regex, "(", Err("not a valid regular expression"));
        check(SelectorType::Regex, r"^(?i)kimi-\w+(-\d{4}-\d{2}-\d{2})?$", Ok("Kimi-K2"));
        check(SelectorType::Regex, r"(\pL{90}){9}", Err("too large"));
        check(SelectorType::NormalizeExact, "moonshot/kimi-k2", Ok("Kimi-K2"));
        check(SelectorType::NormalizeExact, "dup", Err("several"));
        check(SelectorType::NormalizeExact, "none", Err("no model"));
    }

    #[test]
    fn an_error_names_few_of_many_hits() {
        let models: Vec<String> = (10..5000).map(|number| format!("m{number}")).collect();
        let message = select(SelectorType::Regex, "m", &models).unwrap_err().to_string();
        assert!(message.ends_with(": m10, m11, m12, m13, m14, m15, m16, m17, m18, m19 and 4980 more"), "{message}");
    }
}
