//! Segments on disk: framing with checksums, and reading what crashes and faults left whole.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use ez_contract::UsageRecord;
use ez_contract::request_body::{MAX_JSON_BYTES, RequestBody};
use ez_telemetry::metrics::{USAGE_LOG_DAMAGE, USAGE_LOG_DAMAGED_BYTES, USAGE_LOG_DAMAGED_SEGMENTS};
use serde::{Deserialize, Serialize};

use super::batch::{BatchBuilder, UsageBatch};

/// Bytes before each payload: its length and its CRC-32, both little-endian `u32`.
const HEADER_BYTES: usize = 8;
/// No record is near this size, apart from the body that it may carry.
const MAX_RECORD_BYTES: usize = 64 << 10;
/// A longer length is damage.
const MAX_PAYLOAD_BYTES: usize = MAX_RECORD_BYTES + MAX_JSON_BYTES;
const MAX_FRAME_BYTES: usize = HEADER_BYTES + MAX_PAYLOAD_BYTES;
const USUAL_FRAME_BYTES: usize = 1_024;
/// Read from a segment at once; holds many of the largest records without bodies.
const WINDOW_BYTES: u64 = 1 << 20;
/// Read at once where that holds no whole frame: one of the largest, and enough to tell it from damage.
const LARGE_WINDOW_BYTES: u64 = 2 * MAX_FRAME_BYTES as u64;
/// Payloads of one batch, bytes, but for the last of them; with that well within what the control plane takes at once.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// Damaged segments kept at most.
const MAX_DAMAGED_SEGMENTS: u64 = 8;
const DAMAGED: &str = "damaged";

/// A place in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// Records read from the log and the place behind them.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) records: UsageBatch,
    /// Whole frames among them that hold no record; they were counted like others.
    pub(super) unreadable: u64,
    pub(super) next: Position,
}

impl Batch {
    /// When the first call of the batch arrived.
    pub(super) fn oldest_at(&self) -> Option<DateTime<Utc>> {
        #[derive(Deserialize)]
        struct Arrival {
            created_at: DateTime<Utc>,
        }
        let first = serde_json::from_slice::<Arrival>(self.records.records().next()?);
        first.ok().map(|first| first.created_at)
    }
}

/// A record as it stands on disk, with the body of its call's request where that is kept.
pub(super) fn encode(record: &UsageRecord, body: Option<&RequestBody>) -> io::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct WithBody<'r> {
        #[serde(flatten)]
        record: &'r UsageRecord,
        request_body: &'r RequestBody,
    }
    // Nearly every record fits, so that the frame never grows.
    let usual_bytes = USUAL_FRAME_BYTES + body.map_or(0, |body| body.content.len() + body.content.len() / 4);
    let mut frame = Vec::with_capacity(usual_bytes);
    frame.resize(HEADER_BYTES, 0);
    let written = match body {
        None => serde_json::to_writer(&mut frame, record),
        Some(request_body) => serde_json::to_writer(&mut frame, &WithBody { record, request_body }),
    };
    written.map_err(io::Error::other)?;
    let payload_bytes = frame.len() - HEADER_BYTES;
    let max_bytes = if body.is_some() { MAX_PAYLOAD_BYTES } else { MAX_RECORD_BYTES };
    if payload_bytes > max_bytes {
        return Err(io::Error::other(format!("a usage record of {payload_bytes} bytes is too large")));
    }
    let payload_bytes = u32::try_from(payload_bytes).map_err(io::Error::other)?;
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

/// The next records behind `from`, at most `limit`. Nothing at or behind `end` is read: the writer has not finished it.
/// They are not parsed: the checksum says that they are what was written, and whoever takes them judges them.
pub(super) fn read_batch(dir: &Path, from: Position, end: Position, limit: usize) -> io::Result<Batch> {
    let mut records = BatchBuilder::new();
    let mut unreadable = 0;
    let next = walk(dir, from, end, |payload| {
        if !(payload.starts_with(b"{") && payload.ends_with(b"}")) {
            unreadable += 1;
            return Visit::Damaged("a frame that holds no record");
        }
        records.push(payload);
        if records.len() < limit && records.bytes() < MAX_BATCH_BYTES { Visit::Next } else { Visit::Stop }
    })?;
    Ok(Batch { records: records.finish(), unreadable, next })
}

/// How many records stand between two places.
pub(super) fn count(dir: &Path, from: Position, end: Position) -> io::Result<u64> {
    let mut records = 0;
    walk(dir, from, end, |_| {
        records += 1;
        Visit::Next
    })?;
    Ok(records)
}

/// What is to be done after a record.
enum Visit {
    Next,
    Stop,
    /// It cannot be used; the segment is kept aside.
    Damaged(&'static str),
}

/// Visits the payloads between two places and tells where it stopped.
fn walk(dir: &Path, from: Position, end: Position, mut visit: impl FnMut(&[u8]) -> Visit) -> io::Result<Position> {
    let mut at = from;
    for segment in list(dir)?.into_iter().filter(|segment| (from.segment..=end.segment).contains(segment)) {
        if at.segment != segment {
            at = Position { segment, offset: 0 };
        }
        let length = fs::metadata(path_of(dir, segment))?.len();
        let readable = if segment == end.segment { end.offset.min(length) } else { length };
        let (next, is_stopped) = walk_segment(dir, at, readable, &mut visit)?;
        at = next;
        if is_stopped || segment == end.segment {
            return Ok(at);
        }
        at = Position { segment: segment + 1, offset: 0 };
    }
    Ok(at)
}

/// Visits the payloads of one segment up to `readable`; tells where it came to, and whether the visitor stopped it.
fn walk_segment(
    dir: &Path,
    from: Position,
    readable: u64,
    visit: &mut impl FnMut(&[u8]) -> Visit,
) -> io::Result<(Position, bool)> {
    let mut at = from;
    let segment = from.segment;
    let mut window_bytes = WINDOW_BYTES;
    loop {
        let window = read_window(&path_of(dir, segment), at.offset, readable, window_bytes)?;
        let is_last = at.offset + window.len() as u64 >= readable;
        let mut read_bytes = 0;
        while let Some(Found { skipped_bytes, payload }) = find_frame(&window[read_bytes..], is_last) {
            if skipped_bytes > 0 {
                keep_aside(dir, segment, "bytes that are no record");
            }
            read_bytes += skipped_bytes + HEADER_BYTES + payload.len();
            match visit(payload) {
                Visit::Next => {}
                Visit::Damaged(reason) => keep_aside(dir, segment, reason),
                Visit::Stop => return Ok((Position { offset: at.offset + read_bytes as u64, ..at }, true)),
            }
        }
        at.offset += read_bytes as u64;
        if is_last {
            report_rest(dir, segment, &window[read_bytes..]);
            return Ok((at, false));
        }
        if read_bytes > 0 {
            window_bytes = WINDOW_BYTES;
        } else if window_bytes < LARGE_WINDOW_BYTES {
            window_bytes = LARGE_WINDOW_BYTES;
        } else {
            // A whole window of damage; a record may begin in it and end in the next.
            keep_aside(dir, segment, "bytes that are no record");
            at.offset += window.len().saturating_sub(MAX_FRAME_BYTES).max(1) as u64;
        }
    }
}

/// The next whole record.
struct Found<'b> {
    /// Before it, and no record.
    skipped_bytes: usize,
    payload: &'b [u8],
}

/// Finds the next whole record, also behind damage. Control characters are escaped in JSON and a frame's length has some,
/// so nothing inside a payload can pass for a frame.
fn find_frame(bytes: &[u8], is_last: bool) -> Option<Found<'_>> {
    match Frame::first_of(bytes) {
        Frame::Whole(payload) => return Some(Found { skipped_bytes: 0, payload }),
        // It may be whole in the next window.
        Frame::Cut if !is_last && bytes.len() < MAX_FRAME_BYTES => return None,
        Frame::Cut | Frame::Damaged => {}
    }
    (1..bytes.len().saturating_sub(HEADER_BYTES)).find_map(|skipped_bytes| {
        let rest = &bytes[skipped_bytes..];
        let begins_object = rest[HEADER_BYTES..].starts_with(b"{\"");
        match begins_object.then(|| Frame::first_of(rest))? {
            Frame::Whole(payload) => Some(Found { skipped_bytes, payload }),
            Frame::Cut | Frame::Damaged => None,
        }
    })
}

/// Tells of what stands behind the last record of a segment.
fn report_rest(dir: &Path, segment: u64, rest: &[u8]) {
    match Frame::first_of(rest) {
        _ if rest.is_empty() => {}
        Frame::Whole(_) | Frame::Damaged => keep_aside(dir, segment, "a last record whose checksum is wrong"),
        Frame::Cut => tracing::warn!(
            segment,
            torn_bytes = rest.len(),
            "usage log segment ends in a torn record, left by a crash; no answer was released for it"
        ),
    }
}

/// What stands at a place.
enum Frame<'b> {
    Whole(&'b [u8]),
    /// Less than a frame.
    Cut,
    /// Not what was written: a length that no record has, or a payload with another checksum.
    Damaged,
}

impl<'b> Frame<'b> {
    fn first_of(bytes: &'b [u8]) -> Self {
        let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else { return Self::Cut };
        let (Ok(length), Ok(checksum)) = (header[..4].try_into(), <[u8; 4]>::try_from(&header[4..])) else {
            return Self::Cut;
        };
        let length = u32::from_le_bytes(length) as usize;
        // Nor is a record empty: zeros, which a file system may leave behind a power failure, have the checksum of nothing.
        if length == 0 || length > MAX_PAYLOAD_BYTES {
            return Self::Damaged;
        }
        let Some(payload) = rest.get(..length) else { return Self::Cut };
        if crc32fast::hash(payload).to_le_bytes() == checksum { Self::Whole(payload) } else { Self::Damaged }
    }
}

/// Gives a damaged segment a second name that shipping does not delete, so that someone can look into it: the first few
/// of them, as a dying disk must not fill up with them.
fn keep_aside(dir: &Path, segment: u64, reason: &str) {
    metrics::counter!(USAGE_LOG_DAMAGE).increment(1);
    let path = path_of(dir, segment);
    let kept = path.with_extension(DAMAGED);
    let has_room = damaged(dir).is_ok_and(|(segments, _)| segments < MAX_DAMAGED_SEGMENTS);
    let is_kept = kept.exists() || (has_room && fs::hard_link(path, &kept).is_ok());
    tracing::error!(segment, reason, is_kept, "usage log is damaged; what can be read is shipped");
    note_damaged(dir);
}

/// Tells metrics of the damaged segments that are kept; how many those are, as far as that can be told.
pub(super) fn note_damaged(dir: &Path) -> u64 {
    let Ok((segments, bytes)) = damaged(dir) else { return 0 };
    metrics::gauge!(USAGE_LOG_DAMAGED_SEGMENTS).set(segments as f64);
    metrics::gauge!(USAGE_LOG_DAMAGED_BYTES).set(bytes as f64);
    segments
}

/// How many damaged segments are kept, and their bytes.
fn damaged(dir: &Path) -> io::Result<(u64, u64)> {
    let (mut segments, mut bytes) = (0, 0);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if Path::new(&entry.file_name()).extension().is_some_and(|extension| extension == DAMAGED) {
            segments += 1;
            bytes += entry.metadata()?.len();
        }
    }
    Ok((segments, bytes))
}

fn read_window(path: &Path, offset: u64, end: u64, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(end.saturating_sub(offset).min(max_bytes)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes new names in `dir` survive a power failure.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
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
    use ez_contract::request_body::MAX_KEPT_BYTES;

    use super::*;

    const END: Position = Position { segment: u64::MAX, offset: u64::MAX };

    fn record(n: u64) -> UsageRecord {
        let golden = include_str!("../../../ez-contract/goldens/usage_record.json");
        let mut record: UsageRecord = serde_json::from_str(golden).unwrap();
        record.latency_ms = n;
        record
    }

    fn numbers(batch: &Batch) -> Vec<u64> {
        let parsed = batch.records.records().map(|record| serde_json::from_slice::<UsageRecord>(record).unwrap());
        parsed.map(|record| record.latency_ms).collect()
    }

    #[test]
    fn a_tail_torn_at_any_byte_costs_no_record_before_it_and_doubles_none() {
        let frames: Vec<Vec<u8>> = (0..3).map(|n| encode(&record(n), None).unwrap()).collect();
        let whole = frames.concat();
        let dir = tempfile::tempdir().unwrap();
        fs::write(path_of(dir.path(), 2), encode(&record(9), None).unwrap()).unwrap();
        for length in 0..=whole.len() {
            fs::write(path_of(dir.path(), 1), &whole[..length]).unwrap();
            let batch = read_batch(dir.path(), Position::default(), END, 100).unwrap();
            let mut end_of_frame = 0;
            let mut expected: Vec<u64> = Vec::new();
            for (n, frame) in (0..).zip(&frames) {
                end_of_frame += frame.len();
                expected.extend((end_of_frame <= length).then_some(n));
            }
            expected.push(9);
            assert_eq!(numbers(&batch), expected, "torn at {length}");
        }
    }

    #[test]
    fn a_flipped_bit_costs_at_most_the_record_it_stands_in() {
        let frames: Vec<Vec<u8>> = (0..3).map(|n| encode(&record(n), None).unwrap()).collect();
        let whole = frames.concat();
        let dir = tempfile::tempdir().unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(path_of(dir.path(), 1), &damaged).unwrap();
            let batch = read_batch(dir.path(), Position::default(), END, 100).unwrap();
            let struck = (at / frames[0].len()) as u64;
            let expected: Vec<u64> = (0..3).filter(|n| *n != struck).collect();
            assert_eq!(numbers(&batch), expected, "bit {at}");
            assert_eq!(batch.next.segment, 2, "reading comes to the end of the segment");
        }
        assert!(path_of(dir.path(), 1).with_extension("damaged").exists());
    }

    #[test]
    fn damage_larger_than_what_is_read_at_once_costs_no_record_around_it() {
        let dir = tempfile::tempdir().unwrap();
        let damage = vec![0xff; usize::try_from(WINDOW_BYTES).unwrap() * 2];
        let bytes = [encode(&record(0), None).unwrap(), damage, encode(&record(1), None).unwrap()].concat();
        fs::write(path_of(dir.path(), 1), bytes).unwrap();
        let batch = read_batch(dir.path(), Position::default(), END, 100).unwrap();
        assert_eq!(numbers(&batch), [0, 1]);
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut large = record(0);
        large.model = "a".repeat(MAX_RECORD_BYTES / 2);
        let frame = encode(&large, None).unwrap();
        let frames = MAX_BATCH_BYTES / frame.len() + 10;
        fs::write(path_of(dir.path(), 1), frame.repeat(frames)).unwrap();
        let batch = read_batch(dir.path(), Position::default(), END, 10_000).unwrap();
        assert!((1..frames).contains(&batch.records.len()), "{}", batch.records.len());
        let rest = read_batch(dir.path(), batch.next, END, 10_000).unwrap();
        assert_eq!(batch.records.len() + rest.records.len(), frames);
    }

    #[test]
    fn a_damaged_record_costs_no_other_and_its_segment_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let frame_bytes = encode(&record(0), None).unwrap().len();
        let mut bytes: Vec<u8> = (0..3).flat_map(|n| encode(&record(n), None).unwrap()).collect();
        bytes[frame_bytes + 20] ^= 1;
        fs::write(path_of(dir.path(), 1), bytes).unwrap();
        let batch = read_batch(dir.path(), Position::default(), END, 100).unwrap();
        assert_eq!(numbers(&batch), [0, 2]);
        delete_shipped(dir.path(), Position { segment: 2, offset: 0 }).unwrap();
        assert!(path_of(dir.path(), 1).with_extension("damaged").exists());
    }

    #[test]
    fn only_the_first_few_damaged_segments_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut damaged_bytes = encode(&record(0), None).unwrap();
        damaged_bytes[20] ^= 1;
        let segments = MAX_DAMAGED_SEGMENTS + 3;
        for segment in 1..=segments {
            fs::write(
                path_of(dir.path(), segment),
                [damaged_bytes.clone(), encode(&record(segment), None).unwrap()].concat(),
            )
            .unwrap();
        }
        let batch = read_batch(dir.path(), Position::default(), END, 100).unwrap();
        assert_eq!(numbers(&batch), (1..=segments).collect::<Vec<_>>());
        delete_shipped(dir.path(), Position { segment: segments + 1, offset: 0 }).unwrap();
        let bytes = 2 * encode(&record(0), None).unwrap().len() as u64;
        assert_eq!(damaged(dir.path()).unwrap(), (MAX_DAMAGED_SEGMENTS, MAX_DAMAGED_SEGMENTS * bytes));
    }

    #[test]
    fn the_arrival_of_the_oldest_record_is_told() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_batch(dir.path(), Position::default(), END, 100).unwrap().oldest_at(), None);
        fs::write(path_of(dir.path(), 1), encode(&record(0), None).unwrap()).unwrap();
        let batch = read_batch(dir.path(), Position::default(), END, 100).unwrap();
        assert_eq!(batch.oldest_at(), Some(record(0).created_at));
    }

    #[test]
    fn zeros_are_damage_and_no_records() {
        let dir = tempfile::tempdir().unwrap();
        let bytes =
            [encode(&record(0), None).unwrap(), vec![0; 4_096], encode(&record(1), None).unwrap(), vec![0; 4_096]]
                .concat();
        fs::write(path_of(dir.path(), 1), bytes).unwrap();
        assert_eq!(count(dir.path(), Position::default(), END).unwrap(), 2);
        let batch = read_batch(dir.path(), Position::default(), END, 100).unwrap();
        assert_eq!((numbers(&batch), batch.unreadable), (vec![0, 1], 0));
        assert!(path_of(dir.path(), 1).with_extension("damaged").exists());
    }

    #[test]
    fn a_senseless_length_gives_up_the_segment_and_not_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = encode(&record(0), None).unwrap();
        bytes.extend([0xff; 5_000]);
        fs::write(path_of(dir.path(), 1), bytes).unwrap();
        fs::write(path_of(dir.path(), 2), encode(&record(5), None).unwrap()).unwrap();
        let batch = read_batch(dir.path(), Position::default(), END, 100).unwrap();
        assert_eq!(numbers(&batch), [0, 5]);
    }

    #[test]
    fn what_the_writer_has_not_finished_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let first = encode(&record(0), None).unwrap();
        let both = [first.clone(), encode(&record(1), None).unwrap()].concat();
        fs::write(path_of(dir.path(), 1), both).unwrap();
        let end = Position { segment: 1, offset: first.len() as u64 };
        let batch = read_batch(dir.path(), Position::default(), end, 100).unwrap();
        assert_eq!((numbers(&batch), batch.next), (vec![0], end));
        assert_eq!(count(dir.path(), Position::default(), end).unwrap(), 1);
    }

    #[test]
    fn a_record_too_large_to_be_read_back_is_not_written() {
        let mut large = record(0);
        large.model = "a".repeat(MAX_RECORD_BYTES);
        assert!(encode(&large, None).is_err());
    }

    #[test]
    fn bodies_stand_beside_their_records_and_bound_a_batch() {
        let dir = tempfile::tempdir().unwrap();
        // As long as any can be in JSON.
        let largest = RequestBody::of(&vec![b'"'; MAX_KEPT_BYTES], MAX_KEPT_BYTES);
        let small = RequestBody::of(b"{\"model\":\"m\"}", 5);
        let frames: Vec<Vec<u8>> = (0..9)
            .map(|n| {
                let body = [None, Some(&largest), Some(&small)][(n % 3) as usize];
                encode(&record(n), body).unwrap()
            })
            .collect();
        fs::write(path_of(dir.path(), 1), frames.concat()).unwrap();
        let (mut position, mut batches, mut seen) = (Position::default(), 0, Vec::new());
        while seen.len() < 9 {
            let batch = read_batch(dir.path(), position, END, 100).unwrap();
            let document = batch.records.document();
            assert!(document.len() < MAX_BATCH_BYTES + MAX_FRAME_BYTES + 100, "{}", document.len());
            seen.extend(batch.records.records().map(|record| {
                let kept: serde_json::Value = serde_json::from_slice(record).unwrap();
                let body = kept.get("request_body").map(|body| serde_json::from_value::<RequestBody>(body.clone()));
                (kept["latency_ms"].as_u64().unwrap(), body.map(Result::unwrap))
            }));
            (position, batches) = (batch.next, batches + 1);
        }
        assert!(batches > 1, "{batches}");
        let bodies = [None, Some(largest), Some(small)];
        assert_eq!(seen, (0..9).map(|n| (n, bodies[(n % 3) as usize].clone())).collect::<Vec<_>>());
        assert_eq!(count(dir.path(), Position::default(), END).unwrap(), 9);
    }

    #[test]
    fn damage_beside_the_largest_frames_costs_no_other_record() {
        let dir = tempfile::tempdir().unwrap();
        let largest = RequestBody::of(&vec![b'"'; MAX_KEPT_BYTES], MAX_KEPT_BYTES);
        let mut frames: Vec<Vec<u8>> = (0..5).map(|n| encode(&record(n), Some(&largest)).unwrap()).collect();
        frames[1][1_000_000] ^= 1;
        frames[3][0] = 0xff;
        frames[3][3] = 0xff;
        fs::write(path_of(dir.path(), 1), frames.concat()).unwrap();
        let (mut position, mut seen) = (Position::default(), Vec::new());
        for _ in 0..5 {
            let batch = read_batch(dir.path(), position, END, 100).unwrap();
            seen.extend(numbers(&batch));
            position = batch.next;
        }
        assert_eq!(seen, [0, 2, 4]);
        assert!(path_of(dir.path(), 1).with_extension("damaged").exists());
    }

    #[test]
    fn reading_goes_on_where_it_stopped_and_deletes_what_is_done() {
        let dir = tempfile::tempdir().unwrap();
        for segment in 1..=3_u64 {
            let bytes: Vec<u8> = (0..2).flat_map(|n| encode(&record(segment * 10 + n), None).unwrap()).collect();
            fs::write(path_of(dir.path(), segment), bytes).unwrap();
        }
        let mut position = Position::default();
        let mut seen = Vec::new();
        for _ in 0..4 {
            let batch = read_batch(dir.path(), position, Position { segment: 3, offset: u64::MAX }, 2).unwrap();
            seen.extend(numbers(&batch));
            position = batch.next;
        }
        assert_eq!(seen, [10, 11, 20, 21, 30, 31]);
        assert!(delete_shipped(dir.path(), position).unwrap() > 0);
        assert_eq!(list(dir.path()).unwrap(), [3]);
    }
}
