//! A state under test, with what the suite needs to do behind its back.

use ez_state::SharedState;
use ez_testkit::redis_server::SharedRedis;
use redis::aio::MultiplexedConnection;

use crate::sample;

/// One state of either kind.
pub(crate) struct Backend {
    pub(crate) state: SharedState,
    redis: Option<SharedRedis>,
}

impl Backend {
    pub(crate) fn in_process() -> Self {
        Self { state: SharedState::in_process(), redis: None }
    }

    pub(crate) async fn redis() -> Self {
        let redis = SharedRedis::for_this_test();
        let state = SharedState::connect_redis(&redis.url, &redis.prefix).await.unwrap();
        Self { state, redis: Some(redis) }
    }

    /// The same state as another process would see it.
    pub(crate) async fn another(&self) -> SharedState {
        match &self.redis {
            Some(redis) => SharedState::connect_redis(&redis.url, &redis.prefix).await.unwrap(),
            None => self.state.clone(),
        }
    }

    /// Makes the backend forget the events so far.
    pub(crate) async fn forget_events(&self) {
        if self.redis.is_some() {
            let trim = redis::cmd("XTRIM").arg(self.key("events:config")).arg("MAXLEN").arg(0).take();
            trim.exec_async(&mut self.raw().await).await.unwrap();
            return;
        }
        for round in 0..=10_000 {
            sample::publish(&self.state, [sample::feature("round", round % 2 == 0)]).await;
        }
    }

    /// A key with the prefix of this test.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.redis.as_ref().unwrap().prefix)
    }

    /// A connection that knows nothing of ez-state.
    pub(crate) async fn raw(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.redis.as_ref().unwrap().url.as_str()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }
}
