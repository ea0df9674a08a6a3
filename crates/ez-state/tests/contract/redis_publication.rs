//! Redis only: publications that were left half-way, entries that are damaged, data that is gone.

use std::time::{Duration, Instant};

use chrono::Utc;
use ez_contract::snapshot::{SnapshotChange, SnapshotKey};
use ez_state::{Base, Publication, Scope, SnapshotDelta, StateError};
use redis::AsyncCommands;
use tokio::task::JoinSet;

use crate::backend::Backend;
use crate::sample;

#[tokio::test]
async fn a_publication_under_way_is_not_acted_upon_and_heals_with_the_next() {
    let backend = Backend::redis().await;
    let state = &backend.state;
    let version = sample::publish(state, [sample::master(1, 1)]).await;
    // A publisher that died after it had written some.
    let mut raw = backend.raw().await;
    let _: () = raw.hset(backend.key("meta:snapshot"), "pending", version + 1).await.unwrap();
    let _: () = raw.del(backend.key("auth:master:1")).await.unwrap();

    let begun = Instant::now();
    assert_eq!(state.read_snapshot().await, Err(StateError::Unsettled));
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(state.read_changes(version - 1).await, Err(StateError::Unsettled));
    assert_eq!(state.read_changes(version).await, Err(StateError::Unsettled));
    assert!(!state.meta().await.unwrap().is_settled());

    let healed = sample::publish(state, [sample::master(2, 1)]).await;
    assert_eq!(healed, version + 2);
    assert_eq!(state.read_changes(version).await.unwrap(), SnapshotDelta::TooOld, "what the dead one wrote is unnamed");
    assert_eq!(state.read_snapshot().await.unwrap().entries, [sample::master(2, 1)]);
    sample::publish(state, [sample::master(3, 1)]).await;
    assert!(matches!(state.read_changes(healed).await.unwrap(), SnapshotDelta::Changes { .. }));
}

#[tokio::test]
async fn a_publisher_waits_for_the_turn_of_another() {
    let backend = Backend::redis().await;
    let version = sample::publish(&backend.state, [sample::master(1, 1)]).await;
    let mut raw = backend.raw().await;
    let _: () = raw.pset_ex(backend.key("meta:publisher"), version + 1, 700).await.unwrap();
    let begun = Instant::now();
    sample::publish(&backend.state, [sample::master(2, 1)]).await;
    assert!(begun.elapsed() >= Duration::from_millis(600));
    assert!(!raw.exists::<_, bool>(backend.key("meta:publisher")).await.unwrap(), "the turn is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_lost_its_turn_begins_again() {
    let backend = Backend::redis().await;
    let entries: Vec<_> = (0..3000).map(|id| sample::token(&format!("token {id}"), id)).collect();
    let version = sample::publish(&backend.state, [sample::master(1, 1)]).await;
    let (state, published) = (backend.another().await, entries.clone());
    let mut publishing = JoinSet::new();
    publishing.spawn(async move { sample::publish_everything(&state, published).await });

    let mut raw = backend.raw().await;
    // Where there was a turn to end, the publication was not yet finished.
    while raw.del::<_, u64>(backend.key("meta:publisher")).await.unwrap() == 0 {}
    let reached = publishing.join_next().await.unwrap().unwrap();
    assert!(reached > version + 1, "the lost turn's version is not used");
    let image = backend.state.read_snapshot().await.unwrap();
    assert_eq!(image.meta.version, reached);
    assert_eq!(sample::held(image.entries), sample::held(entries));
}

#[tokio::test]
async fn damaged_entries_are_told_and_do_not_spoil_the_rest() {
    let backend = Backend::redis().await;
    let state = &backend.state;
    let before = sample::publish(state, [sample::feature("x", true)]).await;
    let after = sample::publish(state, sample::goldens()).await;
    assert_eq!(after, before + 1);
    let mut raw = backend.raw().await;
    let _: () = raw.hset(backend.key("config:providers"), "42", "{}").await.unwrap();
    let _: () = raw.hset(backend.key("config:providers"), "seven", "{}").await.unwrap();
    let _: () = raw.hset(backend.key("config:providers"), "44", sample::PROVIDER).await.unwrap();
    let _: () = raw.hset(backend.key("meta:features"), b"\xff\xfe", "true").await.unwrap();
    let _: () = raw.set(backend.key("auth:master:2"), b"\xff").await.unwrap();
    let _: () = raw.set(backend.key("auth:token:abc"), sample::TOKEN).await.unwrap();

    let image = state.read_snapshot().await.unwrap();
    let mut expected = sample::held(sample::goldens());
    expected.remove(&SnapshotKey::Provider(42));
    expected.remove(&SnapshotKey::Master(2));
    expected.insert(SnapshotKey::Feature("x".to_owned()), sample::feature("x", true));
    assert_eq!(sample::held(image.entries), expected);
    let named =
        ["config:providers 42", "config:providers 44", "config:providers seven", "auth:master:2", "auth:token:abc"];
    for name in named {
        assert!(image.damaged.contains(&backend.key(name)), "{name} is told: {:?}", image.damaged);
    }
    assert_eq!(image.damaged.len(), named.len() + 1);

    let SnapshotDelta::Changes { changes, damaged, .. } = state.read_changes(before).await.unwrap() else {
        panic!("the changes are known");
    };
    assert_eq!(damaged, [backend.key("config:providers 42"), backend.key("auth:master:2")]);
    assert!(changes.contains(&SnapshotChange::Remove(SnapshotKey::Master(2))));

    sample::publish_everything(state, sample::goldens()).await;
    let image = state.read_snapshot().await.unwrap();
    assert_eq!(sample::held(image.entries), sample::held(sample::goldens()));
    assert!(image.damaged.is_empty(), "a full publication clears them away: {:?}", image.damaged);
}

#[tokio::test]
async fn a_store_that_lost_its_data_does_not_repeat_versions() {
    let backend = Backend::redis().await;
    let state = &backend.state;
    let lost = sample::publish(state, [sample::master(1, 1)]).await;
    let mut raw = backend.raw().await;
    let keys: Vec<String> = raw.keys(backend.key("*")).await.unwrap();
    let _: () = raw.del(keys).await.unwrap();
    assert_eq!(state.read_changes(lost).await.unwrap(), SnapshotDelta::TooOld);
    assert_eq!(state.read_snapshot().await.unwrap().meta.version, 0);

    tokio::time::sleep(Duration::from_millis(5)).await;
    let anew = sample::publish_everything(state, [sample::master(2, 1)]).await;
    assert!(anew > lost);
    assert_eq!(state.read_changes(lost).await.unwrap(), SnapshotDelta::TooOld);
}

#[tokio::test(flavor = "multi_thread")]
async fn single_changes_do_not_end_as_the_whole_of_a_store_that_lost_its_data_meanwhile() {
    let backend = Backend::redis().await;
    let version = sample::publish_everything(&backend.state, [sample::master(1, 1)]).await;
    let entries = (0..3000).map(|id| sample::token(&format!("token {id}"), id));
    let changes = entries.map(SnapshotChange::Put).collect();
    let base = Some(Base { version, newest: version });
    let publication = Publication { changes, scope: Scope::Changes, base };
    let (state, mut publishing) = (backend.another().await, JoinSet::new());
    publishing.spawn(async move { state.publish("cp-1", Utc::now(), publication).await });

    let mut raw = backend.raw().await;
    while !raw.exists::<_, bool>(backend.key("meta:publisher")).await.unwrap() {}
    let lost = [backend.key("meta:snapshot"), backend.key("meta:publisher"), backend.key("auth:master:1")];
    assert_eq!(raw.del::<_, u64>(&lost).await.unwrap(), 3, "the publication was not yet finished");
    assert_eq!(publishing.join_next().await.unwrap().unwrap(), Err(StateError::Overtaken));
    assert_eq!(backend.state.meta().await.unwrap().version, 0, "there is no snapshot until all is published");
}

#[tokio::test]
async fn single_changes_do_not_complete_what_another_left_half_way() {
    let backend = Backend::redis().await;
    let version = sample::publish(&backend.state, [sample::master(1, 1)]).await;
    let mut raw = backend.raw().await;
    let _: () = raw.hset(backend.key("meta:snapshot"), "pending", version + 1).await.unwrap();
    let publish = async |scope| {
        let changes = vec![SnapshotChange::Put(sample::master(2, 1))];
        let publication = Publication { changes, scope, base: Some(Base { version, newest: version }) };
        backend.state.publish("cp-1", Utc::now(), publication).await
    };
    assert_eq!(publish(Scope::Changes).await, Err(StateError::Overtaken));
    assert!(!backend.state.meta().await.unwrap().is_settled());
    assert_eq!(publish(Scope::Everything).await, Ok(version + 2));
}

#[tokio::test]
async fn an_event_stream_out_of_step_is_begun_anew() {
    let backend = Backend::redis().await;
    let state = &backend.state;
    let version = sample::publish(state, [sample::master(1, 1)]).await;
    let mut raw = backend.raw().await;
    let _: String = raw.xadd(backend.key("events:config"), format!("{}-0", u64::MAX), &[("event", "?")]).await.unwrap();
    let next = sample::publish(state, [sample::master(2, 1)]).await;
    assert_eq!(next, version + 1);
    assert_eq!(state.read_changes(version - 1).await.unwrap(), SnapshotDelta::TooOld);
    assert!(matches!(state.read_changes(version).await.unwrap(), SnapshotDelta::Changes { .. }));
}

#[tokio::test]
async fn a_meta_hash_that_makes_no_sense_is_told_and_heals_with_the_next_publication() {
    let backend = Backend::redis().await;
    let mut raw = backend.raw().await;
    let _: () = raw.hset(backend.key("meta:snapshot"), "version", "many").await.unwrap();
    let Err(StateError::Corrupt(text)) = backend.state.meta().await else { panic!("it is corrupt") };
    assert!(text.contains(&backend.key("meta:snapshot")), "{text}");
    sample::publish(&backend.state, [sample::master(2, 1)]).await;
    assert_eq!(backend.state.read_snapshot().await.unwrap().entries, [sample::master(2, 1)]);
}
