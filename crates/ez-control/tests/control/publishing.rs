//! From a commit to the shared state.

use std::time::Duration;

use ez_contract::secret::SecretPlace;
use ez_contract::snapshot::{
    BindingSnapshot, CandidateError, MasterSnapshot, SnapshotEntry, SnapshotKey, TokenSnapshot,
};
use ez_contract::status::{ApiKeyStatus, KeyStatus, RecordStatus};
use ez_control::api_keys::ChangeApiKey;
use ez_control::bindings::ChangeBinding;
use ez_control::child_keys::ChangeChildKey;
use ez_control::credentials::MasterKey;
use ez_control::masters::ChangeMaster;
use ez_control::namespaces::ChangeNamespace;
use ez_control::provider_groups::ChangeProviderGroup;
use ez_control::publisher::{publish_due, reconcile};
use ez_control::scheduler::{FULL_RECONCILE, SYNC_OUTBOX, Scheduler};
use ez_control::{Actor, Control, ControlConfig, Tenant};
use ez_control::{api_keys, bindings, child_keys, masters, namespaces, provider_groups, sync};
use ez_store::{RecordKind, outbox};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{Plane, config, origin, secret_key, token_of};

impl Plane {
    pub(crate) async fn publish(&self) -> usize {
        publish_due(&self.control).await.unwrap()
    }

    async fn published_binding(&self) -> BindingSnapshot {
        match self.published(&SnapshotKey::Binding("default.m".to_owned())).await {
            Some(SnapshotEntry::Binding(binding)) => binding,
            other => panic!("no binding: {other:?}"),
        }
    }

    async fn published_master(&self, id: i64) -> MasterSnapshot {
        match self.published(&SnapshotKey::Master(id)).await {
            Some(SnapshotEntry::Master(master)) => master,
            other => panic!("no master: {other:?}"),
        }
    }

    async fn published_token(&self, key: &SnapshotKey) -> TokenSnapshot {
        match self.published(key).await {
            Some(SnapshotEntry::Token(_, token)) => token,
            other => panic!("no token: {other:?}"),
        }
    }

    pub(crate) async fn change_api_key(&self, id: i64, change: ChangeApiKey) {
        let write = self.write().await;
        api_keys::update(&write, id, change).await.unwrap();
        write.commit().await.unwrap();
    }

    async fn change_group(&self, id: i64, change: ChangeProviderGroup) {
        let write = self.write().await;
        provider_groups::update(&write, id, change).await.unwrap();
        write.commit().await.unwrap();
    }

    async fn rename_master(&self, id: i64, name: String) {
        let write = self.write().await;
        masters::update(&write, id, ChangeMaster { name: Some(name), ..ChangeMaster::default() }).await.unwrap();
        write.commit().await.unwrap();
    }
}

/// What a gateway decides with: alive unless below the epoch.
fn is_alive(token: &TokenSnapshot, master: &MasterSnapshot) -> bool {
    token.status == KeyStatus::Active && token.issued_at_epoch >= master.epoch
}

pub(crate) async fn what_a_gateway_needs_is_published(plane: Plane) {
    let group = plane.group("openai").await;
    let api_key = plane.api_key(group.id).await;
    plane.binding(group.id).await;
    let master = plane.master("acme").await.master;
    let issued = plane.key(master.id).await;
    assert_eq!(plane.publish().await, 5);
    assert_eq!(plane.outbox_depth().await, 0);

    let Some(SnapshotEntry::Provider(provider)) = plane.published(&SnapshotKey::Provider(api_key.id)).await else {
        panic!("no provider");
    };
    assert_eq!(provider.name, format!("openai#{}", api_key.id));
    let place = SecretPlace::api_key(provider.uuid.unwrap(), "api_key");
    assert_eq!(secret_key().open(&provider.api_key, place).unwrap(), "sk-upstream");
    let binding = plane.published_binding().await;
    assert_eq!(binding.candidates[0].upstreams[&api_key.id], "m");
    assert_eq!(plane.published_master(master.id).await.name, "acme");
    let token = plane.published_token(&token_of(&issued)).await;
    assert_eq!((token.id, token.master_id, token.status), (issued.key.id, master.id, KeyStatus::Active));

    let version = plane.version().await;
    assert_eq!(plane.publish().await, 0);
    assert_eq!(plane.version().await, version, "nothing due, nothing published");
}

pub(crate) async fn the_newest_state_wins_and_deletion_removes(plane: Plane) {
    let master = plane.master("one").await.master;
    let issued = plane.key(master.id).await;
    plane.publish().await;
    let version = plane.version().await;
    plane.rename_master(master.id, "two".to_owned()).await;
    plane.rename_master(master.id, "three".to_owned()).await;
    assert_eq!(plane.publish().await, 2);
    assert_eq!(plane.published_master(master.id).await.name, "three");
    assert_eq!(plane.version().await, version + 1, "a batch is one publication");

    let write = plane.write().await;
    masters::delete(&write, master.id, true).await.unwrap();
    write.commit().await.unwrap();
    plane.publish().await;
    assert_eq!(plane.published(&SnapshotKey::Master(master.id)).await, None);
    assert_eq!(plane.published(&token_of(&issued)).await, None);
}

pub(crate) async fn revoking_and_suspending_reach_the_snapshot(plane: Plane) {
    let master = plane.master("acme").await.master;
    let (old, suspended) = (plane.key(master.id).await, plane.key(master.id).await);
    plane.publish().await;

    let write = plane.write().await;
    masters::revoke_keys(&write, master.id).await.unwrap();
    write.commit().await.unwrap();
    let new = plane.key(master.id).await;
    plane.publish().await;
    let snapshot = plane.published_master(master.id).await;
    assert_eq!(snapshot.epoch, 2);
    assert!(!is_alive(&plane.published_token(&token_of(&old)).await, &snapshot));
    assert!(is_alive(&plane.published_token(&token_of(&new)).await, &snapshot));

    let write = plane.write().await;
    let change = ChangeChildKey { status: Some(KeyStatus::Suspended), ..ChangeChildKey::default() };
    child_keys::update(&write, Tenant::Any, suspended.key.id, change).await.unwrap();
    let change = ChangeMaster { status: Some(RecordStatus::Suspended), ..ChangeMaster::default() };
    masters::update(&write, master.id, change).await.unwrap();
    write.commit().await.unwrap();
    plane.publish().await;
    assert_eq!(plane.published_token(&token_of(&suspended)).await.status, KeyStatus::Suspended);
    assert_eq!(plane.published_master(master.id).await.status, RecordStatus::Suspended);
}

pub(crate) async fn rotating_a_master_key_keeps_the_keys_that_were_alive(plane: Plane) {
    let master = plane.master("acme").await.master;
    let dead = plane.key(master.id).await;
    let write = plane.write().await;
    masters::revoke_keys(&write, master.id).await.unwrap();
    write.commit().await.unwrap();
    let alive = plane.key(master.id).await;

    let rotate = async |revoke_keys| {
        let key = MasterKey::generate().await.unwrap();
        let write = plane.write().await;
        let rotated = masters::rotate_key(&write, master.id, key, revoke_keys).await.unwrap();
        write.commit().await.unwrap();
        rotated
    };
    let rotated = rotate(false).await;
    assert_eq!(rotated.master.epoch, 2);
    assert_ne!(rotated.master.key_digest, master.key_digest);
    // Whatever of it is published first, no key is touched by it.
    let due = outbox::list_due(plane.control.store(), plane.control.now(), 100).await.unwrap();
    assert_eq!(due.last().unwrap().kind, RecordKind::Master);
    assert_eq!(due.iter().filter(|entry| entry.kind == RecordKind::Key).count(), 2, "issuing them");
    plane.publish().await;
    let snapshot = plane.published_master(master.id).await;
    assert!(is_alive(&plane.published_token(&token_of(&alive)).await, &snapshot));
    assert!(!is_alive(&plane.published_token(&token_of(&dead)).await, &snapshot));

    assert_eq!(rotate(true).await.master.epoch, 3);
    plane.publish().await;
    let snapshot = plane.published_master(master.id).await;
    assert!(!is_alive(&plane.published_token(&token_of(&alive)).await, &snapshot));
}

pub(crate) async fn a_change_recompiles_the_bindings_that_it_touches(plane: Plane) {
    let (first, second) = (plane.group("first").await, plane.group("second").await);
    let api_key = plane.api_key(first.id).await;
    plane.binding(first.id).await;
    plane.binding(second.id).await;
    // The error and the number of upstreams of each candidate, first group first.
    let candidates = async || {
        plane.publish().await;
        let candidates = plane.published_binding().await.candidates;
        candidates.iter().map(|candidate| (candidate.error, candidate.upstreams.len())).collect::<Vec<_>>()
    };
    let none = (Some(CandidateError::NoProvider), 0);
    assert_eq!(candidates().await, [(None, 1), none]);

    let move_it = ChangeApiKey { group_id: Some(second.id), ..ChangeApiKey::default() };
    plane.change_api_key(api_key.id, move_it).await;
    assert_eq!(candidates().await, [none, (None, 1)]);

    let suspend = ChangeApiKey { status: Some(ApiKeyStatus::Suspended), ..ChangeApiKey::default() };
    plane.change_api_key(api_key.id, suspend).await;
    assert_eq!(candidates().await, [none, none]);
    let activate = ChangeApiKey { status: Some(ApiKeyStatus::Active), ..ChangeApiKey::default() };
    plane.change_api_key(api_key.id, activate).await;

    let models = |models: &[&str]| {
        let models = models.iter().map(|model| (*model).to_owned()).collect();
        ChangeProviderGroup { models: Some(models), ..ChangeProviderGroup::default() }
    };
    plane.change_group(second.id, models(&["other"])).await;
    assert_eq!(candidates().await, [none, (Some(CandidateError::ConfigError), 0)]);
    plane.change_group(second.id, models(&["m"])).await;
    assert_eq!(candidates().await, [none, (None, 1)]);

    let suspend = ChangeProviderGroup { status: Some(RecordStatus::Suspended), ..ChangeProviderGroup::default() };
    plane.change_group(second.id, suspend).await;
    assert_eq!(candidates().await, [none, none]);
    let Some(SnapshotEntry::Provider(provider)) = plane.published(&SnapshotKey::Provider(api_key.id)).await else {
        panic!("no provider");
    };
    assert_eq!(provider.status, ApiKeyStatus::Suspended);

    let write = plane.write().await;
    let change = ChangeNamespace { status: Some(RecordStatus::Suspended), ..ChangeNamespace::default() };
    namespaces::update(&write, 1, change).await.unwrap();
    write.commit().await.unwrap();
    plane.publish().await;
    assert_eq!(plane.published_binding().await.status, RecordStatus::Suspended);

    let write = plane.write().await;
    api_keys::delete(&write, api_key.id).await.unwrap();
    provider_groups::delete(&write, first.id, true).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(candidates().await, [none]);
    assert_eq!(plane.published(&SnapshotKey::Provider(api_key.id)).await, None);
    let report = reconcile(&plane.control).await.unwrap();
    assert_eq!(report.repaired, [], "nothing was forgotten");
}

pub(crate) async fn an_api_key_that_leaves_is_missed_where_it_was(plane: Plane) {
    let (first, second) = (plane.group("first").await, plane.group("second").await);
    let (moved, deleted) = (plane.api_key(first.id).await, plane.api_key(first.id).await);
    plane.binding(first.id).await;
    plane.publish().await;
    assert_eq!(plane.published_binding().await.candidates[0].upstreams.len(), 2);

    let move_it = ChangeApiKey { group_id: Some(second.id), ..ChangeApiKey::default() };
    plane.change_api_key(moved.id, move_it).await;
    plane.publish().await;
    let upstreams = plane.published_binding().await.candidates.remove(0).upstreams;
    assert_eq!(upstreams.into_keys().collect::<Vec<_>>(), [deleted.id]);

    let write = plane.write().await;
    api_keys::delete(&write, deleted.id).await.unwrap();
    write.commit().await.unwrap();
    plane.publish().await;
    assert_eq!(plane.published_binding().await.candidates[0].error, Some(CandidateError::NoProvider));
}

pub(crate) async fn a_binding_that_moves_leaves_its_old_place(plane: Plane) {
    let group = plane.group("openai").await;
    let binding = plane.binding(group.id).await;
    plane.publish().await;
    let write = plane.write().await;
    let change = ChangeBinding { public_model: Some("gpt-4.1".to_owned()), ..ChangeBinding::default() };
    bindings::update(&write, binding.id, change).await.unwrap();
    write.commit().await.unwrap();
    plane.publish().await;
    assert_eq!(plane.published(&SnapshotKey::Binding("default.m".to_owned())).await, None);
    assert!(plane.published(&SnapshotKey::Binding("default.gpt-4.1".to_owned())).await.is_some());

    let write = plane.write().await;
    bindings::delete(&write, binding.id).await.unwrap();
    write.commit().await.unwrap();
    plane.publish().await;
    assert_eq!(plane.published(&SnapshotKey::Binding("default.gpt-4.1".to_owned())).await, None);
}

pub(crate) async fn a_batch_limit_leaves_nothing_behind(plane: Plane) {
    let config = ControlConfig { outbox_batch_size: 2, ..config() };
    let (control, _) = Control::prepare(plane.parts_of_another(config).await).await.unwrap();
    for name in ["a", "b", "c", "d", "e"] {
        plane.group(name).await;
    }
    publish_due(&control).await.unwrap();
    for name in ["f", "g", "h", "i", "j"] {
        plane.group(name).await;
    }
    assert_eq!(publish_due(&control).await.unwrap(), 5);
    assert_eq!(plane.outbox_depth().await, 0);
}

pub(crate) async fn a_commit_wakes_the_publisher_and_shutdown_flushes(plane: Plane) {
    let long = Duration::from_secs(3600);
    let job_intervals = [(SYNC_OUTBOX, long), (FULL_RECONCILE, long)].into();
    let config = ControlConfig { job_intervals, ..config() };
    let (control, _) = Control::prepare(plane.parts_of_another(config).await).await.unwrap();
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    running.spawn(Scheduler::new(control.clone()).run(stop.clone()));

    let write = control.write(Actor::admin(origin())).await.unwrap();
    let key = MasterKey::generate().await.unwrap();
    let new = masters::CreateMaster { name: "acme".to_owned(), ..masters::CreateMaster::default() };
    let master = masters::create(&write, new, key).await.unwrap().master;
    write.commit().await.unwrap();
    let is_published_and_compared = async || {
        while plane.published(&SnapshotKey::Master(master.id)).await.is_none()
            || sync::status(&control).await.unwrap().last_reconcile.is_none()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waiting = tokio::time::timeout(Duration::from_secs(5), is_published_and_compared());
    waiting.await.expect("the commit wakes the publisher");

    // Committed by another control plane, so that nothing wakes this one once it has come to rest: shutdown takes it
    // along.
    tokio::time::sleep(Duration::from_millis(200)).await;
    plane.rename_master(master.id, "renamed".to_owned()).await;
    stop.cancel();
    running.join_next().await.unwrap().unwrap();
    assert_eq!(plane.published_master(master.id).await.name, "renamed");
}

pub(crate) async fn two_publishers_publish_once(plane: Plane) {
    let other = plane.another().await;
    plane.master("acme").await;
    plane.publish().await;
    let mut version = plane.version().await;
    for round in 0..20 {
        plane.group(&format!("group-{round}")).await;
        let master = plane.master(&format!("master-{round}")).await.master;
        let (here, there) = tokio::join!(publish_due(&plane.control), publish_due(&other));
        assert_eq!(here.unwrap() + there.unwrap(), 2, "each entry is published by one of them");
        version += 1;
        assert_eq!(plane.version().await, version);
        plane.published_master(master.id).await;
    }
}

pub(crate) async fn two_publishers_never_publish_an_older_state_over_a_newer_one(plane: Plane) {
    const CHANGES: u32 = 60;
    let other = plane.another().await;
    let master = plane.master("0").await.master;
    plane.publish().await;

    let done = CancellationToken::new();
    let mut publishers = JoinSet::new();
    for control in [plane.control.clone(), plane.control.clone(), other.clone(), other] {
        let done = done.clone();
        publishers.spawn(async move {
            while !done.is_cancelled() {
                publish_due(&control).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
    }
    // Neither runs far ahead of the other, so that the watcher sees the states on their way.
    let (seen, mut is_seen) = watch::channel(0);
    let watching = async {
        while *seen.borrow() < CHANGES {
            let number: u32 = plane.published_master(master.id).await.name.parse().unwrap();
            let last = seen.send_replace(number);
            assert!(number >= last, "{number} was published over {last}");
            tokio::task::yield_now().await;
        }
    };
    let changing = async {
        for number in 1..=CHANGES {
            plane.rename_master(master.id, number.to_string()).await;
            is_seen.wait_for(|seen| seen + 5 >= number).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(watching, changing) }).await.unwrap();
    done.cancel();
    while let Some(ended) = publishers.join_next().await {
        ended.unwrap();
    }
    assert_eq!(plane.outbox_depth().await, 0);
}
