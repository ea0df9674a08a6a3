//! Deleting what others refer to.

use ez_contract::selector::SelectorType;
use ez_contract::snapshot::{SnapshotEntry, SnapshotKey};
use ez_contract::status::RecordStatus;
use ez_control::child_keys::CreateChildKey;
use ez_control::publisher::{publish_due, reconcile};
use ez_control::{Tenant, api_keys, audit, bindings, child_keys, masters, namespaces, provider_groups};
use ez_store::bindings::NewBinding;
use ez_store::{RecordKind, outbox};
use serde_json::json;

use crate::support::{Plane, assert_not_found, conflict, model_of, token_of};

pub(crate) async fn what_is_referred_to_goes_with_what_refers_or_stays(plane: Plane) {
    let group = plane.group("openai").await;
    let api_key = plane.api_key(group.id).await;
    let binding = plane.binding(group.id).await;
    let write = plane.write().await;
    let (message, references) = conflict(provider_groups::delete(&write, group.id, false).await);
    assert!(message.contains("cascade=true"), "{message}");
    assert_eq!(
        references,
        [format!("API key {} (no name)", api_key.id), format!("binding {} (default.m)", binding.id)]
    );
    drop(write);

    let master = plane.master("acme").await.master;
    let key = plane.key(master.id).await.key;
    let write = plane.write().await;
    let (_, references) = conflict(masters::delete(&write, master.id, false).await);
    assert_eq!(references, [format!("child key {} ({})", key.id, key.prefix)]);
    drop(write);

    let write = plane.write().await;
    provider_groups::delete(&write, group.id, true).await.unwrap();
    masters::delete(&write, master.id, true).await.unwrap();
    write.commit().await.unwrap();
    assert_not_found(provider_groups::get(&plane.control, group.id).await);
    assert_not_found(api_keys::get(&plane.control, api_key.id).await);
    assert_not_found(bindings::get(&plane.control, binding.id).await);
    assert_not_found(masters::get(&plane.control, master.id).await);
    assert_not_found(child_keys::get(&plane.control, Tenant::Any, key.id).await);

    let write = plane.write().await;
    assert_not_found(provider_groups::delete(&write, group.id, true).await);
    assert_not_found(masters::delete(&write, master.id, true).await);
    assert_not_found(bindings::delete(&write, binding.id).await);
    assert_not_found(api_keys::delete(&write, api_key.id).await);
}

pub(crate) async fn a_namespace_that_someone_may_use_stays(plane: Plane) {
    let team = plane.namespace("team").await;
    let asked = masters::CreateMaster {
        name: "acme".to_owned(),
        default_namespace: Some("team".to_owned()),
        ..Default::default()
    };
    let master = plane.try_master(asked).await.unwrap().master;
    let key = plane.key(master.id).await.key;
    let group = plane.group("openai").await;
    let mut new = model_of(group.id);
    new.namespace = "team".to_owned();
    let binding = plane.try_binding(new).await.unwrap();

    let write = plane.write().await;
    let (_, references) = conflict(namespaces::delete(&write, team.id, true).await);
    assert_eq!(references, [format!("master {} (acme)", master.id), format!("child key {} ({})", key.id, key.prefix)]);
    masters::delete(&write, master.id, true).await.unwrap();
    let (_, references) = conflict(namespaces::delete(&write, team.id, false).await);
    assert_eq!(references, [format!("binding {} (team.m)", binding.id)]);
    namespaces::delete(&write, team.id, true).await.unwrap();
    write.commit().await.unwrap();
    assert_not_found(namespaces::get(&plane.control, team.id).await);
    assert_not_found(bindings::get(&plane.control, binding.id).await);

    let write = plane.write().await;
    let (message, _) = conflict(namespaces::delete(&write, 1, true).await);
    assert!(message.contains("`default` cannot be deleted"), "{message}");
}

pub(crate) async fn a_master_goes_at_once_with_all_its_keys(plane: Plane) {
    const KEYS: usize = 1100;
    let master = plane.master("acme").await.master;
    let write = plane.write().await;
    let first = child_keys::create(&write, master.id, CreateChildKey::default()).await.unwrap();
    for _ in 1..KEYS {
        child_keys::create(&write, master.id, CreateChildKey::default()).await.unwrap();
    }
    write.commit().await.unwrap();
    publish_due(&plane.control).await.unwrap();

    let write = plane.write().await;
    masters::delete(&write, master.id, true).await.unwrap();
    write.commit().await.unwrap();
    let due = outbox::list_due(plane.control.store(), plane.control.now(), 100).await.unwrap();
    let kinds: Vec<_> = due.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [RecordKind::Master, RecordKind::Key, RecordKind::Key, RecordKind::Key], "the master first");
    let audited = audit::list(&plane.control, None, 1).await.unwrap().items.remove(0).entry;
    assert_eq!((audited.action.as_str(), audited.record_kind), ("delete", RecordKind::Master));
    assert_eq!(audited.before.unwrap()["deleted_with"]["key"], KEYS);

    publish_due(&plane.control).await.unwrap();
    assert_eq!(plane.published(&token_of(&first)).await, None);
    let image = plane.control.state().read_snapshot().await.unwrap();
    let is_left = |entry: &&SnapshotEntry| !matches!(entry, SnapshotEntry::Feature(..));
    assert_eq!(image.entries.iter().find(is_left), None, "nothing is left of it");
}

pub(crate) async fn a_refusal_reads_no_more_keys_than_it_names(plane: Plane) {
    const KEYS: usize = 120;
    let (team, other) = (plane.namespace("team").await, plane.namespace("other").await);
    let asked = masters::CreateMaster {
        name: "acme".to_owned(),
        namespaces: Some(vec![team.name.clone()]),
        default_namespace: Some(team.name.clone()),
        ..Default::default()
    };
    let master = plane.try_master(asked).await.unwrap().master;
    let write = plane.write().await;
    for _ in 0..KEYS {
        child_keys::create(&write, master.id, CreateChildKey::default()).await.unwrap();
    }
    write.commit().await.unwrap();
    // Whoever reads this one fails.
    plane.sql("UPDATE child_keys SET status = 'damaged' WHERE id = (SELECT max(id) FROM child_keys)").await;

    let write = plane.write().await;
    let (message, references) = conflict(masters::delete(&write, master.id, false).await);
    assert!(message.contains("120 child keys"), "{message}");
    assert_eq!(references.len(), 100);
    let (_, references) = conflict(namespaces::delete(&write, team.id, true).await);
    assert_eq!(references.len(), 100);
    // And a master that is given another namespace needs none of its keys to be read.
    let wider =
        masters::ChangeMaster { namespaces: Some(vec![team.name, other.name]), ..masters::ChangeMaster::default() };
    assert_eq!(masters::update(&write, master.id, wider).await.unwrap().namespaces.len(), 2);
}

pub(crate) async fn a_group_or_namespace_goes_at_once_with_all_that_is_bound(plane: Plane) {
    const BINDINGS: usize = 2000;
    let (group, other) = (plane.group("openai").await, plane.group("other").await);
    let api_key = plane.api_key(group.id).await;
    let team = plane.namespace("team").await;
    let fill = async |namespace: &str| {
        let tx = plane.control.store().begin().await.unwrap();
        for number in 0..BINDINGS {
            let binding = NewBinding {
                namespace: namespace.to_owned(),
                public_model: format!("m{number}"),
                group_id: group.id,
                weight: 1,
                priority: 0,
                on_client_gone: None,
                selector_type: SelectorType::Exact,
                selector_value: "m".to_owned(),
                status: RecordStatus::Active,
                created_at: plane.control.now(),
            };
            ez_store::bindings::create(&tx, &binding).await.unwrap();
        }
        tx.commit().await.unwrap();
        reconcile(&plane.control).await.unwrap();
    };
    let due = async || {
        let due = outbox::list_due(plane.control.store(), plane.control.now(), 100).await.unwrap();
        due.iter().map(|entry| entry.kind).collect::<Vec<_>>()
    };
    let deleted_with = async || {
        let audited = audit::list(&plane.control, None, 1).await.unwrap().items.remove(0).entry;
        assert_eq!(audited.action, "delete");
        audited.before.unwrap()["deleted_with"].clone()
    };
    fill("team").await;
    let write = plane.write().await;
    namespaces::delete(&write, team.id, true).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(due().await, [vec![RecordKind::Namespace], vec![RecordKind::Binding; 8]].concat());
    assert_eq!(deleted_with().await, json!({ "binding": BINDINGS }));
    publish_due(&plane.control).await.unwrap();
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);

    fill("default").await;
    let mut shared = model_of(other.id);
    shared.public_model = "m7".to_owned();
    plane.try_binding(shared).await.unwrap();
    publish_due(&plane.control).await.unwrap();
    let write = plane.write().await;
    provider_groups::delete(&write, group.id, true).await.unwrap();
    write.commit().await.unwrap();
    let kinds = [vec![RecordKind::ProviderGroup, RecordKind::ApiKey], vec![RecordKind::Binding; 8]].concat();
    assert_eq!(due().await, kinds);
    assert_eq!(deleted_with().await, json!({ "api_key": 1, "binding": BINDINGS }));
    publish_due(&plane.control).await.unwrap();
    assert_eq!(plane.published(&SnapshotKey::Provider(api_key.id)).await, None);
    let image = plane.control.state().read_snapshot().await.unwrap();
    let left = image.entries.iter().map(SnapshotEntry::key);
    let left: Vec<_> = left.filter(|key| !matches!(key, SnapshotKey::Feature(_))).collect();
    assert_eq!(left, [SnapshotKey::Binding("default.m7".to_owned())], "another group serves it");
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);
}
