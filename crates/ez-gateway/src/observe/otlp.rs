//! OTLP: JSON over HTTP (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP"), as far as each signal needs it.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::upstream::Transport;

/// Bound on one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bound on all that is sent when the process stops.
pub(super) const LAST_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Where a signal goes.
pub(crate) struct Collector {
    pub(crate) transport: Transport,
    /// `…/v1/traces`, `…/v1/metrics`.
    pub(crate) url: Uri,
    pub(crate) node_id: String,
    pub(crate) version: String,
}

/// When the process waits no longer for a collector.
pub(super) struct TheEnd {
    stop: CancellationToken,
    at: OnceLock<Instant>,
}

impl TheEnd {
    pub(super) fn after(stop: CancellationToken) -> Self {
        Self { stop, at: OnceLock::new() }
    }

    /// Waits for it; the same moment whoever asks.
    async fn come(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep_until(*self.at.get_or_init(|| Instant::now() + LAST_TIMEOUT)).await;
    }
}

impl Collector {
    /// Posts a document, unless the end comes first. Errors: why it was not taken.
    pub(super) async fn post(&self, document: &Value, end: &TheEnd) -> Result<(), String> {
        tokio::select! {
            biased;
            () = end.come() => Err("it did not answer before the process ended".to_owned()),
            sent = tokio::time::timeout(TIMEOUT, self.send(document)) => {
                sent.unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
            }
        }
    }

    async fn send(&self, document: &Value) -> Result<(), String> {
        let mut request = Request::new(Full::new(Bytes::from(document.to_string())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let response = self.transport.send(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        // Read to its end, so that the connection can be used again.
        Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|e| e.to_string())?;
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    }

    /// This process, as every document names it.
    pub(super) fn resource(&self) -> Value {
        json!({"attributes": [
            text("service.name", "ez-api"),
            text("service.version", &self.version),
            text("service.instance.id", &self.node_id),
        ]})
    }

    /// What made the document.
    pub(super) fn scope(&self) -> Value {
        json!({"name": "ez-gateway", "version": self.version})
    }
}

pub(super) fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// 64-bit integers are texts in OTLP's JSON.
pub(super) fn number(key: &str, value: u64) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}

pub(super) fn fraction(key: &str, value: f64) -> Value {
    json!({"key": key, "value": {"doubleValue": value}})
}

pub(super) fn flag(key: &str, value: bool) -> Value {
    json!({"key": key, "value": {"boolValue": value}})
}

/// A time as OTLP's JSON has it.
pub(super) fn nanos(at: DateTime<Utc>) -> String {
    at.timestamp_nanos_opt().unwrap_or_default().to_string()
}
