//! Access of masters, and what becomes of that of their keys.

use std::time::{Duration, Instant};

use ez_control::child_keys::CreateChildKey;
use ez_control::masters::{self, ChangeMaster, CreateMaster};
use ez_control::publisher::reconcile;
use ez_store::masters::Master;
use ez_store::{audit, child_keys};

use crate::support::{Plane, conflict, token_of};

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn to(namespaces: &[&str], default_namespace: &str, propagate_to_keys: bool) -> ChangeMaster {
    ChangeMaster {
        namespaces: Some(texts(namespaces)),
        default_namespace: Some(default_namespace.to_owned()),
        propagate_to_keys,
        ..ChangeMaster::default()
    }
}

impl Plane {
    /// A master with the namespaces a, b and c, of which a is its default.
    async fn master_of_abc(&self) -> Master {
        for name in ["a", "b", "c", "d"] {
            self.namespace(name).await;
        }
        let asked = CreateMaster {
            name: "acme".to_owned(),
            namespaces: Some(texts(&["a", "b", "c"])),
            ..CreateMaster::default()
        };
        self.try_master(asked).await.unwrap().master
    }

    async fn change_master(&self, id: i64, change: ChangeMaster) {
        let write = self.write().await;
        masters::update(&write, id, change).await.unwrap();
        write.commit().await.unwrap();
    }
}

pub(crate) async fn keys_follow_their_master_where_they_are_told_to(plane: Plane) {
    let master = plane.master_of_abc().await;
    let key = async |namespaces: &[&str], default: &str| {
        let asked = CreateChildKey {
            namespaces: Some(texts(namespaces)),
            default_namespace: Some(default.to_owned()),
            ..CreateChildKey::default()
        };
        plane.try_key(master.id, asked).await.unwrap()
    };
    let untouched = key(&["b"], "b").await;
    let narrowed = key(&["a", "b", "c"], "b").await;
    let moved = key(&["a", "b"], "a").await;
    let replaced = key(&["c"], "c").await;
    let stranger = plane.try_master(CreateMaster { name: "other".to_owned(), ..to_create(&["a"]) }).await.unwrap();
    let of_stranger = plane.key(stranger.master.id).await.key;
    plane.publish().await;

    // Without being told to, they are in the way.
    let write = plane.write().await;
    let (message, references) = conflict(masters::update(&write, master.id, to(&["b", "d"], "d", false)).await);
    assert!(message.contains("propagate_to_keys"), "{message}");
    assert_eq!(references.len(), 3, "{references:?}");
    drop(write);

    plane.clock.advance(Duration::from_secs(1));
    plane.change_master(master.id, to(&["b", "d"], "d", true)).await;
    let expected: [(_, &[&str], _); 4] =
        [(&untouched, &["b"], "b"), (&narrowed, &["b"], "b"), (&moved, &["b", "d"], "d"), (&replaced, &["d"], "d")];
    plane.publish().await;
    for (issued, namespaces, default) in expected {
        let key = plane.stored_key(issued.key.id).await;
        assert_eq!((key.namespaces.clone(), key.default_namespace.as_str()), (texts(namespaces), default));
        let published = plane.token_entry(&token_of(issued)).await.unwrap();
        assert_eq!((published.namespaces, published.default_namespace), (key.namespaces, key.default_namespace));
    }
    assert_eq!(plane.stored_key(untouched.key.id).await, untouched.key, "what fits is not written");
    assert_eq!(plane.stored_key(moved.key.id).await.updated_at, plane.control.now());
    assert_eq!(plane.stored_key(of_stranger.id).await, of_stranger);
    let entries = audit::list(plane.control.store(), None, 4).await.unwrap();
    let actions: Vec<_> = entries.iter().map(|entry| entry.entry.action.as_str()).collect();
    assert_eq!(actions, ["propagate_access", "propagate_access", "propagate_access", "update"]);
    assert_eq!(entries[0].entry.before.as_ref().unwrap()["namespaces"], serde_json::json!(["c"]));
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);

    // A new default alone moves nobody.
    plane.change_master(master.id, ChangeMaster { default_namespace: Some("b".to_owned()), ..to_change() }).await;
    assert_eq!(plane.stored_key(replaced.key.id).await.default_namespace, "d");
}

fn to_create(namespaces: &[&str]) -> CreateMaster {
    CreateMaster { namespaces: Some(texts(namespaces)), ..CreateMaster::default() }
}

fn to_change() -> ChangeMaster {
    ChangeMaster { propagate_to_keys: true, ..ChangeMaster::default() }
}

pub(crate) async fn ten_thousand_keys_follow_in_one_change(plane: Plane) {
    let master = plane.master_of_abc().await;
    plane.key(master.id).await;
    plane
        .sql(
            "INSERT INTO child_keys (master_id, name, token_digest, prefix, \"group\", scopes, default_namespace, \
             namespaces, status, issued_at_epoch, issued_by, allow_ips, deny_ips, model_limits_enabled, model_limits, \
             quota_reset, global_qps, quota_used, request_count, used_tokens, created_at, updated_at) \
             WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 9999) \
             SELECT master_id, name, substr(token_digest, 1, 54) || (1000000000 + n), prefix, \"group\", scopes, \
             default_namespace, namespaces, status, issued_at_epoch, issued_by, allow_ips, deny_ips, \
             model_limits_enabled, model_limits, quota_reset, global_qps, quota_used, request_count, used_tokens, \
             created_at, updated_at FROM child_keys, numbers",
        )
        .await;
    assert_eq!(child_keys::count_by_master(plane.control.store(), master.id).await.unwrap(), 10_000);
    plane.publish().await;

    let started = Instant::now();
    let write = plane.write().await;
    let (_, references) = conflict(masters::update(&write, master.id, to(&["b"], "b", false)).await);
    assert_eq!(references.len(), 100);
    drop(write);
    plane.change_master(master.id, to(&["b"], "b", true)).await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(plane.outbox_depth().await, 1 + 20, "an entry names up to 500 keys");
    let keys = child_keys::list_by_master(plane.control.store(), master.id, 20_000).await.unwrap();
    assert!(keys.iter().all(|key| key.default_namespace == "b" && key.namespaces == ["b"]));
    let audited = audit::list(plane.control.store(), None, 20_000).await.unwrap();
    assert_eq!(audited.iter().filter(|entry| entry.entry.action == "propagate_access").count(), 10_000);
}
