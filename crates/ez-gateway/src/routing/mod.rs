//! The routing state of the gateway: an immutable snapshot, swapped whole, and the task that follows publications.

mod follower;
mod sharded;
mod snapshot;

pub use follower::{FollowerConfig, follow};
pub use snapshot::{RoutingSnapshot, SnapshotCell};

pub(crate) use snapshot::{Model, Upstream};
