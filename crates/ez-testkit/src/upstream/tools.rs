//! When a request with tools is answered by a call, and with which arguments.

use serde_json::{Map, Value, json};

use super::answer::json_string;
use super::request::Ask;

/// Fragments of streamed arguments have this many characters.
const FRAGMENT_CHARS: usize = 8;
/// Nested schemas are followed this deep.
const SCHEMA_DEPTH_MAX: usize = 8;

/// The call that answers a request.
pub(super) struct ToolCall {
    /// The tool's name as a JSON string with quotes.
    pub(super) name: String,
    /// The arguments, an object as JSON text.
    pub(super) arguments: String,
}

impl ToolCall {
    /// The call to the first tool (or to the one that the request forces); none if the request has no tools, forbids them, or ends with a result.
    pub(super) fn answering(ask: &Ask<'_>) -> Option<Self> {
        let tools: Vec<&Value> = ask.tools.as_ref()?.iter().flat_map(declarations).collect();
        if tools.is_empty() || ask.forbids_tools() || ask.ends_with_tool_result() {
            return None;
        }
        let forced = ask.forced_tool();
        let tool = tools.iter().find(|tool| forced.is_some() && tool["name"].as_str() == forced).or(tools.first())?;
        let name = tool["name"].as_str()?;
        const SCHEMAS: [&str; 4] = ["parameters", "input_schema", "parametersJsonSchema", "parameters_json_schema"];
        let schema = SCHEMAS.iter().find_map(|key| tool.get(key));
        let arguments = schema.map_or_else(|| json!({}), |schema| example(schema, SCHEMA_DEPTH_MAX));
        let arguments = if arguments.is_object() { arguments } else { json!({}) };
        Some(Self { name: json_string(name), arguments: arguments.to_string() })
    }

    /// The arguments in pieces, each a JSON string with quotes.
    pub(super) fn fragments(&self) -> Vec<String> {
        let characters: Vec<char> = self.arguments.chars().collect();
        characters.chunks(FRAGMENT_CHARS).map(|chunk| json_string(&chunk.iter().collect::<String>())).collect()
    }
}

/// The objects with `name` in an entry of `tools`: OpenAI nests under `function`, Gemini under `functionDeclarations`, the rest don't nest.
fn declarations(entry: &Value) -> Vec<&Value> {
    let gemini = entry.get("functionDeclarations").or_else(|| entry.get("function_declarations"));
    if let Some(Value::Array(declarations)) = gemini {
        return declarations.iter().collect();
    }
    let declared = entry.get("function").unwrap_or(entry);
    if declared.get("name").is_some() { vec![declared] } else { Vec::new() }
}

/// A value that fits a schema well enough to look real; an object where it says nothing.
pub(super) fn example_of(schema: &Value) -> Value {
    example(schema, SCHEMA_DEPTH_MAX)
}

/// A value that fits a schema well enough to look real.
fn example(schema: &Value, depth_left: usize) -> Value {
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"].get(0)?.as_str()).unwrap_or("object");
    match kind.to_ascii_lowercase().as_str() {
        "string" => json!("Paris"),
        "integer" => json!(3),
        "number" => json!(1.5),
        "boolean" => json!(true),
        "null" => Value::Null,
        "array" => json!([]),
        _ if depth_left == 0 => json!({}),
        _ => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            let object: Map<String, Value> =
                properties.map(|(name, property)| (name.clone(), example(property, depth_left - 1))).collect();
            Value::Object(object)
        }
    }
}
