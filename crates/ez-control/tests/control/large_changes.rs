//! Changes that touch more than can be published at once.

use ez_contract::selector::SelectorType;
use ez_contract::snapshot::{SnapshotEntry, SnapshotKey};
use ez_contract::status::{ApiKeyStatus, RecordStatus};
use ez_control::api_keys::ChangeApiKey;
use ez_control::bindings::CreateBinding;
use ez_control::namespaces;
use ez_control::namespaces::ChangeNamespace;
use ez_control::publisher::reconcile;
use ez_state::SnapshotDelta;
use ez_store::bindings::NewBinding;

use crate::support::{Plane, model_of};

pub(crate) async fn a_change_too_large_for_one_publication_is_published_in_parts(plane: Plane) {
    const MODELS: usize = 2500;
    let (group, other) = (plane.group("openai").await, plane.group("other").await);
    let api_key = plane.api_key(group.id).await;
    let tx = plane.control.store().begin().await.unwrap();
    for number in 0..MODELS {
        let binding = NewBinding {
            namespace: "default".to_owned(),
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
    plane.try_binding(CreateBinding { public_model: "m7".to_owned(), ..model_of(other.id) }).await.unwrap();
    plane.publish().await;
    let report = reconcile(&plane.control).await.unwrap();
    assert_eq!(report.repairs, 0, "the first publication is everything");
    let version = plane.version().await;

    // The same models twice: by the namespace, and by the group.
    let suspend = ChangeNamespace { status: Some(RecordStatus::Suspended), ..ChangeNamespace::default() };
    let write = plane.write().await;
    namespaces::update(&write, 1, suspend).await.unwrap();
    write.commit().await.unwrap();
    let suspend = ChangeApiKey { status: Some(ApiKeyStatus::Suspended), ..ChangeApiKey::default() };
    plane.change_api_key(api_key.id, suspend).await;
    assert_eq!(plane.publish().await, 2);
    assert_eq!(plane.outbox_depth().await, 0);
    assert_eq!(plane.version().await, version + 10, "512 keys at once, a binding and a model each");
    let followed = plane.control.state().read_changes(version).await.unwrap();
    let SnapshotDelta::Changes { changes, .. } = followed else {
        panic!("readers need not read everything: {followed:?}")
    };
    assert_eq!(changes.len(), 2 * MODELS + 1);
    let image = plane.control.state().read_snapshot().await.unwrap();
    let bindings: Vec<_> = image
        .entries
        .iter()
        .filter_map(|entry| match entry {
            SnapshotEntry::Binding(binding) => Some(binding),
            _ => None,
        })
        .collect();
    assert_eq!(bindings.len(), MODELS);
    assert!(bindings.iter().all(|binding| binding.status == RecordStatus::Suspended));
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);

    // By the group alone: what other groups have of its models is part of them.
    let activate = ChangeApiKey { status: Some(ApiKeyStatus::Active), ..ChangeApiKey::default() };
    plane.change_api_key(api_key.id, activate).await;
    assert_eq!(plane.publish().await, 1);
    let Some(SnapshotEntry::Binding(shared)) = plane.published(&SnapshotKey::Binding("default.m7".to_owned())).await
    else {
        panic!("no binding");
    };
    assert_eq!(shared.candidates.len(), 2);
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);
}
