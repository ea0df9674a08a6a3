//! An answer, and what tests ask of one.

use axum::body::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

/// An answer that arrived whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn new(parts: http::response::Parts, bytes: Bytes) -> Self {
        Self { status: parts.status, headers: parts.headers, bytes }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    #[track_caller]
    pub(crate) fn expect(self, status: StatusCode) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        self.expect(StatusCode::OK).json()
    }

    #[track_caller]
    pub(crate) fn created(self) -> Value {
        self.expect(StatusCode::CREATED).json()
    }

    #[track_caller]
    pub(crate) fn gone(self) {
        let answer = self.expect(StatusCode::NO_CONTENT);
        assert!(answer.bytes.is_empty());
    }

    /// The problem, checked for what every problem has.
    #[track_caller]
    pub(crate) fn problem(self, status: StatusCode) -> Value {
        let answer = self.expect(status);
        assert_eq!(answer.header(CONTENT_TYPE.as_str()), "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["status"], status.as_u16());
        assert_eq!(problem["request_id"], answer.header("x-request-id"));
        assert_eq!(problem["type"], format!("urn:ez-api:problem:{}", problem["code"].as_str().unwrap()));
        for text in ["title", "detail"] {
            assert!(!problem[text].as_str().unwrap().is_empty(), "{problem}");
        }
        problem
    }

    /// The pointers of a 422, sorted.
    #[track_caller]
    pub(crate) fn faults(self) -> Vec<String> {
        let problem = self.problem(StatusCode::UNPROCESSABLE_ENTITY);
        let faults = problem["errors"].as_array().unwrap_or_else(|| panic!("no faults: {problem}"));
        let mut pointers: Vec<String> =
            faults.iter().map(|fault| fault["pointer"].as_str().unwrap().to_owned()).collect();
        pointers.sort();
        pointers
    }
}
