//! The durable usage log: records are on disk before the last byte of an answer is released, and stay there until the
//! control plane has taken them. A killed process loses none; a power failure at most those of the last `fsync_interval`.
//!
//! Where the disk is full or broken, new calls are refused before anything is spent on them. What was spent on calls
//! under way at that moment is held in memory, within bounds, until the disk or the control plane takes it.

mod batch;
mod disk;
mod held;
mod log;
mod position;
mod rejected;
mod segment;
mod shipper;
mod watch;
mod writer;

pub use batch::UsageBatch;
pub use disk::{Disk, LocalDisk, LogFile};
pub(crate) use log::UsageLogFaults;
pub use log::{UsageLog, UsageLogError};
pub use shipper::ship;
