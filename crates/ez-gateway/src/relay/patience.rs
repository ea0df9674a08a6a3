//! Patience: how long a stream may be silent, without a timer for each of its events.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The bounds on waiting for a stream's next bytes: so long at a stretch, and not beyond the call's deadline. One timer
/// serves all waits of a stream: it stays set for the first of them, and is set anew only when it rings too early.
pub(super) struct Patience {
    idle: Duration,
    deadline: Instant,
    alarm: Option<Pin<Box<Sleep>>>,
}

/// Which bound was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// Nothing came for too long.
    Silent,
    /// The call's deadline is over.
    Over,
}

impl Patience {
    pub(super) fn new(idle: Duration, deadline: Instant) -> Self {
        Self { idle, deadline, alarm: None }
    }

    /// Waits for `next`, which is asked only while there is time: what always has a next byte would otherwise never let
    /// the deadline show.
    pub(super) async fn wait_for<F: Future>(&mut self, next: F) -> Result<F::Output, Late> {
        let started = Instant::now();
        if started >= self.deadline {
            return Err(Late::Over);
        }
        let by = (started + self.idle).min(self.deadline);
        let mut next = pin!(next);
        poll_fn(|cx| {
            if let Poll::Ready(output) = next.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(by)));
            loop {
                ready!(alarm.as_mut().poll(cx));
                if Instant::now() >= by {
                    return Poll::Ready(Err(if by == self.deadline { Late::Over } else { Late::Silent }));
                }
                alarm.as_mut().reset(by);
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::sleep;

    use super::*;

    const IDLE: Duration = Duration::from_millis(40);
    const FAR: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn silence_is_counted_anew_for_each_wait() {
        let started = Instant::now();
        let mut patience = Patience::new(IDLE, started + FAR);
        assert_eq!(patience.wait_for(ready(1)).await, Ok(1));
        // Together longer than the bound; each is asked before the timer, so that a busy machine makes none of them late.
        for _ in 0..3 {
            assert_eq!(patience.wait_for(sleep(IDLE / 2)).await, Ok(()));
        }
        let silent_from = Instant::now();
        assert_eq!(patience.wait_for(pending::<()>()).await, Err(Late::Silent));
        assert!(silent_from.elapsed() >= IDLE, "the timer of the first wait rang, and was set anew");
    }

    #[tokio::test]
    async fn the_deadline_ends_every_wait() {
        let started = Instant::now();
        let mut patience = Patience::new(FAR, started + IDLE);
        assert_eq!(patience.wait_for(pending::<()>()).await, Err(Late::Over));
        assert!(started.elapsed() >= IDLE);
        assert_eq!(patience.wait_for(ready(1)).await, Err(Late::Over), "even what is there is not taken any more");
    }
}
