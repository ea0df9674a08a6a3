//! Records of configuration: every field comes back, changes stand, what is deleted is gone.

use ez_contract::TokenDigest;
use ez_contract::capability::CapabilityOverrides;
use ez_contract::models::ModelKind;
use ez_contract::provider::{Protocol, ProviderType};
use ez_contract::selector::SelectorType;
use ez_contract::snapshot::ClientGone;
use ez_contract::status::{ApiKeyStatus, KeyStatus, RecordStatus};
use ez_store::api_keys::{NewApiKey, RequestCounts};
use ez_store::child_keys::{ChildKey, KeyUsage};
use ez_store::models::{ModelFilter, NewModel};
use ez_store::provider_groups::NewProviderGroup;
use ez_store::{Backend, IssuedBy, QuotaReset, Sort, StoreError};
use ez_store::{api_keys, bindings, child_keys, masters, models, namespaces, provider_groups};
use rust_decimal::Decimal;
use serde_json::json;

use crate::fixture::{
    FIRST_PAGE, Fixture, at, new_api_key, new_binding, new_child_key, new_master, new_namespace, new_provider_group,
    texts,
};

pub(crate) async fn masters_live_and_die(db: Fixture) {
    let mut master = db.master("acme").await;
    let new = new_master("acme");
    assert_eq!((master.created_at, master.updated_at), (at(0), at(0)));
    assert_eq!((&master.name, &master.namespaces, master.status), (&new.name, &new.namespaces, new.status));
    assert_eq!((master.rpm, master.rpd, master.tpd), (Some(600), None, new.tpd));
    assert_eq!(master.monthly_budget.as_deref(), Some("250.00"));
    assert_eq!(masters::get(&db.store, master.id).await.unwrap().as_ref(), Some(&master));

    master.name = "acme corp".to_owned();
    master.key_digest = None;
    master.namespaces = Vec::new();
    master.epoch = 2;
    master.status = RecordStatus::Suspended;
    master.rpm = None;
    master.updated_at = at(9);
    assert!(db.commit(async |tx| masters::update(tx, &master).await).await);
    assert_eq!(masters::get(&db.store, master.id).await.unwrap().as_ref(), Some(&master));
    assert_eq!(masters::get_by_name(&db.store, "acme corp").await.unwrap().as_ref(), Some(&master));
    assert_eq!(masters::get_by_name(&db.store, "acme").await.unwrap(), None);
    assert_eq!(masters::get_by_digest(&db.store, &TokenDigest::of("acme")).await.unwrap(), None);
    let hash = master.key_hash.clone().unwrap();
    assert_eq!(masters::list_without_digest(&db.store, 0, 100).await.unwrap(), [(master.id, hash)]);
    assert_eq!(masters::list_without_digest(&db.store, master.id, 100).await.unwrap(), []);
    let other = db.master("other").await;
    assert_eq!(masters::get_by_digest(&db.store, &TokenDigest::of("other")).await.unwrap(), Some(other));
    assert_eq!(masters::count(&db.store, Some(RecordStatus::Active)).await.unwrap(), 1);
    assert_eq!(masters::count(&db.store, None).await.unwrap(), 2);
    let names = masters::list_names(&db.store, &[999_999, master.id]).await.unwrap();
    assert_eq!(names, [(master.id, master.name.clone())]);
    assert_eq!(masters::list_names(&db.store, &[]).await.unwrap(), []);

    assert!(db.commit(async |tx| masters::delete(tx, master.id).await).await);
    assert!(!db.commit(async |tx| masters::delete(tx, master.id).await).await);
    assert!(!db.commit(async |tx| masters::update(tx, &master).await).await);
    assert_eq!(masters::get(&db.store, master.id).await.unwrap(), None);
}

pub(crate) async fn child_keys_live_and_die(db: Fixture) {
    let master = db.master("acme").await;
    let mut key = db.child_key(master.id, "sk-1").await;
    let new = new_child_key(master.id, "sk-1");
    assert_eq!((&key.scopes, &key.model_limits, &key.allow_ips), (&new.scopes, &new.model_limits, &new.allow_ips));
    assert_eq!((key.issued_by, key.quota_reset, key.expires_at), (IssuedBy::Master, QuotaReset::Daily, Some(at(3600))));
    assert_eq!((key.model_limits_enabled, key.quota_used), (true, 7));

    key.token_digest = TokenDigest::of("sk-2");
    key.previous_digest = Some(TokenDigest::of("sk-1"));
    key.previous_expires_at = Some(at(5));
    key.scopes = texts(&["*"]);
    key.deny_ips = texts(&["::1"]);
    key.model_limits_enabled = false;
    key.status = KeyStatus::Exhausted;
    key.issued_by = IssuedBy::Admin;
    key.expires_at = None;
    key.updated_at = at(1);
    assert!(db.commit(async |tx| child_keys::update(tx, &key).await).await);
    assert_eq!(child_keys::get(&db.store, key.id).await.unwrap().as_ref(), Some(&key));
    for token in ["sk-1", "sk-2"] {
        let found = child_keys::get_by_digest(&db.store, &TokenDigest::of(token)).await.unwrap();
        assert_eq!(found.as_ref(), Some(&key), "{token}");
    }
    assert_eq!(child_keys::get_of_master(&db.store, master.id, key.id).await.unwrap().as_ref(), Some(&key));
    assert_eq!(child_keys::get_of_master(&db.store, master.id + 1, key.id).await.unwrap(), None);
    assert_eq!(child_keys::list_by_master(&db.store, master.id, 10).await.unwrap(), [key.clone()]);
    assert_eq!(child_keys::count_by_master(&db.store, master.id).await.unwrap(), 1);
    assert_eq!(child_keys::count(&db.store, Some(KeyStatus::Active)).await.unwrap(), 0);

    assert!(db.commit(async |tx| child_keys::delete(tx, key.id).await).await);
    assert_eq!(child_keys::count_by_master(&db.store, master.id).await.unwrap(), 0);
}

pub(crate) async fn child_keys_count_their_use(db: Fixture) {
    let master = db.master("acme").await;
    let mut key = db.child_key(master.id, "sk-1").await;
    let usage = |second| KeyUsage { requests: 2, tokens: 30, quota_tokens: 20, last_used_at: at(second) };
    assert!(db.commit(async |tx| child_keys::add_usage(tx, key.id, &usage(20)).await).await);
    assert!(db.commit(async |tx| child_keys::add_usage(tx, key.id, &usage(10)).await).await);
    assert!(!db.commit(async |tx| child_keys::add_usage(tx, key.id + 1, &usage(10)).await).await);

    // An edit of the record as it was read before does not undo the counting.
    key.name = "renamed".to_owned();
    assert!(db.commit(async |tx| child_keys::update(tx, &key).await).await);
    let counted = child_keys::get(&db.store, key.id).await.unwrap().unwrap();
    assert_eq!((counted.quota_used, counted.used_tokens, counted.request_count), (47, 60, 4));
    assert_eq!((counted.last_used_at, counted.updated_at), (Some(at(20)), at(0)));

    assert!(db.commit(async |tx| child_keys::restart_quota(tx, key.id, 5).await).await);
    let reset = child_keys::get(&db.store, key.id).await.unwrap().unwrap();
    assert_eq!((reset.quota_used, reset.used_tokens), (5, 60));
}

pub(crate) async fn child_keys_come_due(db: Fixture) {
    let master = db.master("acme").await;
    let key = db.child_key(master.id, "sk-1").await;
    let mut endless = new_child_key(master.id, "sk-2");
    (endless.expires_at, endless.quota_reset_at) = (None, None);
    db.commit(async |tx| child_keys::create(tx, &endless).await).await;
    let mut dead = new_child_key(master.id, "sk-3");
    (dead.status, dead.quota_reset_at) = (KeyStatus::Expired, None);
    db.commit(async |tx| child_keys::create(tx, &dead).await).await;

    let none: [i64; 0] = [];
    assert_eq!(child_keys::list_expired(&db.store, at(3599), 0, 10).await.unwrap(), none);
    assert_eq!(child_keys::list_expired(&db.store, at(3600), 0, 10).await.unwrap(), [key.id]);
    assert_eq!(child_keys::list_expired(&db.store, at(3600), key.id, 10).await.unwrap(), none);
    assert_eq!(child_keys::list_quota_due(&db.store, at(59), 0, 10).await.unwrap(), none);
    assert_eq!(child_keys::list_quota_due(&db.store, at(60), 0, 10).await.unwrap(), [key.id]);

    let mut rotated = new_child_key(master.id, "sk-4");
    (rotated.previous_digest, rotated.previous_expires_at) = (Some(TokenDigest::of("sk-0")), Some(at(7)));
    let rotated = db.commit(async |tx| child_keys::create(tx, &rotated).await).await;
    assert_eq!(child_keys::list_overlap_ended(&db.store, at(6), 0, 10).await.unwrap(), none);
    assert_eq!(child_keys::list_overlap_ended(&db.store, at(7), 0, 10).await.unwrap(), [rotated.id]);
}

pub(crate) async fn a_key_that_is_held_is_passed_over(db: Fixture) {
    let master = db.master("acme").await;
    let key = db.child_key(master.id, "sk-1").await;
    let tx = db.store.begin().await.unwrap();
    assert_eq!(child_keys::get_for_update_if_free(&tx, key.id).await.unwrap().as_ref(), Some(&key));
    assert_eq!(child_keys::get_for_update_if_free(&tx, key.id + 1).await.unwrap(), None);
    if db.store.backend() == Backend::Postgres {
        let other = db.store.begin().await.unwrap();
        assert_eq!(child_keys::get_for_update_if_free(&other, key.id).await.unwrap(), None);
    }
}

pub(crate) async fn access_of_many_keys_is_set_at_once(db: Fixture) {
    let master = db.master("acme").await;
    let mut keys = Vec::new();
    for number in 0..5 {
        keys.push(db.child_key(master.id, &format!("sk-{number}")).await);
    }
    let tx = db.store.begin().await.unwrap();
    let first = child_keys::list_of_master_for_update(&tx, master.id, 0, 3).await.unwrap();
    let rest = child_keys::list_of_master_for_update(&tx, master.id, first[2].id, 3).await.unwrap();
    assert_eq!([first.clone(), rest].concat(), keys);
    let ids: Vec<i64> = first.iter().map(|key| key.id).collect();
    assert_eq!(child_keys::set_access(&tx, &ids, "other", &texts(&["other"]), at(9)).await.unwrap(), 3);
    tx.commit().await.unwrap();
    let changed = child_keys::get(&db.store, keys[0].id).await.unwrap().unwrap();
    let expected = ChildKey {
        default_namespace: "other".to_owned(),
        namespaces: texts(&["other"]),
        updated_at: at(9),
        ..keys[0].clone()
    };
    assert_eq!(changed, expected);
    assert_eq!(child_keys::get(&db.store, keys[3].id).await.unwrap().as_ref(), Some(&keys[3]));
}

pub(crate) async fn namespaces_live_and_die(db: Fixture) {
    let default = namespaces::get_by_name(&db.store, namespaces::DEFAULT_NAMESPACE).await.unwrap().unwrap();
    assert_eq!(default.status, RecordStatus::Active);
    assert!(default.created_at > at(0), "made by a clock: {}", default.created_at);

    let mut namespace = db.commit(async |tx| namespaces::create(tx, &new_namespace("team")).await).await;
    namespace.description = String::new();
    namespace.status = RecordStatus::Suspended;
    assert!(db.commit(async |tx| namespaces::update(tx, &namespace).await).await);
    assert_eq!(namespaces::get(&db.store, namespace.id).await.unwrap().as_ref(), Some(&namespace));
    let known = namespaces::list_by_names(&db.store, &texts(&["team", "default", "nowhere"])).await.unwrap();
    assert_eq!(known, [default, namespace.clone()]);
    assert_eq!(namespaces::list_by_names(&db.store, &[]).await.unwrap(), []);
    assert!(db.commit(async |tx| namespaces::delete(tx, namespace.id).await).await);
    assert_eq!(namespaces::get_by_name(&db.store, "team").await.unwrap(), None);
}

pub(crate) async fn provider_groups_live_and_die(db: Fixture) {
    let mut group = db.provider_group("pg1").await;
    let new = new_provider_group("pg1");
    assert_eq!(
        (&group.protocols, &group.models, group.provider_type),
        (&new.protocols, &new.models, new.provider_type)
    );
    group.provider_type = ProviderType::Azure;
    group.protocols = vec![Protocol::OpenaiResponses];
    group.api_version = None;
    group.models = texts(&["a", "b"]);
    assert!(db.commit(async |tx| provider_groups::update(tx, &group).await).await);
    assert_eq!(provider_groups::get_by_name(&db.store, "pg1").await.unwrap().as_ref(), Some(&group));

    let counts = RequestCounts { successes: 5, failures: 2, last_used_at: at(3) };
    assert_eq!(db.commit(async |tx| provider_groups::add_requests(tx, &[(group.id, counts)]).await).await, 1);
    let counted = provider_groups::get(&db.store, group.id).await.unwrap().unwrap();
    assert_eq!((counted.total_requests, counted.success_requests, counted.failure_requests), (7, 5, 2));
    assert_eq!(counted.last_used_at, Some(at(3)));
    assert!(db.commit(async |tx| provider_groups::delete(tx, group.id).await).await);
    assert_eq!(provider_groups::list_all(&db.store).await.unwrap(), []);
}

pub(crate) async fn api_keys_live_and_die(db: Fixture) {
    let group = db.provider_group("pg1").await;
    let new = new_api_key(group.id, "first");
    let mut key = db.commit(async |tx| api_keys::create(tx, &new).await).await;
    assert_eq!((key.uuid, &key.api_key, key.weight, key.auto_ban), (new.uuid, &new.api_key, 3, true));
    key.api_key = None;
    key.refresh_token = Some("enc:v1:CCCC".to_owned());
    key.status = ApiKeyStatus::AutoDisabled;
    key.auto_ban = false;
    key.ban_reason = Some("401 from upstream".to_owned());
    key.ban_until = Some(at(30));
    assert!(db.commit(async |tx| api_keys::update(tx, &key).await).await);
    assert_eq!(api_keys::get(&db.store, key.id).await.unwrap().as_ref(), Some(&key));
    assert_eq!(api_keys::list_by_group(&db.store, group.id).await.unwrap(), [key.clone()]);
    assert_eq!(api_keys::list_by_group(&db.store, group.id + 1).await.unwrap(), []);

    let counts = |second| RequestCounts { successes: 1, failures: 1, last_used_at: at(second) };
    assert_eq!(db.commit(async |tx| api_keys::add_requests(tx, &[(key.id, counts(8))]).await).await, 1);
    assert_eq!(db.commit(async |tx| api_keys::add_requests(tx, &[(key.id, counts(4))]).await).await, 1);
    assert!(db.commit(async |tx| api_keys::update(tx, &key).await).await);
    let counted = api_keys::get(&db.store, key.id).await.unwrap().unwrap();
    assert_eq!((counted.total_requests, counted.success_requests, counted.failure_requests), (4, 2, 2));
    assert_eq!(counted.last_used_at, Some(at(8)));
    assert!(db.commit(async |tx| api_keys::delete(tx, key.id).await).await);
    assert_eq!(api_keys::count(&db.store, None).await.unwrap(), 0);
}

pub(crate) async fn api_keys_come_due(db: Fixture) {
    let group = db.provider_group("pg1").await;
    db.api_key(group.id, "a plain secret").await;
    let mut oauth = new_api_key(group.id, "oauth");
    oauth.refresh_token = Some("enc:v1:CCCC".to_owned());
    let oauth = db.commit(async |tx| api_keys::create(tx, &oauth).await).await;

    assert_eq!(api_keys::list_refresh_due(&db.store, at(59), 10).await.unwrap(), []);
    assert_eq!(api_keys::list_refresh_due(&db.store, at(60), 10).await.unwrap(), std::slice::from_ref(&oauth));

    let mut banned = Vec::new();
    for (status, until) in [
        (ApiKeyStatus::AutoDisabled, Some(at(30))),
        (ApiKeyStatus::AutoDisabled, Some(at(30))),
        (ApiKeyStatus::AutoDisabled, None),
        (ApiKeyStatus::ManualDisabled, Some(at(30))),
    ] {
        let new = NewApiKey { status, ban_until: until, ..new_api_key(group.id, "banned") };
        banned.push(db.commit(async |tx| api_keys::create(tx, &new).await).await);
    }
    assert_eq!(db.commit(async |tx| api_keys::list_ban_ended(tx, at(29), 10).await).await, []);
    assert_eq!(db.commit(async |tx| api_keys::list_ban_ended(tx, at(30), 10).await).await, banned[..2]);
    assert_eq!(db.commit(async |tx| api_keys::list_ban_ended(tx, at(30), 1).await).await, banned[..1]);
    let ids = [banned[3].id, banned[0].id, 999_999];
    let locked = db.commit(async |tx| api_keys::list_for_update(tx, &ids).await).await;
    assert_eq!(locked, [banned[0].clone(), banned[3].clone()]);
    assert_eq!(api_keys::list_by_ids(&db.store, &ids).await.unwrap(), locked);
    assert_eq!(api_keys::list_by_ids(&db.store, &[]).await.unwrap(), []);
}

pub(crate) async fn bindings_live_and_die(db: Fixture) {
    let group = db.provider_group("pg1").await;
    let new = new_binding("default", "gpt-4.1", group.id);
    let mut binding = db.commit(async |tx| bindings::create(tx, &new).await).await;
    assert_eq!((binding.priority, binding.selector_type), (-5, SelectorType::NormalizeExact));
    binding.selector_type = SelectorType::Regex;
    binding.selector_value = "^gpt".to_owned();
    binding.priority = i32::MAX;
    binding.on_client_gone = Some(ClientGone::Drain);
    assert!(db.commit(async |tx| bindings::update(tx, &binding).await).await);
    assert_eq!(bindings::get(&db.store, binding.id).await.unwrap().as_ref(), Some(&binding));
    assert_eq!(bindings::list_by_model(&db.store, "default", "gpt-4.1").await.unwrap(), [binding.clone()]);
    assert_eq!(bindings::list_by_model(&db.store, "default", "gpt-4").await.unwrap(), []);
    assert_eq!(bindings::list_by_namespace(&db.store, "default").await.unwrap(), [binding.clone()]);
    assert_eq!(bindings::list_by_public_model(&db.store, "gpt-4.1").await.unwrap(), [binding.clone()]);
    assert_eq!(bindings::list_by_group(&db.store, group.id).await.unwrap(), [binding.clone()]);
    assert!(db.commit(async |tx| bindings::delete(tx, binding.id).await).await);
    assert_eq!(bindings::list_by_group(&db.store, group.id).await.unwrap(), []);
}

pub(crate) async fn counts_hold_at_the_edges(db: Fixture) {
    let mut new = new_master("edge");
    new.tpd = Some(u64::MAX);
    new.max_concurrency = Some(u32::MAX);
    let master = db.commit(async |tx| masters::create(tx, &new).await).await;
    assert_eq!(master.tpd, Some(i64::MAX as u64), "kept as the highest that the database holds");
    assert_eq!(master.max_concurrency, Some(u32::MAX));
}

pub(crate) async fn a_damaged_value_names_its_place(db: Fixture) {
    let id = db.master("acme").await.id;
    for (damage, expected) in [
        ("UPDATE masters SET status = 'gone'", "status"),
        ("UPDATE masters SET status = 'active', namespaces = '{\"a\": 1}'", "namespaces"),
        ("UPDATE masters SET namespaces = '[]', key_digest = 'abc'", "key_digest"),
        ("UPDATE masters SET key_digest = NULL, global_qps = -1", "global_qps"),
    ] {
        db.sql(damage).await;
        match masters::get(&db.store, id).await {
            Err(StoreError::Corrupt { table: "masters", column, id: row, .. }) => {
                assert_eq!((column.as_str(), row), (expected, id.to_string()));
            }
            other => panic!("{damage}: {other:?}"),
        }
    }
}

pub(crate) async fn damaged_rows_hide_no_others(db: Fixture) {
    let (acme, beta) = (db.master("acme").await, db.master("beta").await);
    let group = db.provider_group("openai").await;
    for damage in [
        "UPDATE masters SET status = 'gone' WHERE name = 'acme'",
        "UPDATE masters SET status = 'active', namespaces = '{\"a\": 1}' WHERE name = 'acme'",
    ] {
        db.sql(damage).await;
        hidden(&db, acme.id, &beta).await;
    }
    if db.store.backend() == Backend::Sqlite {
        // The driver itself refuses the row, and so the whole list.
        db.sql("UPDATE masters SET namespaces = 'no JSON' WHERE name = 'acme'").await;
        hidden(&db, acme.id, &beta).await;
    }
    let readable = provider_groups::list_readable(&db.store).await.unwrap();
    assert_eq!((readable.records, readable.faults.len()), (vec![group], 0));
}

async fn hidden(db: &Fixture, damaged: i64, whole: &masters::Master) {
    let readable = masters::list_readable(&db.store).await.unwrap();
    assert_eq!(readable.records, std::slice::from_ref(whole));
    match readable.faults.as_slice() {
        [StoreError::Corrupt { table: "masters", id, .. }] => assert_eq!(*id, damaged.to_string()),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn models_of_a_group_come_with_all_their_candidates(db: Fixture) {
    let (first, second) = (db.provider_group("first").await.id, db.provider_group("second").await.id);
    for (model, group) in [("both", first), ("both", second), ("first", first), ("second", second)] {
        db.commit(async |tx| bindings::create(tx, &new_binding("default", model, group)).await).await;
    }
    let found = bindings::list_of_models_of_group(&db.store, first).await.unwrap();
    let found: Vec<_> = found.iter().map(|binding| (binding.public_model.as_str(), binding.group_id)).collect();
    assert_eq!(found, [("both", first), ("both", second), ("first", first)]);
}

pub(crate) async fn keys_of_a_master_go_together(db: Fixture) {
    let (acme, beta) = (db.master("acme").await.id, db.master("beta").await.id);
    for (master, token) in [(acme, "a"), (acme, "b"), (beta, "c")] {
        db.child_key(master, token).await;
    }
    assert_eq!(db.commit(async |tx| child_keys::delete_by_master(tx, acme).await).await, 2);
    assert_eq!(child_keys::count(&db.store, None).await.unwrap(), 1);
}

pub(crate) async fn what_belongs_to_a_group_or_namespace_goes_together(db: Fixture) {
    let (first, second) = (db.provider_group("first").await.id, db.provider_group("second").await.id);
    db.commit(async |tx| namespaces::create(tx, &new_namespace("team")).await).await;
    for (namespace, group) in [("default", first), ("team", first), ("team", second), ("default", second)] {
        db.api_key(group, "a key").await;
        db.commit(async |tx| bindings::create(tx, &new_binding(namespace, "m", group)).await).await;
    }
    assert_eq!(db.commit(async |tx| bindings::delete_by_namespace(tx, "team").await).await, 2);
    assert_eq!(db.commit(async |tx| bindings::delete_by_group(tx, first).await).await, 1);
    assert_eq!(db.commit(async |tx| api_keys::delete_by_group(tx, first).await).await, 2);
    let left = bindings::list_all(&db.store).await.unwrap();
    let left: Vec<_> = left.iter().map(|binding| (binding.namespace.as_str(), binding.group_id)).collect();
    assert_eq!(left, [("default", second)]);
    assert_eq!(api_keys::list_by_group(&db.store, second).await.unwrap().len(), 2);
}

pub(crate) async fn models_live_and_die(db: Fixture) {
    let price = |text: &str| Some(text.parse::<Decimal>().unwrap());
    let new = NewModel {
        name: "gpt-4o".to_owned(),
        kind: ModelKind::Chat,
        context_window: 128_000,
        max_output_tokens: 16_384,
        input_price: price("2.5"),
        output_price: price("10"),
        cache_read_price: price("0.000000000001"),
        cache_write_price: None,
        supports_vision: true,
        supports_functions: false,
        supports_tool_choice: true,
        supports_fim: false,
        supports_stream: true,
        capabilities: CapabilityOverrides::default(),
        created_at: at(0),
    };
    let mut model = db.commit(async |tx| models::create(tx, &new).await).await;
    let prices = [model.input_price, model.output_price, model.cache_read_price, model.cache_write_price];
    assert_eq!(prices, [new.input_price, new.output_price, new.cache_read_price, None]);
    let supports = [
        model.supports_vision,
        model.supports_functions,
        model.supports_tool_choice,
        model.supports_fim,
        model.supports_stream,
    ];
    assert_eq!(supports, [true, false, true, false, true]);
    assert_eq!((model.context_window, model.max_output_tokens, model.kind), (128_000, 16_384, ModelKind::Chat));
    assert_eq!(models::get_by_name(&db.store, "gpt-4o").await.unwrap().as_ref(), Some(&model));
    assert_eq!(models::get_by_name(&db.store, "GPT-4o").await.unwrap(), None);
    let twice = db.refusal(async |tx| models::create(tx, &new).await).await;
    assert!(matches!(&twice, StoreError::Conflict(conflict) if conflict.fields == ["name"]), "{twice}");

    model.name = "embed_3".to_owned();
    model.kind = ModelKind::Embedding;
    model.input_price = None;
    model.cache_write_price = price("0");
    model.supports_fim = true;
    assert!(model.capabilities.is_empty());
    let said = json!({"rejects": ["seed"], "reasoning": {"style": "budget", "min_budget": 0, "max_budget": 8}});
    model.capabilities = serde_json::from_value(said).unwrap();
    model.updated_at = at(1);
    assert!(db.commit(async |tx| models::update(tx, &model).await).await);
    assert_eq!(models::get(&db.store, model.id).await.unwrap().as_ref(), Some(&model));
    db.sql(r#"UPDATE models SET capabilities = '{"prefill":1}'"#).await;
    let damaged = models::get(&db.store, model.id).await.unwrap_err();
    assert!(damaged.to_string().contains("/prefill: must be true or false"), "{damaged}");
    db.sql("UPDATE models SET capabilities = NULL").await;
    assert!(models::get(&db.store, model.id).await.unwrap().unwrap().capabilities.is_empty());
    for (search, kind, expected) in [
        (Some("EMBED_"), None, 1),
        (Some("embedx"), None, 0),
        (None, Some(ModelKind::Embedding), 1),
        (None, Some(ModelKind::Chat), 0),
    ] {
        let filter = ModelFilter { search: search.map(str::to_owned), kind };
        let found = models::list(&db.store, &filter, Sort::default(), FIRST_PAGE).await.unwrap();
        assert_eq!(found.total, expected, "{filter:?}");
    }
    assert!(db.commit(async |tx| models::delete(tx, model.id).await).await);
    assert_eq!(models::list_all(&db.store).await.unwrap(), []);
}

pub(crate) async fn groups_are_found_by_an_upstream_model(db: Fixture) {
    for (name, models) in [("one", &["gpt-4.1", "a\"b"][..]), ("two", &["gpt-4x1", "gpt-4.1-mini"]), ("three", &[])] {
        let new = NewProviderGroup { models: texts(models), ..new_provider_group(name) };
        db.commit(async |tx| provider_groups::create(tx, &new).await).await;
    }
    for (model, expected) in [("gpt-4.1", &["one"][..]), ("gpt-4.1-mini", &["two"]), ("a\"b", &["one"]), ("gpt-4", &[])]
    {
        let found = provider_groups::list_by_model(&db.store, model).await.unwrap();
        assert_eq!(found.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(), expected, "{model}");
    }
}

pub(crate) async fn records_are_found_by_what_others_know_them_by(db: Fixture) {
    let acme = db.master("acme").await.id;
    let (a, b) = (db.child_key(acme, "a").await, db.child_key(acme, "b").await);
    let rotated = ChildKey { previous_digest: Some(TokenDigest::of("old")), ..b.clone() };
    db.commit(async |tx| child_keys::update(tx, &rotated).await).await;
    let digests = ["a", "old", "unknown"].map(TokenDigest::of);
    let found = child_keys::list_by_digests(&db.store, &digests).await.unwrap();
    assert_eq!(found.iter().map(|key| key.id).collect::<Vec<_>>(), [a.id, b.id]);
    assert!(child_keys::list_by_digests(&db.store, &[]).await.unwrap().is_empty());

    let group = db.provider_group("main").await.id;
    let api_key = db.api_key(group, "one").await;
    assert_eq!(api_keys::get_by_uuid(&db.store, api_key.uuid).await.unwrap(), Some(api_key));
    assert_eq!(api_keys::get_by_uuid(&db.store, uuid::Uuid::nil()).await.unwrap(), None);
}
