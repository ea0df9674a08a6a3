//! Rules on single fields that several records share.

use std::collections::HashSet;
use std::hash::Hash;

use ez_contract::capability::{CapabilityFields, CapabilityOverrides};

use crate::error::Faults;

/// Characters of a name, a label or a model id.
const MAX_TEXT_CHARS: usize = 200;

/// Characters of a text for people.
const MAX_DESCRIPTION_CHARS: usize = 2000;

/// Entries of a list in a record.
const MAX_LIST: usize = 5000;

/// A name, label or model id that must be there.
pub(crate) fn required_text(faults: &mut Faults, pointer: &str, text: &str) {
    if let Some(fault) = required_text_fault(text) {
        faults.add(pointer, fault);
    }
}

/// A name or label that may be empty.
pub(crate) fn optional_text(faults: &mut Faults, pointer: &str, text: &str) {
    if let Some(fault) = text_fault(text) {
        faults.add(pointer, fault);
    }
}

/// A text for people.
pub(crate) fn description(faults: &mut Faults, pointer: &str, text: &str) {
    if text.chars().count() > MAX_DESCRIPTION_CHARS {
        faults.add(pointer, format!("must have at most {MAX_DESCRIPTION_CHARS} characters"));
    } else if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        faults.add(pointer, "must not hold control characters other than line breaks and tabs");
    }
}

/// A list whose entries each pass `fault`, which says what is wrong with one.
pub(crate) fn each(faults: &mut Faults, pointer: &str, texts: &[String], fault: impl Fn(&str) -> Option<String>) {
    if texts.len() > MAX_LIST {
        faults.add(pointer, format!("must have at most {MAX_LIST} entries"));
        return;
    }
    for (place, text) in texts.iter().enumerate() {
        if let Some(fault) = fault(text) {
            faults.add(format!("{pointer}/{place}"), fault);
        }
    }
}

/// A list of names or model ids.
pub(crate) fn each_text(faults: &mut Faults, pointer: &str, texts: &[String]) {
    each(faults, pointer, texts, required_text_fault);
}

/// What is said of what a model takes; nothing where it has faults.
pub(crate) fn capabilities(faults: &mut Faults, pointer: &str, fields: CapabilityFields) -> CapabilityOverrides {
    CapabilityOverrides::checked(fields).unwrap_or_else(|found| {
        for fault in found {
            faults.add(format!("{pointer}{}", fault.pointer), fault.message);
        }
        CapabilityOverrides::default()
    })
}

/// The same values in their order, each once.
pub(crate) fn deduplicated<T: Clone + Eq + Hash>(values: Vec<T>) -> Vec<T> {
    let mut seen = HashSet::new();
    values.into_iter().filter(|value| seen.insert(value.clone())).collect()
}

fn required_text_fault(text: &str) -> Option<String> {
    if text.is_empty() { Some("must not be empty".to_owned()) } else { text_fault(text) }
}

pub(crate) fn text_fault(text: &str) -> Option<String> {
    if text.chars().count() > MAX_TEXT_CHARS {
        Some(format!("must have at most {MAX_TEXT_CHARS} characters"))
    } else if text.chars().any(char::is_control) {
        Some("must not hold control characters".to_owned())
    } else if text.trim() != text {
        Some("must not begin or end with white space".to_owned())
    } else {
        None
    }
}
