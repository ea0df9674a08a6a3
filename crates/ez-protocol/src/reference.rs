//! References: what a request names outside itself that no rule of its key covers. Other models, which the key may not
//! be allowed and whose prices nobody would count; and what a vendor keeps for its account (files, stores, conversations,
//! caches), which all keys of a gateway share.

use std::borrow::Cow;

use ez_contract::Protocol;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::api::Api;
use crate::scan::{self, Member, ScanError};

/// What a request names, by the field that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reference {
    /// Another model than its own.
    Model(&'static str),
    /// What the vendor keeps.
    Kept(&'static str),
}

/// Of Anthropic, where code runs.
const CONTAINER: Reference = Reference::Kept("container");

/// How deep the members of the elements of a top-level list stand.
const DEPTH_OF_ELEMENTS: usize = 3;
/// How deep the members of a tool's parameters stand.
const DEPTH_OF_PARAMETERS: usize = 4;

/// Whether a member below the top level may be a reference, told from its key (without escapes) and from how its value
/// begins: most requests have none, and need no second look.
pub(crate) fn may_refer(key: &[u8], value: &[u8], depth: usize) -> bool {
    if depth == 1 {
        return false;
    }
    let is = |name: &str| key.eq_ignore_ascii_case(name.as_bytes());
    let is_text = || value.starts_with(b"\"");
    let is_text_or_list = || matches!(value, [b'"' | b'[', ..]);
    let is_bucket = || matches!(value, [b'"', b'g' | b'G' | b' ' | b'\\', ..]);
    let is_skill = || matches!(value, [b'"', b's' | b'S' | b' ' | b'\\', ..]);
    let is_named = match key.len() {
        3 => is_bucket() && is("url"),
        4 => is_bucket() && is("data"),
        7 => is_text_or_list() && (is("file_id") || is("fileUri")),
        8 => {
            (is_text_or_list() && (is("file_ids") || is("file_uri")))
                || (is_skill() && is("skill_id"))
                || (is_bucket() && is("file_url"))
        }
        9 => {
            (depth == DEPTH_OF_ELEMENTS && is_text() && is("container"))
                || is("retrieval")
                || (is_bucket() && (is("image_url") || is("file_data")))
        }
        12 => is_text() && is("container_id"),
        13 => is("cachedContent") || is("routingConfig"),
        14 => is("cached_content") || is("routing_config"),
        16 => is_text_or_list() && is("vector_store_ids"),
        20 => is_text_or_list() && is("fileSearchStoreNames"),
        23 => is_text_or_list() && is("file_search_store_names"),
        _ => false,
    };
    is_named || (matches!(depth, DEPTH_OF_ELEMENTS | DEPTH_OF_PARAMETERS) && names_model(key))
}

/// Finds the first reference of a request; one to a model goes before one to what is kept. `is_deep` tells whether
/// anything below the top level may be one. An error where that cannot be read: halves of characters, endless numbers.
pub(crate) fn find(api: Api, body: &[u8], members: &[Member], is_deep: bool) -> Result<Option<Reference>, ScanError> {
    let mut found = None;
    for member in members {
        let Some(reference) = of_top_level(api, &lower_key(&body[member.key.clone()])) else { continue };
        let value = &body[member.value.clone()];
        if is_set(value) && !(reference == CONTAINER && is_new_container(value)) {
            note(&mut found, reference);
        }
    }
    // Documents to rank are the caller's own data.
    if is_deep && api != Api::Rerank {
        let mut is_echo = false;
        let top = Place::Top;
        let walk = Walk { protocol: api.protocol(), place: top, named: None, found: &mut found, is_echo: &mut is_echo };
        // Some readers take what this one does not, and would read on.
        let unread = |e: serde_json::Error| ScanError::Malformed { offset: offset_of(body, &e) };
        walk.deserialize(&mut serde_json::Deserializer::from_slice(body)).map_err(unread)?;
    }
    Ok(found)
}

fn offset_of(body: &[u8], e: &serde_json::Error) -> usize {
    let lines_before = body.split(|byte| *byte == b'\n').take(e.line().saturating_sub(1));
    lines_before.map(|line| line.len() + 1).sum::<usize>() + e.column()
}

fn note(found: &mut Option<Reference>, reference: Reference) {
    if found.is_none() || matches!((&found, reference), (Some(Reference::Kept(_)), Reference::Model(_))) {
        *found = Some(reference);
    }
}

/// A key as readers take it that resolve escapes and ignore case.
fn lower_key(written: &[u8]) -> Cow<'_, [u8]> {
    let is_plain = |byte: &u8| !byte.is_ascii_uppercase() && *byte != b'\\';
    if written.iter().all(is_plain) {
        return Cow::Borrowed(written);
    }
    let quoted = [b"\"", written, b"\""].concat();
    Cow::Owned(serde_json::from_slice::<String>(&quoted).unwrap_or_default().to_ascii_lowercase().into_bytes())
}

/// Whether Anthropic's `container` asks for a new one, with skills, and names none that is there.
fn is_new_container(value: &[u8]) -> bool {
    let Ok(members) = scan::members(value) else { return false };
    members
        .iter()
        .all(|member| &*lower_key(&value[member.key.clone()]) != b"id" || !is_set(&value[member.value.clone()]))
}

/// Whether a value is more than nothing.
fn is_set(value: &[u8]) -> bool {
    !matches!(value, b"null" | b"[]" | b"\"\"" | b"{}")
}

/// What a top-level field refers to.
fn of_top_level(api: Api, key: &[u8]) -> Option<Reference> {
    use Reference::{Kept, Model};
    let protocol = api.protocol();
    if protocol == Protocol::Gemini {
        return matches!(key, b"cachedcontent" | b"cached_content").then_some(Kept("cachedContent"));
    }
    // Of servers that go on to another model where one fails, or choose one (OpenRouter, LiteLLM, Anthropic).
    match key {
        b"models" => return Some(Model("models")),
        b"fallbacks" => return Some(Model("fallbacks")),
        b"context_window_fallbacks" => return Some(Model("context_window_fallbacks")),
        b"content_policy_fallbacks" => return Some(Model("content_policy_fallbacks")),
        b"route" => return Some(Model("route")),
        b"preset" => return Some(Model("preset")),
        _ => {}
    }
    match (api, key) {
        (Api::Responses | Api::ResponsesInputTokens, b"conversation") => Some(Kept("conversation")),
        (Api::Responses | Api::ResponsesInputTokens, b"prompt") => Some(Kept("prompt")),
        (Api::ChatCompletions, b"data_sources" | b"datasources") => Some(Kept("data_sources")),
        (Api::Messages | Api::MessagesCountTokens, b"container") => Some(CONTAINER),
        _ => None,
    }
}

/// Whether a key in lower or upper case names a model: `model`, `fallback_models`.
fn names_model(key: &[u8]) -> bool {
    key.windows(5).any(|word| word.eq_ignore_ascii_case(b"model"))
}

/// What tells in an answer of files that its code made or its text quotes. Clients send answers back with the next
/// request, and no vendor reads a file for that.
fn is_echo(kind: &str) -> bool {
    matches!(
        kind,
        "container_file_citation"
            | "file_citation"
            | "file_path"
            | "code_execution_output"
            | "bash_code_execution_output"
    )
}

/// Where a walk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    /// In the list of tools, or of plugins.
    Tools,
    /// In one of them.
    Tool,
    /// In a tool's parameters. A schema's own words name no model; those of its properties stand deeper.
    Parameters,
    /// In what a tool runs in.
    Environment,
    Elsewhere,
}

/// What a value refers to, if it is what a reference is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Text(Reference),
    TextOrList(Reference),
    Anything(Reference),
    /// The address of a file.
    Uri,
    /// The address of an image or another file, which only a bucket's is not public.
    AnyUrl,
    /// A skill: the vendor's own, or one that is kept for an account.
    Skill,
}

/// A walk over a whole body that builds nothing, and sees every member, doubled ones as well.
struct Walk<'w> {
    protocol: Protocol,
    place: Place,
    named: Option<Named>,
    found: &'w mut Option<Reference>,
    /// Whether the value that was walked last is a text that [`is_echo`].
    is_echo: &'w mut bool,
}

impl Walk<'_> {
    fn below(&mut self, place: Place, named: Option<Named>) -> Walk<'_> {
        Walk { protocol: self.protocol, place, named, found: self.found, is_echo: self.is_echo }
    }

    /// What the value of a key in lower case refers to.
    fn named_by(&self, key: &str) -> Option<Named> {
        use Reference::{Kept, Model};
        match key {
            _ if self.place == Place::Top => None,
            "file_id" | "file_ids" => Some(Named::TextOrList(Kept("file_id"))),
            "vector_store_ids" => Some(Named::TextOrList(Kept("vector_store_ids"))),
            "fileuri" | "file_uri" => Some(Named::Uri),
            "url" | "image_url" | "file_url" => Some(Named::AnyUrl),
            "data" | "file_data" if matches!(self.protocol, Protocol::OpenaiChat | Protocol::OpenaiResponses) => {
                Some(Named::AnyUrl)
            }
            "skill_id" => Some(Named::Skill),
            "container_id" if self.place == Place::Environment => Some(Named::Text(Kept("container_id"))),
            "filesearchstorenames" | "file_search_store_names" => Some(Named::TextOrList(Kept("fileSearchStoreNames"))),
            "retrieval" if self.protocol == Protocol::Gemini => Some(Named::Anything(Kept("retrieval"))),
            "cachedcontent" | "cached_content" => Some(Named::Text(Kept("cachedContent"))),
            "routingconfig" | "routing_config" if self.protocol == Protocol::Gemini => {
                Some(Named::Anything(Model("routingConfig")))
            }
            "container" if self.place == Place::Tool => Some(Named::Text(Kept("container"))),
            key if self.place == Place::Tool && names_model(key.as_bytes()) => {
                Some(Named::TextOrList(Model("tools[].model")))
            }
            key if self.place == Place::Parameters && names_model(key.as_bytes()) => {
                Some(Named::Anything(Model("tools[].parameters.model")))
            }
            _ => None,
        }
    }

    /// Where the value of a key in lower case stands; `None` where it is the caller's own data.
    fn place_of(&self, key: &str) -> Option<Place> {
        match (self.place, key) {
            (Place::Top, "tools" | "plugins") => Some(Place::Tools),
            (Place::Tool, "parameters") => Some(Place::Parameters),
            (Place::Tool, "environment") => Some(Place::Environment),
            (Place::Parameters, _) => None,
            (Place::Top, "input") => Some(Place::Elsewhere),
            (_, key) => (!self.is_own_data(key)).then_some(Place::Elsewhere),
        }
    }

    /// Whether what stands below a key is the caller's own data, in which names mean what he likes.
    fn is_own_data(&self, key: &str) -> bool {
        match self.protocol {
            Protocol::AnthropicMessages => {
                matches!(key, "input" | "input_examples" | "input_schema" | "schema" | "metadata")
            }
            Protocol::Gemini => matches!(
                key,
                "args"
                    | "response"
                    | "parameters"
                    | "parametersjsonschema"
                    | "parameters_json_schema"
                    | "responseschema"
                    | "response_schema"
                    | "responsejsonschema"
                    | "response_json_schema"
                    | "labels"
            ),
            Protocol::OpenaiChat | Protocol::OpenaiResponses => {
                matches!(key, "parameters" | "arguments" | "schema" | "input_schema" | "metadata" | "filters" | "env")
            }
        }
    }
}

/// Whether an address is that of a file that Google keeps, at whichever of its hosts. Those that anyone can read are not.
fn is_kept_file(uri: &str) -> bool {
    let uri = uri.trim().to_ascii_lowercase();
    let is_public =
        ["http://", "https://"].iter().any(|scheme| uri.starts_with(scheme)) && !uri.contains("generativelanguage");
    !uri.is_empty() && !is_public
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        *self.is_echo = is_echo(text);
        match self.named {
            Some(Named::Uri) if is_kept_file(text) => note(self.found, Reference::Kept("fileUri")),
            // Vertex reads it with the operator's account, whoever asks.
            Some(Named::AnyUrl) if text.trim().to_ascii_lowercase().starts_with("gs://") => {
                note(self.found, Reference::Kept("url"));
            }
            Some(Named::Skill) if text.trim().to_ascii_lowercase().starts_with("skill_") => {
                note(self.found, Reference::Kept("skill_id"));
            }
            Some(Named::Text(reference) | Named::TextOrList(reference) | Named::Anything(reference))
                if !text.is_empty() =>
            {
                note(self.found, reference);
            }
            _ => {}
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let place = if self.place == Place::Tools { Place::Tool } else { Place::Elsewhere };
        while list.next_element_seed(self.below(place, None))?.is_some() {
            if let Some(Named::TextOrList(reference) | Named::Anything(reference)) = self.named.take() {
                note(self.found, reference);
            }
        }
        *self.is_echo = false;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<(), A::Error> {
        let (mut is_told, mut file) = (None, None);
        while let Some(key) = object.next_key::<String>()? {
            if let Some(Named::Anything(reference)) = self.named.take() {
                note(self.found, reference);
            }
            let key = key.to_ascii_lowercase();
            let named = self.named_by(&key);
            match self.place_of(&key) {
                None if named.is_none() => {
                    object.next_value::<IgnoredAny>()?;
                }
                place => {
                    *self.is_echo = false;
                    let mut below = self.below(place.unwrap_or(Place::Elsewhere), named);
                    // What the object is may stand behind it.
                    if key == "file_id" {
                        below.found = &mut file;
                    }
                    object.next_value_seed(below)?;
                }
            }
            if key == "type" {
                // Readers differ in which of two they take.
                is_told = Some(is_told.is_none() && *self.is_echo);
            }
        }
        if let Some(reference) = file.filter(|_| is_told != Some(true)) {
            note(self.found, reference);
        }
        *self.is_echo = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Reference::{Kept, Model};
    use super::*;

    fn found(api: Api, body: &str) -> Option<Reference> {
        let scan = scan::scan(body.as_bytes()).unwrap();
        find(api, body.as_bytes(), &scan.members, scan.may_refer).unwrap()
    }

    #[test]
    fn other_models_are_found_wherever_a_vendor_reads_them() {
        let cases = [
            (Api::ChatCompletions, r#"{"model":"m","models":["a","b"]}"#, "models"),
            (Api::ChatCompletions, r#"{"model":"m","M\u006fdels":["a"]}"#, "models"),
            (Api::ChatCompletions, r#"{"model":"m","fallbacks":[{"model":"a"}]}"#, "fallbacks"),
            (
                Api::ChatCompletions,
                r#"{"model":"m","context_window_fallbacks":[{"m":["a"]}]}"#,
                "context_window_fallbacks",
            ),
            (Api::ChatCompletions, r#"{"model":"m","route":"fallback"}"#, "route"),
            (Api::ChatCompletions, r#"{"model":"m","preset":"p"}"#, "preset"),
            (Api::Messages, r#"{"model":"m","fallbacks":[{"model":"a"}]}"#, "fallbacks"),
            (Api::Messages, r#"{"model":"m","tools":[{"type":"advisor","model":"a"}]}"#, "tools[].model"),
            (Api::Responses, r#"{"model":"m","tools":[{},{"type":"image_generation","model":"a"}]}"#, "tools[].model"),
            (Api::Responses, r#"{"model":"m","tools":[{"mod\u0065l":"a"}]}"#, "tools[].model"),
            (Api::Responses, r#"{"model":"m","tools":[{"model":null,"model":"a"}]}"#, "tools[].model"),
            (
                Api::ChatCompletions,
                r#"{"model":"m","plugins":[{"id":"auto-router","allowed_models":["a"]}]}"#,
                "tools[].model",
            ),
            (
                Api::ChatCompletions,
                r#"{"model":"m","tools":[{"type":"x:subagent","parameters":{"model":"a"}}]}"#,
                "tools[].parameters.model",
            ),
            (
                Api::GenerateContent,
                r#"{"generationConfig":{"routingConfig":{"manualMode":{"modelName":"a"}}}}"#,
                "routingConfig",
            ),
        ];
        for (api, body, field) in cases {
            assert_eq!(found(api, body), Some(Model(field)), "{body}");
        }
    }

    #[test]
    fn what_a_vendor_keeps_is_found_wherever_it_is_named() {
        let cases = [
            (Api::Responses, r#"{"conversation":"conv_1"}"#, "conversation"),
            (Api::Responses, r#"{"conversation":{"id":"conv_1"}}"#, "conversation"),
            (Api::Responses, r#"{"prompt":{"id":"pmpt_1"}}"#, "prompt"),
            (Api::Responses, r#"{"input":[{"content":[{"type":"input_file","file_id":"file-1"}]}]}"#, "file_id"),
            (Api::Responses, r#"{"input":[{"content":[{"f\u0069le_id":"file-1"}]}]}"#, "file_id"),
            (Api::Responses, r#"{"input":[{"type":"function_call_output","output":[{"file_id":"f"}]}]}"#, "file_id"),
            (Api::Responses, r#"{"tools":[{"type":"file_search","vector_store_ids":["vs_1"]}]}"#, "vector_store_ids"),
            (Api::Responses, r#"{"tools":[{"type":"code_interpreter","container":"cntr_1"}]}"#, "container"),
            (Api::Responses, r#"{"tools":[{"container":{"type":"auto","file_ids":["f"]}}]}"#, "file_id"),
            (Api::ChatCompletions, r#"{"messages":[{"content":[{"file":{"file_id":"f"}}]}]}"#, "file_id"),
            (Api::ChatCompletions, r#"{"data_sources":[{"type":"azure_search"}]}"#, "data_sources"),
            (Api::Messages, r#"{"container":"container_1"}"#, "container"),
            (Api::Messages, r#"{"container":{"skills":[],"id":"container_1"}}"#, "container"),
            (Api::Messages, r#"{"messages":[{"content":[{"source":{"type":"file","file_id":"f"}}]}]}"#, "file_id"),
            (Api::GenerateContent, r#"{"cachedContent":"cachedContents/1"}"#, "cachedContent"),
            (Api::CountTokens, r#"{"generateContentRequest":{"cached_content":"cachedContents/1"}}"#, "cachedContent"),
            (Api::GenerateContent, r#"{"contents":[{"parts":[{"fileData":{"fileUri":"files/1"}}]}]}"#, "fileUri"),
            (Api::GenerateContent, r#"{"contents":[{"parts":[{"file_data":{"file_uri":"gs://b/o"}}]}]}"#, "fileUri"),
            (
                Api::GenerateContent,
                r#"{"contents":[{"parts":[{"fileData":{"fileUri":"https://generativelanguage.googleapis.com/v1beta/files/1"}}]}]}"#,
                "fileUri",
            ),
            (Api::ChatCompletions, r#"{"messages":[{"content":[{"image_url":{"url":"gs://b/o"}}]}]}"#, "url"),
            (Api::ChatCompletions, r#"{"messages":[{"content":[{"image_url":{"url":" \u0067S://b/o"}}]}]}"#, "url"),
            (Api::ChatCompletions, r#"{"extra_body":{"google":{"cached_content":"c"}}}"#, "cachedContent"),
            (Api::ImageEdits, r#"{"model":"m","images":[{"file_id":"f"}]}"#, "file_id"),
            (
                Api::ChatCompletions,
                r#"{"messages":[{"content":[{"type":"input_audio","input_audio":{"data":"gs://b/o"}}]}]}"#,
                "url",
            ),
            (Api::Responses, r#"{"input":[{"content":[{"type":"input_image","image_url":"gs://b/o"}]}]}"#, "url"),
            (Api::Responses, r#"{"input":[{"content":[{"type":"input_file","file_url":"gs://b/o"}]}]}"#, "url"),
            (
                Api::Responses,
                r#"{"tools":[{"type":"shell","environment":{"type":"container_reference","container_id":"cntr_1"}}]}"#,
                "container_id",
            ),
            (
                Api::Responses,
                r#"{"tools":[{"environment":{"skills":[{"type":"skill_reference","skill_id":"skill_1"}]}}]}"#,
                "skill_id",
            ),
            (Api::Messages, r#"{"container":{"skills":[{"type":"custom","skill_id":"skill_1"}]}}"#, "skill_id"),
            (Api::Messages, r#"{"messages":[{"content":[{"type":"container_upload","file_id":"f"}]}]}"#, "file_id"),
            (
                Api::Messages,
                r#"{"messages":[{"content":[{"type":"code_execution_output","type":"container_upload","file_id":"f"}]}]}"#,
                "file_id",
            ),
            (
                Api::Messages,
                r#"{"messages":[{"content":[{"file_id":"f","Type":"x","type":"code_execution_output"}]}]}"#,
                "file_id",
            ),
            (
                Api::Messages,
                r#"{"messages":[{"content":[{"file_id":"f","type":["code_execution_output"]}]}]}"#,
                "file_id",
            ),
            (
                Api::GenerateContent,
                r#"{"tools":[{"fileSearch":{"fileSearchStoreNames":["fileSearchStores/1"]}}]}"#,
                "fileSearchStoreNames",
            ),
            (
                Api::GenerateContent,
                r#"{"tools":{"file_search":{"file_search_store_names":"fileSearchStores/1"}}}"#,
                "fileSearchStoreNames",
            ),
            (
                Api::GenerateContent,
                r#"{"tools":[{"retrieval":{"vertexAiSearch":{"datastore":"projects/p/dataStores/d"}}}]}"#,
                "retrieval",
            ),
            (
                Api::GenerateContent,
                r#"{"contents":[{"parts":[{"fileData":{"fileUri":"https://generativelanguage.mtls.googleapis.com/v1beta/files/1"}}]}]}"#,
                "fileUri",
            ),
        ];
        for (api, body, field) in cases {
            assert_eq!(found(api, body), Some(Kept(field)), "{body}");
        }
        let both = r#"{"conversation":"c","tools":[{"model":"a"}]}"#;
        assert_eq!(found(Api::Responses, both), Some(Model("tools[].model")));
    }

    #[test]
    fn a_callers_own_data_may_use_the_same_names() {
        let cases = [
            (Api::ChatCompletions, r#"{"model":"m","models":null,"fallbacks":[],"metadata":{"file_id":"f"}}"#),
            (
                Api::ChatCompletions,
                r#"{"tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"file_id":{"type":"string"},"model":{"enum":["a"]}}}}}]}"#,
            ),
            (
                Api::Responses,
                r#"{"tools":[{"type":"function","parameters":{"properties":{"model":{"type":"string"}}}}]}"#,
            ),
            (Api::Responses, r#"{"text":{"format":{"schema":{"examples":[{"file_id":"f"}]}}},"prompt":null}"#),
            (
                Api::Responses,
                r#"{"input":[{"type":"function_call","arguments":"{\"file_id\":\"f\"}"},{"file_id":null}]}"#,
            ),
            (Api::Responses, r#"{"input":[{"type":"message","model":"m","content":"conversation"}]}"#),
            (Api::Responses, r#"{"tools":[{"type":"code_interpreter","container":{"type":"auto"}}]}"#),
            (Api::Messages, r#"{"container":{"id":null,"skills":[{"type":"anthropic","skill_id":"pptx"}]}}"#),
            (Api::ChatCompletions, r#"{"messages":[{"content":[{"image_url":{"url":"https://x.test/gs://a"}}]}]}"#),
            (Api::Completions, r#"{"prompt":"conversation","model":"m"}"#),
            (Api::Messages, r#"{"messages":[{"content":[{"type":"tool_use","input":{"file_id":"f"}}]}]}"#),
            (Api::Messages, r#"{"tools":[{"name":"t","input_schema":{"default":{"file_id":"f","model":"x"}}}]}"#),
            (Api::GenerateContent, r#"{"contents":[{"parts":[{"functionCall":{"args":{"fileUri":"f"}}}]}]}"#),
            (
                Api::GenerateContent,
                r#"{"contents":[{"parts":[{"fileData":{"fileUri":"https://www.youtube.com/watch?v=1"}}]}]}"#,
            ),
            (Api::GenerateContent, r#"{"cachedContent":"","contents":[]}"#),
            (
                Api::Messages,
                r#"{"tools":[{"name":"t","input_schema":{},"input_examples":[{"file_id":"f","url":"gs://b/o"}]}]}"#,
            ),
            (Api::Messages, r#"{"messages":[{"content":[{"source":{"type":"text","data":"gs://b is a bucket"}}]}]}"#),
            (
                Api::Responses,
                r#"{"input":[{"type":"mcp_list_tools","tools":[{"name":"t","input_schema":{"examples":[{"file_id":"f"}]}}]}]}"#,
            ),
            (Api::Responses, r#"{"input":[{"type":"local_shell_call","action":{"env":{"FILE_ID":"f"}}}]}"#),
            (Api::Rerank, r#"{"model":"m","query":"q","documents":[{"text":"t","file_id":"f","url":"gs://b/o"}]}"#),
            (
                Api::GenerateContent,
                r#"{"tools":[{"googleSearch":{}},{"googleSearchRetrieval":{}},{"codeExecution":{}}]}"#,
            ),
        ];
        for (api, body) in cases {
            assert_eq!(found(api, body), None, "{body}");
        }
    }

    #[test]
    fn answers_go_back_as_they_came() {
        let cases = [
            (
                Api::Responses,
                r#"{"input":[{"type":"code_interpreter_call","id":"ci_1","code":"1","container_id":"cntr_1","outputs":null},
                    {"type":"message","role":"assistant","content":[{"type":"output_text","text":"t","annotations":[
                        {"type":"container_file_citation","container_id":"cntr_1","file_id":"cfile_1","filename":"a.png"},
                        {"file_id":"file-1","type":"file_citation","index":1,"filename":"a"},
                        {"type":"file_path","file_id":"file-1","index":1}]}]}],
                    "tools":[{"type":"code_interpreter","container":{"type":"auto"}}]}"#,
            ),
            (
                Api::Messages,
                r#"{"messages":[{"role":"assistant","content":[
                    {"type":"server_tool_use","id":"srvtoolu_1","name":"bash_code_execution","input":{"command":"ls"}},
                    {"type":"bash_code_execution_tool_result","tool_use_id":"srvtoolu_1","content":{
                        "type":"bash_code_execution_result","stdout":"","stderr":"","return_code":0,
                        "content":[{"type":"bash_code_execution_output","file_id":"file_1"}]}},
                    {"type":"code_execution_tool_result","tool_use_id":"srvtoolu_2","content":{
                        "type":"code_execution_result","content":[{"file_id":"file_2","type":"code_execution_output"}]}}]}],
                    "tools":[{"type":"code_execution_20250825","name":"code_execution"}]}"#,
            ),
        ];
        for (api, body) in cases {
            assert_eq!(found(api, body), None, "{body}");
        }
    }

    #[test]
    fn what_cannot_be_read_hides_nothing() {
        for odd in [r#""\ud800""#, "1e999", "-1e999", r#"{"\udfff":1}"#] {
            let body = format!("{{\"input\":[\n{odd},{{\"content\":[{{\"file_id\":\"f\"}}]}}]}}");
            let scan = scan::scan(body.as_bytes()).unwrap();
            let found = find(Api::Responses, body.as_bytes(), &scan.members, scan.may_refer);
            assert!(matches!(found, Err(ScanError::Malformed { offset: 11..=20 })), "{body}: {found:?}");
        }
        let deep = format!(r#"{{"input":{}{{"file_id":"f"}}{}}}"#, "[".repeat(124), "]".repeat(124));
        assert_eq!(found(Api::Responses, &deep), Some(Kept("file_id")), "as deep as a body may be");
        let harmless = scan::scan(br#"{"input":["\ud800"]}"#).unwrap();
        assert!(!harmless.may_refer, "passes as it came");
    }

    #[test]
    fn a_plain_request_needs_no_second_look() {
        let plain = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":[{"type":"text","text":"file_id"}]}],
            "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{}}}}]}"#;
        assert!(!scan::scan(plain.as_bytes()).unwrap().may_refer);
    }

    proptest! {
        #[test]
        fn no_request_makes_it_panic(text in r#"(\{|\}|\[|\]|:|,|"file_id"|"tools"|"model"|"\\u0061"|"input"|null|1| ){0,60}"#) {
            if let Ok(scan) = scan::scan(text.as_bytes()) {
                for api in [Api::Responses, Api::Messages, Api::GenerateContent] {
                    let _ = find(api, text.as_bytes(), &scan.members, true);
                }
            }
        }
    }
}
