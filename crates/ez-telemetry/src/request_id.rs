//! Request ids: the caller's where it sent a sane one, else a new UUIDv7.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::{Builder, NoContext, Timestamp, Uuid};

/// The header that carries a request id both ways.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_BYTES: usize = 128;

/// Names one request in headers, logs, audit and usage records. At most 128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The caller's id, or a new one where it sent none or one that could not be written into a log line.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        headers.get(X_REQUEST_ID).filter(|value| is_sane(value.as_bytes())).cloned().map_or_else(Self::new, Self)
    }

    /// A new id: a UUIDv7, so that ids sort by time.
    #[expect(clippy::new_without_default, reason = "every new id differs, so there is no default one")]
    pub fn new() -> Self {
        let mut buffer = Uuid::encode_buffer();
        let text = sortable_id().hyphenated().encode_lower(&mut buffer);
        // A UUID's text is visible ASCII, so the conversion cannot fail.
        Self(HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown")))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// As a header value.
    pub fn to_header_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A new UUIDv7, whose randomness comes from this thread's generator: one that asks the kernel costs a system call each.
pub fn sortable_id() -> Uuid {
    let (seconds, nanos) = Timestamp::now(NoContext).to_unix();
    let millis = seconds * 1_000 + u64::from(nanos) / 1_000_000;
    Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid()
}

fn is_sane(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.len() <= MAX_BYTES && bytes.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn from(value: &[u8]) -> RequestId {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
        RequestId::from_headers(&headers)
    }

    #[test]
    fn ids_are_uuids_of_version_7_that_differ() {
        let before = Uuid::now_v7().get_timestamp().unwrap().to_unix().0;
        let made: HashSet<Uuid> = (0..1_000).map(|_| sortable_id()).collect();
        assert_eq!(made.len(), 1_000);
        for id in made {
            assert_eq!(id.get_version_num(), 7, "{id}");
            assert!((before..before + 60).contains(&id.get_timestamp().unwrap().to_unix().0), "{id}");
        }
    }

    #[test]
    fn only_sane_ids_are_taken_over() {
        assert_eq!(from(b"req-1").as_str(), "req-1");
        assert_eq!(from(&[b'a'; 128]).as_str().len(), 128);
        for bad in [&b"a b"[..], b"a\tb", "\u{e9}".as_bytes(), &[b'a'; 129], b""] {
            let made = from(bad);
            assert!(Uuid::parse_str(made.as_str()).is_ok(), "{bad:?} -> {made}");
        }
    }
}
