//! Base URLs of upstreams: set by operators, so that private addresses are fine, and metadata services are not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Why a base URL is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidBaseUrl {
    #[error("must be an http or https URL such as https://llm.example.com/v1")]
    NotHttp,
    #[error("must not hold a user name or password; put the secret into an API key")]
    Credentials,
    #[error("must not hold a query or a fragment")]
    QueryOrFragment,
    #[error("must not point to a link-local or cloud metadata address")]
    Metadata,
}

/// Metadata services that answer under a name.
const METADATA_HOSTS: &[&str] = &["metadata.google.internal", "metadata", "metadata.goog", "instance-data"];

/// Metadata services outside of the link-local ranges: AWS over IPv6, Alibaba Cloud, Oracle Cloud.
const METADATA_ADDRESSES: &[IpAddr] = &[
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// Checks a base URL and brings it into the form that is kept: no slash at the end, no version segment twice in a row.
pub(crate) fn parse(text: &str) -> Result<String, InvalidBaseUrl> {
    let mut url = Url::parse(text.trim()).map_err(|_| InvalidBaseUrl::NotHttp)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(InvalidBaseUrl::NotHttp);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidBaseUrl::Credentials);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(InvalidBaseUrl::QueryOrFragment);
    }
    // The parser has made one address of every way to write it (hexadecimal, as one number, …).
    let is_metadata = match url.host() {
        Some(Host::Domain(name)) => METADATA_HOSTS.contains(&name.trim_end_matches('.')),
        Some(Host::Ipv4(address)) => is_metadata_address(address.into()),
        Some(Host::Ipv6(address)) => is_metadata_address(address.into()),
        None => return Err(InvalidBaseUrl::NotHttp),
    };
    if is_metadata {
        return Err(InvalidBaseUrl::Metadata);
    }
    let path = collapsed(url.path());
    url.set_path(&path);
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn is_metadata_address(address: IpAddr) -> bool {
    let address = embedded_v4(address).map_or(address, IpAddr::V4);
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    is_link_local || METADATA_ADDRESSES.contains(&address)
}

/// The IPv4 address that an IPv6 address stands for: mapped (`::ffff:0:0/96`) or behind NAT64 (`64:ff9b::/96`).
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let nat64 = match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    };
    nat64.or_else(|| address.to_ipv4_mapped())
}

/// `/v1/v1` -> `/v1`: what becomes of a base URL with a version under a client that adds one.
fn collapsed(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        if !(is_version(segment) && kept.last() == Some(&segment)) {
            kept.push(segment);
        }
    }
    kept.join("/")
}

/// `v1`, `v1beta`, `v2alpha1`.
fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_ones_are_brought_into_one_form() {
        let cases = [
            ("https://api.openai.com/v1", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
            (" https://Api.Example.com/v1/v1/ ", "https://api.example.com/v1"),
            ("https://h/v1beta/v1beta", "https://h/v1beta"),
            ("https://h/v1/models/v1", "https://h/v1/models/v1"),
            ("https://h/team/team/v1", "https://h/team/team/v1"),
            ("https://generativelanguage.googleapis.com", "https://generativelanguage.googleapis.com"),
            ("http://localhost:11434/v1", "http://localhost:11434/v1"),
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://10.1.2.3/v1", "http://10.1.2.3/v1"),
            ("http://[fd00::1]:8000/v1", "http://[fd00::1]:8000/v1"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn bad_ones_are_told_apart() {
        use InvalidBaseUrl::{Credentials, Metadata, NotHttp, QueryOrFragment};
        let cases = [
            ("", NotHttp),
            ("api.openai.com/v1", NotHttp),
            ("ftp://h/v1", NotHttp),
            ("file:///etc/passwd", NotHttp),
            ("https://user:secret@h/v1", Credentials),
            ("https://h/v1?key=1", QueryOrFragment),
            ("https://h/v1#x", QueryOrFragment),
            ("http://169.254.169.254/latest", Metadata),
            ("http://0xa9fea9fe/", Metadata),
            ("http://2852039166/", Metadata),
            ("http://[::ffff:169.254.169.254]/", Metadata),
            ("http://[64:ff9b::a9fe:a9fe]/", Metadata),
            ("http://[fe80::1]/", Metadata),
            ("http://[fd00:ec2::254]/", Metadata),
            ("http://100.100.100.200/", Metadata),
            ("http://metadata.google.internal./v1", Metadata),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }
}
