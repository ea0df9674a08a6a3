//! Header hygiene: what of a client's headers goes upstream, and what of an upstream's comes back.

use ez_contract::Protocol;
use http::HeaderMap;
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue,
    RETRY_AFTER,
};

/// Version of the Messages API that a call without one is made in; its vendor refuses those.
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// Bounds on what comes back: headers, and bytes of one.
const MAX_RETURNED: usize = 32;
const MAX_RETURNED_BYTES: usize = 4 << 10;

/// Whether a client's header stays here: hops, what names the client or its browser, what may turn a request into
/// another, what is no longer true of the body, and what the gateway sets itself.
fn is_withheld(name: &str) -> bool {
    matches!(
        name,
        "accept-encoding"
            | "connection"
            | "content-digest"
            | "content-encoding"
            | "content-length"
            | "content-md5"
            | "content-type"
            | "digest"
            | "expect"
            | "fastly-client-ip"
            | "forwarded"
            | "host"
            | "http2-settings"
            | "keep-alive"
            | "origin"
            | "proxy-authenticate"
            | "proxy-connection"
            | "referer"
            | "remote-user"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "true-client-ip"
            | "upgrade"
            | "via"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "x-method-override"
            | "x-real-ip"
            | "x-rewrite-url"
    ) || WITHHELD_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || is_credential(name)
}

const WITHHELD_PREFIXES: &[&str] = &[
    "access-control-",
    "cf-",
    "sec-",
    "x-amzn-",
    "x-envoy-",
    "x-ez-",
    "x-forwarded-",
    "x-http-method",
    "x-ms-client-principal",
    "x-original-",
    "x-remote-",
    // Of proxies and vendors that go by them to another host, with the operator's credential, or to another model.
    "azureml-",
    "helicone-",
    "x-bt-",
    "x-litellm-",
    "x-portkey-",
];

/// Whatever a client signs in with, here or elsewhere, is known by its name.
fn is_credential(name: &str) -> bool {
    const WITHIN: [&str; 8] =
        ["api-key", "apikey", "authorization", "cookie", "credential", "password", "secret", "token"];
    // These make other words, too (`x-author`, `idempotency-key`).
    const WORDS: [&str; 4] = ["auth", "jwt", "signature", "subscription"];
    const ENDINGS: [&str; 3] = ["access-key", "auth-key", "virtual-key"];
    WITHIN.iter().any(|word| name.contains(word))
        || name.split('-').any(|word| WORDS.contains(&word))
        || ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// Whether a vendor's own header goes to an upstream of this protocol: to its vendor alone, and only where it names no
/// account. Other headers go to all.
fn is_of_protocol(name: &str, protocol: Protocol) -> bool {
    if let Some(rest) = name.strip_prefix("openai-") {
        let is_openai = matches!(protocol, Protocol::OpenaiChat | Protocol::OpenaiResponses);
        return is_openai && !matches!(rest, "organization" | "project");
    }
    if name.starts_with("anthropic-") {
        return protocol == Protocol::AnthropicMessages && !names_account(name);
    }
    if name.starts_with("x-goog-") {
        return protocol == Protocol::Gemini && name == "x-goog-api-client";
    }
    true
}

/// The client's headers as they go to an upstream of this protocol, without credential and content type.
pub(crate) fn for_upstream(client: &HeaderMap, protocol: Protocol) -> HeaderMap {
    let mut upstream = HeaderMap::with_capacity(client.len() + 4);
    // Usage is read from the answer as it passes, and leaving the header out would permit any coding.
    upstream.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    for (name, value) in client {
        let text = name.as_str();
        if !is_withheld(text) && is_of_protocol(text, protocol) && !is_named_by_connection(client, name) {
            upstream.append(name.clone(), value.clone());
        }
    }
    if protocol == Protocol::AnthropicMessages {
        upstream.entry("anthropic-version").or_insert(ANTHROPIC_VERSION);
    }
    upstream
}

/// Headers that `connection` names belong to the hop as much as itself.
fn is_named_by_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|named| named.trim().eq_ignore_ascii_case(name.as_str()))
}

/// The upstream's headers that are useful to the client and name no account.
pub(crate) fn for_client(upstream: &HeaderMap) -> HeaderMap {
    let mut client = HeaderMap::with_capacity(8);
    for (name, value) in upstream {
        let is_short = value.len() <= MAX_RETURNED_BYTES && client.len() < MAX_RETURNED;
        if is_short && is_returned(name) && !is_named_by_connection(upstream, name) {
            client.append(name.clone(), value.clone());
        }
    }
    client
}

fn is_returned(name: &HeaderName) -> bool {
    // What nearly every answer of a vendor has, so that these are not looked through for words.
    match name.as_str() {
        "openai-processing-ms" | "openai-version" | "openai-model" | "retry-after-ms" => true,
        "openai-organization" | "openai-project" | "anthropic-organization-id" => false,
        text if text.starts_with("openai-") || text.starts_with("anthropic-") => {
            !is_credential(text) && !names_account(text)
        }
        _ => [CONTENT_TYPE, CONTENT_DISPOSITION, RETRY_AFTER].contains(name),
    }
}

/// Whether a vendor's header tells of the account behind the credential: who it is, or what is left of its limits, which
/// say nothing about the caller's own.
fn names_account(name: &str) -> bool {
    ["account", "organization", "project", "ratelimit", "user", "workspace"].iter().any(|word| name.contains(word))
        || ["-limit", "-remaining", "-reset"].iter().any(|ending| name.ends_with(ending))
}

/// Whether an answer's body is coded, so that nothing can be read from it.
pub(crate) fn is_coded(upstream: &HeaderMap) -> bool {
    let codings = upstream.get_all(CONTENT_ENCODING).iter();
    codings.map(HeaderValue::as_bytes).any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair =
            |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    fn passes(name: &'static str, protocol: Protocol) -> bool {
        for_upstream(&map(&[(name, "canary")]), protocol).contains_key(name)
    }

    const ALL: [Protocol; 4] =
        [Protocol::OpenaiChat, Protocol::OpenaiResponses, Protocol::AnthropicMessages, Protocol::Gemini];

    #[test]
    fn what_a_client_brought_for_the_gateway_goes_nowhere() {
        let withheld = [
            "authorization",
            "proxy-authorization",
            "x-api-key",
            "api-key",
            "x-goog-api-key",
            "x-litellm-api-key",
            "x-auth-token",
            "x-amz-security-token",
            "x-csrf-token",
            "ocp-apim-subscription-key",
            "helicone-auth",
            "x-auth-request-email",
            "x-access-key",
            "x-portkey-virtual-key",
            "x-jwt-assertion",
            "x-remote-user",
            "x-ms-client-principal-name",
            "cookie",
            "cookie2",
            "x-goog-user-project",
            "x-goog-iam-authorization-token",
            "x-goog-request-params",
            "openai-organization",
            "openai-project",
            "anthropic-organization-id",
            "anthropic-workspace-id",
            "host",
            "connection",
            "keep-alive",
            "proxy-connection",
            "proxy-authenticate",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
            "expect",
            "content-length",
            "content-type",
            "content-encoding",
            "content-md5",
            "digest",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-real-ip",
            "via",
            "true-client-ip",
            "cf-connecting-ip",
            "cf-ray",
            "x-envoy-external-address",
            "x-amzn-trace-id",
            "x-original-url",
            "x-rewrite-url",
            "x-http-method-override",
            "x-method-override",
            "origin",
            "referer",
            "sec-fetch-mode",
            "access-control-request-method",
            "x-ez-model",
            "helicone-target-url",
            "helicone-fallbacks",
            "x-portkey-custom-host",
            "x-portkey-config",
            "x-litellm-tags",
            "x-bt-endpoint-name",
            "azureml-model-deployment",
        ];
        for protocol in ALL {
            for name in withheld {
                assert!(!passes(name, protocol), "{name} to {protocol}");
            }
            for name in ["user-agent", "accept", "x-stainless-lang", "x-app", "idempotency-key", "x-session-id"] {
                assert!(passes(name, protocol), "{name} to {protocol}");
            }
        }
    }

    #[test]
    fn vendors_headers_go_to_their_vendor_alone() {
        let cases: [(&str, &[Protocol]); 5] = [
            ("openai-beta", &[Protocol::OpenaiChat, Protocol::OpenaiResponses]),
            ("anthropic-beta", &[Protocol::AnthropicMessages]),
            ("anthropic-version", &[Protocol::AnthropicMessages]),
            ("anthropic-dangerous-direct-browser-access", &[Protocol::AnthropicMessages]),
            ("x-goog-api-client", &[Protocol::Gemini]),
        ];
        for (name, expected) in cases {
            let found: Vec<Protocol> = ALL.into_iter().filter(|protocol| passes(name, *protocol)).collect();
            assert_eq!(found, expected, "{name}");
        }
        let version =
            |client: &HeaderMap| for_upstream(client, Protocol::AnthropicMessages)["anthropic-version"].clone();
        assert_eq!(version(&HeaderMap::new()), "2023-06-01");
        assert_eq!(version(&map(&[("anthropic-version", "2024-01-01")])), "2024-01-01");
    }

    #[test]
    fn what_connection_names_stays_with_its_hop_both_ways() {
        let hop =
            map(&[("connection", "close, X-Hop"), ("x-hop", "1"), ("user-agent", "a"), ("accept-encoding", "gzip")]);
        let expected = [("accept-encoding", "identity"), ("user-agent", "a")];
        assert_eq!(for_upstream(&hop, Protocol::OpenaiChat), map(&expected));
        assert!(for_client(&map(&[("connection", "openai-version"), ("openai-version", "1")])).is_empty());
    }

    #[test]
    fn nothing_that_comes_back_names_the_account() {
        let kept = [
            ("content-type", "application/json"),
            ("openai-processing-ms", "12"),
            ("openai-version", "2020-10-01"),
            ("openai-model", "m"),
            ("retry-after", "7"),
            ("retry-after-ms", "7000"),
        ];
        assert_eq!(for_client(&map(&kept)), map(&kept));
        let gone = [
            ("openai-organization", "org"),
            ("openai-project", "proj"),
            ("anthropic-organization-id", "org"),
            ("anthropic-workspace-id", "w"),
            ("anthropic-ratelimit-requests-remaining", "5"),
            ("anthropic-priority-input-tokens-remaining", "5"),
            ("anthropic-fast-requests-reset", "5"),
            ("x-ratelimit-remaining-requests", "5"),
            ("x-ratelimit-limit-tokens", "5"),
            ("x-request-id", "req"),
            ("request-id", "req"),
            ("apim-request-id", "req"),
            ("azureml-model-session", "s"),
            ("x-ms-region", "eu"),
            ("set-cookie", "a=b"),
            ("server", "cloudflare"),
            ("content-length", "1"),
            ("content-encoding", "gzip"),
            ("transfer-encoding", "chunked"),
            ("x-ez-cost", "1"),
            ("location", "https://elsewhere"),
        ];
        assert_eq!(for_client(&map(&gone)), HeaderMap::new());
    }

    #[test]
    fn number_and_size_of_what_comes_back_are_bounded() {
        let mut many: HeaderMap = (0..100)
            .map(|i| (HeaderName::try_from(format!("openai-x-{i}")).unwrap(), HeaderValue::from_static("1")))
            .collect();
        assert_eq!(for_client(&many).len(), MAX_RETURNED);
        many.clear();
        many.insert("openai-x", "a".repeat(MAX_RETURNED_BYTES + 1).parse().unwrap());
        assert!(for_client(&many).is_empty());
    }

    #[test]
    fn coded_answers_are_known() {
        for (coding, expected) in [("gzip", true), ("br, gzip", true), ("identity", false), ("", false)] {
            assert_eq!(is_coded(&map(&[("content-encoding", coding)])), expected, "{coding}");
        }
        assert!(!is_coded(&HeaderMap::new()));
    }
}
