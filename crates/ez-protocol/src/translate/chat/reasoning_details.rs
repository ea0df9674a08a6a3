//! Thoughts with the state that their vendor wants back: OpenRouter's `reasoning_details`, LiteLLM's `thinking_blocks`,
//! and Google's `extra_content` of calls. Chat Completions has no field of its own for them.
//!
//! `format` says whose state an item holds. What a chat upstream issues is kept as its whole item, because only that
//! upstream knows what is in it.

use std::collections::HashMap;

use ez_contract::Protocol;

use super::super::opaque::{Opaque, OpaqueKind};
use super::super::request::{Block, Reasoning, ToolCall};
use crate::json::{Escaped, Value, Writer};

/// The `format` of each issuer's items.
const FORMATS: [(Protocol, &str); 3] = [
    (Protocol::AnthropicMessages, "anthropic-claude-v1"),
    (Protocol::Gemini, "google-gemini-v1"),
    (Protocol::OpenaiResponses, "openai-responses-v1"),
];

/// An item of `reasoning_details`.
#[derive(Debug)]
pub(super) struct Detail<'a> {
    /// Its `text` or `summary`.
    pub(super) text: Option<Escaped<'a>>,
    /// Its `signature` or `data`.
    state: Option<Escaped<'a>>,
    pub(super) kind: OpaqueKind,
    /// Whose state it is, where the `format` is known.
    issuer: Option<Protocol>,
    id: Option<Escaped<'a>>,
    index: Option<Value<'a>>,
    whole: Value<'a>,
}

impl<'a> Detail<'a> {
    /// The items of a list; what is none is passed over.
    pub(super) fn all(list: Value<'a>) -> impl Iterator<Item = Self> {
        list.elements().unwrap_or_default().into_iter().filter_map(Self::read)
    }

    fn read(whole: Value<'a>) -> Option<Self> {
        let mut detail =
            Self { text: None, state: None, kind: OpaqueKind::Signature, issuer: None, id: None, index: None, whole };
        for (key, value) in whole.members()? {
            match key.as_str() {
                "text" | "summary" => detail.text = value.string(),
                "signature" => detail.state = value.string().or(detail.state),
                "data" => {
                    detail.state = value.string().or(detail.state);
                    detail.kind = OpaqueKind::Encrypted;
                }
                "format" => detail.issuer = issuer_of(value),
                "id" => detail.id = value.string(),
                "index" => detail.index = Some(value),
                _ => {}
            }
        }
        detail.state = detail.state.filter(|state| !state.is_empty());
        Some(detail)
    }

    /// The state that a client sends back.
    fn state_of_client(&self) -> Option<Opaque<'a>> {
        let state = self.state.clone()?;
        let read = Opaque::read(self.issuer.unwrap_or(Protocol::OpenaiChat), self.kind, state);
        if read.issuer == Protocol::OpenaiChat { self.state_of_upstream() } else { Some(read) }
    }

    /// The state that a chat upstream issues: the item without its words.
    pub(super) fn state_of_upstream(&self) -> Option<Opaque<'a>> {
        self.state.as_ref()?;
        let mut json = Writer::default();
        json.object(|json| {
            for (key, value) in self.whole.members().unwrap_or_default() {
                if !key.is("text") && !key.is("summary") {
                    json.escaped_key(&key).value(value);
                }
            }
        });
        let data = Escaped::of_owned(json.finish());
        Some(Opaque { issuer: Protocol::OpenaiChat, kind: self.kind, data })
    }
}

fn issuer_of(format: Value<'_>) -> Option<Protocol> {
    FORMATS.iter().find(|(_, name)| format.is(name)).map(|(issuer, _)| *issuer)
}

/// Thoughts without state.
pub(super) fn unsigned(text: Escaped<'_>) -> Block<'_> {
    Block::Reasoning(Reasoning { text, signature: None })
}

/// The state of a call, in Google's OpenAI-compatible form.
pub(super) fn call_signature(extra_content: Value<'_>) -> Option<Escaped<'_>> {
    let signature = extra_content.get("google")?.get("thought_signature")?.string()?;
    (!signature.is_empty()).then_some(signature)
}

/// What a client sends back of an assistant's thoughts. State that belongs to a call is given to the call.
pub(super) fn of_client<'a>(list: Option<Value<'a>>, calls: &mut [ToolCall<'a>]) -> Vec<Block<'a>> {
    let Some(list) = list else { return Vec::new() };
    let by_id: HashMap<_, _> = calls.iter().enumerate().map(|(at, call)| (call.id.clone(), at)).collect();
    let mut thoughts: Vec<Reasoning<'a>> = Vec::new();
    // Fragments of a stream come back as they were, or put together.
    let mut last_index = None;
    for detail in Detail::all(list) {
        let state = detail.state_of_client();
        let called = detail.id.as_ref().and_then(|id| by_id.get(id)).and_then(|at| calls.get_mut(*at));
        if let (Some(call), Some(state), None) = (called, &state, &detail.text) {
            call.signature = Some(state.clone());
            continue;
        }
        let is_same = detail.kind == OpaqueKind::Encrypted || last_index == Some(detail.index);
        match thoughts.last_mut().filter(|last| last.signature.is_none() && is_same) {
            Some(last) => {
                if let Some(text) = &detail.text {
                    last.text.push(text);
                }
                last.signature = state;
            }
            None => thoughts.push(Reasoning { text: detail.text.unwrap_or(Escaped::EMPTY), signature: state }),
        }
        last_index = Some(detail.index);
    }
    thoughts.retain(|thought| !thought.text.is_empty() || thought.signature.is_some());
    thoughts.into_iter().map(Block::Reasoning).collect()
}

/// What a client of LiteLLM sends back: Anthropic's blocks.
pub(super) fn of_thinking_blocks<'a>(list: Option<Value<'a>>) -> Vec<Block<'a>> {
    let thought = |block: Value<'a>| {
        let string = |key: &str| block.get(key).and_then(Value::string).filter(|text| !text.is_empty());
        let state = |kind, data| Opaque::read(Protocol::AnthropicMessages, kind, data);
        let signature = match string("data") {
            Some(data) => Some(state(OpaqueKind::Encrypted, data)),
            None => string("signature").map(|signature| state(OpaqueKind::Signature, signature)),
        };
        Block::Reasoning(Reasoning { text: string("thinking").unwrap_or(Escaped::EMPTY), signature })
    };
    list.and_then(Value::elements).unwrap_or_default().into_iter().map(thought).collect()
}

/// Writes the items of a thought whose state must come back. `index` counts the items of an answer.
pub(super) fn write(json: &mut Writer, text: &Escaped<'_>, state: &Opaque<'_>, index: &mut u64) {
    let Some((_, format)) = FORMATS.iter().find(|(issuer, _)| *issuer == state.issuer) else {
        return write_own(json, text, state);
    };
    let mut item = |json: &mut Writer, kind: &str, fill: &dyn Fn(&mut Writer)| {
        json.object(|json| {
            json.key("type").string(kind);
            fill(json);
            json.key("format").string(format);
            json.key("index").count(*index);
        });
        *index += 1;
    };
    match state.kind {
        OpaqueKind::Signature => item(json, "reasoning.text", &|json| {
            json.key("text").escaped(text);
            json.key("signature").escaped(&state.data);
        }),
        OpaqueKind::Encrypted => {
            if !text.is_empty() {
                item(json, "reasoning.summary", &|json| json.key("summary").escaped(text));
            }
            item(json, "reasoning.encrypted", &|json| json.key("data").escaped(&state.data));
        }
    }
}

/// Writes the item that a chat upstream issued, with its words.
pub(super) fn write_own(json: &mut Writer, text: &Escaped<'_>, state: &Opaque<'_>) {
    let item = state.data.text();
    let Some(members) = Value::parse_object(&item).and_then(Value::members) else { return };
    if state.kind == OpaqueKind::Encrypted && !text.is_empty() {
        json.object(|json| {
            json.key("type").string("reasoning.summary");
            json.key("summary").escaped(text);
        });
    }
    json.object(|json| {
        for (key, value) in members {
            json.escaped_key(&key).value(value);
        }
        if state.kind == OpaqueKind::Signature {
            json.key("text").escaped(text);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::super::request::Arguments;
    use super::*;

    fn call(id: &'static str) -> ToolCall<'static> {
        ToolCall {
            id: Escaped::of(id),
            name: Escaped::of("f"),
            arguments: Arguments::Written(Escaped::EMPTY),
            signature: None,
            cache: None,
        }
    }

    fn shown(block: &Block<'_>) -> String {
        let Block::Reasoning(Reasoning { text, signature }) = block else { return format!("{block:?}") };
        let state = signature.as_ref().map(|s| format!("{} {:?} {}", s.issuer, s.kind, s.data.text()));
        format!("{}|{}", text.text(), state.unwrap_or_default())
    }

    fn read(list: &str) -> (Vec<String>, Option<String>) {
        let object = format!(r#"{{"list":{list}}}"#);
        let list = Value::parse_object(&object).unwrap().get("list");
        let mut calls = [call("call_9")];
        let blocks = of_client(list, &mut calls).iter().map(shown).collect();
        let [call] = calls;
        (blocks, call.signature.map(|s| format!("{} {}", s.issuer, s.data.text())))
    }

    #[test]
    fn items_are_thoughts_with_the_state_of_their_issuer() {
        let cases: [(&str, &[&str]); 7] = [
            (
                r#"[{"type":"reasoning.text","text":"a","signature":"s1","format":"anthropic-claude-v1","index":0},
                    {"type":"reasoning.encrypted","data":"d","format":"anthropic-claude-v1","index":1}]"#,
                &["a|anthropic-messages Signature s1", "|anthropic-messages Encrypted d"],
            ),
            (
                r#"[{"type":"reasoning.text","text":"a","format":"anthropic-claude-v1","index":0},
                    {"type":"reasoning.text","text":"b","signature":"s","format":"anthropic-claude-v1","index":0},
                    {"type":"reasoning.text","text":"c","format":"anthropic-claude-v1","index":1}]"#,
                &["ab|anthropic-messages Signature s", "c|"],
            ),
            (
                r#"[{"type":"reasoning.summary","summary":"s","format":"openai-responses-v1","index":0},
                    {"type":"reasoning.encrypted","data":"d","format":"openai-responses-v1","id":"rs_1","index":1}]"#,
                &["s|openai-responses Encrypted d"],
            ),
            (r#"[{"type":"reasoning.text","text":"a","signature":"ez1.gs.x"}]"#, &["a|gemini Signature x"]),
            (
                r#"[{"type":"reasoning.text","text":"a","signature":"s","format":"xai-responses-v1"}]"#,
                &[r#"a|openai-chat Signature {"type":"reasoning.text","signature":"s","format":"xai-responses-v1"}"#],
            ),
            (r#"[1,"x",{},{"type":"reasoning.text","text":""}]"#, &[]),
            (r#""x""#, &[]),
        ];
        for (list, expected) in cases {
            assert_eq!(read(list).0, expected, "{list}");
        }
    }

    #[test]
    fn state_of_calls_goes_to_the_calls() {
        let list = r#"[{"type":"reasoning.encrypted","data":"d","id":"call_9","format":"google-gemini-v1","index":0}]"#;
        assert_eq!(read(list), (vec![], Some("gemini d".into())));
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for (issuer, _) in FORMATS {
            for kind in [OpaqueKind::Signature, OpaqueKind::Encrypted] {
                let state = Opaque { issuer, kind, data: Escaped::of("Eq+/=") };
                let mut json = Writer::default();
                json.array(|json| write(json, &Escaped::of("thought"), &state, &mut 0));
                let expected = format!("thought|{issuer} {kind:?} Eq+/=");
                assert_eq!(read(&json.finish()).0, [expected]);
            }
        }
    }

    #[test]
    fn what_a_chat_upstream_issued_goes_back_whole() {
        let list = r#"{"list":[{"type":"reasoning.text","text":"a","signature":"s","format":"x","index":0}]}"#;
        let list = Value::parse_object(list).unwrap().get("list").unwrap();
        let detail = Detail::all(list).next().unwrap();
        let state = detail.state_of_upstream().unwrap();
        let mut json = Writer::default();
        write_own(&mut json, &Escaped::of("a"), &state);
        let expected = r#"{"type":"reasoning.text","signature":"s","format":"x","index":0,"text":"a"}"#;
        assert_eq!(json.finish(), expected);
    }

    #[test]
    fn blocks_of_litellm_are_anthropics() {
        let list =
            r#"{"list":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"redacted_thinking","data":"d"}]}"#;
        let list = Value::parse_object(list).unwrap().get("list");
        let shown: Vec<_> = of_thinking_blocks(list).iter().map(shown).collect();
        assert_eq!(shown, ["t|anthropic-messages Signature s", "|anthropic-messages Encrypted d"]);
    }
}
