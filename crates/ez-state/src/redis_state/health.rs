//! Health states of upstream credentials: one hash per API key, whose fields end by themselves, and one stream of what
//! changed.

use std::sync::LazyLock;
use std::time::Duration;

use ez_contract::health::{HealthKind, HealthState, health_field};
use redis::Script;
use serde::{Deserialize, Serialize};

use super::counters::milliseconds;
use super::{RedisState, entries};
use crate::health::MAX_HEALTH_CHANGES;
use crate::shared_state::MAX_HEALTH_STATES;
use crate::{HealthChange, HealthCursor, StateError};

/// KEYS: health, changes. ARGV: field, milliseconds, state as JSON, fields at most, changes at most. A value is the end in the server's
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
        redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', 'ends', string.format('%.0f', ends), 'state', ARGV[3])
        redis.call('PUBLISH', KEYS[2], ARGV[1])
        return count
        ",
    )
});

/// KEYS: health, changes. ARGV: field, place as JSON, changes at most. Returns how many states there were.
static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local removed = redis.call('HDEL', KEYS[1], ARGV[1])
        if removed > 0 then
            redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'removed', ARGV[2])
            redis.call('PUBLISH', KEYS[2], ARGV[1])
        end
        return removed
        ",
    )
});

/// KEYS: changes. ARGV: id of the last change known, changes at most. Returns the server's milliseconds, and of each
/// newer change its id, its end in the server's milliseconds (0 of what was removed), and its state or place.
static CHANGES: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local changes = {}
        local read = redis.call('XREAD', 'COUNT', ARGV[2], 'STREAMS', KEYS[1], ARGV[1])
        if read then
            for _, entry in ipairs(read[1][2]) do
                local fields = entry[2]
                if fields[1] == 'ends' then
                    changes[#changes + 1] = {entry[1], fields[2], fields[4]}
                else
                    changes[#changes + 1] = {entry[1], '0', fields[2]}
                end
            end
        end
        return {string.format('%.0f', now), changes}
        ",
    )
});

/// The place of a state that was removed.
#[derive(Debug, Serialize, Deserialize)]
struct Removed {
    api_key_id: i64,
    kind: HealthKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
}

/// Id, end and content of a change.
type RawChange = (String, u64, Vec<u8>);

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
        call.key(self.layout().health(health.api_key_id)).key(self.layout().health_events());
        call.arg(health.field()).arg(milliseconds(ttl));
        call.arg(entries::json(health)?).arg(MAX_HEALTH_STATES).arg(MAX_HEALTH_CHANGES);
        self.link().call::<u64>(&call).await.map(drop)
    }

    pub(crate) async fn remove_health(
        &self,
        api_key_id: i64,
        kind: HealthKind,
        model: Option<&str>,
    ) -> Result<(), StateError> {
        let removed = Removed { api_key_id, kind, model: model.map(str::to_owned) };
        let mut call = REMOVE.prepare_invoke();
        call.key(self.layout().health(api_key_id)).key(self.layout().health_events());
        call.arg(health_field(kind, model)).arg(entries::json(&removed)?).arg(MAX_HEALTH_CHANGES);
        self.link().call::<u64>(&call).await.map(drop)
    }

    pub(crate) async fn read_health_changes(
        &self,
        cursor: &HealthCursor,
    ) -> Result<(Vec<HealthChange>, HealthCursor), StateError> {
        let since = if cursor.0.is_empty() { "0-0" } else { &cursor.0 };
        let mut call = CHANGES.prepare_invoke();
        // Trimming is not exact, so there may be more than are meant to be kept.
        call.key(self.layout().health_events()).arg(since).arg(2 * MAX_HEALTH_CHANGES);
        let (now, raw): (u64, Vec<RawChange>) = self.link().call(&call).await?;
        let last = raw.last().map_or_else(|| cursor.clone(), |(id, ..)| HealthCursor(id.clone()));
        let changes = raw.iter().filter_map(|(id, ends_at, content)| {
            change(*ends_at, now, content)
                .inspect_err(|error| tracing::warn!(id, %error, "a change of health does not parse; it is left out"))
                .ok()
                .flatten()
        });
        Ok((changes.collect(), last))
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

/// A change as readers get it; `None` where the state has passed.
fn change(ends_at: u64, now: u64, content: &[u8]) -> serde_json::Result<Option<HealthChange>> {
    if ends_at == 0 {
        let Removed { api_key_id, kind, model } = serde_json::from_slice(content)?;
        return Ok(Some(HealthChange::Remove { api_key_id, kind, model }));
    }
    let left = ends_at.checked_sub(now).filter(|left| *left > 0).map(Duration::from_millis);
    left.map(|left| Ok(HealthChange::Put { state: serde_json::from_slice(content)?, left })).transpose()
}
