//! What the Redis server tells of itself.

use chrono::DateTime;

use super::RedisState;
use crate::{ServerFacts, StateError};

impl RedisState {
    pub(crate) async fn server_facts(&self) -> Result<ServerFacts, StateError> {
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let info: String = self.link().query(&info).await?;
        // Valkey tells the Redis version that it stands for here too.
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("unknown");
        let (seconds, microseconds): (i64, u32) = self.link().query(&redis::cmd("TIME")).await?;
        let now = DateTime::from_timestamp(seconds, microseconds.saturating_mul(1000));
        let now = now.ok_or_else(|| StateError::Corrupt(format!("TIME answered {seconds} seconds")))?;
        Ok(ServerFacts { version: version.trim().to_owned(), now })
    }
}
