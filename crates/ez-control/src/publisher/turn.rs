//! A publisher's turn: a lease that keeps the processes in order, so that an older state never lands on a newer one.

use std::pin::pin;
use std::time::Duration;

use ez_contract::models::ModelsOrigin;
use ez_state::{Lease, Publication, Scope, StateError};

use crate::error::chain;
use crate::{Control, ControlError};

const NAME: &str = "publisher";

/// How long others wait for a publisher that died. Reading and each publication of single changes renew it.
const LEASE: Duration = Duration::from_secs(5);

/// How often it is renewed while reading goes on.
const RENEWAL: Duration = Duration::from_secs(1);

/// The same while much is published at once.
const LONG_LEASE: Duration = Duration::from_secs(30);

/// Changes that are published within the short lease.
const FEW_CHANGES: usize = 2000;

/// Left over when a publication is given up, so that it ends within the lease.
const MARGIN: Duration = Duration::from_secs(1);

/// The right to publish, held by this process.
pub(crate) struct Turn<'a> {
    control: &'a Control,
    lease: Lease,
}

/// The turn was over before the publication: another process took it, and what was read here may be old.
#[derive(Debug, thiserror::Error)]
#[error("another control plane took over publishing")]
struct Overtaken;

/// The shared state took longer than the turn allows.
#[derive(Debug, thiserror::Error)]
#[error("a publication took longer than {} seconds", .0.as_secs())]
struct TooSlow(Duration);

impl<'a> Turn<'a> {
    /// Takes the turn; `None` while another process has it.
    pub(crate) async fn take(control: &'a Control) -> Result<Option<Self>, StateError> {
        let lease = control.state().acquire_lease(NAME, &control.publishing().holder, LEASE).await?;
        Ok(lease.map(|lease| Self { control, lease }))
    }

    pub(crate) fn control(&self) -> &'a Control {
        self.control
    }

    /// Makes the turn last this long from now. Errors: `Unavailable` where it was over meanwhile.
    async fn renew(&self, length: Duration) -> Result<(), ControlError> {
        let held = self.control.state().acquire_lease(NAME, &self.control.publishing().holder, length).await?;
        match held {
            Some(held) if held.fence == self.lease.fence => Ok(()),
            // Granted anew: meanwhile it was nobody's, or another's.
            Some(held) => {
                Self { control: self.control, lease: held }.end().await;
                Err(ControlError::Unavailable(Overtaken.into()))
            }
            None => Err(ControlError::Unavailable(Overtaken.into())),
        }
    }

    /// Runs what reads for a publication, however long that takes: the turn is renewed meanwhile. Errors: its own;
    /// `Unavailable` where the turn was over.
    pub(crate) async fn keep<T, E>(&self, reading: impl Future<Output = Result<T, E>>) -> Result<T, ControlError>
    where
        ControlError: From<E>,
    {
        let mut reading = pin!(reading);
        loop {
            tokio::select! {
                outcome = &mut reading => return Ok(outcome?),
                () = tokio::time::sleep(RENEWAL) => self.renew(LEASE).await?,
            }
        }
    }

    /// Publishes what was read within this turn, its models with this catalogue, if it has to do with models.
    pub(crate) async fn publish(
        &self,
        publication: Publication,
        models: Option<ModelsOrigin>,
    ) -> Result<u64, ControlError> {
        let is_small = publication.scope == Scope::Changes && publication.changes.len() <= FEW_CHANGES;
        let length = if is_small { LEASE } else { LONG_LEASE };
        self.renew(length).await?;
        let (state, node_id, now) = (self.control.state(), &self.control.config().node_id, self.control.now());
        let publishing = async {
            match models {
                Some(models) => state.publish_with_models(node_id, now, publication, models).await,
                None => state.publish(node_id, now, publication).await,
            }
        };
        let limit = length - MARGIN;
        let version = tokio::time::timeout(limit, publishing)
            .await
            .map_err(|_| ControlError::Unavailable(TooSlow(limit).into()))??;
        self.control.publishing().newest_with(version);
        tracing::debug!(version, "published");
        Ok(version)
    }

    /// Gives the turn back. Where that fails, it ends by itself.
    pub(crate) async fn end(self) {
        if let Err(error) = self.control.state().release_lease(&self.lease).await {
            tracing::debug!(error = %chain(&error), "the publisher's lease could not be given back");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ez_contract::secret::SecretKey;
    use ez_state::SharedState;
    use ez_store::{ConnectOptions, Store};
    use ez_testkit::clock::FakeClock;
    use ez_testkit::database::TestDatabase;

    use super::*;
    use crate::{ControlConfig, ControlParts};

    #[tokio::test]
    async fn a_turn_outlasts_reading_however_long_that_takes() {
        let database = TestDatabase::sqlite();
        let store = Store::connect(database.url(), ConnectOptions::default()).await.unwrap();
        store.migrate().await.unwrap();
        let state = SharedState::in_process();
        let (control, _) = Control::prepare(ControlParts {
            store,
            state: state.clone(),
            clock: Arc::new(FakeClock::now()),
            secret_key: Arc::new(SecretKey::from_bytes(&[7; 32]).unwrap()),
            config: ControlConfig::default(),
        })
        .await
        .unwrap();
        tokio::time::pause();

        let turn = Turn::take(&control).await.unwrap().unwrap();
        let reading = async {
            tokio::time::sleep(LEASE * 4).await;
            state.acquire_lease(NAME, "another", LEASE).await
        };
        assert_eq!(turn.keep(reading).await.unwrap(), None);
        let nothing = Publication { changes: Vec::new(), scope: Scope::Changes, base: None };
        turn.publish(nothing, None).await.unwrap();

        tokio::time::sleep(LEASE * 2).await;
        assert!(turn.renew(LONG_LEASE).await.is_err(), "it was nobody's for a while");
        assert!(state.acquire_lease(NAME, "another", LEASE).await.unwrap().is_some());
        let overtaken = turn.keep(std::future::pending::<Result<(), ControlError>>()).await;
        assert!(matches!(overtaken, Err(ControlError::Unavailable(_))), "{overtaken:?}");
    }
}
