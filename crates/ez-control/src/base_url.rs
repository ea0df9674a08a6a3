//! Base URLs of upstreams: set by operators, so that private addresses are fine, and metadata services are not.

use crate::outbound::{Forbidden, Reach};

/// Bytes of a base URL. Every API key is published with its own copy.
const MAX_BYTES: usize = 1000;

/// Why a base URL is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidBaseUrl {
    #[error("must not hold a user name or password; put the secret into an API key")]
    Credentials,
    #[error("must not hold a query or a fragment")]
    QueryOrFragment,
    #[error("must have at most {MAX_BYTES} bytes")]
    TooLong,
    #[error(transparent)]
    Forbidden(Forbidden),
}

/// Checks a base URL and brings it into the form that is kept: no slash at the end, no version segment twice in a row.
pub(crate) fn parse(text: &str) -> Result<String, InvalidBaseUrl> {
    let mut url = Reach::Operator.parse(text).map_err(|forbidden| match forbidden {
        Forbidden::Credentials => InvalidBaseUrl::Credentials,
        other => InvalidBaseUrl::Forbidden(other),
    })?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(InvalidBaseUrl::QueryOrFragment);
    }
    let path = collapsed(url.path());
    url.set_path(&path);
    let kept = url.as_str().trim_end_matches('/');
    if kept.len() > MAX_BYTES { Err(InvalidBaseUrl::TooLong) } else { Ok(kept.to_owned()) }
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
        use InvalidBaseUrl::{Credentials, QueryOrFragment};
        let not_http = InvalidBaseUrl::Forbidden(Forbidden::NotHttp);
        let metadata = InvalidBaseUrl::Forbidden(Forbidden::Metadata);
        let cases = [
            ("", not_http),
            ("api.openai.com/v1", not_http),
            ("ftp://h/v1", not_http),
            ("file:///etc/passwd", not_http),
            ("https://user:secret@h/v1", Credentials),
            ("https://h/v1?key=1", QueryOrFragment),
            ("https://h/v1#x", QueryOrFragment),
            ("http://169.254.169.254/latest", metadata),
            ("http://0xa9fea9fe/", metadata),
            ("http://2852039166/", metadata),
            ("http://[::ffff:169.254.169.254]/", metadata),
            ("http://[64:ff9b::a9fe:a9fe]/", metadata),
            ("http://[fe80::1]/", metadata),
            ("http://[fd00:ec2::254]/", metadata),
            ("http://100.100.100.200/", metadata),
            ("http://metadata.google.internal./v1", metadata),
            (&format!("https://h/{}", "a".repeat(1000)), InvalidBaseUrl::TooLong),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }
}
