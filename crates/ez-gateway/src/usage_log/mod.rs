//! The durable usage log: records are on disk before the last byte of an answer is released, and stay there until the
//! control plane has taken them. A killed process loses none; a power failure at most those of the last `fsync_interval`.

mod segment;
mod shipper;
mod writer;

pub use shipper::ship;
pub use writer::{UsageLog, UsageLogError};
