//! State of another vendor inside a request that passes as it came: a conversation that began at an upstream of another
//! protocol carries what that one issued, marked. The vendor would refuse it, so it is taken out where it stands; all
//! other bytes stay.

use std::ops::Range;
use std::sync::LazyLock;

use bytes::Bytes;
use ez_contract::Protocol;
use memchr::memmem::Finder;

use super::opaque::{MARK, MARK_IN_BASE64, Opaque, OpaqueKind};
use crate::json::{Kind, Value};
use crate::scan;

/// What Gemini takes in place of a signature that it did not make (facts/protocols.md, section 2.5).
pub(super) const SKIP_SIGNATURE: &str = "skip_thought_signature_validator";

/// The request without other vendors' state; `None` where it holds none, which costs one search.
pub fn without_foreign_state(protocol: Protocol, body: &[u8]) -> Option<Bytes> {
    static PLAIN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK));
    static ENCODED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK_IN_BASE64));
    // Thoughts that nobody signed come back from clients of Anthropic with an empty signature, which it refuses.
    static UNSIGNED: LazyLock<[Finder<'static>; 2]> =
        LazyLock::new(|| [Finder::new("\"signature\":\"\""), Finder::new("\"signature\": \"\"")]);
    let mark = if protocol == Protocol::Gemini { &ENCODED } else { &PLAIN };
    let is_unsigned =
        || protocol == Protocol::AnthropicMessages && UNSIGNED.iter().any(|mark| mark.find(body).is_some());
    if mark.find(body).is_none() && !is_unsigned() {
        return None;
    }
    let request = Value::object_in(body).ok()?;
    let mut cuts = Cuts { text: body, replacements: Vec::new() };
    match protocol {
        // Its state stands in fields of other vendors', which servers of this protocol do not read.
        Protocol::OpenaiChat => {}
        Protocol::OpenaiResponses => {
            cuts.shorten(request.get("input")?, |item| is_foreign(protocol, item.get("encrypted_content")));
        }
        Protocol::AnthropicMessages => cuts.anthropic(request.get("messages")?),
        Protocol::Gemini => cuts.gemini(request.get("contents")?),
    }
    (!cuts.replacements.is_empty()).then(|| scan::splice(body, cuts.replacements))
}

/// Whether a value is state of another vendor than the carrier's.
fn is_foreign(carrier: Protocol, value: Option<Value<'_>>) -> bool {
    let state = value.and_then(Value::string).map(|value| Opaque::read(carrier, OpaqueKind::Signature, value));
    state.is_some_and(|state| state.issuer != carrier)
}

/// What is to be replaced in a text.
struct Cuts<'t> {
    text: &'t [u8],
    replacements: Vec<(Range<usize>, Vec<u8>)>,
}

impl<'t> Cuts<'t> {
    /// Takes elements out of an array. Whether any is left.
    fn shorten(&mut self, array: Value<'t>, is_cut: impl Fn(Value<'t>) -> bool) -> bool {
        let elements = array.elements().unwrap_or_default();
        let kept: Vec<&str> = elements.iter().filter(|one| !is_cut(**one)).map(|one| one.as_str()).collect();
        if kept.len() < elements.len() {
            let at = self.place(array);
            self.replacements.push((at, format!("[{}]", kept.join(",")).into_bytes()));
        }
        !kept.is_empty()
    }

    fn anthropic(&mut self, messages: Value<'t>) {
        let carrier = Protocol::AnthropicMessages;
        let is_empty = |value: Value<'_>| value.string().is_some_and(|text| text.is_empty());
        let is_cut = |block: Value<'t>| {
            let is_unsigned = || {
                block.get("type").is_some_and(|kind| kind.is("thinking"))
                    && block.get("signature").is_some_and(is_empty)
            };
            is_foreign(carrier, block.get("signature")) || is_foreign(carrier, block.get("data")) || is_unsigned()
        };
        let contents = |message: Value<'t>| message.get("content").filter(|content| content.kind() == Kind::Array);
        let is_all_foreign = |message: Value<'t>| {
            let blocks = contents(message).and_then(Value::elements).unwrap_or_default();
            !blocks.is_empty() && blocks.into_iter().all(is_cut)
        };
        let all = messages.elements().unwrap_or_default();
        // A message without content is refused, so it goes as a whole; then all messages are written anew.
        if all.iter().any(|message| is_all_foreign(*message)) {
            let mut kept = Vec::with_capacity(all.len());
            for message in all.into_iter().filter(|message| !is_all_foreign(*message)) {
                let mut inner = Cuts { text: message.as_str().as_bytes(), replacements: Vec::new() };
                if let Some(content) = contents(message) {
                    inner.shorten(content, is_cut);
                }
                kept.push(scan::splice(inner.text, inner.replacements));
            }
            let at = self.place(messages);
            self.replacements.push((at, [b"[", &kept.join(&b","[..])[..], b"]"].concat()));
            return;
        }
        for content in all.into_iter().filter_map(contents) {
            self.shorten(content, is_cut);
        }
    }

    fn gemini(&mut self, contents: Value<'t>) {
        let signature = |part: Value<'t>| part.get("thoughtSignature").or_else(|| part.get("thought_signature"));
        let parts = |content: Value<'t>| content.get("parts").and_then(Value::elements).unwrap_or_default();
        for part in contents.elements().unwrap_or_default().into_iter().flat_map(parts) {
            if let Some(signature) = signature(part).filter(|value| is_foreign(Protocol::Gemini, Some(*value))) {
                let at = self.place(signature);
                self.replacements.push((at, format!("\"{SKIP_SIGNATURE}\"").into_bytes()));
            }
        }
    }

    /// Where a value stands: it is a slice of the text.
    fn place(&self, value: Value<'t>) -> Range<usize> {
        let start = value.as_str().as_ptr() as usize - self.text.as_ptr() as usize;
        start..start + value.as_str().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Escaped;

    fn carried(issuer: Protocol, carrier: Protocol) -> String {
        let state = Opaque { issuer, kind: OpaqueKind::Signature, data: Escaped::of("c2ln") };
        state.carried_by(carrier).as_str().to_owned()
    }

    fn check(protocol: Protocol, body: &str, expected: Option<&str>) {
        let left = without_foreign_state(protocol, body.as_bytes());
        let left = left.as_deref().map(|left| std::str::from_utf8(left).unwrap());
        assert_eq!(left, expected, "{body}");
    }

    #[test]
    fn other_vendors_state_is_taken_out_and_nothing_else() {
        use Protocol::{AnthropicMessages as A, Gemini as G, OpenaiResponses as R};
        let from_gemini = carried(G, A);
        check(
            A,
            &format!(
                r#"{{"model":"m", "messages":[{{"role":"assistant","content":[{{"type":"thinking","thinking":"t","signature":"{from_gemini}"}}, {{"type":"text","text":"\u00e9"}},{{"type":"thinking","thinking":"x","signature":"own"}}]}}]}}"#
            ),
            Some(
                r#"{"model":"m", "messages":[{"role":"assistant","content":[{"type":"text","text":"\u00e9"},{"type":"thinking","thinking":"x","signature":"own"}]}]}"#,
            ),
        );
        check(
            A,
            r#"{"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":""},{"type":"text","text":"x"}]}]}"#,
            Some(r#"{"messages":[{"role":"assistant","content":[{"type":"text","text":"x"}]}]}"#),
        );
        check(
            A,
            &format!(
                r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","content":[{{"type":"redacted_thinking","data":"{from_gemini}"}}]}},{{"role":"user","content":"b"}}]}}"#
            ),
            Some(r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]}"#),
        );
        check(
            R,
            &format!(
                r#"{{"input":[{{"type":"reasoning","summary":[],"encrypted_content":"{}"}},{{"type":"message","role":"user","content":"x"}}]}}"#,
                carried(A, R)
            ),
            Some(r#"{"input":[{"type":"message","role":"user","content":"x"}]}"#),
        );
        check(
            G,
            &format!(
                r#"{{"contents":[{{"role":"model","parts":[{{"functionCall":{{"name":"f"}},"thoughtSignature":"{}"}}]}}]}}"#,
                carried(R, G)
            ),
            Some(
                r#"{"contents":[{"role":"model","parts":[{"functionCall":{"name":"f"},"thoughtSignature":"skip_thought_signature_validator"}]}]}"#,
            ),
        );
    }

    #[test]
    fn what_is_the_vendors_own_or_no_state_stays() {
        use Protocol::{AnthropicMessages as A, Gemini as G, OpenaiChat as C, OpenaiResponses as R};
        for (protocol, body) in [
            (A, r#"{"messages":[{"role":"user","content":"ez1.gs.x"}]}"#),
            (A, r#"{"messages":[{"role":"user","content":[{"type":"text","text":"ez1.gs.x"}]}]}"#),
            (A, r#"{"messages":"ez1."}"#),
            (R, r#"{"input":"ez1.as.x"}"#),
            (R, r#"{"input":[{"type":"reasoning","encrypted_content":"gAAAA"}],"x":"ez1."}"#),
            (G, r#"{"contents":[{"parts":[{"text":"ZXoxLg","thoughtSignature":"ZXoxQ"}]}]}"#),
            (C, r#"{"messages":[{"role":"assistant","content":"ez1.as.x"}]}"#),
            (R, "ez1."),
        ] {
            check(protocol, body, None);
        }
    }
}
