//! Owners of stored responses: one string each, which ends by itself.

use std::time::Duration;

use ez_contract::response::ResponseOwner;

use super::counters::milliseconds;
use super::{RedisState, entries};
use crate::StateError;

impl RedisState {
    pub(crate) async fn claim_responses(
        &self,
        claims: &[(String, ResponseOwner)],
        ttl: Duration,
    ) -> Result<Vec<ResponseOwner>, StateError> {
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands = redis::Pipeline::with_capacity(2 * claims.len());
        for (id, owner) in claims {
            let key = self.layout().response(id);
            let set = commands.cmd("SET").arg(&key).arg(entries::json(owner)?);
            set.arg("PX").arg(milliseconds(ttl)).arg("NX").ignore();
            commands.cmd("GET").arg(&key);
        }
        let kept: Vec<Option<Vec<u8>>> = self.link().pipe(&commands).await?;
        let owners = claims.iter().zip(kept).map(|((id, claimed), kept)| {
            // One that ended between the two commands is nobody's, and a damaged one must not hold up the others.
            kept.and_then(|kept| self.read_owner(id, &kept).ok()).unwrap_or_else(|| claimed.clone())
        });
        Ok(owners.collect())
    }

    pub(crate) async fn response_owner(&self, id: &str) -> Result<Option<ResponseOwner>, StateError> {
        let mut command = redis::cmd("GET");
        command.arg(self.layout().response(id));
        let owner: Option<Vec<u8>> = self.link().query(&command).await?;
        owner.map(|owner| self.read_owner(id, &owner)).transpose()
    }

    fn read_owner(&self, id: &str, owner: &[u8]) -> Result<ResponseOwner, StateError> {
        serde_json::from_slice(owner)
            .map_err(|error| StateError::Corrupt(format!("{}: {error}", self.layout().response(id))))
    }
}
