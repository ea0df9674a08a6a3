//! Owners of stored responses within the process: the newest ones, as memory is bounded.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use ez_contract::response::ResponseOwner;
use tokio::time::Instant;

/// How many are kept; beyond it the oldest makes room. Some twenty megabytes.
const MAX_OWNERS: usize = 100_000;

/// The owners by response id.
#[derive(Default)]
pub(crate) struct ResponseOwners {
    owners: HashMap<String, (ResponseOwner, Instant)>,
    /// In the order in which they came.
    ids: VecDeque<String>,
}

impl ResponseOwners {
    /// Keeps an owner where the id has none. Who owns it then.
    pub(crate) fn claim(&mut self, id: &str, owner: &ResponseOwner, ttl: Duration) -> ResponseOwner {
        if let Some(first) = self.get(id) {
            return first;
        }
        let was_ended = self.owners.insert(id.to_owned(), (owner.clone(), Instant::now() + ttl)).is_some();
        if !was_ended {
            self.note_new(id);
        }
        owner.clone()
    }

    fn note_new(&mut self, id: &str) {
        self.ids.push_back(id.to_owned());
        if self.ids.len() > MAX_OWNERS
            && let Some(oldest) = self.ids.pop_front()
        {
            self.owners.remove(&oldest);
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<ResponseOwner> {
        self.owners.get(id).filter(|(_, ends_at)| *ends_at > Instant::now()).map(|(owner, _)| owner.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let mut owners = ResponseOwners::default();
        let owner =
            ResponseOwner { master_id: 2, api_key_id: 42, model: "m".to_owned(), upstream_model: "m".to_owned() };
        for number in 0..=MAX_OWNERS {
            owners.claim(&format!("resp_{number}"), &owner, Duration::from_secs(60));
            owners.claim("resp_1", &owner, Duration::from_secs(60));
        }
        assert_eq!((owners.owners.len(), owners.ids.len()), (MAX_OWNERS, MAX_OWNERS));
        assert_eq!((owners.get("resp_0"), owners.get("resp_1")), (None, Some(owner)));
    }
}
