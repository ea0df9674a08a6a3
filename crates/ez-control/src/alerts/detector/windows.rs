//! What stretches of time a run of the detector looks at. Windows end a moment before the run, for gateways to hand in what
//! ended; windows of a minute reach back to where the last run stopped, so that no minute is missed where runs are late.

use chrono::{DateTime, TimeDelta, Utc};
use ez_store::logs::figures::{LONGEST_CALL, Window};
use ez_store::{Executor, Store, StoreError, settings};

/// The setting that holds up to when calls that ended were looked at, in microseconds.
const LOOKED_UNTIL: &str = "alerts_looked_until";

/// How long a gateway may take to hand in the record of a call that ended.
const SHIPPING: TimeDelta = TimeDelta::seconds(3);

/// By how much a run may be late and leave that to the next one. Else it would look at a whole minute more for it, nearly all
/// of which was looked at before.
const SLACK: TimeDelta = TimeDelta::seconds(6);

const MINUTE: TimeDelta = TimeDelta::minutes(1);
const FIVE_MINUTES: TimeDelta = TimeDelta::minutes(5);

/// Minutes that a run looks at; what lies further back is not made up for.
const MAX_MINUTES: i32 = 10;

/// The windows of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Windows {
    /// When the run is.
    pub(super) now: DateTime<Utc>,
    /// For rules of a minute: one or more, of a minute each, the last one first.
    pub(super) minutes: Vec<Window>,
    /// Where the last of these ends.
    pub(super) looked_until: DateTime<Utc>,
    /// For rules of five minutes.
    pub(super) five_minutes: Window,
    /// For rules of a day: a moment of each day that is looked at. That of yesterday is, until the last calls that arrived
    /// before midnight have ended.
    pub(super) days: Vec<DateTime<Utc>>,
}

impl Windows {
    /// Those of a run at `now`, where runs so far have looked at what ended before `looked_until`.
    pub(super) fn of(now: DateTime<Utc>, looked_until: Option<DateTime<Utc>>) -> Self {
        let end = now - SHIPPING;
        let unseen = looked_until.map_or(MINUTE, |until| end.signed_duration_since(until));
        let whole = i32::try_from(unseen.num_minutes()).unwrap_or(i32::MAX);
        let over = unseen - MINUTE * whole;
        let is_late = whole > 0 && over > TimeDelta::zero() && over <= SLACK;
        let last = if is_late { end - over } else { end };
        // Back from there in whole minutes: the oldest may hold some of what was looked at before.
        let further = i32::from(!is_late && over > TimeDelta::zero());
        let count = whole.saturating_add(further).clamp(1, MAX_MINUTES);
        let minute = |back: i32| last - MINUTE * (back + 1)..last - MINUTE * back;
        let yesterday = now - LONGEST_CALL;
        let is_over = yesterday.date_naive() != now.date_naive();
        Self {
            now,
            minutes: (0..count).map(minute).collect(),
            looked_until: last,
            five_minutes: end - FIVE_MINUTES..end,
            days: [Some(now), is_over.then_some(yesterday)].into_iter().flatten().collect(),
        }
    }
}

/// Up to when calls that ended were looked at; none where that is not known. What a clock that was wrong left is not
/// believed. Errors: `Unavailable`.
pub(super) async fn looked_until(db: &impl Executor, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StoreError> {
    Ok(settings::get(db, LOOKED_UNTIL).await?.and_then(|value| time_of(&value, now)))
}

/// Notes up to when calls that ended were looked at, unless another run has come further. Errors: `Unavailable`.
pub(super) async fn note_looked_until(store: &Store, end: DateTime<Utc>, now: DateTime<Utc>) -> Result<(), StoreError> {
    let tx = store.begin().await?;
    // The row is there before it is locked.
    settings::put_if_absent(&tx, LOOKED_UNTIL, "0").await?;
    let stands = settings::get_for_update(&tx, LOOKED_UNTIL).await?;
    let is_further = stands.and_then(|value| time_of(&value, now)).is_some_and(|until| until >= end);
    if !is_further {
        settings::put(&tx, LOOKED_UNTIL, &end.timestamp_micros().to_string()).await?;
    }
    tx.commit().await
}

/// The time that the setting holds, unless it is none or lies so far ahead that only a wrong clock can have put it there.
fn time_of(value: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let time = value.parse().ok().filter(|micros| *micros > 0).and_then(DateTime::from_timestamp_micros)?;
    (time.signed_duration_since(now) < MINUTE).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn minutes_reach_back_to_where_the_last_run_stopped() {
        let now = at("2026-03-04T12:00:03Z");
        let end = now - SHIPPING;
        let seconds = TimeDelta::seconds;
        let ago = |of: i64| Some(end - seconds(of));
        // How many, and how many seconds before the end the last one ends.
        let cases = [
            (None, 1, 0),
            (ago(-30), 1, 0),
            (ago(-90), 1, 0),
            (ago(0), 1, 0),
            (ago(5), 1, 0),
            (ago(60), 1, 0),
            // A little late.
            (ago(61), 1, 1),
            (ago(66), 1, 6),
            (ago(67), 2, 0),
            (ago(120), 2, 0),
            (ago(123), 2, 3),
            (ago(600), 10, 0),
            (ago(601), 10, 1),
            (ago(607), 10, 0),
            (Some(DateTime::UNIX_EPOCH), 10, 0),
            (Some(DateTime::<Utc>::MIN_UTC), 10, 0),
        ];
        for (looked_until, expected, before_end) in cases {
            let windows = Windows::of(now, looked_until);
            assert_eq!(windows.minutes.len(), expected, "{looked_until:?}");
            assert_eq!(windows.looked_until, end - seconds(before_end), "{looked_until:?}");
            assert_eq!(windows.minutes[0].end, windows.looked_until);
            let first = windows.minutes.last().unwrap().start;
            assert!(expected == 10 || looked_until.is_none_or(|until| first <= until), "{looked_until:?}");
            assert!(windows.minutes.iter().all(|minute| minute.end - minute.start == MINUTE));
            assert!(windows.minutes.windows(2).all(|pair| pair[0].start == pair[1].end), "no moment is missed");
            assert_eq!(windows.five_minutes, end - FIVE_MINUTES..end);
        }
    }

    #[test]
    fn a_day_is_looked_at_until_its_last_calls_have_ended() {
        let days = |now: &str| -> Vec<String> {
            Windows::of(at(now), None).days.iter().map(|day| day.date_naive().to_string()).collect()
        };
        assert_eq!(days("2026-03-04T23:59:59.999Z"), ["2026-03-04"]);
        assert_eq!(days("2026-03-05T00:00:00Z"), ["2026-03-05", "2026-03-04"]);
        assert_eq!(days("2026-03-05T00:14:59.999Z"), ["2026-03-05", "2026-03-04"]);
        assert_eq!(days("2026-03-05T00:15:00Z"), ["2026-03-05"]);
    }

    #[test]
    fn what_a_wrong_clock_left_is_not_believed() {
        let now = at("2026-03-04T12:00:00Z");
        let kept = |time: DateTime<Utc>| time_of(&time.timestamp_micros().to_string(), now);
        for (ahead, is_believed) in [(-3_600, true), (0, true), (59, true), (60, false), (86_400, false)] {
            let time = now + TimeDelta::seconds(ahead);
            assert_eq!(kept(time), is_believed.then_some(time), "{ahead}");
        }
        for damaged in ["", "0", "-5", "soon", "99999999999999999999"] {
            assert_eq!(time_of(damaged, now), None, "{damaged}");
        }
    }
}
