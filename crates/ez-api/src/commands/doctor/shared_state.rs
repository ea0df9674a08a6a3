//! Redis and what is published in it: reachable, writable, the snapshot settled and no older than the database.

use std::time::Duration;

use ez_contract::{Clock, can_read_contract};
use ez_control::Control;
use ez_control::sync::{self, SyncStatus};
use ez_state::SharedState;

use super::host::report_skew;
use super::report::Report;
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::serve::open_state;

const REDIS: &str = "redis";
const SNAPSHOT: &str = "snapshot";
const GATEWAYS: &str = "gateways";

/// How long the counter that probes a write lives.
const PROBE_WINDOW: Duration = Duration::from_secs(5);

/// Changes that wait longer than this have nobody who publishes them.
const MAX_OUTBOX_AGE: Duration = Duration::from_secs(30);

/// The shared state. Where Redis cannot be used that is told, and the rest is looked at without it.
pub(super) async fn examine(settings: &Settings, report: &mut Report) -> SharedState {
    let state = match open_state(settings).await {
        Ok(state) => state,
        Err(error) => {
            report.fail(REDIS, format!("{error:#}"), "write EZ_REDIS_URL as redis://[user:password@]host[:port]");
            return SharedState::in_process();
        }
    };
    let asked_at = SystemClock.now();
    match state.server_facts().await {
        Ok(None) => report.ok(REDIS, "is not used: state is kept within the one process"),
        Ok(Some(facts)) => {
            report.ok(REDIS, format!("version {} answers", facts.version));
            report_skew("Redis", asked_at, facts.now, SystemClock.now(), report);
            match state.increment("doctor", PROBE_WINDOW).await {
                Ok(_) => report.ok(REDIS, format!("it takes writes with the prefix `{}`", settings.redis_prefix)),
                Err(error) => {
                    let advice = "check the rights of its user for this prefix, its memory, and that it is no replica";
                    report.fail(REDIS, format!("it takes no writes: {error}"), advice);
                }
            }
        }
        Err(error) => report.fail(REDIS, error, "start it, or correct EZ_REDIS_URL; gateways serve on meanwhile"),
    }
    state
}

/// How far what is published is behind the database, and who follows it.
pub(super) async fn examine_publication(control: &Control, shares_state: bool, report: &mut Report) {
    let status = match sync::status(control).await {
        Ok(status) => status,
        Err(error) => return report.fail(SNAPSHOT, format!("its state cannot be read: {error}"), "see the database"),
    };
    examine_outbox(&status, report);
    if !shares_state {
        return report.ok(SNAPSHOT, "it lives in the process that serves; `GET /readyz` tells whether it is applied");
    }
    let Some(snapshot) = &status.snapshot else {
        let reason = status.state_error.unwrap_or_default();
        return report.fail(SNAPSHOT, format!("it cannot be read: {reason}"), "see the lines about redis");
    };
    let version = snapshot.version;
    if version == 0 {
        report.warn(SNAPSHOT, "nothing was published yet", "start a control plane: `ez-api serve --role control`");
    } else if !can_read_contract(&snapshot.contract_version) {
        let told = format!("it is written under contract {}, which this build cannot read", snapshot.contract_version);
        report.fail(SNAPSHOT, told, "update ez-api here");
    } else if !snapshot.is_settled() {
        let told = format!("version {version} stands and {} is being written", snapshot.pending);
        report.warn(SNAPSHOT, told, "ask again; where it stays so, see the control plane's log");
    } else {
        let age = status.age.unwrap_or_default().as_secs();
        report.ok(SNAPSHOT, format!("version {version}, published {age} s ago by {}", snapshot.publisher));
    }
    if status.gateways.is_empty() {
        report.warn(GATEWAYS, "none was heard of lately", "start one: `ez-api serve --role gateway`");
    }
    for gateway in &status.gateways {
        let (id, at, depth) = (&gateway.node_id, gateway.snapshot_version, gateway.usage_log_depth);
        let told = format!("{id} ({}) serves version {at}, {depth} usage records wait", gateway.version);
        match at < version {
            true => {
                report.warn(GATEWAYS, format!("{told}; {version} stands"), "ask again; where it stays so, see its log")
            }
            false => report.ok(GATEWAYS, told),
        }
    }
}

fn examine_outbox(status: &SyncStatus, report: &mut Report) {
    let (depth, age) = (status.outbox_depth, status.oldest_entry_age.unwrap_or_default());
    if age > MAX_OUTBOX_AGE {
        let told = format!("{depth} changes wait to be published, the oldest for {} s", age.as_secs());
        report.warn(SNAPSHOT, told, "start a control plane, or see its log for why it cannot publish");
    } else {
        report.ok(SNAPSHOT, format!("{depth} changes wait to be published"));
    }
}
