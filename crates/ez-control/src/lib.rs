//! Control-plane rules and jobs: masters, keys, access, groups, bindings, snapshot building, outbox, logs. No HTTP server types.

mod access;
mod base_url;
mod budget;
mod checks;
mod control;
mod due_keys;
mod error;
mod key_access;
mod outbound;
mod quotas;
mod recorded;
mod tag;
mod write;

pub mod api_keys;
pub mod audit;
pub mod bindings;
pub mod child_keys;
pub mod credentials;
pub mod idempotency;
pub mod key_expiry;
pub mod key_rotation;
pub mod limits;
pub mod logs;
pub mod masters;
pub mod namespaces;
pub mod provider_groups;
pub mod publisher;
pub mod quota_reset;
pub mod sign_in;
pub mod snapshot;
pub mod sync;

pub use control::{Control, ControlConfig, ControlParts, FirstRun};
pub use error::{ControlError, FieldFault};
pub use recorded::{HasRecord, Recorded};
pub use tag::{Expectation, RecordTag};
pub use write::{Actor, Origin, Tenant, Write};
