//! Writing the snapshot to Redis: publishers take turns, and each step checks that the turn is still its own.
//!
//! A turn is a key that expires and holds the pending version. `begin` takes it and marks the snapshot as pending;
//! `write` and `finish` do nothing without it. So a publisher that stalls past its turn cannot write into the
//! publication of the next one, and one that dies holds up the others for a moment only.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::CONTRACT_VERSION;
use ez_contract::models::ModelsOrigin;
use ez_contract::snapshot::SnapshotKey;
use redis::Script;

use super::layout::Place;
use super::read::Patience;
use super::{RedisState, entries};
use crate::fail_point::{FailPoint, reach};
use crate::publication::{Base, Desired, MAX_EVENTS, Scope, event, first_version, fold};
use crate::{Publication, StateError};

/// A turn, renewed by each write. Longer than any single step can take.
const TURN: Duration = Duration::from_secs(3);

/// The first part of a turn that begins by listing what is stored.
const LONG_TURN: Duration = Duration::from_secs(10);

/// How long a publisher waits for its turn, and for one that it does not lose.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(12);

/// Bounds of one write, so that other clients of Redis are not held up: entries, and bytes of their values.
const WRITE_ENTRIES: usize = 256;
const WRITE_BYTES: usize = 512 * 1024;

/// KEYS: meta, turn. ARGV: turn in ms, first version, `whole` or `changes`, the newest version known, base (empty for
/// any). Returns the pending version, which names the turn (0 where it is another's turn, -1 where the base does not
/// stand), and whether what readers hold is the snapshot that was settled before.
static BEGIN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('EXISTS', KEYS[2]) == 1 then return {0, 0} end
        local meta = redis.call('HMGET', KEYS[1], 'version', 'pending')
        local version, pending = tonumber(meta[1]) or 0, tonumber(meta[2]) or 0
        local settled = version ~= 0 and version == pending
        if ARGV[5] ~= '' and (version ~= tonumber(ARGV[5]) or (ARGV[3] == 'changes' and not settled)) then
            return {-1, 0}
        end
        local last = math.max(version, pending)
        local next = math.max(last == 0 and tonumber(ARGV[2]) or last + 1, tonumber(ARGV[4]) + 1)
        local text = string.format('%.0f', next)
        redis.call('HSET', KEYS[1], 'pending', text)
        redis.call('SET', KEYS[2], text, 'PX', ARGV[1])
        return {next, (settled and version >= tonumber(ARGV[4])) and 1 or 0}
        ",
    )
});

/// KEYS: turn, then the key of each entry. ARGV: version, turn in ms, then for each entry its field (empty for string
/// keys), `put` or `remove`, and its value. Returns 1, or 0 where the turn is over.
static WRITE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
        redis.call('PEXPIRE', KEYS[1], ARGV[2])
        for i = 2, #KEYS do
            local at = 3 * (i - 1)
            local key, is_field, put = KEYS[i], ARGV[at] ~= '', ARGV[at + 1] == 'put'
            if is_field and put then redis.call('HSET', key, ARGV[at], ARGV[at + 2])
            elseif is_field then redis.call('HDEL', key, ARGV[at])
            elseif put then redis.call('SET', key, ARGV[at + 2])
            else redis.call('DEL', key) end
        end
        return 1
        ",
    )
});

/// KEYS: meta, turn, events. ARGV: version, published at, publisher, contract version, event, events to keep. Returns
/// 1, or 0 where the turn is over. A stream that has no room for the version, or is no stream, is begun anew: readers
/// find the gap and read everything.
static FINISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
        redis.call('HSET', KEYS[1], 'version', ARGV[1], 'pending', ARGV[1], 'published_at', ARGV[2],
            'publisher', ARGV[3], 'contract_version', ARGV[4])
        local function add()
            return redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], ARGV[1] .. '-0', 'event', ARGV[5])
        end
        local added = add()
        if type(added) == 'table' and added.err then
            redis.call('DEL', KEYS[3])
            add()
        end
        redis.call('PUBLISH', KEYS[3], ARGV[5])
        redis.call('DEL', KEYS[2])
        return 1
        ",
    )
});

/// Who publishes, in the words of the meta hash.
struct Signature<'publication> {
    publisher: &'publication str,
    published_at: DateTime<Utc>,
    /// The catalogue of the models, where the publisher knows it.
    models: Option<ModelsOrigin>,
}

/// One entry to write or, without a value, to remove.
pub(super) struct Write {
    pub(super) place: Place,
    pub(super) value: Option<String>,
}

/// The right to write one publication.
struct BeganTurn {
    /// Which it makes.
    version: u64,
    /// Whether there was a whole snapshot before, the one that readers hold.
    was_settled: bool,
}

/// What became of an attempt.
enum Attempt {
    Published(u64),
    /// It became another's turn.
    Overtaken,
}

impl RedisState {
    pub(crate) async fn publish(
        &self,
        publisher: &str,
        published_at: DateTime<Utc>,
        publication: Publication,
        models: Option<ModelsOrigin>,
    ) -> Result<u64, StateError> {
        let Publication { changes, scope, base } = publication;
        let desired = fold(changes);
        let writes = self.writes(&desired)?;
        let signature = Signature { publisher, published_at, models };
        let mut patience = Patience::new(PUBLISH_PATIENCE);
        loop {
            // The turn may be lost to one that published, or with all data: each attempt asks for the base.
            if let Some(turn) = self.begin(scope, base, published_at).await?
                && let Attempt::Published(version) =
                    self.publish_in_turn(turn, &signature, scope, &desired, &writes).await?
            {
                return Ok(version);
            }
            patience.pause().await?;
        }
    }

    async fn publish_in_turn(
        &self,
        turn: BeganTurn,
        signature: &Signature<'_>,
        scope: Scope,
        desired: &Desired,
        writes: &[Write],
    ) -> Result<Attempt, StateError> {
        let BeganTurn { version, was_settled } = turn;
        reach(FailPoint::Pending);
        let is_whole = scope == Scope::Everything || !was_settled;
        let surplus = match scope {
            Scope::Changes => Vec::new(),
            Scope::Everything => self.surplus(writes).await?,
        };
        let standing = self.standing_models(writes, signature.models.as_ref(), is_whole).await?;
        for chunk in chunks(writes).chain(chunks(&surplus)) {
            if !self.write(version, chunk).await? {
                return Ok(Attempt::Overtaken);
            }
            if chunk.len() < writes.len() {
                reach(FailPoint::PartWritten);
            }
        }
        if standing.will_differ {
            let origin = signature.models.clone();
            let account = self.account_for_models(standing.meta, origin, signature.published_at).await?;
            if !self.write(version, &account).await? {
                return Ok(Attempt::Overtaken);
            }
        }
        reach(FailPoint::AllWritten);
        // Without a settled snapshot before, more may have changed than is named here: what a publisher that died had
        // written, or all that a store lost.
        let changed = if was_settled { self.changed_keys(desired, &surplus) } else { None };
        self.finish(version, signature, changed).await
    }

    /// Takes the turn; none while it is another's.
    async fn begin(
        &self,
        scope: Scope,
        base: Option<Base>,
        published_at: DateTime<Utc>,
    ) -> Result<Option<BeganTurn>, StateError> {
        let (length, what) = match scope {
            Scope::Changes => (TURN, "changes"),
            Scope::Everything => (LONG_TURN, "whole"),
        };
        let mut call = BEGIN.prepare_invoke();
        call.key(self.layout().meta()).key(self.layout().turn());
        call.arg(length.as_millis().to_string()).arg(first_version(published_at));
        call.arg(what).arg(base.map_or(0, |base| base.newest));
        call.arg(base.map(|base| base.version.to_string()).unwrap_or_default());
        match self.link().call::<(i64, bool)>(&call).await? {
            (0, _) => Ok(None),
            (version, was_settled) => match u64::try_from(version) {
                Ok(version) => Ok(Some(BeganTurn { version, was_settled })),
                Err(_) => Err(StateError::Overtaken),
            },
        }
    }

    async fn write(&self, version: u64, writes: &[Write]) -> Result<bool, StateError> {
        let mut call = WRITE.prepare_invoke();
        call.key(self.layout().turn()).arg(version).arg(TURN.as_millis().to_string());
        for Write { place, value } in writes {
            call.key(&place.key).arg(place.field.as_deref().unwrap_or_default());
            call.arg(if value.is_some() { "put" } else { "remove" }).arg(value.as_deref().unwrap_or_default());
        }
        self.link().call(&call).await
    }

    async fn finish(
        &self,
        version: u64,
        signature: &Signature<'_>,
        changed: Option<Vec<SnapshotKey>>,
    ) -> Result<Attempt, StateError> {
        let mut call = FINISH.prepare_invoke();
        call.key(self.layout().meta()).key(self.layout().turn()).key(self.layout().events());
        call.arg(version).arg(entries::timestamp(signature.published_at)).arg(signature.publisher);
        call.arg(CONTRACT_VERSION).arg(entries::json(&event(version, changed))?).arg(MAX_EVENTS);
        let is_finished: bool = self.link().call(&call).await?;
        Ok(if is_finished { Attempt::Published(version) } else { Attempt::Overtaken })
    }

    fn writes(&self, desired: &Desired) -> Result<Vec<Write>, StateError> {
        desired
            .iter()
            .map(|(key, entry)| {
                let value = entry.as_ref().map(entries::encode).transpose()?;
                Ok(Write { place: self.layout().place(key), value })
            })
            .collect()
    }

    /// Removals of what is stored and not named.
    async fn surplus(&self, writes: &[Write]) -> Result<Vec<Write>, StateError> {
        let named: BTreeSet<&Place> = writes.iter().map(|write| &write.place).collect();
        let stored = self.list_places().await?;
        Ok(stored
            .into_iter()
            .filter(|place| !named.contains(place))
            .map(|place| Write { place, value: None })
            .collect())
    }

    /// What an event names; `None` where something was removed that has no name.
    fn changed_keys(&self, desired: &Desired, surplus: &[Write]) -> Option<Vec<SnapshotKey>> {
        let removed = surplus.iter().map(|write| self.layout().entry_at(&write.place));
        desired.keys().cloned().map(Some).chain(removed).collect()
    }
}

/// Splits writes within both bounds; a value above the byte bound goes alone.
fn chunks(writes: &[Write]) -> impl Iterator<Item = &[Write]> {
    let mut rest = writes;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = rest.iter().take(WRITE_ENTRIES).take_while(|write| {
            bytes += write.value.as_ref().map_or(0, String::len);
            bytes <= WRITE_BYTES
        });
        let count = fitting.count().max(1).min(rest.len());
        let (chunk, remaining) = rest.split_at(count);
        rest = remaining;
        (!chunk.is_empty()).then_some(chunk)
    })
}
