//! A publisher's turn: a lease that keeps the processes in order, so that an older state never lands on a newer one.

use std::time::Duration;

use ez_state::{Lease, Publication, Scope, StateError};

use crate::{Control, ControlError};

const NAME: &str = "publisher";

/// How long others wait for a publisher that died. Each publication of single changes renews it.
const LEASE: Duration = Duration::from_secs(5);

/// The same while much is read or published at once.
pub(crate) const LONG_LEASE: Duration = Duration::from_secs(30);

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
    pub(crate) async fn renew(&self, length: Duration) -> Result<(), ControlError> {
        let held = self.control.state().acquire_lease(NAME, &self.control.publishing().holder, length).await?;
        match held {
            Some(held) if held.fence == self.lease.fence => Ok(()),
            _ => Err(ControlError::Unavailable(Overtaken.into())),
        }
    }

    /// Publishes what was read within this turn.
    pub(crate) async fn publish(&self, publication: Publication) -> Result<u64, ControlError> {
        let is_small = publication.scope == Scope::Changes && publication.changes.len() <= FEW_CHANGES;
        let length = if is_small { LEASE } else { LONG_LEASE };
        self.renew(length).await?;
        let node_id = &self.control.config().node_id;
        let publishing = self.control.state().publish(node_id, self.control.now(), publication);
        let limit = length - MARGIN;
        let version = tokio::time::timeout(limit, publishing)
            .await
            .map_err(|_| ControlError::Unavailable(TooSlow(limit).into()))??;
        tracing::debug!(version, "published");
        Ok(version)
    }

    /// Gives the turn back. Where that fails, it ends by itself.
    pub(crate) async fn end(self) {
        if let Err(error) = self.control.state().release_lease(&self.lease).await {
            tracing::debug!(%error, "the publisher's lease could not be given back");
        }
    }
}
