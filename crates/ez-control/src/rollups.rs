//! The job that keeps roll-ups: new log records are added to them, batch by batch.

use chrono::TimeDelta;
use ez_store::rollups;

use crate::{Control, ControlError};

/// How long one run goes on: well below what the scheduler allows. The next one begins seconds later.
const LONGEST: TimeDelta = TimeDelta::minutes(5);

/// Adds the log records to the roll-ups that came since the last run, and returns how many. It goes on until none is left,
/// so that a backlog is caught up with. May run at several places at once, and again: each record counts once.
///
/// Errors: `Unavailable`; what was added until then stays.
pub async fn run_once(control: &Control) -> Result<u64, ControlError> {
    let mut records = 0_u64;
    let begun = control.now();
    loop {
        let folded = rollups::fold(control.store()).await?;
        records = records.saturating_add(folded.records);
        if !folded.has_more || control.now() - begun > LONGEST {
            return Ok(records);
        }
    }
}
