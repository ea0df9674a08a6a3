//! Stored responses: who made one is remembered, so that calls by its id, and responses that go on from it, find the
//! credential that knows it. Gateways share what they remember; nothing of it is on the path of other calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ez_contract::response::ResponseOwner;
use ez_protocol::error::FaultKind;
use ez_protocol::inspect::RequestPeek;
use ez_protocol::{Api, sse};
use ez_state::{SharedState, StateError};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admit;
use crate::call::CallScope;
use crate::dispatch::{self, Answer};
use crate::inspect::{self, Inspected};
use crate::limits::Demand;
use crate::plan::{self, Plan, UpstreamChoice};
use crate::refusal::Refusal;
use crate::route::Route;
use crate::settle::Account;

/// Owners that are kept in memory at most, in each of two generations.
const MAX_RECENT: usize = 50_000;
/// As long as the vendor keeps responses.
const TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Owners waiting to be shared; what comes on top is known here alone.
const MAX_WAITING: usize = 10_000;
/// Owners shared in one round trip.
const BATCH: usize = 256;
/// Between two attempts while the shared state is away.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long the shared state may take to say that a response which was made here was another master's before.
const OWN_WAIT: Duration = Duration::from_millis(200);
/// No vendor's response id is near this.
const MAX_ID_BYTES: usize = 256;
/// A stream tells its response's id with its first events.
const MAX_EVENTS_SEEN: u32 = 4;

/// What is asked of a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredAction {
    Get,
    Delete,
    Cancel,
    ListInputItems,
}

impl StoredAction {
    pub(crate) const fn method(self) -> Method {
        match self {
            Self::Get | Self::ListInputItems => Method::GET,
            Self::Delete => Method::DELETE,
            Self::Cancel => Method::POST,
        }
    }

    /// What stands behind the id in the path.
    pub(crate) const fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Get | Self::Delete => None,
            Self::Cancel => Some("cancel"),
            Self::ListInputItems => Some("input_items"),
        }
    }
}

/// Who made which response.
pub(crate) struct ResponseOwners {
    recent: Arc<Mutex<Recent>>,
    state: SharedState,
    waiting: mpsc::Sender<(String, ResponseOwner)>,
}

/// A map of bounded size: when the newer half is full, the older one is forgotten.
#[derive(Default)]
struct Recent {
    newer: HashMap<String, Known>,
    older: HashMap<String, Known>,
}

/// An owner as this gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    owner: ResponseOwner,
    /// Whether the shared state says so. Until then another gateway may have known the id before.
    is_shared: bool,
}

impl Recent {
    fn get(&self, id: &str) -> Option<&Known> {
        self.newer.get(id).or_else(|| self.older.get(id))
    }

    fn put(&mut self, id: String, known: Known) {
        if self.newer.len() >= MAX_RECENT && !self.newer.contains_key(&id) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(id, known);
    }
}

impl ResponseOwners {
    /// Nothing remembered yet. What will be is shared by a task that ends once this is dropped, or at `cut_off`.
    pub(crate) fn start(state: SharedState, tasks: &TaskTracker, cut_off: CancellationToken) -> Arc<Self> {
        let (waiting, queue) = mpsc::channel(MAX_WAITING);
        let recent = Arc::default();
        tasks.spawn(share(state.clone(), Arc::clone(&recent), queue, cut_off));
        Arc::new(Self { recent, state, waiting })
    }

    /// Remembers who made a response, unless it is known already: some servers let clients choose the id, and nobody gets
    /// at another master's that way.
    fn remember(&self, id: String, owner: ResponseOwner) {
        let mut recent = lock(&self.recent);
        if recent.get(&id).is_some() {
            return;
        }
        recent.put(id.clone(), Known { owner: owner.clone(), is_shared: false });
        drop(recent);
        if let Err(e) = self.waiting.try_send((id, owner)) {
            tracing::debug!(error = %e, "who made a response is not shared");
        }
    }

    /// Who made a response. What no vendor's id looks like is nobody's, and is not looked up.
    async fn find(&self, id: &str) -> Result<Option<ResponseOwner>, StateError> {
        if !is_id(id) {
            return Ok(None);
        }
        let known = lock(&self.recent).get(id).cloned();
        let own = match known {
            Some(Known { owner, is_shared: true }) => return Ok(Some(owner)),
            known => known.map(|known| known.owner),
        };
        let looked_up = self.state.response_owner(id);
        let shared = match &own {
            // Made here a moment ago, or while the shared state is away, which must not hold up a conversation.
            Some(_) => timeout(OWN_WAIT, looked_up).await.unwrap_or(Ok(None)),
            None => looked_up.await,
        };
        match shared {
            Ok(Some(owner)) => {
                lock(&self.recent).put(id.to_owned(), Known { owner: owner.clone(), is_shared: true });
                Ok(Some(owner))
            }
            Ok(None) => Ok(own),
            Err(e) => own.map(Some).ok_or(e),
        }
    }
}

/// Whether this can be the id of a response: as the paths take it. Proxies make theirs of base64, with its `=`.
pub(crate) fn is_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'=');
    !id.is_empty() && id.len() <= MAX_ID_BYTES && id.bytes().all(is_plain)
}

fn lock(recent: &Mutex<Recent>) -> MutexGuard<'_, Recent> {
    // A map is whole whoever panicked beside it.
    recent.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shares owners as they come, all that wait in one round trip.
async fn share(
    state: SharedState,
    recent: Arc<Mutex<Recent>>,
    mut queue: mpsc::Receiver<(String, ResponseOwner)>,
    cut_off: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut was_failing = false;
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        let owners = loop {
            match state.claim_responses(&batch, TTL).await {
                Ok(owners) => break owners,
                Err(e) if !was_failing => tracing::warn!(error = %e, "other gateways do not learn who made responses"),
                Err(_) => {}
            }
            was_failing = true;
            tokio::select! {
                () = tokio::time::sleep(RETRY_INTERVAL) => {}
                () = cut_off.cancelled() => return,
            }
        };
        was_failing = false;
        let mut recent = lock(&recent);
        for ((id, _), owner) in batch.drain(..).zip(owners) {
            recent.put(id, Known { owner, is_shared: true });
        }
    }
}

/// Looks in an answer for the id under which its vendor stores it.
pub(crate) struct Spotter {
    owners: Arc<ResponseOwners>,
    owner: ResponseOwner,
    events_seen: u32,
}

#[derive(Deserialize)]
struct StoredId {
    id: String,
    store: Option<bool>,
}

impl Spotter {
    /// For new responses alone.
    pub(crate) fn of(scope: &CallScope<'_>, inspected: &Inspected, choice: &UpstreamChoice) -> Option<Self> {
        let is_stored = inspected.api == Api::Responses && choice.api == Api::Responses;
        let is_new = is_stored && matches!(scope.arrival.route, Route::Call { .. });
        let owner = || ResponseOwner {
            master_id: scope.caller.master.id,
            api_key_id: choice.upstream.snapshot.id,
            model: inspected.peek.model.clone(),
            upstream_model: choice.upstream_model.clone(),
        };
        is_new.then(|| Self { owners: scope.gateway.responses.clone(), owner: owner(), events_seen: 0 })
    }

    /// Reads a plain answer.
    pub(crate) fn see_answer(self, body: &[u8]) {
        if let Ok(stored) = serde_json::from_slice(body) {
            self.remember(stored);
        }
    }

    /// Reads an event of a stream. Whether no more need be read.
    pub(crate) fn see_event(&mut self, event: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Envelope {
            response: StoredId,
        }
        self.events_seen += 1;
        let envelope = sse::data(event).and_then(|data| serde_json::from_slice::<Envelope>(data.as_ref()).ok());
        let is_found = envelope.is_some();
        if let Some(envelope) = envelope {
            self.remember(envelope.response);
        }
        is_found || self.events_seen >= MAX_EVENTS_SEEN
    }

    fn remember(&self, stored: StoredId) {
        if stored.store != Some(false) && is_id(&stored.id) {
            self.owners.remember(stored.id, self.owner.clone());
        }
    }
}

/// Everything of a call by a response's id that comes before the client sees a byte.
pub(crate) async fn prepare(
    scope: &CallScope<'_>,
    id: &str,
    action: StoredAction,
    account: &mut Account,
) -> Result<(Inspected, Box<Answer>), Refusal> {
    let CallScope { gateway, snapshot, arrival, caller, form, .. } = scope;
    admit::admit(caller, arrival.client_ip, arrival.route.operation(), gateway.clock.now())?;
    gateway.settler.check()?;
    // Before anything is looked up, so that look-ups are limited, too.
    let demand = Demand::without_tokens(gateway.clock.now());
    let reserved = gateway.limiter.reserve(caller, demand).await;
    let reservation = reserved.map_err(|limited| account.note_limited(*limited))?;
    account.note_reservation(reservation, None);
    let owner = gateway.responses.find(id).await.map_err(|e| unknown_for_now(&e))?;
    // One of another master's is none.
    let owner = owner.filter(|owner| owner.master_id == caller.master.id).ok_or_else(|| not_found(id))?;
    // Who made it stands in no body, but the stages ahead read it from one.
    let body = json!({"model": owner.model}).to_string();
    let peek = RequestPeek::of(*form, body.as_bytes()).map_err(|e| inspect::malformed(&e))?;
    let inspected = Inspected { body: Bytes::new(), api: form.api, peek };
    account.note_request(&inspected);
    account.note_target(&plan::resolve(snapshot, caller, &owner.model)?);
    let upstream = snapshot.upstream(owner.api_key_id).filter(|upstream| upstream.is_usable());
    let upstream = upstream.ok_or_else(owner_gone)?.clone();
    let choice =
        UpstreamChoice { upstream, upstream_model: owner.upstream_model, api: Api::Responses, on_client_gone: None };
    let answer = dispatch::fetch_stored(scope, &inspected, choice, (id, action), account).await?;
    Ok((inspected, answer))
}

/// The credential that a call must go to, because it goes on from a response that no other one knows.
pub(crate) async fn pin(scope: &CallScope<'_>, inspected: &Inspected, plan: &Plan) -> Result<Option<i64>, Refusal> {
    let Some(id) = &inspected.peek.previous_response_id else { return Ok(None) };
    // Whose such a response is would not have been remembered.
    if !is_id(id) {
        return Err(previous_not_found(id));
    }
    // Where it cannot be looked up, the upstreams themselves say whether they know it.
    let Some(owner) = scope.gateway.responses.find(id).await.ok().flatten() else { return Ok(None) };
    if owner.master_id != scope.caller.master.id {
        return Err(previous_not_found(id));
    }
    let mut choices = plan.tiers.iter().flatten().flat_map(|choice| &choice.upstreams);
    Ok(choices.any(|choice| choice.upstream.snapshot.id == owner.api_key_id).then_some(owner.api_key_id))
}

fn not_found(id: &str) -> Refusal {
    let message = format!("no response `{id}` is known here: responses are kept for 30 days, unless `store` is false");
    Refusal::client(StatusCode::NOT_FOUND, FaultKind::NotFound, "response_not_found", message)
}

/// As OpenAI says it, so that clients send the whole conversation instead.
fn previous_not_found(id: &str) -> Refusal {
    let message = format!("the previous response `{id}` was not found: send the whole input instead");
    Refusal::client(StatusCode::BAD_REQUEST, FaultKind::InvalidRequest, "previous_response_not_found", message)
        .with_param(Some("previous_response_id"))
}

fn owner_gone() -> Refusal {
    let message = "the API key that made this response cannot be used any more: make it anew";
    Refusal::upstream(StatusCode::NOT_FOUND, FaultKind::NotFound, "response_unreachable", message)
}

fn unknown_for_now(e: &StateError) -> Refusal {
    let message = "who made this response cannot be looked up at the moment: try again later";
    Refusal::internal("response_lookup_failed", message)
        .with_retry_after(Duration::from_secs(1))
        .with_detail(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let mut recent = Recent::default();
        let owner =
            ResponseOwner { master_id: 2, api_key_id: 42, model: "m".to_owned(), upstream_model: "m".to_owned() };
        let known = Known { owner, is_shared: true };
        for number in 0..=2 * MAX_RECENT {
            recent.put(number.to_string(), known.clone());
        }
        assert!(recent.newer.len() + recent.older.len() <= 2 * MAX_RECENT);
        assert_eq!((recent.get("0"), recent.get(&(2 * MAX_RECENT).to_string())), (None, Some(&known)));
    }

    #[test]
    fn ids_are_bounded_and_plain() {
        for id in ["resp_68af", "a", "resp-1_B", "resp_bGl0ZQ==", &"a".repeat(MAX_ID_BYTES)] {
            assert!(is_id(id), "{id}");
        }
        for id in ["", "..", "a/b", "a b", "a\0", "r\u{e9}", "a:b", &"a".repeat(MAX_ID_BYTES + 1)] {
            assert!(!is_id(id), "{id}");
        }
    }

    #[tokio::test]
    async fn an_id_stays_with_the_master_that_had_it_first() {
        let owner = |master_id| ResponseOwner {
            master_id,
            api_key_id: 42,
            model: "m".to_owned(),
            upstream_model: "m".to_owned(),
        };
        let state = SharedState::in_process();
        let tasks = TaskTracker::new();
        let [one, two] = [(); 2].map(|()| ResponseOwners::start(state.clone(), &tasks, CancellationToken::new()));
        one.remember("resp_1".to_owned(), owner(1));
        one.remember("resp_1".to_owned(), owner(2));
        assert_eq!(one.find("resp_1").await.unwrap(), Some(owner(1)), "known here before it is shared");
        while state.response_owner("resp_1").await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        two.remember("resp_1".to_owned(), owner(2));
        assert_eq!(two.find("resp_1").await.unwrap(), Some(owner(1)), "the other gateway's was first");
        assert_eq!(two.find("resp_2").await.unwrap(), None);
        drop((one, two));
        tasks.close();
        tasks.wait().await;
    }
}
