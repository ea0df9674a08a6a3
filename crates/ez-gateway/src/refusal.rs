//! Refusals and failures: who is at fault, what the caller may do, and the answer in the caller's dialect.

use std::time::Duration;

use bytes::Bytes;
use ez_contract::Protocol;
use ez_contract::usage::EndedBy;
use ez_protocol::error::{Fault, FaultKind, render};
use ez_telemetry::RequestId;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};

use crate::call::AnswerBody;
use crate::failure::Blame;

/// Code of refusals for an upstream that says that it is overloaded or away.
pub(crate) const UPSTREAM_UNAVAILABLE: &str = "upstream_unavailable";

/// Who is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Client,
    Upstream,
    Internal,
    /// A limit of the caller's is reached.
    Limit,
}

/// Why a call ends without an answer of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) source: Source,
    pub(crate) fault: Fault,
    pub(crate) retry_after: Option<Duration>,
    /// What it says of the credential that the attempt was made with.
    pub(crate) blame: Option<Blame>,
    /// More for the process log; it may name hosts and never goes to the client.
    pub(crate) detail: Option<Box<str>>,
    /// Whether the connection cannot be used again, because part of the request is still unread.
    pub(crate) close: bool,
    /// The methods that the path takes, where the request's is none of them.
    pub(crate) allow: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn client(status: StatusCode, kind: FaultKind, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Source::Client, status, kind, code, message)
    }

    pub(crate) fn upstream(
        status: StatusCode,
        kind: FaultKind,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self::new(Source::Upstream, status, kind, code, message)
    }

    pub(crate) fn internal(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Source::Internal, StatusCode::SERVICE_UNAVAILABLE, FaultKind::Internal, code, message)
    }

    pub(crate) fn limited(status: StatusCode, kind: FaultKind, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Source::Limit, status, kind, code, message)
    }

    pub(crate) fn with_param(mut self, param: Option<&'static str>) -> Self {
        self.fault.param = param.map(Box::from);
        self
    }

    pub(crate) fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    pub(crate) fn blaming(mut self, blame: Blame) -> Self {
        self.blame = Some(blame);
        self
    }

    pub(crate) fn with_detail(mut self, detail: String) -> Self {
        self.detail = Some(detail.into_boxed_str());
        self
    }

    pub(crate) fn with_allow(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// With the status that the caller's protocol has for it: Anthropic's clients know an overloaded upstream by 529.
    pub(crate) fn in_protocol(mut self, protocol: Protocol) -> Self {
        if protocol == Protocol::AnthropicMessages && self.fault.code == UPSTREAM_UNAVAILABLE {
            self.fault.status = 529;
        }
        self
    }

    /// Who ended a call that ends with this refusal.
    pub(crate) fn ended_by(&self) -> EndedBy {
        match self.source {
            Source::Upstream => EndedBy::Upstream,
            Source::Limit => EndedBy::Limit,
            Source::Client | Source::Internal => EndedBy::Gateway,
        }
    }

    /// The whole answer in the caller's dialect.
    pub(crate) fn into_response(self, protocol: Protocol, request_id: &RequestId) -> Response<AnswerBody> {
        let body = render(protocol, &self.fault, request_id.as_str());
        let mut response = Response::new(full(body));
        *response.status_mut() = StatusCode::from_u16(self.fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(retry_after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds(retry_after)));
        }
        if let Some(methods) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn new(
        source: Source,
        status: StatusCode,
        kind: FaultKind,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let fault = Fault { status: status.as_u16(), kind, code, message: message.into(), param: None };
        Self { source, fault, retry_after: None, blame: None, detail: None, close: false, allow: None }
    }
}

/// Whole seconds, at least one: sooner than this nobody should come back.
fn seconds(retry_after: Duration) -> u64 {
    retry_after.as_secs().saturating_add(u64::from(retry_after.subsec_nanos() > 0)).max(1)
}

/// A body that is all there.
pub(crate) fn full(body: Bytes) -> AnswerBody {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}
