//! Models of ez-api's own export: what an administrator entered.

use std::collections::HashMap;

use ez_contract::capability::CapabilityOverrides;
use ez_contract::models::ModelKind;
use rust_decimal::Decimal;
use serde_json::Value as Json;

use super::document::Reading;
use super::entry::Entry;
use super::findings::Findings;
use super::plan::PlannedModel;
use crate::catalogue::{MAX_TOKENS, ModelFacts, Prices, Supports, parse_price};

/// The document's `models`. Each counts as a whole: what it does not tell is not known, whatever a catalogue says here.
/// What another system calls so is something else.
pub(super) fn read(reading: &Reading<'_>, findings: &mut Findings) -> Vec<PlannedModel> {
    if reading.is_foreign {
        return Vec::new();
    }
    let mut places: HashMap<String, String> = HashMap::new();
    let mut models = Vec::new();
    for entry in reading.entries("models", findings) {
        let name = entry.required_label("name", findings);
        let facts = facts(&entry, findings);
        let Some(name) = name else { continue };
        if let Some(first) = places.insert(name.clone(), entry.path().to_owned()) {
            findings.fault(entry.at("name"), format!("the model at {first} is named `{name}` too"));
        }
        models.push(PlannedModel { name, facts });
    }
    models
}

fn facts(entry: &Entry<'_>, findings: &mut Findings) -> ModelFacts {
    let mut size = |field: &str| {
        let size = entry.number(field, findings).unwrap_or(0);
        if size > MAX_TOKENS {
            findings.fault(entry.at(field), format!("must be at most {MAX_TOKENS} tokens"));
        }
        size
    };
    let [context_window, max_output_tokens] = ["context_window", "max_output_tokens"].map(&mut size);
    let mut flag = |field: &str| entry.flag(field, findings).unwrap_or(false);
    let supports = Supports {
        vision: flag("supports_vision"),
        functions: flag("supports_functions"),
        tool_choice: flag("supports_tool_choice"),
        fim: flag("supports_fim"),
        stream: flag("supports_stream"),
    };
    let kind = ModelKind::of(&entry.label("kind", findings).unwrap_or_default());
    let prices = entry.value("prices").and_then(|prices| Entry::new(prices, entry.at("prices"), findings));
    let mut price = |field: &str| price(prices.as_ref()?, field, findings);
    let prices = Prices {
        input: price("input"),
        output: price("output"),
        cache_read: price("cache_read"),
        cache_write: price("cache_write"),
    };
    let capabilities = capabilities(entry, findings);
    ModelFacts { kind, context_window, max_output_tokens, prices, supports, capabilities }
}

fn capabilities(entry: &Entry<'_>, findings: &mut Findings) -> CapabilityOverrides {
    let Some(said) = entry.value("capabilities") else { return CapabilityOverrides::default() };
    let Some(fields) = said.as_object() else {
        findings.fault(entry.at("capabilities"), "must be an object");
        return CapabilityOverrides::default();
    };
    CapabilityOverrides::checked(fields.clone()).unwrap_or_else(|faults| {
        for fault in faults {
            findings.fault(entry.at(&format!("capabilities{}", as_path(&fault.pointer))), fault.message);
        }
        CapabilityOverrides::default()
    })
}

/// A JSON pointer as the JSON paths of a document are written.
fn as_path(pointer: &str) -> String {
    let steps = pointer.split('/').skip(1).map(|step| match step.parse::<usize>() {
        Ok(place) => format!("[{place}]"),
        Err(_) => format!(".{}", step.replace("~1", "/").replace("~0", "~")),
    });
    steps.collect()
}

fn price(prices: &Entry<'_>, field: &str, findings: &mut Findings) -> Option<Decimal> {
    let text = match prices.value(field)? {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    parse_price(&text).map_err(|error| findings.fault(prices.at(field), error)).ok()
}
