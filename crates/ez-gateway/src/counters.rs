//! Counters: shown at 0 from the start, so that an alert on an increase sees the first. Those that calls label come with the
//! first call of their kind; spans, connections and leases of limits have handles of their own from the start.

use ez_telemetry::metrics::{
    GATEWAY_UNKNOWN_KEYS, LIMIT_REFUSALS, LIMIT_WAITS, UPSTREAM_FINDINGS, USAGE_LOG_DAMAGE, USAGE_LOG_LOST,
    USAGE_LOG_REJECTED, USAGE_LOG_UNRECORDED, USAGE_LOG_WRITE_FAILURES,
};
use metrics::counter;

use crate::limits::{Limit, Scope};

/// Shows every counter whose labels are known before the first call. What has been counted already stays.
pub(crate) fn show() {
    for name in [
        GATEWAY_UNKNOWN_KEYS,
        LIMIT_WAITS,
        USAGE_LOG_DAMAGE,
        USAGE_LOG_LOST,
        USAGE_LOG_REJECTED,
        USAGE_LOG_UNRECORDED,
        USAGE_LOG_WRITE_FAILURES,
    ] {
        counter!(name).increment(0);
    }
    for kind in ["ban", "cooldown", "breaker"] {
        counter!(UPSTREAM_FINDINGS, "kind" => kind).increment(0);
    }
    for limit in Limit::ALL {
        for scope in [Scope::Key, Scope::Master] {
            counter!(LIMIT_REFUSALS, "limit" => limit.as_str(), "scope" => scope.as_str()).increment(0);
        }
    }
}
