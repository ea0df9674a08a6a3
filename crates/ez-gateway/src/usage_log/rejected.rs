//! Records that the control plane will never take: kept aside in one file, with the reason, so that somebody can mend what
//! was wrong and hand them in again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ez_telemetry::metrics::{USAGE_LOG_LOST, USAGE_LOG_REJECTED};
use serde::Serialize;
use serde_json::value::RawValue;

use super::batch::UsageBatch;
use super::held::report_lost;
use crate::control_link::RejectedRecord;

/// One line for each: `{"reason":"…","record":{…}}`.
const FILE: &str = "rejected.jsonl";
/// Some ten thousand records; what comes on top of that is only told in the log.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Of a record of unknown shape that is lost.
const MAX_TOLD_CHARS: usize = 2_000;

#[derive(Serialize)]
struct Line<'r> {
    reason: &'r str,
    record: &'r RawValue,
}

/// Keeps what was rejected of a batch, and tells of each.
pub(super) fn keep(dir: &Path, batch: &UsageBatch, rejected: &[RejectedRecord]) {
    if rejected.is_empty() {
        return;
    }
    let records: Vec<&[u8]> = batch.records().collect();
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join(FILE));
    for RejectedRecord { index, id, reason } in rejected {
        metrics::counter!(USAGE_LOG_REJECTED).increment(1);
        let record = usize::try_from(*index).ok().and_then(|index| records.get(index)).copied().unwrap_or_default();
        let failure = match &mut file {
            Ok(file) => append(file, reason, record).err().map(|e| e.to_string()),
            Err(e) => Some(e.to_string()),
        };
        let is_kept = failure.is_none();
        tracing::error!(record_id = id, reason, is_kept, failure, "usage record rejected by the control plane");
        if !is_kept {
            tell_of_lost(record, reason);
        }
    }
    if let Ok(file) = file
        && let Err(e) = file.sync_data()
    {
        tracing::error!(error = %e, "{FILE} not forced to the disk");
    }
}

fn append(file: &mut File, reason: &str, record: &[u8]) -> io::Result<()> {
    let record = serde_json::from_slice(record)?;
    let mut line = serde_json::to_vec(&Line { reason, record })?;
    line.push(b'\n');
    if file.metadata()?.len() + line.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("{FILE} is full: move it away")));
    }
    file.write_all(&line)
}

fn tell_of_lost(record: &[u8], reason: &str) {
    match serde_json::from_slice(record) {
        Ok(record) => report_lost(&record, reason),
        Err(_) => {
            metrics::counter!(USAGE_LOG_LOST).increment(1);
            let record: String = String::from_utf8_lossy(record).chars().take(MAX_TOLD_CHARS).collect();
            tracing::error!(reason, record, "usage record lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::batch::BatchBuilder;
    use super::*;

    fn rejected(index: u64) -> RejectedRecord {
        RejectedRecord { index, id: format!("r{index}"), reason: "of \"no\" known shape".to_owned() }
    }

    #[test]
    fn what_is_rejected_is_kept_with_its_reason_up_to_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let mut batch = BatchBuilder::new();
        for n in 0..3 {
            batch.push(format!(r#"{{"id":"r{n}", "x":{n}}}"#).as_bytes());
        }
        let batch = batch.finish();
        keep(dir.path(), &batch, &[rejected(0), rejected(2)]);
        // An index that the batch does not have spoils nothing.
        keep(dir.path(), &batch, &[rejected(9), rejected(1)]);
        let path = dir.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        let kept: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(kept.iter().map(|line| line["record"]["x"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 2, 1]);
        assert_eq!(kept[0]["reason"], "of \"no\" known shape");

        OpenOptions::new().write(true).open(&path).unwrap().set_len(MAX_FILE_BYTES - 10).unwrap();
        keep(dir.path(), &batch, &[rejected(0)]);
        assert_eq!(fs::metadata(&path).unwrap().len(), MAX_FILE_BYTES - 10);
    }
}
