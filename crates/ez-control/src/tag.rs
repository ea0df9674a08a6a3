//! Tags: what a record's content is known by, so that a change made from an old reading can be refused.

use std::fmt;

use ez_contract::TokenDigest;
use serde_json::json;

use crate::recorded::Recorded;

/// Digits of a tag: 128 bits, so that no two states of a record are ever taken for one another.
const DIGITS: usize = 32;

/// A record as configured, in 32 hex digits. It changes with every field that a change can name, and stays through use:
/// counters and live figures are not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordTag(String);

/// Which state of its record a change is meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// Whichever stands now.
    Any,
    /// One with any of these tags.
    OneOf(Vec<String>),
}

impl RecordTag {
    /// The tag of a record as it stands.
    pub fn of<R: Recorded>(record: &R) -> Self {
        let content = json!([R::KIND, record.id(), record.updated_at().timestamp_micros(), record.audited()]);
        let mut digits = TokenDigest::of(&content.to_string()).to_string();
        digits.truncate(DIGITS);
        Self(digits)
    }
}

impl fmt::Display for RecordTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Expectation {
    /// Whether a record with this tag is what was expected.
    pub(crate) fn is_met_by(&self, tag: &RecordTag) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.contains(&tag.0),
        }
    }
}
