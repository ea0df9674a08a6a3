//! The job that sends what is due to the webhook's receiver, and tries again what was not taken: at least once each, under
//! one `webhook-id`.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use ez_store::webhook_deliveries::{self as stored, AttemptOutcome, Delivery};
use ez_store::{DeliveryStatus, StoreError};
use ez_telemetry::metrics::WEBHOOK_DELIVERIES;
use futures_util::future::join_all;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use rand::Rng;
use tokio::time::Instant;

use super::config::{self, SWITCHED_OFF, Webhook, open_secret, reach};
use super::secret::SigningKey;
use crate::outbound::{self, OutboundAnswer, OutboundError, OutboundRequest};
use crate::{Control, ControlError};

/// Attempts under way at once.
const AT_ONCE: u64 = 16;

/// After which a run begins no further ones. With what is under way then it takes twice as long at most.
const LONGEST_RUN: Duration = Duration::from_secs(10);

/// Bound on an attempt.
const TIMEOUT: Duration = Duration::from_secs(10);

/// After which an attempt that nobody told the end of is taken for lost.
const LOST_AFTER: TimeDelta = TimeDelta::seconds(60);

/// Waits after the first attempt that failed, after the second, and so on, seconds. When there is none left, it is not
/// tried again.
const WAITS: [u64; 7] = [5, 30, 120, 600, 3_600, 4 * 3_600, 12 * 3_600];

/// Of a wait, that is added to it by chance: what failed together does not come back together.
const JITTER: f64 = 0.2;

/// The longest wait that a receiver can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// Deliveries that are kept, whatever their state, and how long.
const KEPT: u64 = 1_000;
const KEPT_FOR: TimeDelta = TimeDelta::days(7);

/// What an attempt met.
pub(super) struct Met {
    /// What it was answered with, where it was.
    pub(super) answer: Option<StatusCode>,
    /// Why it failed, where it did. Names neither URL nor secret.
    pub(super) error: Option<String>,
    /// What the receiver asks to wait.
    retry_after: Option<Duration>,
}

/// Sends what is due; how many attempts that took.
pub async fn deliver_due(control: &Control) -> Result<u64, ControlError> {
    trim(control).await?;
    let store = control.store();
    if !stored::is_any_due(store, control.now()).await? {
        return Ok(0);
    }
    // What waits for one that cannot be read is not given up: it may be set again.
    let Some(webhook) = config::readable(store).await? else { return Ok(0) };
    if webhook.receiver().is_none() {
        let tx = store.begin().await?;
        stored::give_up_pending(&tx, SWITCHED_OFF).await?;
        tx.commit().await?;
        return Ok(0);
    }
    let begun = Instant::now();
    let mut tried = 0;
    while begun.elapsed() < LONGEST_RUN {
        let claimed = claim(control).await?;
        if claimed.is_empty() {
            break;
        }
        // Each notes its own end, so that none waits for a slower one.
        for settled in join_all(claimed.iter().map(|delivery| attempt(control, &webhook, delivery))).await {
            settled?;
            tried += 1;
        }
    }
    Ok(tried)
}

async fn claim(control: &Control) -> Result<Vec<Delivery>, ControlError> {
    let now = control.now();
    let until = now.checked_add_signed(LOST_AFTER).unwrap_or(now);
    let tx = control.store().begin().await?;
    let claimed = stored::claim_due(&tx, now, until, AT_ONCE).await?;
    tx.commit().await?;
    Ok(claimed)
}

async fn attempt(control: &Control, webhook: &Webhook, delivery: &Delivery) -> Result<(), StoreError> {
    let met = send(control, webhook, &delivery.event_id, &delivery.payload).await;
    let outcome = outcome_of(met, delivery.attempts, control.now());
    let told = match outcome.status {
        DeliveryStatus::Delivered => "delivered",
        DeliveryStatus::Pending => "retried",
        DeliveryStatus::Failed => "failed",
    };
    metrics::counter!(WEBHOOK_DELIVERIES, "outcome" => told).increment(1);
    if outcome.status == DeliveryStatus::Failed {
        let error = outcome.error.as_deref().unwrap_or_default();
        tracing::warn!(event_id = delivery.event_id, attempts = delivery.attempts, error, "an event was not delivered");
    }
    let tx = control.store().begin().await?;
    stored::settle(&tx, delivery.id, delivery.attempts, &outcome).await?;
    tx.commit().await
}

/// Makes an attempt.
pub(super) async fn send(control: &Control, webhook: &Webhook, event_id: &str, payload: &str) -> Met {
    match request(control, webhook, event_id, payload) {
        Ok(request) => met(outbound::send(request).await, control.now()),
        Err(error) => Met { answer: None, error: Some(error), retry_after: None },
    }
}

/// The request, signed for this attempt, or why there is none.
fn request(control: &Control, webhook: &Webhook, event_id: &str, payload: &str) -> Result<OutboundRequest, String> {
    let reach = reach(control.config());
    let url = webhook.url.as_deref().ok_or("the webhook has no URL")?;
    let url = reach.parse(url).map_err(|forbidden| OutboundError::Forbidden(forbidden).to_string())?;
    let secret = open_secret(control, webhook).ok_or("the webhook has no secret; set one")?;
    let key = secret.ok().as_ref().and_then(SigningKey::parse);
    let key = key.ok_or("the webhook's secret cannot be opened with this EZ_SECRET_KEY; write it again")?;
    let timestamp = control.now().timestamp();
    let signature = key.sign(event_id, timestamp, payload);
    let headers = [
        (CONTENT_TYPE, "application/json".to_owned()),
        (HeaderName::from_static("webhook-id"), event_id.to_owned()),
        (HeaderName::from_static("webhook-timestamp"), timestamp.to_string()),
        (HeaderName::from_static("webhook-signature"), signature),
    ];
    let headers = headers.into_iter().map(|(name, value)| Ok((name, HeaderValue::try_from(value)?)));
    let headers = headers.collect::<Result<HeaderMap, http::header::InvalidHeaderValue>>();
    Ok(OutboundRequest {
        method: Method::POST,
        url,
        headers: headers.map_err(|error| error.to_string())?,
        body: Bytes::from(payload.to_owned()),
        reach,
        tls: control.config().upstream_tls.clone(),
        resolver: control.config().resolver.clone(),
        timeout: TIMEOUT,
        max_answer_bytes: None,
    })
}

fn met(answered: Result<OutboundAnswer, OutboundError>, now: DateTime<Utc>) -> Met {
    let OutboundAnswer { status, headers, .. } = match answered {
        Ok(answer) => answer,
        Err(error) => return Met { answer: None, error: Some(error.to_string()), retry_after: None },
    };
    let error = match status.as_u16() {
        200..300 => None,
        code @ 300..400 => Some(format!("the receiver redirects ({code}): set the URL to where it does")),
        410 => Some("the receiver wants no more events (410)".to_owned()),
        code => Some(format!("the receiver answered {code}")),
    };
    let retry_after = headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, now));
    Met { answer: Some(status), error, retry_after }
}

/// How long a `Retry-After` asks to wait: seconds, or until a date.
fn retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let wait = match text.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => DateTime::parse_from_rfc2822(text.trim()).ok()?.signed_duration_since(now).to_std().ok()?,
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// What becomes of a delivery after its attempt of this number, counted from 1.
fn outcome_of(met: Met, attempt: u32, now: DateTime<Utc>) -> AttemptOutcome {
    let answer = met.answer.map(|status| status.as_u16());
    let wait = match met.error {
        None => None,
        Some(_) if answer == Some(StatusCode::GONE.as_u16()) => None,
        Some(_) => wait_after(attempt).map(|wait| wait.max(met.retry_after.unwrap_or_default())),
    };
    let next_attempt_at = wait.and_then(|wait| now.checked_add_signed(TimeDelta::from_std(wait).ok()?));
    let status = match (&met.error, next_attempt_at) {
        (None, _) => DeliveryStatus::Delivered,
        (Some(_), Some(_)) => DeliveryStatus::Pending,
        (Some(_), None) => DeliveryStatus::Failed,
    };
    AttemptOutcome { status, next_attempt_at, answer, error: met.error, at: now }
}

/// How long to wait after the attempt of this number, counted from 1; none where it was the last.
fn wait_after(attempt: u32) -> Option<Duration> {
    let place = usize::try_from(attempt).ok()?.saturating_sub(1);
    let wait = Duration::from_secs(*WAITS.get(place)?);
    Some(wait.mul_f64(1.0 + rand::rng().random_range(0.0..=JITTER)))
}

/// Keeps the deliveries from growing without bound.
async fn trim(control: &Control) -> Result<(), ControlError> {
    let now = control.now();
    let before = now.checked_sub_signed(KEPT_FOR).unwrap_or(DateTime::<Utc>::MIN_UTC);
    if !stored::is_trim_due(control.store(), KEPT, before).await? {
        return Ok(());
    }
    let tx = control.store().begin().await?;
    let trimmed = stored::trim(&tx, KEPT, before).await?;
    tx.commit().await?;
    if trimmed.pending > 0 {
        metrics::counter!(WEBHOOK_DELIVERIES, "outcome" => "dropped").increment(trimmed.pending);
        tracing::warn!(
            dropped = trimmed.pending,
            "events that waited for the webhook's receiver were dropped: too many, or too old"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600, 0).unwrap()
    }

    fn answered(status: u16, headers: &[(HeaderName, &'static str)]) -> Met {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        met(Ok(OutboundAnswer { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::new() }), now())
    }

    #[test]
    fn what_becomes_of_a_delivery_is_told_by_the_answer() {
        use DeliveryStatus::{Delivered, Failed, Pending};
        let last = u32::try_from(WAITS.len()).unwrap() + 1;
        let cases = [
            (200, 1, Delivered),
            (204, last, Delivered),
            (302, 1, Pending),
            (404, 1, Pending),
            (410, 1, Failed),
            (429, 1, Pending),
            (500, last - 1, Pending),
            (500, last, Failed),
        ];
        for (status, attempt, expected) in cases {
            let outcome = outcome_of(answered(status, &[]), attempt, now());
            assert_eq!((outcome.status, outcome.answer), (expected, Some(status)), "{status} at {attempt}");
            assert_eq!(outcome.next_attempt_at.is_some(), expected == Pending, "{status} at {attempt}");
            assert_eq!(outcome.error.is_none(), expected == Delivered, "{status} at {attempt}");
        }
        let outcome = outcome_of(met(Err(OutboundError::TimedOut(TIMEOUT)), now()), 1, now());
        assert_eq!((outcome.status, outcome.answer), (Pending, None));
        assert_eq!(outcome.error.as_deref(), Some("there was no answer within 10 seconds"));
    }

    #[test]
    fn waits_grow_and_differ_and_the_receiver_may_ask_for_longer_ones() {
        for (attempt, seconds) in (1_u32..).zip(WAITS) {
            for _ in 0..50 {
                let wait = wait_after(attempt).unwrap().as_secs_f64();
                let least = Duration::from_secs(seconds).as_secs_f64();
                assert!((least..=least * (1.0 + JITTER)).contains(&wait), "{wait} after {attempt}");
            }
        }
        let wait = |text: &'static str| {
            let outcome = outcome_of(answered(503, &[(RETRY_AFTER, text)]), 1, now());
            (outcome.next_attempt_at.unwrap() - now()).num_seconds()
        };
        assert_eq!(wait("120"), 120);
        assert_eq!(wait("Thu, 01 Jan 2026 00:03:00 GMT"), 180);
        assert_eq!(wait("999999999"), 3_600);
        for of_no_use in ["1", "soon", "-5", "Thu, 01 Jan 2015 00:03:00 GMT"] {
            assert!((5..=6).contains(&wait(of_no_use)), "{of_no_use}");
        }
    }
}
