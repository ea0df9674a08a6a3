//! Vendors' limits: how long a credential must pause after a refusal, from the headers and the body of whichever vendor
//! refused, and what the pause is for.

use std::time::Duration;

use chrono::{DateTime, Utc};
use memchr::memmem;
use serde_json::Value;

use crate::answer::VendorError;
use crate::scan;

/// What a refusal says about the time to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VendorLimit {
    /// How long to pause, 1 s to 1 h; `None` where the vendor does not say.
    pub pause: Option<Duration>,
    /// What must pause.
    pub scope: LimitScope,
}

/// What a vendor's limit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitScope {
    /// This model with this credential; other models have limits of their own.
    Model,
    /// Everything that this credential calls (an account's allowance for all models).
    Account,
    /// The account has no money or no quota left: time alone mends nothing.
    Funds,
}

const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Headers that count down: how much is left, and when there is more again.
const COUNTERS: &[(&str, &str)] = &[
    // OpenAI, Azure, Groq.
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    // Cerebras.
    ("x-ratelimit-remaining-requests-day", "x-ratelimit-reset-requests-day"),
    ("x-ratelimit-remaining-tokens-minute", "x-ratelimit-reset-tokens-minute"),
    // OpenRouter, Mistral.
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
    // Anthropic.
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
];

/// Words of a `type`, `code` or reason that tell of an account without money or quota. OpenAI: `insufficient_quota`,
/// `billing_hard_limit_reached`; Anthropic: `billing_error`; Google: `BILLING_DISABLED`; others: `insufficient_balance`.
const FUNDS_WORDS: &[&str] =
    &["insufficient_quota", "billing", "insufficient_balance", "insufficient_credit", "payment"];
/// What Anthropic says of an empty account, in an `invalid_request_error`.
const FUNDS_MESSAGE: &str = "credit balance is too low";

/// Reads a refusal. `header` gives a header's value by its lower-case name. The order: what the vendor asks for outright
/// (`retry-after-ms`, `retry-after`, Google's `RetryInfo`), else the latest reset of the counters that are at zero.
pub fn read_limit<'h>(
    header: impl Fn(&'static str) -> Option<&'h str>,
    body: &[u8],
    error: Option<&VendorError>,
    now: DateTime<Utc>,
) -> VendorLimit {
    let is_account_wide =
        header("anthropic-ratelimit-unified-status").is_some_and(|status| status.trim() == "rejected");
    let scope = if error.is_some_and(tells_of_funds) {
        LimitScope::Funds
    } else if is_account_wide {
        LimitScope::Account
    } else {
        LimitScope::Model
    };
    let asked = header("retry-after-ms")
        .and_then(|value| seconds(value).map(|ms| ms / 1e3))
        .or_else(|| header("retry-after").and_then(|value| until(value, now)))
        .or_else(|| retry_info(body));
    let pause = asked.or_else(|| {
        if is_account_wide {
            return header("anthropic-ratelimit-unified-reset").and_then(|value| until(value, now));
        }
        let exhausted = COUNTERS.iter().filter(|(remaining, _)| header(remaining).and_then(seconds) == Some(0.0));
        exhausted.filter_map(|(_, reset)| until(header(reset)?, now)).reduce(f64::max)
    });
    VendorLimit { pause: pause.map(bounded), scope }
}

fn tells_of_funds(error: &VendorError) -> bool {
    let words = [error.kind.as_deref(), error.code.as_deref(), error.reason.as_deref()];
    let says = |word: &str| FUNDS_WORDS.iter().any(|needle| word.to_ascii_lowercase().contains(needle));
    words.into_iter().flatten().any(says) || error.message.to_ascii_lowercase().contains(FUNDS_MESSAGE)
}

fn bounded(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(MIN_PAUSE.as_secs_f64(), MAX_PAUSE.as_secs_f64()))
}

/// A time to come in any of the forms in use: seconds, a duration in Go's words, an instant as epoch seconds or
/// milliseconds, as RFC 3339 or as an HTTP date. Seconds from now; negative where it has passed.
fn until(value: &str, now: DateTime<Utc>) -> Option<f64> {
    /// No duration in seconds is as large as an epoch, and no epoch in seconds as one in milliseconds.
    const SMALLEST_EPOCH: f64 = 1e9;
    const SMALLEST_EPOCH_MS: f64 = 1e11;
    let value = value.trim();
    let now_seconds = now.timestamp_millis() as f64 / 1e3;
    if let Some(number) = seconds(value) {
        return Some(match number {
            ms if ms >= SMALLEST_EPOCH_MS => ms / 1e3 - now_seconds,
            epoch if epoch >= SMALLEST_EPOCH => epoch - now_seconds,
            seconds => seconds,
        });
    }
    if let Some(duration) = go_duration(value) {
        return Some(duration);
    }
    let instant = DateTime::parse_from_rfc3339(value).or_else(|_| DateTime::parse_from_rfc2822(value)).ok()?;
    Some(instant.timestamp_millis() as f64 / 1e3 - now_seconds)
}

/// A plain decimal number that is not negative.
fn seconds(value: &str) -> Option<f64> {
    let value = value.trim();
    let is_plain = value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_plain { value.parse().ok() } else { None }
}

/// A duration as Go writes it: `6m0s`, `1.5s`, `12ms`.
fn go_duration(value: &str) -> Option<f64> {
    let mut rest = value;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        total += number
            * match &after[..unit_end] {
                "ns" => 1e-9,
                "us" | "\u{b5}s" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                "d" => 86_400.0,
                _ => return None,
            };
        rest = &after[unit_end..];
    }
    (!value.is_empty()).then_some(total)
}

/// Google's `RetryInfo.retryDelay`.
fn retry_info(body: &[u8]) -> Option<f64> {
    memmem::find(body, b"retryDelay")?;
    let body = body.trim_ascii();
    let object = match body.first() {
        Some(b'[') => &body[scan::elements(body, 1)?.into_iter().next()?],
        _ => body,
    };
    let parsed = serde_json::from_slice::<Value>(object).ok()?;
    let details = parsed.get("error")?.get("details")?.as_array()?;
    details.iter().find_map(|detail| go_duration(detail.get("retryDelay")?.as_str()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Headers<'h> = &'h [(&'h str, &'h str)];

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn limit(headers: Headers<'_>, body: &str) -> VendorLimit {
        let header = |name: &'static str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let error = crate::vendor_error::vendor_error(body.as_bytes());
        read_limit(header, body.as_bytes(), error.as_ref(), now())
    }

    #[test]
    fn every_vendors_way_to_ask_for_a_pause_is_read() {
        let cases: [(Headers<'_>, &str, Option<f64>); 22] = [
            (&[("retry-after", "7")], "", Some(7.0)),
            (&[("retry-after", " 1.5 ")], "", Some(1.5)),
            (&[("retry-after", "7"), ("retry-after-ms", "2500")], "", Some(2.5)),
            (&[("retry-after", "Fri, 15 Jan 2027 08:00:30 GMT")], "", Some(30.0)),
            (&[("retry-after", "Fri, 15 Jan 2027 07:00:00 GMT")], "", Some(1.0)),
            (&[("retry-after", "0")], "", Some(1.0)),
            (&[("retry-after", "999999")], "", Some(3_600.0)),
            (&[("retry-after", "soon")], "", None),
            (&[("retry-after", "-5")], "", None),
            // OpenAI: only what is exhausted counts.
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "6m0s"),
                    ("x-ratelimit-remaining-tokens", "100"),
                    ("x-ratelimit-reset-tokens", "12h"),
                ],
                "",
                Some(360.0),
            ),
            (&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "12ms")], "", Some(1.0)),
            (&[("x-ratelimit-remaining-tokens", "5"), ("x-ratelimit-reset-tokens", "12s")], "", None),
            // Both are: neither is enough alone.
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "1m2.5s"),
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "3"),
                ],
                "",
                Some(62.5),
            ),
            (&[("x-ratelimit-remaining-requests", "-1"), ("x-ratelimit-reset-requests", "9s")], "", None),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1800000020000")], "", Some(20.0)),
            (
                &[("x-ratelimit-remaining-tokens-minute", "0"), ("x-ratelimit-reset-tokens-minute", "8.25")],
                "",
                Some(8.25),
            ),
            // Anthropic.
            (
                &[
                    ("anthropic-ratelimit-input-tokens-remaining", "0"),
                    ("anthropic-ratelimit-input-tokens-reset", "2027-01-15T08:00:42Z"),
                    ("anthropic-ratelimit-requests-remaining", "49"),
                    ("anthropic-ratelimit-requests-reset", "2027-01-15T08:10:00Z"),
                ],
                "",
                Some(42.0),
            ),
            (
                &[
                    ("anthropic-ratelimit-unified-status", "rejected"),
                    ("anthropic-ratelimit-unified-reset", "1800000100"),
                ],
                "",
                Some(100.0),
            ),
            (
                &[
                    ("anthropic-ratelimit-unified-status", "allowed"),
                    ("anthropic-ratelimit-unified-reset", "1800000100"),
                ],
                "",
                None,
            ),
            // Google.
            (
                &[],
                r#"{"error":{"code":429,"details":[{"@type":"x/QuotaFailure"},{"@type":"x/google.rpc.RetryInfo","retryDelay":"34.07s"}]}}"#,
                Some(34.07),
            ),
            (&[], r#"[{"error":{"details":[{"retryDelay":"7s"}]}}]"#, Some(7.0)),
            (&[], r#"{"error":{"message":"retryDelay"}}"#, None),
        ];
        for (headers, body, expected) in cases {
            let pause = limit(headers, body).pause;
            let close = pause.map(|pause| (pause.as_secs_f64() * 1e3).round());
            assert_eq!(close, expected.map(|seconds| (seconds * 1e3).round()), "{headers:?} {body}");
        }
    }

    #[test]
    fn what_must_pause_is_told() {
        let rejected = [("anthropic-ratelimit-unified-status", "rejected"), ("retry-after", "60")];
        assert_eq!(limit(&rejected, "").scope, LimitScope::Account);
        assert_eq!(
            limit(&[("retry-after", "60")], r#"{"error":{"type":"rate_limit_error"}}"#).scope,
            LimitScope::Model
        );
        let without_funds = [
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            r#"{"type":"error","error":{"type":"billing_error","message":"x"}}"#,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}"#,
            r#"{"error":{"code":403,"status":"PERMISSION_DENIED","message":"x","details":[{"reason":"BILLING_DISABLED"}]}}"#,
        ];
        for body in without_funds {
            assert_eq!(limit(&[], body).scope, LimitScope::Funds, "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_pause_beyond_its_bounds(value in ".{0,30}", number in "[0-9.]{1,400}") {
            for value in [value, format!("{number}s"), number] {
                let headers = [("retry-after", value.as_str())];
                if let Some(pause) = limit(&headers, &value).pause {
                    prop_assert!((MIN_PAUSE..=MAX_PAUSE).contains(&pause));
                }
            }
        }
    }
}
