//! A schema with all that belongs to it: what it refers to, and what its `allOf` adds, in one place.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::json::{Escaped, Kind, Value};

/// The most bytes that references add where they are written out.
const MAX_INLINED_BYTES: usize = 512 << 10;

/// The members that are written as they are.
pub(super) const PLAIN: [&str; 16] = [
    "title",
    "description",
    "default",
    "example",
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "nullable",
    "enum",
];

/// What references lead to, and which are being written out.
pub(super) struct References<'a> {
    definitions: HashMap<String, Value<'a>>,
    open: Vec<String>,
    inlined_bytes: usize,
}

impl<'a> References<'a> {
    /// Those of a document: `$defs` and `definitions` at its top.
    pub(super) fn of(document: Value<'a>) -> Self {
        let mut definitions = HashMap::new();
        for list in ["$defs", "definitions"] {
            let members = document.get(list).and_then(Value::members).unwrap_or_default();
            definitions.extend(members.into_iter().map(|(name, value)| (format!("#/{list}/{}", name.text()), value)));
        }
        Self { definitions, open: Vec::new(), inlined_bytes: 0 }
    }

    /// How many are being written out.
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    /// Forgets those that were opened since.
    pub(super) fn close(&mut self, depth: usize) {
        self.open.truncate(depth);
    }

    /// What a reference leads to; `None` where it is written out in this very schema already, and adds nothing.
    fn open(&mut self, pointer: &str, since: usize) -> Result<Option<Value<'a>>, &'static str> {
        match self.open.iter().position(|open| open == pointer) {
            Some(at) if at >= since => return Ok(None),
            Some(_) => return Err("has a `$ref` to what it stands in, which this model cannot take: unroll it"),
            None => {}
        }
        let unescaped = pointer.replace("~1", "/").replace("~0", "~");
        let target = *self
            .definitions
            .get(&unescaped)
            .ok_or("has a `$ref` that leads nowhere: refer to `#/$defs/NAME`, or write the schema out")?;
        self.inlined_bytes += target.as_str().len();
        if self.inlined_bytes > MAX_INLINED_BYTES {
            return Err("is too large for this model when its `$ref`s are written out: make it smaller");
        }
        self.open.push(pointer.to_owned());
        Ok(Some(target))
    }
}

/// A schema in one place. What it says itself goes before what it takes over.
#[derive(Default)]
pub(super) struct Node<'a> {
    pub(super) types: Vec<Cow<'a, str>>,
    pub(super) nullable: bool,
    pub(super) properties: Option<Vec<(Escaped<'a>, Value<'a>)>>,
    pub(super) required: Vec<Escaped<'a>>,
    pub(super) alternatives: Vec<Value<'a>>,
    /// What an element may be; several for a tuple.
    pub(super) items: Option<Vec<Value<'a>>>,
    pub(super) constant: Option<Value<'a>>,
    plain: HashMap<&'static str, Value<'a>>,
    names: HashSet<String>,
}

impl<'a> Node<'a> {
    /// All of a schema.
    pub(super) fn of(schema: Value<'a>, references: &mut References<'a>) -> Result<Self, &'static str> {
        let mut node = Self::default();
        let since = references.depth();
        let mut waiting = vec![schema];
        while let Some(schema) = waiting.pop() {
            let at = waiting.len();
            node.take(schema, &mut waiting, references, since)?;
            // The first of a list comes first.
            waiting[at..].reverse();
            if waiting.is_empty() {
                waiting.extend(node.only_alternative());
            }
        }
        node.nullable |= node.plain.get("nullable").and_then(|value| value.bool()).unwrap_or(false);
        node.nullable |= node.types.iter().any(|word| word == "null");
        node.types.retain(|word| word != "null");
        Ok(node)
    }

    /// A member that is written as it is.
    pub(super) fn plain(&self, key: &str) -> Option<Value<'a>> {
        self.plain.get(key).copied()
    }

    /// Takes over what a schema says, and notes what it takes over itself.
    fn take(
        &mut self,
        schema: Value<'a>,
        waiting: &mut Vec<Value<'a>>,
        references: &mut References<'a>,
        since: usize,
    ) -> Result<(), &'static str> {
        for (name, value) in members(schema)? {
            match name.text().as_ref() {
                "$ref" => {
                    if let Some(pointer) = value.string() {
                        waiting.extend(references.open(&pointer.text(), since)?);
                    }
                }
                "allOf" => waiting.extend(value.elements().unwrap_or_default()),
                "anyOf" | "oneOf" if self.alternatives.is_empty() => {
                    self.alternatives = value.elements().unwrap_or_default();
                }
                "type" if self.types.is_empty() => self.types = types(value),
                "properties" => self.add_properties(value)?,
                "required" => {
                    self.required.extend(value.elements().unwrap_or_default().into_iter().filter_map(Value::string));
                }
                "items" | "prefixItems" if self.items.is_none() && value.kind() != Kind::Bool => {
                    self.items = Some(value.elements().unwrap_or_else(|| vec![value]));
                }
                "const" if self.constant.is_none() => self.constant = Some(value),
                key => {
                    if let Some(key) = PLAIN.iter().find(|plain| **plain == key) {
                        self.plain.entry(key).or_insert(value);
                    }
                }
            }
        }
        Ok(())
    }

    fn add_properties(&mut self, value: Value<'a>) -> Result<(), &'static str> {
        let properties = self.properties.get_or_insert_default();
        for (name, schema) in members(value)? {
            if self.names.insert(name.text().into_owned()) {
                properties.push((name, schema));
            }
        }
        Ok(())
    }

    /// The one alternative where there is but one besides `null`.
    fn only_alternative(&mut self) -> Option<Value<'a>> {
        if self.alternatives.is_empty() {
            return None;
        }
        let told = self.alternatives.len();
        self.alternatives.retain(|alternative| !is_null(*alternative));
        self.nullable |= self.alternatives.len() < told;
        if self.alternatives.len() == 1 { self.alternatives.pop() } else { None }
    }

    /// Whether a property is there to be required.
    pub(super) fn has_property(&self, name: &Escaped<'_>) -> bool {
        self.names.contains(name.text().as_ref())
    }
}

/// The members of an object; `true` and its like have none.
fn members(value: Value<'_>) -> Result<Vec<(Escaped<'_>, Value<'_>)>, &'static str> {
    match value.kind() {
        Kind::Object => value.members().ok_or("has too many properties: send fewer"),
        _ => Ok(Vec::new()),
    }
}

fn types(value: Value<'_>) -> Vec<Cow<'_, str>> {
    let words = value.elements().unwrap_or_else(|| vec![value]);
    words.into_iter().filter_map(Value::string).map(Escaped::into_text).collect()
}

/// Whether a schema is that of `null`.
fn is_null(schema: Value<'_>) -> bool {
    schema.members().is_some_and(|members| {
        members
            .iter()
            .any(|(name, value)| (name.is("type") && value.is("null")) || (name.is("const") && value.is_null()))
    })
}
