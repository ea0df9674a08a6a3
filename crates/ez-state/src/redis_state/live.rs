//! Live figures in Redis: a hash, a field for each run of a gateway, and beside it when each of them ends, so that whoever tells
//! of its own reads nothing of what the others told. Reading all of them is one command on two keys, whatever else Redis
//! holds.

use std::sync::LazyLock;
use std::time::Duration;

use ez_contract::live::LiveReport;
use redis::Script;

use super::counters::milliseconds;
use super::{RedisState, entries};
use crate::StateError;

/// KEYS: live figures, their ends. ARGV: run, milliseconds, report as JSON. What has passed goes; both keys end with the
/// last run. Returns how many runs there are.
static REPORT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        for _, run in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))) do
            redis.call('HDEL', KEYS[1], run)
            redis.call('ZREM', KEYS[2], run)
        end
        redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
        redis.call('ZADD', KEYS[2], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
        local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
        local left = string.format('%.0f', tonumber(last[2]) - now)
        redis.call('PEXPIRE', KEYS[1], left)
        redis.call('PEXPIRE', KEYS[2], left)
        return redis.call('ZCARD', KEYS[2])
        ",
    )
});

/// KEYS: live figures, their ends. ARGV: run. Returns whether it was there.
static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        redis.call('HDEL', KEYS[1], ARGV[1])
        return redis.call('ZREM', KEYS[2], ARGV[1])
        ",
    )
});

/// KEYS: live figures, their ends. Returns the reports that have not passed, by run.
static LIST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local runs = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. string.format('%.0f', now), '+inf')
        table.sort(runs)
        local reports = {}
        for _, run in ipairs(runs) do
            local report = redis.call('HGET', KEYS[1], run)
            if report then reports[#reports + 1] = report end
        end
        return reports
        ",
    )
});

impl RedisState {
    pub(crate) async fn report_live(&self, run: &str, report: &LiveReport, ttl: Duration) -> Result<(), StateError> {
        let mut call = REPORT.prepare_invoke();
        call.key(self.layout().live()).key(self.layout().live_ends());
        call.arg(run).arg(milliseconds(ttl)).arg(entries::json(report)?);
        self.link().call::<u64>(&call).await.map(drop)
    }

    pub(crate) async fn remove_live(&self, run: &str) -> Result<(), StateError> {
        let mut call = REMOVE.prepare_invoke();
        call.key(self.layout().live()).key(self.layout().live_ends()).arg(run);
        self.link().call::<u64>(&call).await.map(drop)
    }

    pub(crate) async fn list_live(&self) -> Result<Vec<LiveReport>, StateError> {
        let mut call = LIST.prepare_invoke();
        call.key(self.layout().live()).key(self.layout().live_ends());
        let reports: Vec<Vec<u8>> = self.link().call(&call).await?;
        let parsed = reports.iter().filter_map(|report| {
            serde_json::from_slice(report)
                .inspect_err(|error| tracing::warn!(%error, "live figures do not parse; they are left out"))
                .ok()
        });
        Ok(parsed.collect())
    }
}
