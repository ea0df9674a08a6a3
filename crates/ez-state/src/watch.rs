//! The wake-up that readers of the snapshot, and of health, wait on.

use tokio::sync::watch;

use crate::redis_state::Subscription;

/// Wakes a reader when what it reads may have changed. Dropping it ends the subscription.
#[derive(Debug)]
pub struct ConfigWatch(Source);

#[derive(Debug)]
enum Source {
    InProcess(watch::Receiver<u64>),
    Redis(Box<Subscription>),
}

impl ConfigWatch {
    pub(crate) fn in_process(versions: watch::Receiver<u64>) -> Self {
        Self(Source::InProcess(versions))
    }

    pub(crate) fn redis(subscription: Subscription) -> Self {
        Self(Source::Redis(Box::new(subscription)))
    }

    /// Resolves after a publication (a change of health) since the last call (or since the subscription); several count as one. On Redis
    /// also whenever the connection was made or made again, since announcements may have been missed meanwhile: read
    /// and see. Waits through an outage. Cancel safe: a wake-up that was not handed out comes with the next call.
    pub async fn changed(&mut self) {
        match &mut self.0 {
            Source::InProcess(versions) => {
                if versions.changed().await.is_err() {
                    // The state is gone, and with it everyone who could publish.
                    std::future::pending::<()>().await;
                }
            }
            Source::Redis(subscription) => subscription.changed().await,
        }
    }
}
