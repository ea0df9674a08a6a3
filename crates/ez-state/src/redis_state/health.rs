//! Health states of upstream credentials: one hash per API key, whose fields end by themselves.

use std::sync::LazyLock;
use std::time::Duration;

use ez_contract::health::{HealthKind, HealthState, health_field};
use redis::Script;

use super::counters::milliseconds;
use super::{RedisState, entries};
use crate::StateError;
use crate::shared_state::MAX_HEALTH_STATES;

/// KEYS: health. ARGV: field, milliseconds, state as JSON, fields at most. A value is the end in the server's
/// milliseconds, a blank, and the state. What has passed goes; the key ends with its last field.
static PUT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local ends, last = now + tonumber(ARGV[2]), 0
        local count, first, first_ends = 0, nil, nil
        local held = redis.call('HGETALL', KEYS[1])
        for i = 1, #held, 2 do
            local ends_at = tonumber(string.match(held[i + 1], '^(%d+) ')) or 0
            if ends_at <= now then
                redis.call('HDEL', KEYS[1], held[i])
            elseif held[i] ~= ARGV[1] then
                count = count + 1
                last = math.max(last, ends_at)
                if not first or ends_at < first_ends then first, first_ends = held[i], ends_at end
            end
        end
        if count >= tonumber(ARGV[4]) then redis.call('HDEL', KEYS[1], first) end
        redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', ends) .. ARGV[3])
        redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(last, ends) - now))
        return count
        ",
    )
});

/// KEYS: health. Returns the states that have not passed, by field.
static LIST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local fields = redis.call('HKEYS', KEYS[1])
        table.sort(fields)
        local states = {}
        for _, field in ipairs(fields) do
            local ends_at, state = string.match(redis.call('HGET', KEYS[1], field), '^(%d+) (.*)$')
            if ends_at and tonumber(ends_at) > now then states[#states + 1] = state end
        end
        return states
        ",
    )
});

impl RedisState {
    pub(crate) async fn put_health(&self, health: &HealthState, ttl: Duration) -> Result<(), StateError> {
        let mut call = PUT.prepare_invoke();
        call.key(self.layout().health(health.api_key_id)).arg(health.field()).arg(milliseconds(ttl));
        call.arg(entries::json(health)?).arg(MAX_HEALTH_STATES);
        self.link().call::<u64>(&call).await.map(drop)
    }

    pub(crate) async fn remove_health(
        &self,
        api_key_id: i64,
        kind: HealthKind,
        model: Option<&str>,
    ) -> Result<(), StateError> {
        let mut command = redis::cmd("HDEL");
        command.arg(self.layout().health(api_key_id)).arg(health_field(kind, model));
        self.link().query::<u64>(&command).await.map(drop)
    }

    pub(crate) async fn list_health(&self, api_key_id: i64) -> Result<Vec<HealthState>, StateError> {
        let mut call = LIST.prepare_invoke();
        call.key(self.layout().health(api_key_id));
        let states: Vec<Vec<u8>> = self.link().call(&call).await?;
        let parsed = states.iter().filter_map(|state| {
            serde_json::from_slice(state)
                .inspect_err(
                    |error| tracing::warn!(api_key_id, %error, "a health state does not parse; it is left out"),
                )
                .ok()
        });
        Ok(parsed.collect())
    }
}
