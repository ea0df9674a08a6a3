//! What a document comes to: records to be there after the import, in the order in which they are written.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ez_contract::status::ApiKeyStatus;
use ez_store::bindings::NewBinding;
use ez_store::child_keys::NewChildKey;
use ez_store::masters::NewMaster;
use ez_store::namespaces::NewNamespace;
use ez_store::provider_groups::NewProviderGroup;
use secrecy::SecretString;
use uuid::Uuid;

use super::given::Given;
use crate::catalogue::ModelFacts;

/// Everything that a document asks for.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) namespaces: Vec<PlannedNamespace>,
    pub(super) groups: Vec<PlannedGroup>,
    pub(super) masters: Vec<PlannedMaster>,
    pub(super) keys: Vec<PlannedKey>,
    /// Child keys that cannot be imported, as their token is not known.
    pub(super) failed_keys: u64,
    pub(super) bindings: Vec<PlannedBinding>,
    /// Namespaces of all bindings of the document, served or not.
    pub(super) bound_namespaces: Vec<String>,
    /// Bindings of the document that no provider group serves.
    pub(super) failed_bindings: u64,
    pub(super) models: Vec<PlannedModel>,
    /// Runtime flags, all of them known here.
    pub(super) flags: BTreeMap<String, bool>,
    /// Runtime flags that are not known here.
    pub(super) failed_flags: u64,
}

/// A namespace: described by the document, or only named in it.
#[derive(Debug)]
pub(super) struct PlannedNamespace {
    pub(super) record: NewNamespace,
    pub(super) is_described: bool,
}

/// A provider group with its API keys.
#[derive(Debug)]
pub(super) struct PlannedGroup {
    pub(super) path: String,
    pub(super) given: Given,
    pub(super) record: NewProviderGroup,
    pub(super) api_keys: Vec<PlannedApiKey>,
    /// Labels under which bindings of another system reach it.
    pub(super) route_groups: Vec<String>,
    /// Share and priority of the bindings that are made for it.
    pub(super) weight: u32,
    pub(super) priority: i32,
}

/// An API key with its secrets in clear.
#[derive(Debug)]
pub(super) struct PlannedApiKey {
    pub(super) path: String,
    pub(super) given: Given,
    pub(super) uuid: Option<Uuid>,
    pub(super) name: String,
    pub(super) api_key: Option<SecretString>,
    pub(super) access_token: Option<SecretString>,
    pub(super) refresh_token: Option<SecretString>,
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) account_id: Option<String>,
    pub(super) project_id: Option<String>,
    pub(super) weight: u32,
    pub(super) max_concurrency: Option<u32>,
    pub(super) status: ApiKeyStatus,
    pub(super) auto_ban: bool,
    pub(super) ban_reason: Option<String>,
    pub(super) ban_until: Option<DateTime<Utc>>,
}

/// A master.
#[derive(Debug)]
pub(super) struct PlannedMaster {
    pub(super) path: String,
    pub(super) given: Given,
    pub(super) record: NewMaster,
}

/// A child key.
#[derive(Debug)]
pub(super) struct PlannedKey {
    pub(super) path: String,
    pub(super) given: Given,
    /// Name of its master.
    pub(super) master: String,
    /// Its `master_id` is not known yet. Without namespaces it takes its master's.
    pub(super) record: NewChildKey,
    /// Whether the document names a group of its own.
    pub(super) has_group: bool,
    /// The epochs of the key and its master in the document, where both are told.
    pub(super) epochs: Option<DocumentEpochs>,
}

/// What a document tells about a key's epoch: the key is alive there where it is not below its master's.
#[derive(Debug, Clone, Copy)]
pub(super) struct DocumentEpochs {
    pub(super) key: i64,
    pub(super) master: i64,
}

/// A binding to a provider group by name.
#[derive(Debug)]
pub(super) struct PlannedBinding {
    pub(super) path: String,
    pub(super) group: String,
    /// Its `group_id` is not known yet.
    pub(super) record: NewBinding,
}

/// A model that an administrator entered.
#[derive(Debug)]
pub(super) struct PlannedModel {
    pub(super) name: String,
    pub(super) facts: ModelFacts,
}

impl DocumentEpochs {
    /// The epoch for a key whose master stands at `epoch` here: it is as alive as in the document.
    pub(super) fn at(self, epoch: i64) -> i64 {
        if self.key >= self.master { self.key.max(epoch) } else { self.key.min(epoch - 1) }
    }
}

impl PlannedApiKey {
    /// What tells it from its siblings: the secret, or the token that stands for one.
    pub(super) fn identifying_secret(&self) -> Option<&SecretString> {
        self.api_key.as_ref().or(self.refresh_token.as_ref()).or(self.access_token.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_as_alive_as_it_was() {
        for (key, master, here) in [(1, 1, 1), (1, 1, 5), (3, 3, 1), (2, 3, 3), (2, 3, 1), (1, 4, 9)] {
            let at = DocumentEpochs { key, master }.at(here);
            assert_eq!(at >= here, key >= master, "key {key}, master {master}, here {here}: {at}");
        }
        assert_eq!(DocumentEpochs { key: 2, master: 3 }.at(3), 2, "an empty system keeps every epoch");
    }
}
