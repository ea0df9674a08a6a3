//! A JSON value where it stands in its text: what is asked of it is read, all else is not.

use std::ops::Range;

use super::{Escaped, walk};
use crate::scan::{self, MAX_MEMBERS, ScanError};

/// A valid JSON value, as it was written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a>(&'a str);

/// The kinds of JSON values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number of any size.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// More elements than any array of these APIs has: Anthropic takes 100,000 messages.
const MAX_ELEMENTS: usize = 200_000;

impl<'a> Value<'a> {
    /// `null`.
    pub const NULL: Value<'static> = Value("null");
    /// `{}`.
    pub const EMPTY_OBJECT: Value<'static> = Value("{}");

    /// Checks a JSON object, and takes it.
    pub fn object_in(text: &'a [u8]) -> Result<Self, ScanError> {
        scan::members(text)?;
        // The scan checked it.
        let text = std::str::from_utf8(text).map_err(|e| ScanError::Malformed { offset: e.valid_up_to() })?;
        Ok(Self(text.trim_ascii()))
    }

    /// Takes a JSON object out of a text that may be anything.
    pub fn parse_object(text: &'a str) -> Option<Self> {
        Self::object_in(text.as_bytes()).ok()
    }

    /// The value as it was written.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// What kind of value it is.
    pub fn kind(self) -> Kind {
        match self.0.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') | None => Kind::Null,
            Some(_) => Kind::Number,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// The text of a string.
    pub fn string(self) -> Option<Escaped<'a>> {
        let inside = self.0.strip_prefix('"')?.strip_suffix('"')?;
        Some(Escaped::as_written(inside))
    }

    /// Whether it is this string, which must need no escapes.
    pub fn is(self, text: &str) -> bool {
        self.string().is_some_and(|string| string.is(text))
    }

    /// The truth of a `true` or `false`.
    pub fn bool(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The value of a whole number from 0 on, also where it is written `1.0` or `1e3`.
    pub fn count(self) -> Option<u64> {
        if self.kind() != Kind::Number {
            return None;
        }
        self.0.parse().ok().or_else(|| {
            let number = self.0.parse::<f64>().ok()?;
            (number >= 0.0 && number.fract() == 0.0 && number < 9e15).then_some(number as u64)
        })
    }

    /// The same number without a fraction of nothing: `40.0` is `40`.
    pub fn without_empty_fraction(self) -> Self {
        match self.0.split_once('.') {
            Some((whole, rest)) if self.kind() == Kind::Number && rest.bytes().all(|digit| digit == b'0') => {
                Self(whole)
            }
            _ => self,
        }
    }

    /// The value of a number, as near as a float can be.
    pub fn number(self) -> Option<f64> {
        if self.kind() == Kind::Number { self.0.parse().ok() } else { None }
    }

    /// The elements of an array; `None` where there are more than any of these APIs takes.
    pub fn elements(self) -> Option<Vec<Value<'a>>> {
        let (mut elements, mut is_overfull) = (Vec::new(), false);
        let is_array = walk::elements(self.0.as_bytes(), |place| {
            is_overfull |= elements.len() == MAX_ELEMENTS;
            if !is_overfull {
                elements.push(self.part(place));
            }
        });
        (is_array && !is_overfull).then_some(elements)
    }

    /// The members of an object, in their order; `None` where there are more than any of these APIs has.
    pub fn members(self) -> Option<Vec<(Escaped<'a>, Value<'a>)>> {
        if self.kind() != Kind::Object {
            return None;
        }
        let (mut members, mut is_overfull) = (Vec::with_capacity(8), false);
        walk::members(self.0.as_bytes(), |key, value| {
            is_overfull |= members.len() == MAX_MEMBERS;
            if !is_overfull {
                members.push((Escaped::as_written(self.part(key).0), self.part(value)));
            }
        });
        (!is_overfull).then_some(members)
    }

    /// The member of an object with this key, which must need no escapes; the last where there are several. `null` counts
    /// as absent.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        let mut found = None;
        walk::members(self.0.as_bytes(), |name, value| {
            if Escaped::as_written(self.part(name).0).is(key) {
                found = Some(self.part(value));
            }
        });
        found.filter(|value| !value.is_null())
    }

    fn part(self, place: Range<usize>) -> Self {
        Self(self.0.get(place).unwrap_or_default())
    }
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_where_they_stand() {
        let text = r#" {"a":[1, 2.0,"x\n"],"b":null,"c":{"d":true},"a":7} "#;
        let value = Value::object_in(text.as_bytes()).unwrap();
        assert_eq!(value.as_str(), text.trim());
        assert_eq!((value.get("a").and_then(Value::count), value.get("b"), value.get("z")), (Some(7), None, None));
        let (_, array) = value.members().unwrap().remove(0);
        let kinds: Vec<_> = array.elements().unwrap().into_iter().map(|v| (v.kind(), v.count())).collect();
        assert_eq!(kinds, [(Kind::Number, Some(1)), (Kind::Number, Some(2)), (Kind::String, None)]);
        assert_eq!(array.elements().unwrap()[2].string().unwrap().text(), "x\n");
        assert_eq!(value.get("c").unwrap().get("d").unwrap().bool(), Some(true));
        let whole = |number: &'static str| Value(number).without_empty_fraction().as_str();
        assert_eq!(["40.0", "-1.00", "4.50", "7", "1.0e2"].map(whole), ["40", "-1", "4.50", "7", "1.0e2"]);
        assert!(Value::object_in(b"[]").is_err() && Value::parse_object("{").is_none());
        assert!(Value::parse_object("").is_none());
    }

    #[test]
    fn no_element_is_lost_in_silence() {
        let array = |elements: usize| format!("[{}0]", "0,".repeat(elements - 1));
        assert_eq!(Value(&array(MAX_ELEMENTS)).elements().map(|elements| elements.len()), Some(MAX_ELEMENTS));
        assert_eq!(Value(&array(MAX_ELEMENTS + 1)).elements(), None);
        let object = |members: usize| format!("{{{}}}", vec!["\"\":0"; members].join(","));
        assert_eq!(Value(&object(MAX_MEMBERS)).members().map(|members| members.len()), Some(MAX_MEMBERS));
        assert_eq!(Value(&object(MAX_MEMBERS + 1)).members(), None);
    }

    #[test]
    fn counts_are_whole_numbers_from_zero_on() {
        let count = |text: &'static str| Value(text).count();
        assert_eq!((count("5"), count("5.0"), count("1e3"), count("0")), (Some(5), Some(5), Some(1000), Some(0)));
        assert_eq!((count("-1"), count("1.5"), count("\"5\""), count("1e300")), (None, None, None, None));
    }
}
