//! Records that the control plane will never take: kept aside in one file, with the reason, so that somebody can mend what
//! was wrong and hand them in again. Request bodies are not: what people ask of a model has no place in a file that nobody
//! cleans, nor in the process log.

use std::borrow::Cow;
use std::collections::BTreeMap;
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
/// Where a record carries the body of its call's request.
const BODY_FIELD: &str = "request_body";
/// Of a record of unknown shape that is lost.
const MAX_TOLD_CHARS: usize = 2_000;

#[derive(Serialize)]
struct Line<'r> {
    reason: &'r str,
    record: &'r RawValue,
}

/// Keeps what was rejected of a batch, and tells of each; how many could not be kept.
pub(super) fn keep(dir: &Path, batch: &UsageBatch, rejected: &[RejectedRecord]) -> u64 {
    let mut lost = 0;
    if rejected.is_empty() {
        return lost;
    }
    let records: Vec<&[u8]> = batch.records().collect();
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join(FILE));
    for RejectedRecord { index, id, reason } in rejected {
        metrics::counter!(USAGE_LOG_REJECTED).increment(1);
        let record = usize::try_from(*index).ok().and_then(|index| records.get(index)).copied().unwrap_or_default();
        let record = without_body(record);
        let failure = match (&mut file, &record) {
            (Ok(file), Some(record)) => append(file, reason, record).err().map(|e| e.to_string()),
            (Err(e), _) => Some(e.to_string()),
            (_, None) => Some("it is no JSON object".to_owned()),
        };
        let is_kept = failure.is_none();
        tracing::error!(record_id = id, reason, is_kept, failure, "usage record rejected by the control plane");
        if !is_kept {
            lost += 1;
            tell_of_lost(record.as_deref(), reason);
        }
    }
    if let Ok(file) = file
        && let Err(e) = file.sync_data()
    {
        tracing::error!(error = %e, "{FILE} not forced to the disk");
    }
    lost
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

/// The record less the body that it carries; `None` of one that cannot be read, as nothing of it is known to be no body.
fn without_body(record: &[u8]) -> Option<Cow<'_, [u8]>> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(record).ok()?;
    if !fields.contains_key(BODY_FIELD) {
        return Some(Cow::Borrowed(record));
    }
    let fields: BTreeMap<_, _> = fields.into_iter().filter(|(name, _)| name != BODY_FIELD).collect();
    serde_json::to_vec(&fields).ok().map(Cow::Owned)
}

fn tell_of_lost(record: Option<&[u8]>, reason: &str) {
    match record.map(serde_json::from_slice) {
        Some(Ok(record)) => report_lost(&record, reason),
        _ => {
            metrics::counter!(USAGE_LOG_LOST).increment(1);
            let record = String::from_utf8_lossy(record.unwrap_or_default());
            let record: String = record.chars().take(MAX_TOLD_CHARS).collect();
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
    fn no_request_body_is_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        let mut batch = BatchBuilder::new();
        batch.push(br#"{"id":"r0","request_body":{"content":"canary"},"x":0}"#);
        batch.push(br#"{"id":"r1","\u0072equest_body":"canary","x":1}"#);
        batch.push(br#"{"id":"r2","request_body":"canary""#);
        assert_eq!(keep(dir.path(), &batch.finish(), &[rejected(0), rejected(1), rejected(2)]), 1);
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(!text.contains("canary"), "{text}");
        let records: Vec<&str> = text.lines().map(|line| line.split_once(r#""record":"#).unwrap().1).collect();
        assert_eq!(records, [r#"{"id":"r0","x":0}}"#, r#"{"id":"r1","x":1}}"#], "what cannot be read is not kept");
    }

    #[test]
    fn what_is_rejected_is_kept_with_its_reason_up_to_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let mut batch = BatchBuilder::new();
        for n in 0..3 {
            batch.push(format!(r#"{{"id":"r{n}", "x":{n}}}"#).as_bytes());
        }
        let batch = batch.finish();
        assert_eq!(keep(dir.path(), &batch, &[rejected(0), rejected(2)]), 0);
        // An index that the batch does not have spoils nothing.
        assert_eq!(keep(dir.path(), &batch, &[rejected(9), rejected(1)]), 1);
        let path = dir.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        let kept: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(kept.iter().map(|line| line["record"]["x"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 2, 1]);
        assert_eq!(kept[0]["reason"], "of \"no\" known shape");

        OpenOptions::new().write(true).open(&path).unwrap().set_len(MAX_FILE_BYTES - 10).unwrap();
        assert_eq!(keep(dir.path(), &batch, &[rejected(0)]), 1);
        assert_eq!(fs::metadata(&path).unwrap().len(), MAX_FILE_BYTES - 10);
    }
}
