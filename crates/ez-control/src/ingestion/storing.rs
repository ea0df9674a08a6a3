//! Storing records: all in one transaction, and around those that the database refuses.

use std::time::Instant;

use ez_contract::UsageRecord;
use ez_store::Store;
use ez_store::log_bodies::LogBody;
use ez_store::logs;
use ez_telemetry::metrics::LOG_BATCH_SECONDS;

use crate::ControlError;
use crate::error::chain;

/// Records of one batch that the database may refuse; with more of them something other than they is wrong.
const MAX_REFUSED: usize = 100;

/// What became of a record that keeps the rules.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is stored.
    New,
    /// It was there already.
    Known,
    /// The database does not take it.
    Refused {
        /// Its id.
        id: String,
        /// Why not.
        reason: String,
    },
}

/// Stores records in one transaction, with the request bodies of some of them, and tells what became of each. Where the database refuses what is in them, each half
/// by itself, down to the record that it refuses, so that one does not hold up the others for ever. That it is the record
/// and not the database is only believed where the database takes another one of the batch meanwhile.
pub(super) async fn store(
    store: &Store,
    records: &[UsageRecord],
    bodies: &[LogBody],
) -> Result<Vec<Outcome>, ControlError> {
    let begun = Instant::now();
    let outcomes = store_in_parts(store, records, bodies).await;
    metrics::histogram!(LOG_BATCH_SECONDS).record(begun.elapsed().as_secs_f64());
    let outcomes = outcomes?;
    let count = |is_it: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is_it(outcome)).count();
    super::count("accepted", count(|outcome| matches!(outcome, Outcome::New)));
    super::count("duplicate", count(|outcome| matches!(outcome, Outcome::Known)));
    super::count("rejected", count(|outcome| matches!(outcome, Outcome::Refused { .. })));
    Ok(outcomes)
}

async fn store_in_parts(
    store: &Store,
    records: &[UsageRecord],
    bodies: &[LogBody],
) -> Result<Vec<Outcome>, ControlError> {
    let (mut outcomes, mut refused) = (Vec::with_capacity(records.len()), 0);
    // The first half on top: outcomes come in the order of the records.
    let mut parts = vec![records];
    while let Some(part) = parts.pop() {
        let error = match logs::ingest_with_bodies(store, part, bodies).await {
            Ok(are_new) => {
                outcomes.extend(are_new.into_iter().map(|is_new| if is_new { Outcome::New } else { Outcome::Known }));
                continue;
            }
            Err(error) => error,
        };
        if let [record] = part {
            outcomes.push(Outcome::Refused { id: record.id.clone(), reason: chain(&error) });
            refused += 1;
        }
        let has_taken = outcomes.len() > refused;
        let is_last = part.len() == 1 && parts.is_empty();
        if !error.is_about_rows() || refused > MAX_REFUSED || (is_last && !has_taken) {
            return Err(error.into());
        }
        if part.len() > 1 {
            let (first, second) = part.split_at(part.len() / 2);
            parts.extend([second, first]);
        }
    }
    Ok(outcomes)
}
