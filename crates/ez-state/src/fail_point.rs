//! Fail points: the steps between the commit of a change and the end of its publication, at each of which a test can
//! let the process die as `kill -9` would.
//!
//! Without the feature `fail-points` they are empty functions, and nothing can be armed.

/// A step at which a process can be told to die. The end of a publication has no step in between: version, event and
/// announcement are one script, which Redis runs whole or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailPoint {
    /// A change is committed, and the publisher is not woken yet.
    Committed,
    /// Entries of the outbox are due, and the publisher's turn is not taken yet.
    TurnWanted,
    /// What stands in the database is read, and nothing is written yet.
    Read,
    /// The snapshot is marked as pending, and no entry is written yet.
    Pending,
    /// Some entries are written, and others are not. Only a publication that needs several writes comes here.
    PartWritten,
    /// All entries are written, and the version is not settled yet.
    AllWritten,
    /// The publication is settled and announced, and its entries are still in the outbox.
    Announced,
}

impl FailPoint {
    /// All of them, in the order in which a change passes them.
    pub const ALL: [Self; 7] = [
        Self::Committed,
        Self::TurnWanted,
        Self::Read,
        Self::Pending,
        Self::PartWritten,
        Self::AllWritten,
        Self::Announced,
    ];

    /// Its name, such as `part-written`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::TurnWanted => "turn-wanted",
            Self::Read => "read",
            Self::Pending => "pending",
            Self::PartWritten => "part-written",
            Self::AllWritten => "all-written",
            Self::Announced => "announced",
        }
    }
}

/// Why nothing was armed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArmError {
    /// There is no such step.
    #[error("`{name}` is no fail point; there are {}", FailPoint::ALL.map(FailPoint::as_str).join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The feature is off.
    #[error("this build has no fail points; build with the feature `fail-points` of ez-state")]
    NotBuilt,
    /// One per process.
    #[error("a fail point is already armed")]
    AlreadyArmed,
}

/// Lets this process die when it reaches the fail point of this name. Once per process, before anything is published.
pub fn arm(name: &str) -> Result<(), ArmError> {
    let named = FailPoint::ALL.into_iter().find(|point| point.as_str() == name);
    built::arm(named.ok_or_else(|| ArmError::Unknown { name: name.to_owned() })?)
}

/// Marks a step. Aborts the process where it is armed, without running anything else; does nothing otherwise.
#[inline]
pub fn reach(point: FailPoint) {
    built::reach(point);
}

#[cfg(feature = "fail-points")]
mod built {
    use std::sync::OnceLock;

    use super::{ArmError, FailPoint};

    static ARMED: OnceLock<FailPoint> = OnceLock::new();

    pub(super) fn arm(point: FailPoint) -> Result<(), ArmError> {
        ARMED.set(point).map_err(|_| ArmError::AlreadyArmed)
    }

    pub(super) fn reach(point: FailPoint) {
        if ARMED.get() == Some(&point) {
            std::process::abort();
        }
    }
}

#[cfg(not(feature = "fail-points"))]
mod built {
    use super::{ArmError, FailPoint};

    pub(super) const fn arm(_: FailPoint) -> Result<(), ArmError> {
        Err(ArmError::NotBuilt)
    }

    #[inline]
    pub(super) fn reach(_: FailPoint) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_does_not_exist_is_named_with_those_that_do() {
        let told = arm("half-way").unwrap_err().to_string();
        assert!(told.contains("`half-way`") && told.contains("committed, turn-wanted, read"), "{told}");
    }
}
