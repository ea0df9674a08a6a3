//! Exporting, and importing what was exported: the same system elsewhere.

use std::collections::{BTreeMap, HashMap};

use ez_contract::secret::SecretPlace;
use ez_contract::snapshot::ClientGone;
use ez_contract::snapshot::SnapshotEntry;
use ez_contract::status::{ApiKeyStatus, KeyStatus};
use ez_control::child_keys::{self, ChangeChildKey};
use ez_control::models::{ChangeFacts, ChangePrices, CreateModel};
use ez_control::sign_in::authenticate;
use ez_control::transfer::{ConflictPolicy, Counts, ExportOptions, ImportOptions, export};
use ez_control::{Control, Tenant, catalogue, features, masters, models, publisher};
use ez_store::{Backend, api_keys};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::importing::WITH_BINDINGS;
use crate::support::{Plane, model_of, origin, secret_in, secret_key};

impl Plane {
    /// A control plane on the other pair of backends.
    async fn elsewhere(&self) -> Plane {
        match self.control.store().backend() {
            Backend::Sqlite => Plane::scaled_out().await,
            Backend::Postgres => Plane::embedded().await,
        }
    }

    pub(crate) async fn export(&self, with_secrets: bool) -> Value {
        let options = ExportOptions { with_secrets, source_version: "1.2.3".to_owned() };
        serde_json::to_value(export(&self.control, &options).await.unwrap()).unwrap()
    }

    /// A model of which an administrator knows its price of input, or that nothing costs anything that is known.
    async fn model_entry(&self, name: &str, input: Option<&str>) {
        let unknown = Some(None);
        let prices = ChangePrices {
            input: Some(input.map(str::to_owned)),
            output: unknown.clone(),
            cache_read: unknown.clone(),
            cache_write: unknown,
        };
        let facts = ChangeFacts { prices, supports_stream: Some(true), ..ChangeFacts::default() };
        let write = self.write().await;
        models::create(&write, CreateModel { name: name.to_owned(), facts }).await.unwrap();
        write.commit().await.unwrap();
    }

    /// The whole published snapshot with names in place of ids, secrets opened, and times of change left out.
    async fn image(&self) -> BTreeMap<String, Value> {
        publisher::reconcile(&self.control).await.unwrap();
        let image = self.control.state().read_snapshot().await.unwrap();
        let names = names(&image.entries);
        image.entries.into_iter().map(|entry| named(entry, &names)).collect()
    }
}

/// Names by kind and id.
type Names = HashMap<(&'static str, i64), String>;

fn names(entries: &[SnapshotEntry]) -> Names {
    let mut names = Names::new();
    for entry in entries {
        match entry {
            SnapshotEntry::Provider(provider) => {
                names.insert(("provider", provider.id), provider.uuid.unwrap().to_string());
                let group = provider.name.split('#').next().unwrap();
                names.insert(("group", provider.group_id), group.to_owned());
            }
            SnapshotEntry::Master(master) => {
                names.insert(("master", master.id), master.name.clone());
            }
            _ => {}
        }
    }
    names
}

fn named(entry: SnapshotEntry, names: &Names) -> (String, Value) {
    match entry {
        SnapshotEntry::Provider(mut provider) => {
            let uuid = provider.uuid.unwrap();
            if !provider.api_key.is_empty() {
                let place = SecretPlace::api_key(uuid, "api_key");
                provider.api_key = secret_key().open(&provider.api_key, place).unwrap();
            }
            provider.name = names[&("group", provider.group_id)].clone();
            (provider.id, provider.group_id) = (0, 0);
            (format!("provider {uuid}"), serde_json::to_value(provider).unwrap())
        }
        SnapshotEntry::Binding(mut binding) => {
            binding.updated_at = 0;
            let mut value = serde_json::to_value(&binding).unwrap();
            let candidates = binding.candidates.iter().map(|candidate| {
                let upstreams: BTreeMap<_, _> =
                    candidate.upstreams.iter().map(|(id, model)| (&names[&("provider", *id)], model)).collect();
                let mut value = serde_json::to_value(candidate).unwrap();
                value["group_id"] = json!(names[&("group", candidate.group_id)]);
                value["upstreams"] = json!(upstreams);
                value
            });
            let mut candidates: Vec<Value> = candidates.collect();
            candidates.sort_by_key(ToString::to_string);
            value["candidates"] = json!(candidates);
            (format!("binding {}.{}", binding.namespace, binding.public_model), value)
        }
        SnapshotEntry::Token(digest, mut token) => {
            let master = &names[&("master", token.master_id)];
            (token.id, token.master_id) = (0, 0);
            (format!("token {digest} of {master}"), serde_json::to_value(token).unwrap())
        }
        SnapshotEntry::Master(mut master) => {
            master.id = 0;
            (format!("master {}", master.name), serde_json::to_value(master).unwrap())
        }
        SnapshotEntry::Model(model) => (format!("model {}", model.name), serde_json::to_value(model).unwrap()),
        SnapshotEntry::Feature(flag, value) => (format!("feature {flag}"), json!(value)),
    }
}

/// Two groups, bindings, two models, a flag, a master whose epoch was raised, keys dead and alive.
async fn fill(plane: &Plane) -> (String, String) {
    let (group, spare) = (plane.group("main").await, plane.group("spare").await);
    plane.try_api_key(secret_in(group.id, "sk-canary-main")).await.unwrap();
    plane.try_api_key(secret_in(group.id, "sk-canary-second")).await.unwrap();
    plane.try_api_key(secret_in(spare.id, "sk-canary-spare")).await.unwrap();
    plane.namespace("team-a").await;
    plane.binding(group.id).await;
    let last = ez_control::bindings::CreateBinding {
        priority: Some(-1),
        on_client_gone: Some(ClientGone::Drain),
        ..model_of(spare.id)
    };
    plane.try_binding(last).await.unwrap();
    let created = plane.master("acme").await;
    let dead = plane.key(created.master.id).await;
    plane.model_entry("m", Some("2.50")).await;
    plane.model_entry("gpt-4o", None).await;
    let write = plane.write().await;
    features::update(&write, &[("log_request_body_enabled".to_owned(), json!(true))].into()).await.unwrap();
    masters::revoke_keys(&write, created.master.id).await.unwrap();
    write.commit().await.unwrap();
    let alive = plane.key(created.master.id).await;
    let write = plane.write().await;
    let change = ChangeChildKey { status: Some(KeyStatus::Suspended), ..ChangeChildKey::default() };
    child_keys::update(&write, Tenant::Any, dead.key.id, change).await.unwrap();
    write.commit().await.unwrap();
    (created.master_key.expose_secret().to_owned(), alive.token.expose_secret().to_owned())
}

pub(crate) async fn an_export_makes_the_same_system_elsewhere(plane: Plane) {
    let (master_key, token) = fill(&plane).await;
    let document = plane.export(true).await;
    assert_eq!((&document["version"], &document["source"]["version"]), (&json!("2.0.0"), &json!("1.2.3")));
    let text = document.to_string();
    assert!(!text.contains(&master_key) && !text.contains(&token), "tokens and master keys are digests alone");
    assert!(text.contains("sk-canary-main"));

    let other = plane.elsewhere().await;
    let summary = other.import(&text, WITH_BINDINGS).await;
    assert!(summary.credentials.is_empty(), "the old master keys work");
    assert_eq!(summary.warnings, Vec::<String>::new());
    assert_eq!(summary.counts.keys.created, 2);
    let (here, there) = (plane.image().await, other.image().await);
    assert_eq!(here.len(), 3 + 1 + 2 + 1 + 1 + 2, "{here:#?}");
    assert_eq!(here["model default.m"]["prices"]["input"], "2.5");
    assert_eq!(here["feature log_request_body_enabled"], true);
    assert_eq!(here, there);
    authenticate(&other.control, &master_key, &origin()).await.unwrap();

    let mut again = other.export(true).await;
    again["source"]["exported_at"] = document["source"]["exported_at"].clone();
    assert_eq!(again, document, "the same document comes out again");
    let overwrite = ImportOptions { conflict: ConflictPolicy::Overwrite, ..WITH_BINDINGS };
    let depth = other.outbox_depth().await;
    other.import(&text, overwrite).await;
    assert_eq!(other.outbox_depth().await, depth);
}

pub(crate) async fn an_export_without_secrets_waits_for_them(plane: Plane) {
    fill(&plane).await;
    let document = plane.export(false).await.to_string();
    assert!(!document.contains("canary") && !document.contains("enc:v1"), "{document}");
    // At home nothing is missing.
    let overwrite = ImportOptions { conflict: ConflictPolicy::Overwrite, ..WITH_BINDINGS };
    let depth = plane.outbox_depth().await;
    assert_eq!(plane.import(&document, overwrite).await.counts.api_keys.skipped, 3);
    assert_eq!(plane.outbox_depth().await, depth);

    let other = plane.elsewhere().await;
    let summary = other.import(&document, WITH_BINDINGS).await;
    assert!(summary.warnings.iter().any(|warning| warning.contains("no secret of this API key")), "{summary:?}");
    let keys = api_keys::list_all(other.control.store()).await.unwrap();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| key.api_key.is_none() && key.status == ApiKeyStatus::ManualDisabled), "{keys:?}");
    for options in [WITH_BINDINGS, overwrite] {
        assert_eq!(other.import(&document, options).await.counts.api_keys.skipped, 3, "they are known by their uuid");
    }
}

pub(crate) async fn a_revoked_key_stays_dead_beside_a_master_that_stands_here(plane: Plane) {
    fill(&plane).await;
    let document = plane.export(true).await.to_string();
    let other = plane.elsewhere().await;
    let standing = other.master("acme").await.master;
    other.import(&document, WITH_BINDINGS).await;
    let keys = ez_store::child_keys::list_by_master(other.control.store(), standing.id, 10).await.unwrap();
    let alive: Vec<bool> = keys.iter().map(|key| key.issued_at_epoch >= standing.epoch).collect();
    assert_eq!(alive.iter().filter(|alive| **alive).count(), 1, "{keys:?}");
    assert_eq!(keys.len(), 2);
}

pub(crate) async fn a_secret_that_cannot_be_opened_is_not_left_out_silently(plane: Plane) {
    fill(&plane).await;
    let mut parts = plane.parts_of_another(crate::support::config()).await;
    parts.secret_key = std::sync::Arc::new(ez_contract::secret::SecretKey::from_bytes(&[8; 32]).unwrap());
    parts.config.jwt_secret = Some("a secret for sessions of its own".into());
    let (other, _) = Control::prepare(parts).await.unwrap();
    let options = ExportOptions { with_secrets: true, source_version: String::new() };
    assert!(export(&other, &options).await.is_err());
}

pub(crate) async fn models_and_flags_come_along(plane: Plane) {
    let document = json!({"version": "2.0.0", "data": {
        "models": [
            {"name": "house", "kind": "embedding", "context_window": 8000, "prices": {"input": 0.25, "output": "1e-2"},
             "supports_stream": true, "capabilities": {"rejects": ["seed"]}, "unheard_of": 1},
            {"name": "gpt-4o"},
        ],
        "features": {"log_request_body_enabled": true, "oauth_providers_acknowledged": false, "unheard_of": 5},
    }});
    let summary = plane.import(&document.to_string(), ImportOptions::default()).await;
    assert_eq!(summary.counts.models, Counts { created: 2, ..Counts::default() });
    assert_eq!(summary.counts.features, Counts { created: 1, skipped: 1, failed: 1, ..Counts::default() });
    assert!(summary.warnings[0].starts_with("$.data.features: there is no flag `unheard_of`"), "{summary:?}");
    let kept = ez_store::models::get_by_name(plane.control.store(), "gpt-4o").await.unwrap().unwrap();
    assert_eq!((kept.context_window, kept.input_price), (0, None), "nothing is taken from the catalogue");
    let exported = plane.export(false).await;
    let house = json!({"name": "house", "kind": "embedding", "context_window": 8000, "max_output_tokens": 0,
        "prices": {"input": "0.25", "output": "0.01", "cache_read": null, "cache_write": null},
        "supports_vision": false, "supports_functions": false, "supports_tool_choice": false, "supports_fim": false,
        "supports_stream": true, "capabilities": {"rejects": ["seed"]}});
    assert_eq!(exported["data"]["models"][1], house);
    assert_eq!(exported["data"]["models"][0].get("capabilities"), None, "nothing is said of it");

    let mut other = document;
    other["data"]["models"][0]["context_window"] = json!(9000);
    other["data"]["features"]["log_request_body_enabled"] = json!(false);
    let other = other.to_string();
    let overwrite = ImportOptions { conflict: ConflictPolicy::Overwrite, ..ImportOptions::default() };
    for (options, updated, window) in [(ImportOptions::default(), 0, 8000), (overwrite, 1, 9000), (overwrite, 0, 9000)]
    {
        let depth = plane.outbox_depth().await;
        let counts = plane.import(&other, options).await.counts;
        assert_eq!((counts.models.updated, counts.models.skipped), (updated, 2 - updated));
        assert_eq!((counts.features.updated, counts.features.skipped), (updated, 2 - updated));
        assert_eq!(plane.outbox_depth().await, depth + 2 * updated);
        let kept = ez_store::models::get_by_name(plane.control.store(), "house").await.unwrap().unwrap();
        assert_eq!(kept.context_window, window);
    }
    let foreign = json!({"version": "1.0.0", "data": {"models": ["gpt-4"], "features": "many"}}).to_string();
    assert_eq!(plane.import(&foreign, overwrite).await.counts.models, Counts::default(), "these are something else");
}

pub(crate) async fn a_renewed_catalogue_is_told_to_be_missing(plane: Plane) {
    let told = |document: Value| document["warnings"].to_string().contains("catalogue");
    assert!(!told(plane.export(false).await));
    let renewal = r#"{"source":"ours","version":"7","models":[{"name":"m"}]}"#;
    let renewal = catalogue::prepare(renewal).await.unwrap();
    let write = plane.write().await;
    catalogue::renew(&write, renewal).await.unwrap();
    write.commit().await.unwrap();
    assert!(told(plane.export(false).await));
}

pub(crate) async fn a_secret_that_comes_later_fills_the_api_key_that_waits(plane: Plane) {
    fill(&plane).await;
    let other = plane.elsewhere().await;
    other.import(&plane.export(false).await.to_string(), WITH_BINDINGS).await;
    let whole = plane.export(true).await.to_string();
    assert_eq!(other.import(&whole, WITH_BINDINGS).await.counts.api_keys, Counts { skipped: 3, ..Counts::default() });
    let overwrite = ImportOptions { conflict: ConflictPolicy::Overwrite, ..WITH_BINDINGS };
    assert_eq!(other.import(&whole, overwrite).await.counts.api_keys, Counts { updated: 3, ..Counts::default() });
    let keys = api_keys::list_all(other.control.store()).await.unwrap();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| key.api_key.is_some() && key.status == ApiKeyStatus::Active), "{keys:?}");
    assert_eq!(plane.image().await, other.image().await);
}
