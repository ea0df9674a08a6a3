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

/// Code of refusals for an upstream that says that it is overloaded or away.
pub(crate) const UPSTREAM_UNAVAILABLE: &str = "upstream_unavailable";

/// Who is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Client,
    Upstream,
    Internal,
}

/// Why a call ends without an answer of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) source: Source,
    pub(crate) fault: Fault,
    pub(crate) retry_after: Option<Duration>,
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

    pub(crate) fn with_param(mut self, param: Option<&'static str>) -> Self {
        self.fault.param = param;
        self
    }

    pub(crate) fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
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
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
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
        Self { source, fault, retry_after: None, detail: None, close: false, allow: None }
    }
}

/// A body that is all there.
pub(crate) fn full(body: Bytes) -> AnswerBody {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}
