//! Deleting what others refer to.

use ez_control::{Tenant, api_keys, bindings, child_keys, masters, namespaces, provider_groups};

use crate::support::{Plane, assert_not_found, conflict, model_of};

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
