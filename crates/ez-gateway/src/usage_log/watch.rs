//! The watch over calls that write their records themselves. A worker that hangs in such a write may be the one that waits
//! for the runtime's timers and connections; the others sleep, and would not take its place until something wakes them.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// How often the watch looks. A write that is met twice hangs.
const TICK: Duration = Duration::from_millis(50);

/// The write that a call is at by itself; there is one at a time.
#[derive(Default)]
pub(super) struct InPlace(Mutex<Current>);

#[derive(Default)]
struct Current {
    /// Writes so far.
    number: u64,
    /// Whose worker is at it; `None` between two writes.
    runtime: Option<Handle>,
}

/// A write under way, until it is dropped.
pub(super) struct Entered<'p>(&'p InPlace);

impl InPlace {
    /// Notes that a write begins on this thread.
    pub(super) fn enter(&self) -> Entered<'_> {
        let runtime = Handle::try_current().ok();
        let mut current = self.lock();
        current.number += 1;
        current.runtime = runtime;
        Entered(self)
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.lock().runtime = None;
    }
}

/// Wakes another worker of a runtime for as long as one of its workers hangs in a write, until the log is closed.
pub(super) fn watch_until(in_place: &InPlace, stopped: &Receiver<()>) {
    let mut seen = 0;
    while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        let hanging = {
            let current = in_place.lock();
            let was_seen = std::mem::replace(&mut seen, current.number) == current.number;
            current.runtime.clone().filter(|_| was_seen)
        };
        if let Some(runtime) = hanging {
            TaskTracker::new().spawn_on(async {}, &runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread;

    use tokio::time::sleep;

    use super::*;

    #[test]
    fn timers_go_on_while_a_worker_hangs_in_a_write() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let in_place = Arc::new(InPlace::default());
        let (stop, stopped) = mpsc::channel();
        let watched = in_place.clone();
        let watch = thread::Builder::new().spawn(move || watch_until(&watched, &stopped)).unwrap();
        for _ in 0..20 {
            let (rings, rung) = mpsc::channel();
            let (entered, has_entered) = mpsc::channel();
            let tasks = TaskTracker::new();
            let writing = in_place.clone();
            // Hangs until the timer has rung, which nobody may be there to tell.
            let hung = tasks.spawn_on(
                async move {
                    sleep(Duration::from_millis(2)).await;
                    let _entered = writing.enter();
                    entered.send(()).unwrap();
                    rung.recv_timeout(Duration::from_secs(20))
                },
                runtime.handle(),
            );
            let timer = async move {
                sleep(Duration::from_millis(10)).await;
                rings.send(()).unwrap();
            };
            tasks.spawn_on(timer, runtime.handle());
            has_entered.recv().unwrap();
            assert_eq!(runtime.block_on(hung).unwrap(), Ok(()), "the timer rang while the worker hung");
        }
        drop(stop);
        watch.join().unwrap();
    }
}
