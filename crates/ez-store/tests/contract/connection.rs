//! Connections and transactions: concurrency, migration, durability.

use std::time::Duration;

use ez_store::{ConnectOptions, Store, StoreError};
use ez_store::{audit, masters, namespaces, outbox, settings};

use crate::fixture::{Fixture, connect, new_master};

pub(crate) async fn concurrent_writers_all_get_through(db: Fixture) {
    // A second process beside the first: on SQLite it has a write connection of its own.
    let other_process = connect(&db.database).await;
    let writers = (0..40).map(|number| {
        let store = if number % 2 == 0 { db.store.clone() } else { other_process.clone() };
        tokio::spawn(async move {
            let tx = store.begin().await?;
            masters::list_all(&tx).await?;
            masters::create(&tx, &new_master(&format!("m{number}"))).await?;
            tx.commit().await
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap().unwrap();
    }
    assert_eq!(masters::count(&db.store, None).await.unwrap(), 40);
    other_process.close().await.unwrap();
}

pub(crate) async fn locked_reads_lose_no_update(db: Fixture) {
    let id = db.master("acme").await.id;
    let writers = (0..20).map(|_| {
        let store = db.store.clone();
        tokio::spawn(async move {
            let tx = store.begin().await.unwrap();
            let mut master = masters::get_for_update(&tx, id).await.unwrap().unwrap();
            master.epoch += 1;
            masters::update(&tx, &master).await.unwrap();
            tx.commit().await.unwrap();
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(masters::get(&db.store, id).await.unwrap().unwrap().epoch, 21);
}

pub(crate) async fn readers_see_only_what_is_committed(db: Fixture) {
    let tx = db.store.begin().await.unwrap();
    let master = masters::create(&tx, &new_master("acme")).await.unwrap();
    assert_eq!(masters::get(&db.store, master.id).await.unwrap(), None, "and do not wait for the writer");
    tx.commit().await.unwrap();
    assert_eq!(masters::get(&db.store, master.id).await.unwrap(), Some(master));
}

pub(crate) async fn a_cancelled_caller_leaves_nothing_behind(db: Fixture) {
    // Callers go away at any point of a transaction: before it begins, within it, while it commits.
    for step in 0..150_u64 {
        let writing = async {
            let tx = db.store.begin().await?;
            masters::create(&tx, &new_master(&format!("a{step}"))).await?;
            masters::create(&tx, &new_master(&format!("b{step}"))).await?;
            tx.commit().await
        };
        let _ = tokio::time::timeout(Duration::from_micros(step * 40), writing).await;
    }
    db.master("after").await;
    let names: Vec<String> =
        masters::list_all(&db.store).await.unwrap().into_iter().map(|master| master.name).collect();
    assert!(names.contains(&"after".to_owned()), "what is committed shows: {names:?}");
    for name in names.iter().filter(|name| name.starts_with('a') && *name != "after") {
        assert!(names.contains(&name.replace('a', "b")), "half of a transaction stands: {names:?}");
    }
}

pub(crate) async fn migrating_again_changes_nothing(db: Fixture) {
    let before = namespaces::list_all(&db.store).await.unwrap();
    db.master("acme").await;
    db.store.migrate().await.unwrap();
    assert_eq!(namespaces::list_all(&db.store).await.unwrap(), before);
    assert_eq!(masters::count(&db.store, None).await.unwrap(), 1);
}

pub(crate) async fn migrating_at_once_is_safe(db: Fixture) {
    // On a database that has nothing yet: the fixture's own is migrated.
    let database = match db.store.backend() {
        ez_store::Backend::Sqlite => ez_testkit::database::TestDatabase::sqlite(),
        ez_store::Backend::Postgres => ez_testkit::database::TestDatabase::postgres().await,
    };
    let url = database.url().to_owned();
    let processes = (0..4).map(|_| {
        let url = url.clone();
        tokio::spawn(async move {
            let store = Store::connect(&url, ConnectOptions::default()).await?;
            store.migrate().await?;
            store.close().await
        })
    });
    for process in processes.collect::<Vec<_>>() {
        process.await.unwrap().unwrap();
    }
    let store = connect(&database).await;
    assert_eq!(namespaces::list_all(&store).await.unwrap().len(), 1);
    store.close().await.unwrap();
}

pub(crate) async fn commits_survive_reopening(db: Fixture) {
    let master = db.master("acme").await;
    db.commit(async |tx| settings::put(tx, "key", "value").await).await;
    db.store.close().await.unwrap();
    let reopened = connect(&db.database).await;
    reopened.migrate().await.unwrap();
    reopened.ping().await.unwrap();
    assert_eq!(masters::get(&reopened, master.id).await.unwrap(), Some(master.clone()));
    assert_eq!(settings::get(&reopened, "key").await.unwrap().as_deref(), Some("value"));
    assert_eq!(outbox::depth(&reopened).await.unwrap(), 0);
    assert_eq!(audit::list(&reopened, None, 1).await.unwrap(), []);

    // An id is never given twice.
    let tx = reopened.begin().await.unwrap();
    masters::delete(&tx, master.id).await.unwrap();
    let next = masters::create(&tx, &new_master("next")).await.unwrap();
    tx.commit().await.unwrap();
    assert!(next.id > master.id);
    reopened.close().await.unwrap();
}

pub(crate) async fn a_closed_store_is_unavailable(db: Fixture) {
    db.store.close().await.unwrap();
    for outcome in [db.store.ping().await, db.store.begin().await.map(drop)] {
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    }
    assert!(matches!(masters::get(&db.store, 1).await, Err(StoreError::Unavailable(_))));
    let nobody = "postgres://nobody@127.0.0.1:1/none";
    let options = ConnectOptions { acquire_timeout: Duration::from_millis(300), ..Default::default() };
    assert!(matches!(Store::connect(nobody, options.clone()).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(Store::connect("mysql://somewhere", options).await, Err(StoreError::Backend(_))));
}

pub(crate) async fn a_database_tells_of_itself(db: Fixture) {
    let before = chrono::Utc::now();
    let facts = db.store.facts().await.unwrap();
    assert!(facts.version.starts_with(|first: char| first.is_ascii_digit()), "{facts:?}");
    let skew = (facts.now - before).num_seconds().abs();
    assert!(skew < 30, "both are on this machine: {facts:?}");
    assert_eq!(db.store.pending_migrations().await.unwrap(), 0);
    db.store.probe_write().await.unwrap();
    assert_eq!(settings::get(&db.store, "doctor").await.unwrap(), None, "the probe is taken back");

    let empty = Fixture::empty_beside(&db).await;
    assert!(empty.store.pending_migrations().await.unwrap() >= 3, "nothing was applied yet");
    assert!(settings::get(&empty.store, "doctor").await.is_err(), "and asking applied nothing");
}
