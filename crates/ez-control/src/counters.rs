//! Counters: shown at 0 from the start, so that an alert on an increase sees the first. Those that requests label come with
//! the first request of their kind.

use ez_contract::alerts::{AlertSeverity, AlertType};
use ez_telemetry::metrics::{
    ALERTS_RAISED, JOB_RUNS, LOG_QUEUE_REFUSALS, LOG_RECORDS, SIGN_IN_FAILURES, SNAPSHOT_REPAIRS, WEBHOOK_DELIVERIES,
};
use metrics::counter;

use crate::publisher::Drift;
use crate::scheduler::{JobOutcome, jobs};
use crate::sign_in::DOORS;

/// Shows every counter whose labels are known before there is anything to count. What has been counted already stays.
pub(crate) fn show() {
    counter!(LOG_QUEUE_REFUSALS).increment(0);
    for (name, label, words) in [
        (LOG_RECORDS, "outcome", &["accepted", "duplicate", "rejected"][..]),
        (SIGN_IN_FAILURES, "door", &DOORS),
        (WEBHOOK_DELIVERIES, "outcome", &["delivered", "retried", "failed", "dropped"]),
    ] {
        for word in words {
            counter!(name, label => *word).increment(0);
        }
    }
    for drift in Drift::ALL {
        counter!(SNAPSHOT_REPAIRS, "drift" => drift.as_str()).increment(0);
    }
    for job in jobs() {
        for outcome in JobOutcome::ALL {
            counter!(JOB_RUNS, "job" => job.name(), "outcome" => outcome.as_str()).increment(0);
        }
    }
    for alert_type in AlertType::ALL {
        for severity in AlertSeverity::ALL {
            counter!(ALERTS_RAISED, "type" => alert_type.as_str(), "severity" => severity.as_str()).increment(0);
        }
    }
}
