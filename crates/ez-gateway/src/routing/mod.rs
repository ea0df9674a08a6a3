//! The routing state of the gateway: an immutable snapshot, swapped whole, the task that follows publications, and the
//! copy on disk that a gateway starts from while nobody publishes.

mod follower;
mod saved;
mod sharded;
mod snapshot;
mod state;

pub use follower::{FollowerConfig, follow};
pub use saved::{SavedSnapshot, SavedSnapshotError, keep_saved};
pub use snapshot::{RoutingSnapshot, SnapshotCell};
pub use state::{SnapshotSource, SnapshotState, SnapshotWatch};

pub(crate) use snapshot::{Model, Upstream};
#[cfg(test)]
pub(crate) use snapshot::{test_upstream, test_upstream_with};
