//! The unit of work: a change, its audit entry and its outbox entry in one transaction.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use ez_contract::alerts::{AlertSeverity, AlertType};
use ez_contract::snapshot::SnapshotKey;
use ez_state::fail_point::{FailPoint, reach};
use ez_store::alerts::Alert;
use ez_store::audit::{self, NewAuditEntry};
use ez_store::outbox::{self, NewOutboxEntry};
use ez_store::{ActorKind, RecordKind, StoreTx};
use ez_telemetry::metrics::ALERTS_RAISED;
use serde_json::{Map, Value as Json};

use crate::recorded::Recorded;
use crate::tag::{Expectation, RecordTag};
use crate::{Control, ControlError};

/// Snapshot keys that one outbox entry names at most.
const MAX_KEYS_OF_ENTRY: usize = 500;

/// The id of what is no single record: several, or such as are gone, whose entry names their snapshot keys; the feature
/// flags; the model catalogue.
pub(crate) const NO_RECORD: i64 = 0;

/// Where a request comes from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Its `X-Request-ID`.
    pub request_id: String,
    /// The caller's address, where known.
    pub client_ip: Option<IpAddr>,
}

/// Who acts.
#[derive(Debug, Clone)]
pub struct Actor {
    /// An administrator, a master, or ez-api itself.
    pub kind: ActorKind,
    /// The master's id, where it is one.
    pub id: Option<i64>,
    /// Where the request comes from.
    pub origin: Origin,
}

/// Whose records a request reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenant {
    /// Everybody's: an administrator.
    Any,
    /// Those of one master; others do not exist for it.
    Only(i64),
}

/// A unit of work. Rules change records through it; nothing counts before [`Write::commit`], and dropping it undoes
/// all. After any error drop it.
#[must_use = "what is not committed is undone"]
pub struct Write {
    control: Control,
    tx: StoreTx,
    actor: Actor,
    now: DateTime<Utc>,
    expectation: Option<Expectation>,
    is_expectation_met: AtomicBool,
    is_dry_run: bool,
    /// Alerts that come to be, or become worse, with the commit.
    raised: Mutex<Vec<(AlertType, AlertSeverity)>>,
}

/// Records that go with the one that they belong to.
#[derive(Debug)]
pub(crate) struct Gone {
    kind: RecordKind,
    count: usize,
    keys: Vec<SnapshotKey>,
}

impl Gone {
    /// These records.
    pub(crate) fn of<R: Recorded>(records: &[R]) -> Self {
        let keys = records.iter().flat_map(Recorded::snapshot_keys).collect();
        Self { kind: R::KIND, count: records.len(), keys }
    }

    /// Those and these.
    pub(crate) fn and(mut self, others: Self) -> Self {
        self.count += others.count;
        self.keys.extend(others.keys);
        self
    }
}

impl Actor {
    /// An administrator.
    pub fn admin(origin: Origin) -> Self {
        Self { kind: ActorKind::Admin, id: None, origin }
    }

    /// A master.
    pub fn master(id: i64, origin: Origin) -> Self {
        Self { kind: ActorKind::Master, id: Some(id), origin }
    }

    /// ez-api itself, on what a gateway reported.
    pub fn gateway(origin: Origin) -> Self {
        Self { kind: ActorKind::System, id: None, origin }
    }

    /// ez-api itself.
    pub fn system() -> Self {
        Self { kind: ActorKind::System, id: None, origin: Origin::default() }
    }
}

impl Tenant {
    /// Whether records of this master are within reach.
    pub(crate) fn reaches(self, master_id: i64) -> bool {
        match self {
            Self::Any => true,
            Self::Only(id) => id == master_id,
        }
    }
}

impl Write {
    pub(crate) fn new(control: Control, tx: StoreTx, actor: Actor) -> Self {
        let now = control.now();
        let is_expectation_met = AtomicBool::new(false);
        let raised = Mutex::default();
        Self { control, tx, actor, now, expectation: None, is_expectation_met, is_dry_run: false, raised }
    }

    /// The same, for a change that is meant for one state of its record: another is `Stale`.
    pub fn expecting(self, expectation: Option<Expectation>) -> Self {
        Self { expectation, ..self }
    }

    /// The same, as a dry run where `is_dry_run` says so: [`Self::commit`] undoes all.
    pub fn dry_run(self, is_dry_run: bool) -> Self {
        Self { is_dry_run, ..self }
    }

    /// Whether this is a dry run. A rule does nothing then that a rollback would not undo.
    pub fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }

    /// Makes the changes durable and wakes the publisher. A dry run undoes them instead.
    pub async fn commit(self) -> Result<(), ControlError> {
        if self.expectation.is_some() && !self.is_expectation_met.load(Ordering::Relaxed) {
            return Err(ControlError::internal("a rule took an expectation of its record and did not check it"));
        }
        if self.is_dry_run {
            return Ok(self.tx.rollback().await?);
        }
        self.tx.commit().await?;
        reach(FailPoint::Committed);
        self.control.publishing().wake.notify_one();
        for (alert_type, severity) in self.raised.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let labels = [("type", alert_type.as_str()), ("severity", severity.as_str())];
            metrics::counter!(ALERTS_RAISED, &labels).increment(1);
        }
        Ok(())
    }

    pub(crate) fn tx(&self) -> &StoreTx {
        &self.tx
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    pub(crate) fn actor(&self) -> &Actor {
        &self.actor
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Refuses a change that was meant for another state of its record. Every rule that changes or deletes a record which
    /// its caller names calls this right after it has locked that record. `noun` is what its kind is called. Errors:
    /// `Stale`.
    pub(crate) fn require_fresh<R: Recorded>(&self, noun: &str, record: &R) -> Result<(), ControlError> {
        let Some(expectation) = &self.expectation else { return Ok(()) };
        if !expectation.is_met_by(&RecordTag::of(record)) {
            let what = if record.id() == NO_RECORD { noun.to_owned() } else { format!("{noun} {}", record.id()) };
            return Err(ControlError::Stale { what });
        }
        self.is_expectation_met.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Records a change of a record: what it was and what it is go to the audit, what is to be published to the outbox.
    /// Every rule that changes something ends here, in [`Self::record_all`] or in [`Self::record_deletion`]. `also` names
    /// other records that are to be published, before this one.
    pub(crate) async fn record<R: Recorded>(
        &self,
        action: &str,
        before: Option<&R>,
        after: Option<&R>,
        also: &[(RecordKind, i64)],
    ) -> Result<(), ControlError> {
        let Some(record) = after.or(before) else { return Ok(()) };
        self.audit::<R>(action, record.id(), before.map(Recorded::audited), after.map(Recorded::audited)).await?;
        for (kind, record_id) in also {
            self.enqueue(*kind, *record_id, &[]).await?;
        }
        // Where it stood before cannot be read from the record any more.
        let left = before.map(Recorded::snapshot_keys).unwrap_or_default();
        self.enqueue(R::KIND, record.id(), &left).await
    }

    /// The same for a record that is in no snapshot.
    pub(crate) async fn record_unpublished<R: Recorded>(
        &self,
        action: &str,
        before: Option<&R>,
        after: &R,
    ) -> Result<(), ControlError> {
        self.audit::<R>(action, after.id(), before.map(Recorded::audited), Some(after.audited())).await
    }

    /// Notes an alert that comes to be, or becomes worse, with the commit.
    pub(crate) fn note_raised(&self, alert: &Alert) {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).push((alert.alert_type, alert.severity));
    }

    /// Records one kind of change to many records at once: an audit entry each, and few outbox entries for all. Each
    /// change is the record before, where there was one, and after. `also` names other records that are to be published.
    pub(crate) async fn record_all<R: Recorded>(
        &self,
        action: &str,
        changes: &[(Option<&R>, &R)],
        also: &[(RecordKind, i64)],
    ) -> Result<(), ControlError> {
        let entry = |(before, after): &(Option<&R>, &R)| {
            self.audit_entry::<R>(action, after.id(), before.map(Recorded::audited), Some(after.audited()))
        };
        audit::append_all(&self.tx, &changes.iter().map(entry).collect::<Vec<_>>()).await?;
        let records = changes.iter().flat_map(|(before, after)| before.iter().chain([after]));
        let keys: BTreeSet<SnapshotKey> = records.flat_map(|record| record.snapshot_keys()).collect();
        for (kind, record_id) in also {
            self.enqueue(*kind, *record_id, &[]).await?;
        }
        self.enqueue_keys(R::KIND, &keys.into_iter().collect::<Vec<_>>()).await
    }

    /// Records the deletion of a record with all that belonged to it: one audit entry, which tells how many that were,
    /// and few outbox entries. The record's own comes first, as its end is theirs.
    pub(crate) async fn record_deletion<R: Recorded>(&self, record: &R, gone: &[Gone]) -> Result<(), ControlError> {
        let mut before = record.audited();
        let counts: Map<String, Json> = gone
            .iter()
            .filter(|gone| gone.count > 0)
            .map(|gone| (gone.kind.as_str().to_owned(), gone.count.into()))
            .collect();
        if let Some(fields) = before.as_object_mut().filter(|_| !counts.is_empty()) {
            fields.insert("deleted_with".to_owned(), Json::Object(counts));
        }
        self.audit::<R>("delete", record.id(), Some(before), None).await?;
        self.enqueue(R::KIND, record.id(), &record.snapshot_keys()).await?;
        for Gone { kind, keys, .. } in gone {
            self.enqueue_keys(*kind, keys).await?;
        }
        Ok(())
    }

    /// Notes in the audit what was done with a record that it did not change.
    pub(crate) async fn record_use<R: Recorded>(
        &self,
        action: &str,
        record: &R,
        outcome: Json,
    ) -> Result<(), ControlError> {
        self.audit::<R>(action, record.id(), None, Some(outcome)).await
    }

    async fn audit<R: Recorded>(
        &self,
        action: &str,
        record_id: i64,
        before: Option<Json>,
        after: Option<Json>,
    ) -> Result<(), ControlError> {
        audit::append(&self.tx, &self.audit_entry::<R>(action, record_id, before, after)).await?;
        Ok(())
    }

    fn audit_entry<R: Recorded>(
        &self,
        action: &str,
        record_id: i64,
        before: Option<Json>,
        after: Option<Json>,
    ) -> NewAuditEntry {
        NewAuditEntry {
            created_at: self.now,
            actor_kind: self.actor.kind,
            actor_id: self.actor.id,
            action: action.to_owned(),
            record_kind: R::KIND,
            record_id: Some(record_id).filter(|id| *id != NO_RECORD),
            before,
            after,
            request_id: Some(self.actor.origin.request_id.clone()).filter(|id| !id.is_empty()),
            client_ip: self.actor.origin.client_ip.map(|address| address.to_string()),
        }
    }

    /// Enqueues what stands for many records. By itself only for what is no change of a record: that is audited.
    pub(crate) async fn enqueue_keys(&self, kind: RecordKind, keys: &[SnapshotKey]) -> Result<(), ControlError> {
        for keys in keys.chunks(MAX_KEYS_OF_ENTRY) {
            self.enqueue(kind, NO_RECORD, keys).await?;
        }
        Ok(())
    }

    async fn enqueue(&self, kind: RecordKind, record_id: i64, left: &[SnapshotKey]) -> Result<(), ControlError> {
        let detail = match left {
            [] => None,
            keys => Some(serde_json::to_string(keys).map_err(ControlError::internal)?),
        };
        let entry = NewOutboxEntry { kind, record_id, detail, created_at: self.now };
        Ok(outbox::append(&self.tx, &entry).await?)
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write").field("actor", &self.actor).field("now", &self.now).finish_non_exhaustive()
    }
}
