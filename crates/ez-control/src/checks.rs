//! Rules on single fields that several records share.

use crate::error::Faults;

/// Characters of a name, a label or a model id.
const MAX_TEXT_CHARS: usize = 200;

/// Characters of a text for people.
const MAX_DESCRIPTION_CHARS: usize = 2000;

/// Entries of a list in a record.
const MAX_LIST: usize = 5000;

/// A name, label or model id that must be there.
pub(crate) fn required_text(faults: &mut Faults, pointer: &str, text: &str) {
    if text.is_empty() {
        faults.add(pointer, "must not be empty");
    }
    optional_text(faults, pointer, text);
}

/// A name or label that may be empty.
pub(crate) fn optional_text(faults: &mut Faults, pointer: &str, text: &str) {
    if text.chars().count() > MAX_TEXT_CHARS {
        faults.add(pointer, format!("must have at most {MAX_TEXT_CHARS} characters"));
    } else if text.chars().any(char::is_control) {
        faults.add(pointer, "must not hold control characters");
    } else if text.trim() != text {
        faults.add(pointer, "must not begin or end with white space");
    }
}

/// A text for people.
pub(crate) fn description(faults: &mut Faults, pointer: &str, text: &str) {
    if text.chars().count() > MAX_DESCRIPTION_CHARS {
        faults.add(pointer, format!("must have at most {MAX_DESCRIPTION_CHARS} characters"));
    }
}

/// A list whose entries each pass `check`, which says what is wrong with one.
pub(crate) fn each(faults: &mut Faults, pointer: &str, texts: &[String], check: impl Fn(&str) -> Result<(), String>) {
    if texts.len() > MAX_LIST {
        faults.add(pointer, format!("must have at most {MAX_LIST} entries"));
        return;
    }
    for (place, text) in texts.iter().enumerate() {
        if let Err(message) = check(text) {
            faults.add(format!("{pointer}/{place}"), message);
        }
    }
}

/// A list of names or model ids.
pub(crate) fn each_text(faults: &mut Faults, pointer: &str, texts: &[String]) {
    each(faults, pointer, texts, |text| {
        let mut own = Faults::default();
        required_text(&mut own, "", text);
        own.first_message().map_or(Ok(()), Err)
    });
}

/// The same values in their order, each once.
pub(crate) fn deduplicated<T: PartialEq>(values: Vec<T>) -> Vec<T> {
    values.into_iter().fold(Vec::new(), |mut kept, value| {
        if !kept.contains(&value) {
            kept.push(value);
        }
        kept
    })
}
