//! The position up to which records are shipped, on disk: two slots that are written in turn, in place, so that a crash
//! in the middle of a write leaves the other one, and a full disk has room for it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::segment::{Position, sync_dir};

const FILE: &str = "position";
/// Apart by a block, so that a torn write meets one slot only.
const SLOT_BYTES: u64 = 4_096;
const SLOTS: u64 = 2;
/// Count of writes, segment, offset, and the CRC-32 of these; all little-endian.
const WRITTEN_BYTES: usize = 28;

/// The file, opened for as long as the log is.
#[derive(Debug)]
pub(super) struct PositionFile {
    file: File,
    /// How often the position was saved; tells which slot is the newer one, and which comes next.
    writes: u64,
}

impl PositionFile {
    /// Opens the file in `dir`, and reads the position that stands in it. Where none can be read, shipping begins with the
    /// oldest record on disk, which is safe, as ingestion knows records by their id.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Position)> {
        let path = dir.join(FILE);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        (&mut file).take(SLOT_BYTES * SLOTS).read_to_end(&mut bytes)?;
        let newest = (0..SLOTS).filter_map(|slot| read_slot(&bytes, slot)).max_by_key(|(writes, _)| *writes);
        if newest.is_none() && bytes.iter().any(|byte| *byte != 0) {
            tracing::warn!("position of the usage log is damaged; what is on disk is shipped again");
        }
        let (writes, position) = newest.unwrap_or_default();
        let mut opened = Self { file, writes };
        if bytes.len() < usize::try_from(SLOT_BYTES * SLOTS).unwrap_or(usize::MAX) {
            // Takes the room of both slots while there is some.
            if let Err(e) = opened.save(position).and_then(|()| opened.save(position)).and_then(|()| sync_dir(dir)) {
                tracing::warn!(error = %e, "position of the usage log not saved; a restart ships some records again");
            }
        }
        Ok((opened, position))
    }

    /// Saves the position, in place of the one before the last.
    pub(super) fn save(&mut self, position: Position) -> io::Result<()> {
        let writes = self.writes + 1;
        let mut slot = vec![0; usize::try_from(SLOT_BYTES).map_err(io::Error::other)?];
        for (at, value) in [writes, position.segment, position.offset].into_iter().enumerate() {
            slot[at * 8..(at + 1) * 8].copy_from_slice(&value.to_le_bytes());
        }
        let checksum = crc32fast::hash(&slot[..24]);
        slot[24..WRITTEN_BYTES].copy_from_slice(&checksum.to_le_bytes());
        self.file.write_all_at(&slot, writes % SLOTS * SLOT_BYTES)?;
        self.file.sync_data()?;
        self.writes = writes;
        Ok(())
    }
}

fn read_slot(bytes: &[u8], slot: u64) -> Option<(u64, Position)> {
    let start = usize::try_from(slot * SLOT_BYTES).ok()?;
    let written = bytes.get(start..start + WRITTEN_BYTES)?;
    let number = |at: usize| Some(u64::from_le_bytes(written.get(at * 8..(at + 1) * 8)?.try_into().ok()?));
    let checksum = u32::from_le_bytes(written.get(24..)?.try_into().ok()?);
    let writes = number(0).filter(|writes| *writes > 0)?;
    (crc32fast::hash(&written[..24]) == checksum)
        .then_some((writes, Position { segment: number(1)?, offset: number(2)? }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn at(segment: u64) -> Position {
        Position { segment, offset: segment * 10 }
    }

    fn loaded(dir: &Path) -> Position {
        PositionFile::open(dir).unwrap().1
    }

    #[test]
    fn the_last_position_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(loaded(dir.path()), Position::default());
        for segment in 1..6 {
            let (mut file, before) = PositionFile::open(dir.path()).unwrap();
            assert_eq!(before, if segment == 1 { Position::default() } else { at(segment - 1) });
            file.save(at(segment)).unwrap();
        }
    }

    #[test]
    fn a_save_torn_at_any_byte_leaves_the_position_before_it_or_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let (mut file, _) = PositionFile::open(dir.path()).unwrap();
        file.save(at(7)).unwrap();
        let before = fs::read(&path).unwrap();
        file.save(at(8)).unwrap();
        let after = fs::read(&path).unwrap();
        for torn_at in 0..after.len() {
            let torn = [&after[..torn_at], &before[torn_at..]].concat();
            fs::write(&path, torn).unwrap();
            let expected = loaded(dir.path());
            assert!([at(7), at(8)].contains(&expected), "torn at {torn_at}: {expected:?}");
        }
    }

    #[test]
    fn a_position_that_cannot_be_read_is_the_beginning() {
        let dir = tempfile::tempdir().unwrap();
        for damaged in [&b"{}"[..], &[0xff; 9_000], &[0; 8_192]] {
            fs::write(dir.path().join(FILE), damaged).unwrap();
            assert_eq!(loaded(dir.path()), Position::default());
        }
    }
}
