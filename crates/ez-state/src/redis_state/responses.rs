//! Owners of stored responses: one string each, which ends by itself.

use std::time::Duration;

use ez_contract::response::ResponseOwner;

use super::counters::milliseconds;
use super::{RedisState, entries};
use crate::StateError;

impl RedisState {
    pub(crate) async fn put_response_owners(
        &self,
        owners: &[(String, ResponseOwner)],
        ttl: Duration,
    ) -> Result<(), StateError> {
        if owners.is_empty() {
            return Ok(());
        }
        let mut commands = redis::Pipeline::with_capacity(owners.len());
        for (id, owner) in owners {
            let set = commands.cmd("SET").arg(self.layout().response(id)).arg(entries::json(owner)?);
            set.arg("PX").arg(milliseconds(ttl)).ignore();
        }
        self.link().pipe(&commands).await
    }

    pub(crate) async fn response_owner(&self, id: &str) -> Result<Option<ResponseOwner>, StateError> {
        let key = self.layout().response(id);
        let mut command = redis::cmd("GET");
        command.arg(&key);
        let owner: Option<Vec<u8>> = self.link().query(&command).await?;
        let damaged = |error: serde_json::Error| StateError::Corrupt(format!("{key}: {error}"));
        owner.map(|owner| serde_json::from_slice(&owner).map_err(damaged)).transpose()
    }
}
