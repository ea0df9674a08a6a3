//! Entries as Redis stores them: JSON for shapes, `true` or `false` for features, plain fields for the meta hash.

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat, Utc};
use ez_contract::models::ModelsMeta;
use ez_contract::snapshot::{SnapshotEntry, SnapshotKey, SnapshotMeta};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StateError;

/// The value of an entry.
pub(super) fn encode(entry: &SnapshotEntry) -> Result<String, StateError> {
    match entry {
        SnapshotEntry::Provider(provider) => json(provider),
        SnapshotEntry::Binding(binding) => json(binding),
        SnapshotEntry::Model(model) => json(model),
        SnapshotEntry::Token(_, token) => json(token),
        SnapshotEntry::Master(master) => json(master),
        SnapshotEntry::Feature(_, value) => Ok(value.to_string()),
    }
}

/// The entry that a value stored under `key` makes, or `None` where it does not parse or belongs under another key.
pub(super) fn decode(key: &SnapshotKey, value: &[u8]) -> Option<SnapshotEntry> {
    fn shape<Shape: DeserializeOwned>(value: &[u8]) -> Option<Shape> {
        serde_json::from_slice(value).ok()
    }
    let entry = match key {
        SnapshotKey::Provider(_) => SnapshotEntry::Provider(shape(value)?),
        SnapshotKey::Binding(_) => SnapshotEntry::Binding(shape(value)?),
        SnapshotKey::Model(_) => SnapshotEntry::Model(shape(value)?),
        SnapshotKey::Token(digest) => SnapshotEntry::Token(*digest, shape(value)?),
        SnapshotKey::Master(_) => SnapshotEntry::Master(shape(value)?),
        SnapshotKey::Feature(flag) => SnapshotEntry::Feature(flag.clone(), shape(value)?),
    };
    (entry.key() == *key).then_some(entry)
}

/// JSON of a contract shape.
pub(super) fn json(shape: &impl Serialize) -> Result<String, StateError> {
    serde_json::to_string(shape).map_err(|error| StateError::Backend(format!("a value has no JSON form: {error}")))
}

/// A point in time as the meta hash holds it.
pub(super) fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Reads the meta hash; an absent one is that of a store where nothing was published.
pub(super) fn meta_from_fields(key: &str, fields: &HashMap<String, String>) -> Result<SnapshotMeta, StateError> {
    let text = |name: &str| fields.get(name).map_or("", String::as_str);
    let number = |name: &str| match text(name) {
        "" => Ok(0),
        digits => digits.parse().map_err(|_| StateError::Corrupt(format!("`{name}` of `{key}` is not a version"))),
    };
    let published_at = match text("published_at") {
        "" => None,
        time => Some(
            time.parse().map_err(|_| StateError::Corrupt(format!("`published_at` of `{key}` is not a timestamp")))?,
        ),
    };
    Ok(SnapshotMeta {
        contract_version: text("contract_version").to_owned(),
        version: number("version")?,
        pending: number("pending")?,
        published_at,
        publisher: text("publisher").to_owned(),
    })
}

/// The fields of the account of models.
pub(super) fn models_meta_fields(meta: &ModelsMeta) -> [(&'static str, String); 6] {
    [
        ("version", meta.version.clone()),
        ("updated_at", timestamp(meta.updated_at)),
        ("source", meta.source.clone()),
        ("checksum", meta.checksum.clone()),
        ("upstream_url", meta.upstream_url.clone()),
        ("upstream_ref", meta.upstream_ref.clone()),
    ]
}

/// Reads the account of models; `None` where it is not there or damaged.
pub(super) fn models_meta_from_fields(mut fields: HashMap<String, String>) -> Option<ModelsMeta> {
    Some(ModelsMeta {
        version: fields.remove("version")?,
        updated_at: fields.remove("updated_at")?.parse().ok()?,
        source: fields.remove("source")?,
        checksum: fields.remove("checksum")?,
        upstream_url: fields.remove("upstream_url")?,
        upstream_ref: fields.remove("upstream_ref")?,
    })
}
