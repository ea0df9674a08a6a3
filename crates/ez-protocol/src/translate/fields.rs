//! Reads the objects of a request: each field once, faults with their place, and what nobody asked for reported as
//! dropped.

use std::fmt::Write;

use super::refused::Refused;
use super::report::Report;
use crate::json::{Escaped, Kind, Value};

/// Where a value stands in the request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Path<'p> {
    /// The body itself.
    Root,
    /// A member of what stands at the other path.
    Key(&'p Path<'p>, &'p str),
    /// An element of it.
    Index(&'p Path<'p>, usize),
}

impl Path<'_> {
    /// With the places in lists: `messages[2].content`.
    pub(super) fn exact(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, true);
        out
    }

    /// Without them: `messages.content`.
    pub(super) fn general(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, false);
        out
    }

    fn write(&self, out: &mut String, is_exact: bool) {
        match self {
            Self::Root => {}
            Self::Key(parent, key) => {
                parent.write(out, is_exact);
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(key);
            }
            Self::Index(parent, index) => {
                parent.write(out, is_exact);
                if is_exact {
                    // A `String` takes every write.
                    let _ = write!(out, "[{index}]");
                }
            }
        }
    }
}

/// The fields of one object of a request. Each may be taken once; [`Fields::finish`] reports the rest as dropped.
#[derive(Debug)]
pub(super) struct Fields<'a, 'p> {
    path: Path<'p>,
    members: Vec<(Escaped<'a>, Value<'a>)>,
}

impl<'a, 'p> Fields<'a, 'p> {
    /// The fields of a value that must be an object.
    pub(super) fn of(value: Value<'a>, path: Path<'p>) -> Result<Self, Refused> {
        match value.members() {
            Some(members) => Ok(Self { path, members }),
            None => Err(Refused::wrong_type(path.exact(), "an object")),
        }
    }

    /// The same for an object of proto-JSON, whose fields may be named in `camelCase` or in `snake_case`: here they are in
    /// `camelCase`.
    pub(super) fn of_proto(value: Value<'a>, path: Path<'p>) -> Result<Self, Refused> {
        let mut fields = Self::of(value, path)?;
        for (name, _) in &mut fields.members {
            if name.as_str().contains('_') {
                *name = Escaped::of_owned(camel_case(&name.text()));
            }
        }
        Ok(fields)
    }

    /// Takes a field; `null` counts as absent. The last one stands where there are several.
    pub(super) fn take(&mut self, key: &str) -> Option<Value<'a>> {
        let mut taken = None;
        self.members.retain(|(name, value)| {
            let is_it = name.is(key);
            if is_it {
                taken = Some(*value);
            }
            !is_it
        });
        taken.filter(|value| !value.is_null())
    }

    /// Takes a field that must be there.
    pub(super) fn require(&mut self, key: &str) -> Result<Value<'a>, Refused> {
        self.take(key).ok_or_else(|| Refused::missing(self.place(key)))
    }

    /// Takes a string.
    pub(super) fn string(&mut self, key: &str) -> Result<Option<Escaped<'a>>, Refused> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value.string().map(Some).ok_or_else(|| self.wrong(key, "a string"))
    }

    /// Takes a string that must be there.
    pub(super) fn require_string(&mut self, key: &str) -> Result<Escaped<'a>, Refused> {
        let value = self.require(key)?;
        value.string().ok_or_else(|| self.wrong(key, "a string"))
    }

    /// Takes `true` or `false`.
    pub(super) fn bool(&mut self, key: &str) -> Result<Option<bool>, Refused> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value.bool().map(Some).ok_or_else(|| self.wrong(key, "true or false"))
    }

    /// Takes a whole number from 0 on.
    pub(super) fn count(&mut self, key: &str) -> Result<Option<u64>, Refused> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value.count().map(Some).ok_or_else(|| self.wrong(key, "a whole number from 0 on"))
    }

    /// Takes an object, whatever is in it.
    pub(super) fn object(&mut self, key: &str) -> Result<Option<Value<'a>>, Refused> {
        let Some(value) = self.take(key) else { return Ok(None) };
        if value.kind() == Kind::Object { Ok(Some(value)) } else { Err(self.wrong(key, "an object")) }
    }

    /// Takes an array.
    pub(super) fn array(&mut self, key: &str) -> Result<Option<Vec<Value<'a>>>, Refused> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value.elements().map(Some).ok_or_else(|| self.wrong(key, "an array"))
    }

    /// The path of a field of this object.
    pub(super) fn place(&self, key: &str) -> String {
        Path::Key(&self.path, key).exact()
    }

    /// This object's own path.
    pub(super) fn path(&self) -> &Path<'p> {
        &self.path
    }

    /// A field of the wrong type. `expected` goes on after "must be".
    pub(super) fn wrong(&self, key: &str, expected: &str) -> Refused {
        Refused::wrong_type(self.place(key), expected)
    }

    /// Reports a field that was taken and is left out.
    pub(super) fn dropped(&self, key: &str, report: &mut Report) {
        report.dropped(&Path::Key(&self.path, key).general());
    }

    /// Leaves fields out without a word: those that say nothing the upstream could use (`id` of a message).
    pub(super) fn ignore(&mut self, keys: &[&str]) {
        self.members.retain(|(name, _)| !keys.iter().any(|key| name.is(key)));
    }

    /// Reports every field that was not taken; `null` and empty ones ask for nothing.
    pub(super) fn finish(self, report: &mut Report) {
        for (name, value) in &self.members {
            if !matches!(value.as_str(), "null" | "[]" | "{}" | "\"\"") {
                report.dropped(&Path::Key(&self.path, &name.text()).general());
            }
        }
    }
}

/// `maxOutputTokens` for `max_output_tokens`.
pub(super) fn camel_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut is_next_upper = false;
    for c in name.chars() {
        if c == '_' && !out.is_empty() {
            is_next_upper = true;
        } else {
            out.push(if is_next_upper { c.to_ascii_uppercase() } else { c });
            is_next_upper = false;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proto_json_has_two_names_for_a_field() {
        let body = Value::parse_object(r#"{"top_k":1,"maxOutputTokens":2,"thing_of_mine":3,"_x":4}"#).unwrap();
        let mut fields = Fields::of_proto(body, Path::Root).unwrap();
        assert_eq!((fields.count("topK"), fields.count("maxOutputTokens")), (Ok(Some(1)), Ok(Some(2))));
        let mut report = Report::default();
        fields.finish(&mut report);
        assert_eq!(report.names(), ["thingOfMine", "_x"]);
    }
}
