//! Rules on what an alert says, whoever says it.

use ez_contract::alerts::AlertFinding;
use serde_json::{Map, Value as Json};

use crate::checks;
use crate::error::Faults;
use crate::{ControlError, FieldFault};

/// Characters of a kind of record.
const MAX_WORD_CHARS: usize = 50;

/// Bytes of an alert's figures as JSON.
const MAX_METADATA_BYTES: usize = 8 << 10;

pub(super) fn title(faults: &mut Faults, text: &str) {
    checks::required_text(faults, "/title", text);
}

pub(super) fn message(faults: &mut Faults, text: &str) {
    checks::description(faults, "/message", text);
}

pub(super) fn fingerprint(faults: &mut Faults, text: &str) {
    checks::required_text(faults, "/fingerprint", text);
}

/// What an alert is about; whether there is such a record is nobody's concern, as it may be gone.
pub(super) fn related(faults: &mut Faults, kind: Option<&str>, name: Option<&str>) {
    let is_word = |text: &str| {
        text.len() <= MAX_WORD_CHARS
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    if kind.is_some_and(|kind| !is_word(kind)) {
        let rule = format!("must be a word of lower-case letters, digits and `_`, {MAX_WORD_CHARS} characters at most");
        faults.add("/related_type", rule);
    }
    checks::optional_text(faults, "/related_name", name.unwrap_or_default());
}

pub(super) fn metadata(faults: &mut Faults, figures: &Map<String, Json>) {
    let bytes = serde_json::to_vec(figures).map_or(usize::MAX, |text| text.len());
    if bytes > MAX_METADATA_BYTES {
        faults.add("/metadata", format!("must take at most {MAX_METADATA_BYTES} bytes as JSON"));
    }
}

/// What is wrong with a finding that came from elsewhere; none where nothing is.
pub(super) fn fault_of(finding: &AlertFinding) -> Option<String> {
    let mut faults = Faults::default();
    title(&mut faults, &finding.title);
    message(&mut faults, &finding.message);
    related(&mut faults, finding.related_type.as_deref(), finding.related_name.as_deref());
    metadata(&mut faults, &finding.metadata);
    fingerprint(&mut faults, &finding.fingerprint);
    let Err(ControlError::Invalid(faults)) = faults.into_result() else { return None };
    let told =
        |FieldFault { pointer, message }: &FieldFault| format!("`{}` {message}", pointer.trim_start_matches('/'));
    Some(faults.iter().map(told).collect::<Vec<_>>().join("; "))
}
