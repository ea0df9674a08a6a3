//! The two pairs of backends.

use ez_state::SharedState;
use ez_store::{ConnectOptions, Store};
use ez_testkit::database::TestDatabase;
use ez_testkit::redis_server::{RedisServer, SharedRedis};

/// A database and a shared state of their own for one test.
pub(crate) struct Backends {
    pub(crate) store: Store,
    pub(crate) state: SharedState,
    pub(crate) database: TestDatabase,
}

impl Backends {
    pub(crate) async fn embedded() -> Self {
        Self::with(TestDatabase::sqlite(), SharedState::in_process()).await
    }

    pub(crate) async fn scaled_out() -> Self {
        let redis = SharedRedis::for_this_test();
        let state = SharedState::connect_redis(&redis.url, &redis.prefix).await.unwrap();
        Self::with(TestDatabase::postgres().await, state).await
    }

    pub(crate) async fn over(redis: &RedisServer) -> Self {
        let state = SharedState::connect_redis(&redis.url(), "").await.unwrap();
        Self::with(TestDatabase::sqlite(), state).await
    }

    async fn with(database: TestDatabase, state: SharedState) -> Self {
        let store = Store::connect(database.url(), ConnectOptions::default()).await.unwrap();
        store.migrate().await.unwrap();
        Self { store, state, database }
    }
}
