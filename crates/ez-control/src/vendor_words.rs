//! Vendor words: what of an upstream's answer may be shown to operators and kept. Credentials, accounts, addresses and
//! URLs are taken out, and the length is bounded.

use serde_json::Value as Json;

/// Characters that are shown at most.
const MAX_SHOWN_CHARS: usize = 300;

/// Bytes of an answer that are looked at.
const MAX_READ_BYTES: usize = 64 << 10;

const REMOVED: &str = "[removed]";

/// How words, or what stands behind a sign such as `=` in them, begin that name a vendor's customer.
const MARKS: &[&str] = &["sk-", "org-", "org_", "proj_", "proj-", "acct_", "user-", "AIza", "ya29.", "www."];

/// Letters, digits and signs in a row that no word of a language has.
const LONG_WORD: usize = 24;

/// Digits in a row that number a project or an account.
const LONG_NUMBER: usize = 8;

/// The message in an answer, fit to be shown; none where it holds no text. `secret` is the credential that was sent.
pub(crate) fn message_of(body: &[u8], secret: &str) -> Option<String> {
    let read = String::from_utf8_lossy(body.get(..MAX_READ_BYTES).unwrap_or(body));
    let parsed: Option<Json> = serde_json::from_slice(body).ok();
    let said = parsed.as_ref().and_then(message_in).unwrap_or(&read);
    Some(shown(&said.replace(secret, REMOVED))).filter(|text| !text.is_empty())
}

/// A text of elsewhere, fit to be shown.
pub(crate) fn shown(text: &str) -> String {
    let one_line = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let masked: Vec<String> = one_line.take(MAX_SHOWN_CHARS).map(masked).collect();
    let text = masked.join(" ");
    let mut shown: String = text.chars().take(MAX_SHOWN_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// Where vendors put their message: `error.message`, `message`, `error`, or that of the first in a list.
fn message_in(answer: &Json) -> Option<&str> {
    let answer = answer.get(0).unwrap_or(answer);
    let error = answer.get("error").unwrap_or(answer);
    error.get("message").unwrap_or(error).as_str()
}

/// A word with what names the customer in it taken out.
fn masked(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while !rest.is_empty() {
        let length = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
        let (part, after) = rest.split_at(length);
        out.push_str(if tells(part) { REMOVED } else { part });
        let signs = after.find(is_part).unwrap_or(after.len());
        let (between, next) = after.split_at(signs);
        out.push_str(between);
        rest = next;
    }
    out
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || "-_.*/:?=&%~+@#".contains(c)
}

fn tells(part: &str) -> bool {
    let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
    let is_number = |text: &str| text.len() >= LONG_NUMBER && digits(text) == text.len();
    let is_address = part.split('.').count() == 4 && part.split('.').all(|byte| byte.parse::<u8>().is_ok());
    let mut pieces = part.split(|c: char| "/:?=&%~+#".contains(c));
    pieces.any(|piece| MARKS.iter().any(|mark| piece.starts_with(mark)))
        || part.contains("://")
        || part.contains('@')
        || part.contains("**")
        || is_address
        || part.split('/').any(is_number)
        || part.split('/').any(|piece| piece.len() >= LONG_WORD && digits(piece) > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_the_customer_is_taken_out_and_the_rest_kept() {
        let cases = [
            (r#"{"error":{"message":"Incorrect API key provided: sk-abc."}}"#, "Incorrect API key provided: [removed]"),
            (r#"[{"error":{"message":"no"}}]"#, "no"),
            (r#"{"error":"model `gpt-4o-mini` not found"}"#, "model `gpt-4o-mini` not found"),
            (r#"{"message":"see https://v.example/a?b=c, or mail a@b.c"}"#, "see [removed], or mail [removed]"),
            (r#"{"message":"projects/123456789 in org-AbC is off"}"#, "[removed] in [removed] is off"),
            ("key 0123456789abcdef0123456789abcdef\n\nof 10.0.0.7 (x***)", "key [removed] of [removed] ([removed])"),
            ("told-by-nobody is the secret", "[removed] is the secret"),
            ("api_key=sk-live url:org-AbC in account/acct_9", "[removed] [removed] in [removed]"),
            ("{}", "{}"),
        ];
        for (body, expected) in cases {
            assert_eq!(message_of(body.as_bytes(), "told-by-nobody").as_deref(), Some(expected), "{body}");
        }
        assert_eq!(message_of(b" \n", "x"), None);
        assert_eq!(message_of("ä ".repeat(400).as_bytes(), "x").unwrap().chars().count(), MAX_SHOWN_CHARS + 1);
        assert!(message_of(&[0xff, 0xfe, b'a'], "x").is_some());
    }
}
