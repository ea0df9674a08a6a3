//! Limits and budgets of masters and child keys.

use ez_contract::snapshot::{Limits, MasterSnapshot, SnapshotEntry, SnapshotKey, TokenSnapshot};
use ez_control::child_keys::{ChangeChildKey, CreateChildKey};
use ez_control::limits::{LimitChange, MAX_COUNT};
use ez_control::masters::{ChangeMaster, CreateMaster};
use ez_control::{Tenant, child_keys, masters};

use crate::support::{Plane, faults, pointers, token_of};

impl Plane {
    pub(crate) async fn master_entry(&self, id: i64) -> MasterSnapshot {
        match self.published(&SnapshotKey::Master(id)).await {
            Some(SnapshotEntry::Master(master)) => master,
            other => panic!("no master: {other:?}"),
        }
    }

    pub(crate) async fn token_entry(&self, key: &SnapshotKey) -> Option<TokenSnapshot> {
        match self.published(key).await {
            Some(SnapshotEntry::Token(_, token)) => Some(token),
            Some(other) => panic!("no token: {other:?}"),
            None => None,
        }
    }
}

fn all_limits() -> LimitChange {
    LimitChange {
        global_qps: Some(10),
        rpm: Some(Some(600)),
        tpm: Some(Some(100_000)),
        rpd: Some(Some(1000)),
        tpd: Some(Some(MAX_COUNT)),
        max_concurrency: Some(Some(8)),
    }
}

fn no_limits() -> LimitChange {
    LimitChange {
        global_qps: Some(0),
        rpm: Some(None),
        tpm: Some(None),
        rpd: Some(None),
        tpd: Some(None),
        max_concurrency: Some(None),
    }
}

pub(crate) async fn limits_are_kept_published_and_cleared(plane: Plane) {
    let expected = Limits {
        qps: Some(10),
        rpm: Some(600),
        tpm: Some(100_000),
        rpd: Some(1000),
        tpd: Some(MAX_COUNT),
        concurrency: Some(8),
    };
    let asked = CreateMaster {
        name: "acme".to_owned(),
        limits: all_limits(),
        monthly_budget: Some("0250.5".to_owned()),
        ..CreateMaster::default()
    };
    let master = plane.try_master(asked).await.unwrap().master;
    assert_eq!(masters::get(&plane.control, master.id).await.unwrap(), master);
    let asked = CreateChildKey { limits: all_limits(), ..CreateChildKey::default() };
    let issued = plane.try_key(master.id, asked).await.unwrap();
    let of_key = child_keys::get(&plane.control, Tenant::Any, issued.key.id).await.unwrap();
    assert_eq!((of_key.global_qps, of_key.rpm, of_key.tpd), (10, Some(600), Some(MAX_COUNT)));
    plane.publish().await;
    let published = plane.master_entry(master.id).await;
    assert_eq!((published.limits, published.monthly_budget.as_deref()), (expected.clone(), Some("250.50")));
    assert_eq!(plane.token_entry(&token_of(&issued)).await.unwrap().limits, expected);

    // What a change does not name stays.
    let one = LimitChange { rpm: Some(Some(0)), ..LimitChange::default() };
    let write = plane.write().await;
    let changed = masters::update(&write, master.id, ChangeMaster { limits: one, ..ChangeMaster::default() });
    let changed = changed.await.unwrap();
    assert_eq!((changed.rpm, changed.tpm, changed.global_qps), (Some(0), Some(100_000), 10));
    assert_eq!(changed.monthly_budget.as_deref(), Some("250.50"));
    let change = ChangeChildKey { limits: one, ..ChangeChildKey::default() };
    let changed = child_keys::update(&write, Tenant::Any, issued.key.id, change).await.unwrap();
    assert_eq!((changed.rpm, changed.max_concurrency), (Some(0), Some(8)));

    let cleared = ChangeMaster { limits: no_limits(), monthly_budget: Some(None), ..ChangeMaster::default() };
    masters::update(&write, master.id, cleared).await.unwrap();
    let cleared = ChangeChildKey { limits: no_limits(), ..ChangeChildKey::default() };
    child_keys::update(&write, Tenant::Any, issued.key.id, cleared).await.unwrap();
    write.commit().await.unwrap();
    plane.publish().await;
    let published = plane.master_entry(master.id).await;
    assert_eq!((published.limits, published.monthly_budget), (Limits::default(), None));
    assert_eq!(plane.token_entry(&token_of(&issued)).await.unwrap().limits, Limits::default());
}

pub(crate) async fn limits_that_cannot_be_kept_are_refused(plane: Plane) {
    let beyond = Some(Some(MAX_COUNT + 1));
    let limits = LimitChange { rpm: beyond, tpm: beyond, rpd: beyond, tpd: beyond, ..LimitChange::default() };
    let asked = CreateMaster {
        name: "acme".to_owned(),
        limits,
        monthly_budget: Some("-1".to_owned()),
        ..CreateMaster::default()
    };
    let told = faults(plane.try_master(asked).await);
    assert_eq!(told[0], "/rpm: must be a whole number from 0 to 9223372036854775807");
    assert!(told[4].starts_with("/monthly_budget: must be an amount of US dollars"), "{told:?}");
    assert_eq!(told.len(), 5);

    let master = plane.master("acme").await.master;
    let asked = CreateChildKey { limits, quota_limit: Some(u64::MAX), ..CreateChildKey::default() };
    assert_eq!(pointers(plane.try_key(master.id, asked).await), ["/rpm", "/tpm", "/rpd", "/tpd", "/quota_limit"]);
    let key = plane.key(master.id).await.key;
    let write = plane.write().await;
    let change =
        ChangeChildKey { quota_limit: beyond, name: Some(Some("\t".to_owned())), limits, ..ChangeChildKey::default() };
    let told = pointers(child_keys::update(&write, Tenant::Any, key.id, change).await);
    assert_eq!(told, ["/name", "/quota_limit", "/rpm", "/tpm", "/rpd", "/tpd"]);
    let change = ChangeMaster { limits, monthly_budget: Some(Some("1e9".to_owned())), ..ChangeMaster::default() };
    let told = pointers(masters::update(&write, master.id, change).await);
    assert_eq!(told, ["/rpm", "/tpm", "/rpd", "/tpd", "/monthly_budget"]);
}
