//! Leases: at most one holder at a time, until it expires.

/// A lease that was granted. It says nothing about now: its time may be over, so what it guards compares `fence`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it is for.
    pub name: String,
    /// Who holds it.
    pub holder: String,
    /// Grows with each new grant of this name (not with renewals), also across a loss of the backend's data, so that
    /// a holder that was overtaken can be told from the present one.
    pub fence: u64,
}
