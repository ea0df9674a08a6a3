//! The limits by name: what each counts, and in which window.

use std::time::Duration;

use chrono::{DateTime, Datelike, Utc};

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scope {
    Key,
    Master,
}

impl Scope {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Master => "master",
        }
    }
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Limit {
    Qps,
    Rpm,
    Rpd,
    Tpm,
    Tpd,
    Concurrency,
    /// Tokens between two resets.
    Quota,
    /// Billionths of a US dollar in a calendar month.
    Budget,
}

const SECOND: i64 = 1;
const MINUTE: i64 = 60;
const DAY: i64 = 24 * 60 * MINUTE;

impl Limit {
    /// Every limit.
    pub(crate) const ALL: [Self; 8] =
        [Self::Qps, Self::Rpm, Self::Rpd, Self::Tpm, Self::Tpd, Self::Concurrency, Self::Quota, Self::Budget];
    /// How many there are.
    pub(super) const COUNT: usize = Self::ALL.len();

    /// As configuration and metrics name it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Qps => "qps",
            Self::Rpm => "rpm",
            Self::Rpd => "rpd",
            Self::Tpm => "tpm",
            Self::Tpd => "tpd",
            Self::Concurrency => "concurrency",
            Self::Quota => "quota",
            Self::Budget => "budget",
        }
    }

    /// Length of its window, seconds; `None` where it has none of fixed length.
    pub(super) const fn window_seconds(self) -> Option<i64> {
        match self {
            Self::Qps => Some(SECOND),
            Self::Rpm | Self::Tpm => Some(MINUTE),
            Self::Rpd | Self::Tpd => Some(DAY),
            Self::Concurrency | Self::Quota | Self::Budget => None,
        }
    }

    /// Whether it counts calls.
    pub(super) const fn counts_calls(self) -> bool {
        matches!(self, Self::Qps | Self::Rpm | Self::Rpd)
    }

    /// Whether it counts tokens in a window.
    pub(super) const fn counts_tokens(self) -> bool {
        matches!(self, Self::Tpm | Self::Tpd)
    }

    /// Whether the control plane counts it too, from usage records.
    pub(super) const fn has_ledger(self) -> bool {
        matches!(self, Self::Quota | Self::Budget)
    }

    /// How long a gateway counts as alive that does not tell of what it leased. Slices of short windows end with them.
    pub(super) const fn alive_for(self) -> Duration {
        match self {
            Self::Qps => Duration::from_secs(2),
            Self::Rpm | Self::Tpm => Duration::from_secs(61),
            Self::Concurrency => Duration::from_secs(10),
            Self::Rpd | Self::Tpd | Self::Quota | Self::Budget => Duration::from_secs(30),
        }
    }

    /// How long a counter is kept after the last word of it. One that is forgotten begins with the ledger again.
    pub(super) const fn kept_for(self) -> Duration {
        match self {
            Self::Qps => Duration::from_secs(5),
            Self::Rpm | Self::Tpm => Duration::from_secs(130),
            Self::Concurrency => Duration::from_secs(20),
            Self::Rpd | Self::Tpd => Duration::from_secs(25 * 3600),
            Self::Quota | Self::Budget => Duration::from_secs(40 * 24 * 3600),
        }
    }
}

/// The calendar month of a time (UTC), counted from the year 0.
pub(super) fn month_of(now: DateTime<Utc>) -> i64 {
    i64::from(now.year()) * 12 + i64::from(now.month0())
}

/// When the calendar month after this one begins, Unix seconds.
pub(super) fn next_month_at(now: DateTime<Utc>) -> Option<i64> {
    let first = now.date_naive().with_day(1)?.checked_add_months(chrono::Months::new(1))?;
    Some(first.and_time(chrono::NaiveTime::MIN).and_utc().timestamp())
}
