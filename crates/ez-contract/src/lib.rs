//! What both planes agree on: digests, model references, selectors, provider types, snapshot shapes, usage record,
//! secret envelope. Pure: the same input gives the same output; no I/O, no clock, no async.

pub mod access;
pub mod alerts;
pub mod capability;
pub mod clock;
pub mod digest;
pub mod flush;
pub mod google;
pub mod health;
pub mod live;
pub mod model_ref;
pub mod models;
pub mod operation;
pub mod provider;
pub mod reach;
pub mod request_body;
pub mod response;
pub mod routing;
pub mod secret;
pub mod selector;
pub mod snapshot;
pub mod status;
pub mod url_path;
pub mod usage;

pub use clock::Clock;
pub use digest::TokenDigest;
pub use operation::Operation;
pub use provider::{Protocol, ProviderType};
pub use usage::UsageRecord;

/// Version of the contract between the planes. A gateway refuses a higher major version than its own and keeps its
/// last good snapshot.
pub const CONTRACT_VERSION: &str = "1.0";

/// Whether a snapshot published under `version` can be read by this build: the same or an older major version.
pub fn can_read_contract(version: &str) -> bool {
    fn major(version: &str) -> Option<u32> {
        version.split('.').next()?.parse().ok()
    }
    match (major(version), major(CONTRACT_VERSION)) {
        (Some(theirs), Some(ours)) => theirs <= ours,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::can_read_contract;

    #[test]
    fn a_newer_major_version_is_refused() {
        assert!(can_read_contract("1.0"));
        assert!(can_read_contract("1.9"));
        assert!(!can_read_contract("2.0"));
        assert!(!can_read_contract(""));
    }
}
