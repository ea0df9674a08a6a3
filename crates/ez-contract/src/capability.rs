//! What administrators may say of what a model takes, as data: the fields, and what each may hold. The control plane checks
//! by it and makes the document of its API from it; gateways read by it what is published. It is said where the gateway's own
//! table of model families (`ez-protocol`) does not fit, field by field.

mod fields;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

pub use fields::FIELDS;

/// A field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it says of a model.
    pub about: &'static str,
    /// What it may hold.
    pub shape: Shape,
    /// Whether it must be there.
    pub is_required: bool,
}

/// What a field may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of these words, each once at most.
    Words {
        /// The words.
        allowed: &'static [&'static str],
        /// How many at least.
        min: u64,
    },
    /// A whole number.
    Tokens {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// An object whose `style` says which other fields it has.
    Styled(&'static [Style]),
}

/// A style of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// The word in `style`.
    pub name: &'static str,
    /// What it means.
    pub about: &'static str,
    /// The fields beside `style`.
    pub fields: &'static [Field],
}

/// What is said of a model, as JSON and unchecked.
pub type CapabilityFields = Map<String, Value>;

/// What is said of what a model takes: each field is one of [`FIELDS`] and holds what it may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct CapabilityOverrides(CapabilityFields);

/// A field that is not known here, or holds what it may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct CapabilityFault {
    /// JSON pointer to it, such as `/reasoning/style`.
    pub pointer: String,
    /// The rule, and what to write instead.
    pub message: String,
}

impl CapabilityOverrides {
    /// Takes what is said as a whole. Errors: every fault.
    pub fn checked(fields: CapabilityFields) -> Result<Self, Vec<CapabilityFault>> {
        let faults = faults_of(&fields, FIELDS, "");
        if faults.is_empty() { Ok(Self(fields)) } else { Err(faults) }
    }

    /// Takes the fields that are understood, and tells what is wrong with the others: who says them may be newer.
    pub fn understood(fields: &CapabilityFields) -> (Self, Vec<CapabilityFault>) {
        let (mut known, mut faults) = (Map::new(), Vec::new());
        for (name, value) in fields {
            let found = fault_of_field(name, value, FIELDS, "");
            if found.is_empty() {
                known.insert(name.clone(), value.clone());
            }
            faults.extend(found);
        }
        (Self(known), faults)
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields.
    pub fn fields(&self) -> &CapabilityFields {
        &self.0
    }
}

impl From<CapabilityOverrides> for CapabilityFields {
    fn from(overrides: CapabilityOverrides) -> Self {
        overrides.0
    }
}

/// As a whole, like [`CapabilityOverrides::checked`].
impl<'de> Deserialize<'de> for CapabilityOverrides {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::checked(CapabilityFields::deserialize(deserializer)?).map_err(|faults| {
            let told: Vec<String> = faults.iter().map(CapabilityFault::to_string).collect();
            serde::de::Error::custom(told.join("; "))
        })
    }
}

/// What is wrong with an object of these fields; what it lacks is not looked for.
fn faults_of(given: &CapabilityFields, fields: &[Field], at: &str) -> Vec<CapabilityFault> {
    given.iter().flat_map(|(name, value)| fault_of_field(name, value, fields, at)).collect()
}

fn fault_of_field(name: &str, value: &Value, fields: &[Field], at: &str) -> Vec<CapabilityFault> {
    let pointer = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
    match fields.iter().find(|field| field.name == name) {
        Some(field) => field.shape.faults(value, &pointer),
        None => {
            let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            vec![fault(pointer, format!("is no field that is known; there may be: {known}"))]
        }
    }
}

impl Shape {
    fn faults(self, value: &Value, pointer: &str) -> Vec<CapabilityFault> {
        let unless = |is_right: bool, rule: String| if is_right { Vec::new() } else { vec![fault(pointer, rule)] };
        match self {
            Self::Flag => unless(value.is_boolean(), "must be true or false".to_owned()),
            Self::Word(allowed) => unless(is_word_of(value, allowed), one_of(allowed)),
            Self::Words { allowed, min } => match value.as_array() {
                Some(list) => faults_of_words(list, allowed, min, pointer),
                None => vec![fault(pointer, format!("must be a list of these words: {}", allowed.join(", ")))],
            },
            Self::Tokens { min, max } => {
                let is_within = value.as_u64().is_some_and(|tokens| (min..=max).contains(&tokens));
                unless(is_within, format!("must be a whole number of tokens from {min} to {max}"))
            }
            Self::Styled(styles) => match value.as_object() {
                Some(object) => faults_of_styled(object, styles, pointer),
                None => vec![fault(pointer, "must be an object with `style`")],
            },
        }
    }
}

fn faults_of_words(list: &[Value], allowed: &[&str], min: u64, pointer: &str) -> Vec<CapabilityFault> {
    if (list.len() as u64) < min {
        return vec![fault(pointer, format!("must have {min} of these words at least: {}", allowed.join(", ")))];
    }
    // One more than there are words must hold one twice.
    let looked_at = list.iter().take(allowed.len() + 1).enumerate();
    looked_at
        .filter_map(|(place, word)| {
            let rule = if !is_word_of(word, allowed) {
                one_of(allowed)
            } else if list.iter().take(place).any(|earlier| earlier == word) {
                "is in the list already; leave it out".to_owned()
            } else {
                return None;
            };
            Some(fault(format!("{pointer}/{place}"), rule))
        })
        .collect()
}

fn faults_of_styled(object: &CapabilityFields, styles: &[Style], pointer: &str) -> Vec<CapabilityFault> {
    let named = object.get("style").and_then(Value::as_str);
    let Some(style) = styles.iter().find(|style| Some(style.name) == named) else {
        let names: Vec<&str> = styles.iter().map(|style| style.name).collect();
        return vec![fault(format!("{pointer}/style"), one_of(&names))];
    };
    let beside = object.iter().filter(|(name, _)| *name != "style");
    let mut faults: Vec<CapabilityFault> =
        beside.flat_map(|(name, value)| fault_of_field(name, value, style.fields, pointer)).collect();
    let lacking = style.fields.iter().filter(|field| field.is_required && !object.contains_key(field.name));
    faults.extend(lacking.map(|field| {
        fault(format!("{pointer}/{}", field.name), format!("is required with the style `{}`", style.name))
    }));
    let tokens = |name: &str| object.get(name).and_then(Value::as_u64);
    if faults.is_empty() && tokens("max_budget") < tokens("min_budget") {
        faults.push(fault(format!("{pointer}/max_budget"), "must not be less than `min_budget`"));
    }
    faults
}

fn is_word_of(value: &Value, allowed: &[&str]) -> bool {
    value.as_str().is_some_and(|word| allowed.contains(&word))
}

fn one_of(allowed: &[&str]) -> String {
    format!("must be one of: {}", allowed.join(", "))
}

fn fault(pointer: impl Into<String>, message: impl Into<String>) -> CapabilityFault {
    CapabilityFault { pointer: pointer.into(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::fields::{EFFORTS, SAMPLING};
    use super::*;

    fn fields(value: Value) -> CapabilityFields {
        serde_json::from_value(value).unwrap()
    }

    /// The faults as `pointer: message`.
    fn told(faults: &[CapabilityFault]) -> Vec<String> {
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_every_field_may_hold_is_taken_as_it_stands() {
        let said = json!({
            "rejects": [], "rejects_while_reasoning": SAMPLING, "excludes_top_p_beside_temperature": true,
            "token_cap": "max_tokens", "instructions": "developer", "compatible": false,
            "reasoning": {"style": "none"}, "prefill": true, "mid_conversation_system": true,
            "structured_output": "tool", "schema": "openapi", "tools_beside_schema": false, "signs_calls": true,
            "rerank": "tei", "default_max_output_tokens": 1,
        });
        let taken = CapabilityOverrides::checked(fields(said.clone())).unwrap();
        assert_eq!(serde_json::to_value(&taken).unwrap(), said);
        assert_eq!(taken.fields().len(), FIELDS.len());
        for reasoning in [
            json!({"style": "effort", "efforts": EFFORTS}),
            json!({"style": "budget", "min_budget": 0, "max_budget": 0}),
            json!({"style": "budget", "min_budget": 1, "max_budget": 100_000_000, "can_disable": true}),
            json!({"style": "adaptive", "efforts": ["low"], "can_disable": false}),
            json!({"style": "level", "efforts": ["max"]}),
        ] {
            let taken = CapabilityOverrides::checked(fields(json!({"reasoning": reasoning})));
            assert!(taken.is_ok(), "{reasoning}: {taken:?}");
        }
        assert!(CapabilityOverrides::checked(Map::new()).unwrap().is_empty());
    }

    #[test]
    fn every_fault_is_told_at_its_place() {
        let wrong = json!({
            "compatible": 1, "default_max_output_tokens": 0, "prefill": null, "reject/s": ["seed"],
            "rejects": ["seed", "heat", "seed"], "rejects_while_reasoning": "seed", "token_cap": "max",
        });
        let found = told(&CapabilityOverrides::checked(fields(wrong)).unwrap_err());
        let expected = [
            "/compatible: must be true or false",
            "/default_max_output_tokens: must be a whole number of tokens from 1 to 100000000",
            "/prefill: must be true or false",
            "/reject~1s: is no field that is known; there may be: rejects, rejects_while_reasoning, ",
            "/rejects/1: must be one of: temperature, top_p, ",
            "/rejects/2: is in the list already; leave it out",
            "/rejects_while_reasoning: must be a list of these words: temperature, ",
            "/token_cap: must be one of: max_tokens, max_completion_tokens",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn a_style_says_which_fields_go_with_it() {
        let cases: [(Value, &[&str]); 9] = [
            (json!("effort"), &["/reasoning: must be an object with `style`"]),
            (json!({}), &["/reasoning/style: must be one of: none, effort, budget, adaptive, level"]),
            (json!({"style": "x"}), &["/reasoning/style: must be one of: none, effort, budget, adaptive, level"]),
            (
                json!({"style": "none", "efforts": ["low"]}),
                &["/reasoning/efforts: is no field that is known; there may be: nothing"],
            ),
            (json!({"style": "effort"}), &["/reasoning/efforts: is required with the style `effort`"]),
            (
                json!({"style": "level", "efforts": []}),
                &[
                    "/reasoning/efforts: must have 1 of these words at least: none, minimal, low, medium, high, xhigh, max",
                ],
            ),
            (
                json!({"style": "budget", "min_budget": -1}),
                &[
                    "/reasoning/min_budget: must be a whole number of tokens from 0 to 100000000",
                    "/reasoning/max_budget: is required with the style `budget`",
                ],
            ),
            (
                json!({"style": "budget", "min_budget": 2, "max_budget": 1}),
                &["/reasoning/max_budget: must not be less than `min_budget`"],
            ),
            (
                json!({"style": "adaptive", "efforts": ["low"], "can_disable": "yes"}),
                &["/reasoning/can_disable: must be true or false"],
            ),
        ];
        for (reasoning, expected) in cases {
            let found = told(&CapabilityOverrides::checked(fields(json!({"reasoning": reasoning}))).unwrap_err());
            assert_eq!(found, expected, "{reasoning}");
        }
    }

    #[test]
    fn what_is_understood_counts_without_the_rest() {
        let newer = json!({"prefill": true, "reasoning": {"style": "dream"}, "telepathy": true});
        let (known, faults) = CapabilityOverrides::understood(&fields(newer));
        assert_eq!(serde_json::to_value(&known).unwrap(), json!({"prefill": true}));
        let pointers: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, ["/reasoning/style", "/telepathy"]);
    }

    #[test]
    fn a_long_list_is_not_gone_through() {
        let list = vec!["seed"; 100_000];
        let faults = CapabilityOverrides::checked(fields(json!({"rejects": list}))).unwrap_err();
        assert_eq!(faults.len(), SAMPLING.len());
    }
}
