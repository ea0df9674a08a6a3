//! Segments on disk: framing with checksums, reading with torn tails, and the position up to which records are shipped.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ez_contract::UsageRecord;
use serde::{Deserialize, Serialize};

/// Bytes before each payload: its length and its CRC-32, both little-endian `u32`.
const HEADER_BYTES: usize = 8;
/// No record is near this size; a longer length is damage.
const MAX_PAYLOAD_BYTES: usize = 1 << 20;
const POSITION_FILE: &str = "position.json";

/// A place in the log: everything before it is shipped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// Records read from the log and the place behind them.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) records: Vec<UsageRecord>,
    pub(super) next: Position,
}

/// A record as it stands on disk.
pub(super) fn encode(record: &UsageRecord) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut frame, record).map_err(io::Error::other)?;
    let payload_bytes = u32::try_from(frame.len() - HEADER_BYTES).map_err(io::Error::other)?;
    let checksum = crc32fast::hash(&frame[HEADER_BYTES..]);
    frame[..4].copy_from_slice(&payload_bytes.to_le_bytes());
    frame[4..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    Ok(frame)
}

pub(super) fn path_of(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:016}.seg"))
}

/// The numbers of the segments in `dir`, oldest first.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The next records behind `from`, at most `limit`. `active` is the segment still being written: a torn frame at its
/// end is one that is not complete yet, while in an older segment it is what a crash left.
pub(super) fn read_batch(dir: &Path, from: Position, active: u64, limit: usize) -> io::Result<Batch> {
    let mut batch = Batch { records: Vec::new(), next: from };
    for segment in list(dir)?.into_iter().filter(|segment| *segment >= from.segment) {
        if batch.next.segment != segment {
            batch.next = Position { segment, offset: 0 };
        }
        let remainder = read_from(&path_of(dir, segment), batch.next.offset)?;
        let read_bytes = parse(&remainder, limit, &mut batch.records);
        batch.next.offset += read_bytes as u64;
        let torn_bytes = remainder.len() - read_bytes;
        if batch.records.len() >= limit || segment >= active {
            break;
        }
        if torn_bytes > 0 {
            tracing::warn!(segment, torn_bytes, "usage log segment ends in a torn record, left by a crash");
        }
        batch.next = Position { segment: segment + 1, offset: 0 };
    }
    Ok(batch)
}

/// Parses whole frames until `records` holds `limit`, and tells how many bytes they took.
fn parse(bytes: &[u8], limit: usize, records: &mut Vec<UsageRecord>) -> usize {
    let mut read_bytes = 0;
    while records.len() < limit {
        let Some(payload) = payload_of(&bytes[read_bytes..]) else { break };
        match serde_json::from_slice(payload) {
            Ok(record) => records.push(record),
            Err(e) => tracing::error!(error = %e, "usage record has an unknown shape and is left out"),
        }
        read_bytes += HEADER_BYTES + payload.len();
    }
    read_bytes
}

/// The first frame's payload, where the frame is whole and its checksum right.
fn payload_of(bytes: &[u8]) -> Option<&[u8]> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let (length, checksum) = header.split_at_checked(4)?;
    let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
    let payload = rest.get(..length).filter(|_| length <= MAX_PAYLOAD_BYTES)?;
    (crc32fast::hash(payload).to_le_bytes() == checksum).then_some(payload)
}

fn read_from(path: &Path, offset: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The saved position; the beginning where none was saved.
pub(super) fn load_position(dir: &Path) -> io::Result<Position> {
    match fs::read(dir.join(POSITION_FILE)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Position::default()),
        Err(e) => Err(e),
    }
}

/// Saves the position: a new file, then a rename, so that a crash leaves the old one or the new one.
pub(super) fn save_position(dir: &Path, position: Position) -> io::Result<()> {
    let temporary = dir.join("position.json.new");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(&position)?)?;
    file.sync_data()?;
    fs::rename(temporary, dir.join(POSITION_FILE))
}

/// Deletes the segments that are shipped whole, and tells how many bytes that freed.
pub(super) fn delete_shipped(dir: &Path, position: Position) -> io::Result<u64> {
    let mut freed_bytes = 0;
    for segment in list(dir)?.into_iter().filter(|segment| *segment < position.segment) {
        let path = path_of(dir, segment);
        freed_bytes += fs::metadata(&path)?.len();
        fs::remove_file(path)?;
    }
    Ok(freed_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u64) -> UsageRecord {
        let golden = include_str!("../../../ez-contract/goldens/usage_record.json");
        let mut record: UsageRecord = serde_json::from_str(golden).unwrap();
        record.latency_ms = n;
        record
    }

    fn numbers(batch: &Batch) -> Vec<u64> {
        batch.records.iter().map(|record| record.latency_ms).collect()
    }

    #[test]
    fn a_torn_tail_at_every_byte_loses_only_the_torn_record() {
        let whole: Vec<u8> = (0..3).flat_map(|n| encode(&record(n)).unwrap()).collect();
        let third_starts = whole.len() - encode(&record(2)).unwrap().len();
        for length in third_starts..whole.len() {
            let dir = tempfile::tempdir().unwrap();
            fs::write(path_of(dir.path(), 1), &whole[..length]).unwrap();
            fs::write(path_of(dir.path(), 2), encode(&record(9)).unwrap()).unwrap();
            let batch = read_batch(dir.path(), Position::default(), 2, 100).unwrap();
            assert_eq!(numbers(&batch), [0, 1, 9], "torn at {length}");
        }
    }

    #[test]
    fn a_damaged_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes: Vec<u8> = (0..2).flat_map(|n| encode(&record(n)).unwrap()).collect();
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
        fs::write(path_of(dir.path(), 1), bytes).unwrap();
        let batch = read_batch(dir.path(), Position::default(), 1, 100).unwrap();
        assert_eq!(numbers(&batch), [0]);
    }

    #[test]
    fn reading_goes_on_where_it_stopped_and_deletes_what_is_done() {
        let dir = tempfile::tempdir().unwrap();
        for segment in 1..=3_u64 {
            let bytes: Vec<u8> = (0..2).flat_map(|n| encode(&record(segment * 10 + n)).unwrap()).collect();
            fs::write(path_of(dir.path(), segment), bytes).unwrap();
        }
        let mut position = Position::default();
        let mut seen = Vec::new();
        for _ in 0..4 {
            let batch = read_batch(dir.path(), position, 3, 2).unwrap();
            seen.extend(numbers(&batch));
            position = batch.next;
            save_position(dir.path(), position).unwrap();
            assert_eq!(load_position(dir.path()).unwrap(), position);
        }
        assert_eq!(seen, [10, 11, 20, 21, 30, 31]);
        assert!(delete_shipped(dir.path(), position).unwrap() > 0);
        assert_eq!(list(dir.path()).unwrap(), [3]);
    }
}
