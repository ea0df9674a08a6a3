//! The account of the published models, kept in step with their hash. Adding up the hash means reading all of it, so
//! that is done only where a publication changes a model, or may have.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use ez_contract::models::{ModelsMeta, ModelsOrigin, models_checksum};

use super::layout::Place;
use super::publish::Write;
use super::{RedisState, entries};
use crate::StateError;
use crate::publication::next_models_meta;

/// Fields that one command asks for.
const BATCH: usize = 1000;

/// How the models stood before a publication.
pub(super) struct StandingModels {
    /// Their account; read where the publication has to do with models.
    pub(super) meta: Option<ModelsMeta>,
    /// Whether the publication makes another account necessary.
    pub(super) will_differ: bool,
}

impl RedisState {
    pub(crate) async fn models_meta(&self) -> Result<Option<ModelsMeta>, StateError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.layout().models_meta());
        let fields: HashMap<String, String> = self.link().query(&command).await?;
        Ok(entries::models_meta_from_fields(fields))
    }

    /// What stands, before `writes` are made by a publisher that may know their `origin`. Where `is_whole`, more than
    /// these may change.
    pub(super) async fn standing_models(
        &self,
        writes: &[Write],
        origin: Option<&ModelsOrigin>,
        is_whole: bool,
    ) -> Result<StandingModels, StateError> {
        let hash = self.layout().models();
        let models: Vec<&Write> = writes.iter().filter(|write| write.place.hash() == Some(hash.as_bytes())).collect();
        if models.is_empty() && origin.is_none() && !is_whole {
            return Ok(StandingModels { meta: None, will_differ: false });
        }
        let meta = self.models_meta().await?;
        let is_accounted_for = match (&meta, origin) {
            (Some(meta), Some(origin)) => meta.origin() == *origin,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let will_differ = is_whole || !is_accounted_for || self.changes_any(&hash, &models).await?;
        Ok(StandingModels { meta, will_differ })
    }

    /// Whether one of these writes changes what is stored.
    async fn changes_any(&self, hash: &str, writes: &[&Write]) -> Result<bool, StateError> {
        for batch in writes.chunks(BATCH) {
            let mut command = redis::cmd("HMGET");
            command.arg(hash);
            for write in batch {
                command.arg(write.place.field.as_deref().unwrap_or_default());
            }
            let stored: Vec<Option<Vec<u8>>> = self.link().query(&command).await?;
            let mut pairs = batch.iter().zip(&stored);
            if pairs.any(|(write, stored)| write.value.as_deref().map(str::as_bytes) != stored.as_deref()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds up the hash as it stands now, and returns what to write of it.
    pub(super) async fn account_for_models(
        &self,
        standing: Option<ModelsMeta>,
        origin: Option<ModelsOrigin>,
        published_at: DateTime<Utc>,
    ) -> Result<Vec<Write>, StateError> {
        // A cursor may meet a field twice; the checksum wants each once and in order.
        let models: BTreeMap<Vec<u8>, Vec<u8>> = self.scan_hash(&self.layout().models()).await?.into_iter().collect();
        let meta = next_models_meta(standing, origin, models_checksum(&models), published_at);
        let hash = self.layout().models_meta();
        let fields = entries::models_meta_fields(&meta).into_iter();
        let writes = fields
            .map(|(field, value)| Write { place: Place::field(&hash, field.as_bytes().to_vec()), value: Some(value) });
        Ok(writes.collect())
    }
}
