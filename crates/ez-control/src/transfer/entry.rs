//! One entry of a document: its fields by name, each fault noted under the field's JSON path. Unknown fields are
//! ignored, as other programs write more than this one reads; `null` is the same as absent.

use std::str::FromStr;

use chrono::{DateTime, Datelike, SubsecRound, Utc};
use secrecy::SecretString;
use serde_json::{Map, Value as Json};

use super::findings::Findings;
use crate::checks;

/// Entries of a list within an entry.
const MAX_LIST: usize = 5000;

/// The last year that RFC 3339 can write; its first is 0.
const LAST_YEAR: i32 = 9999;

/// An object of the document and where it stands.
pub(super) struct Entry<'a> {
    fields: &'a Map<String, Json>,
    path: String,
}

/// A text of a list, with its place in it.
pub(super) struct Item {
    pub(super) text: String,
    pub(super) path: String,
}

impl<'a> Entry<'a> {
    /// The entry at `path`, where it is an object.
    pub(super) fn new(value: &'a Json, path: String, findings: &mut Findings) -> Option<Self> {
        match value.as_object() {
            Some(fields) => Some(Self { fields, path }),
            None => {
                findings.fault(path, "must be an object");
                None
            }
        }
    }

    /// Its JSON path.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The JSON path of a field.
    pub(super) fn at(&self, field: &str) -> String {
        format!("{}.{field}", self.path)
    }

    /// The names of its fields.
    pub(super) fn fields(&self) -> impl ExactSizeIterator<Item = &'a String> {
        self.fields.keys()
    }

    /// Whether a field is there, be it null.
    pub(super) fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// The value of a field that is there and not null.
    pub(super) fn value(&self, field: &str) -> Option<&'a Json> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// A text as it stands.
    pub(super) fn raw_text(&self, field: &str, findings: &mut Findings) -> Option<&'a str> {
        let value = self.value(field)?;
        let text = value.as_str();
        if text.is_none() {
            findings.fault(self.at(field), "must be a text");
        }
        text
    }

    /// A name or label without the white space around it; none where that leaves nothing.
    pub(super) fn label(&self, field: &str, findings: &mut Findings) -> Option<String> {
        let text = self.raw_text(field, findings)?.trim();
        if let Some(fault) = checks::text_fault(text) {
            findings.fault(self.at(field), fault);
        }
        Some(text.to_owned()).filter(|text| !text.is_empty())
    }

    /// A name or label that must be there.
    pub(super) fn required_label(&self, field: &str, findings: &mut Findings) -> Option<String> {
        let label = self.label(field, findings);
        let is_absent = self.value(field).is_none_or(|value| value.as_str().is_some_and(|text| text.trim().is_empty()));
        if is_absent {
            findings.fault(self.at(field), "is required and must not be empty");
        }
        label
    }

    /// A secret in clear, without the white space around it; none where that leaves nothing.
    pub(super) fn secret(&self, field: &str, findings: &mut Findings) -> Option<SecretString> {
        let text = self.raw_text(field, findings)?.trim();
        Some(text).filter(|text| !text.is_empty()).map(SecretString::from)
    }

    /// A list of texts without the white space around each; empty ones are dropped.
    pub(super) fn items(&self, field: &str, findings: &mut Findings) -> Option<Vec<Item>> {
        let value = self.value(field)?;
        let Some(list) = value.as_array() else {
            findings.fault(self.at(field), "must be a list of texts");
            return None;
        };
        if list.len() > MAX_LIST {
            findings.fault(self.at(field), format!("must have at most {MAX_LIST} entries"));
            return None;
        }
        let mut items = Vec::with_capacity(list.len());
        for (place, value) in list.iter().enumerate() {
            let path = format!("{}.{field}[{place}]", self.path);
            let Some(text) = value.as_str().map(str::trim) else {
                findings.fault(path, "must be a text");
                continue;
            };
            match checks::text_fault(text) {
                Some(fault) => findings.fault(path, fault),
                None if text.is_empty() => {}
                None => items.push(Item { text: text.to_owned(), path }),
            }
        }
        Some(items)
    }

    /// A list of names or model ids, each once.
    pub(super) fn labels(&self, field: &str, findings: &mut Findings) -> Option<Vec<String>> {
        let items = self.items(field, findings)?;
        Some(checks::deduplicated(items.into_iter().map(|item| item.text).collect()))
    }

    /// A whole number that fits its type.
    pub(super) fn number<N: TryFrom<i64>>(&self, field: &str, findings: &mut Findings) -> Option<N> {
        let value = self.value(field)?;
        let number = whole(value).and_then(|number| N::try_from(number).ok());
        if number.is_none() {
            let is_negative = value.as_f64().is_some_and(|number| number < 0.0);
            let rule =
                if is_negative { "must not be negative" } else { "must be a whole number that is not too large" };
            findings.fault(self.at(field), rule);
        }
        number
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, field: &str, findings: &mut Findings) -> Option<bool> {
        let value = self.value(field)?;
        let flag = value.as_bool();
        if flag.is_none() {
            findings.fault(self.at(field), "must be true or false");
        }
        flag
    }

    /// A time, as RFC 3339 or Unix seconds; none for 0 and -1, which New API writes for "never".
    pub(super) fn time(&self, field: &str, findings: &mut Findings) -> Option<DateTime<Utc>> {
        let value = self.value(field)?;
        if matches!(value.as_i64(), Some(0 | -1)) {
            return None;
        }
        let time = match value {
            Json::String(text) => DateTime::parse_from_rfc3339(text.trim()).ok().map(|time| time.with_timezone(&Utc)),
            other => other.as_i64().and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
        };
        let time = time.map(|time| time.trunc_subsecs(6)).filter(|time| (0..=LAST_YEAR).contains(&time.year()));
        if time.is_none() {
            findings.fault(self.at(field), "must be a time such as 2026-12-31T00:00:00Z, or Unix seconds");
        }
        time
    }

    /// A word of a closed set.
    pub(super) fn word<W>(&self, field: &str, findings: &mut Findings) -> Option<W>
    where
        W: FromStr,
        W::Err: std::fmt::Display,
    {
        let text = self.label(field, findings)?;
        self.parsed(field, &text, findings)
    }

    /// A text that is parsed.
    pub(super) fn parsed<T>(&self, field: &str, text: &str, findings: &mut Findings) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        text.parse().map_err(|error: T::Err| findings.fault(self.at(field), error)).ok()
    }

    /// A status, where `disabled` is another word for `disabled_is`, and `enabled` for `active`.
    pub(super) fn status<S>(&self, disabled_is: &str, findings: &mut Findings) -> Option<S>
    where
        S: FromStr,
        S::Err: std::fmt::Display,
    {
        let text = self.label("status", findings)?;
        let word = match text.as_str() {
            "disabled" => disabled_is,
            "enabled" => "active",
            other => other,
        };
        self.parsed("status", word, findings)
    }
}

/// A whole number, also where it is written as `5.0`.
fn whole(value: &Json) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64()?.to_string().parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(value: &Json, read: impl Fn(&Entry<'_>, &mut Findings)) -> Vec<String> {
        let mut findings = Findings::default();
        let entry = Entry::new(value, "$.x[1]".to_owned(), &mut findings).unwrap();
        read(&entry, &mut findings);
        match findings.refuse_faults() {
            Ok(()) => Vec::new(),
            Err(crate::ControlError::Invalid(faults)) => faults.into_iter().map(|fault| fault.pointer).collect(),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_wrong_type_is_a_fault_at_its_path_and_null_is_absent() {
        let value = json!({"a": 1, "b": "x", "c": [1, "ok", "bad\u{0}"], "d": -1, "e": "soon", "n": null});
        let found = faults(&value, |entry, findings| {
            assert_eq!(entry.label("a", findings), None);
            assert_eq!(entry.flag("b", findings), None);
            assert_eq!(entry.labels("c", findings), Some(vec!["ok".to_owned()]));
            assert_eq!(entry.number::<u32>("d", findings), None);
            assert_eq!(entry.time("e", findings), None);
            assert_eq!(entry.required_label("n", findings), None);
            assert_eq!(entry.label("unheard", findings), None);
        });
        let expected = ["$.x[1].a", "$.x[1].b", "$.x[1].c[0]", "$.x[1].c[2]", "$.x[1].d", "$.x[1].e", "$.x[1].n"];
        assert_eq!(found, expected);
    }

    #[test]
    fn whole_numbers_may_have_a_point() {
        let value = json!({"a": 5.0, "b": 1e3, "c": 5.5, "d": 1e300, "e": "5"});
        let found = faults(&value, |entry, findings| {
            assert_eq!(entry.number::<u32>("a", findings), Some(5));
            assert_eq!(entry.number::<u32>("b", findings), Some(1000));
            for field in ["c", "d", "e"] {
                assert_eq!(entry.number::<u64>(field, findings), None);
            }
        });
        assert_eq!(found, ["$.x[1].c", "$.x[1].d", "$.x[1].e"]);
    }

    #[test]
    fn times_come_as_text_or_seconds_and_never_is_none() {
        let value = json!({"a": "2026-12-31T00:00:00Z", "b": 1_798_675_200, "c": -1});
        let found = faults(&value, |entry, findings| {
            let text = entry.time("a", findings).unwrap();
            assert_eq!(entry.time("b", findings), Some(text));
            assert_eq!(entry.time("c", findings), None);
        });
        assert!(found.is_empty(), "{found:?}");
    }
}
