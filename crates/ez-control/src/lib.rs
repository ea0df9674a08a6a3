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
mod vendor_words;
mod write;

pub mod api_key_batches;
pub mod api_keys;
pub mod audit;
pub mod ban_expiry;
pub mod bindings;
pub mod child_keys;
pub mod credential_reports;
pub mod credentials;
pub mod idempotency;
pub mod key_expiry;
pub mod key_rotation;
pub mod limits;
pub mod logs;
pub mod masters;
pub mod namespaces;
pub mod presets;
pub mod provider_groups;
pub mod publisher;
pub mod quota_reset;
pub mod resolve;
pub mod sign_in;
pub mod snapshot;
pub mod stored_secrets;
pub mod sync;
pub mod test_call;
pub mod transfer;

pub use control::{Control, ControlConfig, ControlParts, FirstRun};
pub use error::{ControlError, FieldFault};
pub use recorded::{HasRecord, Recorded};
pub use tag::{Expectation, RecordTag};
pub use write::{Actor, Origin, Tenant, Write};
