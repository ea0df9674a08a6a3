//! Makes JSON Schema the subset of OpenAPI 3.0 that older Gemini models know: references written out, `null` as
//! `nullable`, one of several as `anyOf`, enums of strings alone, and no word that these models refuse. Only schemas
//! are changed: names of properties, defaults and examples stay what they are.

use std::collections::HashSet;

use super::openapi_node::{Node, References};
use crate::json::{Kind, Value, Writer};

/// How deeply schemas may nest, references written out.
const MAX_DEPTH: usize = 48;

/// A schema as older models know it.
#[derive(Debug)]
pub(super) struct Openapi {
    /// The schema.
    pub(super) json: String,
    /// Whether it is an object without properties, which these models take for no parameters alone.
    pub(super) is_empty_object: bool,
}

/// Makes a schema. The fault goes on after the name of the field.
pub(super) fn openapi(schema: Value<'_>) -> Result<Openapi, &'static str> {
    let mut references = References::of(schema);
    let mut json = Writer::with_capacity(schema.as_str().len() + 64);
    let top = Node::of(schema, &mut references)?;
    references.close(0);
    let is_object = top.types.is_empty() || top.types.iter().any(|word| word == "object");
    let is_empty_object = is_object
        && top.alternatives.is_empty()
        && top.properties.as_ref().is_none_or(|properties| properties.is_empty());
    write(&mut json, schema, &mut references, 0)?;
    Ok(Openapi { json: json.finish(), is_empty_object })
}

fn write<'a>(
    json: &mut Writer,
    schema: Value<'a>,
    references: &mut References<'a>,
    depth: usize,
) -> Result<(), &'static str> {
    if depth > MAX_DEPTH {
        return Err("nests too deeply for this model: make it flatter");
    }
    let since = references.depth();
    let node = Node::of(schema, references)?;
    let types = node.types();
    let mut written = Ok(());
    json.object(|json| {
        written = write_node(json, &node, &types, references, depth);
    });
    references.close(since);
    written
}

fn write_node<'a>(
    json: &mut Writer,
    node: &Node<'a>,
    types: &[&'static str],
    references: &mut References<'a>,
    depth: usize,
) -> Result<(), &'static str> {
    if let [word] = types {
        json.key("type").string(word);
    }
    for key in ["title", "description"] {
        if let Some(text) = node.plain(key).filter(|text| text.kind() == Kind::String) {
            json.key(key).value(text);
        }
    }
    let (values, has_null) = node.values();
    if node.nullable || has_null {
        json.key("nullable").bool(true);
    }
    if !node.alternatives.is_empty() {
        write_all(json.key("anyOf"), &node.alternatives, references, depth)?;
    } else if types.len() > 1 {
        let mut written = Ok(());
        json.key("anyOf").array(|json| {
            for word in types {
                json.object(|json| {
                    json.key("type").string(word);
                    if written.is_ok() {
                        written = write_typed(json, node, word, &values, references, depth);
                    }
                });
            }
        });
        written?;
    }
    if let [word] = types {
        write_typed(json, node, word, &values, references, depth)?;
    }
    for key in ["default", "example"] {
        if let Some(value) = node.plain(key) {
            json.key(key).value(value);
        }
    }
    Ok(())
}

/// What a value of this type must be.
fn write_typed<'a>(
    json: &mut Writer,
    node: &Node<'a>,
    word: &str,
    values: &[Value<'a>],
    references: &mut References<'a>,
    depth: usize,
) -> Result<(), &'static str> {
    let (formats, plain): (&[&str], &[&str]) = match word {
        "STRING" => (&["enum", "date-time"], &["minLength", "maxLength", "pattern"]),
        "NUMBER" | "INTEGER" => (&["float", "double", "int32", "int64"], &["minimum", "maximum"]),
        "ARRAY" => (&[], &["minItems", "maxItems"]),
        "OBJECT" => (&[], &["minProperties", "maxProperties"]),
        _ => (&[], &[]),
    };
    if let Some(format) = node.plain("format").filter(|format| formats.iter().any(|known| format.is(known))) {
        json.key("format").value(format);
    }
    let is_words = word == "STRING" && values.iter().all(|value| value.kind() == Kind::String);
    let words: Vec<_> = values.iter().filter(|value| is_words && value.as_str() != "\"\"").collect();
    if !words.is_empty() {
        json.key("enum").array(|json| words.iter().for_each(|word| json.value(**word)));
    }
    match word {
        "ARRAY" => write_items(json.key("items"), node.items.as_deref().unwrap_or_default(), references, depth)?,
        "OBJECT" => write_properties(json, node, references, depth)?,
        _ => {}
    }
    for key in plain {
        if let Some(value) = node.plain(key) {
            json.key(key).value(value);
        }
    }
    Ok(())
}

fn write_items<'a>(
    json: &mut Writer,
    items: &[Value<'a>],
    references: &mut References<'a>,
    depth: usize,
) -> Result<(), &'static str> {
    match items {
        [] => {
            json.object(|_| ());
            Ok(())
        }
        [item] => write(json, *item, references, depth + 1),
        items => {
            let mut written = Ok(());
            json.object(|json| written = write_all(json.key("anyOf"), items, references, depth));
            written
        }
    }
}

fn write_all<'a>(
    json: &mut Writer,
    schemas: &[Value<'a>],
    references: &mut References<'a>,
    depth: usize,
) -> Result<(), &'static str> {
    let mut written = Ok(());
    json.array(|json| {
        written = schemas.iter().try_for_each(|schema| write(json, *schema, references, depth + 1));
    });
    written
}

fn write_properties<'a>(
    json: &mut Writer,
    node: &Node<'a>,
    references: &mut References<'a>,
    depth: usize,
) -> Result<(), &'static str> {
    let Some(properties) = node.properties.as_deref().filter(|properties| !properties.is_empty()) else {
        return Ok(());
    };
    let mut written = Ok(());
    json.key("properties").object(|json| {
        written = properties
            .iter()
            .try_for_each(|(name, schema)| write(json.escaped_key(name), *schema, references, depth + 1));
    });
    written?;
    // What is required must be there.
    let mut seen = HashSet::new();
    let required: Vec<_> =
        node.required.iter().filter(|name| node.has_property(name) && seen.insert(name.as_str())).collect();
    if !required.is_empty() {
        json.key("required").array(|json| required.iter().for_each(|name| json.escaped(name)));
    }
    Ok(())
}

impl<'a> Node<'a> {
    /// What a value may be, besides `null`, and whether it may be `null`.
    fn values(&self) -> (Vec<Value<'a>>, bool) {
        let listed = || self.plain("enum").and_then(Value::elements);
        let mut values = self.constant.map(|value| vec![value]).or_else(listed).unwrap_or_default();
        let told = values.len();
        values.retain(|value| !value.is_null());
        let has_null = values.len() < told;
        (values, has_null)
    }

    /// Gemini's names of the types; where none is told, what the rest of the schema speaks of.
    fn types(&self) -> Vec<&'static str> {
        if !self.types.is_empty() {
            return self.types.iter().filter_map(|word| type_name(word)).collect();
        }
        let has = |keys: &[&str]| keys.iter().any(|key| self.plain(key).is_some());
        let (values, _) = self.values();
        let all = |kind: Kind| !values.is_empty() && values.iter().all(|value| value.kind() == kind);
        let inferred = if !self.alternatives.is_empty() {
            None
        } else if self.properties.is_some() {
            Some("OBJECT")
        } else if self.items.is_some() {
            Some("ARRAY")
        } else if all(Kind::String) || has(&["pattern", "minLength", "maxLength"]) {
            Some("STRING")
        } else if all(Kind::Bool) {
            Some("BOOLEAN")
        } else if all(Kind::Number) || has(&["minimum", "maximum"]) {
            Some("NUMBER")
        } else {
            None
        };
        inferred.into_iter().collect()
    }
}

fn type_name(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_lowercase().as_str() {
        "string" => "STRING",
        "number" => "NUMBER",
        "integer" => "INTEGER",
        "boolean" => "BOOLEAN",
        "array" => "ARRAY",
        "object" => "OBJECT",
        "null" => "NULL",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
