//! Output schemas as Anthropic takes them: objects closed, and what its grammar does not know told in words, as its own
//! SDK does (`anthropic/lib/_parse/_transform.py`).

use crate::json::{Escaped, Value, Writer};

/// The formats of strings that it knows.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// Whether some object in it may have properties that it does not name. Anthropic refuses these, and closed they would
/// mean something else.
pub(super) fn is_open(schema: Value<'_>) -> bool {
    let Some(members) = schema.members() else { return schema.elements().unwrap_or_default().into_iter().any(is_open) };
    let has = |wanted: &str| members.iter().any(|(key, _)| key.is(wanted));
    let is_bare = members.iter().any(|(key, value)| key.is("type") && value.is("object"))
        && !["properties", "$ref", "anyOf", "oneOf", "allOf"].into_iter().any(has);
    let inner = |(key, value): &(Escaped<'_>, Value<'_>)| match key.text().as_ref() {
        "additionalProperties" => value.bool() != Some(false),
        "patternProperties" => true,
        "properties" | "$defs" | "definitions" => {
            value.members().unwrap_or_default().into_iter().any(|(_, schema)| is_open(schema))
        }
        "items" | "anyOf" | "oneOf" | "allOf" => is_open(*value),
        _ => false,
    };
    is_bare || members.iter().any(inner)
}

/// Writes a schema that is not [`is_open`].
pub(super) fn write(json: &mut Writer, schema: Value<'_>) {
    let Some(members) = schema.members() else { return json.value(schema) };
    let mut told = None;
    let mut hints = Vec::new();
    let mut is_object = false;
    json.object(|json| {
        for (key, value) in &members {
            let name = key.text();
            match name.as_ref() {
                "description" => told = value.string(),
                "additionalProperties" => {}
                "properties" | "$defs" | "definitions" => {
                    is_object |= name == "properties";
                    write_each(json.escaped_key(key), *value);
                }
                "items" => write(json.key("items"), *value),
                "anyOf" | "allOf" => write_list(json.escaped_key(key), *value),
                "oneOf" => write_list(json.key("anyOf"), *value),
                "type" | "enum" | "const" | "title" | "required" | "$ref" => json.escaped_key(key).value(*value),
                "format" if FORMATS.iter().any(|known| value.is(known)) => json.escaped_key(key).value(*value),
                "minItems" if matches!(value.count(), Some(0 | 1)) => json.escaped_key(key).value(*value),
                "$schema" | "$id" => {}
                _ => hints.push(format!("{name}: {}", value.as_str())),
            }
        }
        write_description(json, told.as_ref(), &hints);
        if is_object {
            json.key("additionalProperties").bool(false);
        }
    });
}

fn write_description(json: &mut Writer, told: Option<&Escaped<'_>>, hints: &[String]) {
    let hint = if hints.is_empty() { String::new() } else { format!("{{{}}}", hints.join(", ")) };
    let gap = if hints.is_empty() || told.is_none_or(Escaped::is_empty) { "" } else { "\n\n" };
    if told.is_some() || !hints.is_empty() {
        json.key("description").joined([told.unwrap_or(&Escaped::EMPTY), &Escaped::of(gap), &Escaped::of(&hint)]);
    }
}

fn write_each(json: &mut Writer, schemas: Value<'_>) {
    let Some(members) = schemas.members() else { return json.value(schemas) };
    json.object(|json| members.iter().for_each(|(name, schema)| write(json.escaped_key(name), *schema)));
}

fn write_list(json: &mut Writer, schemas: Value<'_>) {
    let Some(elements) = schemas.elements() else { return json.value(schemas) };
    json.array(|json| elements.into_iter().for_each(|schema| write(json, schema)));
}
