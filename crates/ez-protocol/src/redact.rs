//! Takes out of a vendor's words what names its customer: credentials, account and project ids, addresses.

use bytes::Bytes;

/// How such words begin. Vendors quote them in error messages ("… in organization org-AbC…", "… key provided: sk-…").
const MARKS: &[&str] =
    &["sk-", "org-", "org_", "proj_", "proj-", "acct_", "user-", "AIza", "ya29.", "http://", "https://"];
const REMOVED: &str = "[removed]";

/// The text without such words.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = next_mark(rest) {
        let word = &rest[start..];
        let length = word.find(|c: char| !is_part(c)).unwrap_or(word.len());
        out.push_str(&rest[..start]);
        out.push_str(REMOVED);
        rest = &word[length..];
    }
    out.push_str(rest);
    out
}

/// The same for an answer's body or an event; shares the buffer where nothing is to be taken out.
pub fn redact_bytes(body: &Bytes) -> Bytes {
    match std::str::from_utf8(body) {
        Ok(text) if next_mark(text).is_some() => Bytes::from(redact(text)),
        _ => body.clone(),
    }
}

/// Where the next such word begins: a mark that no letter or digit stands before.
fn next_mark(text: &str) -> Option<usize> {
    let starts_word = |at: &usize| !text[..*at].ends_with(|c: char| c.is_ascii_alphanumeric());
    MARKS.iter().filter_map(|mark| text.match_indices(mark).map(|(at, _)| at).find(starts_word)).min()
}

/// What such a word may consist of; quotes, backslashes and white space end it, so that JSON stays JSON.
fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*' | '/' | ':' | '?' | '=' | '&' | '%' | '~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_the_customer_is_taken_out_and_the_rest_kept() {
        let cases = [
            (
                "Rate limit reached in organization org-AbCdEf123 on tokens",
                "Rate limit reached in organization [removed] on tokens",
            ),
            (
                r#"{"message":"Incorrect API key provided: sk-up-***1.","code":1}"#,
                r#"{"message":"Incorrect API key provided: [removed]","code":1}"#,
            ),
            ("see https://platform.example/account?x=1 now", "see [removed] now"),
            ("ask-me, disorg-anised, a task-list", "ask-me, disorg-anised, a task-list"),
            ("plain", "plain"),
        ];
        for (text, expected) in cases {
            assert_eq!(redact(text), expected);
        }
        let clean = Bytes::from_static(b"{\"error\":1}");
        assert_eq!(redact_bytes(&clean).as_ptr(), clean.as_ptr());
    }
}
