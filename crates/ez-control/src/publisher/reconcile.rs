//! Full reconcile: compares the published snapshot with what it should be, and publishes the differences.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::models::{ModelsMeta, ModelsOrigin, models_checksum};
use ez_contract::snapshot::{SnapshotChange, SnapshotEntry, SnapshotKey, SnapshotKind};
use ez_state::{Base, Publication, Scope, SnapshotDelta, SnapshotImage};
use ez_store::{Store, StoreError, outbox};
use ez_telemetry::metrics::SNAPSHOT_REPAIRS;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::batch::Touching;
use super::turn::Turn;
use super::{Standing, everything, publish_all_due, standing};
use crate::error::chain;
use crate::snapshot::{Image, Reading, read_image};
use crate::{Control, ControlError, usage_publication};

/// Repairs that a report names.
const MAX_NAMED: usize = 100;

/// Repairs that a log line names.
const MAX_LOGGED: usize = 10;

/// How long to wait for another process that publishes.
const PATIENCE: Duration = Duration::from_secs(10);

/// How soon to ask again for the turn of another process.
const BUSY_RETRY: Duration = Duration::from_millis(50);

/// Where the last report stands among the notes of jobs.
const NOTE: &str = "full-reconcile.report";

/// Entries of the outbox that are looked at to tell a repair from a change under way.
const MAX_PENDING: u64 = 10_000;

/// How a report names the account of models; no entry has such a key, as that of a model holds a dot.
const MODELS_META: &str = "models_meta";

/// What a full comparison found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconcileReport {
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// `EZ_NODE_ID` of the process that compared.
    pub node_id: String,
    /// The snapshot version that stands now.
    pub version: u64,
    /// Entries that the snapshot has now.
    pub entries: usize,
    /// Records that cannot be read and are therefore missing in the snapshot; the log names them.
    pub unreadable: usize,
    /// Whether there was no whole snapshot before (the first start, lost or damaged data), so that all was published.
    pub rebuilt: bool,
    /// How many entries had to be repaired.
    pub repairs: usize,
    /// The first hundred of them.
    pub repaired: Vec<Repair>,
}

/// An entry of the snapshot that was not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// What kind of entry.
    pub kind: SnapshotKind,
    /// Its key: an id, a `namespace.public_model`, a token digest, `models_meta` for the account of all models.
    pub id: String,
    /// How it differed.
    pub drift: Drift,
}

/// How a published entry differed from what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// It was not there (or could not be read).
    Missing,
    /// Its content was another.
    Differs,
    /// It should not have been there.
    Surplus,
}

/// What this process remembers of its last full comparison.
#[derive(Debug, Clone)]
pub(crate) struct KeptReport {
    /// What it found.
    report: ReconcileReport,
    /// Whether the other processes were told of it.
    is_told: bool,
}

impl Drift {
    /// Every drift.
    pub const ALL: [Self; 3] = [Self::Missing, Self::Differs, Self::Surplus];

    /// `missing`, `differs` or `surplus`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Differs => "differs",
            Self::Surplus => "surplus",
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.drift, self.kind.as_str(), self.id)
    }
}

/// Compares everything and repairs what differs. Changes that are under way are published too, and are no repairs. Where
/// nothing differs, which is nearly always, nobody is kept from publishing meanwhile.
///
/// Errors: `Unavailable` while the database or the shared state does not answer, or another process keeps publishing.
pub async fn reconcile(control: &Control) -> Result<ReconcileReport, ControlError> {
    // What is missing altogether is published first, so that changes need not wait for the comparison behind it.
    let was_missing = !standing(control).await?.is_whole;
    if was_missing {
        publish_missing(control).await?;
    }
    let mut report = match find_nothing(control).await {
        Some(report) => report,
        None => repair_drift(control).await?,
    };
    report.rebuilt |= was_missing;
    keep(control, &report).await;
    Ok(report)
}

/// Compares everything and repairs nothing: the report names what [`reconcile`] would repair now. What is due counts as
/// under way, and is no drift.
///
/// Errors: as [`reconcile`].
pub async fn compare(control: &Control) -> Result<ReconcileReport, ControlError> {
    if let Some(report) = find_nothing(control).await {
        return Ok(report);
    }
    let _one_at_a_time = control.publishing().turn.lock().await;
    let turn = wait_for_turn(control).await?;
    let outcome = turn.keep(compare_now(control)).await;
    turn.end().await;
    let comparison = outcome?;
    let version = control.state().meta().await?.version;
    Ok(comparison.report(control, version))
}

/// What the last full comparison found, by whichever process; by this one while the shared state is down.
pub(crate) async fn last_report(control: &Control) -> Option<ReconcileReport> {
    let own = control.publishing().last_reconcile();
    let note = control.state().job_note(NOTE).await.ok().flatten();
    // One that does not parse was noted by another version, and is as good as none.
    let shared = note.and_then(|note| serde_json::from_str(&note).ok());
    match (own, shared) {
        // The shared one is as new or newer then, whatever the clocks say.
        (Some(KeptReport { is_told: true, .. }), Some(shared)) => Some(shared),
        (own, shared) => own
            .map(|own| own.report)
            .into_iter()
            .chain(shared)
            .max_by_key(|report: &ReconcileReport| report.finished_at),
    }
}

/// Keeps a report where each process finds it.
async fn keep(control: &Control, report: &ReconcileReport) {
    let Ok(note) = serde_json::to_string(report) else { return };
    let told = control.state().put_job_note(NOTE, &note).await;
    if let Err(error) = &told {
        tracing::debug!(error = %chain(error), "other processes cannot be told of a full comparison");
    }
    control.publishing().keep_report(KeptReport { report: report.clone(), is_told: told.is_ok() });
}

/// Drift is nobody's intention: it is told once, and counted.
fn tell(report: &ReconcileReport) {
    let (version, entries) = (report.version, report.entries);
    if report.repairs == 0 {
        tracing::debug!(version, entries, "the snapshot is as it should be");
        return;
    }
    let first: Vec<String> = report.repaired.iter().take(MAX_LOGGED).map(ToString::to_string).collect();
    let (repairs, first) = (report.repairs, first.join(", "));
    tracing::warn!(repairs, first, version, "the snapshot differed from the database and was repaired");
}

async fn wait_for_turn(control: &Control) -> Result<Turn<'_>, ControlError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(turn) = Turn::take(control).await? {
            return Ok(turn);
        }
        if Instant::now() >= deadline {
            return Err(ControlError::Unavailable("another control plane keeps publishing".into()));
        }
        tokio::time::sleep(BUSY_RETRY).await;
    }
}

/// Compares while others publish. None where something differs, or where that cannot be told: it is looked at in turn
/// then.
async fn find_nothing(control: &Control) -> Option<ReconcileReport> {
    let mut comparison = compare_now(control).await.ok()?;
    let base = comparison.base.filter(|_| !comparison.was_missing && !comparison.is_damaged)?;
    // What was published during the comparison was read once before and once after.
    let (version, published) = match control.state().read_changes(base.version).await.ok()? {
        SnapshotDelta::UpToDate => (base.version, BTreeSet::new()),
        SnapshotDelta::Changes { meta, changes, damaged } if damaged.is_empty() => {
            (meta.version, changes.iter().map(SnapshotChange::key).collect())
        }
        SnapshotDelta::Changes { .. } | SnapshotDelta::TooOld => return None,
    };
    // Use that was counted meanwhile is published by itself.
    comparison.drifts.retain(|key, _| !published.contains(key) && !comparison.in_use.contains(key));
    let is_nothing = comparison.drifts.is_empty() && comparison.account_drift.is_none();
    is_nothing.then(|| comparison.report(control, version))
}

async fn publish_missing(control: &Control) -> Result<(), ControlError> {
    let _one_at_a_time = control.publishing().turn.lock().await;
    let turn = wait_for_turn(control).await?;
    let outcome = publish_all_due(&turn).await;
    turn.end().await;
    outcome.map(drop)
}

async fn repair_drift(control: &Control) -> Result<ReconcileReport, ControlError> {
    let _one_at_a_time = control.publishing().turn.lock().await;
    let turn = wait_for_turn(control).await?;
    let outcome = reconcile_in_turn(&turn).await;
    turn.end().await;
    outcome
}

async fn reconcile_in_turn(turn: &Turn<'_>) -> Result<ReconcileReport, ControlError> {
    let control = turn.control();
    let was_missing = !standing(control).await?.is_whole;
    publish_all_due(turn).await?;
    let mut comparison = turn.keep(compare_now(control)).await?;
    comparison.was_missing = was_missing;
    let (desired, models) = (std::mem::take(&mut comparison.desired), std::mem::take(&mut comparison.models));
    // Only a publication of everything adds up models that have not changed.
    let is_anew = comparison.is_damaged || comparison.account_drift.is_some();
    let publication = if is_anew { everything(desired, comparison.base) } else { differences(desired, &comparison) };
    let version = turn.publish(publication, Some(models)).await?;
    let drifted = comparison.drifts.iter().filter(|(key, _)| !comparison.under_way.contains(*key));
    for drift in drifted.map(|(_, drift)| *drift).chain(comparison.account_drift) {
        metrics::counter!(SNAPSHOT_REPAIRS, "drift" => drift.as_str()).increment(1);
    }
    let report = comparison.report(control, version);
    tell(&report);
    Ok(report)
}

/// Reads what should be published, and what is. Only in turn is that one moment.
async fn compare_now(control: &Control) -> Result<Comparison, ControlError> {
    let Standing { base, is_whole } = standing(control).await?;
    let Reading { image: desired, models, unreadable } = read_image(control).await?;
    // Before the outbox: what has left here by then has an entry there.
    let in_use = usage_publication::pending(control.store()).await?;
    let mut under_way = touched_by_pending(control.store()).await?;
    under_way.extend(in_use.iter().cloned());
    let standing = control.state().read_snapshot().await?;
    let models_meta = control.state().models_meta().await?;
    let drifts = drifts(&desired, &standing);
    Ok(Comparison {
        entries: desired.len(),
        account_drift: account_drift(models_meta, &desired, &drifts),
        drifts,
        desired,
        models,
        unreadable,
        under_way,
        in_use,
        base,
        was_missing: !is_whole,
        is_damaged: !standing.damaged.is_empty(),
    })
}

/// What should be published, and how what is published differs.
struct Comparison {
    desired: Image,
    models: ModelsOrigin,
    entries: usize,
    drifts: BTreeMap<SnapshotKey, Drift>,
    /// How the account of models differs by itself.
    account_drift: Option<Drift>,
    unreadable: usize,
    under_way: BTreeSet<SnapshotKey>,
    /// What has use that is still to be published.
    in_use: BTreeSet<SnapshotKey>,
    /// What stood before the comparison.
    base: Option<Base>,
    was_missing: bool,
    is_damaged: bool,
}

impl Comparison {
    fn report(self, control: &Control, version: u64) -> ReconcileReport {
        let Self { entries, drifts, account_drift, unreadable, under_way, was_missing, is_damaged, .. } = self;
        let drifted = drifts.into_iter().filter(|(key, _)| !under_way.contains(key));
        let account =
            account_drift.map(|drift| Repair { kind: SnapshotKind::Model, id: MODELS_META.to_owned(), drift });
        let repairs: Vec<Repair> = drifted.map(|(key, drift)| repair(key, drift)).chain(account).collect();
        ReconcileReport {
            finished_at: control.now(),
            node_id: control.config().node_id.clone(),
            version,
            entries,
            unreadable,
            rebuilt: was_missing || is_damaged,
            repairs: repairs.len(),
            repaired: repairs.into_iter().take(MAX_NAMED).collect(),
        }
    }
}

/// What changes that are still to be published touch. Read after the desired image: whatever of it was committed since
/// the last publication has an entry here.
async fn touched_by_pending(store: &Store) -> Result<BTreeSet<SnapshotKey>, ControlError> {
    let mut keys = BTreeSet::new();
    let mut touching = Touching::new(store);
    for entry in outbox::list_due(store, DateTime::<Utc>::MAX_UTC, MAX_PENDING).await? {
        match touching.touched(&entry).await {
            Ok(touched) => keys.extend(touched.keys),
            Err(error @ StoreError::Unavailable(_)) => return Err(error.into()),
            // It is left out of the image, too.
            Err(error) => tracing::debug!(error = %chain(&error), "a changed record cannot be read"),
        }
    }
    Ok(keys)
}

fn drifts(desired: &Image, standing: &SnapshotImage) -> BTreeMap<SnapshotKey, Drift> {
    let published: BTreeMap<SnapshotKey, &SnapshotEntry> =
        standing.entries.iter().map(|entry| (entry.key(), entry)).collect();
    let wanted = desired.iter().filter_map(|(key, entry)| match published.get(key) {
        None => Some((key.clone(), Drift::Missing)),
        Some(standing) if *standing != entry => Some((key.clone(), Drift::Differs)),
        Some(_) => None,
    });
    let surplus = published.keys().filter(|key| !desired.contains_key(key));
    wanted.chain(surplus.map(|key| (key.clone(), Drift::Surplus))).collect()
}

/// How the account of models differs. Where models themselves do, publishing them renews it.
fn account_drift(
    standing: Option<ModelsMeta>,
    desired: &Image,
    drifts: &BTreeMap<SnapshotKey, Drift>,
) -> Option<Drift> {
    if drifts.keys().any(|key| matches!(key, SnapshotKey::Model(_))) {
        return None;
    }
    let models = desired.values().filter_map(|entry| match entry {
        SnapshotEntry::Model(model) => Some((&model.name, serde_json::to_vec(model).unwrap_or_default())),
        _ => None,
    });
    match standing {
        None => Some(Drift::Missing),
        Some(standing) => (standing.checksum != models_checksum(models)).then_some(Drift::Differs),
    }
}

fn differences(mut desired: Image, comparison: &Comparison) -> Publication {
    let changes = comparison.drifts.keys().map(|key| match desired.remove(key) {
        Some(entry) => SnapshotChange::Put(entry),
        None => SnapshotChange::Remove(key.clone()),
    });
    Publication { changes: changes.collect(), scope: Scope::Changes, base: comparison.base }
}

fn repair(key: SnapshotKey, drift: Drift) -> Repair {
    let (kind, id) = match key {
        SnapshotKey::Provider(id) => (SnapshotKind::Provider, id.to_string()),
        SnapshotKey::Binding(name) => (SnapshotKind::Binding, name),
        SnapshotKey::Model(name) => (SnapshotKind::Model, name),
        SnapshotKey::Token(digest) => (SnapshotKind::Token, digest.to_string()),
        SnapshotKey::Master(id) => (SnapshotKind::Master, id.to_string()),
        SnapshotKey::Feature(flag) => (SnapshotKind::Feature, flag),
    };
    Repair { kind, id, drift }
}
