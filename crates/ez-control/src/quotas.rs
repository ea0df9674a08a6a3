//! Quotas of child keys: when they start anew, and what they make of a key's state.

use chrono::{DateTime, Datelike, Days, Months, NaiveTime, Utc};
use ez_contract::status::KeyStatus;
use ez_store::QuotaReset;
use ez_store::child_keys::{ChildKey, NewChildKey};

/// When a quota starts anew next: the first boundary after `now`, in UTC. A week begins on Monday.
pub(crate) fn next_reset(reset: QuotaReset, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let today = now.date_naive();
    let day = match reset {
        QuotaReset::None => None,
        QuotaReset::Daily => today.checked_add_days(Days::new(1)),
        QuotaReset::Weekly => today.checked_add_days(Days::new(7 - u64::from(today.weekday().num_days_from_monday()))),
        QuotaReset::Monthly => today.with_day(1).and_then(|first| first.checked_add_months(Months::new(1))),
    };
    day.map(|day| day.and_time(NaiveTime::MIN).and_utc())
}

/// The state of a key that is otherwise in the state `own`: an active key whose end of life has come is expired, and
/// one whose quota is used up is exhausted.
pub(crate) fn status_of(key: &ChildKey, own: KeyStatus, now: DateTime<Utc>) -> KeyStatus {
    settled(own, key.expires_at, is_used_up(key.quota_limit, key.quota_used), now)
}

/// The same for a key that is not there yet.
pub(crate) fn status_of_new(key: &NewChildKey, now: DateTime<Utc>) -> KeyStatus {
    settled(key.status, key.expires_at, is_used_up(key.quota_limit, key.quota_used), now)
}

fn settled(own: KeyStatus, expires_at: Option<DateTime<Utc>>, is_used_up: bool, now: DateTime<Utc>) -> KeyStatus {
    let is_over = expires_at.is_some_and(|end| end <= now);
    match own {
        KeyStatus::Active | KeyStatus::Exhausted if is_over => KeyStatus::Expired,
        KeyStatus::Active if is_used_up => KeyStatus::Exhausted,
        other => other,
    }
}

/// Whether nothing is left of a quota.
pub(crate) fn is_used_up(limit: Option<u64>, used: u64) -> bool {
    limit.is_some_and(|limit| used >= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_quota_starts_anew_at_the_next_boundary() {
        use QuotaReset::{Daily, Monthly, Weekly};
        let cases = [
            (Daily, "2026-03-05T23:59:59.999999Z", "2026-03-06"),
            (Daily, "2026-03-06T00:00:00Z", "2026-03-07"),
            (Daily, "2028-02-28T12:00:00Z", "2028-02-29"),
            (Daily, "2026-02-28T12:00:00Z", "2026-03-01"),
            (Daily, "2026-12-31T12:00:00Z", "2027-01-01"),
            // 2026-03-02 is a Monday.
            (Weekly, "2026-03-02T00:00:00Z", "2026-03-09"),
            (Weekly, "2026-03-01T23:59:59Z", "2026-03-02"),
            (Weekly, "2026-03-04T08:00:00Z", "2026-03-09"),
            (Weekly, "2028-02-24T08:00:00Z", "2028-02-28"),
            (Weekly, "2028-02-29T08:00:00Z", "2028-03-06"),
            (Weekly, "2026-12-31T08:00:00Z", "2027-01-04"),
            (Monthly, "2026-01-31T23:00:00Z", "2026-02-01"),
            (Monthly, "2026-02-01T00:00:00Z", "2026-03-01"),
            (Monthly, "2028-02-29T12:00:00Z", "2028-03-01"),
            (Monthly, "2026-12-31T12:00:00Z", "2027-01-01"),
        ];
        for (reset, now, expected) in cases {
            let expected = time(&format!("{expected}T00:00:00Z"));
            assert_eq!(next_reset(reset, time(now)), Some(expected), "{reset} after {now}");
        }
        assert_eq!(next_reset(QuotaReset::None, time("2026-03-05T12:00:00Z")), None);
        assert_eq!(next_reset(Daily, DateTime::<Utc>::MAX_UTC), None, "there is no day after the last one");
    }

    #[test]
    fn a_quota_is_used_up_when_nothing_is_left() {
        let cases = [(None, u64::MAX, false), (Some(0), 0, true), (Some(5), 4, false), (Some(5), 5, true)];
        for (limit, used, expected) in cases {
            assert_eq!(is_used_up(limit, used), expected, "{used} of {limit:?}");
        }
    }
}
