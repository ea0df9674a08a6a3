use proptest::prelude::*;

use super::*;

fn check(schema: &str, expected: &str) {
    let made = openapi(Value::parse_object(schema).unwrap()).unwrap();
    assert_eq!(made.json, expected, "{schema}");
}

fn refused(schema: &str) -> &'static str {
    openapi(Value::parse_object(schema).unwrap()).expect_err(schema)
}

#[test]
fn types_have_gemini_s_names() {
    check(
        r#"{"type":"object","properties":{"b":{"type":"integer","minimum":1.50},"a":{"type":"string"}},"required":["a","c","a"],"additionalProperties":false,"$schema":"x"}"#,
        r#"{"type":"OBJECT","properties":{"b":{"type":"INTEGER","minimum":1.50},"a":{"type":"STRING"}},"required":["a"]}"#,
    );
    check(r#"{"type":"array"}"#, r#"{"type":"ARRAY","items":{}}"#);
    check(
        r#"{"type":"array","prefixItems":[{"type":"string"},{"type":"null"}]}"#,
        r#"{"type":"ARRAY","items":{"anyOf":[{"type":"STRING"},{"nullable":true}]}}"#,
    );
    check(r#"{"properties":{"x":true}}"#, r#"{"type":"OBJECT","properties":{"x":{}}}"#);
}

#[test]
fn null_is_nullable() {
    check(r#"{"type":["string","null"],"maxLength":3}"#, r#"{"type":"STRING","nullable":true,"maxLength":3}"#);
    check(
        r#"{"type":["string","number"],"description":"d\u00e9"}"#,
        r#"{"description":"d\u00e9","anyOf":[{"type":"STRING"},{"type":"NUMBER"}]}"#,
    );
    check(
        r#"{"oneOf":[{"type":"string"},{"type":"null"}],"title":"t"}"#,
        r#"{"type":"STRING","title":"t","nullable":true}"#,
    );
    check(
        r#"{"anyOf":[{"type":"string"},{"const":7},{"const":null}]}"#,
        r#"{"nullable":true,"anyOf":[{"type":"STRING"},{"type":"NUMBER"}]}"#,
    );
}

#[test]
fn enums_hold_strings() {
    check(r#"{"const":"a"}"#, r#"{"type":"STRING","enum":["a"]}"#);
    check(r#"{"enum":["a","",null]}"#, r#"{"type":"STRING","nullable":true,"enum":["a"]}"#);
    check(r#"{"type":"integer","enum":[1,2]}"#, r#"{"type":"INTEGER"}"#);
    check(r#"{"enum":[1,2]}"#, r#"{"type":"NUMBER"}"#);
    check(r#"{"type":"string","format":"uri"}"#, r#"{"type":"STRING"}"#);
    check(r#"{"type":"string","format":"date-time"}"#, r#"{"type":"STRING","format":"date-time"}"#);
}

#[test]
fn references_are_written_out() {
    check(
        r##"{"$defs":{"a":{"type":"string","description":"theirs"}},"type":"object","properties":{"x":{"$ref":"#/$defs/a","description":"mine"},"y":{"allOf":[{"$ref":"#/$defs/a"}]}}}"##,
        r#"{"type":"OBJECT","properties":{"x":{"type":"STRING","description":"mine"},"y":{"type":"STRING","description":"theirs"}}}"#,
    );
    check(
        r##"{"definitions":{"a":{"properties":{"p":{"type":"string"}},"required":["p"]}},"allOf":[{"$ref":"#/definitions/a"},{"properties":{"q":{"type":"number"},"p":{}}},{"$ref":"#/definitions/a"}]}"##,
        r#"{"type":"OBJECT","properties":{"p":{"type":"STRING"},"q":{"type":"NUMBER"}},"required":["p"]}"#,
    );
    let recursive = r##"{"$defs":{"n":{"properties":{"next":{"$ref":"#/$defs/n"}}}},"$ref":"#/$defs/n"}"##;
    assert!(refused(recursive).contains("to what it stands in"));
    assert!(refused(r##"{"$ref":"#/properties/x"}"##).contains("leads nowhere"));
    let doubling: String = (0..40)
        .map(|n| {
            format!(
                r##""d{n}":{{"properties":{{"a":{{"$ref":"#/$defs/d{0}"}},"b":{{"$ref":"#/$defs/d{0}"}}}}}},"##,
                n + 1
            )
        })
        .collect();
    let doubling = format!(r##"{{"$defs":{{{doubling}"d40":{{}}}},"$ref":"#/$defs/d0"}}"##);
    assert!(refused(&doubling).contains("too large"));
    let deep = format!("{}{{}}{}", r#"{"items":"#.repeat(60), "}".repeat(60));
    assert!(refused(&deep).contains("too deeply"));
}

#[test]
fn what_is_no_schema_stays() {
    check(
        r#"{"type":"object","properties":{"$ref":{"type":"string","default":{"type":"x","const":1e3}},"format":{"type":"string","example":["null"]}}}"#,
        r#"{"type":"OBJECT","properties":{"$ref":{"type":"STRING","default":{"type":"x","const":1e3}},"format":{"type":"STRING","example":["null"]}}}"#,
    );
}

#[test]
fn objects_without_properties_are_told() {
    let is_empty = |schema: &str| openapi(Value::parse_object(schema).unwrap()).unwrap().is_empty_object;
    assert!(is_empty("{}") && is_empty(r#"{"type":"object","properties":{},"description":"d"}"#));
    assert!(!is_empty(r#"{"properties":{"a":{}}}"#) && !is_empty(r#"{"type":"string"}"#));
}

proptest! {
    #[test]
    fn anything_is_a_schema_or_refused(schema in schema(4)) {
        if let Ok(made) = openapi(Value::parse_object(&schema.to_string()).unwrap()) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&made.json).is_ok(), "{}", made.json);
        }
    }
}

/// Objects of the words that schemas are made of, in any places.
fn schema(depth: u32) -> impl Strategy<Value = serde_json::Value> {
    let word = proptest::sample::select(vec!["string", "null", "object", "#/$defs/a", "#/$defs/b", "array"]);
    let leaf = prop_oneof![
        word.prop_map(serde_json::Value::from),
        Just(serde_json::json!(null)),
        Just(true.into()),
        Just(1.into())
    ];
    let keys = vec![
        "type",
        "$ref",
        "$defs",
        "a",
        "b",
        "anyOf",
        "allOf",
        "oneOf",
        "items",
        "properties",
        "enum",
        "const",
        "required",
    ];
    leaf.prop_recursive(depth, 64, 4, move |inner| {
        let key = proptest::sample::select(keys.clone()).prop_map(str::to_owned);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::hash_map(key, inner, 0..5).prop_map(|members| members.into_iter().collect()),
        ]
    })
    .prop_map(|value| if value.is_object() { value } else { serde_json::json!({ "properties": value }) })
}
