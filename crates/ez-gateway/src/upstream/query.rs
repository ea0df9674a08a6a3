//! Which of a client's query parameters go upstream: those that the vendor's endpoint knows and that change nothing which
//! the gateway reads the answer by. A client's `key` is never among them.

use std::borrow::Cow;
use std::fmt::Write;

use ez_contract::Protocol;
use ez_protocol::Api;
use percent_encoding::percent_decode_str;

/// Bytes of one parameter, and how many pass: far more than any SDK sends.
const MAX_PAIR_BYTES: usize = 512;
const MAX_PAIRS: usize = 16;

/// Adds the parameters of `client` (a query as it came, without `?`) that pass to a path.
pub(super) fn append(path: &mut String, client: &str, passes: impl Fn(&str, &str) -> bool) {
    let mut separator = if path.contains('?') { '&' } else { '?' };
    let mut passed = 0;
    for pair in client.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if pair.len() <= MAX_PAIR_BYTES && passed < MAX_PAIRS && passes(&decoded(name), value) {
            // A `String` takes every write.
            let _ = write!(path, "{separator}{pair}");
            separator = '&';
            passed += 1;
        }
    }
}

/// Whether a parameter of a call to a model passes.
pub(super) fn passes_to(api: Api, name: &str, value: &str) -> bool {
    match api.protocol() {
        Protocol::OpenaiChat | Protocol::OpenaiResponses => false,
        Protocol::AnthropicMessages => name == "beta" && matches!(value, "true" | "false" | "1"),
        // `fields` would cut the usage out of the answer, and other forms cannot be read.
        Protocol::Gemini => match name {
            "alt" => value == "json" || (value == "sse" && api == Api::StreamGenerateContent),
            "prettyPrint" => matches!(value, "true" | "false"),
            _ => false,
        },
    }
}

/// Whether a client of Gemini's asks for server-sent events; without that a stream is one JSON array.
pub(crate) fn asks_for_events(client: &str) -> bool {
    client
        .split('&')
        .any(|pair| pair.split_once('=').is_some_and(|(name, value)| decoded(name) == "alt" && value == "sse"))
}

/// Whether a parameter of a stored response's endpoints passes.
pub(super) fn passes_to_response(name: &str, _value: &str) -> bool {
    matches!(
        name,
        "include"
            | "include[]"
            | "include_obfuscation"
            | "stream"
            | "starting_after"
            | "limit"
            | "order"
            | "after"
            | "before"
    )
}

fn decoded(name: &str) -> Cow<'_, str> {
    percent_decode_str(name).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(api: Api, client: &str) -> String {
        let mut path = "/p".to_owned();
        append(&mut path, client, |name, value| passes_to(api, name, value));
        path
    }

    #[test]
    fn what_the_vendor_knows_passes_and_a_key_never_does() {
        let cases = [
            (Api::ChatCompletions, "key=sk&a=b", "/p"),
            (Api::Messages, "beta=true&key=sk", "/p?beta=true"),
            (Api::MessagesCountTokens, "beta=true", "/p?beta=true"),
            (Api::StreamGenerateContent, "key=sk&alt=sse", "/p?alt=sse"),
            (Api::StreamGenerateContent, "%61lt=sse&%6bey=sk", "/p?%61lt=sse"),
            (Api::StreamGenerateContent, "alt=sse&prettyPrint=false&fields=candidates", "/p?alt=sse&prettyPrint=false"),
            (Api::GenerateContent, "alt=sse", "/p"),
            (Api::GenerateContent, "alt=proto&$alt=x&callback=f", "/p"),
            (Api::GenerateContent, "", "/p"),
        ];
        for (api, client, expected) in cases {
            assert_eq!(appended(api, client), expected, "{client}");
        }
    }

    #[test]
    fn a_stored_responses_parameters_follow_what_the_path_has() {
        let mut path = "/responses/r?api-version=1".to_owned();
        append(&mut path, "include%5B%5D=a&stream=true&key=sk&api-version=2", passes_to_response);
        assert_eq!(path, "/responses/r?api-version=1&include%5B%5D=a&stream=true");
    }

    #[test]
    fn number_and_length_are_bounded() {
        let long = format!("include={}", "a".repeat(MAX_PAIR_BYTES));
        let mut path = String::new();
        append(&mut path, &long, passes_to_response);
        assert_eq!(path, "");
        append(&mut path, &["limit=1"; 100].join("&"), passes_to_response);
        assert_eq!(path.matches("limit").count(), MAX_PAIRS);
    }
}
