//! Calls in flight at one credential, and the queue of those that wait for one of its slots: first come, first served.
//! The count is exact within this process; other gateways count for themselves.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The slots of one credential.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    in_flight: AtomicU32,
    /// Slots at most, as the last call that asked knew it; 0 means no limit.
    max: AtomicU32,
    /// Length of the queue, which is changed only under its lock.
    waiting: AtomicUsize,
    queue: Mutex<VecDeque<oneshot::Sender<Slot>>>,
}

/// One call in flight. Dropping it frees the slot, and hands it to whoever waits longest.
#[derive(Debug)]
pub(crate) struct Slot(Option<Arc<Slots>>);

impl Slots {
    /// Calls in flight.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Calls that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether a call would get a slot without waiting.
    pub(crate) fn has_room(&self, max: Option<u32>) -> bool {
        max.is_none_or(|max| self.in_flight() < max && self.waiting() == 0)
    }

    /// A slot, if one is free and nobody waits.
    pub(crate) fn take(self: &Arc<Self>, max: Option<u32>) -> Option<Slot> {
        let Some(max) = max else {
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            return Some(Slot(Some(self.clone())));
        };
        self.max.store(max, Ordering::SeqCst);
        (self.waiting.load(Ordering::SeqCst) == 0 && self.count_up(max)).then(|| Slot(Some(self.clone())))
    }

    /// A place in the queue; `None` where it is full. Dropping the receiver gives the place up.
    pub(crate) fn wait(self: &Arc<Self>, max: u32, capacity: usize) -> Option<oneshot::Receiver<Slot>> {
        let mut queue = self.queue();
        if queue.len() >= capacity {
            queue.retain(|place| !place.is_closed());
        }
        self.waiting.store(queue.len(), Ordering::SeqCst);
        if queue.len() >= capacity {
            return None;
        }
        let (place, slot) = oneshot::channel();
        queue.push_back(place);
        self.waiting.store(queue.len(), Ordering::SeqCst);
        self.max.store(max, Ordering::SeqCst);
        // A slot that was freed before the queue could be seen is handed on here.
        self.hand_on(&mut queue);
        Some(slot)
    }

    fn count_up(&self, max: u32) -> bool {
        let more = |count: u32| (count < max).then(|| count + 1);
        self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    fn free(self: &Arc<Self>) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.hand_on(&mut self.queue());
        }
    }

    /// Hands free slots to those who wait longest.
    fn hand_on(self: &Arc<Self>, queue: &mut VecDeque<oneshot::Sender<Slot>>) {
        let max = self.max.load(Ordering::SeqCst);
        while !queue.is_empty() && self.count_up(max) {
            let place = queue.pop_front();
            self.waiting.store(queue.len(), Ordering::SeqCst);
            let handed = place.map(|place| place.send(Slot(Some(self.clone()))));
            if let Some(Err(mut unwanted)) = handed {
                // Freed by hand: its drop would come back here for the lock.
                unwanted.0 = None;
                self.in_flight.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<oneshot::Sender<Slot>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(slots) = self.0.take() {
            slots.free();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_counted_and_freed() {
        let slots = Arc::new(Slots::default());
        let first = slots.take(Some(2)).unwrap();
        let second = slots.take(Some(2)).unwrap();
        assert!(slots.take(Some(2)).is_none() && !slots.has_room(Some(2)));
        assert!(slots.take(None).is_some(), "without a limit there is always room");
        drop(first);
        assert!(slots.has_room(Some(2)) && slots.take(Some(2)).is_some());
        drop(second);
        assert_eq!(slots.in_flight(), 0);
    }

    #[test]
    fn who_waits_longest_is_served_first_and_nobody_gets_past() {
        let slots = Arc::new(Slots::default());
        let held = slots.take(Some(1)).unwrap();
        let mut first = slots.wait(1, 2).unwrap();
        let mut second = slots.wait(1, 2).unwrap();
        assert!(slots.wait(1, 2).is_none(), "the queue is bounded");
        assert!(slots.take(Some(1)).is_none(), "not past those who wait");
        drop(held);
        assert!(slots.take(Some(1)).is_none());
        let slot = first.try_recv().unwrap();
        assert!(second.try_recv().is_err());
        assert_eq!((slots.in_flight(), slots.waiting()), (1, 1));
        drop(slot);
        drop(second.try_recv().unwrap());
        assert_eq!((slots.in_flight(), slots.waiting()), (0, 0));
    }

    #[test]
    fn places_that_were_given_up_cost_nothing() {
        let slots = Arc::new(Slots::default());
        let held = slots.take(Some(1)).unwrap();
        for _ in 0..10 {
            drop(slots.wait(1, 1).expect("a place that was given up makes room"));
        }
        let mut patient = slots.wait(1, 1).unwrap();
        drop(held);
        let slot = patient.try_recv().unwrap();
        assert_eq!(slots.in_flight(), 1);
        drop((slot, patient));
        assert_eq!((slots.in_flight(), slots.waiting()), (0, 0));

        // A slot that was handed over and never taken up comes back too.
        let held = slots.take(Some(1)).unwrap();
        let unread = slots.wait(1, 1).unwrap();
        drop(held);
        assert_eq!(slots.in_flight(), 1);
        drop(unread);
        assert_eq!(slots.in_flight(), 0);
    }

    #[test]
    fn a_raised_limit_lets_those_in_who_wait() {
        let slots = Arc::new(Slots::default());
        let held = slots.take(Some(1)).unwrap();
        let mut first = slots.wait(1, 9).unwrap();
        let mut second = slots.wait(3, 9).unwrap();
        assert!(first.try_recv().is_ok() && second.try_recv().is_ok());
        drop(held);
        assert_eq!(slots.in_flight(), 0);
    }
}
