//! Routing decisions that both planes make alike: whose key is dead, which candidates take part, and the reason where
//! none can serve. The gateway refuses calls with them, the control plane explains them.

use crate::snapshot::{BindingSnapshot, Candidate, CandidateError, MasterSnapshot, TokenSnapshot};
use crate::status::{KeyStatus, RecordStatus};

/// Why a known child key is refused whatever it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadKey {
    /// Someone suspended it.
    Suspended,
    /// Its end of life has come.
    Expired,
    /// Its token quota is used up.
    Exhausted,
    /// It was issued under a lower epoch than its master has now.
    Revoked,
    /// Its master is suspended.
    MasterSuspended,
}

impl DeadKey {
    /// What is wrong with a key at `now` (Unix seconds), if anything.
    pub fn find(token: &TokenSnapshot, master: &MasterSnapshot, now: i64) -> Option<Self> {
        match token.status {
            KeyStatus::Suspended => Some(Self::Suspended),
            KeyStatus::Expired => Some(Self::Expired),
            KeyStatus::Exhausted => Some(Self::Exhausted),
            KeyStatus::Active if token.expires_at.is_some_and(|end| end <= now) => Some(Self::Expired),
            KeyStatus::Active if token.issued_at_epoch < master.epoch => Some(Self::Revoked),
            KeyStatus::Active if master.status != RecordStatus::Active => Some(Self::MasterSuspended),
            KeyStatus::Active => None,
        }
    }

    /// The error code that the client sees.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Suspended => "key_suspended",
            Self::Expired => "key_expired",
            Self::Exhausted => "insufficient_quota",
            Self::Revoked => "key_revoked",
            Self::MasterSuspended => "master_suspended",
        }
    }

    /// The HTTP status that the client sees.
    pub const fn status(self) -> u16 {
        match self {
            Self::Exhausted => 429,
            Self::Suspended | Self::Expired | Self::Revoked | Self::MasterSuspended => 401,
        }
    }

    /// The message that the client sees.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Suspended => "this API key is suspended",
            Self::Expired => "this API key has expired: ask for a new one",
            Self::Exhausted => {
                "this API key has used up its token quota: ask for a higher quota, or wait for its reset"
            }
            Self::Revoked => "this API key was revoked: ask for a new one",
            Self::MasterSuspended => "the account that this API key belongs to is suspended",
        }
    }
}

/// Why a known child key may not use what it asks for. Each is a 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forbidden {
    /// The namespace is not among its own.
    Namespace,
    /// The model is not among those that it is limited to.
    Model,
}

impl Forbidden {
    /// What keeps a key from a public model in a namespace, if anything.
    pub fn find(token: &TokenSnapshot, namespace: &str, public_model: &str) -> Option<Self> {
        if !token.namespaces.iter().any(|own| own == namespace) {
            Some(Self::Namespace)
        } else if token.model_limits_enabled && !token.model_limits.iter().any(|allowed| allowed == public_model) {
            Some(Self::Model)
        } else {
            None
        }
    }

    /// The error code that the client sees.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Namespace => "namespace_not_allowed",
            Self::Model => "model_not_allowed",
        }
    }

    /// The message that the client sees.
    pub fn message(self, namespace: &str, public_model: &str) -> String {
        match self {
            Self::Namespace => format!("this API key may not use the namespace `{namespace}`"),
            Self::Model => format!("this API key may not use the model `{public_model}`"),
        }
    }
}

/// What a client is told of a model that nothing is bound to, or whose namespace is suspended: a 404.
pub fn model_not_found(namespace: &str, public_model: &str) -> String {
    format!(
        "the model `{public_model}` does not exist in the namespace `{namespace}`: GET /v1/models lists what this key may use"
    )
}

/// Whether a candidate takes part in routing.
pub fn can_serve(candidate: &Candidate) -> bool {
    candidate.status == RecordStatus::Active && candidate.error.is_none() && candidate.weight > 0
}

/// Why a bound model has no candidate that could serve. Each is a 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unserved {
    /// A selector picks no upstream model, or several.
    ConfigError,
    /// All bindings, or their provider groups, are suspended or have no weight.
    Suspended,
    /// No API key can be used.
    NoProvider,
}

impl Unserved {
    /// The reason to tell of a model without a candidate that serves.
    pub fn of(binding: &BindingSnapshot) -> Self {
        let is_suspended = |candidate: &Candidate| candidate.status != RecordStatus::Active || candidate.weight == 0;
        if binding.candidates.iter().any(|candidate| candidate.error == Some(CandidateError::ConfigError)) {
            Self::ConfigError
        } else if binding.candidates.iter().all(is_suspended) {
            Self::Suspended
        } else {
            Self::NoProvider
        }
    }

    /// The error code that the client sees.
    pub const fn code(self) -> &'static str {
        match self {
            Self::ConfigError => CandidateError::ConfigError.as_str(),
            Self::Suspended | Self::NoProvider => CandidateError::NoProvider.as_str(),
        }
    }

    /// The message that the client sees.
    pub fn message(self, public_model: &str) -> String {
        let reason = match self {
            Self::ConfigError => "its binding picks no upstream model, or several: an operator must mend the selector",
            Self::Suspended => "its bindings or their provider groups are suspended: an operator must activate one",
            Self::NoProvider => "no upstream API key of its bindings is active: an operator must add or activate one",
        };
        format!("`{public_model}` cannot be served: {reason}")
    }
}
