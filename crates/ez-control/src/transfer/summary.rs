//! What an import did.

use secrecy::SecretString;
use serde::Serialize;

/// The outcome of an import, or of its dry run.
#[derive(Debug)]
pub struct ImportSummary {
    /// Whether everything was undone again.
    pub dry_run: bool,
    /// How many records of each kind.
    pub counts: ImportCounts,
    /// What the operator should know; each names JSON paths of the document.
    pub warnings: Vec<String>,
    /// Master keys that were made; they cannot be read again. None after a dry run.
    pub credentials: Vec<CreatedCredential>,
}

/// A master key that was made.
#[derive(Debug)]
pub struct CreatedCredential {
    /// Name of the master.
    pub master: String,
    /// Its master key, in clear.
    pub master_key: SecretString,
}

/// Counts by kind of record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ImportCounts {
    /// Namespaces.
    pub namespaces: Counts,
    /// Provider groups.
    pub provider_groups: Counts,
    /// API keys.
    pub api_keys: Counts,
    /// Masters.
    pub masters: Counts,
    /// Child keys.
    pub keys: Counts,
    /// Bindings.
    pub bindings: Counts,
    /// Models.
    pub models: Counts,
    /// Runtime flags.
    pub features: Counts,
}

/// What became of the records of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// New ones.
    pub created: u64,
    /// Ones that were there and changed.
    pub updated: u64,
    /// Ones that were there and stayed as they were, or that were not asked for.
    pub skipped: u64,
    /// Ones that could not be imported; a warning tells why.
    pub failed: u64,
}

impl ImportCounts {
    /// Each kind with its name in the document.
    pub fn by_kind(&self) -> [(&'static str, Counts); 8] {
        [
            ("namespaces", self.namespaces),
            ("provider_groups", self.provider_groups),
            ("api_keys", self.api_keys),
            ("masters", self.masters),
            ("keys", self.keys),
            ("bindings", self.bindings),
            ("models", self.models),
            ("features", self.features),
        ]
    }
}
