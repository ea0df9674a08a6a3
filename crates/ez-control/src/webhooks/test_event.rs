//! Test events: sent at once, to see whether they arrive.

use std::time::Duration;

use ez_store::webhook_deliveries::{self, AttemptOutcome, NewDelivery};
use ez_store::{DeliveryStatus, StoreError};
use serde_json::json;
use tokio::time::Instant;

use super::config::{self, Webhook};
use super::delivery::{Met, send};
use super::event::{WEBHOOK_TEST, event};
use crate::{Control, ControlError, Write};

/// What became of a test event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestEvent {
    /// The HTTP status that the receiver answered with; none where it did not answer.
    pub status: Option<u16>,
    /// From sending to the end of the answer.
    pub duration: Duration,
    /// Why it failed, where it did.
    pub error: Option<String>,
    event: NewDelivery,
    webhook: Webhook,
}

impl TestEvent {
    /// Whether the receiver took it.
    pub fn ok(&self) -> bool {
        self.error.is_none()
    }

    /// What the receiver knows it by.
    pub fn event_id(&self) -> &str {
        &self.event.event_id
    }
}

/// Sends a test event to the webhook's receiver, once, also while it is switched off. Errors: `Conflict` without a URL.
pub async fn send_test(control: &Control) -> Result<TestEvent, ControlError> {
    let webhook = config::get(control).await?;
    if webhook.url.is_none() {
        return Err(ControlError::conflict("the log webhook has no URL: PUT one to /admin/logs/webhook first"));
    }
    let message = "This is a test: somebody tries whether events arrive.";
    let event = event(WEBHOOK_TEST, control.now(), json!({ "message": message }))?;
    let begun = Instant::now();
    let Met { answer, error, .. } = send(control, &webhook, &event.event_id, &event.payload).await;
    Ok(TestEvent { status: answer.map(|status| status.as_u16()), duration: begun.elapsed(), error, event, webhook })
}

/// Notes a test event among the deliveries and in the audit; the delivery's id.
pub async fn record_test(write: &Write, test: &TestEvent) -> Result<i64, ControlError> {
    let id = append(write, test).await?;
    let outcome = json!({ "ok": test.ok(), "status": test.status, "event_id": test.event_id() });
    write.record_use("test", &test.webhook, outcome).await?;
    Ok(id)
}

async fn append(write: &Write, test: &TestEvent) -> Result<i64, StoreError> {
    let status = if test.ok() { DeliveryStatus::Delivered } else { DeliveryStatus::Failed };
    let outcome = AttemptOutcome {
        status,
        next_attempt_at: None,
        answer: test.status,
        error: test.error.clone(),
        at: write.now(),
    };
    webhook_deliveries::append_tried(write.tx(), &test.event, &outcome).await
}
