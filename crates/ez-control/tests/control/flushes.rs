//! Batches of counts from many gateways at once.

use ez_contract::flush::{ApiKeyDelta, ApiKeyFlush};
use ez_control::flushes::{self, FlushTaken};
use ez_control::{api_keys, provider_groups};
use serde_json::{Value, json};

use crate::importing::WITH_BINDINGS;
use crate::support::{Plane, secret_in};

pub(crate) async fn flushes_at_once_add_up_and_wait_for_nobody_for_ever(plane: Plane) {
    let mut groups = Vec::new();
    let mut ids = Vec::new();
    for name in ["one", "two"] {
        let group = plane.group(name).await;
        for key in 0..5 {
            ids.push(plane.try_api_key(secret_in(group.id, &format!("sk-{name}-{key}"))).await.unwrap().id);
        }
        groups.push(group.id);
    }
    let doomed = plane.group("doomed").await.id;
    let of_doomed = plane.try_api_key(secret_in(doomed, "sk-doomed")).await.unwrap().id;
    let others = [plane.another().await, plane.another().await];
    let planes = [&plane.control, &others[0], &others[1]];
    let delta = |api_key_id| ApiKeyDelta {
        api_key_id,
        requests: 3,
        successes: 2,
        failures: 1,
        last_used_at: plane.control.now(),
    };
    let flush = async |gateway: usize| {
        for batch in 0..10 {
            let mut deltas: Vec<_> = ids.iter().chain([&of_doomed]).map(|id| delta(*id)).collect();
            if (gateway + batch) % 2 == 1 {
                deltas.reverse();
            }
            let flush = ApiKeyFlush { batch_id: format!("{gateway}-{batch}"), deltas };
            let outcomes = tokio::join!(
                flushes::flush_api_keys(planes[gateway % 3], &flush),
                flushes::flush_api_keys(planes[(gateway + 1) % 3], &flush),
            );
            let repeated = [outcomes.0.unwrap(), outcomes.1.unwrap()].map(|taken: FlushTaken| taken.is_repeated);
            assert_ne!(repeated[0], repeated[1], "one of the two counts");
        }
    };
    let delete = async {
        let write = plane.write().await;
        provider_groups::delete(&write, doomed, true).await.unwrap();
        write.commit().await.unwrap();
    };
    tokio::join!(flush(0), flush(1), flush(2), flush(3), delete);
    for id in &ids {
        let api_key = api_keys::get(&plane.control, *id).await.unwrap();
        let counts = (api_key.total_requests, api_key.success_requests, api_key.failure_requests);
        assert_eq!(counts, (120, 80, 40));
    }
    for id in groups {
        let group = provider_groups::get(&plane.control, id).await.unwrap();
        assert_eq!((group.total_requests, group.success_requests, group.failure_requests), (600, 400, 200));
    }
}

pub(crate) async fn flushes_and_imports_of_the_same_groups_wait_for_each_other(plane: Plane) {
    let provider = |n: u64| {
        json!({"original_id": n, "name": format!("g{n}"), "type": "openai", "base_url": "https://api.openai.com",
            "api_key": format!("sk-{n}"), "models": ["gpt-4"]})
    };
    let document = |providers: Vec<Value>| {
        let data = json!({"providers": providers, "masters": [], "keys": [], "bindings": []});
        json!({"version": "1.0.0", "data": data}).to_string()
    };
    plane.import(&document((0..20).map(provider).collect()), WITH_BINDINGS).await;
    // Not in the order of their ids.
    let backwards = document((0..20).rev().map(provider).collect());
    let store = plane.control.store();
    let groups = ez_store::provider_groups::list_all(store).await.unwrap();
    let keys = ez_store::api_keys::list_all(store).await.unwrap();
    assert_eq!((groups.len(), keys.len()), (20, 20));
    let deltas: Vec<_> = keys
        .iter()
        .map(|key| ApiKeyDelta {
            api_key_id: key.id,
            requests: 1,
            successes: 1,
            failures: 0,
            last_used_at: plane.control.now(),
        })
        .collect();
    let flush = async {
        for batch in 0..40 {
            let flush = ApiKeyFlush { batch_id: format!("b-{batch}"), deltas: deltas.clone() };
            flushes::flush_api_keys(&plane.control, &flush).await.unwrap();
        }
    };
    let import = async {
        for _ in 0..20 {
            plane.import(&backwards, WITH_BINDINGS).await;
        }
    };
    tokio::join!(flush, import);
    for group in ez_store::provider_groups::list_all(store).await.unwrap() {
        assert_eq!(group.success_requests, 40);
    }
}

pub(crate) async fn a_batch_is_known_for_seven_days(plane: Plane) {
    let group = plane.group("one").await;
    let id = plane.api_key(group.id).await.id;
    let flush = async |batch_id: &str| {
        let last_used_at = plane.control.now();
        let delta = ApiKeyDelta { api_key_id: id, requests: 1, successes: 1, failures: 0, last_used_at };
        let flush = ApiKeyFlush { batch_id: batch_id.to_owned(), deltas: vec![delta] };
        flushes::flush_api_keys(&plane.control, &flush).await.unwrap().is_repeated
    };
    let days = |days: u64| std::time::Duration::from_secs(days * 24 * 3600);
    assert!(!flush("a").await);
    plane.clock.advance(days(6));
    assert!(!flush("b").await);
    assert!(flush("a").await, "a gateway tries a batch for six days");
    plane.clock.advance(days(1));
    assert!(!flush("c").await);
    assert!(!flush("a").await, "forgotten");
    assert!(flush("b").await);
}
