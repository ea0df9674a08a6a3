//! What an import finds in a document: faults, each with its JSON path, and warnings, alike ones told once.

use std::collections::HashMap;
use std::fmt;

use crate::{ControlError, FieldFault};

/// Faults that are told; the last one then says how many more there are.
const MAX_FAULTS: usize = 1000;

/// Different warnings that are told.
const MAX_WARNINGS: usize = 1000;

/// Paths that one warning names.
const MAX_PATHS: usize = 5;

/// Collects faults and warnings while a document is read and applied.
#[derive(Debug, Default)]
pub(super) struct Findings {
    faults: Vec<FieldFault>,
    further_faults: usize,
    warnings: Vec<Warning>,
    /// Place of each warning in `warnings`, by its text.
    places: HashMap<String, usize>,
    further_warnings: usize,
}

#[derive(Debug)]
struct Warning {
    text: String,
    paths: Vec<String>,
    further_paths: usize,
}

impl Findings {
    /// Notes a fault: nothing will be written.
    pub(super) fn fault(&mut self, path: impl Into<String>, message: impl fmt::Display) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(FieldFault { pointer: path.into(), message: message.to_string() });
        } else {
            self.further_faults += 1;
        }
    }

    /// Notes something that the operator should know. Warnings of the same text become one that names their paths.
    pub(super) fn warn(&mut self, path: &str, text: impl Into<String>) {
        let text = text.into();
        if let Some(warning) = self.places.get(&text).and_then(|place| self.warnings.get_mut(*place)) {
            warning.add(path);
        } else if self.warnings.len() < MAX_WARNINGS {
            self.places.insert(text.clone(), self.warnings.len());
            let mut warning = Warning { text, paths: Vec::new(), further_paths: 0 };
            warning.add(path);
            self.warnings.push(warning);
        } else {
            self.further_warnings += 1;
        }
    }

    /// Ends with every fault, if there is one. Errors: `Invalid`; its pointers are JSON paths.
    pub(super) fn refuse_faults(&mut self) -> Result<(), ControlError> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let mut faults = std::mem::take(&mut self.faults);
        if self.further_faults > 0 {
            let message = format!("has {} more faults; mend these first", self.further_faults);
            faults.push(FieldFault { pointer: "$".to_owned(), message });
        }
        Err(ControlError::Invalid(faults))
    }

    /// The warnings as texts for people, in the order in which they came up.
    pub(super) fn into_warnings(self) -> Vec<String> {
        let mut texts: Vec<String> = self.warnings.iter().map(ToString::to_string).collect();
        if self.further_warnings > 0 {
            texts.push(format!("and {} more warnings", self.further_warnings));
        }
        texts
    }
}

impl Warning {
    fn add(&mut self, path: &str) {
        if self.paths.len() < MAX_PATHS {
            self.paths.push(path.to_owned());
        } else {
            self.further_paths += 1;
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.paths.join(", "), self.text)?;
        if self.further_paths > 0 {
            write!(f, " (and {} more alike)", self.further_paths)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alike_warnings_are_told_once_with_their_paths() {
        let mut findings = Findings::default();
        for place in 0..7 {
            findings.warn(&format!("$.data.keys[{place}]"), "the quota is opaque");
        }
        findings.warn("$.data", "another");
        findings.refuse_faults().unwrap();
        let warnings = findings.into_warnings();
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].starts_with("$.data.keys[0], $.data.keys[1]"), "{warnings:?}");
        assert!(warnings[0].ends_with("$.data.keys[4]: the quota is opaque (and 2 more alike)"), "{warnings:?}");
    }

    #[test]
    fn faults_beyond_the_bound_are_counted() {
        let mut findings = Findings::default();
        for place in 0..MAX_FAULTS + 3 {
            findings.fault(format!("$[{place}]"), "is wrong");
        }
        let Err(ControlError::Invalid(faults)) = findings.refuse_faults() else { panic!("no faults") };
        assert_eq!(faults.len(), MAX_FAULTS + 1);
        assert_eq!(faults[MAX_FAULTS].message, "has 3 more faults; mend these first");
    }
}
