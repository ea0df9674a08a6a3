//! The job that tells the webhook of calls that fail more often than they may.

use chrono::{DateTime, TimeDelta, Utc};
use ez_store::logs::failing::{self, FailureWindow};
use ez_store::{settings, webhook_deliveries};

use super::config::{self, Webhook};
use super::event;
use crate::{Control, ControlError};

/// The setting that holds when it was last told, in microseconds.
const NOTIFIED_AT: &str = "log_webhook_notified_at";

/// Log records that are counted at most.
const MOST_COUNTED: u64 = 1_000_000;

/// How far a gateway's clock may be ahead. What is dated later counts when its time comes.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::minutes(5);

/// Enqueues an event where the log records of the window reach the threshold and none was enqueued in the cooldown, by
/// whichever process; how many that are. Reads nothing of the log while the webhook is off.
pub async fn watch_log(control: &Control) -> Result<u64, ControlError> {
    let store = control.store();
    let Some(webhook) = config::readable(store).await? else { return Ok(0) };
    if webhook.receiver().is_none() {
        return Ok(0);
    }
    let now = control.now();
    if is_cooling(settings::get(store, NOTIFIED_AT).await?.as_deref(), &webhook, now) {
        return Ok(0);
    }
    let window = window_of(&webhook, now);
    // No more is counted than says whether the threshold is reached.
    if failing::count(store, &window, webhook.threshold).await? < webhook.threshold {
        return Ok(0);
    }
    let count = failing::count(store, &window, MOST_COUNTED).await?;
    let Some(sample) = failing::newest(store, &window).await? else { return Ok(0) };

    let tx = store.begin().await?;
    // The row is there before it is locked.
    settings::put_if_absent(&tx, NOTIFIED_AT, "0").await?;
    let last = settings::get_for_update(&tx, NOTIFIED_AT).await?;
    if is_cooling(last.as_deref(), &webhook, now) {
        tx.rollback().await?;
        return Ok(0);
    }
    settings::put(&tx, NOTIFIED_AT, &now.timestamp_micros().to_string()).await?;
    webhook_deliveries::append(&tx, &event::log_errors(&webhook, now, count, &sample)?).await?;
    tx.commit().await?;
    Ok(1)
}

/// Whether it was told less than a cooldown ago. A time as far ahead comes from a clock that was wrong.
fn is_cooling(notified_at: Option<&str>, webhook: &Webhook, now: DateTime<Utc>) -> bool {
    let last = notified_at.and_then(|micros| micros.parse().ok()).and_then(DateTime::from_timestamp_micros);
    last.is_some_and(|last| now.signed_duration_since(last).abs() < seconds(webhook.cooldown))
}

fn window_of(webhook: &Webhook, now: DateTime<Utc>) -> FailureWindow {
    let since = now.checked_sub_signed(seconds(webhook.window)).unwrap_or(DateTime::<Utc>::MIN_UTC);
    let until = now.checked_add_signed(CLOCKS_DIFFER).unwrap_or(DateTime::<Utc>::MAX_UTC);
    FailureWindow { status: webhook.status_code_threshold, since, until }
}

fn seconds(count: u64) -> TimeDelta {
    i64::try_from(count).ok().and_then(TimeDelta::try_seconds).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cooldown_lasts_its_time_and_no_wrong_clock_makes_it_longer() {
        let webhook = Webhook { cooldown: 300, ..Webhook::default() };
        let at = |second: i64| DateTime::from_timestamp(1_767_225_600 + second, 0).unwrap();
        let last = at(0).timestamp_micros().to_string();
        for (second, expected) in [(0, true), (299, true), (300, false), (-299, true), (-300, false)] {
            assert_eq!(is_cooling(Some(&last), &webhook, at(second)), expected, "{second}");
        }
        assert!(!is_cooling(None, &webhook, at(0)));
        assert!(!is_cooling(Some("0"), &webhook, at(0)));
        assert!(!is_cooling(Some(&last), &Webhook { cooldown: 0, ..webhook }, at(0)));
    }
}
