//! Where things stand in Redis (contract, "Redis keys"), with the prefix applied.

use std::fmt;

use ez_contract::snapshot::SnapshotKey;

/// Builds keys.
#[derive(Debug)]
pub(super) struct Layout {
    prefix: String,
}

/// The place of a snapshot entry. Bytes, as a damaged name may be no text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The key.
    pub(super) key: Vec<u8>,
    /// The field, where the key is a hash; a string key has none.
    pub(super) field: Option<Vec<u8>>,
}

impl Place {
    /// A string key.
    pub(super) fn string(key: Vec<u8>) -> Self {
        Self { key, field: None }
    }

    /// A field of a hash.
    pub(super) fn field(hash: &str, field: Vec<u8>) -> Self {
        Self { key: hash.as_bytes().to_vec(), field: Some(field) }
    }

    /// The hash that it is a field of.
    pub(super) fn hash(&self) -> Option<&[u8]> {
        self.field.is_some().then_some(&self.key)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.key))?;
        match &self.field {
            Some(field) => write!(f, " {}", String::from_utf8_lossy(field)),
            None => Ok(()),
        }
    }
}

const PROVIDERS: &str = "config:providers";
const BINDINGS: &str = "config:bindings";
const MODELS: &str = "meta:models";
const MODELS_META: &str = "meta:models_meta";
const FEATURES: &str = "meta:features";
const TOKEN: &str = "auth:token:";
const MASTER: &str = "auth:master:";

impl Layout {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Hash: which publication stands.
    pub(super) fn meta(&self) -> String {
        self.key("meta:snapshot", "")
    }

    /// Hash: the published models.
    pub(super) fn models(&self) -> String {
        self.key(MODELS, "")
    }

    /// Hash: the account of the published models.
    pub(super) fn models_meta(&self) -> String {
        self.key(MODELS_META, "")
    }

    /// Stream, and name of the channel.
    pub(super) fn events(&self) -> String {
        self.key("events:config", "")
    }

    /// String: the publisher whose turn it is; expires.
    pub(super) fn turn(&self) -> String {
        self.key("meta:publisher", "")
    }

    /// Hash: holder and fence; expires.
    pub(super) fn lease(&self, name: &str) -> String {
        self.key("lease:", name)
    }

    /// String: the last fence of a lease.
    pub(super) fn fence(&self, name: &str) -> String {
        self.key("fence:", name)
    }

    /// A counter: a string, or a hash where gateways lease from it; expires.
    pub(super) fn counter(&self, key: &str) -> String {
        self.key("limit:", key)
    }

    /// Hash: the gateways that lease limits, each with its end; expires.
    pub(super) fn lessees(&self) -> String {
        self.key("limit:", "gateways")
    }

    /// String: a heartbeat.
    pub(super) fn gateway(&self, node_id: &str) -> String {
        self.key("gateways:", node_id)
    }

    /// Hash: the live figures of each run of a gateway; expires.
    pub(super) fn live(&self) -> String {
        self.key("stats:", "live")
    }

    /// Sorted set: when the live figures of each run end, milliseconds of the server; expires.
    pub(super) fn live_ends(&self) -> String {
        self.key("stats:", "live_ends")
    }

    /// Hash: the health states of an API key; expires.
    pub(super) fn health(&self, api_key_id: i64) -> String {
        self.key("health:", &api_key_id.to_string())
    }

    /// String: who made a stored response; expires.
    pub(super) fn response(&self, id: &str) -> String {
        self.key("response:", id)
    }

    /// Stream of the changes of health states, and name of its channel.
    pub(super) fn health_events(&self) -> String {
        self.key("events:health", "")
    }

    /// Pattern of all heartbeats.
    pub(super) fn gateway_pattern(&self) -> String {
        self.pattern("gateways:*")
    }

    /// Hash: what each job of the control planes did last.
    pub(super) fn job_notes(&self) -> String {
        self.key("jobs:last", "")
    }

    /// Pattern of all tokens and masters (and of anything else that strayed below `auth:`).
    pub(super) fn auth_pattern(&self) -> String {
        self.pattern("auth:*")
    }

    /// The hashes whose fields are entries.
    pub(super) fn hashes(&self) -> [String; 4] {
        [PROVIDERS, BINDINGS, MODELS, FEATURES].map(|name| self.key(name, ""))
    }

    /// Where an entry stands.
    pub(super) fn place(&self, key: &SnapshotKey) -> Place {
        let field = |hash, field: String| Place::field(&self.key(hash, ""), field.into_bytes());
        let string = |start, rest: String| Place::string(self.key(start, &rest).into_bytes());
        match key {
            SnapshotKey::Provider(id) => field(PROVIDERS, id.to_string()),
            SnapshotKey::Binding(name) => field(BINDINGS, name.clone()),
            SnapshotKey::Model(name) => field(MODELS, name.clone()),
            SnapshotKey::Feature(flag) => field(FEATURES, flag.clone()),
            SnapshotKey::Token(digest) => string(TOKEN, digest.to_string()),
            SnapshotKey::Master(id) => string(MASTER, id.to_string()),
        }
    }

    /// The entry that stands at a place, or `None` where none can.
    pub(super) fn entry_at(&self, place: &Place) -> Option<SnapshotKey> {
        let bare = str::from_utf8(place.key.strip_prefix(self.prefix.as_bytes())?).ok()?;
        let field = place.field.as_deref().map(str::from_utf8).transpose().ok()?;
        let key = match (field, bare) {
            (Some(id), PROVIDERS) => SnapshotKey::Provider(id.parse().ok()?),
            (Some(name), BINDINGS) => SnapshotKey::Binding(name.to_owned()),
            (Some(name), MODELS) => SnapshotKey::Model(name.to_owned()),
            (Some(flag), FEATURES) => SnapshotKey::Feature(flag.to_owned()),
            (None, string) => match string.strip_prefix(TOKEN) {
                Some(digest) => SnapshotKey::Token(digest.parse().ok()?),
                None => SnapshotKey::Master(string.strip_prefix(MASTER)?.parse().ok()?),
            },
            _ => return None,
        };
        // `042` parses as 42, but nobody looks there.
        (self.place(&key) == *place).then_some(key)
    }

    fn key(&self, name: &str, rest: &str) -> String {
        [self.prefix.as_str(), name, rest].concat()
    }

    /// A `SCAN` pattern; what the prefix has of its special characters stands for itself.
    fn pattern(&self, pattern: &str) -> String {
        let mut escaped = String::with_capacity(self.prefix.len() + pattern.len());
        for character in self.prefix.chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
                escaped.push('\\');
            }
            escaped.push(character);
        }
        escaped + pattern
    }
}
