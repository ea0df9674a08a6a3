//! What the schema refuses, and that the refusal says why.

use ez_contract::TokenDigest;
use ez_store::{Backend, Conflict, ConflictKind, StoreError};
use ez_store::{api_keys, bindings, child_keys, masters, namespaces, provider_groups};

use crate::fixture::{
    Fixture, new_api_key, new_binding, new_child_key, new_master, new_namespace, new_provider_group, texts,
};

fn conflict(error: StoreError) -> Conflict {
    match error {
        StoreError::Conflict(conflict) => conflict,
        other => panic!("not a conflict: {other:?}"),
    }
}

fn assert_duplicate(error: StoreError, table: &'static str, fields: &[&str]) {
    let expected = Conflict { kind: ConflictKind::Duplicate, table, fields: texts(fields) };
    assert_eq!(conflict(error), expected);
}

pub(crate) async fn duplicates_name_the_fields_of_the_rule(db: Fixture) {
    let master = db.master("acme").await;
    let mut other = new_master("acme");
    other.key_digest = None;
    let refusal = db.refusal(async |tx| masters::create(tx, &other).await).await;
    assert_eq!(refusal.to_string(), "another row of masters has the same name");
    assert_duplicate(refusal, "masters", &["name"]);
    let mut other = new_master("other");
    other.key_digest = master.key_digest;
    let refusal = db.refusal(async |tx| masters::create(tx, &other).await).await;
    assert_duplicate(refusal, "masters", &["key_digest"]);
    let mut other = db.master("another").await;
    other.name = "acme".to_owned();
    let refusal = db.refusal(async |tx| masters::update(tx, &other).await).await;
    assert_duplicate(refusal, "masters", &["name"]);

    let key = db.child_key(master.id, "sk-1").await;
    let refusal = db.refusal(async |tx| child_keys::create(tx, &new_child_key(master.id, "sk-1")).await).await;
    assert_duplicate(refusal, "child_keys", &["token_digest"]);
    let mut rotated = key;
    rotated.previous_digest = Some(TokenDigest::of("sk-0"));
    db.commit(async |tx| child_keys::update(tx, &rotated).await).await;
    let mut new = new_child_key(master.id, "sk-2");
    new.previous_digest = rotated.previous_digest;
    let refusal = db.refusal(async |tx| child_keys::create(tx, &new).await).await;
    assert_duplicate(refusal, "child_keys", &["previous_digest"]);

    let refusal = db.refusal(async |tx| namespaces::create(tx, &new_namespace("default")).await).await;
    assert_duplicate(refusal, "namespaces", &["name"]);

    let group = db.provider_group("pg1").await;
    let refusal = db.refusal(async |tx| provider_groups::create(tx, &new_provider_group("pg1")).await).await;
    assert_duplicate(refusal, "provider_groups", &["name"]);

    let mut new = new_api_key(group.id, "two");
    new.uuid = db.api_key(group.id, "one").await.uuid;
    let refusal = db.refusal(async |tx| api_keys::create(tx, &new).await).await;
    assert_duplicate(refusal, "api_keys", &["uuid"]);

    let binding = new_binding("default", "gpt-4.1", group.id);
    db.commit(async |tx| bindings::create(tx, &binding).await).await;
    let refusal = db.refusal(async |tx| bindings::create(tx, &binding).await).await;
    assert_duplicate(refusal, "bindings", &["namespace", "public_model", "group_id"]);
}

pub(crate) async fn missing_references_name_the_field(db: Fixture) {
    let missing =
        |table, field: &str| Conflict { kind: ConflictKind::MissingReference, table, fields: vec![field.to_owned()] };
    let refusal = db.refusal(async |tx| child_keys::create(tx, &new_child_key(404, "sk-1")).await).await;
    assert_eq!(conflict(refusal), missing("child_keys", "master_id"));
    let refusal = db.refusal(async |tx| api_keys::create(tx, &new_api_key(404, "one")).await).await;
    assert_eq!(conflict(refusal), missing("api_keys", "group_id"));

    let group = db.provider_group("pg1").await;
    let no_group = db.refusal(async |tx| bindings::create(tx, &new_binding("default", "m", 404)).await).await;
    let no_namespace = db.refusal(async |tx| bindings::create(tx, &new_binding("nope", "m", group.id)).await).await;
    let (no_group, no_namespace) = (conflict(no_group), conflict(no_namespace));
    if db.store.backend() == Backend::Postgres {
        assert_eq!(no_group, missing("bindings", "group_id"));
        assert_eq!(no_namespace, missing("bindings", "namespace"));
    } else {
        // SQLite does not say which.
        assert_eq!(no_group.fields, texts(&["namespace", "group_id"]));
        assert_eq!(no_namespace, no_group);
    }
}

pub(crate) async fn rows_in_use_name_who_refers_to_them(db: Fixture) {
    let in_use =
        |table, field: &str| Conflict { kind: ConflictKind::StillReferenced, table, fields: vec![field.to_owned()] };
    let master = db.master("acme").await;
    db.child_key(master.id, "sk-1").await;
    let refusal = db.refusal(async |tx| masters::delete(tx, master.id).await).await;
    assert_eq!(refusal.to_string(), "the row of masters is still referred to by child_keys.master_id");
    assert_eq!(conflict(refusal), in_use("masters", "child_keys.master_id"));

    let group = db.provider_group("pg1").await;
    let binding = new_binding("default", "m", group.id);
    let binding = db.commit(async |tx| bindings::create(tx, &binding).await).await;
    let default = namespaces::get_by_name(&db.store, "default").await.unwrap().unwrap();
    let refusal = db.refusal(async |tx| namespaces::delete(tx, default.id).await).await;
    assert_eq!(conflict(refusal), in_use("namespaces", "bindings.namespace"));
    let refusal = conflict(db.refusal(async |tx| provider_groups::delete(tx, group.id).await).await);
    assert!(refusal.fields.contains(&"bindings.group_id".to_owned()), "{refusal:?}");

    // Once nothing refers to them any more, they can go, in one transaction with what did.
    db.commit(async |tx| {
        bindings::delete(tx, binding.id).await?;
        provider_groups::delete(tx, group.id).await
    })
    .await;
}

pub(crate) async fn renaming_a_namespace_takes_its_bindings_along(db: Fixture) {
    let group = db.provider_group("pg1").await;
    let mut namespace = db.commit(async |tx| namespaces::create(tx, &new_namespace("old")).await).await;
    db.commit(async |tx| bindings::create(tx, &new_binding("old", "m", group.id)).await).await;
    namespace.name = "new".to_owned();
    db.commit(async |tx| namespaces::update(tx, &namespace).await).await;
    assert_eq!(bindings::list_by_model(&db.store, "new", "m").await.unwrap().len(), 1);
    assert_eq!(bindings::list_by_namespace(&db.store, "old").await.unwrap(), []);
}
