//! The form of a catalogue as a document: JSON with one row per model (docs/operations.md). The bundled one, one that an
//! administrator sends, and one that is fetched are read alike.

use std::collections::HashMap;

use ez_contract::capability::CapabilityFields;
use ez_contract::models::{ModelKind, ModelsOrigin};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::facts::{MAX_TOKENS, ModelFacts, Prices, Supports, parse_price};
use super::{Catalogue, CatalogueModel};
use crate::ControlError;
use crate::checks;
use crate::error::Faults;

/// Bytes of a document at most.
pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;

/// Models of a document at most.
const MAX_MODELS: usize = 20_000;

/// What `supports` may hold.
const SUPPORTS: &str = "vision, functions, tool_choice, fim, stream";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with source, version and models")]
struct Document {
    source: String,
    version: String,
    #[serde(default)]
    license: String,
    #[serde(default)]
    upstream_url: String,
    #[serde(default)]
    upstream_ref: String,
    models: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    context_window: u64,
    #[serde(default)]
    max_output_tokens: u64,
    input: Option<PriceText>,
    output: Option<PriceText>,
    cache_read: Option<PriceText>,
    cache_write: Option<PriceText>,
    #[serde(default)]
    supports: Vec<String>,
    #[serde(default)]
    capabilities: CapabilityFields,
}

/// A price as it is written, in quotes or without: no float comes in between.
struct PriceText(String);

impl<'de> Deserialize<'de> for PriceText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        let price =
            if text.starts_with('"') { serde_json::from_str(text).map_err(D::Error::custom)? } else { text.to_owned() };
        Ok(Self(price))
    }
}

/// Reads a document. Errors: `Invalid` with every fault.
pub(crate) fn parse(text: &str) -> Result<Catalogue, ControlError> {
    if text.len() > MAX_DOCUMENT_BYTES {
        return Err(ControlError::invalid_at("", format!("a catalogue has at most {MAX_DOCUMENT_BYTES} bytes")));
    }
    let unreadable = |error| ControlError::invalid_at("", format!("is no catalogue: {}", without_position(&error)));
    let document: Document = serde_json::from_str(text).map_err(unreadable)?;
    let mut faults = Faults::default();
    checks::required_text(&mut faults, "/source", &document.source);
    checks::required_text(&mut faults, "/version", &document.version);
    checks::optional_text(&mut faults, "/license", &document.license);
    checks::optional_text(&mut faults, "/upstream_url", &document.upstream_url);
    checks::optional_text(&mut faults, "/upstream_ref", &document.upstream_ref);
    let models = models(&document.models, &mut faults);
    faults.into_result()?;
    let origin = ModelsOrigin {
        version: document.version,
        source: document.source,
        upstream_url: document.upstream_url,
        upstream_ref: document.upstream_ref,
    };
    Ok(Catalogue::new(origin, document.license, text, models))
}

fn models(rows: &[Box<RawValue>], faults: &mut Faults) -> Vec<CatalogueModel> {
    if rows.is_empty() || rows.len() > MAX_MODELS {
        faults.add("/models", format!("must have 1 to {MAX_MODELS} models"));
        return Vec::new();
    }
    let mut places: HashMap<String, usize> = HashMap::with_capacity(rows.len());
    let mut models = Vec::with_capacity(rows.len());
    for (place, row) in rows.iter().enumerate() {
        let pointer = format!("/models/{place}");
        // Serde would take a list for the fields in their order, and a price for another.
        let read = if row.get().starts_with('{') {
            serde_json::from_str(row.get())
        } else {
            Err(serde_json::Error::custom("must be an object with what is known of a model"))
        };
        let row: Row = match read {
            Ok(row) => row,
            Err(error) => {
                faults.add(pointer, without_position(&error));
                continue;
            }
        };
        if let Some(first) = places.insert(row.name.clone(), place) {
            faults.add(format!("{pointer}/name"), format!("is the name of /models/{first} already; leave one out"));
        }
        models.push(model(row, &pointer, faults));
    }
    models
}

fn model(row: Row, pointer: &str, faults: &mut Faults) -> CatalogueModel {
    checks::required_text(faults, &format!("{pointer}/name"), &row.name);
    for (field, tokens) in [("context_window", row.context_window), ("max_output_tokens", row.max_output_tokens)] {
        if tokens > MAX_TOKENS {
            faults.add(format!("{pointer}/{field}"), format!("must be at most {MAX_TOKENS} tokens"));
        }
    }
    let mut price = |field: &str, text: Option<PriceText>| {
        text.and_then(|PriceText(text)| {
            parse_price(&text).map_err(|error| faults.add(format!("{pointer}/{field}"), error)).ok()
        })
    };
    let prices = Prices {
        input: price("input", row.input),
        output: price("output", row.output),
        cache_read: price("cache_read", row.cache_read),
        cache_write: price("cache_write", row.cache_write),
    };
    let mut supports = Supports::default();
    for (place, word) in row.supports.iter().enumerate() {
        match word.as_str() {
            "vision" => supports.vision = true,
            "functions" => supports.functions = true,
            "tool_choice" => supports.tool_choice = true,
            "fim" => supports.fim = true,
            "stream" => supports.stream = true,
            _ => faults.add(format!("{pointer}/supports/{place}"), format!("must be one of: {SUPPORTS}")),
        }
    }
    let facts = ModelFacts {
        kind: ModelKind::of(&row.kind),
        context_window: row.context_window,
        max_output_tokens: row.max_output_tokens,
        prices,
        supports,
        capabilities: checks::capabilities(faults, &format!("{pointer}/capabilities"), row.capabilities),
    };
    CatalogueModel { name: row.name, facts }
}

/// The message alone; a row's own line and column would mislead.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(models: &str) -> String {
        format!(r#"{{"source":"ours","version":"7","models":[{models}]}}"#)
    }

    /// The faults as `pointer: message`.
    #[track_caller]
    fn faults(text: &str) -> Vec<String> {
        let Err(ControlError::Invalid(faults)) = parse(text) else { panic!("no faults") };
        faults.into_iter().map(|fault| format!("{}: {}", fault.pointer, fault.message)).collect()
    }

    #[test]
    fn a_row_says_what_it_says_and_nothing_else() {
        let rows = r#"{"name":"b","kind":"image","input":"2.50","output":1e1,"cache_read":0.1,"supports":["fim","vision"]},
            {"name":"a","context_window":5,"max_output_tokens":4,"cache_write":null,"capabilities":{"prefill":true}}"#;
        let catalogue = parse(&document(rows)).unwrap();
        let b = catalogue.find("b", "").unwrap();
        let prices = b.prices.named().map(|(_, price)| price.map(|price| price.to_string()));
        assert_eq!(prices, [Some("2.5".to_owned()), Some("10".to_owned()), Some("0.1".to_owned()), None]);
        let supports = Supports { fim: true, vision: true, ..Supports::default() };
        assert_eq!((b.kind, b.context_window, b.supports), (ModelKind::Other, 0, supports));
        let capabilities = serde_json::from_str(r#"{"prefill":true}"#).unwrap();
        let a = ModelFacts { context_window: 5, max_output_tokens: 4, capabilities, ..ModelFacts::default() };
        assert_eq!(catalogue.find("a", ""), Some(&a));
        assert_eq!((catalogue.origin.source.as_str(), catalogue.origin.version.as_str()), ("ours", "7"));
    }

    #[test]
    fn every_fault_is_told_at_its_place() {
        let rows = r#"{"name":" a","input":"-1"},{"name":"x","context_window":100000001,"supports":["sight","vision"],"capabilities":{"prefill":1}},
            {"name":"x","output":true},{"prices":{}},{"name":"y","context_window":-1},7,
            ["z","chat",0,0,"1","1","1","1",[]]"#;
        let text = document(rows).replace(r#""7""#, r#""""#);
        let told = faults(&text);
        let pointers: Vec<&str> = told.iter().map(|fault| fault.split(':').next().unwrap()).collect();
        let expected = [
            "/version",
            "/models/0/name",
            "/models/0/input",
            "/models/1/context_window",
            "/models/1/supports/0",
            "/models/1/capabilities/prefill",
            "/models/2/name",
            "/models/2/output",
            "/models/3",
            "/models/4",
            "/models/5",
            "/models/6",
        ];
        assert_eq!(pointers, expected, "{told:#?}");
        assert!(told[4].ends_with("must be one of: vision, functions, tool_choice, fim, stream"), "{}", told[4]);
        assert!(told[6].contains("/models/1 already"), "{}", told[6]);
        assert!(!told[9].contains("line"), "{}", told[9]);
        for fault in &told[10..] {
            assert!(fault.ends_with(": must be an object with what is known of a model"), "{fault}");
        }
    }

    #[test]
    fn what_is_no_catalogue_is_refused() {
        for (text, expected) in [
            ("[]", ": is no catalogue"),
            ("{", ": is no catalogue"),
            (r#"{"source":"x","version":"1","models":[],"extra":1}"#, ": is no catalogue: unknown field `extra`"),
            (&document(""), "/models: must have 1 to 20000 models"),
        ] {
            let told = faults(text);
            assert!(told[0].starts_with(expected), "{told:?}");
        }
        let large = document(&format!(r#"{{"name":"{}"}}"#, "x".repeat(MAX_DOCUMENT_BYTES)));
        assert_eq!(faults(&large), [": a catalogue has at most 4194304 bytes"]);
    }
}
