//! The disk as a seam: what the log does to its segments, so that tests can let it fail as disks do.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::segment::sync_dir;

/// Where segments are written.
pub trait Disk: Send + Sync + 'static {
    /// A new, empty file whose name survives a power failure; fails where one of this name exists.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>>;
}

/// A segment that is written to.
pub trait LogFile: Send + Sync {
    /// Writes at the end, and tells how many of the bytes it took.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts the file off at `length` bytes.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Forces what was written to the disk.
    fn sync(&self) -> io::Result<()>;
}

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let file = OpenOptions::new().append(true).create_new(true).open(path)?;
        if let Some(Err(e)) = path.parent().map(sync_dir) {
            // The next attempt wants the name again.
            fs::remove_file(path)?;
            return Err(e);
        }
        Ok(Arc::new(file))
    }
}

impl LogFile for File {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self;
        file.write(bytes)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Writes all of `bytes`, however little the disk takes at once.
pub(super) fn append_all(file: &dyn LogFile, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.append(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => bytes = bytes.get(taken..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
