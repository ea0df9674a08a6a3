//! What holds for every backend.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::health::{BreakerState, HealthKind, HealthState};
use ez_contract::models::{ModelsMeta, ModelsOrigin};
use ez_contract::response::ResponseOwner;
use ez_contract::snapshot::{GatewayHeartbeat, SnapshotChange, SnapshotEntry, SnapshotKey, SnapshotMeta};
use ez_contract::{CONTRACT_VERSION, TokenDigest};
use ez_state::{
    Base, ConfigWatch, HealthChange, HealthCursor, Publication, Scope, SharedState, SnapshotDelta, StateError,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::backend::Backend;
use crate::sample::{self, Held};

pub(crate) async fn an_empty_store_has_version_zero(backend: Backend) {
    let state = &backend.state;
    state.ping().await.unwrap();
    assert_eq!(state.meta().await.unwrap(), SnapshotMeta::default());
    let image = state.read_snapshot().await.unwrap();
    assert_eq!((image.meta.version, image.entries.len()), (0, 0));
    assert_eq!(state.read_changes(0).await.unwrap(), SnapshotDelta::UpToDate);
    assert_eq!(state.read_changes(7).await.unwrap(), SnapshotDelta::TooOld);
}

pub(crate) async fn every_kind_of_entry_comes_back_as_published(backend: Backend) {
    let published_at: DateTime<Utc> = "2026-11-23T07:00:00.123456Z".parse().unwrap();
    let changes = sample::goldens().into_iter().map(SnapshotChange::Put).collect();
    let publication = Publication { changes, scope: Scope::Changes, base: None };
    let version = backend.state.publish("cp-1", published_at, publication).await.unwrap();

    let image = backend.another().await.read_snapshot().await.unwrap();
    assert_eq!(
        image.meta,
        SnapshotMeta {
            contract_version: CONTRACT_VERSION.to_owned(),
            version,
            pending: version,
            published_at: Some(published_at),
            publisher: "cp-1".to_owned(),
        }
    );
    assert_eq!(sample::held(image.entries.clone()), sample::held(sample::goldens()));
    assert!(image.entries.is_sorted_by_key(SnapshotEntry::key), "entries are ordered by key");
    assert!(image.damaged.is_empty());
}

pub(crate) async fn publishing_no_changes_changes_nothing(backend: Backend) {
    let state = &backend.state;
    assert_eq!(sample::publish(state, []).await, 0);
    let version = sample::publish(state, [sample::feature("one", true)]).await;
    assert_eq!(sample::publish(state, []).await, version);
    assert_eq!(state.read_changes(version).await.unwrap(), SnapshotDelta::UpToDate);
}

pub(crate) async fn a_publication_for_another_snapshot_is_refused(backend: Backend) {
    let state = &backend.state;
    let publish = async |scope, version, newest| {
        let changes = vec![SnapshotChange::Put(sample::master(1, 7))];
        let publication = Publication { changes, scope, base: Some(Base { version, newest }) };
        state.publish("cp-1", Utc::now(), publication).await
    };
    let refused = Err(StateError::Overtaken);
    assert_eq!(publish(Scope::Changes, 0, 0).await, refused, "single changes would pass for the whole snapshot");
    let first = publish(Scope::Everything, 0, 0).await.unwrap();
    let second = publish(Scope::Changes, first, first).await.unwrap();
    assert_eq!(second, first + 1);

    let before = state.read_snapshot().await.unwrap();
    for scope in [Scope::Changes, Scope::Everything] {
        assert_eq!(publish(scope, first, second).await, refused, "{scope:?} that was read before the second one");
    }
    let nothing = |version| {
        let base = Some(Base { version, newest: version });
        Publication { changes: Vec::new(), scope: Scope::Changes, base }
    };
    assert_eq!(state.publish("cp-1", Utc::now(), nothing(first)).await, refused);
    assert_eq!(state.publish("cp-1", Utc::now(), nothing(second)).await, Ok(second));
    assert_eq!(state.read_snapshot().await.unwrap(), before);

    // A publisher knows of more than a store that came back with old data.
    let above = publish(Scope::Everything, second, second + 10).await.unwrap();
    assert_eq!(above, second + 11);
    for held in [second, second + 10] {
        assert_eq!(state.read_changes(held).await.unwrap(), SnapshotDelta::TooOld, "what was lost has no name");
    }
}

pub(crate) async fn the_last_change_of_a_key_stands(backend: Backend) {
    let state = &backend.state;
    let put = |value| SnapshotChange::Put(sample::feature("flag", value));
    let remove = SnapshotChange::Remove(SnapshotKey::Feature("flag".to_owned()));
    let before = sample::publish_scoped(state, Scope::Changes, vec![put(true), remove.clone(), put(false)]).await;
    assert_eq!(state.read_snapshot().await.unwrap().entries, [sample::feature("flag", false)]);

    sample::publish_scoped(state, Scope::Changes, vec![put(true), remove.clone()]).await;
    assert!(state.read_snapshot().await.unwrap().entries.is_empty());
    assert_eq!(changes_since(state, before).await, [remove]);
}

pub(crate) async fn everything_removes_what_it_does_not_name(backend: Backend) {
    let state = &backend.state;
    let before = sample::publish(state, sample::goldens()).await;
    let kept = [sample::provider(42, 9), sample::token("new", 77)];
    sample::publish_everything(state, kept.clone()).await;
    assert_eq!(state.read_snapshot().await.unwrap().entries, kept);

    let mut follower = sample::held(sample::goldens());
    sample::apply(&mut follower, changes_since(state, before).await);
    assert_eq!(follower, sample::held(kept));

    sample::publish_everything(state, []).await;
    assert!(state.read_snapshot().await.unwrap().entries.is_empty());
}

pub(crate) async fn models_are_accounted_for_as_they_change(backend: Backend) {
    let state = &backend.state;
    let at = |second: i64| DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap();
    let origin = |version: &str| ModelsOrigin {
        version: version.to_owned(),
        source: "a source".to_owned(),
        upstream_url: "https://models.example".to_owned(),
        upstream_ref: String::new(),
    };
    // What the contract says, on its own.
    let checksum = |models: &[&SnapshotEntry]| {
        let lines = models.iter().map(|entry| match entry {
            SnapshotEntry::Model(model) => format!("{}\n{}\n", model.name, serde_json::to_string(model).unwrap()),
            other => panic!("no model: {other:?}"),
        });
        TokenDigest::of(&lines.collect::<String>()).to_string()
    };
    let publish = async |second, changes: Vec<SnapshotChange>, scope, models: Option<ModelsOrigin>| {
        let publication = Publication { changes, scope, base: None };
        let version = match models {
            Some(models) => state.publish_with_models("cp-1", at(second), publication, models).await.unwrap(),
            None => state.publish("cp-1", at(second), publication).await.unwrap(),
        };
        (version, backend.another().await.models_meta().await.unwrap())
    };
    let meta = |version, checksum, second| Some(ModelsMeta::new(origin(version), checksum, at(second)));
    let put = |entry: &SnapshotEntry| SnapshotChange::Put(entry.clone());
    assert_eq!(state.models_meta().await.unwrap(), None);

    let (b, dotted, a) = (sample::model("ns.b", 2), sample::model("ns.a.b", 3), sample::model("ns.a", 1));
    let models = vec![put(&b), put(&dotted), put(&a)];
    let (_, found) = publish(1, models.clone(), Scope::Changes, Some(origin("1"))).await;
    let first = meta("1", checksum(&[&a, &dotted, &b]), 1);
    assert_eq!(found, first);

    // Nothing of them changes: other entries, the same models, the same catalogue.
    let (version, found) = publish(2, vec![put(&sample::master(1, 1))], Scope::Changes, Some(origin("1"))).await;
    assert_eq!(found, first);
    assert_eq!(publish(3, models, Scope::Changes, None).await, (version + 1, first.clone()));
    assert_eq!(publish(4, Vec::new(), Scope::Changes, Some(origin("1"))).await, (version + 1, first));

    // A model, its end, the catalogue, everything.
    let changed = sample::model("ns.b", 9);
    let (_, found) = publish(5, vec![put(&changed)], Scope::Changes, None).await;
    assert_eq!(found, meta("1", checksum(&[&a, &dotted, &changed]), 5), "the origin stays");
    let removal = vec![SnapshotChange::Remove(SnapshotKey::Model("ns.a".to_owned()))];
    let (version, found) = publish(6, removal.clone(), Scope::Changes, None).await;
    assert_eq!(found, meta("1", checksum(&[&dotted, &changed]), 6));
    assert_eq!(publish(7, removal, Scope::Changes, None).await.1, found, "it was gone already");
    let (renewed, found) = publish(8, Vec::new(), Scope::Changes, Some(origin("2"))).await;
    assert_eq!((renewed, found), (version + 2, meta("2", checksum(&[&dotted, &changed]), 8)));
    let (_, found) = publish(9, vec![put(&a)], Scope::Everything, None).await;
    assert_eq!(found, meta("2", checksum(&[&a]), 9));
    let (_, found) = publish(10, Vec::new(), Scope::Everything, None).await;
    assert_eq!(found, meta("2", checksum(&[]), 10));
}

pub(crate) async fn deltas_lead_to_the_same_snapshot_as_a_full_read(backend: Backend) {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let reader = backend.another().await;

    let mut version = sample::publish(&backend.state, sample::goldens()).await;
    let mut follower: Held = sample::held(reader.read_snapshot().await.unwrap().entries);
    for _ in 0..80 {
        let scope = if random.random_ratio(1, 10) { Scope::Everything } else { Scope::Changes };
        let count = random.random_range(1..12);
        let changes = (0..count).map(|_| random_change(&mut random)).collect();
        sample::publish_scoped(&backend.state, scope, changes).await;
        if random.random_ratio(1, 2) {
            continue;
        }
        let SnapshotDelta::Changes { meta, changes, damaged } = reader.read_changes(version).await.unwrap() else {
            panic!("the changes since {version} are known");
        };
        assert!(damaged.is_empty());
        sample::apply(&mut follower, changes);
        version = meta.version;
        let image = reader.read_snapshot().await.unwrap();
        assert_eq!(image.meta, meta);
        assert_eq!(follower, sample::held(image.entries));
    }
}

pub(crate) async fn a_large_publication_asks_for_a_full_read(backend: Backend) {
    let state = &backend.state;
    let before = sample::publish(state, [sample::feature("one", true)]).await;
    let entries: Vec<SnapshotEntry> = (0..3000).map(|id| sample::token(&format!("token {id}"), id)).collect();
    let large = sample::publish_everything(state, entries.clone()).await;
    assert_eq!(state.read_changes(before).await.unwrap(), SnapshotDelta::TooOld);
    assert_eq!(sample::held(state.read_snapshot().await.unwrap().entries), sample::held(entries));

    sample::publish(state, [sample::feature("two", true)]).await;
    assert_eq!(changes_since(state, large).await, [SnapshotChange::Put(sample::feature("two", true))]);
    assert_eq!(state.read_changes(before).await.unwrap(), SnapshotDelta::TooOld);
}

pub(crate) async fn many_small_publications_are_followed(backend: Backend) {
    let state = &backend.state;
    let first = sample::publish(state, [sample::feature("one", true)]).await;
    for round in 0..600 {
        sample::publish(state, [sample::master(round % 300, round)]).await;
    }
    assert_eq!(changes_since(state, first).await.len(), 300);
    assert_eq!(changes_since(state, first + 350).await.len(), 250);
}

pub(crate) async fn a_version_that_is_gone_or_unknown_is_too_old(backend: Backend) {
    let state = &backend.state;
    let forgotten = sample::publish(state, [sample::feature("one", true)]).await;
    sample::publish(state, [sample::feature("two", true)]).await;
    assert!(matches!(state.read_changes(forgotten).await.unwrap(), SnapshotDelta::Changes { .. }));
    backend.forget_events().await;
    let version = sample::publish(state, [sample::feature("three", true)]).await;

    assert_eq!(state.read_changes(forgotten).await.unwrap(), SnapshotDelta::TooOld);
    assert_eq!(state.read_changes(0).await.unwrap(), SnapshotDelta::TooOld);
    assert_eq!(state.read_changes(version + 1).await.unwrap(), SnapshotDelta::TooOld);
    assert_eq!(state.read_changes(u64::MAX).await.unwrap(), SnapshotDelta::TooOld);
    assert_eq!(changes_since(state, version - 1).await, [SnapshotChange::Put(sample::feature("three", true))]);
}

pub(crate) async fn readers_never_see_half_of_a_publication(backend: Backend) {
    // More than one write, so that a reader could see some of it.
    let all = |value| (0..700).map(move |number| sample::feature(&format!("flag {number}"), value));
    sample::publish(&backend.state, all(false)).await;
    let writer = backend.another().await;
    let mut writing = JoinSet::new();
    writing.spawn(async move {
        for round in 0..20 {
            sample::publish(&writer, all(round % 2 == 0)).await;
            sleep(Duration::from_millis(10)).await;
        }
    });

    let mut reads = 0;
    while writing.try_join_next().is_none() {
        match backend.state.read_snapshot().await {
            Ok(image) => {
                let values: BTreeSet<bool> = image.entries.iter().filter_map(feature_value).collect();
                assert_eq!((image.entries.len(), values.len()), (700, 1));
                reads += 1;
            }
            Err(error) => assert_eq!(error, StateError::Unsettled),
        }
    }
    assert!(reads > 0, "some reads came through");
}

pub(crate) async fn concurrent_publishers_leave_it_settled_with_versions_in_a_row(backend: Backend) {
    const PUBLISHERS: i64 = 6;
    const ROUNDS: i64 = 15;
    let first = sample::publish(&backend.state, [sample::feature("one", true)]).await;
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let state = backend.another().await;
        publishers.spawn(async move {
            let mut versions = Vec::new();
            for round in 0..ROUNDS {
                versions
                    .push(sample::publish(&state, [sample::provider(publisher, 1), sample::master(round, 1)]).await);
            }
            versions
        });
    }
    let mut all = BTreeSet::new();
    while let Some(versions) = publishers.join_next().await {
        let versions = versions.unwrap();
        assert!(versions.is_sorted(), "a publisher's versions grow");
        all.extend(versions);
    }

    let count = u64::try_from(PUBLISHERS * ROUNDS).unwrap();
    assert_eq!(all, (first + 1..=first + count).collect());
    let meta = backend.state.meta().await.unwrap();
    assert!(meta.is_settled());
    assert_eq!(meta.version, first + count);
    assert_eq!(backend.state.read_snapshot().await.unwrap().entries.len(), 1 + 6 + 15);
    assert_eq!(changes_since(&backend.state, first).await.len(), 6 + 15);
}

pub(crate) async fn a_publication_wakes_subscribers(backend: Backend) {
    let mut watches = [backend.state.subscribe(), backend.another().await.subscribe()];
    for round in [true, false, true] {
        for watch in &mut watches {
            quieten(watch).await;
        }
        sample::publish(&backend.state, [sample::feature("one", round)]).await;
        for watch in &mut watches {
            timeout(Duration::from_secs(1), watch.changed()).await.expect("a publication wakes within a second");
        }
    }
}

pub(crate) async fn a_publication_before_the_first_wait_is_not_missed(backend: Backend) {
    let mut watch = backend.state.subscribe();
    sample::publish(&backend.state, [sample::feature("one", true)]).await;
    timeout(Duration::from_secs(1), watch.changed()).await.expect("it wakes for what came before");
}

pub(crate) async fn leases_exclude_renew_and_expire(backend: Backend) {
    const TTL: Duration = Duration::from_millis(600);
    let (one, two) = (&backend.state, &backend.another().await);
    let first = one.acquire_lease("job", "cp-1", TTL).await.unwrap().expect("a free lease is granted");
    assert_eq!((first.name.as_str(), first.holder.as_str()), ("job", "cp-1"));
    assert_eq!(two.acquire_lease("job", "cp-2", TTL).await.unwrap(), None);
    assert!(two.acquire_lease("another job", "cp-2", TTL).await.unwrap().is_some());

    sleep(TTL / 2).await;
    assert_eq!(
        one.acquire_lease("job", "cp-1", TTL).await.unwrap().as_ref(),
        Some(&first),
        "a renewal is no new grant"
    );
    sleep(TTL * 2 / 3).await;
    assert_eq!(two.acquire_lease("job", "cp-2", TTL).await.unwrap(), None, "the renewal holds");

    sleep(TTL).await;
    let second = two.acquire_lease("job", "cp-2", TTL).await.unwrap().expect("an expired lease is free");
    assert!(second.fence > first.fence);
    assert_eq!(one.acquire_lease("job", "cp-1", TTL).await.unwrap(), None);
    sleep(TTL * 3 / 2).await;
    let third = two.acquire_lease("job", "cp-2", TTL).await.unwrap().expect("an expired lease is free");
    assert!(third.fence > second.fence, "a grant after expiry is a new one, for the same holder too");
}

pub(crate) async fn a_released_lease_is_free_and_a_lost_one_is_left_alone(backend: Backend) {
    const TTL: Duration = Duration::from_secs(30);
    let (one, two) = (&backend.state, &backend.another().await);
    let first = one.acquire_lease("job", "cp-1", TTL).await.unwrap().unwrap();
    assert!(one.release_lease(&first).await.unwrap());
    assert!(!one.release_lease(&first).await.unwrap());

    let second = two.acquire_lease("job", "cp-2", TTL).await.unwrap().unwrap();
    assert!(!one.release_lease(&first).await.unwrap());
    assert_eq!(one.acquire_lease("job", "cp-1", TTL).await.unwrap(), None);
    assert!(two.release_lease(&second).await.unwrap());
    let third = one.acquire_lease("job", "cp-1", TTL).await.unwrap().unwrap();
    assert!(first.fence < second.fence && second.fence < third.fence);
    assert!(!one.release_lease(&first).await.unwrap(), "an old grant does not release a new one of the same holder");
}

pub(crate) async fn counters_count_within_their_window(backend: Backend) {
    const WINDOW: Duration = Duration::from_millis(900);
    let (one, two) = (&backend.state, &backend.another().await);
    assert_eq!(one.increment("login:ada", WINDOW).await.unwrap(), 1);
    assert_eq!(two.increment("login:ada", WINDOW).await.unwrap(), 2);
    assert_eq!(one.increment("login:bob", WINDOW).await.unwrap(), 1);
    sleep(WINDOW * 2 / 3).await;
    assert_eq!(one.increment("login:ada", WINDOW).await.unwrap(), 3);
    sleep(WINDOW / 2).await;
    assert_eq!(one.increment("login:ada", WINDOW).await.unwrap(), 1, "later events do not prolong the window");
}

pub(crate) async fn heartbeats_are_listed_until_they_expire(backend: Backend) {
    let heartbeat = |node_id: &str, snapshot_version| GatewayHeartbeat {
        node_id: node_id.to_owned(),
        version: "0.1.0".to_owned(),
        snapshot_version,
        usage_log_depth: 3,
        seen_at: Utc::now(),
    };
    let (brief, long) = (heartbeat("gw-2", 1), heartbeat("gw-1", 2));
    let (one, two) = (&backend.state, &backend.another().await);
    assert!(one.list_gateways().await.unwrap().is_empty());
    one.report_gateway(&heartbeat("gw-1", 1), Duration::from_secs(30)).await.unwrap();
    one.report_gateway(&long, Duration::from_secs(30)).await.unwrap();
    one.report_gateway(&brief, Duration::from_millis(500)).await.unwrap();
    assert_eq!(two.list_gateways().await.unwrap(), [long.clone(), brief]);
    sleep(Duration::from_millis(600)).await;
    assert_eq!(two.list_gateways().await.unwrap(), [long]);
}

pub(crate) async fn health_states_stand_until_they_pass(backend: Backend) {
    let (one, two) = (&backend.state, &backend.another().await);
    assert_eq!(one.list_health(42).await.unwrap(), []);
    let cooldown = health(42, HealthKind::Cooldown, None);
    let breaker = health(42, HealthKind::Breaker, Some("m"));
    let (brief, long) = (Duration::from_millis(500), Duration::from_secs(30));
    one.put_health(&cooldown, brief).await.unwrap();
    one.put_health(&breaker, long).await.unwrap();
    one.put_health(&health(43, HealthKind::Cooldown, None), long).await.unwrap();
    assert_eq!(two.list_health(42).await.unwrap(), [breaker.clone(), cooldown.clone()]);

    let newer = HealthState { reason: "newer".to_owned(), ..breaker.clone() };
    two.put_health(&newer, long).await.unwrap();
    assert_eq!(one.list_health(42).await.unwrap(), [newer.clone(), cooldown.clone()], "one of each kind and model");
    sleep(Duration::from_millis(600)).await;
    assert_eq!(one.list_health(42).await.unwrap(), [newer]);

    one.remove_health(42, HealthKind::Breaker, None).await.unwrap();
    assert_eq!(one.list_health(42).await.unwrap().len(), 1, "of another model");
    one.remove_health(42, HealthKind::Breaker, Some("m")).await.unwrap();
    assert_eq!(two.list_health(42).await.unwrap(), []);
    assert_eq!(two.list_health(43).await.unwrap().len(), 1);
}

pub(crate) async fn an_api_key_has_no_endless_health_states(backend: Backend) {
    let state = &backend.state;
    let of = |number: u32| health(42, HealthKind::Cooldown, Some(&format!("m{number:03}")));
    for number in 0..70 {
        // The later ones pass sooner.
        state.put_health(&of(number), Duration::from_secs(u64::from(1000 - number))).await.unwrap();
    }
    let listed = state.list_health(42).await.unwrap();
    let expected: Vec<HealthState> = (0..63).chain([69]).map(of).collect();
    assert_eq!(listed, expected, "what passes first makes room");
}

pub(crate) async fn changes_of_health_are_announced_and_followed(backend: Backend) {
    let (one, two) = (&backend.state, &backend.another().await);
    let mut watch = two.watch_health();
    quieten(&mut watch).await;
    let (changes, start) = two.read_health_changes(&HealthCursor::default()).await.unwrap();
    assert_eq!(changes, []);

    let cooldown = health(42, HealthKind::Cooldown, Some("m"));
    let breaker = health(43, HealthKind::Breaker, None);
    one.put_health(&cooldown, Duration::from_millis(500)).await.unwrap();
    one.put_health(&breaker, Duration::from_secs(30)).await.unwrap();
    timeout(Duration::from_secs(1), watch.changed()).await.expect("within a second");
    let (changes, next) = two.read_health_changes(&start).await.unwrap();
    let put = |change: &HealthChange| match change {
        HealthChange::Put { state, left } => (state.clone(), *left),
        HealthChange::Remove { .. } => panic!("nothing was removed: {change:?}"),
    };
    let (first, second) = (put(&changes[0]), put(&changes[1]));
    assert_eq!((changes.len(), first.0, second.0), (2, cooldown, breaker.clone()));
    assert!(first.1 <= Duration::from_millis(500), "{:?}", first.1);
    assert!((25..=30).contains(&second.1.as_secs()), "{:?}", second.1);
    assert_eq!(two.read_health_changes(&next).await.unwrap(), (vec![], next.clone()), "each is told once");

    quieten(&mut watch).await;
    one.remove_health(42, HealthKind::Breaker, None).await.unwrap();
    one.remove_health(43, HealthKind::Breaker, None).await.unwrap();
    timeout(Duration::from_secs(1), watch.changed()).await.expect("within a second");
    let removed = HealthChange::Remove { api_key_id: 43, kind: HealthKind::Breaker, model: None };
    let changes = two.read_health_changes(&next).await.unwrap().0;
    assert_eq!(changes, std::slice::from_ref(&removed), "what was not there is no news");

    sleep(Duration::from_millis(500)).await;
    let (changes, _) = two.read_health_changes(&HealthCursor::default()).await.unwrap();
    let states: Vec<_> = changes.iter().filter(|change| **change != removed).map(|change| put(change).0).collect();
    assert_eq!((states, changes.len()), (vec![breaker], 2), "who comes later learns what has not passed");
}

pub(crate) async fn only_the_last_changes_of_health_are_kept(backend: Backend) {
    let state = &backend.state;
    for number in 0..1_200 {
        state.put_health(&health(number, HealthKind::Cooldown, None), Duration::from_secs(60)).await.unwrap();
    }
    let (changes, last) = state.read_health_changes(&HealthCursor::default()).await.unwrap();
    // Redis trims by whole nodes of about 100 entries.
    assert!((1_000..=1_110).contains(&changes.len()), "{}", changes.len());
    let newest = HealthChange::Remove { api_key_id: 1_199, kind: HealthKind::Cooldown, model: None };
    state.remove_health(1_199, HealthKind::Cooldown, None).await.unwrap();
    assert_eq!(state.read_health_changes(&last).await.unwrap().0, [newest]);
}

fn health(api_key_id: i64, kind: HealthKind, model: Option<&str>) -> HealthState {
    let state = (kind == HealthKind::Breaker).then_some(BreakerState::Open);
    let (model, reason) = (model.map(str::to_owned), "a test".to_owned());
    let at = DateTime::from_timestamp(1_767_225_600, 0).unwrap_or_default();
    HealthState { api_key_id, kind, model, state, reason, until: at, reported_at: at }
}

pub(crate) async fn the_newest_note_of_a_job_stands_for_everyone(backend: Backend) {
    let (one, two) = (&backend.state, &backend.another().await);
    assert!(one.list_job_notes().await.unwrap().is_empty());
    assert_eq!(one.job_note("full-reconcile").await.unwrap(), None);
    one.put_job_note("full-reconcile", "first").await.unwrap();
    one.put_job_note("ban-expiry", "{\"outcome\":\"failed\"}").await.unwrap();
    two.put_job_note("full-reconcile", "second").await.unwrap();
    assert_eq!(one.job_note("full-reconcile").await.unwrap().as_deref(), Some("second"));
    let notes: Vec<(String, String)> = two.list_job_notes().await.unwrap().into_iter().collect();
    let expected = [("ban-expiry", "{\"outcome\":\"failed\"}"), ("full-reconcile", "second")];
    assert_eq!(notes, expected.map(|(name, note)| (name.to_owned(), note.to_owned())));
}

pub(crate) async fn owners_of_responses_are_known_for_their_time(backend: Backend) {
    let (one, two) = (&backend.state, &backend.another().await);
    let owner =
        |master_id| ResponseOwner { master_id, api_key_id: 42, model: "m".to_owned(), upstream_model: "m".to_owned() };
    assert_eq!(one.response_owner("resp_1").await.unwrap(), None);
    assert!(one.claim_responses(&[], Duration::from_secs(60)).await.unwrap().is_empty());
    let both = [("resp_1".to_owned(), owner(1)), ("resp_2".to_owned(), owner(2))];
    assert_eq!(one.claim_responses(&both, Duration::from_secs(60)).await.unwrap(), [owner(1), owner(2)]);
    one.claim_responses(&[("resp_3".to_owned(), owner(3))], Duration::from_millis(400)).await.unwrap();
    for (id, master_id) in [("resp_1", 1), ("resp_2", 2), ("resp_3", 3)] {
        assert_eq!(two.response_owner(id).await.unwrap(), Some(owner(master_id)));
    }
    let late = [("resp_4".to_owned(), owner(4)), ("resp_1".to_owned(), owner(4)), ("resp_4".to_owned(), owner(5))];
    let kept = two.claim_responses(&late, Duration::from_secs(60)).await.unwrap();
    assert_eq!(kept, [owner(4), owner(1), owner(4)], "the first owner stands");
    sleep(Duration::from_millis(600)).await;
    assert_eq!(one.response_owner("resp_1").await.unwrap(), Some(owner(1)));
    assert_eq!(one.response_owner("resp_3").await.unwrap(), None);
    let again = one.claim_responses(&[("resp_3".to_owned(), owner(6))], Duration::from_secs(60)).await.unwrap();
    assert_eq!(
        (again, two.response_owner("resp_3").await.unwrap()),
        (vec![owner(6)], Some(owner(6))),
        "an ended one is free"
    );
}

async fn changes_since(state: &SharedState, version: u64) -> Vec<SnapshotChange> {
    match state.read_changes(version).await.unwrap() {
        SnapshotDelta::Changes { changes, .. } => changes,
        other => panic!("expected changes since {version}, got {other:?}"),
    }
}

fn feature_value(entry: &SnapshotEntry) -> Option<bool> {
    match entry {
        SnapshotEntry::Feature(_, value) => Some(*value),
        _ => None,
    }
}

fn random_change(random: &mut StdRng) -> SnapshotChange {
    let id = random.random_range(0..6);
    let content = random.random_range(0..100_u32);
    let entry = match random.random_range(0..6) {
        0 => sample::provider(id, content),
        1 => sample::binding(&format!("model-{id}"), content.into()),
        2 => sample::model(&format!("ns.model-{id}"), content.into()),
        3 => sample::token(&format!("token-{id}"), content.into()),
        4 => sample::master(id, content.into()),
        _ => sample::feature(&format!("flag-{id}"), content % 2 == 0),
    };
    if random.random_ratio(1, 3) { SnapshotChange::Remove(entry.key()) } else { SnapshotChange::Put(entry) }
}

/// Waits until a watch has nothing more to say.
async fn quieten(watch: &mut ConfigWatch) {
    while timeout(Duration::from_millis(300), watch.changed()).await.is_ok() {}
}

pub(crate) async fn a_server_tells_its_version_and_time(backend: Backend) {
    let facts = backend.state.server_facts().await.unwrap();
    assert_eq!(facts.is_some(), backend.state.backend_name() == "redis");
    if let Some(facts) = facts {
        assert!(facts.version.starts_with(|first: char| first.is_ascii_digit()), "{facts:?}");
        assert!((facts.now - Utc::now()).num_seconds().abs() < 30, "both are on this machine: {facts:?}");
    }
}
