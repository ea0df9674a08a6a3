//! Events: what the webhook is told. Their bodies are bounded, and made once: each attempt sends and signs the same.

use chrono::{DateTime, SecondsFormat, Utc};
use ez_contract::UsageRecord;
use ez_store::StoreTx;
use ez_store::alerts::Alert;
use ez_store::webhook_deliveries::{self, NewDelivery};
use serde::Serialize;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::config::{self, Webhook};
use crate::ControlError;

/// Calls failed more often than they may.
pub(super) const LOG_ERRORS: &str = "log.errors";
/// An alert was raised.
const ALERT_RAISED: &str = "alert.raised";
/// An alert that is still open became graver.
const ALERT_ESCALATED: &str = "alert.escalated";
/// Somebody tries whether events arrive.
pub(super) const WEBHOOK_TEST: &str = "webhook.test";

/// Characters of any text within an event.
const MAX_TEXT_CHARS: usize = 1_000;

/// Bytes of an alert's metadata; larger ones are left out.
const MAX_METADATA_BYTES: usize = 8_192;

/// What became of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AlertChange {
    /// It is new.
    Raised,
    /// It was there and became graver.
    Escalated,
}

/// Enqueues an event about an alert, in the transaction that raises it, where the webhook wants to be told.
pub(crate) async fn enqueue_alert(
    tx: &StoreTx,
    now: DateTime<Utc>,
    alert: &Alert,
    change: AlertChange,
) -> Result<(), ControlError> {
    let Some(webhook) = config::readable(tx).await? else { return Ok(()) };
    let is_wanted = webhook.alert_severity.is_some_and(|least| alert.severity >= least);
    if !is_wanted || webhook.receiver().is_none() {
        return Ok(());
    }
    let kind = match change {
        AlertChange::Raised => ALERT_RAISED,
        AlertChange::Escalated => ALERT_ESCALATED,
    };
    let metadata = Some(&alert.metadata).filter(|metadata| metadata.to_string().len() <= MAX_METADATA_BYTES);
    let data = json!({
        "id": alert.id, "type": alert.alert_type, "severity": alert.severity, "status": alert.status,
        "title": alert.title, "message": alert.message, "related_type": alert.related_type,
        "related_id": alert.related_id, "related_name": alert.related_name, "metadata": metadata,
        "fingerprint": alert.fingerprint, "created_at": alert.created_at,
    });
    webhook_deliveries::append(tx, &event(kind, now, data)?).await?;
    Ok(())
}

/// Calls failed `count` times within the webhook's window; `sample` is the newest of them.
pub(super) fn log_errors(
    webhook: &Webhook,
    now: DateTime<Utc>,
    count: u64,
    sample: &UsageRecord,
) -> Result<NewDelivery, ControlError> {
    let data = json!({
        "count": count, "threshold": webhook.threshold, "window": webhook.window,
        "status_code_threshold": webhook.status_code_threshold,
        "sample": serde_json::to_value(sample).map_err(ControlError::internal)?,
    });
    event(LOG_ERRORS, now, data)
}

/// An event under a new id.
pub(super) fn event(kind: &str, now: DateTime<Utc>, data: Json) -> Result<NewDelivery, ControlError> {
    #[derive(Serialize)]
    struct Body<'a> {
        r#type: &'a str,
        timestamp: String,
        data: Json,
    }
    let timestamp = now.to_rfc3339_opts(SecondsFormat::Micros, true);
    let body = Body { r#type: kind, timestamp, data: bounded(data) };
    Ok(NewDelivery {
        event_id: format!("msg_{}", Uuid::new_v4().simple()),
        kind: kind.to_owned(),
        payload: serde_json::to_string(&body).map_err(ControlError::internal)?,
        created_at: now,
    })
}

/// The same with no text longer than it may be.
fn bounded(value: Json) -> Json {
    match value {
        Json::String(text) => Json::String(text.chars().take(MAX_TEXT_CHARS).collect()),
        Json::Array(items) => items.into_iter().map(bounded).collect(),
        Json::Object(fields) => fields.into_iter().map(|(name, value)| (name, bounded(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_bounded_and_tells_type_and_time_first() {
        let now = DateTime::from_timestamp_micros(1_767_225_600_000_001).unwrap();
        let data = json!({"deep": [{"text": "é".repeat(5_000)}], "nul": "a\0b", "count": 7});
        let made = event("log.errors", now, data).unwrap();
        let head = r#"{"type":"log.errors","timestamp":"2026-01-01T00:00:00.000001Z","data":{"#;
        assert!(made.payload.starts_with(head), "{}", made.payload);
        assert!(!made.payload.contains('\0'), "it is escaped");
        let read: Json = serde_json::from_str(&made.payload).unwrap();
        assert_eq!(read["data"]["deep"][0]["text"].as_str().unwrap().chars().count(), MAX_TEXT_CHARS);
        assert_eq!((&read["data"]["count"], &read["data"]["nul"]), (&json!(7), &json!("a\0b")));
        let id = made.event_id.strip_prefix("msg_").unwrap();
        assert!(id.len() == 32 && id.chars().all(|char| char.is_ascii_hexdigit()), "{id}");
    }
}
