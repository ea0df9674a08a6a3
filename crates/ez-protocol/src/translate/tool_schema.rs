//! Schemas of functions as vendors want them: of an object, and with its properties. Those of MCP's servers often have
//! neither (`{}`, `{"type":"object"}`), which OpenAI refuses ("object schema missing properties").

use std::borrow::Cow;

use crate::json::Value;

/// The schema of a function that takes nothing.
const NO_INPUT: &str = r#"{"type":"object","properties":{}}"#;

/// A function's schema, as it was written where it says what OpenAI asks for.
pub(super) fn of_object<'a>(schema: Option<Value<'a>>) -> Cow<'a, str> {
    let Some(schema) = schema else { return Cow::Borrowed(NO_INPUT) };
    // With more members than are told apart it is passed as it is.
    let Some(members) = schema.members() else { return Cow::Borrowed(schema.as_str()) };
    let has = |wanted: &[&str]| members.iter().any(|(key, _)| wanted.iter().any(|wanted| key.is(wanted)));
    let lacks_type = !has(&["type", "$ref", "anyOf", "oneOf", "allOf"]);
    let is_object = lacks_type || members.iter().any(|(key, value)| key.is("type") && value.is("object"));
    let lacks_properties = is_object && !has(&["properties", "$ref", "anyOf", "oneOf", "allOf"]);
    if members.is_empty() {
        return Cow::Borrowed(NO_INPUT);
    }
    if !lacks_type && !lacks_properties {
        return Cow::Borrowed(schema.as_str());
    }
    let inside = schema.as_str().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default().trim();
    let head = if lacks_type { r#""type":"object","# } else { "" };
    let tail = if lacks_properties { r#","properties":{}"# } else { "" };
    Cow::Owned(format!("{{{head}{inside}{tail}}}"))
}
