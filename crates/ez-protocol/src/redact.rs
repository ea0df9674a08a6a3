//! Takes out of a vendor's words what names its customer: credentials, account and project ids, addresses.

use bytes::Bytes;

/// How such words begin. Vendors quote them in error messages ("… in organization org-AbC…", "… key provided: sk-…",
/// "… for consumer 'project_number:1…'", "Publisher Model `projects/p/locations/…` was not found").
const MARKS: &[&str] = &[
    // Credentials.
    "sk-",
    "sk_",
    "gsk_",
    "xai-",
    "nvapi-",
    "pplx-",
    "hf_",
    "AIza",
    "AQ.",
    "ya29.",
    "AKIA",
    // Accounts.
    "org-",
    "org_",
    "organizations/",
    "proj_",
    "proj-",
    "projects/",
    "project_number:",
    "wrkspc_",
    "acct_",
    "user-",
    "arn:aws",
    // Addresses.
    "http://",
    "https://",
    r"http:\/\/",
    r"https:\/\/",
];
const REMOVED: &str = "[removed]";

/// The longest name before an `@` (RFC 5321).
const MAX_MAILBOX_BYTES: usize = 64;

/// The text without such words, without UUIDs (some vendors name their customers so) and without mail addresses (so are
/// service accounts). Takes time in proportion to the text, whatever it holds: vendors quote prompts.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut kept, mut at) = (0, 0);
    while at < text.len() {
        if begins_word(text.as_bytes(), at) && is_telling(&text.as_bytes()[at..]) {
            out.push_str(&text[kept..at]);
            out.push_str(REMOVED);
            at += word_length(&text.as_bytes()[at..]);
            kept = at;
        } else {
            at += 1;
        }
    }
    out.push_str(&text[kept..]);
    out
}

/// The same for an answer's body or an event; shares the buffer where nothing is to be taken out.
pub fn redact_bytes(body: &Bytes) -> Bytes {
    // What is no UTF-8 may hold such words all the same.
    let text = String::from_utf8_lossy(body);
    let redacted = redact(&text);
    if redacted == text { body.clone() } else { Bytes::from(redacted) }
}

/// Whether no letter or digit stands before, but for those of a JSON escape (`\n`, `\u0027`).
fn begins_word(text: &[u8], at: usize) -> bool {
    let before = &text[..at];
    let Some(last) = before.last() else { return true };
    if !last.is_ascii_alphanumeric() {
        return true;
    }
    match before {
        [.., b'\\', b'n' | b't' | b'r' | b'b' | b'f'] => true,
        [.., b'\\', b'u', a, b, c, d] => [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit),
        _ => false,
    }
}

/// Whether a word that begins here tells of the vendor's customer.
fn is_telling(rest: &[u8]) -> bool {
    MARKS.iter().any(|mark| rest.starts_with(mark.as_bytes())) || is_uuid(rest) || is_mail_address(rest)
}

fn is_uuid(rest: &[u8]) -> bool {
    let is_right = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    rest.len() >= 36
        && rest[..36].iter().enumerate().all(is_right)
        && !rest.get(36).is_some_and(u8::is_ascii_alphanumeric)
}

fn is_mail_address(rest: &[u8]) -> bool {
    let is_of_name = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+');
    let name = rest.iter().take(MAX_MAILBOX_BYTES + 1).take_while(is_of_name).count();
    let host = rest.get(name + 1..).unwrap_or_default();
    (1..=MAX_MAILBOX_BYTES).contains(&name)
        && rest.get(name) == Some(&b'@')
        && host.first().is_some_and(u8::is_ascii_alphanumeric)
}

/// How long the word is that begins here. Quotes, backslashes and white space end it, so that JSON stays JSON; but some
/// servers write a slash as `\/`.
fn word_length(word: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = word.get(at) {
        at += match byte {
            b'\\' if word.get(at + 1) == Some(&b'/') => 2,
            byte if is_part(*byte) => 1,
            _ => break,
        };
    }
    at
}

/// What such a word may consist of.
fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.*/:?=&%~@+#".contains(&byte)
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
            (
                "Publisher Model `projects/acme-1/locations/eu/publishers/google/models/m` was not found",
                "Publisher Model `[removed]` was not found",
            ),
            ("quota of 'q' for consumer 'project_number:123456'.", "quota of 'q' for consumer '[removed]'."),
            (
                "the rate limit for your organization (3b1f7f40-0a1b-4c2d-8e3f-0123456789ab) of 5 tokens",
                "the rate limit for your organization ([removed]) of 5 tokens",
            ),
            ("bot-1@acme.iam.gserviceaccount.com lacks it", "[removed] lacks it"),
            ("at https://user:pw@inner.example/v1, no", "at [removed], no"),
            (
                r#"{"m":"key:\nsk-up-1","n":"\u0027org-a\u0027"}"#,
                r#"{"m":"key:\n[removed]","n":"\u0027[removed]\u0027"}"#,
            ),
            (r#"{"m":"see https:\/\/inner.example\/v1\n"}"#, r#"{"m":"see [removed]\n"}"#),
            ("at @ home, a@ b, deadbeef-1", "at @ home, a@ b, deadbeef-1"),
            ("\u{5b57}sk-1\u{5b57}", "\u{5b57}[removed]\u{5b57}"),
        ];
        for (text, expected) in cases {
            assert_eq!(redact(text), expected);
        }
        let clean = Bytes::from_static(b"{\"error\":1}");
        assert_eq!(redact_bytes(&clean).as_ptr(), clean.as_ptr());
    }

    #[test]
    fn what_is_no_utf_8_hides_nothing() {
        let redacted = redact_bytes(&Bytes::from_static(b"{\"echo\":\"\xff\",\"error\":{\"message\":\"sk-up-1\"}}"));
        assert!(!String::from_utf8_lossy(&redacted).contains("sk-up"));
    }

    #[test]
    fn a_text_full_of_such_words_is_read_once() {
        let text = "sk-a a.".repeat(200_000);
        assert_eq!(redact(&text), "[removed] a.".repeat(200_000));
    }
}
