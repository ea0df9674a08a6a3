//! Header hygiene: what of a client's headers goes upstream, and what of an upstream's comes back.

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};

/// Whether a client's header stays here: credentials, cookies, what names the client or the hop, and what the gateway
/// sets itself.
fn is_withheld(name: &str) -> bool {
    matches!(
        name,
        "accept-encoding"
            | "api-key"
            | "authorization"
            | "connection"
            | "content-length"
            | "content-type"
            | "cookie"
            | "expect"
            | "forwarded"
            | "host"
            | "keep-alive"
            | "openai-organization"
            | "openai-project"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "via"
            | "x-api-key"
            | "x-goog-api-key"
            | "x-goog-user-project"
            | "x-real-ip"
    ) || name.starts_with("x-forwarded-")
        || name.starts_with("x-ez-")
}

/// Vendor headers that name the account behind a credential.
const ACCOUNT_HEADERS: &[&str] = &["openai-organization", "openai-project", "anthropic-organization-id"];

/// The client's headers as they go upstream.
pub(crate) fn for_upstream(client: &HeaderMap) -> HeaderMap {
    // Headers that `connection` names belong to the hop as much as itself.
    let named_by_connection: Vec<String> = client
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let mut upstream = HeaderMap::with_capacity(client.len() + 3);
    // Usage is read from the answer as it passes, and leaving the header out would permit any coding.
    upstream.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    for (name, value) in client {
        let is_hop = named_by_connection.iter().any(|named| named == name.as_str());
        if !is_hop && !is_withheld(name.as_str()) {
            upstream.append(name.clone(), value.clone());
        }
    }
    upstream
}

/// The upstream's headers that are useful to the client and name no account.
pub(crate) fn for_client(upstream: &HeaderMap) -> HeaderMap {
    let mut client = HeaderMap::with_capacity(8);
    for (name, value) in upstream {
        let text = name.as_str();
        let is_vendor_header = text.starts_with("openai-") || text.starts_with("anthropic-");
        let is_useful = *name == CONTENT_TYPE || *name == RETRY_AFTER || is_vendor_header;
        // Rate limits of the upstream account say nothing about the caller's own.
        let is_account = ACCOUNT_HEADERS.contains(&text) || text.starts_with("anthropic-ratelimit-");
        if is_useful && !is_account {
            client.append(name.clone(), value.clone());
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn credentials_hops_and_accounts_stay_where_they_are() {
        let sent = for_upstream(&map(&[
            ("authorization", "Bearer x"),
            ("x-api-key", "x"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("accept-encoding", "gzip"),
            ("user-agent", "OpenAI/Python"),
            ("openai-beta", "assistants=v2"),
        ]));
        let expected =
            [("accept-encoding", "identity"), ("user-agent", "OpenAI/Python"), ("openai-beta", "assistants=v2")];
        assert_eq!(sent, map(&expected));

        let returned = for_client(&map(&[
            ("content-type", "application/json"),
            ("openai-processing-ms", "12"),
            ("openai-organization", "org-secret"),
            ("set-cookie", "a=b"),
            ("x-ratelimit-remaining-requests", "5"),
            ("server", "cloudflare"),
        ]));
        assert_eq!(returned, map(&[("content-type", "application/json"), ("openai-processing-ms", "12")]));
    }
}
