//! What a vendor signs so that it knows it again.

use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The vendor's mark over a text: base64, as vendors' marks are.
pub(super) fn sign(vendor: &str, text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    STANDARD.encode(format!("{vendor}-mark-{:016x}", hasher.finish()))
}

/// Whether a vendor has signed this text.
pub(super) fn is_signed(vendor: &str, text: &str, mark: &str) -> bool {
    mark == sign(vendor, text)
}

/// Whether this is some mark of the vendor.
pub(super) fn is_mark(vendor: &str, mark: &str) -> bool {
    let plain = STANDARD.decode(mark).unwrap_or_default();
    plain.starts_with(format!("{vendor}-mark-").as_bytes())
}
