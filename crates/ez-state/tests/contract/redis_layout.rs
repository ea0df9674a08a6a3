//! Redis only: every key, field and value is where other programs look for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::TokenDigest;
use ez_contract::health::{HealthKind, HealthState};
use ez_contract::models::ModelsMeta;
use ez_contract::snapshot::{ConfigEvent, GatewayHeartbeat, SnapshotChange, SnapshotEntry};
use ez_state::{Publication, Scope, SharedState};
use ez_testkit::redis_server::SharedRedis;
use futures_util::StreamExt;
use redis::AsyncCommands;

use crate::backend::Backend;
use crate::sample;

type Fields = BTreeMap<String, String>;

#[tokio::test]
async fn entries_are_the_golden_files() {
    let backend = Backend::redis().await;
    sample::publish(&backend.state, sample::goldens()).await;
    let mut raw = backend.raw().await;
    let expected = |fields: &[(&str, &str)]| -> Fields {
        fields.iter().map(|(field, golden)| ((*field).to_owned(), golden.trim_end().to_owned())).collect()
    };

    let providers: Fields = raw.hgetall(backend.key("config:providers")).await.unwrap();
    assert_eq!(providers, expected(&[("42", sample::PROVIDER), ("43", sample::PROVIDER_FULL)]));
    let bindings: Fields = raw.hgetall(backend.key("config:bindings")).await.unwrap();
    assert_eq!(bindings, expected(&[("ns.m", sample::BINDING)]));
    let models: Fields = raw.hgetall(backend.key("meta:models")).await.unwrap();
    assert_eq!(models, expected(&[("ns.m", sample::MODEL)]));
    let features: Fields = raw.hgetall(backend.key("meta:features")).await.unwrap();
    assert_eq!(features, expected(&[("log_request_body_enabled", "true")]));

    let token_key = |clear| backend.key(&format!("auth:token:{}", TokenDigest::of(clear)));
    let token: String = raw.get(token_key("abc")).await.unwrap();
    assert_eq!(token, sample::TOKEN.trim_end());
    let bare: String = raw.get(token_key("bare")).await.unwrap();
    assert_eq!(bare, sample::TOKEN_BARE.trim_end());
    let master: String = raw.get(backend.key("auth:master:2")).await.unwrap();
    assert_eq!(master, sample::MASTER.trim_end());
}

#[tokio::test]
async fn the_account_of_models_is_the_golden_file() {
    let backend = Backend::redis().await;
    let golden: ModelsMeta = serde_json::from_str(sample::MODELS_META).unwrap();
    let publish = async |changes| {
        let publication = Publication { changes, scope: Scope::Changes, base: None };
        backend.state.publish_with_models("cp-1", golden.updated_at, publication, golden.origin()).await.unwrap()
    };
    publish(vec![SnapshotChange::Put(SnapshotEntry::Model(serde_json::from_str(sample::MODEL).unwrap()))]).await;
    let expected: Fields = serde_json::from_str(sample::MODELS_META).unwrap();
    let mut raw = backend.raw().await;
    let fields: Fields = raw.hgetall(backend.key("meta:models_meta")).await.unwrap();
    assert_eq!(fields, expected);

    // What a hand did to it does not outlast the next change of a model, nor what it did to the models.
    let _: () = raw.hset(backend.key("meta:models_meta"), "checksum", "0").await.unwrap();
    let _: () = raw.hset(backend.key("meta:models"), "ns.m", "{}").await.unwrap();
    publish(vec![SnapshotChange::Put(SnapshotEntry::Model(serde_json::from_str(sample::MODEL).unwrap()))]).await;
    let fields: Fields = raw.hgetall(backend.key("meta:models_meta")).await.unwrap();
    assert_eq!(fields, expected);
    let _: () = raw.hdel(backend.key("meta:models_meta"), "checksum").await.unwrap();
    assert_eq!(backend.state.models_meta().await.unwrap(), None);
    publish(Vec::new()).await;
    assert_eq!(backend.state.models_meta().await.unwrap(), Some(golden));
}

#[tokio::test]
async fn models_are_added_up_where_they_change_or_a_publisher_died() {
    let backend = Backend::redis().await;
    let mut raw = backend.raw().await;
    sample::publish_everything(&backend.state, [sample::model("ns.m", 1)]).await;
    let account = backend.state.models_meta().await.unwrap();

    // A model that nobody published: whoever adds up finds it.
    let _: () = raw.hset(backend.key("meta:models"), "ns.n", "{}").await.unwrap();
    sample::publish(&backend.state, [sample::master(1, 1), sample::token("abc", 1)]).await;
    sample::publish(&backend.state, [sample::model("ns.m", 1)]).await;
    assert_eq!(backend.state.models_meta().await.unwrap(), account);

    // The same left by a publisher that died before it came to the account.
    let _: i64 = raw.hincr(backend.key("meta:snapshot"), "pending", 1).await.unwrap();
    sample::publish(&backend.state, [sample::token("abc", 2)]).await;
    let model: String = raw.hget(backend.key("meta:models"), "ns.m").await.unwrap();
    let both = TokenDigest::of(&format!("ns.m\n{model}\nns.n\n{{}}\n")).to_string();
    assert_eq!(backend.state.models_meta().await.unwrap().map(|account| account.checksum), Some(both));
}

#[tokio::test]
async fn meta_and_event_name_the_publication() {
    let backend = Backend::redis().await;
    let mut raw = backend.raw().await;
    // The golden event is of version 12 and names the golden entries.
    let golden: ConfigEvent = serde_json::from_str(sample::EVENT).unwrap();
    let _: () = raw.hset_multiple(backend.key("meta:snapshot"), &[("version", 11), ("pending", 11)]).await.unwrap();
    let changes = sample::goldens()
        .into_iter()
        .filter(|entry| golden.changed.contains(&entry.key()))
        .map(SnapshotChange::Put)
        .collect();
    let published_at: DateTime<Utc> = "2026-11-23T07:00:00Z".parse().unwrap();

    let client = redis::Client::open(std::env::var("EZ_TEST_REDIS_URL").unwrap()).unwrap();
    let mut pubsub = client.get_async_pubsub().await.unwrap();
    pubsub.subscribe(backend.key("events:config")).await.unwrap();
    let publication = Publication { changes, scope: Scope::Changes, base: None };
    assert_eq!(backend.state.publish("cp-1", published_at, publication).await.unwrap(), 12);

    let meta: Fields = raw.hgetall(backend.key("meta:snapshot")).await.unwrap();
    let expected = [
        ("contract_version", "1.0"),
        ("pending", "12"),
        ("published_at", "2026-11-23T07:00:00Z"),
        ("publisher", "cp-1"),
        ("version", "12"),
    ];
    assert_eq!(meta, expected.map(|(field, value)| (field.to_owned(), value.to_owned())).into());

    let events: Vec<(String, Fields)> = raw.xrange_all(backend.key("events:config")).await.unwrap();
    let fields = Fields::from([("event".to_owned(), sample::EVENT.trim_end().to_owned())]);
    assert_eq!(events, [("12-0".to_owned(), fields)]);
    let message = pubsub.on_message().next().await.unwrap();
    assert_eq!(message.get_payload::<String>().unwrap(), sample::EVENT.trim_end());
}

#[tokio::test]
async fn every_key_has_the_prefix_and_no_other_is_seen() {
    let backend = Backend::redis().await;
    let stranger = Backend::redis().await;
    sample::publish(&stranger.state, [sample::master(1, 1)]).await;
    let heartbeat = GatewayHeartbeat {
        node_id: "gw-1".to_owned(),
        version: "0.1.0".to_owned(),
        snapshot_version: 1,
        usage_log_depth: 0,
        seen_at: Utc::now(),
    };
    stranger.state.report_gateway(&heartbeat, Duration::from_secs(60)).await.unwrap();
    assert!(backend.state.read_snapshot().await.unwrap().entries.is_empty());
    assert!(backend.state.list_gateways().await.unwrap().is_empty());

    sample::publish_everything(&backend.state, sample::goldens()).await;
    backend.state.report_gateway(&heartbeat, Duration::from_secs(60)).await.unwrap();
    backend.state.acquire_lease("job", "cp-1", Duration::from_secs(60)).await.unwrap();
    backend.state.increment("login:ada", Duration::from_secs(60)).await.unwrap();
    backend.state.put_job_note("sync-outbox", "done").await.unwrap();
    backend.state.report_live("gw-1:run", &crate::live::golden(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(stranger.state.read_snapshot().await.unwrap().entries, [sample::master(1, 1)]);

    let mut raw = backend.raw().await;
    let found: BTreeSet<String> = raw.keys(backend.key("*")).await.unwrap();
    let expected = [
        "auth:master:2",
        "auth:token:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "config:bindings",
        "config:providers",
        "events:config",
        "fence:job",
        "gateways:gw-1",
        "jobs:last",
        "lease:job",
        "limit:login:ada",
        "meta:features",
        "meta:models",
        "meta:models_meta",
        "meta:snapshot",
        "stats:live",
        "stats:live_ends",
    ]
    .map(|key| backend.key(key));
    let bare = backend.key(&format!("auth:token:{}", TokenDigest::of("bare")));
    assert_eq!(found, expected.into_iter().chain([bare]).collect());
}

#[tokio::test]
async fn a_prefix_with_pattern_characters_stands_for_itself() {
    let shared = SharedRedis::for_this_test();
    let odd = SharedState::connect_redis(&shared.url, &format!("{}[a-z]*{{ez}}:", shared.prefix)).await.unwrap();
    let plain = SharedState::connect_redis(&shared.url, &format!("{}ax{{ez}}:", shared.prefix)).await.unwrap();
    sample::publish(&plain, [sample::master(1, 1)]).await;
    sample::publish(&odd, [sample::master(2, 1)]).await;
    assert_eq!(odd.read_snapshot().await.unwrap().entries, [sample::master(2, 1)]);
}

#[tokio::test]
async fn health_states_stand_in_a_hash_that_ends_with_the_last_of_them() {
    let backend = Backend::redis().await;
    let mut raw = backend.raw().await;
    let golden = include_str!("../../../ez-contract/goldens/health_breaker.json").trim_end();
    let breaker: HealthState = serde_json::from_str(golden).unwrap();
    let cooldown = HealthState { kind: HealthKind::Cooldown, model: None, ..breaker.clone() };
    backend.state.put_health(&cooldown, Duration::from_secs(60)).await.unwrap();
    backend.state.put_health(&breaker, Duration::from_secs(10)).await.unwrap();

    let states: Fields = raw.hgetall(backend.key("health:42")).await.unwrap();
    assert_eq!(states.keys().collect::<Vec<_>>(), ["breaker:m-2025-01-01", "cooldown:"]);
    let (ends_at, state) = states["breaker:m-2025-01-01"].split_once(' ').unwrap();
    assert_eq!(state, golden);
    let left = ends_at.parse::<i64>().unwrap() - Utc::now().timestamp_millis();
    assert!((5_000..=10_500).contains(&left), "{left}");
    let ttl: i64 = raw.pttl(backend.key("health:42")).await.unwrap();
    assert!((55_000..=60_000).contains(&ttl), "{ttl}");
}
