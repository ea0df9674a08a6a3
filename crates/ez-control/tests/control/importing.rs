//! Importing documents of other systems: every rule, every fault, and what happens the second time.

use ez_contract::TokenDigest;
use ez_contract::provider::ProviderType;
use ez_contract::secret::{SecretKey, SecretPlace};
use ez_contract::snapshot::{SnapshotEntry, SnapshotKey};
use ez_contract::status::{ApiKeyStatus, KeyStatus, RecordStatus};
use ez_control::sign_in::{Principal, authenticate};
use ez_control::transfer::{ConflictPolicy, Counts, ImportOptions, ImportSummary, import};
use ez_control::{Actor, Control, ControlError};
use ez_store::child_keys::ChildKey;
use ez_store::masters::Master;
use ez_store::provider_groups::ProviderGroup;
use ez_store::{api_keys, audit, bindings, child_keys, masters, namespaces, provider_groups};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::support::{Plane, config, faults, origin, secret_key};

const OTHER_SYSTEM: &str = include_str!("fixtures/other-system.json");
const BROKEN: &str = include_str!("fixtures/broken.json");

pub(crate) const WITH_BINDINGS: ImportOptions =
    ImportOptions { dry_run: false, conflict: ConflictPolicy::Skip, include_bindings: true };
const OVERWRITING: ImportOptions = ImportOptions { conflict: ConflictPolicy::Overwrite, ..WITH_BINDINGS };

const fn created(count: u64) -> Counts {
    Counts { created: count, updated: 0, skipped: 0, failed: 0 }
}

const fn skipped(count: u64) -> Counts {
    Counts { created: 0, updated: 0, skipped: count, failed: 0 }
}

impl Plane {
    pub(crate) async fn try_import(
        &self,
        document: &str,
        options: ImportOptions,
    ) -> Result<ImportSummary, ControlError> {
        import(&self.control, Actor::admin(origin()), document.as_bytes(), options).await
    }

    pub(crate) async fn import(&self, document: &str, options: ImportOptions) -> ImportSummary {
        self.try_import(document, options).await.unwrap()
    }

    async fn imported_group(&self, name: &str) -> ProviderGroup {
        provider_groups::get_by_name(self.control.store(), name).await.unwrap().unwrap()
    }

    async fn imported_master(&self, name: &str) -> Master {
        masters::get_by_name(self.control.store(), name).await.unwrap().unwrap()
    }

    async fn imported_key(&self, bare_token: &str) -> ChildKey {
        child_keys::get_by_digest(self.control.store(), &TokenDigest::of(bare_token)).await.unwrap().unwrap()
    }

    async fn bindings_of(&self, namespace: &str) -> Vec<(String, i64, u32, i32, RecordStatus)> {
        let bindings = bindings::list_by_namespace(self.control.store(), namespace).await.unwrap();
        let told = bindings.into_iter().map(|b| (b.public_model, b.group_id, b.weight, b.priority, b.status));
        told.collect()
    }

    /// How much was ever written: entries of the outbox and of the audit.
    async fn journals(&self) -> (u64, usize) {
        let audit = audit::list(self.control.store(), None, 100_000).await.unwrap();
        (self.outbox_depth().await, audit.len())
    }
}

/// Whether one warning names this path and has these words.
#[track_caller]
fn assert_warned(summary: &ImportSummary, path: &str, words: &str) {
    let is_told = |warning: &&String| warning.contains(path) && warning.contains(words);
    assert!(summary.warnings.iter().any(|warning| is_told(&warning)), "{path} {words}: {:#?}", summary.warnings);
}

fn opened(control_key: &SecretKey, key: &api_keys::ApiKey) -> String {
    control_key.open(key.api_key.as_ref().unwrap(), SecretPlace::api_key(key.uuid, "api_key")).unwrap()
}

pub(crate) async fn channels_become_provider_groups_and_api_keys(plane: Plane) {
    let summary = plane.import(OTHER_SYSTEM, WITH_BINDINGS).await;
    assert_eq!(summary.counts.provider_groups, created(6));
    assert_eq!(summary.counts.api_keys, created(7));

    let main = plane.imported_group("openai-main").await;
    assert_eq!((main.provider_type, main.base_url.as_str()), (ProviderType::Openai, "https://api.openai.com/v1"));
    assert_eq!((main.models.join(","), main.status), ("gpt-4,gpt-4o".to_owned(), RecordStatus::Active));
    let keys = api_keys::list_by_group(plane.control.store(), main.id).await.unwrap();
    let told: Vec<_> =
        keys.iter().map(|key| (key.name.as_str(), opened(&secret_key(), key), key.status, key.auto_ban)).collect();
    let expected = [
        ("openai-main-1", "sk-up-first".to_owned(), ApiKeyStatus::ManualDisabled, false),
        ("openai-main-2", "sk-up-second".to_owned(), ApiKeyStatus::Active, true),
    ];
    assert_eq!(told, expected, "one multi-key channel is one group, its keys by their index");

    let claude = plane.imported_group("claude").await;
    assert_eq!((claude.base_url.as_str(), claude.route_group.as_str()), ("https://api.anthropic.com", "vip"));
    assert_warned(&summary, "$.data.providers[2]", "weight 0");
    assert_eq!(plane.imported_group("claude-3").await.route_group, "default", "a name taken twice gets the id");
    assert_warned(&summary, "$.data.providers[3]", "becomes `claude-3`");

    let seek = plane.imported_group("seek").await;
    assert_eq!((seek.provider_type, seek.base_url.as_str()), (ProviderType::Compatible, "https://api.deepseek.com/v1"));
    let local = plane.imported_group("local").await;
    assert_eq!((local.provider_type, local.status), (ProviderType::Compatible, RecordStatus::Suspended));
    assert_warned(&summary, "$.data.providers[5]", "`ollama` has no public base URL");
    let own = plane.imported_group("own").await;
    assert_eq!((own.base_url.as_str(), own.status), ("https://llm.example.com/openai/v1", RecordStatus::Active));
    assert_warned(&summary, "$.warnings[0]", "two channels share a name");
}

pub(crate) async fn tenants_keep_their_access(plane: Plane) {
    let summary = plane.import(OTHER_SYSTEM, WITH_BINDINGS).await;
    assert_eq!(summary.counts.masters, created(2));
    assert_eq!(summary.counts.keys, Counts { failed: 1, ..created(3) });
    assert_warned(&summary, "$.data.keys[3]", "does not have this key's token");

    let user = plane.imported_master("user123").await;
    assert_eq!(user.namespaces, ["default", "extra"], "empty names are dropped, a key's namespace is added");
    assert_eq!((user.max_child_keys, user.global_qps, user.status), (10, 3, RecordStatus::Active));
    assert_warned(&summary, "$.data.keys[0]", "namespace `extra` is added to those of its master `user123`");
    let team = plane.imported_master("team").await;
    assert_eq!((team.namespaces.join(","), team.default_namespace.as_str()), ("vip-users".to_owned(), "vip-users"));
    assert_eq!((team.group.as_str(), team.status), ("VIP Users", RecordStatus::Suspended));
    assert_warned(&summary, "$.data.masters[1].namespaces[0]", "`VIP Users` is no namespace name; `vip-users`");

    let names = namespaces::list_all(plane.control.store()).await.unwrap();
    let mut names: Vec<_> = names.into_iter().map(|namespace| namespace.name).collect();
    names.sort();
    assert_eq!(names, ["default", "extra", "lonely", "vip-users"], "what is named anywhere is there");
    assert_eq!(summary.counts.namespaces, Counts { skipped: 1, ..created(3) });

    let first = plane.imported_key("TokenOfTheFirstClient0123456789").await;
    assert_eq!((first.namespaces.join(","), first.default_namespace.as_str()), ("default,extra".to_owned(), "default"));
    assert_eq!((first.quota_limit, first.quota_used), (Some(100_005), 5), "what remained and what was used");
    assert_warned(&summary, "$.data.keys[0]", "opaque count");
    assert_eq!((first.model_limits_enabled, first.model_limits.join(",")), (true, "gpt-4".to_owned()));
    assert_eq!((first.allow_ips.join(","), first.scopes.join(",")), ("192.168.1.0/24".to_owned(), "chat:*".to_owned()));
    assert_eq!(first.expires_at.unwrap().to_rfc3339(), "2126-12-31T00:00:00+00:00");

    let second = plane.imported_key("TokenOfTheSecondClient0123456789").await;
    assert_eq!((second.status, second.group.as_str()), (KeyStatus::Suspended, "vip"));
    assert_warned(&summary, "$.data.keys[1]", "group is not its master's");
    assert_eq!((second.quota_limit, second.expires_at), (None, None), "unlimited, and never");
    assert_eq!(second.namespaces, ["default"], "the master's own, not what another key added");
    assert_eq!(plane.imported_key("TokenOfTheThirdClient-0123456789").await.master_id, team.id);
}

pub(crate) async fn new_masters_get_a_key_that_works(plane: Plane) {
    let summary = plane.import(OTHER_SYSTEM, WITH_BINDINGS).await;
    let mut names: Vec<_> = summary.credentials.iter().map(|made| made.master.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["team", "user123"]);
    let made = summary.credentials.iter().find(|made| made.master == "user123").unwrap();
    match authenticate(&plane.control, made.master_key.expose_secret(), &origin()).await.unwrap() {
        Principal::Master(master) => assert_eq!(master.name, "user123"),
        Principal::Admin => panic!("a master key is no admin token"),
    }
    assert!(!format!("{summary:?}").contains(made.master_key.expose_secret()));
}

pub(crate) async fn a_binding_reaches_every_group_of_its_label(plane: Plane) {
    let summary = plane.import(OTHER_SYSTEM, WITH_BINDINGS).await;
    let main = plane.imported_group("openai-main").await.id;
    let (claude, own) = (plane.imported_group("claude").await.id, plane.imported_group("own").await.id);
    let active = RecordStatus::Active;
    let gpt = "gpt-4".to_owned();
    assert_eq!(
        plane.bindings_of("default").await,
        [(gpt.clone(), main, 3, 2, active), (gpt.clone(), own, 1, 0, active)]
    );
    let claude_binding = ("claude-3".to_owned(), claude, 1, 0, RecordStatus::Suspended);
    assert_eq!(plane.bindings_of("vip-users").await, [(gpt, main, 3, 2, active), claude_binding]);
    assert_eq!(summary.counts.bindings, Counts { failed: 1, ..created(4) });
    assert_warned(&summary, "$.data.bindings[3]", "no provider of the document serves `gpt-4` to `nobody`");

    plane.publish().await;
    let published = plane.published(&SnapshotKey::Binding("default.gpt-4".to_owned())).await;
    let Some(SnapshotEntry::Binding(binding)) = published else { panic!("no binding: {published:?}") };
    assert_eq!(binding.candidates.len(), 2);
    assert!(binding.candidates.iter().all(|candidate| candidate.upstreams.len() == 1), "{binding:?}");
    let token = SnapshotKey::Token(TokenDigest::of("TokenOfTheFirstClient0123456789"));
    assert!(plane.published(&token).await.is_some(), "keys are published, many to an outbox entry");
}

pub(crate) async fn bindings_are_left_out_unless_asked_for(plane: Plane) {
    let summary = plane.import(OTHER_SYSTEM, ImportOptions::default()).await;
    assert_eq!(summary.counts.bindings, skipped(4));
    assert_warned(&summary, "$.data.bindings", "--include-bindings");
    assert!(bindings::list_all(plane.control.store()).await.unwrap().is_empty());
}

pub(crate) async fn every_fault_is_named_with_its_path_and_nothing_is_written(plane: Plane) {
    let before = plane.journals().await;
    let found = faults(plane.try_import(BROKEN, WITH_BINDINGS).await);
    for expected in [
        "$.data.providers[1].name: is required",
        "$.data.providers[1].base_url: must be an http or https URL",
        "$.data.providers[1].api_key: must be visible ASCII",
        "$.data.providers[1].models[1]: must be a text",
        "$.data.providers[1].weight: must not be negative",
        "$.data.providers[1].status: `sleeping` is not one of",
        "$.data.providers[2]: must be an object",
        "$.data.providers[3].type: is required",
        "$.data.providers[3].base_url: must be an http or https URL",
        "$.data.providers[3].original_id: must be a whole number",
        "$.data.masters[1].name: another master of the document",
        "$.data.masters[1].global_qps: must not be negative",
        "$.data.masters[2].namespaces: must be a list",
        "$.data.masters[2].monthly_budget: must be an amount of US dollars",
        "$.data.keys[1].master_ref: `nobody` is no master",
        "$.data.keys[1].original_token: must be visible ASCII",
        "$.data.keys[2]: has the token of $.data.keys[0]",
        "$.data.keys[3].scopes[1]: `everything` is not one of",
        "$.data.keys[3].allow_ips[1]: `home` is neither",
        "$.data.keys[3].expires_at: must be a time",
        "$.data.keys[3].model_limits_enabled: must be true or false",
        "$.data.keys[4].original_token: is required",
        "$.data.keys[4].deny_ips[0]: `nowhere` is neither",
        "$.data.bindings[0].model: is required",
        "$.data.bindings[1].selector_value: `(` is not a valid",
    ] {
        assert!(found.iter().any(|fault| fault.starts_with(expected)), "{expected}: {found:#?}");
    }
    assert_eq!(found.len(), 25, "{found:#?}");
    assert!(!found.iter().any(|fault| fault.contains("canary")), "{found:#?}");
    assert_eq!(plane.journals().await, before);
    assert!(masters::list_all(plane.control.store()).await.unwrap().is_empty());
    assert!(provider_groups::list_all(plane.control.store()).await.unwrap().is_empty());
}

pub(crate) async fn faults_of_an_export_are_named_too(plane: Plane) {
    let uuid = "00000000-0000-4000-8000-000000000007";
    let document = json!({"version": "2.0.0", "data": {
        "namespaces": [{"name": "a"}, {"name": "a"}, {"description": "nameless"}],
        "provider_groups": [
            {"name": "g", "type": "openia", "protocols": ["openai-chat", "smoke"], "api_keys": [{"uuid": uuid, "max_concurrency": 0}, 5]},
            {"name": "h", "type": "compatible", "api_keys": [{"uuid": uuid, "api_key": "canary two"}]},
            {"name": "i", "type": "openai", "api_keys": "none"},
            {"name": "i", "type": "openai"},
        ],
        "masters": [{"name": "m", "key_digest": "canary", "key_hash": "md5", "epoch": -1}],
        "keys": [{"master_ref": "m", "token_digest": "canary", "quota_reset": "hourly", "issued_by": "nobody"}],
        "bindings": [
            {"namespace": "a", "public_model": "x", "provider_group": "i"},
            {"namespace": "a", "public_model": "x", "provider_group": "i"},
            {"namespace": "a", "public_model": "x", "provider_group": "nowhere"},
        ],
        "models": [
            {"name": "m", "context_window": 100_000_001, "prices": {"input": "1,5", "output": -1}, "supports_fim": "no"},
            {"name": "m", "prices": "free", "capabilities": {"a/b": 1, "rejects": ["seed", "heat"], "reasoning": {"style": "x"}}},
            {"capabilities": []},
        ],
        "features": {"log_request_body_enabled": "yes"},
    }});
    let before = plane.journals().await;
    let found = faults(plane.try_import(&document.to_string(), WITH_BINDINGS).await);
    for expected in [
        "$.data.namespaces[1].name: `a` is described at",
        "$.data.namespaces[2].name: is required",
        "$.data.provider_groups[0].type: `openia` is not one of",
        "$.data.provider_groups[0].protocols[1]: `smoke` is not one of",
        "$.data.provider_groups[0].api_keys[0].max_concurrency: must be 1 or more",
        "$.data.provider_groups[0].api_keys[1]: must be an object",
        "$.data.provider_groups[1].base_url: is required for `compatible`",
        "$.data.provider_groups[1].api_keys[0].uuid: is the uuid of another",
        "$.data.provider_groups[1].api_keys[0].api_key: must be visible ASCII",
        "$.data.provider_groups[2].api_keys: must be a list",
        "$.data.provider_groups[3].name: the provider group at",
        "$.data.masters[0].key_digest: a token digest is 64",
        "$.data.masters[0].key_hash: must be a hash",
        "$.data.masters[0].epoch: must not be negative",
        "$.data.keys[0].token_digest: a token digest is 64",
        "$.data.keys[0].quota_reset: `hourly` is not one of",
        "$.data.keys[0].issued_by: `nobody` is not one of",
        "$.data.bindings[1]: binds a model",
        "$.data.bindings[2].provider_group: `nowhere` is no provider group",
        "$.data.models[0].context_window: must be at most 100000000 tokens",
        "$.data.models[0].prices.input: must be US dollars",
        "$.data.models[0].prices.output: must be US dollars",
        "$.data.models[0].supports_fim: must be true or false",
        "$.data.models[1].name: the model at $.data.models[0] is named `m` too",
        "$.data.models[1].prices: must be an object",
        "$.data.models[1].capabilities.a/b: is no field that is known",
        "$.data.models[1].capabilities.rejects[1]: must be one of: temperature, ",
        "$.data.models[1].capabilities.reasoning.style: must be one of: none, ",
        "$.data.models[2].capabilities: must be an object",
        "$.data.models[2].name: is required",
        "$.data.features.log_request_body_enabled: must be true or false",
    ] {
        assert!(found.iter().any(|fault| fault.starts_with(expected)), "{expected}: {found:#?}");
    }
    assert_eq!(found.len(), 31, "{found:#?}");
    assert!(!found.iter().any(|fault| fault.contains("canary")), "{found:#?}");
    assert_eq!(plane.journals().await, before);
}

pub(crate) async fn a_fault_that_the_database_shows_undoes_all(plane: Plane) {
    let digest = plane.master("acme").await.master.key_digest.unwrap().to_string();
    let before = plane.journals().await;
    let document = json!({"version": "2.0.0", "data": {
        "provider_groups": [{"name": "g", "type": "openai"}],
        "masters": [{"name": "renamed", "key_digest": digest}],
    }});
    let found = faults(plane.try_import(&document.to_string(), WITH_BINDINGS).await);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("$.data.masters[0].key_digest: is the key of the master `acme` here"), "{found:?}");
    assert_eq!(plane.journals().await, before);
    assert!(provider_groups::list_all(plane.control.store()).await.unwrap().is_empty());
}

pub(crate) async fn what_is_no_document_is_refused(plane: Plane) {
    for (document, expected) in [
        ("{\"version\":\"1.0.0\",", "$: ends too early at line 1"),
        ("[]", "$: must be an object"),
        ("{\"version\":\"1.0.0\" x}", "$: is not valid JSON at line 1"),
        (r#"{"data":{}}"#, "$.version: is required"),
        (r#"{"version":"3.0.0","data":{}}"#, "$.version: `3.0.0` cannot be read; 1.x and 2.x can"),
        (r#"{"version":"1.0.0"}"#, "$.data: is required"),
        (r#"{"version":"1.0.0","data":[]}"#, "$.data: must be an object"),
        (r#"{"version":"1.0.0","data":{"keys":{}}}"#, "$.data.keys: must be a list"),
    ] {
        let found = faults(plane.try_import(document, WITH_BINDINGS).await);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{document}: {found:?}");
    }
}

pub(crate) async fn importing_twice_changes_nothing(plane: Plane) {
    plane.import(OTHER_SYSTEM, WITH_BINDINGS).await;
    let journals = plane.journals().await;
    plane.clock.advance(std::time::Duration::from_secs(60));
    for options in [WITH_BINDINGS, OVERWRITING] {
        let again = plane.import(OTHER_SYSTEM, options).await;
        assert_eq!(again.counts.provider_groups, skipped(6), "{options:?}");
        assert_eq!(again.counts.api_keys, skipped(7), "{options:?}");
        assert_eq!(again.counts.masters, skipped(2), "{options:?}");
        assert_eq!(again.counts.keys, Counts { failed: 1, ..skipped(3) }, "{options:?}");
        assert_eq!(again.counts.bindings, Counts { failed: 1, ..skipped(4) }, "{options:?}");
        assert!(again.credentials.is_empty());
        assert_eq!(plane.journals().await, journals, "{options:?}");
    }
}

/// The document with one field of one entry changed.
fn changed(list: &str, place: usize, field: &str, value: Value) -> String {
    let mut document: Value = serde_json::from_str(OTHER_SYSTEM).unwrap();
    document["data"][list][place][field] = value;
    document.to_string()
}

pub(crate) async fn what_is_there_stays_unless_it_is_to_be_overwritten(plane: Plane) {
    plane.import(OTHER_SYSTEM, WITH_BINDINGS).await;
    let epoch_and_key = |master: Master| (master.epoch, master.key_digest);
    let before = epoch_and_key(plane.imported_master("user123").await);
    type Count = fn(&ImportSummary) -> Counts;
    let cases: [(&str, usize, &str, Value, Count); 5] = [
        ("providers", 6, "models", json!(["gpt-5"]), |summary| summary.counts.provider_groups),
        ("providers", 0, "status", json!("disabled"), |summary| summary.counts.api_keys),
        ("masters", 0, "global_qps", json!(9), |summary| summary.counts.masters),
        ("keys", 0, "status", json!("disabled"), |summary| summary.counts.keys),
        ("bindings", 1, "status", json!("disabled"), |summary| summary.counts.bindings),
    ];
    for (list, place, field, value, count) in cases {
        let document = changed(list, place, field, value);
        let (outbox, audit) = plane.journals().await;
        assert_eq!(count(&plane.import(&document, WITH_BINDINGS).await).updated, 0, "{list}");
        assert_eq!(plane.journals().await, (outbox, audit), "{list}");
        assert_eq!(count(&plane.import(&document, OVERWRITING).await).updated, 1, "{list}");
        assert_ne!(plane.journals().await, (outbox, audit), "{list}");
        assert_eq!(count(&plane.import(&document, OVERWRITING).await).updated, 0, "{list}");
        plane.import(OTHER_SYSTEM, OVERWRITING).await;
    }
    assert_eq!(epoch_and_key(plane.imported_master("user123").await), before);
}

pub(crate) async fn a_dry_run_tells_the_same_and_changes_nothing(plane: Plane) {
    let before = plane.journals().await;
    let rehearsed = plane.import(OTHER_SYSTEM, ImportOptions { dry_run: true, ..WITH_BINDINGS }).await;
    assert!(rehearsed.dry_run && rehearsed.credentials.is_empty());
    assert_eq!(plane.journals().await, before);
    assert!(masters::list_all(plane.control.store()).await.unwrap().is_empty());
    let done = plane.import(OTHER_SYSTEM, WITH_BINDINGS).await;
    assert_eq!((rehearsed.counts, rehearsed.warnings), (done.counts, done.warnings));
}

pub(crate) async fn a_master_that_stands_here_gets_what_its_new_keys_need(plane: Plane) {
    let master = plane.master("acme").await.master;
    let document = json!({"version": "1.0.0", "data": {"keys": [
        {"master_ref": "acme", "original_token": "sk-0123456789abcdef0123", "namespaces": ["team-a"]},
        {"master_ref": "acme", "original_token": "sk-9876543210abcdef0123"},
    ]}});
    let summary = plane.import(&document.to_string(), WITH_BINDINGS).await;
    assert_eq!(summary.counts.masters.updated, 1);
    assert_warned(&summary, "$.data.keys[0]", "`team-a` is added to those of its master `acme`");
    assert_eq!(plane.imported_master("acme").await.namespaces, ["default", "team-a"]);
    let plain = plane.imported_key("9876543210abcdef0123").await;
    assert_eq!((plain.master_id, plain.namespaces.join(",")), (master.id, "default".to_owned()));
    assert_eq!(plane.import(&document.to_string(), WITH_BINDINGS).await.counts.keys, skipped(2));
}

pub(crate) async fn more_keys_than_a_master_may_have_are_kept_and_told(plane: Plane) {
    let document = json!({"version": "1.0.0", "data": {
        "masters": [{"name": "acme", "max_child_keys": 1}],
        "keys": [
            {"master_ref": "acme", "original_token": "sk-0123456789abcdef0123"},
            {"master_ref": "acme", "original_token": "sk-short"},
        ],
    }});
    let summary = plane.import(&document.to_string(), WITH_BINDINGS).await;
    assert_eq!(summary.counts.keys, created(2));
    assert_warned(&summary, "$.data.keys", "`acme` has 2 child keys, more than the 1 it may have");
    assert_warned(&summary, "$.data.keys[1].original_token", "can be guessed");
    assert_eq!(plane.imported_key("short").await.prefix, "sk-s", "little of it is shown");
}

pub(crate) async fn a_key_may_belong_to_a_suspended_master(plane: Plane) {
    let document = json!({"version": "1.0.0", "data": {
        "masters": [{"name": "acme", "status": "disabled"}],
        "keys": [{"master_ref": "acme", "original_token": "sk-0123456789abcdef0123", "status": "active"}],
    }});
    plane.import(&document.to_string(), WITH_BINDINGS).await;
    assert_eq!(plane.imported_key("0123456789abcdef0123").await.status, KeyStatus::Active);
    assert_eq!(plane.imported_master("acme").await.status, RecordStatus::Suspended);
}

pub(crate) async fn a_key_that_is_over_or_used_up_comes_as_such(plane: Plane) {
    let document = json!({"version": "2.0.0", "data": {"masters": [{"name": "acme", "monthly_budget": 25.5}], "keys": [
        {"master_ref": "acme", "original_token": "sk-0123456789abcdef0123", "expires_at": "2020-01-01T00:00:00Z"},
        {"master_ref": "acme", "original_token": "sk-9876543210abcdef0123", "quota_limit": 5, "quota_used": 5,
         "quota_reset": "daily"},
    ]}});
    plane.import(&document.to_string(), WITH_BINDINGS).await;
    assert_eq!(plane.imported_key("0123456789abcdef0123").await.status, KeyStatus::Expired);
    let used_up = plane.imported_key("9876543210abcdef0123").await;
    assert_eq!(used_up.status, KeyStatus::Exhausted);
    assert!(used_up.quota_reset_at.is_some_and(|at| at > plane.control.now()), "it will start anew: {used_up:?}");
    assert_eq!(plane.imported_master("acme").await.monthly_budget.as_deref(), Some("25.50"));
    assert_eq!(plane.import(&document.to_string(), OVERWRITING).await.counts.keys, skipped(2));
}

pub(crate) async fn an_api_key_comes_once_and_oauth_types_wait(plane: Plane) {
    let document = json!({"version": "1.0.0", "data": {"providers": [
        {"name": "a", "original_name": "multi", "type": "openai", "api_key": "sk-same", "multi_key_index": 0},
        {"name": "b", "original_name": "multi", "type": "openai", "api_key": " sk-same ", "multi_key_index": 1},
        {"name": "c", "original_name": "multi", "type": "anthropic", "api_key": "sk-other", "original_id": 3},
        {"name": "cli", "type": "codex", "api_key": "{}", "models": ["gpt-5"]},
    ]}});
    let summary = plane.import(&document.to_string(), WITH_BINDINGS).await;
    assert_eq!(summary.counts.api_keys, Counts { skipped: 1, ..created(3) });
    assert_warned(&summary, "$.data.providers[1]", "has the same API key");
    assert_warned(&summary, "$.data.providers[2]", "this one becomes `multi-3`");
    assert_warned(&summary, "$.data.providers[3]", "needs OAuth credentials");
    assert_eq!(plane.imported_group("cli").await.status, RecordStatus::Suspended);
    let again = plane.import(&document.to_string(), OVERWRITING).await;
    assert_eq!((again.counts.api_keys, again.counts.provider_groups), (skipped(4), skipped(3)));
}

pub(crate) async fn a_token_of_another_master_stays_where_it_is(plane: Plane) {
    plane.master("acme").await;
    plane.master("other").await;
    let document = |master: &str| {
        json!({"version": "1.0.0", "data": {"keys": [
            {"master_ref": master, "original_token": "sk-0123456789abcdef0123", "status": "active"},
        ]}})
        .to_string()
    };
    plane.import(&document("acme"), WITH_BINDINGS).await;
    let owner = plane.imported_key("0123456789abcdef0123").await.master_id;
    let summary = plane.import(&document("other"), OVERWRITING).await;
    assert_warned(&summary, "$.data.keys[0]", "another child key here has this token");
    assert_eq!(plane.imported_key("0123456789abcdef0123").await.master_id, owner);
}

pub(crate) async fn another_secret_key_is_refused(plane: Plane) {
    let mut parts = plane.parts_of_another(config()).await;
    plane.import(OTHER_SYSTEM, WITH_BINDINGS).await;
    parts.secret_key = std::sync::Arc::new(SecretKey::from_bytes(&[8; 32]).unwrap());
    parts.config.jwt_secret = Some("a secret for sessions of its own".into());
    let (other, _) = Control::prepare(parts).await.unwrap();
    let journals = plane.journals().await;
    let refused = import(&other, Actor::system(), OTHER_SYSTEM.as_bytes(), OVERWRITING).await.unwrap_err();
    assert!(matches!(refused, ControlError::Internal(_)), "{refused:?}");
    assert_eq!(plane.journals().await, journals);
}

pub(crate) async fn ten_thousand_keys_come_in_one_go(plane: Plane) {
    const KEYS: usize = 10_000;
    let keys: Vec<Value> = (0..KEYS)
        .map(|number| json!({"master_ref": "acme", "original_token": format!("sk-{number:032}"), "status": "active"}))
        .collect();
    let document = json!({"version": "1.0.0", "data": {"masters": [{"name": "acme"}], "keys": keys}}).to_string();
    let summary = plane.import(&document, WITH_BINDINGS).await;
    assert_eq!(summary.counts.keys, created(KEYS as u64));
    assert!(plane.outbox_depth().await < 30, "few entries name them all: {}", plane.outbox_depth().await);
    plane.publish().await;
    let image = plane.control.state().read_snapshot().await.unwrap();
    let tokens = image.entries.iter().filter(|entry| matches!(entry, SnapshotEntry::Token(..))).count();
    assert_eq!((tokens, plane.outbox_depth().await), (KEYS, 0));
    assert_eq!(plane.import(&document, OVERWRITING).await.counts.keys, skipped(KEYS as u64));
}

pub(crate) async fn an_overwrite_leaves_alone_what_the_document_does_not_have(plane: Plane) {
    let of = |master: Value, key: Value, group: Value| {
        let mut document = json!({"version": "1.0.0", "data": {
            "masters": [{"name": "acme"}],
            "keys": [{"master_ref": "acme", "original_token": "sk-0123456789abcdef0123"}],
            "providers": [{"name": "up", "type": "azure", "base_url": "https://r.example.com", "api_key": "sk-up"}],
        }});
        for (list, fields) in [("masters", master), ("keys", key), ("providers", group)] {
            document["data"][list][0].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        }
        document.to_string()
    };
    let limits = json!({"global_qps": 9, "rpm": 8, "tpm": 7, "rpd": 6, "tpd": 5, "max_concurrency": 4,
        "status": "disabled"});
    let more = |further: Value| {
        let mut fields = limits.clone();
        fields.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        fields
    };
    let master = more(json!({"group": "vip", "max_child_keys": 3, "monthly_budget": "12.50"}));
    let key = more(json!({"name": "k", "scopes": ["chat:*"], "allow_ips": ["10.0.0.0/8"], "deny_ips": ["10.0.0.1"],
        "model_limits_enabled": true, "model_limits": ["m"], "quota_limit": 5, "quota_reset": "daily",
        "expires_at": "2126-12-31T00:00:00Z", "group": "vip",
        "previous_digest": TokenDigest::of("before").to_string(), "previous_expires_at": "2126-12-31T00:00:00Z"}));
    let group = json!({"api_version": "2024-10-21", "google_project": "p", "google_location": "l"});
    plane.import(&of(master.clone(), key.clone(), group.clone()), WITH_BINDINGS).await;
    let standing = || async {
        let key = plane.imported_key("0123456789abcdef0123").await;
        (plane.imported_master("acme").await, key, plane.imported_group("up").await)
    };
    let before = standing().await;
    assert_eq!(before.0.monthly_budget.as_deref(), Some("12.50"));
    let nothing = || json!({});
    let silent = plane.import(&of(nothing(), json!({"group": "vip"}), nothing()), OVERWRITING).await;
    assert_eq!((silent.counts.masters, silent.counts.keys), (skipped(1), skipped(1)));
    assert_eq!(standing().await, before, "what is not there says nothing");

    let null = |fields: &Value| -> Value {
        fields.as_object().unwrap().keys().map(|field| (field.clone(), Value::Null)).collect()
    };
    plane.import(&of(null(&master), null(&key), null(&group)), OVERWRITING).await;
    let (master, key, group) = standing().await;
    assert_eq!((master.monthly_budget, master.rpm, master.max_child_keys, master.global_qps), (None, None, 0, 0));
    assert_eq!((master.tpm, master.rpd, master.tpd, master.max_concurrency), (None, None, None, None));
    assert_eq!((master.group.as_str(), master.status), ("default", RecordStatus::Active));
    assert_eq!((key.name.as_str(), key.status, key.expires_at, key.quota_limit), ("", KeyStatus::Active, None, None));
    assert_eq!((key.rpm, key.tpm, key.rpd, key.tpd, key.max_concurrency), (None, None, None, None, None));
    assert_eq!(
        (key.global_qps, key.model_limits_enabled, key.previous_digest, key.quota_reset_at),
        (0, false, None, None)
    );
    assert!(
        key.scopes.is_empty() && key.allow_ips.is_empty() && key.deny_ips.is_empty() && key.model_limits.is_empty()
    );
    assert_eq!((group.api_version, group.google_project.as_str(), group.google_location.as_str()), (None, "", ""));
}

pub(crate) async fn counts_at_the_end_of_what_can_be_kept_come_twice(plane: Plane) {
    let document = json!({"version": "1.0.0", "data": {"masters": [{"name": "acme", "tpd": i64::MAX}], "keys": [
        {"master_ref": "acme", "original_token": "sk-0123456789abcdef0123", "quota_limit": i64::MAX,
         "quota_used": i64::MAX, "quota_reset_at": "2020-01-01T00:00:00Z"},
    ]}});
    plane.import(&document.to_string(), WITH_BINDINGS).await;
    let key = plane.imported_key("0123456789abcdef0123").await;
    assert_eq!((key.quota_limit, key.quota_reset_at), (Some(i64::MAX as u64), None), "no quota starts anew by itself");
    assert_eq!(plane.import(&document.to_string(), OVERWRITING).await.counts.keys, skipped(1));
}
