//! What a caller hears whose call does not fit into a limit.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_protocol::error::FaultKind;
use http::StatusCode;

use super::limit::{Limit, Scope};
use super::reservation::{RateHeaders, duration_text, seconds_until};
use super::rules::Rule;
use crate::pricing::text_of_nanos;
use crate::refusal::Refusal;

/// The time after which slots may have come free.
const SLOT_RETRY: Duration = Duration::from_secs(1);

/// A call that does not fit into a limit.
#[derive(Debug)]
pub(crate) struct Limited {
    pub(crate) refusal: Refusal,
    /// What the client hears of its limits besides.
    pub(crate) rate: RateHeaders,
}

/// The refusal: which limit, whose, its figure, and when it starts anew.
pub(super) fn refused(scope: Scope, rule: &Rule, left: u64, now: DateTime<Utc>) -> Refusal {
    let whose = match scope {
        Scope::Key => "of this API key (scope key)",
        Scope::Master => "of the account that this API key belongs to (scope master)",
    };
    let name = rule.limit.as_str();
    let figure = rule.figure;
    let resets_in = rule.resets_at.map(|at| seconds_until(Some(at), now));
    let resets =
        resets_in.map_or_else(String::new, |seconds| format!("; it starts anew in {}", duration_text(seconds)));
    let calls = |window: &str| format!("the limit `{name}` {whose} of {figure} calls per {window} is reached{resets}");
    let tokens = |window: &str| {
        let amount = rule.amount;
        format!(
            "the limit `{name}` {whose} of {figure} tokens per {window} leaves {left}, and this call may need \
             {amount}{resets}"
        )
    };
    let message = match rule.limit {
        Limit::Qps => calls("second"),
        Limit::Rpm => calls("minute"),
        Limit::Rpd => calls("day"),
        Limit::Tpm => tokens("minute"),
        Limit::Tpd => tokens("day"),
        Limit::Concurrency => {
            format!("the limit `{name}` {whose} of {figure} calls at once is reached: wait for one of them to end")
        }
        Limit::Quota => format!("the quota {whose} of {figure} tokens is used up{resets}: ask for a higher one"),
        Limit::Budget => {
            let dollars = text_of_nanos(figure);
            format!("the monthly budget {whose} of {dollars} US dollars is used up{resets}: ask for a higher one")
        }
    };
    let code = match rule.limit {
        Limit::Qps | Limit::Rpm | Limit::Rpd | Limit::Tpm | Limit::Tpd => "rate_limit_exceeded",
        Limit::Concurrency => "concurrency_exceeded",
        Limit::Quota => "insufficient_quota",
        Limit::Budget => "budget_exceeded",
    };
    let mut refusal = Refusal::limited(StatusCode::TOO_MANY_REQUESTS, FaultKind::RateLimit, code, message);
    refusal.retry_after = match rule.limit {
        Limit::Concurrency => Some(SLOT_RETRY),
        _ => resets_in.map(Duration::from_secs),
    };
    refusal
}
