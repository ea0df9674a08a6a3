//! What can go wrong in the control plane, told by what the caller may do about it.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use ez_contract::secret::SecretError;
use ez_state::StateError;
use ez_store::{Conflict, ConflictKind, StoreError};

/// How many records an error lists at most; who must clean up more than these sees the rest on the next try.
pub(crate) const MAX_REFERENCES: usize = 100;

/// How many faults an error lists at most.
const MAX_FAULTS: usize = 100;

/// Why the control plane did not do what it was asked. No message carries a secret.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The record is not there, or not for this caller to see.
    #[error("{what} does not exist")]
    NotFound {
        /// Which one, such as `child key 5`.
        what: String,
    },
    /// Fields of the request break rules; all of them are told at once.
    #[error("the request is not valid: {}", Listed(.0))]
    Invalid(Vec<FieldFault>),
    /// More is asked for at once than can be answered.
    #[error("{message}")]
    TooMuch {
        /// What to ask for instead.
        message: String,
    },
    /// The request is fine but does not fit what stands.
    #[error("{message}")]
    Conflict {
        /// What is in the way, and what to do.
        message: String,
        /// The records that are in the way, where there are some.
        references: Vec<String>,
    },
    /// The record is no longer what the change was meant for.
    #[error("{what} has changed since it was read; read it again, and repeat the change on what it is now")]
    Stale {
        /// Which one, such as `child key 5`.
        what: String,
    },
    /// The caller is known and may not do this.
    #[error("{message}")]
    Forbidden {
        /// Why not.
        message: String,
    },
    /// The credential is missing, unknown or dead.
    #[error("{message}")]
    Unauthenticated {
        /// What to send.
        message: String,
    },
    /// Too many attempts; later ones are answered again.
    #[error("too many failed sign-ins from this address; try again in {} seconds", .retry_after.as_secs())]
    TooMany {
        /// When.
        retry_after: Duration,
    },
    /// More usage records wait to be stored than may; later ones are taken again.
    #[error("too many usage records wait to be stored; hand them in again in {} seconds", .retry_after.as_secs())]
    Overloaded {
        /// When.
        retry_after: Duration,
    },
    /// Not now, for a reason of this process; the same request may succeed later.
    #[error("{message}")]
    Busy {
        /// Why, and what to do.
        message: String,
        /// When.
        retry_after: Duration,
    },
    /// The database or the shared state does not answer. The same request may succeed later.
    #[error("a service that this needs is unavailable; try again")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// A fault of this installation or of ez-api.
    #[error("an internal fault; the log tells more")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

/// A field of a request that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFault {
    /// JSON pointer to the field.
    pub pointer: String,
    /// The rule, and what to write instead.
    pub message: String,
}

/// Collects the faults of a request, so that all are told at once: the first hundred of them.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<FieldFault>);

impl Faults {
    /// Notes a fault.
    pub(crate) fn add(&mut self, pointer: impl Into<String>, message: impl fmt::Display) {
        if self.0.len() >= MAX_FAULTS {
            return;
        }
        self.0.push(FieldFault { pointer: pointer.into(), message: message.to_string() });
    }

    /// Ends the collection: fine, or [`ControlError::Invalid`].
    pub(crate) fn into_result(self) -> Result<(), ControlError> {
        if self.0.is_empty() { Ok(()) } else { Err(ControlError::Invalid(self.0)) }
    }
}

impl ControlError {
    /// One fault that keeps others from being looked for.
    pub(crate) fn invalid_at(pointer: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::Invalid(vec![FieldFault { pointer: pointer.into(), message: message.to_string() }])
    }

    pub(crate) fn not_found(what: &str, id: impl fmt::Display) -> Self {
        Self::NotFound { what: format!("{what} {id}") }
    }

    /// One field is wrong.
    pub(crate) fn invalid(pointer: impl Into<String>, message: impl fmt::Display) -> Self {
        let mut faults = Faults::default();
        faults.add(pointer, message);
        Self::Invalid(faults.0)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict { message: message.into(), references: Vec::new() }
    }

    /// A conflict with records that it lists, the first hundred of them.
    pub(crate) fn conflict_with(message: impl Into<String>, references: impl IntoIterator<Item = String>) -> Self {
        let references = references.into_iter().take(MAX_REFERENCES).collect();
        Self::Conflict { message: message.into(), references }
    }

    pub(crate) fn unauthenticated(message: impl Into<String>) -> Self {
        Self::Unauthenticated { message: message.into() }
    }

    /// Whether a stored value that cannot be read is what it came from.
    pub(crate) fn is_corrupt(&self) -> bool {
        let Self::Internal(error) = self else { return false };
        error.downcast_ref().is_some_and(|error| matches!(error, StoreError::Corrupt { .. }))
    }

    pub(crate) fn internal(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Internal(error.into())
    }
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(conflict) => Self::conflict(conflict_message(&conflict)),
            StoreError::Unavailable(_) => Self::Unavailable(error.into()),
            StoreError::Corrupt { .. } | StoreError::Backend(_) => Self::Internal(error.into()),
        }
    }
}

impl From<StateError> for ControlError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Unavailable(_) | StateError::Unsettled | StateError::Overtaken => {
                Self::Unavailable(error.into())
            }
            StateError::Corrupt(_) | StateError::Backend(_) => Self::Internal(error.into()),
        }
    }
}

impl From<SecretError> for ControlError {
    fn from(error: SecretError) -> Self {
        Self::Internal(error.into())
    }
}

/// Rules look for conflicts before they write; what the database finds came up at the same moment, or is a name taken.
fn conflict_message(conflict: &Conflict) -> String {
    let (noun, fields) = (noun(conflict.table), conflict.fields.join(", "));
    match conflict.kind {
        ConflictKind::Duplicate => format!("another {noun} has the same {fields}; choose another, or update that one"),
        ConflictKind::MissingReference => {
            format!("what this {noun} refers to ({fields}) was deleted meanwhile; read it again and retry")
        }
        ConflictKind::StillReferenced => {
            format!("other records ({fields}) refer to this {noun} since a moment ago; retry to see which")
        }
    }
}

fn noun(table: &str) -> String {
    match table {
        "api_keys" => "API key".to_owned(),
        _ => table.trim_end_matches('s').replace('_', " "),
    }
}

/// An error with all that caused it, on one line, for the log: JSON shows no more of an error than its own words.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&cause| cause.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Writes faults as `/name: must not be empty; /weight: …`.
struct Listed<'a>(&'a [FieldFault]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, fault) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", fault.pointer, fault.message)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_names_every_cause() {
        let cause = std::io::Error::other(std::io::Error::other("the port is closed"));
        let error = ControlError::Unavailable(cause.into());
        let told = chain(&error);
        assert!(told.starts_with("a service that this needs is unavailable; try again: "), "{told}");
        assert!(told.ends_with("the port is closed"), "{told}");
    }

    #[test]
    fn a_hundred_faults_are_enough() {
        let mut faults = Faults::default();
        for place in 0..5000 {
            faults.add(format!("/namespaces/{place}"), "is none");
        }
        let Err(ControlError::Invalid(faults)) = faults.into_result() else { panic!("no faults") };
        assert_eq!((faults.len(), faults[99].pointer.as_str()), (MAX_FAULTS, "/namespaces/99"));
    }
}
