//! Records that the disk did not take: held in memory until it does, or the control plane takes them directly.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ez_contract::UsageRecord;
use ez_telemetry::metrics::{USAGE_LOG_HELD, USAGE_LOG_LOST};

/// Records held at most, about 10 MB. New calls are refused meanwhile, so only calls under way add to them.
pub(super) const MAX_HELD_RECORDS: usize = 10_000;

/// A bounded queue of records, oldest first.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<VecDeque<UsageRecord>>);

impl Held {
    /// Holds a record; whether there was room. Where there is none it is lost, which is told with all that it says of the
    /// cost.
    pub(super) fn put(&self, record: UsageRecord) -> bool {
        let mut records = self.records();
        if records.len() >= MAX_HELD_RECORDS {
            report_lost(&record, "too many usage records wait for a disk that cannot be written");
            return false;
        }
        records.push_back(record);
        note_length(&records);
        true
    }

    /// Takes the oldest records out, at most `limit`. Whoever takes them puts back what he could not store.
    pub(super) fn take(&self, limit: usize) -> Vec<UsageRecord> {
        let mut records = self.records();
        let length = limit.min(records.len());
        let taken = records.drain(..length).collect();
        note_length(&records);
        taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records().is_empty()
    }

    /// Puts back what was taken; it was counted before, so there is room for it.
    pub(super) fn put_back(&self, taken: Vec<UsageRecord>) {
        let mut records = self.records();
        for record in taken.into_iter().rev() {
            records.push_front(record);
        }
        note_length(&records);
    }

    fn records(&self) -> MutexGuard<'_, VecDeque<UsageRecord>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note_length(records: &VecDeque<UsageRecord>) {
    metrics::gauge!(USAGE_LOG_HELD).set(records.len() as f64);
}

/// Tells of a record that nothing could store. The line carries what an operator needs to account for it by hand.
pub(super) fn report_lost(record: &UsageRecord, reason: &str) {
    metrics::counter!(USAGE_LOG_LOST).increment(1);
    tracing::error!(
        reason,
        record_id = record.id,
        request_id = record.request_id,
        master_id = record.master_id,
        key_id = record.key_id,
        model = record.model,
        input_tokens = record.tokens.input_tokens,
        output_tokens = record.tokens.output_tokens,
        "usage record lost"
    );
}
