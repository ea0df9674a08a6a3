//! Leases on limits in Redis: a hash per counter, `generation`, `seed`, and what each gateway holds under `@`, the
//! name of its run, `:` and when it began to count: used, granted, and the end in the server's milliseconds.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::RedisState;
use super::counters::milliseconds;
use crate::StateError;
use crate::limits::{KEPT_APART, Lessee, LimitAsk, LimitGrant, SHARES_PER_GATEWAY, SMALLEST_SLICE_DIVISOR};

/// Redis computes in doubles, which are exact up to here. More than this is practically without a limit.
const MAX_EXACT: u64 = 1 << 53;

/// KEYS: counters. ARGV: instance, gateways, shares per gateway, divisor of the smallest slice, milliseconds that the
/// use of the gone is kept apart; then for each counter generation, begun, used, granted, wanted, limit, ledger, whether use
/// outlives its gateway, milliseconds alive, milliseconds kept. Returns generation, granted and taken of each.
static LEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local gateways = tonumber(ARGV[2])
        local shares, divisor, apart = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
        local function text(number) return string.format('%.0f', number) end
        local answer = {}
        for i = 1, #KEYS do
            local key, at = KEYS[i], 6 + (i - 1) * 10
            local me = '@' .. ARGV[1] .. ':' .. ARGV[at]
            local generation, used, granted = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
            local wanted, limit, ledger = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
            local outlives = ARGV[at + 7] == '1'
            local stands, seed, others, alive, gone = nil, 0, 0, 1, 0
            local fields = redis.call('HGETALL', key)
            for f = 1, #fields, 2 do
                local field, value = fields[f], fields[f + 1]
                if field == 'generation' then
                    stands = tonumber(value)
                elseif field == 'seed' then
                    seed = tonumber(value)
                elseif field ~= me then
                    local its_used, its_granted, ends = string.match(value, '^(%d+) (%d+) (%d+)$')
                    its_used, its_granted, ends = tonumber(its_used) or 0, tonumber(its_granted) or 0, tonumber(ends) or 0
                    if ends > now then
                        others, alive = others + its_granted, alive + 1
                    elseif outlives and ends + apart > now then
                        others = others + its_used
                    else
                        redis.call('HDEL', key, field)
                        if outlives then gone = gone + its_used end
                    end
                end
            end
            if not stands then
                stands, seed = time[1] * 1000000 + time[2], ledger
                redis.call('HSET', key, 'generation', text(stands), 'seed', text(seed))
            elseif gone > 0 then
                seed = seed + gone
                redis.call('HSET', key, 'seed', text(seed))
            end
            if stands ~= generation and ledger > 0 then used, granted = 0, 0 end
            granted = math.max(granted, used)
            local taken = math.max(ledger, seed + others + granted)
            local free = math.max(0, limit - taken)
            local extra = 0
            if wanted > 0 then
                local share = math.floor(free / (shares * math.max(gateways, alive)))
                extra = math.min(free, math.max(wanted, share, math.floor(limit / divisor)))
            end
            local held = text(used) .. ' ' .. text(granted + extra) .. ' ' .. text(now + tonumber(ARGV[at + 8]))
            redis.call('HSET', key, me, held)
            redis.call('PEXPIRE', key, ARGV[at + 9])
            answer[#answer + 1] = text(stands)
            answer[#answer + 1] = text(granted + extra)
            answer[#answer + 1] = text(taken + extra)
        end
        return answer
        ",
    )
});

/// KEYS: the gateways that lease. ARGV: instance, milliseconds. Returns how many there are.
static JOIN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + tonumber(ARGV[2])))
        local count, fields = 0, redis.call('HGETALL', KEYS[1])
        for f = 1, #fields, 2 do
            if (tonumber(fields[f + 1]) or 0) > now then
                count = count + 1
            else
                redis.call('HDEL', KEYS[1], fields[f])
            end
        end
        redis.call('PEXPIRE', KEYS[1], 3600000)
        return count
        ",
    )
});

impl RedisState {
    pub(crate) async fn join_lessees(&self, instance: &str, ttl: Duration) -> Result<u64, StateError> {
        let mut call = JOIN.prepare_invoke();
        call.key(self.layout().lessees()).arg(instance).arg(milliseconds(ttl));
        self.link().call(&call).await
    }

    pub(crate) async fn lease_limits(&self, lessee: &Lessee, asks: &[LimitAsk]) -> Result<Vec<LimitGrant>, StateError> {
        let mut call = LEASE.prepare_invoke();
        call.arg(&lessee.instance).arg(lessee.gateways.max(1)).arg(SHARES_PER_GATEWAY).arg(SMALLEST_SLICE_DIVISOR);
        call.arg(milliseconds(KEPT_APART));
        for ask in asks {
            call.key(self.layout().counter(&ask.counter));
            call.arg(ask.begun).arg(ask.generation);
            for amount in [ask.used, ask.granted, ask.wanted, ask.limit, ask.ledger] {
                call.arg(amount.min(MAX_EXACT));
            }
            call.arg(u8::from(ask.outlives)).arg(milliseconds(ask.alive_for)).arg(milliseconds(ask.kept_for));
        }
        let told: Vec<u64> = self.link().call(&call).await?;
        if told.len() != asks.len() * 3 {
            return Err(StateError::Corrupt("a lease on limits was answered with another number of grants".to_owned()));
        }
        let grants = told.chunks_exact(3);
        Ok(grants.map(|told| LimitGrant { generation: told[0], granted: told[1], taken: told[2] }).collect())
    }
}
