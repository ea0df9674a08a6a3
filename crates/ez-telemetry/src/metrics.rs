//! Metrics in Prometheus' text exposition, and the one list of their names.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Answers of the gateway, whoever asked. Labels: `protocol`, `status` (its class, such as `2xx`).
pub const GATEWAY_CALLS: &str = "ez_gateway_calls_total";
/// Calls of known keys that have ended. Labels: `protocol`, `operation`, `status` (its class), `ended_by`.
pub const GATEWAY_REQUESTS: &str = "ez_gateway_requests_total";
/// Tokens of calls. Labels: `protocol`, `operation`, `direction` (`input`, `output`, and of these `cache_read`,
/// `cache_write`, `reasoning`).
pub const GATEWAY_TOKENS: &str = "ez_gateway_tokens_total";
/// Arrival to the last byte of calls that reached an upstream, seconds. Labels: `protocol`, `operation`.
pub const GATEWAY_CALL_SECONDS: &str = "ez_gateway_call_duration_seconds";
/// Arrival to the first byte of the answer's body, seconds. Labels: `protocol`, `operation`.
pub const GATEWAY_FIRST_BYTE_SECONDS: &str = "ez_gateway_first_byte_seconds";
/// Time from the first byte of a stream to its end for each output token but the first, seconds. Labels: `protocol`,
/// `operation`.
pub const GATEWAY_OUTPUT_TOKEN_SECONDS: &str = "ez_gateway_output_token_seconds";
/// Spans that were dropped: the collector did not take them, or too many waited for it.
pub const SPANS_DROPPED: &str = "ez_spans_dropped_total";
/// Calls refused because nobody knows the key. They leave no usage record.
pub const GATEWAY_UNKNOWN_KEYS: &str = "ez_gateway_unknown_keys_total";
/// Attempts made at upstreams. Labels: `provider_type`, `outcome` (`delivered`, also of errors of the caller's making;
/// `failed`, so that another may do better; `refused`, as none would).
pub const GATEWAY_ATTEMPTS: &str = "ez_gateway_attempts_total";
/// Upstream credentials that calls are kept away from, in part or at all. Label: `state` (`banned`, `cooling`, `open` and
/// `half_open` of circuit breakers); one may be in several.
pub const UPSTREAM_HEALTH: &str = "ez_upstream_health";
/// What calls found of upstream credentials. Label: `kind` (`ban`, `cooldown`, `breaker`).
pub const UPSTREAM_FINDINGS: &str = "ez_upstream_findings_total";
/// Calls that wait for a slot of an upstream credential.
pub const UPSTREAM_WAITING: &str = "ez_upstream_waiting";
/// Calls in flight.
pub const GATEWAY_IN_FLIGHT: &str = "ez_gateway_in_flight";
/// Calls refused by a limit. Labels: `limit`, `scope`.
pub const LIMIT_REFUSALS: &str = "ez_limit_refusals_total";
/// Calls that waited for a slice of a limit that gateways share.
pub const LIMIT_WAITS: &str = "ez_limit_waits_total";
/// Round trips for slices of limits that gateways share. Label: `outcome`.
pub const LIMIT_LEASES: &str = "ez_limit_leases_total";
/// Calls whose limits a gateway judged by its own part of them, because Redis did not answer in time.
pub const LIMIT_ALONE_CALLS: &str = "ez_limit_alone_calls_total";
/// 1 while limits cannot be shared with other gateways, so that each allows its equal part.
pub const LIMITS_ALONE: &str = "ez_limits_alone";
/// Connections open, as of the newest one. Label: `listener`.
pub const CONNECTIONS: &str = "ez_connections";
/// Connections refused because a listener had as many as it may. Label: `listener`.
pub const CONNECTIONS_REFUSED: &str = "ez_connections_refused_total";
/// Usage records on disk that the control plane has not taken yet.
pub const USAGE_LOG_DEPTH: &str = "ez_usage_log_depth";
/// Bytes of the usage log on disk.
pub const USAGE_LOG_BYTES: &str = "ez_usage_log_bytes";
/// Age of the oldest usage record that the control plane has not taken yet, seconds.
pub const USAGE_LOG_OLDEST: &str = "ez_usage_log_oldest_seconds";
/// Usage records held in memory because the disk refused them.
pub const USAGE_LOG_HELD: &str = "ez_usage_log_held";
/// 1 while the disk of the usage log refuses records, and calls are refused for it.
pub const USAGE_LOG_FAILING: &str = "ez_usage_log_failing";
/// Writes of usage records that the disk refused.
pub const USAGE_LOG_WRITE_FAILURES: &str = "ez_usage_log_write_failures_total";
/// Usage records that nothing could store: each is an error in the log.
pub const USAGE_LOG_LOST: &str = "ez_usage_log_lost_total";
/// Calls refused before anything was spent on them that left no usage record, because the log had no room for it.
pub const USAGE_LOG_UNRECORDED: &str = "ez_usage_log_unrecorded_refusals_total";
/// Usage records that the control plane will never take; they are kept in `rejected.jsonl`.
pub const USAGE_LOG_REJECTED: &str = "ez_usage_log_rejected_total";
/// Damage met in the usage log.
pub const USAGE_LOG_DAMAGE: &str = "ez_usage_log_damage_total";
/// Damaged segments of the usage log that are kept for someone to look into.
pub const USAGE_LOG_DAMAGED_SEGMENTS: &str = "ez_usage_log_damaged_segments";
/// Bytes of the damaged segments that are kept.
pub const USAGE_LOG_DAMAGED_BYTES: &str = "ez_usage_log_damaged_bytes";
/// Snapshot version that the gateway serves from.
pub const SNAPSHOT_VERSION: &str = "ez_snapshot_version";
/// Time since the shared state last confirmed the snapshot that the gateway serves from, seconds.
pub const SNAPSHOT_AGE: &str = "ez_snapshot_age_seconds";
/// 1 while the gateway serves from the snapshot saved on its disk, because it has not reached the shared state yet.
pub const SNAPSHOT_FROM_DISK: &str = "ez_snapshot_from_disk";
/// Answers of the control plane. Labels: `route` (its pattern; `unmatched` where there is none), `method`, `status` (its
/// class).
pub const CONTROL_REQUESTS: &str = "ez_control_requests_total";
/// Arrival to the head of the answer, seconds. Labels: `route`, `method`.
pub const CONTROL_REQUEST_SECONDS: &str = "ez_control_request_duration_seconds";
/// Attempts to sign in with what nobody has. Label: `door` (`sign-in` of people, `internal` of gateways).
pub const SIGN_IN_FAILURES: &str = "ez_sign_in_failures_total";
/// 1 while the database answers. Looked at when metrics are read, as is what follows.
pub const DATABASE_UP: &str = "ez_database_up";
/// 1 while the shared state answers.
pub const SHARED_STATE_UP: &str = "ez_shared_state_up";
/// Committed changes that are not published yet, as of the last time that the database answered.
pub const OUTBOX_DEPTH: &str = "ez_outbox_depth";
/// Age of the oldest of them, seconds.
pub const OUTBOX_OLDEST: &str = "ez_outbox_oldest_seconds";
/// Version of the published snapshot, as of the last time that the shared state answered.
pub const PUBLISHED_VERSION: &str = "ez_published_snapshot_version";
/// Gateways that were heard of lately, as of then.
pub const GATEWAYS_SEEN: &str = "ez_gateways_seen";
/// Usage records that gateways handed in. Label: `outcome` (`accepted`, `duplicate` of those that were there already,
/// `rejected` of those that will never be taken).
pub const LOG_RECORDS: &str = "ez_log_records_total";
/// How long it took to store what was handed in together, seconds.
pub const LOG_BATCH_SECONDS: &str = "ez_log_batch_duration_seconds";
/// Usage records that wait to be stored, beside those that are being stored.
pub const LOG_QUEUE: &str = "ez_log_queue_records";
/// Batches of gateways that were refused because too many records waited. They are handed in again.
pub const LOG_QUEUE_REFUSALS: &str = "ez_log_queue_refusals_total";
/// Answers of the control plane that go on for as long as somebody watches (server-sent events).
pub const CONTROL_EVENT_STREAMS: &str = "ez_control_event_streams";
/// Runs of the control plane's jobs. Labels: `job`, `outcome`.
pub const JOB_RUNS: &str = "ez_job_runs_total";
/// How long the last run of a job took, seconds. Label: `job`.
pub const JOB_DURATION: &str = "ez_job_last_duration_seconds";
/// Attempts to deliver an event to the webhook. Label: `outcome` (`delivered`; `retried`, so that there is another; `failed`,
/// so that there is none; `dropped`, events that waited too long or among too many).
pub const WEBHOOK_DELIVERIES: &str = "ez_webhook_deliveries_total";
/// Alerts that came to be or became worse. Labels: `type`, `severity`.
pub const ALERTS_RAISED: &str = "ez_alerts_raised_total";
/// Entries of the published snapshot that were not as they should be and were repaired. Label: `drift`.
pub const SNAPSHOT_REPAIRS: &str = "ez_snapshot_repairs_total";

/// Renders the process's metrics.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// The recorder could not be installed.
#[derive(Debug, thiserror::Error)]
#[error("metrics are already set up")]
pub struct MetricsAlreadySet;

impl Metrics {
    /// Installs the process-wide recorder.
    pub fn install() -> Result<Self, MetricsAlreadySet> {
        builder().install_recorder().map(Self).map_err(|_| MetricsAlreadySet)
    }

    /// A recorder of its own that nothing writes to, for tests that build several applications in one process.
    pub fn detached() -> Self {
        Self(builder().build_recorder().handle())
    }

    /// Folds what histograms have gathered since into their buckets. To be done every few seconds: they keep every value
    /// until then.
    pub fn keep_up(&self) {
        self.0.run_upkeep();
    }

    /// The text exposition.
    pub fn render(&self) -> String {
        self.0.run_upkeep();
        self.0.render()
    }
}

/// Buckets of whole calls and of first bytes, seconds.
const CALL_BUCKETS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// Buckets of the control plane's work, seconds.
const CONTROL_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Buckets of the time of one output token, seconds.
const TOKEN_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0];

fn builder() -> PrometheusBuilder {
    let buckets = [
        (GATEWAY_CALL_SECONDS, CALL_BUCKETS),
        (GATEWAY_FIRST_BYTE_SECONDS, CALL_BUCKETS),
        (GATEWAY_OUTPUT_TOKEN_SECONDS, TOKEN_BUCKETS),
        (CONTROL_REQUEST_SECONDS, CONTROL_BUCKETS),
        (LOG_BATCH_SECONDS, CONTROL_BUCKETS),
    ];
    buckets.into_iter().fold(PrometheusBuilder::new(), |builder, (name, buckets)| {
        // Only an empty list is refused.
        builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_is_documented_and_no_other() {
        let source = include_str!("metrics.rs");
        let constants = source.lines().filter(|line| line.starts_with("pub const "));
        let names: Vec<&str> = constants.filter_map(|line| line.split('"').nth(1)).collect();
        let known: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(known.len(), names.len(), "two metrics of one name");
        let page = include_str!("../../../docs/metrics.md");
        let rows = page.lines().filter(|line| line.starts_with("| `ez_"));
        let documented: BTreeSet<&str> = rows
            .filter_map(|row| row.split('`').nth(1))
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
            .collect();
        assert_eq!(documented, known, "docs/metrics.md has a row for each metric");
    }

    #[test]
    fn histograms_are_rendered_in_buckets() {
        let recorder = builder().build_recorder();
        let metrics = Metrics(recorder.handle());
        metrics::with_local_recorder(&recorder, || {
            for name in
                [GATEWAY_CALL_SECONDS, GATEWAY_FIRST_BYTE_SECONDS, GATEWAY_OUTPUT_TOKEN_SECONDS, LOG_BATCH_SECONDS]
            {
                metrics::histogram!(name).record(0.02);
            }
        });
        metrics.keep_up();
        let text = metrics.render();
        for line in [
            r#"ez_gateway_call_duration_seconds_bucket{le="0.025"} 1"#,
            r#"ez_gateway_first_byte_seconds_bucket{le="0.01"} 0"#,
            r#"ez_gateway_output_token_seconds_bucket{le="0.02"} 1"#,
            r#"ez_log_batch_duration_seconds_bucket{le="0.01"} 0"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
