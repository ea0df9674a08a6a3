//! The gateway's line to the control plane: usage records go over it, in one process or over HTTP.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use ez_contract::alerts::AlertFinding;
use ez_contract::flush::ApiKeyFlush;
use ez_contract::health::CredentialReport;
use ez_contract::snapshot::GatewayHeartbeat;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use serde::{Deserialize, Serialize};

use crate::config::UpstreamConfig;
use crate::upstream::{Transport, UpstreamTls};
use crate::usage_log::UsageBatch;

/// A call over the line under way.
pub type LinkFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, ControlLinkError>> + Send + 'a>>;

/// Takes usage records, heartbeats, reports on credentials, alerts and counts of attempts. The binary brings the direct one
/// where both planes share a process.
pub trait ControlLink: Send + Sync {
    /// Hands over a batch; idempotent by record id.
    fn ingest<'a>(&'a self, batch: &'a UsageBatch) -> LinkFuture<'a, IngestReport>;

    /// Tells how this gateway is.
    fn heartbeat<'a>(&'a self, heartbeat: &'a GatewayHeartbeat) -> LinkFuture<'a, ()>;

    /// Tells what was learned of credentials, at most 1,000 findings at once; idempotent.
    fn report<'a>(&'a self, reports: &'a [CredentialReport]) -> LinkFuture<'a, ()>;

    /// Tells what somebody should look at, at most 100 findings at once. The same again is counted, and makes no other alert.
    /// One that is rejected is an error, with the reason; the others are taken all the same.
    fn report_alerts<'a>(&'a self, alerts: &'a [AlertFinding]) -> LinkFuture<'a, ()>;

    /// Hands over what came of attempts by API key; idempotent by the batch's id.
    fn flush_api_keys<'a>(&'a self, flush: &'a ApiKeyFlush) -> LinkFuture<'a, ()>;
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestReport {
    /// Records that were new.
    pub accepted: u64,
    /// Records that were there already.
    pub duplicates: u64,
    /// Records that will never be taken.
    pub rejected: Vec<RejectedRecord>,
}

/// A record that will never be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedRecord {
    /// Its place in the batch, from 0.
    pub index: u64,
    /// Its id, 128 characters of it at most; empty where it has none.
    pub id: String,
    /// Why not, 200 characters at most.
    pub reason: String,
}

/// The control plane did not take a batch; it is sent again.
#[derive(Debug, thiserror::Error)]
pub enum ControlLinkError {
    /// It cannot be reached or did not answer.
    #[error("the control plane cannot be reached: {0}")]
    Unreachable(String),
    /// It answered with a failure.
    #[error("the control plane refused: {0}")]
    Refused(String),
    /// It has too much to do, and says when to come again.
    #[error("the control plane is busy and wants to be asked again in {} seconds", .retry_after.as_secs())]
    Busy {
        /// From now.
        retry_after: Duration,
    },
}

/// An alert that will never be taken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RejectedAlert {
    /// Its place in the report, from 0.
    pub index: usize,
    /// Why not.
    pub reason: String,
}

impl ControlLinkError {
    /// What is told where some of the reported alerts were rejected; fine where none was.
    pub fn of_rejected(rejected: &[RejectedAlert], reported: usize) -> Result<(), Self> {
        if rejected.is_empty() {
            return Ok(());
        }
        let told = |RejectedAlert { index, reason }: &RejectedAlert| format!("alert {index}: {reason}");
        let reasons: Vec<String> = rejected.iter().map(told).collect();
        let message = format!("it rejected {} of {reported} alerts: {}", rejected.len(), reasons.join("; "));
        Err(Self::Refused(message))
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);
/// Bound on an answer, apart from what it tells of single records.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Bound on what is told of a rejected record or alert: an id and the reason at four bytes a character, and what stands around
/// them.
const MAX_REJECTION_BYTES: usize = 4 << 10;

/// The line over HTTP, for a gateway in a process of its own.
pub struct HttpControlLink {
    logs: Uri,
    heartbeat: Uri,
    reports: Uri,
    alerts: Uri,
    api_key_flushes: Uri,
    authorization: HeaderValue,
    transport: Transport,
}

/// The control URL or the internal token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidControlLink {
    /// Not an http(s) URL.
    #[error("EZ_CONTROL_URL is not a valid http(s) URL such as http://control:8081")]
    Url,
    /// Not a header value.
    #[error("EZ_INTERNAL_TOKEN holds characters that no header can carry")]
    Token,
}

impl HttpControlLink {
    /// A line to the control plane at `control_url`, which is trusted like an upstream.
    pub fn new(control_url: &str, internal_token: &str, tls: UpstreamTls) -> Result<Self, InvalidControlLink> {
        let url = |path: &str| -> Result<Uri, InvalidControlLink> {
            let url = format!("{}{path}", control_url.trim_end_matches('/')).parse::<Uri>();
            let is_http = |url: &Uri| url.host().is_some() && matches!(url.scheme_str(), Some("http" | "https"));
            url.ok().filter(is_http).ok_or(InvalidControlLink::Url)
        };
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {internal_token}")).map_err(|_| InvalidControlLink::Token)?;
        authorization.set_sensitive(true);
        Ok(Self {
            logs: url("/internal/logs")?,
            heartbeat: url("/internal/heartbeat")?,
            reports: url("/internal/api-keys/report")?,
            alerts: url("/internal/alerts/report")?,
            api_key_flushes: url("/internal/apikey-stats/flush")?,
            authorization,
            // One batch at a time gains nothing from HTTP/2.
            transport: Transport::new(&UpstreamConfig { tls, http2: false }, Duration::from_secs(5)),
        })
    }

    async fn post_json(&self, url: &Uri, body: &impl Serialize) -> Result<Bytes, ControlLinkError> {
        let body = serde_json::to_vec(body).map_err(|e| ControlLinkError::Refused(e.to_string()))?;
        self.post(url, body.into(), MAX_ANSWER_BYTES).await
    }

    async fn post(&self, url: &Uri, body: Bytes, max_answer_bytes: usize) -> Result<Bytes, ControlLinkError> {
        let posted = tokio::time::timeout(TIMEOUT, self.post_unbounded(url, body, max_answer_bytes)).await;
        posted.unwrap_or_else(|_| Err(ControlLinkError::Unreachable("it did not answer in time".to_owned())))
    }

    async fn post_unbounded(&self, url: &Uri, body: Bytes, max_bytes: usize) -> Result<Bytes, ControlLinkError> {
        let unreachable = |e: &dyn std::fmt::Display| ControlLinkError::Unreachable(e.to_string());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.clone();
        request.headers_mut().insert(AUTHORIZATION, self.authorization.clone());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let response = self.transport.send(request).await.map_err(|e| unreachable(&e))?;
        let status = response.status();
        if status == StatusCode::SERVICE_UNAVAILABLE
            && let Some(retry_after) = retry_after(response.headers())
        {
            return Err(ControlLinkError::Busy { retry_after });
        }
        let body = Limited::new(response.into_body(), max_bytes).collect().await.map_err(|e| unreachable(&e))?;
        if !status.is_success() {
            let hint = if status == StatusCode::UNAUTHORIZED { ": check EZ_INTERNAL_TOKEN on both sides" } else { "" };
            return Err(ControlLinkError::Refused(format!("it answered {status}{hint}")));
        }
        Ok(body.to_bytes())
    }
}

/// The seconds that an answer asks for, where it does.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

impl ControlLink for HttpControlLink {
    fn ingest<'a>(&'a self, batch: &'a UsageBatch) -> LinkFuture<'a, IngestReport> {
        let max_answer_bytes = MAX_ANSWER_BYTES + batch.len() * MAX_REJECTION_BYTES;
        Box::pin(async move {
            let answer = self.post(&self.logs, batch.document(), max_answer_bytes).await?;
            serde_json::from_slice(&answer).map_err(|e| ControlLinkError::Refused(e.to_string()))
        })
    }

    fn heartbeat<'a>(&'a self, heartbeat: &'a GatewayHeartbeat) -> LinkFuture<'a, ()> {
        Box::pin(async move { self.post_json(&self.heartbeat, heartbeat).await.map(drop) })
    }

    fn report<'a>(&'a self, reports: &'a [CredentialReport]) -> LinkFuture<'a, ()> {
        #[derive(Serialize)]
        struct Reports<'a> {
            reports: &'a [CredentialReport],
        }
        Box::pin(async move { self.post_json(&self.reports, &Reports { reports }).await.map(drop) })
    }

    fn report_alerts<'a>(&'a self, alerts: &'a [AlertFinding]) -> LinkFuture<'a, ()> {
        #[derive(Serialize)]
        struct Alerts<'a> {
            alerts: &'a [AlertFinding],
        }
        #[derive(Deserialize)]
        struct Taken {
            rejected: Vec<RejectedAlert>,
        }
        Box::pin(async move {
            let max_answer_bytes = MAX_ANSWER_BYTES + alerts.len() * MAX_REJECTION_BYTES;
            let body = serde_json::to_vec(&Alerts { alerts }).map_err(|e| ControlLinkError::Refused(e.to_string()))?;
            let answer = self.post(&self.alerts, body.into(), max_answer_bytes).await?;
            let taken: Taken = serde_json::from_slice(&answer).map_err(|e| ControlLinkError::Refused(e.to_string()))?;
            ControlLinkError::of_rejected(&taken.rejected, alerts.len())
        })
    }

    fn flush_api_keys<'a>(&'a self, flush: &'a ApiKeyFlush) -> LinkFuture<'a, ()> {
        Box::pin(async move { self.post_json(&self.api_key_flushes, flush).await.map(drop) })
    }
}
