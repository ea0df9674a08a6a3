//! Reading the snapshot from Redis: never half of a publication.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ez_contract::snapshot::{ConfigEvent, SnapshotChange, SnapshotEntry, SnapshotKey};
use redis::{Cmd, FromRedisValue};
use tokio::time::{Instant, sleep};

use super::layout::Place;
use super::{RedisState, entries};
use crate::publication::changed_since;
use crate::{SnapshotDelta, SnapshotImage, StateError};

/// How long a read may be kept from settling.
const READ_PATIENCE: Duration = Duration::from_secs(1);

/// Keys that one command names, or asks a cursor for.
const BATCH: usize = 1000;

/// Events that one command asks for; each may name hundreds of entries.
const EVENT_BATCH: usize = 250;

/// Growing pauses up to a deadline.
pub(super) struct Patience {
    ends_at: Instant,
    pause: Duration,
}

/// Id and fields of a stream entry.
type StreamEntry = (Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>);

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Self { ends_at: Instant::now() + limit, pause: Duration::from_millis(2) }
    }

    /// Pauses, or fails where the deadline has passed.
    pub(super) async fn pause(&mut self) -> Result<(), StateError> {
        if Instant::now() >= self.ends_at {
            return Err(StateError::Unsettled);
        }
        sleep(self.pause).await;
        self.pause = Duration::from_millis(50).min(self.pause * 2);
        Ok(())
    }
}

impl RedisState {
    pub(crate) async fn read_snapshot(&self) -> Result<SnapshotImage, StateError> {
        let mut patience = Patience::new(READ_PATIENCE);
        loop {
            let meta = self.meta().await?;
            if meta.is_settled() {
                let (entries, damaged) = self.read_entries().await?;
                if self.meta().await? == meta {
                    return Ok(SnapshotImage { meta, entries, damaged });
                }
            }
            patience.pause().await?;
        }
    }

    pub(crate) async fn read_changes(&self, since: u64) -> Result<SnapshotDelta, StateError> {
        let mut patience = Patience::new(READ_PATIENCE);
        loop {
            let meta = self.meta().await?;
            if meta.is_settled() {
                if meta.version == since {
                    return Ok(SnapshotDelta::UpToDate);
                }
                let Some(changed) = self.read_changed_keys(since, meta.version).await? else {
                    return Ok(SnapshotDelta::TooOld);
                };
                let (changes, damaged) = self.read_named(changed).await?;
                if self.meta().await? == meta {
                    return Ok(SnapshotDelta::Changes { meta, changes, damaged });
                }
            }
            patience.pause().await?;
        }
    }

    /// All places that hold, or look as if they held, an entry.
    pub(super) async fn list_places(&self) -> Result<BTreeSet<Place>, StateError> {
        let mut places = BTreeSet::new();
        for hash in self.layout().hashes() {
            for (field, _) in self.scan_hash(&hash).await? {
                places.insert(Place::field(&hash, field));
            }
        }
        let strings = self.scan_keys(&self.layout().auth_pattern()).await?;
        places.extend(strings.into_iter().map(Place::string));
        Ok(places)
    }

    /// All keys that match a pattern, once each.
    pub(super) async fn scan_keys(&self, pattern: &str) -> Result<Vec<Vec<u8>>, StateError> {
        let page =
            |cursor: u64| redis::cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(BATCH).take();
        let unique: BTreeSet<Vec<u8>> = self.scan(page).await?.into_iter().collect();
        Ok(unique.into_iter().collect())
    }

    /// The values of string keys, in their order; `None` for what is absent or no string.
    pub(super) async fn get_strings(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StateError> {
        let mut values = Vec::with_capacity(keys.len());
        for batch in keys.chunks(BATCH) {
            let mut command = redis::cmd("MGET");
            command.arg(batch);
            values.extend(self.link().query::<Vec<Option<Vec<u8>>>>(&command).await?);
        }
        Ok(values)
    }

    /// The entries ordered by key, and the places whose content is none.
    async fn read_entries(&self) -> Result<(Vec<SnapshotEntry>, Vec<String>), StateError> {
        let mut found: Vec<(Place, Option<Vec<u8>>)> = Vec::new();
        for hash in self.layout().hashes() {
            let fields = self.scan_hash(&hash).await?;
            found.extend(fields.into_iter().map(|(field, value)| (Place::field(&hash, field), Some(value))));
        }
        let strings = self.scan_keys(&self.layout().auth_pattern()).await?;
        let values = self.get_strings(&strings).await?;
        found.extend(strings.into_iter().zip(values).map(|(key, value)| (Place::string(key), value)));

        let mut entries = BTreeMap::new();
        let mut damaged = Vec::new();
        for (place, value) in found {
            let key = self.layout().entry_at(&place);
            match key.and_then(|key| entries::decode(&key, &value?)) {
                Some(entry) => {
                    entries.insert(entry.key(), entry);
                }
                None => damaged.push(place.to_string()),
            }
        }
        Ok((entries.into_values().collect(), damaged))
    }

    /// The present state of named entries, and the places whose content is none.
    async fn read_named(&self, keys: BTreeSet<SnapshotKey>) -> Result<(Vec<SnapshotChange>, Vec<String>), StateError> {
        let keys: Vec<(SnapshotKey, Place)> = keys
            .into_iter()
            .map(|key| {
                let place = self.layout().place(&key);
                (key, place)
            })
            .collect();
        let mut changes = Vec::with_capacity(keys.len());
        let mut damaged = Vec::new();
        // The order is by kind, so those that one command can read stand together.
        for group in keys.chunk_by(|(_, one), (_, other)| one.hash() == other.hash()) {
            for batch in group.chunks(BATCH) {
                let mut command = match batch.first().and_then(|(_, place)| place.hash()) {
                    Some(hash) => redis::cmd("HMGET").arg(hash).take(),
                    None => redis::cmd("MGET"),
                };
                for (_, place) in batch {
                    command.arg(place.field.as_ref().unwrap_or(&place.key));
                }
                let values: Vec<Option<Vec<u8>>> = self.link().query(&command).await?;
                for ((key, place), value) in batch.iter().zip(values) {
                    let entry = value.as_deref().and_then(|value| entries::decode(key, value));
                    if entry.is_none() && value.is_some() {
                        damaged.push(place.to_string());
                    }
                    changes.push(entry.map_or_else(|| SnapshotChange::Remove(key.clone()), SnapshotChange::Put));
                }
            }
        }
        Ok((changes, damaged))
    }

    /// The keys that changed after `since` up to `version`; `None` where the stream does not tell.
    async fn read_changed_keys(&self, since: u64, version: u64) -> Result<Option<BTreeSet<SnapshotKey>>, StateError> {
        let mut events: Vec<ConfigEvent> = Vec::new();
        // Ids in the stream are versions.
        let mut from = since.saturating_add(1);
        loop {
            let mut command = redis::cmd("XRANGE");
            command.arg(self.layout().events()).arg(from).arg(version).arg("COUNT").arg(EVENT_BATCH);
            let page: Vec<StreamEntry> = self.link().query(&command).await?;
            let is_last = page.len() < EVENT_BATCH;
            let found = page.iter().filter_map(|(_, fields)| fields.iter().find(|(name, _)| name == b"event"));
            // An event that does not parse leaves a gap, and a gap is read over in full.
            events.extend(found.filter_map(|(_, event)| serde_json::from_slice(event).ok()));
            if is_last {
                break;
            }
            // Where they are not in a row, some are read twice or left out, and found to be out of order.
            from = from.saturating_add(EVENT_BATCH as u64);
        }
        Ok(changed_since(since, version, &events))
    }

    pub(super) async fn scan_hash(&self, key: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StateError> {
        self.scan(|cursor| redis::cmd("HSCAN").arg(key).arg(cursor).arg("COUNT").arg(BATCH).take()).await
    }

    /// Follows a cursor to its end. Something may come twice, as Redis says.
    async fn scan<Item: FromRedisValue>(&self, page: impl Fn(u64) -> Cmd) -> Result<Vec<Item>, StateError> {
        let mut found = Vec::new();
        let mut cursor = 0;
        loop {
            let (next, items): (u64, Vec<Item>) = self.link().query(&page(cursor)).await?;
            found.extend(items);
            if next == 0 {
                return Ok(found);
            }
            cursor = next;
        }
    }
}
