//! Runtime flags: switches that take effect without a restart, in every process.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ez_contract::request_body::KEEPS_REQUEST_BODIES;
use ez_contract::snapshot::SnapshotKey;
use ez_store::{Executor, Readable, RecordKind, StoreError, settings};
use serde_json::{Value as Json, json};

use crate::error::Faults;
use crate::recorded::Recorded;
use crate::write::NO_RECORD;
use crate::{Control, ControlError, Write};

/// Every flag, and what it is until someone says otherwise.
const FLAGS: &[(&str, bool)] = &[
    // Request bodies are stored with log records.
    (KEEPS_REQUEST_BODIES, false),
    // Someone has read what using subscriptions through OAuth providers means.
    ("oauth_providers_acknowledged", false),
];

/// The setting that holds them, as a JSON object.
const SETTING: &str = "features";

/// What they are called together.
const WHAT: &str = "the set of feature flags";

/// Every flag and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features(pub BTreeMap<String, bool>);

impl Recorded for Features {
    const KIND: RecordKind = RecordKind::Feature;

    fn id(&self) -> i64 {
        NO_RECORD
    }

    /// Nobody asks: what they are is all that tells two states apart.
    fn updated_at(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }

    fn audited(&self) -> Json {
        json!(self.0)
    }
}

/// Every flag and its value. Errors: `Unavailable`.
pub async fn get(control: &Control) -> Result<Features, ControlError> {
    Ok(standing(control.store()).await?)
}

/// Sets the flags that are named and returns all of them. Errors: `Invalid` for a flag that does not exist and for a value
/// other than true and false, `Stale`.
pub async fn update(write: &Write, changes: &BTreeMap<String, Json>) -> Result<Features, ControlError> {
    let mut faults = Faults::default();
    let mut valid: BTreeMap<String, bool> = BTreeMap::new();
    for (flag, value) in changes {
        let pointer = format!("/{}", flag.replace('~', "~0").replace('/', "~1"));
        match (is_known(flag), value.as_bool()) {
            (false, _) => faults.add(pointer, format!("is no flag; there are: {}", names())),
            (true, None) => faults.add(pointer, "must be true or false"),
            (true, Some(value)) => drop(valid.insert(flag.clone(), value)),
        }
    }
    faults.into_result()?;

    // The row is there before it is locked.
    settings::put_if_absent(write.tx(), SETTING, "{}").await?;
    let before = of_setting(settings::get_for_update(write.tx(), SETTING).await?.as_deref())?;
    write.require_fresh(WHAT, &before)?;
    let after = Features(before.0.clone().into_iter().chain(valid).collect());
    settings::put(write.tx(), SETTING, &json!(after.0).to_string()).await?;
    write.record("update", Some(&before), Some(&after), &[]).await?;
    Ok(after)
}

/// Every flag and its value. Errors: `Corrupt` where the setting was damaged.
pub(crate) async fn standing(db: &impl Executor) -> Result<Features, StoreError> {
    of_setting(settings::get(db, SETTING).await?.as_deref())
}

/// The same, where a damaged setting must not stop all else.
pub(crate) async fn readable(db: &impl Executor) -> Result<Readable<(String, bool)>, StoreError> {
    match standing(db).await {
        Ok(features) => Ok(Readable { records: features.0.into_iter().collect(), faults: Vec::new() }),
        Err(fault @ StoreError::Corrupt { .. }) => Ok(Readable { records: Vec::new(), faults: vec![fault] }),
        Err(error) => Err(error),
    }
}

/// The flags that were ever set, and to what. Errors: `Corrupt` where the setting was damaged.
pub(crate) async fn chosen(db: &impl Executor) -> Result<BTreeMap<String, bool>, StoreError> {
    kept(settings::get(db, SETTING).await?.as_deref())
}

/// The places of all flags in the snapshot.
pub(crate) fn keys() -> impl Iterator<Item = SnapshotKey> {
    FLAGS.iter().map(|(flag, _)| SnapshotKey::Feature((*flag).to_owned()))
}

fn of_setting(setting: Option<&str>) -> Result<Features, StoreError> {
    let kept = kept(setting)?;
    // A flag that another version knew is not told of.
    let value = |flag: &str, default| kept.get(flag).copied().unwrap_or(default);
    Ok(Features(FLAGS.iter().map(|(flag, default)| ((*flag).to_owned(), value(flag, *default))).collect()))
}

fn kept(setting: Option<&str>) -> Result<BTreeMap<String, bool>, StoreError> {
    serde_json::from_str(setting.unwrap_or("{}")).map_err(|error| StoreError::Corrupt {
        table: "settings",
        column: "value".to_owned(),
        id: SETTING.to_owned(),
        reason: error.to_string(),
    })
}

/// Whether there is such a flag.
pub(crate) fn is_known(flag: &str) -> bool {
    FLAGS.iter().any(|(known, _)| *known == flag)
}

fn names() -> String {
    FLAGS.iter().map(|(flag, _)| *flag).collect::<Vec<_>>().join(", ")
}
