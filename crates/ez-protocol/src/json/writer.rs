//! Writes a JSON document from its beginning to its end.

use super::{Escaped, Value};

/// A JSON text under way. Commas come by themselves; what is opened must be closed.
#[derive(Debug, Default)]
pub struct Writer {
    out: String,
}

impl Writer {
    /// A writer with room for about so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { out: String::with_capacity(bytes) }
    }

    /// What was written.
    pub fn finish(self) -> String {
        self.out
    }

    /// What was written so far.
    pub fn as_str(&self) -> &str {
        &self.out
    }

    /// Forgets what was written, and keeps the room.
    pub fn clear(&mut self) {
        self.out.clear();
    }

    /// An object, with what `fill` writes inside.
    pub fn object(&mut self, fill: impl FnOnce(&mut Self)) {
        self.separate();
        self.out.push('{');
        fill(self);
        self.out.push('}');
    }

    /// An array, with what `fill` writes inside.
    pub fn array(&mut self, fill: impl FnOnce(&mut Self)) {
        self.separate();
        self.out.push('[');
        fill(self);
        self.out.push(']');
    }

    /// The key of a member, which must need no escapes; its value comes next.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.separate();
        self.out.push('"');
        self.out.push_str(key);
        self.out.push_str("\":");
        self
    }

    /// The key of a member as it was written elsewhere.
    pub fn escaped_key(&mut self, key: &Escaped<'_>) -> &mut Self {
        self.key(key.as_str())
    }

    /// A string as it was written elsewhere.
    pub fn escaped(&mut self, text: &Escaped<'_>) {
        self.separate();
        self.out.push('"');
        self.out.push_str(text.as_str());
        self.out.push('"');
    }

    /// A string put together of several.
    pub fn joined<'t>(&mut self, texts: impl IntoIterator<Item = &'t Escaped<'t>>) {
        self.separate();
        self.out.push('"');
        for text in texts {
            self.out.push_str(text.as_str());
        }
        self.out.push('"');
    }

    /// A string.
    pub fn string(&mut self, text: &str) {
        self.escaped(&Escaped::of(text));
    }

    /// A value as it was written elsewhere.
    pub fn value(&mut self, value: Value<'_>) {
        self.raw(value.as_str());
    }

    /// A valid JSON text.
    pub fn raw(&mut self, json: &str) {
        self.separate();
        self.out.push_str(json);
    }

    /// A whole number.
    pub fn count(&mut self, count: u64) {
        self.separate();
        // A `String` takes every write.
        let _ = std::fmt::Write::write_fmt(&mut self.out, format_args!("{count}"));
    }

    /// `true` or `false`.
    pub fn bool(&mut self, truth: bool) {
        self.raw(if truth { "true" } else { "false" });
    }

    /// `null`.
    pub fn null(&mut self) {
        self.raw("null");
    }

    fn separate(&mut self) {
        if !matches!(self.out.as_bytes().last(), None | Some(b'{' | b'[' | b':')) {
            self.out.push(',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_stand_where_they_belong() {
        let mut json = Writer::default();
        json.object(|json| {
            json.key("a").array(|json| {
                json.count(1);
                json.string("x\"");
                json.object(|_| ());
                json.array(|_| ());
                json.null();
            });
            json.key("b").bool(true);
            json.key("c").string("[");
            json.key("d").string(":");
            json.key("e").raw("1.0");
        });
        assert_eq!(json.finish(), r#"{"a":[1,"x\"",{},[],null],"b":true,"c":"[","d":":","e":1.0}"#);
    }
}
