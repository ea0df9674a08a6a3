//! Rotation of child keys.

use std::time::Duration;

use ez_contract::TokenDigest;
use ez_contract::snapshot::SnapshotKey;
use ez_control::child_keys::{CreateChildKey, IssuedChildKey};
use ez_control::publisher::reconcile;
use ez_control::{Actor, ControlError, Tenant, audit, key_expiry, key_rotation, masters};
use secrecy::ExposeSecret;

use crate::support::{Plane, assert_not_found, conflict, origin, pointers, token_of};

impl Plane {
    async fn try_rotate(&self, id: i64, overlap: Duration) -> Result<IssuedChildKey, ControlError> {
        let write = self.write().await;
        let rotated = key_rotation::rotate(&write, Tenant::Any, id, overlap).await?;
        write.commit().await?;
        Ok(rotated)
    }

    async fn published_ends(&self, keys: &[&SnapshotKey]) -> Vec<Option<Option<i64>>> {
        let mut ends = Vec::new();
        for key in keys {
            ends.push(self.token_entry(key).await.map(|token| token.expires_at));
        }
        ends
    }
}

pub(crate) async fn old_and_new_token_work_until_the_overlap_ends(plane: Plane) {
    let master = plane.master("acme").await.master;
    let issued = plane.key(master.id).await;
    let old = token_of(&issued);
    plane.publish().await;
    assert_eq!(plane.published_ends(&[&old]).await, [Some(None)]);

    let rotated = plane.try_rotate(issued.key.id, Duration::from_secs(600)).await.unwrap();
    let new = token_of(&rotated);
    assert_eq!((rotated.key.id, rotated.key.token_hash.as_deref()), (issued.key.id, None));
    assert!(rotated.token.expose_secret().starts_with(&rotated.key.prefix) && new != old);
    plane.publish().await;
    let end = plane.control.now() + Duration::from_secs(600);
    assert_eq!(plane.published_ends(&[&old, &new]).await, [Some(Some(end.timestamp())), Some(None)]);
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);

    // Gateways stop the old token by its end; that it is still in the snapshot then is no drift.
    plane.clock.advance(Duration::from_secs(600));
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);
    assert_eq!(key_expiry::run_once(&plane.control).await.unwrap(), 1);
    plane.publish().await;
    assert_eq!(plane.published_ends(&[&old, &new]).await, [None, Some(None)]);
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);
    let kept = plane.stored_key(issued.key.id).await;
    assert_eq!((kept.previous_digest, kept.previous_expires_at), (None, None));
    assert_eq!(kept.token_digest, TokenDigest::of(rotated.token.expose_secret()));

    let entries = audit::list(&plane.control, None, 100).await.unwrap().items;
    let rotation = entries.iter().find(|entry| entry.entry.action == "rotate").unwrap();
    assert_eq!(rotation.entry.after.as_ref().unwrap()["prefix"], rotated.key.prefix);
    let told = format!("{entries:?} {rotated:?}");
    assert!(!told.contains(rotated.token.expose_secret()) && !told.contains(issued.token.expose_secret()));
}

pub(crate) async fn rotating_again_ends_the_oldest_token_at_once(plane: Plane) {
    let master = plane.master("acme").await.master;
    let ending = plane.control.now() + Duration::from_secs(60);
    let asked = CreateChildKey { expires_at: Some(ending), ..CreateChildKey::default() };
    let first = plane.try_key(master.id, asked).await.unwrap();
    let id = first.key.id;
    let second = plane.try_rotate(id, key_rotation::DEFAULT_OVERLAP).await.unwrap();
    plane.publish().await;
    let third = plane.try_rotate(id, key_rotation::DEFAULT_OVERLAP).await.unwrap();
    plane.publish().await;
    let (first, second, third) = (token_of(&first), token_of(&second), token_of(&third));
    let end = Some(Some(ending.timestamp()));
    let ends = plane.published_ends(&[&first, &second, &third]).await;
    assert_eq!(ends, [None, end, end], "the key's own end is the earlier one");

    let fourth = plane.try_rotate(id, Duration::ZERO).await.unwrap();
    assert_eq!((fourth.key.previous_digest, fourth.key.previous_expires_at), (None, None));
    plane.publish().await;
    let ends = plane.published_ends(&[&second, &third, &token_of(&fourth)]).await;
    assert_eq!(ends, [None, None, end]);
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);
}

pub(crate) async fn what_cannot_be_rotated_is_refused(plane: Plane) {
    let (acme, other) = (plane.master("acme").await.master, plane.master("other").await.master);
    let key = plane.key(acme.id).await.key;
    let too_long = key_rotation::MAX_OVERLAP + Duration::from_secs(1);
    assert_eq!(pointers(plane.try_rotate(key.id, too_long).await), ["/overlap_seconds"]);
    assert_not_found(plane.try_rotate(999, Duration::ZERO).await);
    let write = plane.control.write(Actor::master(other.id, origin())).await.unwrap();
    assert_not_found(key_rotation::rotate(&write, Tenant::Only(other.id), key.id, Duration::ZERO).await);
    drop(write);

    plane.try_rotate(key.id, key_rotation::MAX_OVERLAP).await.unwrap();
    let write = plane.write().await;
    masters::revoke_keys(&write, acme.id).await.unwrap();
    write.commit().await.unwrap();
    let (message, _) = conflict(plane.try_rotate(key.id, Duration::ZERO).await);
    assert!(message.contains("issue a new one"), "{message}");
}
