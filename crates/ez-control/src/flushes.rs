//! Flushes: counts that gateways gather and hand in now and then, in batches that each count once. What is counted is use
//! and no configuration: nothing is audited or published for it, and no record changes its tag.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use ez_contract::flush::{ApiKeyDelta, ApiKeyFlush, MAX_FLUSH_DELTAS};
use ez_store::api_keys::{self, RequestCounts};
use ez_store::usage::{self, KeyDelta};
use ez_store::{FlushKind, StoreTx, flushes, provider_groups};
use rust_decimal::Decimal;

use crate::error::Faults;
use crate::{Control, ControlError};

/// How long a batch is known by its name. A gateway that hears nothing for longer gives no batch of before again.
const LIFETIME: TimeDelta = TimeDelta::days(7);

/// Batches that are forgotten with each new one: more than one, so that their number falls.
const SWEPT_AT_ONCE: u64 = 100;

/// Characters of a batch's name.
const MAX_ID_CHARS: usize = 128;

/// Calls of one delta.
const MAX_REQUESTS: u64 = 1_000_000_000;

/// Tokens of one delta, of each kind.
const MAX_TOKENS: u64 = 1_000_000_000_000_000;

/// US dollars of one delta.
const MAX_SPEND: Decimal = Decimal::from_parts(1_000_000_000, 0, 0, false, 0);

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlushTaken {
    /// Deltas that were counted.
    pub applied: u64,
    /// Ids of what does not exist, in order, each once; their deltas count for nothing.
    pub unknown: Vec<i64>,
    /// Whether the batch was taken before, so that nothing was counted now.
    pub is_repeated: bool,
}

/// Use of child keys whose calls leave no usage records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFlush {
    /// Made by the gateway; each counts once.
    pub batch_id: String,
    /// One for each child key, at most a thousand.
    pub deltas: Vec<KeyUse>,
}

/// What calls of a child key came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// The child key.
    pub key_id: i64,
    /// Calls.
    pub requests: u64,
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// Those of both that count against the key's quota, where the gateway knows when that started anew; else all of them,
    /// unless it started anew after the last of the calls.
    pub quota_tokens: Option<u64>,
    /// When the last of the calls arrived.
    pub last_used_at: DateTime<Utc>,
    /// US dollars, an exact decimal, where known.
    pub spend: Option<String>,
}

/// Adds what came of attempts to API keys and their provider groups. Errors: `Invalid`; `Unavailable`: hand the batch in
/// again, under the same name.
pub async fn flush_api_keys(control: &Control, flush: &ApiKeyFlush) -> Result<FlushTaken, ControlError> {
    let mut faults = Faults::default();
    check_batch(&mut faults, &flush.batch_id, flush.deltas.len());
    for (place, delta) in flush.deltas.iter().take(MAX_FLUSH_DELTAS).enumerate() {
        check_api_key_delta(&mut faults, place, delta);
    }
    faults.into_result()?;
    // Outside of the transaction: an API key that is moved at this moment counts for the group that it was in.
    let ids: Vec<i64> = flush.deltas.iter().map(|delta| delta.api_key_id).collect();
    let groups = api_keys::groups_of(control.store(), &ids).await?;
    let Some(tx) = begin(control, FlushKind::ApiKeys, &flush.batch_id).await? else { return Ok(repeated()) };

    let now = control.now();
    let (mut of_groups, mut of_keys) = (BTreeMap::new(), BTreeMap::new());
    let mut taken = FlushTaken::default();
    for delta in &flush.deltas {
        let Some(group_id) = groups.get(&delta.api_key_id) else {
            taken.unknown.push(delta.api_key_id);
            continue;
        };
        taken.applied += 1;
        add(&mut of_groups, *group_id, delta, now);
        add(&mut of_keys, delta.api_key_id, delta, now);
    }
    // Groups first, as whoever deletes one with its API keys does, and each in the order of ids, so that nobody deadlocks.
    provider_groups::add_requests(&tx, &Vec::from_iter(of_groups)).await?;
    api_keys::add_requests(&tx, &Vec::from_iter(of_keys)).await?;
    tx.commit().await?;
    taken.unknown.sort_unstable();
    taken.unknown.dedup();
    Ok(taken)
}

/// Adds the use of child keys whose calls leave no usage records, with all that ingestion makes of such: quotas, budgets,
/// and their publication. Errors: `Invalid`; `Unavailable`: hand the batch in again, under the same name.
pub async fn flush_keys(control: &Control, flush: &KeyFlush) -> Result<FlushTaken, ControlError> {
    let mut faults = Faults::default();
    check_batch(&mut faults, &flush.batch_id, flush.deltas.len());
    for (place, used) in flush.deltas.iter().take(MAX_FLUSH_DELTAS).enumerate() {
        check_use(&mut faults, place, used);
    }
    faults.into_result()?;
    let Some(tx) = begin(control, FlushKind::Keys, &flush.batch_id).await? else { return Ok(repeated()) };

    let now = control.now();
    let delta = |used: &KeyUse| KeyDelta {
        key_id: used.key_id,
        requests: used.requests,
        tokens: used.input_tokens.saturating_add(used.output_tokens),
        quota_tokens: used.quota_tokens,
        last_used_at: used.last_used_at.min(now),
        cost: used.spend.clone(),
    };
    let deltas: Vec<KeyDelta> = flush.deltas.iter().map(delta).collect();
    let unknown = usage::add_deltas(&tx, &deltas).await?;
    tx.commit().await?;
    let known = deltas.iter().filter(|delta| unknown.binary_search(&delta.key_id).is_err());
    Ok(FlushTaken { applied: known.count() as u64, unknown, is_repeated: false })
}

/// Begins the transaction that takes a batch; `None` where it was taken before.
async fn begin(control: &Control, kind: FlushKind, batch_id: &str) -> Result<Option<StoreTx>, ControlError> {
    let tx = control.store().begin().await?;
    let now = control.now();
    if !flushes::claim(&tx, kind, batch_id, now).await? {
        return Ok(None);
    }
    flushes::sweep(&tx, now - LIFETIME, SWEPT_AT_ONCE).await?;
    Ok(Some(tx))
}

fn repeated() -> FlushTaken {
    FlushTaken { is_repeated: true, ..FlushTaken::default() }
}

fn add(counts: &mut BTreeMap<i64, RequestCounts>, id: i64, delta: &ApiKeyDelta, now: DateTime<Utc>) {
    // A gateway whose clock is ahead must not have a key look used in the future for ever.
    let last_used_at = delta.last_used_at.min(now);
    let none = RequestCounts { successes: 0, failures: 0, last_used_at };
    let sum = counts.entry(id).or_insert(none);
    sum.successes += delta.successes;
    sum.failures += delta.failures;
    sum.last_used_at = sum.last_used_at.max(last_used_at);
}

fn check_batch(faults: &mut Faults, batch_id: &str, deltas: usize) {
    let is_id = (1..=MAX_ID_CHARS).contains(&batch_id.len()) && batch_id.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_id {
        faults.add("/batch_id", format!("must be 1 to {MAX_ID_CHARS} visible ASCII characters"));
    }
    if deltas > MAX_FLUSH_DELTAS {
        faults.add("/deltas", format!("must have at most {MAX_FLUSH_DELTAS} entries; send the rest as another batch"));
    }
}

fn check_api_key_delta(faults: &mut Faults, place: usize, delta: &ApiKeyDelta) {
    let pointer = format!("/deltas/{place}/requests");
    if delta.requests > MAX_REQUESTS {
        faults.add(pointer, format!("must be at most {MAX_REQUESTS}"));
    } else if delta.successes.checked_add(delta.failures) != Some(delta.requests) {
        faults.add(pointer, "must be the sum of `successes` and `failures`");
    }
}

fn check_use(faults: &mut Faults, place: usize, used: &KeyUse) {
    for (field, count, most) in [
        ("requests", used.requests, MAX_REQUESTS),
        ("input_tokens", used.input_tokens, MAX_TOKENS),
        ("output_tokens", used.output_tokens, MAX_TOKENS),
    ] {
        if count > most {
            faults.add(format!("/deltas/{place}/{field}"), format!("must be at most {most}"));
        }
    }
    let tokens = used.input_tokens.saturating_add(used.output_tokens);
    if used.quota_tokens.is_some_and(|quota_tokens| quota_tokens > tokens) {
        let message = "must be at most the sum of `input_tokens` and `output_tokens`, of which it is a part";
        faults.add(format!("/deltas/{place}/quota_tokens"), message);
    }
    if used.spend.as_deref().is_some_and(|spend| !is_amount(spend)) {
        let message = format!("must be a decimal such as 0.0042: US dollars, not negative, at most {MAX_SPEND}");
        faults.add(format!("/deltas/{place}/spend"), message);
    }
}

fn is_amount(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_plain && text.parse::<Decimal>().is_ok_and(|amount| amount <= MAX_SPEND)
}
