//! Starts at a steady rate, whatever the answers do.

use std::io;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The times at which requests are due, handed to whichever connection is free.
pub(super) struct Pace {
    due: Mutex<UnboundedReceiver<Instant>>,
}

impl Pace {
    /// `rate` starts a second, evenly spaced, until `ends_at`. A thread of its own keeps the time, because the runtime's
    /// timer ticks once a millisecond and would start a handful at a time. It ends by itself.
    pub(super) fn start(rate: f64, ends_at: Instant) -> io::Result<Self> {
        let (sender, due) = unbounded_channel();
        let gap = Duration::from_secs_f64(1.0 / rate);
        let keep_time = move || {
            let mut at = Instant::now();
            while at < ends_at {
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                if sender.send(at).is_err() {
                    return;
                }
                at += gap;
            }
        };
        std::thread::Builder::new().name("load-pace".to_owned()).spawn(keep_time)?;
        Ok(Self { due: Mutex::new(due) })
    }

    /// When the next request is due, once it is; `None` when the run is over.
    pub(super) async fn next(&self) -> Option<Instant> {
        self.due.lock().await.recv().await
    }
}
