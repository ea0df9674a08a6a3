//! The Redis backend: one multiplexed connection, keys as the contract names them.

mod counters;
mod entries;
mod health;
mod layout;
mod limits;
mod link;
mod live;
mod models;
mod publish;
mod read;
mod responses;
mod server;
mod subscription;

use std::fmt;
use std::sync::Arc;

use ez_contract::snapshot::SnapshotMeta;

use self::layout::Layout;
use self::link::Link;
pub(crate) use self::subscription::Subscription;
use crate::{ConfigWatch, StateError};

/// State in Redis. Made by [`crate::SharedState::connect_redis`].
#[derive(Clone)]
pub struct RedisState(Arc<Shared>);

struct Shared {
    link: Link,
    layout: Layout,
}

impl fmt::Debug for RedisState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisState")
            .field("server", &self.link().server())
            .field("prefix", &self.layout().prefix())
            .finish()
    }
}

impl RedisState {
    pub(crate) fn connect(url: &str, prefix: &str) -> Result<Self, StateError> {
        Ok(Self(Arc::new(Shared { link: Link::new(url)?, layout: Layout::new(prefix) })))
    }

    pub(crate) async fn ping(&self) -> Result<(), StateError> {
        self.link().query::<String>(&redis::cmd("PING")).await.map(drop)
    }

    pub(crate) async fn meta(&self) -> Result<SnapshotMeta, StateError> {
        let key = self.layout().meta();
        let mut command = redis::cmd("HGETALL");
        command.arg(&key);
        entries::meta_from_fields(&key, &self.link().query(&command).await?)
    }

    pub(crate) fn subscribe(&self) -> ConfigWatch {
        ConfigWatch::redis(Subscription::new(self.link().client().clone(), self.layout().events()))
    }

    pub(crate) fn watch_health(&self) -> ConfigWatch {
        ConfigWatch::redis(Subscription::new(self.link().client().clone(), self.layout().health_events()))
    }

    fn link(&self) -> &Link {
        &self.0.link
    }

    fn layout(&self) -> &Layout {
        &self.0.layout
    }
}
