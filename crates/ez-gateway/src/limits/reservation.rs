//! What a call holds of its limits until it is settled, and what the client hears of them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::leasing::Leasing;
use super::limit::Limit;
use super::rules::Rule;
use super::subject::Subject;

/// What a call used in truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charge {
    /// Tokens, input and output; `None` where nobody knows, so that the estimate stands.
    pub(crate) tokens: Option<u64>,
    /// The tokens that the control plane will count, which knows of no estimate.
    pub(crate) ledger_tokens: u64,
    /// Billionths of a US dollar.
    pub(crate) nanos: u64,
}

/// What a call holds of the limits of its key and its master. Dropped unsettled, its estimates stand.
pub(crate) struct Reservation {
    held: [Option<Held>; 2],
    rate: RateHeaders,
    leasing: Option<Arc<Leasing>>,
}

pub(super) struct Held {
    pub(super) subject: Arc<Subject>,
    pub(super) shares: Shares,
}

/// What was reserved of each limit, and in which window.
pub(super) type Shares = [Option<Share>; Limit::COUNT];

#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) limit: Limit,
    pub(super) period: i64,
    pub(super) amount: u64,
    /// Whether the period had ended by the clock when the call came, though nobody had published a new one.
    pub(super) is_late: bool,
}

/// The tightest of the limits of calls and of those of tokens, as they stand when a call has reserved its part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RateHeaders {
    requests: Option<Tightest>,
    tokens: Option<Tightest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tightest {
    figure: u64,
    remaining: u64,
    resets_in: u64,
}

impl Reservation {
    pub(super) fn new(held: [Option<Held>; 2], rate: RateHeaders, leasing: Option<Arc<Leasing>>) -> Self {
        Self { held, rate, leasing }
    }

    /// What the client hears of its limits.
    pub(crate) fn rate(&self) -> RateHeaders {
        self.rate
    }

    /// Settles to the truth and frees what the call held.
    pub(crate) fn settle(mut self, charge: Charge) {
        self.end(Some(charge));
    }

    fn end(&mut self, charge: Option<Charge>) {
        for held in self.held.iter_mut().filter_map(Option::take) {
            let mut is_wanted_elsewhere = false;
            {
                let mut cells = held.subject.cells();
                for share in held.shares.into_iter().flatten() {
                    let Some(cell) = cells.iter_mut().find(|cell| cell.limit() == share.limit) else { continue };
                    let used = match (share.limit, charge) {
                        (Limit::Qps | Limit::Rpm | Limit::Rpd, _) => continue,
                        (Limit::Concurrency, _) => 0,
                        (_, None) => share.amount,
                        (Limit::Tpm | Limit::Tpd, Some(charge)) => charge.tokens.unwrap_or(share.amount),
                        (Limit::Quota, Some(charge)) => charge.ledger_tokens,
                        (Limit::Budget, Some(charge)) => charge.nanos,
                    };
                    if cell.period() == share.period {
                        cell.settle(share.amount, used);
                    } else if share.limit == Limit::Quota {
                        // The control plane counts a call in the period that it arrived in.
                        cell.settle(0, if share.is_late { used } else { 0 });
                    } else if share.limit.counts_tokens() {
                        // What went beyond the estimate was not held against any window yet.
                        cell.settle(0, used.saturating_sub(share.amount));
                    }
                    if share.limit == Limit::Concurrency && self.leasing.is_some() {
                        is_wanted_elsewhere = cell.yields();
                    }
                }
            }
            if let Some(leasing) = self.leasing.as_ref().filter(|_| is_wanted_elsewhere) {
                leasing.queue(&held.subject);
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl RateHeaders {
    /// Takes a limit into account, with what is left of it.
    pub(super) fn note(&mut self, rule: &Rule, remaining: u64, now: DateTime<Utc>) {
        let place = if rule.limit.counts_calls() {
            &mut self.requests
        } else if rule.limit.counts_tokens() {
            &mut self.tokens
        } else {
            return;
        };
        if place.is_none_or(|tightest| remaining < tightest.remaining) {
            *place = Some(Tightest { figure: rule.figure, remaining, resets_in: seconds_until(rule.resets_at, now) });
        }
    }

    /// Puts `x-ratelimit-limit|remaining|reset-requests|tokens` on an answer, in the words that OpenAI's clients read.
    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        for (tightest, [limit, remaining, reset]) in [(self.requests, &REQUESTS), (self.tokens, &TOKENS)] {
            let Some(tightest) = tightest else { continue };
            headers.insert(limit, HeaderValue::from(tightest.figure));
            headers.insert(remaining, HeaderValue::from(tightest.remaining));
            if let Ok(value) = HeaderValue::try_from(duration_text(tightest.resets_in)) {
                headers.insert(reset, value);
            }
        }
    }
}

/// What vendors call the figure, the rest and the end of a limit.
static REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
static TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// Whole seconds until a time, at least one; 0 where there is no such time.
pub(super) fn seconds_until(at: Option<i64>, now: DateTime<Utc>) -> u64 {
    at.map_or(0, |at| u64::try_from(at - now.timestamp()).unwrap_or_default().max(1))
}

/// A duration as vendors write it: `1s`, `6m0s`, `23h59m59s`.
pub(super) fn duration_text(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}
