//! Token counts: the same request as for a chat, asked of the upstream's endpoint that counts.

use std::borrow::Cow;

use bytes::Bytes;
use ez_contract::Protocol;

use super::call::{Call, UnreadableAnswer};
use super::exchange;
use super::refused::Refused;
use super::report::Report;
use crate::json::{Value, Writer};

/// Makes an upstream's count the client's.
#[derive(Debug)]
pub(super) struct CountTranslator {
    client: Protocol,
    upstream: Protocol,
}

/// Translates a request to count tokens.
pub(super) fn exchange(
    call: &Call<'_>,
    body: Value<'_>,
    report: &mut Report,
) -> Result<(String, CountTranslator), Refused> {
    let (client, upstream) = (call.client.protocol(), call.upstream.protocol());
    // Gemini counts a whole request under this name, or contents alone.
    let whole = body.get("generateContentRequest").or_else(|| body.get("generate_content_request"));
    let asked = whole.filter(|_| client == Protocol::Gemini).unwrap_or(body);
    let written = exchange::exchange(call, asked, report)?.body;
    let counted = Value::parse_object(&written).unwrap_or(Value::EMPTY_OBJECT);
    let mut json = Writer::with_capacity(written.len() + 64);
    json.object(|json| match upstream {
        Protocol::Gemini if !call.is_vertex => json.key("generateContentRequest").object(|json| {
            let name = call.upstream_model;
            let name = if name.contains('/') { Cow::Borrowed(name) } else { Cow::Owned(format!("models/{name}")) };
            json.key("model").string(&name);
            write_members(counted, |_| true, json);
        }),
        _ => write_members(counted, |key| is_counted(upstream, key), json),
    });
    Ok((json.finish(), CountTranslator { client, upstream }))
}

/// What is written of a count where no upstream could be asked.
pub fn estimated_count(client: Protocol, tokens: u64) -> Bytes {
    write(client, tokens).into()
}

impl CountTranslator {
    /// The count in the client's words.
    pub(super) fn plain(&self, body: &[u8]) -> Result<Bytes, UnreadableAnswer> {
        let answer = Value::object_in(body).map_err(|_| UnreadableAnswer::Unknown)?;
        let key = if self.upstream == Protocol::Gemini { "totalTokens" } else { "input_tokens" };
        let tokens = match answer.get(key) {
            Some(tokens) => tokens.count().ok_or(UnreadableAnswer::Unknown)?,
            // Protocol buffers leave out a count of nothing.
            None if self.upstream == Protocol::Gemini => 0,
            None => return Err(UnreadableAnswer::Unknown),
        };
        Ok(write(self.client, tokens).into())
    }
}

fn write(client: Protocol, tokens: u64) -> String {
    match client {
        Protocol::Gemini => format!(r#"{{"totalTokens":{tokens}}}"#),
        Protocol::OpenaiResponses => format!(r#"{{"object":"response.input_tokens","input_tokens":{tokens}}}"#),
        Protocol::AnthropicMessages | Protocol::OpenaiChat => format!(r#"{{"input_tokens":{tokens}}}"#),
    }
}

fn write_members(object: Value<'_>, is_kept: impl Fn(&str) -> bool, json: &mut Writer) {
    for (key, value) in object.members().unwrap_or_default() {
        if is_kept(key.as_str()) {
            json.escaped_key(&key).value(value);
        }
    }
}

/// What the endpoints that count take of a request.
fn is_counted(upstream: Protocol, key: &str) -> bool {
    match upstream {
        Protocol::AnthropicMessages => {
            matches!(key, "model" | "messages" | "system" | "tools" | "tool_choice" | "thinking" | "output_config")
        }
        Protocol::OpenaiResponses => matches!(
            key,
            "model" | "input" | "instructions" | "tools" | "tool_choice" | "text" | "reasoning" | "parallel_tool_calls"
        ),
        Protocol::Gemini => {
            matches!(key, "contents" | "systemInstruction" | "tools" | "generationConfig")
        }
        Protocol::OpenaiChat => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_in_the_clients_words() {
        let cases = [
            (
                Protocol::Gemini,
                r#"{"totalTokens":7,"promptTokensDetails":[]}"#,
                Protocol::AnthropicMessages,
                r#"{"input_tokens":7}"#,
            ),
            (
                Protocol::Gemini,
                "{}",
                Protocol::OpenaiResponses,
                r#"{"object":"response.input_tokens","input_tokens":0}"#,
            ),
            (Protocol::AnthropicMessages, r#"{"input_tokens":7}"#, Protocol::Gemini, r#"{"totalTokens":7}"#),
        ];
        for (upstream, told, client, expected) in cases {
            let translated = CountTranslator { client, upstream }.plain(told.as_bytes()).unwrap();
            assert_eq!(std::str::from_utf8(&translated).unwrap(), expected);
        }
        let counted = CountTranslator { client: Protocol::Gemini, upstream: Protocol::AnthropicMessages };
        assert_eq!(counted.plain(b"{}"), Err(UnreadableAnswer::Unknown));
        assert_eq!(counted.plain(b"[]"), Err(UnreadableAnswer::Unknown));
    }
}
