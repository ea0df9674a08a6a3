//! Small shared state that is not the snapshot: leases, counters, heartbeats, notes of jobs.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use ez_contract::snapshot::GatewayHeartbeat;
use redis::Script;

use super::{RedisState, entries};
use crate::{Lease, StateError};

/// KEYS: lease, its last fence. ARGV: holder, milliseconds. Returns the fence, or 0 where another holds it. Fences
/// start from the server's clock, so that they grow even where Redis lost its data.
static ACQUIRE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local holder = redis.call('HGET', KEYS[1], 'holder')
        if holder and holder ~= ARGV[1] then return 0 end
        local fence = tonumber(redis.call('HGET', KEYS[1], 'fence'))
        if not fence then
            local now = redis.call('TIME')
            local last = tonumber(redis.call('GET', KEYS[2])) or 0
            fence = math.max(last + 1, now[1] * 1000 + math.floor(now[2] / 1000))
            local text = string.format('%.0f', fence)
            redis.call('SET', KEYS[2], text)
            redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'fence', text)
        end
        redis.call('PEXPIRE', KEYS[1], ARGV[2])
        return fence
        ",
    )
});

/// KEYS: lease. ARGV: holder, fence. Returns how many leases ended.
static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local held = redis.call('HMGET', KEYS[1], 'holder', 'fence')
        if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return 0 end
        return redis.call('DEL', KEYS[1])
        ",
    )
});

/// KEYS: counter. ARGV: milliseconds. Returns the count. One step, so that no counter is left without an end.
static INCREMENT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local count = redis.call('INCR', KEYS[1])
        if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
        return count
        ",
    )
});

impl RedisState {
    pub(crate) async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, StateError> {
        let mut call = ACQUIRE.prepare_invoke();
        call.key(self.layout().lease(name)).key(self.layout().fence(name)).arg(holder).arg(milliseconds(ttl));
        let fence: u64 = self.link().call(&call).await?;
        Ok((fence != 0).then(|| Lease { name: name.to_owned(), holder: holder.to_owned(), fence }))
    }

    pub(crate) async fn release_lease(&self, lease: &Lease) -> Result<bool, StateError> {
        let mut call = RELEASE.prepare_invoke();
        call.key(self.layout().lease(&lease.name)).arg(&lease.holder).arg(lease.fence);
        self.link().call::<u64>(&call).await.map(|ended| ended != 0)
    }

    pub(crate) async fn increment(&self, key: &str, window: Duration) -> Result<u64, StateError> {
        let mut call = INCREMENT.prepare_invoke();
        call.key(self.layout().counter(key)).arg(milliseconds(window));
        self.link().call(&call).await
    }

    pub(crate) async fn report_gateway(&self, heartbeat: &GatewayHeartbeat, ttl: Duration) -> Result<(), StateError> {
        let mut command = redis::cmd("SET");
        command.arg(self.layout().gateway(&heartbeat.node_id)).arg(entries::json(heartbeat)?);
        command.arg("PX").arg(milliseconds(ttl));
        self.link().query(&command).await
    }

    pub(crate) async fn list_gateways(&self) -> Result<Vec<GatewayHeartbeat>, StateError> {
        let keys = self.scan_keys(&self.layout().gateway_pattern()).await?;
        let values = self.get_strings(&keys).await?;
        let mut gateways: Vec<GatewayHeartbeat> = Vec::with_capacity(values.len());
        for (key, value) in keys.iter().zip(values) {
            // None: its time ended meanwhile.
            let Some(value) = value else { continue };
            match serde_json::from_slice(&value) {
                Ok(heartbeat) => gateways.push(heartbeat),
                Err(error) => {
                    tracing::warn!(key = %key.escape_ascii(), %error, "a heartbeat does not parse; it is left out")
                }
            }
        }
        gateways.sort_by(|one, other| one.node_id.cmp(&other.node_id));
        Ok(gateways)
    }

    pub(crate) async fn put_job_note(&self, name: &str, note: &str) -> Result<(), StateError> {
        let mut command = redis::cmd("HSET");
        command.arg(self.layout().job_notes()).arg(name).arg(note);
        self.link().query(&command).await
    }

    pub(crate) async fn job_note(&self, name: &str) -> Result<Option<String>, StateError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.layout().job_notes()).arg(name);
        self.link().query(&command).await
    }

    pub(crate) async fn list_job_notes(&self) -> Result<BTreeMap<String, String>, StateError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.layout().job_notes());
        self.link().query(&command).await
    }
}

/// Redis takes an expiry of at least one millisecond.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
