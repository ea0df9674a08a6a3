//! Reads Gemini generateContent requests as strictly as the Gemini API does (facts/protocols.md, 2).

use serde_json::Value;

use super::object::{Heeded, Object, base64_bytes, check_name, require, seen, wrong};
use super::signature::is_mark;
use super::{Heard, HeardTool, VENDOR_GEMINI};

const KEYS: &[&str] = &[
    "cachedContent",
    "contents",
    "generationConfig",
    "model",
    "safetySettings",
    "serviceTier",
    "store",
    "systemInstruction",
    "toolConfig",
    "tools",
];
const CONFIG_KEYS: &[&str] = &[
    "candidateCount",
    "enableEnhancedCivicAnswers",
    "frequencyPenalty",
    "imageConfig",
    "logprobs",
    "maxOutputTokens",
    "mediaResolution",
    "presencePenalty",
    "responseFormat",
    "responseJsonSchema",
    "responseLogprobs",
    "responseMimeType",
    "responseModalities",
    "responseSchema",
    "seed",
    "speechConfig",
    "stopSequences",
    "temperature",
    "thinkingConfig",
    "topK",
    "topP",
];
const TOOL_KEYS: &[&str] =
    &["codeExecution", "computerUse", "fileSearch", "functionDeclarations", "googleMaps", "googleSearch", "urlContext"];
const DATA: &[&str] =
    &["text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode", "codeExecutionResult"];
/// What the vendor takes in place of a signature that somebody else's calls do not have.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// A call of the model's last turn: its name and id.
struct Called<'v> {
    name: &'v str,
    id: Option<&'v str>,
}

pub(super) fn hear(body: &Value, model: &str) -> Heeded<Heard> {
    let body = camel_case(body);
    let body = Object::of(&body, "", KEYS)?;
    let mut heard = Heard::default();
    let signs_calls = model.contains("gemini-3");
    if let Some(instruction) = body.object("systemInstruction", &["role", "parts"])? {
        for (index, part) in instruction.require_list("parts")?.iter().enumerate() {
            let part = Object::of(part, format!("system_instruction.parts[{index}]"), &["text"])?;
            heard.instructions.push(part.require_text("text")?.to_owned());
        }
    }
    heard.choices = 1;
    config(&body, signs_calls, &mut heard)?;
    tools(&body, &mut heard)?;
    let contents = body.require_list("contents")?;
    let mut open: Vec<Called<'_>> = Vec::new();
    let mut previous = "";
    // Signatures are asked for of what the model called since the user last spoke.
    let is_spoken = |content: &Value| {
        let parts = content["parts"].as_array().into_iter().flatten();
        content["role"] != "model" && parts.clone().any(|part| part.get("functionResponse").is_none())
    };
    let spoken = contents.iter().rposition(is_spoken);
    for (index, content) in contents.iter().enumerate() {
        let content = Object::of(content, format!("contents[{index}]"), &["role", "parts"])?;
        let role = content.word("role", &["user", "model"])?.unwrap_or("user");
        require(index > 0 || role == "user", || {
            "Please ensure that the conversation begins with a user turn.".to_owned()
        })?;
        if role == "model" {
            require(open.is_empty(), unanswered)?;
            (heard.texts, heard.files, heard.results) = Default::default();
            let is_current = spoken.is_none_or(|spoken| index > spoken);
            let own = model_turn(&content, signs_calls && is_current)?;
            require(own.calls.is_empty() || previous == "user", || {
                "Please ensure that function call turn comes immediately after a user turn or after a function response turn.".to_owned()
            })?;
            heard.has_thoughts = own.is_signed;
            open = own.calls;
        } else {
            user_turn(&content, std::mem::take(&mut open), &mut heard)?;
        }
        previous = role;
    }
    require(open.is_empty(), unanswered)?;
    Ok(heard)
}

/// The same with every field in camel case: both spellings are proto-JSON's, and Google's SDKs mix them. What users name
/// themselves stays.
fn camel_case(value: &Value) -> Value {
    const OF_USERS: &[&str] =
        &["args", "response", "parameters", "parametersJsonSchema", "responseJsonSchema", "responseSchema", "labels"];
    match value {
        Value::Array(list) => list.iter().map(camel_case).collect(),
        Value::Object(members) => {
            let renamed = members.iter().map(|(key, value)| {
                let mut words = key.split('_');
                let mut name = words.next().unwrap_or_default().to_owned();
                for word in words {
                    name.extend(word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)));
                }
                let value = if OF_USERS.contains(&name.as_str()) { value.clone() } else { camel_case(value) };
                (name, value)
            });
            renamed.collect()
        }
        other => other.clone(),
    }
}

fn unanswered() -> String {
    "Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.".to_owned()
}

fn config(body: &Object<'_>, signs_calls: bool, heard: &mut Heard) -> Heeded<()> {
    heard.thinks = signs_calls;
    for (index, setting) in body.list("safetySettings")?.map(Vec::as_slice).unwrap_or_default().iter().enumerate() {
        Object::of(setting, format!("safety_settings[{index}]"), &["category", "threshold"])?;
    }
    let Some(config) = body.object("generationConfig", CONFIG_KEYS)? else { return Ok(()) };
    config.number("temperature", 0.0, 2.0)?;
    config.number("topP", 0.0, 1.0)?;
    config.number("topK", 1.0, 1_000.0)?;
    config.number("presencePenalty", -2.0, 2.0)?;
    config.number("frequencyPenalty", -2.0, 2.0)?;
    heard.choices = config.count("candidateCount")?.unwrap_or(1);
    heard.max_tokens = config.count("maxOutputTokens")?;
    heard.stop = config.texts("stopSequences")?;
    require(heard.stop.len() <= 5, || "stop_sequences: at most 5".to_owned())?;
    if let Some(thinking) = config.object("thinkingConfig", &["includeThoughts", "thinkingBudget", "thinkingLevel"])? {
        let level = thinking
            .word("thinkingLevel", &["MINIMAL", "LOW", "MEDIUM", "HIGH", "minimal", "low", "medium", "high"])?;
        let has_both = level.is_some() && thinking.has("thinkingBudget");
        require(!has_both, || "You can only set only one of thinking budget and thinking level.".to_owned())?;
        require(level.is_none() || signs_calls, || "Thinking level is not supported for this model.".to_owned())?;
        let budget = thinking.get("thinkingBudget").and_then(Value::as_i64);
        heard.thinks = signs_calls || budget.is_some_and(|budget| budget != 0);
        heard.shows = thinking.flag("includeThoughts")? == Some(true);
    }
    let has_both = config.has("responseSchema") && config.has("responseJsonSchema");
    require(!has_both, || "response_schema and response_json_schema are exclusive".to_owned())?;
    let is_json = config.text("responseMimeType")? == Some("application/json");
    heard.schema = config.get("responseSchema").or(config.get("responseJsonSchema")).cloned();
    require(heard.schema.is_none() || is_json, || {
        "Function calling config with a response schema needs response_mime_type 'application/json'".to_owned()
    })?;
    heard.is_json = is_json;
    Ok(())
}

fn tools(body: &Object<'_>, heard: &mut Heard) -> Heeded<()> {
    for (index, tool) in body.list("tools")?.map(Vec::as_slice).unwrap_or_default().iter().enumerate() {
        let tool = Object::of(tool, format!("tools[{index}]"), TOOL_KEYS)?;
        for (number, declared) in
            tool.list("functionDeclarations")?.map(Vec::as_slice).unwrap_or_default().iter().enumerate()
        {
            let keys = &[
                "name",
                "description",
                "parameters",
                "parametersJsonSchema",
                "response",
                "responseJsonSchema",
                "behavior",
            ];
            let path = format!("{}.function_declarations[{number}]", tool.path);
            let declared = Object::of(declared, path, keys)?;
            let name = declared.require_text("name")?;
            check_function_name(name, &declared)?;
            let (openapi, json) = (declared.get("parameters"), declared.get("parametersJsonSchema"));
            require(openapi.is_none() || json.is_none(), || format!("{}: parameters twice", declared.path))?;
            let schema = openapi.or(json).cloned().unwrap_or_default();
            heard.tools.push(HeardTool { name: name.to_owned(), schema, is_custom: false });
        }
    }
    let keys = &["functionCallingConfig", "retrievalConfig", "includeServerSideToolInvocations"];
    let Some(config) = body.object("toolConfig", keys)? else { return Ok(()) };
    let Some(config) = config.object("functionCallingConfig", &["mode", "allowedFunctionNames"])? else {
        return Ok(());
    };
    let mode = config.word("mode", &["AUTO", "ANY", "NONE", "VALIDATED"])?;
    heard.forbids_tools = mode == Some("NONE");
    let allowed = config.texts("allowedFunctionNames")?;
    require(allowed.is_empty() || matches!(mode, Some("ANY" | "VALIDATED")), || {
        "Allowed function names can only be set when the function calling mode is ANY or VALIDATED.".to_owned()
    })?;
    heard.forced_tool = allowed.into_iter().next();
    Ok(())
}

fn check_function_name(name: &str, of: &Object<'_>) -> Heeded<()> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    require(begins, || {
        format!("{}: Invalid function name. Must start with a letter or an underscore.", of.at("name"))
    })?;
    check_name(name, 64, ".:", &of.at("name"))
}

/// A part: exactly one kind of data, and what may stand beside it.
fn part<'v>(part: &'v Value, path: String) -> Heeded<(Object<'v>, &'static str)> {
    let part = Object::open(part, path)?;
    part.only(&[DATA, &["thought", "thoughtSignature", "videoMetadata", "mediaResolution"]].concat())?;
    let given: Vec<&&str> = DATA.iter().filter(|key| part.has(key)).collect();
    let [kind] = given[..] else {
        return wrong(format!("{}.data: required oneof field 'data' must have one initialized field", part.path));
    };
    if *kind == "text" && part.text("text")?.is_some_and(str::is_empty) {
        require(part.has("thoughtSignature"), || format!("{}: text parameter must not be empty", part.path))?;
    }
    if let Some(signature) = part.text("thoughtSignature")? {
        let is_own = signature == NO_SIGNATURE || is_mark(VENDOR_GEMINI, signature);
        require(is_own, || "Corrupted thought signature.".to_owned())?;
    }
    Ok((part, kind))
}

struct ModelTurn<'v> {
    calls: Vec<Called<'v>>,
    is_signed: bool,
}

fn model_turn<'v>(content: &Object<'v>, wants_signature: bool) -> Heeded<ModelTurn<'v>> {
    let mut turn = ModelTurn { calls: Vec::new(), is_signed: false };
    for (index, value) in content.require_list("parts")?.iter().enumerate() {
        let (part, kind) = part(value, format!("{}.parts[{index}]", content.path))?;
        if kind == "functionResponse" {
            return wrong(format!("{}: a function response belongs into a user turn", part.path));
        }
        if kind != "functionCall" {
            continue;
        }
        let call = part.require_object("functionCall", &["id", "name", "args"])?;
        let name = call.require_text("name")?;
        check_function_name(name, &call)?;
        let is_object = call.get("args").is_none_or(Value::is_object);
        require(is_object, || format!("Invalid value at '{}': a struct is expected", call.at("args")))?;
        let signature = part.text("thoughtSignature")?;
        // Of parallel calls the first alone is signed.
        require(!wants_signature || !turn.calls.is_empty() || signature.is_some(), || {
            format!("Function call is missing a thought_signature in functionCall parts: {}", part.path)
        })?;
        turn.is_signed |= signature.is_some_and(|signature| signature != NO_SIGNATURE);
        turn.calls.push(Called { name, id: call.text("id")? });
    }
    Ok(turn)
}

fn user_turn(content: &Object<'_>, open: Vec<Called<'_>>, heard: &mut Heard) -> Heeded<()> {
    let mut answered = 0;
    for (index, value) in content.require_list("parts")?.iter().enumerate() {
        let (part, kind) = part(value, format!("{}.parts[{index}]", content.path))?;
        match kind {
            "text" => heard.texts.push(part.require_text("text")?.to_owned()),
            "inlineData" => {
                let data = part.require_object(kind, &["mimeType", "data"])?;
                let bytes = base64_bytes(data.require_text("data")?, &data.path)?;
                heard.files.push(seen(data.require_text("mimeType")?, bytes));
            }
            "fileData" => {
                let data = part.require_object(kind, &["mimeType", "fileUri"])?;
                heard.files.push(data.require_text("fileUri")?.to_owned());
            }
            "functionResponse" => {
                let result =
                    part.require_object(kind, &["id", "name", "response", "parts", "willContinue", "scheduling"])?;
                let asked = open.get(answered);
                let name = result.require_text("name")?;
                require(asked.is_some_and(|asked| asked.name == name), unanswered)?;
                let id = result.text("id")?;
                let fits = id.is_none() || asked.is_some_and(|asked| asked.id.is_none() || asked.id == id);
                require(fits, || format!("{}: no function call has this id", result.at("id")))?;
                let response = result.get("response").filter(|response| response.is_object());
                let Some(response) = response else {
                    return wrong(format!("{}: a struct is expected", result.at("response")));
                };
                heard.results.push(said(response));
                answered += 1;
            }
            _ => return wrong(format!("{}: does not belong into a user turn", part.path)),
        }
    }
    require(answered == open.len(), unanswered)
}

/// What a function answered: the documented keys' texts, else the whole object.
fn said(response: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if response.get("error").is_some() {
        return format!("[failed] {}", text(&response["error"]));
    }
    response.get("output").map_or_else(|| response.to_string(), text)
}
