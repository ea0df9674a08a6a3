//! Properties that hold for whatever comes: nothing panics, bytes that matter survive, what was used is neither lost nor
//! made up, and a conversation that goes on is sent with the same beginning.

use ez_contract::Protocol;
use ez_protocol::translate::whole_answer;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::corpus::{events, model, pairs, samples, translate, translate_answer, translate_stream};

/// The words that the protocols are made of, so that made-up documents get somewhere.
const WORDS: &[&str] = &[
    "messages",
    "role",
    "content",
    "type",
    "text",
    "user",
    "assistant",
    "system",
    "developer",
    "tool",
    "model",
    "input",
    "instructions",
    "contents",
    "parts",
    "tools",
    "function",
    "name",
    "parameters",
    "arguments",
    "tool_calls",
    "id",
    "call_id",
    "tool_call_id",
    "function_call",
    "function_call_output",
    "output",
    "tool_use",
    "tool_result",
    "tool_use_id",
    "is_error",
    "input_schema",
    "thinking",
    "signature",
    "redacted_thinking",
    "data",
    "reasoning",
    "summary",
    "encrypted_content",
    "functionCall",
    "functionResponse",
    "response",
    "args",
    "thought",
    "thoughtSignature",
    "inlineData",
    "mimeType",
    "generationConfig",
    "thinkingConfig",
    "responseSchema",
    "properties",
    "items",
    "enum",
    "anyOf",
    "$ref",
    "image_url",
    "url",
    "source",
    "base64",
    "media_type",
    "tool_choice",
    "auto",
    "required",
    "response_format",
    "json_schema",
    "schema",
    "stop",
    "stream",
    "n",
    "max_tokens",
    "temperature",
    "choices",
    "delta",
    "index",
    "finish_reason",
    "usage",
    "prompt_tokens",
    "completion_tokens",
    "item",
    "response",
    "output_index",
    "response.completed",
    "response.output_item.added",
    "response.output_text.delta",
    "content_block",
    "content_block_start",
    "content_block_delta",
    "message_start",
    "message_delta",
    "text_delta",
    "input_json_delta",
    "partial_json",
    "candidates",
    "finishReason",
    "STOP",
    "usageMetadata",
    "promptTokenCount",
    "message",
    "custom",
];

fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(WORDS).prop_map(|word| json!(word));
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        word,
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let key = prop_oneof![4 => prop::sample::select(WORDS).prop_map(str::to_owned), 1 => "\\PC{0,8}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..8).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A document with one of its values replaced, which gets deeper into a reader than made-up ones.
fn replaced(mut document: Value, at: usize, with: &Value) -> Value {
    fn count(value: &Value) -> usize {
        1 + match value {
            Value::Array(elements) => elements.iter().map(count).sum(),
            Value::Object(members) => members.values().map(count).sum(),
            _ => 0,
        }
    }
    fn replace(value: &mut Value, at: &mut usize, with: &Value) {
        if *at == 0 {
            *value = with.clone();
        }
        let is_done = *at == 0;
        *at = at.wrapping_sub(1);
        if is_done {
            return;
        }
        let children: Vec<&mut Value> = match value {
            Value::Array(elements) => elements.iter_mut().collect(),
            Value::Object(members) => members.values_mut().collect(),
            _ => return,
        };
        for child in children {
            if *at == usize::MAX {
                return;
            }
            replace(child, at, with);
        }
    }
    let mut at = at % count(&document);
    replace(&mut document, &mut at, with);
    document
}

fn check_total(body: &[u8]) -> Result<(), TestCaseError> {
    for (client, upstream) in pairs() {
        if let Ok(translated) = translate(client, upstream, model(upstream), body) {
            let sent = serde_json::from_slice::<Value>(&translated.body);
            prop_assert!(sent.is_ok_and(|sent| sent.is_object()), "{client} to {upstream}");
        }
        if let Ok(answer) = translate_answer(client, upstream, body) {
            prop_assert!(serde_json::from_str::<Value>(&answer).is_ok_and(|answer| answer.is_object()));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_document_makes_it_panic(document in any_json()) {
        check_total(document.to_string().as_bytes())?;
    }

    #[test]
    fn no_spoilt_sample_makes_it_panic(pick in any::<prop::sample::Index>(), at in any::<usize>(), with in any_json()) {
        for protocol in Protocol::ALL {
            for kind in ["requests", "answers"] {
                let all = samples(*protocol, kind);
                let sample = pick.get(&all);
                let document = serde_json::from_slice(&sample.bytes).unwrap();
                check_total(replaced(document, at, &with).to_string().as_bytes())?;
            }
        }
    }

    #[test]
    fn no_stream_makes_it_panic(
        pick in any::<prop::sample::Index>(),
        documents in prop::collection::vec(any_json(), 0..6),
        at in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        for (client, vendor) in pairs() {
            let all = samples(vendor, "streams");
            let mut bytes = pick.get(&all).bytes.clone();
            let cut = at.index(bytes.len());
            let made_up: String = documents.iter().map(|document| format!("data: {document}\n\n")).collect();
            bytes.splice(cut..cut, noise.iter().copied().chain(*b"\n\n").chain(made_up.bytes()));
            // Every event that a client gets is one of its protocol's.
            for event in events(&[translate_stream(client, vendor, &[&bytes]).as_bytes()]) {
                let data = ez_protocol::sse::data(&event);
                let is_read = data.is_none_or(|data| {
                    data.as_ref() == b"[DONE]" || ez_protocol::json::Value::object_in(data.as_ref()).is_ok()
                });
                prop_assert!(is_read, "{vendor} to {client}: {}", String::from_utf8_lossy(&event));
            }
        }
    }
}

/// A conversation with a tool in it, in the words of OpenAI Chat.
fn conversation(names: &[String], arguments: &[String], ids: &[String]) -> Value {
    let tools: Vec<_> = names
        .iter()
        .map(|name| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}))
        .collect();
    let calls: Vec<_> = (0..ids.len())
        .map(|at| {
            let (name, arguments) = (&names[at % names.len()], &arguments[at % arguments.len()]);
            json!({"id": ids[at], "type": "function", "function": {"name": name, "arguments": arguments}})
        })
        .collect();
    let mut messages = vec![
        json!({"role": "user", "content": "go"}),
        json!({"role": "assistant", "content": null, "tool_calls": calls}),
    ];
    messages.extend(ids.iter().map(|id| json!({"role": "tool", "tool_call_id": id, "content": format!("r {id}")})));
    json!({"model": "m", "messages": messages, "tools": tools})
}

/// The calls of a Chat body: id, name, arguments.
fn calls(body: &[u8]) -> Vec<(String, String, String)> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let messages = body["messages"].as_array().unwrap();
    let calls = messages.iter().filter_map(|message| message["tool_calls"].as_array()).flatten();
    calls
        .map(|call| (text(&call["id"]), text(&call["function"]["name"]), text(&call["function"]["arguments"])))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ids_names_and_arguments_come_back_as_they_were(
        names in prop::collection::hash_set("[a-zA-Z_][a-zA-Z0-9_-]{0,40}", 1..4),
        ids in prop::collection::hash_set("[a-zA-Z0-9_-]{1,40}", 1..5),
        members in prop::collection::vec(("[a-z\"\\\\\u{e9} ]{1,6}", any_json(), "[ \n\t]{0,2}"), 0..4),
    ) {
        let names: Vec<String> = names.into_iter().collect();
        let ids: Vec<String> = ids.into_iter().collect();
        // Spaces, order, escapes and numbers as no writer of ours would write them.
        let inside: Vec<_> = members.iter().map(|(key, value, space)| format!("{space}{}:{space}{value}", json!(key))).collect();
        let arguments = vec![format!("{{{}}}", inside.join(",")), r#"{"x":1.0e2,"y":9007199254740993,"z":"\u00e9"}"#.to_owned()];
        let body = conversation(&names, &arguments, &ids).to_string();
        for via in [Protocol::OpenaiResponses, Protocol::AnthropicMessages, Protocol::Gemini] {
            let there = translate(Protocol::OpenaiChat, via, model(via), body.as_bytes()).unwrap();
            let back = translate(via, Protocol::OpenaiChat, "gpt-5.4", &there.body).unwrap();
            let (mut expected, mut found) = (calls(body.as_bytes()), calls(&back.body));
            if via == Protocol::Gemini {
                // Which has no ids of its own here; order stands for them.
                expected.iter_mut().chain(&mut found).for_each(|call| call.0.clear());
            }
            prop_assert_eq!(found, expected, "by {}", via);
        }
    }

    #[test]
    fn names_that_a_vendor_refuses_come_back_in_its_answer(name in "[a-z]{1,6}[.:/ \u{e9}]{1,3}[a-z]{0,80}") {
        let body = conversation(std::slice::from_ref(&name), &["{}".to_owned()], &["c1".to_owned()]).to_string();
        for via in [Protocol::OpenaiResponses, Protocol::AnthropicMessages, Protocol::Gemini] {
            let mut there = translate(Protocol::OpenaiChat, via, model(via), body.as_bytes()).unwrap();
            let sent: Value = serde_json::from_slice(&there.body).unwrap();
            let sent = match via {
                Protocol::OpenaiResponses | Protocol::AnthropicMessages => &sent["tools"][0]["name"],
                _ => &sent["tools"][0]["functionDeclarations"][0]["name"],
            };
            let answer = match via {
                Protocol::OpenaiResponses => json!({"id": "resp_1", "status": "completed", "output": [
                    {"type": "function_call", "id": "fc_1", "call_id": "c2", "name": sent, "arguments": "{}"}]}),
                Protocol::AnthropicMessages => json!({"id": "msg_1", "type": "message", "role": "assistant",
                    "content": [{"type": "tool_use", "id": "c2", "name": sent, "input": {}}], "stop_reason": "tool_use"}),
                _ => json!({"candidates": [{"content": {"parts": [{"functionCall": {"name": sent, "args": {}}}]},
                    "finishReason": "STOP"}]}),
            };
            let back: Value =
                serde_json::from_slice(&there.answer.plain(answer.to_string().as_bytes()).unwrap()).unwrap();
            prop_assert_eq!(&back["choices"][0]["message"]["tool_calls"][0]["function"]["name"], &json!(name), "{}", via);
            prop_assert_eq!(&back["choices"][0]["finish_reason"], &json!("tool_calls"));
        }
    }

    #[test]
    fn what_was_used_is_neither_lost_nor_made_up(
        input in 0..1_000_000_u64, read in 0..100_000_u64, written in 0..100_000_u64, output in 0..100_000_u64,
        reasoning in 0..100_000_u64,
    ) {
        let (all_input, all_output) = (input + read + written, output + reasoning);
        let answers = [
            (Protocol::OpenaiChat, all_input + all_output, json!({"id": "c", "choices": [{"index": 0,
                "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": all_input, "completion_tokens": all_output,
                    "total_tokens": all_input + all_output,
                    "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
                    "completion_tokens_details": {"reasoning_tokens": reasoning}}})),
            (Protocol::OpenaiResponses, all_input + all_output, json!({"id": "resp_1", "status": "completed", "output": [],
                "usage": {"input_tokens": all_input, "output_tokens": all_output,
                    "total_tokens": all_input + all_output,
                    "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
                    "output_tokens_details": {"reasoning_tokens": reasoning}}})),
            (Protocol::AnthropicMessages, all_input + all_output, json!({"id": "msg_1", "type": "message",
                "content": [], "stop_reason": "end_turn",
                "usage": {"input_tokens": input, "cache_read_input_tokens": read,
                    "cache_creation_input_tokens": written, "output_tokens": all_output,
                    "cache_creation": {"ephemeral_5m_input_tokens": written - written / 2,
                        "ephemeral_1h_input_tokens": written / 2},
                    "output_tokens_details": {"thinking_tokens": reasoning}}})),
            // Gemini tells nothing of what is written to its cache.
            (Protocol::Gemini, input + read + all_output, json!({"candidates": [{"content": {"parts": []},
                "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": input + read, "cachedContentTokenCount": read,
                    "candidatesTokenCount": output, "thoughtsTokenCount": reasoning,
                    "totalTokenCount": input + read + all_output}})),
        ];
        for (vendor, total, answer) in answers {
            let body = answer.to_string();
            let own = whole_answer(vendor, body.as_bytes()).unwrap().usage.unwrap();
            prop_assert_eq!(own.total(), Some(total), "{}", vendor);
            for client in Protocol::ALL.iter().filter(|client| **client != vendor) {
                let translated = translate_answer(*client, vendor, body.as_bytes()).unwrap();
                let told = whole_answer(*client, translated.as_bytes()).unwrap().usage.unwrap();
                prop_assert_eq!(told.total(), Some(total), "{} to {}", vendor, client);
                prop_assert_eq!(told.output_total(), own.output_total());
                prop_assert_eq!(told.cache_read, own.cache_read);
                prop_assert_eq!(told.reasoning.unwrap_or(0), reasoning, "{} to {}", vendor, client);
            }
        }
    }

    #[test]
    fn a_conversation_that_goes_on_is_sent_with_the_same_beginning(turns in prop::collection::vec("[a-z \u{e9}\"]{1,12}", 2..8)) {
        for client in Protocol::ALL {
            for upstream in Protocol::ALL.iter().filter(|upstream| *upstream != client) {
                let mut before: Option<String> = None;
                for upto in (1..=turns.len()).step_by(2) {
                    let body = talk(*client, &turns[..upto]).to_string();
                    let sent = translate(*client, *upstream, model(*upstream), body.as_bytes()).unwrap().body;
                    let sent = String::from_utf8(sent.to_vec()).unwrap();
                    if let Some(before) = before {
                        prop_assert!(sent.starts_with(&before), "{client} to {upstream}:\n{before}\n{sent}");
                    }
                    // All but the brackets behind the last turn's text, and what stands behind the conversation.
                    let last = Value::from(format!("{}.", turns[upto - 1])).to_string();
                    let inside = last.trim_matches('"').trim_end_matches('.');
                    let end = sent.rfind(&format!("{inside}.")).map(|at| at + inside.len() + 1);
                    before = Some(sent[..end.expect("the last turn is sent")].to_owned());
                }
            }
        }
    }
}

/// A talk with instructions, a tool and a call in it, where the user and the model take turns.
fn talk(client: Protocol, texts: &[String]) -> Value {
    let turns: Vec<(bool, String)> =
        texts.iter().enumerate().map(|(at, text)| (at % 2 == 0, format!("{text}."))).collect();
    let schema = json!({"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "number"}}});
    match client {
        Protocol::OpenaiChat => {
            let mut messages = vec![json!({"role": "system", "content": "be brief"})];
            let role = |is_user: bool| if is_user { "user" } else { "assistant" };
            messages.extend(turns.iter().map(|(user, text)| json!({"role": role(*user), "content": text})));
            json!({"model": "m", "messages": messages,
                "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]})
        }
        Protocol::OpenaiResponses => {
            let role = |is_user: bool| if is_user { "user" } else { "assistant" };
            let kind = |is_user: bool| if is_user { "input_text" } else { "output_text" };
            let items: Vec<_> = turns
                .iter()
                .map(|(user, text)| json!({"type": "message", "role": role(*user), "content": [{"type": kind(*user), "text": text}]}))
                .collect();
            json!({"model": "m", "instructions": "be brief", "input": items,
                "tools": [{"type": "function", "name": "f", "parameters": schema, "strict": false}]})
        }
        Protocol::AnthropicMessages => {
            let role = |is_user: bool| if is_user { "user" } else { "assistant" };
            let messages: Vec<_> = turns
                .iter()
                .map(|(user, text)| json!({"role": role(*user), "content": [{"type": "text", "text": text}]}))
                .collect();
            json!({"model": "m", "max_tokens": 100, "system": "be brief", "messages": messages,
                "tools": [{"name": "f", "input_schema": schema}]})
        }
        Protocol::Gemini => {
            let role = |is_user: bool| if is_user { "user" } else { "model" };
            let contents: Vec<_> =
                turns.iter().map(|(user, text)| json!({"role": role(*user), "parts": [{"text": text}]})).collect();
            json!({"systemInstruction": {"parts": [{"text": "be brief"}]}, "contents": contents,
                "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema}]}]})
        }
    }
}

#[test]
fn a_blocked_prompt_is_no_empty_success() {
    let blocked =
        br#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":3,"totalTokenCount":3}}"#;
    let chat: Value =
        serde_json::from_str(&translate_answer(Protocol::OpenaiChat, Protocol::Gemini, blocked).unwrap()).unwrap();
    assert_eq!(chat["choices"][0]["finish_reason"], "content_filter");
}
