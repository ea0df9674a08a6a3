//! Makes the schemas of a Gemini request, which are a subset of OpenAPI 3.0, JSON Schema: types in lower case, `null`
//! among the types where a value may be `null`, properties in the order that is asked for. JSON Schema passes as it
//! is.

use std::collections::HashMap;

use super::super::fields::camel_case;
use crate::json::{Escaped, Kind, Value, Writer};

/// Where a request has such schemas: the keys on the way, through lists and all.
const PLACES: [&[&str]; 2] =
    [&["tools", "functionDeclarations", "parameters"], &["generationConfig", "responseSchema"]];

/// The body of a request with JSON Schema in place of OpenAPI's; `None` where it has none.
pub(in crate::translate) fn with_json_schemas(body: Value<'_>) -> Option<String> {
    let has_place =
        |name: &Escaped<'_>| PLACES.iter().any(|place| place.first().is_some_and(|key| is_field(name, key)));
    if !body.members().unwrap_or_default().iter().any(|(name, _)| has_place(name)) {
        return None;
    }
    let mut json = Writer::with_capacity(body.as_str().len());
    write_body(&mut json, body, &PLACES);
    Some(json.finish())
}

/// Whether proto-JSON takes this name for the field.
fn is_field(name: &Escaped<'_>, field: &str) -> bool {
    name.is(field) || (name.as_str().contains('_') && camel_case(&name.text()) == field)
}

/// Writes a value of the body with the schemas at these places made anew.
fn write_body(json: &mut Writer, value: Value<'_>, places: &[&'static [&'static str]]) {
    if places.is_empty() {
        json.value(value);
    } else if places.iter().any(|place| place.is_empty()) {
        write_schema(json, value);
    } else if let Some(members) = value.members() {
        json.object(|json| {
            for (name, value) in members {
                let step = |place: &&'static [&'static str]| {
                    place.split_first().filter(|(key, _)| is_field(&name, key)).map(|(_, rest)| rest)
                };
                let below: Vec<_> = places.iter().filter_map(step).collect();
                write_body(json.escaped_key(&name), value, &below);
            }
        });
    } else if let Some(elements) = value.elements() {
        json.array(|json| elements.into_iter().for_each(|element| write_body(json, element, places)));
    } else {
        json.value(value);
    }
}

/// Writes a schema of OpenAPI's as JSON Schema.
fn write_schema(json: &mut Writer, schema: Value<'_>) {
    let Some(members) = schema.members() else {
        return json.value(schema);
    };
    let mut found = Found::default();
    for (name, value) in &members {
        match field(name).as_str() {
            "nullable" => found.is_nullable = value.bool() == Some(true),
            "type" => found.has_type = true,
            "propertyOrdering" => found.order = value.elements(),
            _ => {}
        }
    }
    json.object(|json| {
        for (name, value) in &members {
            write_member(json, name, *value, &found);
        }
    });
}

/// What one member of a schema says of others.
#[derive(Default)]
struct Found<'a> {
    is_nullable: bool,
    has_type: bool,
    order: Option<Vec<Value<'a>>>,
}

fn write_member(json: &mut Writer, name: &Escaped<'_>, value: Value<'_>, found: &Found<'_>) {
    match field(name).as_str() {
        "nullable" | "propertyOrdering" => {}
        "type" => write_type(json, value, found.is_nullable),
        // What Google's enums of strings are marked with.
        "format" if value.is("enum") => {}
        "enum" if found.is_nullable && value.kind() == Kind::Array => {
            json.key("enum").array(|json| {
                let values = value.elements().unwrap_or_default();
                values.iter().for_each(|value| json.value(*value));
                if !values.iter().any(|value| value.is_null()) {
                    json.null();
                }
            });
        }
        "example" => json.key("examples").array(|json| json.value(value)),
        key @ ("maxItems" | "minItems" | "maxLength" | "minLength" | "maxProperties" | "minProperties") => {
            write_count(json.key(key), value);
        }
        "properties" => {
            write_properties(json.key("properties"), value, found.order.as_deref());
        }
        key @ ("$defs" | "definitions") => {
            write_properties(json.key(key), value, None);
        }
        "defs" if value.kind() == Kind::Object => {
            write_properties(json.key("$defs"), value, None);
        }
        "ref" if value.kind() == Kind::String => json.key("$ref").value(value),
        key @ ("items" | "additionalProperties" | "not") => write_schemas(json.key(key), value, false),
        key @ ("anyOf" | "oneOf" | "allOf" | "prefixItems") => {
            let takes_null = key == "anyOf" && found.is_nullable && !found.has_type;
            write_schemas(json.key(key), value, takes_null);
        }
        _ => json.escaped_key(name).value(value),
    }
}

/// The field that a key stands for: proto-JSON has two names for each.
fn field(name: &Escaped<'_>) -> String {
    let name = name.text();
    if name.contains('_') { camel_case(&name) } else { name.into_owned() }
}

fn write_type(json: &mut Writer, value: Value<'_>, is_nullable: bool) {
    let mut types: Vec<String> = match value.elements() {
        Some(types) => {
            types.iter().filter_map(|word| word.string()).map(|word| word.text().to_ascii_lowercase()).collect()
        }
        None => value.string().iter().map(|word| word.text().to_ascii_lowercase()).collect(),
    };
    types.retain(|word| word != "type_unspecified");
    if is_nullable && !types.is_empty() && !types.iter().any(|word| word == "null") {
        types.push("null".to_owned());
    }
    match types.as_slice() {
        [] => {}
        [word] => json.key("type").string(word),
        words => json.key("type").array(|json| words.iter().for_each(|word| json.string(word))),
    }
}

/// A count; proto-JSON takes those of 64 bits in strings.
fn write_count(json: &mut Writer, value: Value<'_>) {
    let digits = value.string().map(Escaped::into_text);
    match digits.as_deref().and_then(|digits| digits.parse::<u64>().ok()) {
        Some(count) => json.count(count),
        None => json.value(value),
    }
}

/// Writes the schemas of properties, in the order that is asked for; those that it does not name come last.
fn write_properties(json: &mut Writer, properties: Value<'_>, order: Option<&[Value<'_>]>) {
    let Some(mut members) = properties.members() else {
        return json.value(properties);
    };
    if let Some(order) = order {
        let names = order.iter().filter_map(|name| name.string()).map(|name| name.text().into_owned());
        let places: HashMap<String, usize> = names.zip(0..).collect();
        members.sort_by_cached_key(|(name, _)| places.get(name.text().as_ref()).copied().unwrap_or(usize::MAX));
    }
    json.object(|json| {
        for (name, schema) in members {
            write_schema(json.escaped_key(&name), schema);
        }
    });
}

/// Writes a schema, or a list of them, with one for `null` where it is wanted.
fn write_schemas(json: &mut Writer, value: Value<'_>, takes_null: bool) {
    let Some(schemas) = value.elements() else { return write_schema(json, value) };
    json.array(|json| {
        for schema in schemas {
            write_schema(json, schema);
        }
        if takes_null {
            json.object(|json| json.key("type").string("null"));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &str, expected: &str) {
        let body = format!(r#"{{"tools":[{{"function_declarations":[{{"name":"f","parameters":{schema}}}]}}],"x":1}}"#);
        let made = with_json_schemas(Value::parse_object(&body).unwrap()).unwrap();
        let head = r#"{"tools":[{"function_declarations":[{"name":"f","parameters":"#;
        assert_eq!(made, format!("{head}{expected}}}]}}],\"x\":1}}"), "{schema}");
    }

    #[test]
    fn openapi_becomes_json_schema() {
        check(
            r#"{"type":"OBJECT","properties":{"type":{"type":"STRING"}}}"#,
            r#"{"type":"object","properties":{"type":{"type":"string"}}}"#,
        );
        check(r#"{"type":"INTEGER","nullable":true,"min_items":"2"}"#, r#"{"type":["integer","null"],"minItems":2}"#);
        check(
            r#"{"type":"STRING","format":"enum","enum":["A"],"nullable":true}"#,
            r#"{"type":["string","null"],"enum":["A",null]}"#,
        );
        check(
            r#"{"any_of":[{"type":"STRING"},{"type":"NUMBER"}],"nullable":true}"#,
            r#"{"anyOf":[{"type":"string"},{"type":"number"},{"type":"null"}]}"#,
        );
        check(
            r#"{"type":"OBJECT","properties":{"a":{},"b":{"nullable":false},"c":{"items":{"type":"BOOLEAN"}}},"propertyOrdering":["b","a"]}"#,
            r#"{"type":"object","properties":{"b":{},"a":{},"c":{"items":{"type":"boolean"}}}}"#,
        );
        check(
            r#"{"type":"TYPE_UNSPECIFIED","example":"STRING","default":{"type":"STRING"}}"#,
            r#"{"examples":["STRING"],"default":{"type":"STRING"}}"#,
        );
    }

    #[test]
    fn json_schema_stays_as_it_is() {
        let schemas = [
            r#"{"type":"object","properties":{"a":{"type":["string","null"],"enum":["x",null]}},"additionalProperties":false}"#,
            r##"{"$ref":"#/$defs/a","$defs":{"a":{"const":1.50,"x-y":"\u0041"}}}"##,
            r#"{"anyOf":[true,{"type":"null"}],"required":["nullable"]}"#,
        ];
        for schema in schemas {
            check(schema, schema);
        }
    }

    #[test]
    fn requests_without_schemas_are_left_alone() {
        let body = Value::parse_object(r#"{"contents":[{"parts":[{"text":"parameters"}]}]}"#).unwrap();
        assert_eq!(with_json_schemas(body), None);
    }
}
