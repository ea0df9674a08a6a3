//! Ingress: what the head of a request says: its route, the credential, the client's address.

use std::net::{IpAddr, SocketAddr};

use ez_contract::Protocol;
use ez_telemetry::RequestId;
use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, Uri, request};
use ipnet::IpNet;

use crate::observe::Trace;
use crate::refusal::Refusal;
use crate::route::{self, Route};

/// The query parameter that Gemini's clients may put their key in.
const CREDENTIAL_PARAMETER: &str = "key";
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What the head of a request says. Never shown: its headers hold the credential, too.
pub(crate) struct Arrival {
    pub(crate) request_id: RequestId,
    pub(crate) protocol: Protocol,
    pub(crate) route: Route,
    pub(crate) credential: Option<Credential>,
    pub(crate) client_ip: IpAddr,
    /// The query without credentials, as it came.
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    /// The span of the call, where spans are exported.
    pub(crate) trace: Option<Trace>,
}

/// A clear token as the client sent it. Never shown.
pub(crate) struct Credential(String);

impl Credential {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// Reads the head of a request. A path that is not served is refused in the protocol that it looks like.
pub(crate) fn read_head(
    head: request::Parts,
    peer: SocketAddr,
    request_id: RequestId,
    trusted_proxies: &[IpNet],
) -> Result<Arrival, (Protocol, Box<Refusal>)> {
    let (protocol, route) = route::find(&head.method, head.uri.path(), &head.headers);
    Ok(Arrival {
        request_id,
        protocol,
        route: route.map_err(|refusal| (protocol, Box::new(refusal)))?,
        credential: credential_of(&head.headers, &head.uri),
        client_ip: client_ip(peer.ip(), &head.headers, trusted_proxies),
        query: query_of(&head.uri),
        headers: head.headers,
        trace: None,
    })
}

/// The query without the credential that it may hold.
fn query_of(uri: &Uri) -> Option<String> {
    let is_credential = |pair: &str| {
        let mut read = url::form_urlencoded::parse(pair.as_bytes());
        read.next().is_some_and(|(name, _)| name == CREDENTIAL_PARAMETER)
    };
    let kept: Vec<&str> = uri.query()?.split('&').filter(|pair| !pair.is_empty() && !is_credential(pair)).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

/// The first credential found, in the places where the vendors' SDKs put theirs. One that is empty is none: SDKs send
/// `Bearer ` where the key stands in a header of its own.
fn credential_of(headers: &HeaderMap, uri: &Uri) -> Option<Credential> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
    });
    let in_header = || {
        let text = |name: &&str| headers.get(*name)?.to_str().ok().filter(|text| !text.is_empty());
        ["x-api-key", "x-goog-api-key", "api-key"].iter().find_map(text)
    };
    let in_query = || {
        let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        pairs.filter(|(name, _)| name == CREDENTIAL_PARAMETER).map(|(_, value)| value.into_owned()).next()
    };
    let token = bearer.or_else(in_header).map(str::to_owned).or_else(in_query)?;
    (!token.is_empty()).then_some(Credential(token))
}

/// The peer's address or, behind trusted proxies, the nearest hop that none of them vouches for as its own.
pub fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted_proxies.iter().any(|net| net.contains(&address.to_canonical()));
    let mut address = peer.to_canonical();
    let hops = headers.get_all(X_FORWARDED_FOR).iter().rev().filter_map(|value| value.to_str().ok());
    for hop in hops.flat_map(|value| value.rsplit(',')) {
        if !is_trusted(address) {
            break;
        }
        // A hop that is no address cannot be vouched for, nor anything behind it. Some proxies write the port, too.
        let hop = hop.trim();
        let with_port = |_| hop.parse::<SocketAddr>().map(|address| address.ip());
        let Ok(next) = hop.parse::<IpAddr>().or_else(with_port) else { break };
        address = next.to_canonical();
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn credentials_are_found_wherever_sdks_put_them() {
        let uri: Uri = "/v1/chat/completions?key=from%2Dquery".parse().unwrap();
        let cases: [(&[(&'static str, &str)], &str); 8] = [
            (&[("authorization", "Bearer "), ("x-api-key", ""), ("api-key", "d")], "d"),
            (&[("authorization", "Bearer"), ("x-goog-api-key", "c")], "c"),
            (&[("authorization", "Bearer a")], "a"),
            (&[("authorization", "bearer  a")], "a"),
            (&[("x-api-key", "b")], "b"),
            (&[("x-goog-api-key", "c")], "c"),
            (&[("api-key", "d")], "d"),
            (&[], "from-query"),
        ];
        for (pairs, expected) in cases {
            let found = credential_of(&headers(pairs), &uri).unwrap();
            assert_eq!(found.as_str(), expected);
        }
        assert!(credential_of(&HeaderMap::new(), &"/".parse().unwrap()).is_none());
        assert!(!format!("{:?}", credential_of(&headers(&[("api-key", "canary")]), &uri)).contains("canary"));
    }

    #[test]
    fn a_credential_in_the_query_goes_no_further() {
        let cases = [
            ("/v1beta/models?key=canary", None),
            ("/v1beta/models?alt=sse&key=canary&pageSize=5", Some("alt=sse&pageSize=5")),
            ("/v1/messages?beta=true", Some("beta=true")),
            ("/v1/messages?k%65y=canary&&a=%26", Some("a=%26")),
            ("/v1/messages?", None),
            ("/v1/messages", None),
        ];
        for (uri, expected) in cases {
            assert_eq!(query_of(&uri.parse().unwrap()).as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed_about_the_client() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let cases = [
            ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
            ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
            ("10.0.0.1", "198.51.100.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
            ("10.0.0.1", "nonsense", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.1, 203.0.113.9:51234", "203.0.113.9"),
            ("10.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ];
        for (peer, forwarded, expected) in cases {
            let found = client_ip(peer.parse().unwrap(), &headers(&[("x-forwarded-for", forwarded)]), &trusted);
            assert_eq!(found.to_string(), expected, "{peer} <- {forwarded}");
        }
    }
}
