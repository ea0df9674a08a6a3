//! Which limits apply to a call: from the snapshots of its key and master to figures, windows and amounts.

use chrono::{DateTime, Utc};
use ez_contract::snapshot::{Limits, MasterSnapshot, TokenSnapshot};

use super::demand::Demand;
use super::limit::{Limit, month_of, next_month_at};
use crate::pricing::nanos_of_text;

/// One limit as it applies to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) limit: Limit,
    /// What the limit is.
    pub(super) figure: u64,
    /// What the call reserves of it.
    pub(super) amount: u64,
    /// Which window it is.
    pub(super) period: i64,
    /// When the window ends, Unix seconds.
    pub(super) resets_at: Option<i64>,
    /// What the control plane counted in this window.
    pub(super) ledger: u64,
}

impl Rule {
    /// Whether its window is over.
    pub(super) fn has_ended(&self, now_ms: i64) -> bool {
        self.resets_at.is_some_and(|at| at <= now_ms.div_euclid(1_000))
    }
}

/// The limits of a key or of a master that apply to a call.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rules {
    rules: [Option<Rule>; Limit::COUNT],
    len: usize,
}

impl Rules {
    pub(super) fn of_token(token: &TokenSnapshot, demand: &Demand, now: DateTime<Utc>) -> Self {
        let mut rules = Self::of_limits(&token.limits, demand, now);
        if let Some(quota) = &token.quota {
            rules.push(Rule {
                limit: Limit::Quota,
                figure: quota.limit,
                amount: demand.tokens,
                period: quota.reset_at.unwrap_or_default(),
                resets_at: quota.reset_at,
                ledger: quota.used,
            });
        }
        rules
    }

    pub(super) fn of_master(master: &MasterSnapshot, demand: &Demand, now: DateTime<Utc>) -> Self {
        let mut rules = Self::of_limits(&master.limits, demand, now);
        // A budget that cannot be read was written by a newer control plane; it is not for a gateway to guess.
        if let Some(figure) = master.monthly_budget.as_deref().and_then(nanos_of_text) {
            let mut months = [&master.spend, &master.spend_before].into_iter().flatten();
            let spend = months.find(|spend| spend.month == month_name(now));
            rules.push(Rule {
                limit: Limit::Budget,
                figure,
                amount: demand.nanos,
                period: month_of(now),
                resets_at: next_month_at(now),
                ledger: spend.and_then(|spend| nanos_of_text(&spend.amount)).unwrap_or_default(),
            });
        }
        rules
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules[..self.len].iter().flatten()
    }

    fn of_limits(limits: &Limits, demand: &Demand, now: DateTime<Utc>) -> Self {
        let mut rules = Self::default();
        let counts = [
            (Limit::Qps, limits.qps.map(u64::from), 1),
            (Limit::Rpm, limits.rpm, 1),
            (Limit::Rpd, limits.rpd, 1),
            (Limit::Tpm, limits.tpm, demand.tokens),
            (Limit::Tpd, limits.tpd, demand.tokens),
            (Limit::Concurrency, limits.concurrency.map(u64::from), 1),
        ];
        for (limit, figure, amount) in counts {
            let Some(figure) = figure else { continue };
            let window = limit.window_seconds();
            let period = window.map_or(0, |seconds| now.timestamp().div_euclid(seconds));
            let resets_at = window.map(|seconds| (period + 1) * seconds);
            // An estimate beyond the whole limit counts as the whole: the truth may be less, and it could never be met.
            let amount = amount.min(figure.max(1));
            rules.push(Rule { limit, figure, amount, period, resets_at, ledger: 0 });
        }
        rules
    }

    fn push(&mut self, rule: Rule) {
        self.rules[self.len] = Some(rule);
        self.len += 1;
    }
}

/// As the control plane writes months.
fn month_name(now: DateTime<Utc>) -> MonthName {
    MonthName(now)
}

/// Compares without writing the month out.
struct MonthName(DateTime<Utc>);

impl PartialEq<MonthName> for String {
    fn eq(&self, other: &MonthName) -> bool {
        use chrono::Datelike;
        let parsed = self.split_once('-').and_then(|(year, month)| Some((year.parse().ok()?, month.parse().ok()?)));
        parsed == Some((other.0.year(), other.0.month()))
    }
}
