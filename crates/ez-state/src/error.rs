//! What can go wrong with shared state, told by what the caller may do about it.

/// A failed operation on shared state. No message carries a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The backend cannot be reached or does not answer in time. The operation may or may not have taken effect; all
    /// of them may be repeated.
    #[error("shared state is unavailable: {0}; check that Redis is up and that EZ_REDIS_URL points to it")]
    Unavailable(String),
    /// A publication stayed under way for as long as the caller can be made to wait.
    #[error("a snapshot publication is still under way; try again, and if this lasts, publish once more")]
    Unsettled,
    /// The snapshot is not the one any more that a publication was made for: another was published meanwhile, one was
    /// left half-way, or the data is lost. Nothing was published; read anew what is to be.
    #[error("the published snapshot changed meanwhile")]
    Overtaken,
    /// What is stored does not have the contract's shape.
    #[error("shared state is damaged: {0}; remove the key, and the next full publication writes it anew")]
    Corrupt(String),
    /// The backend refuses the operation, or its settings are wrong. Repeating it does not help.
    #[error("shared state refused the operation: {0}")]
    Backend(String),
}
