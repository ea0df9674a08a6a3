//! Runtime flags of ez-api's own export.

use std::collections::BTreeMap;

use super::document::Reading;
use super::findings::Findings;
use crate::features;

/// Flags of a document: more than there can be.
const MAX_FLAGS: usize = 1000;

/// The document's `features` that are flags here, and how many are not. What another system calls so is something else.
pub(super) fn read(reading: &Reading<'_>, findings: &mut Findings) -> (BTreeMap<String, bool>, u64) {
    let (mut flags, mut unknown) = (BTreeMap::new(), 0);
    let Some(entry) = reading.own_object("features", findings) else { return (flags, unknown) };
    if entry.fields().len() > MAX_FLAGS {
        findings.fault(entry.path(), format!("must have at most {MAX_FLAGS} flags"));
        return (flags, unknown);
    }
    for name in entry.fields() {
        if !features::is_known(name) {
            findings.warn(entry.path(), format!("there is no flag `{}` here; it is left out", shown(name)));
            unknown += 1;
        } else if let Some(value) = entry.flag(name, findings) {
            flags.insert(name.clone(), value);
        }
    }
    (flags, unknown)
}

/// Of a name that may be anything.
fn shown(name: &str) -> String {
    name.chars().filter(|character| !character.is_control()).take(100).collect()
}
