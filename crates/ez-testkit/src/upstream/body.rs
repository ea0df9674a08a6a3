//! The body of an answer: bytes at once, or events paced and broken as the behaviour says.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{Behaviour, Fault};

/// What stands before the nanoseconds in the text of a timestamped token.
pub const STAMP_START: &str = "ts=";
/// What stands after them.
pub const STAMP_END: &str = ";";

/// Time for the bytes before a reset to leave the process; a reset discards what the kernel hasn't sent.
const SETTLE: Duration = Duration::from_millis(20);

/// One event of a stream, framing included.
#[derive(Clone)]
pub(super) struct Event {
    payload: Payload,
    /// Whether it carries a token and therefore follows the pace.
    token: bool,
}

/// What becomes of a body.
pub(super) enum SimBody {
    Whole(Option<Bytes>),
    Stepped(Box<SteppedBody>),
}

/// A body that takes its time.
pub(super) struct SteppedBody {
    steps: VecDeque<Step>,
    due_at: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    in_flight: InFlight,
}

/// The numbers of an upstream.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) aborted: AtomicU64,
}

/// A request being answered; counts as aborted if it goes before [`InFlight::done`].
pub(super) struct InFlight {
    counters: Arc<Counters>,
    done: bool,
}

/// Why a connection ended without a whole answer.
#[derive(Debug)]
pub(super) struct Dropped;

#[derive(Clone)]
enum Payload {
    Fixed(Bytes),
    Stamped { before: Bytes, after: Bytes },
}

enum Step {
    Send(Payload),
    Pause(Duration),
    Settle,
    Silence,
    Reset,
}

impl Event {
    /// An event outside the pace.
    pub(super) fn plain(text: impl Into<Bytes>) -> Self {
        Self { payload: Payload::Fixed(text.into()), token: false }
    }

    /// An event that follows the pace.
    pub(super) fn token(text: impl Into<Bytes>) -> Self {
        Self { payload: Payload::Fixed(text.into()), token: true }
    }

    /// An event that follows the pace and tells when it was sent, between `before` and `after`.
    pub(super) fn stamped(before: &str, after: &str) -> Self {
        let before = Bytes::from([before, STAMP_START].concat());
        let after = Bytes::from([STAMP_END, after].concat());
        Self { payload: Payload::Stamped { before, after }, token: true }
    }
}

impl InFlight {
    pub(super) fn new(counters: &Arc<Counters>) -> Self {
        Self { counters: Arc::clone(counters), done: false }
    }

    pub(super) fn done(&mut self) {
        self.done = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.done {
            self.counters.aborted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl SimBody {
    /// A body sent at once.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }

    /// A plain answer that breaks as the fault says.
    pub(super) fn broken(bytes: Bytes, fault: &Fault, in_flight: InFlight) -> Self {
        let half = bytes.len() / 2;
        let steps = vec![Step::Send(Payload::Fixed(bytes))];
        let steps = match fault {
            Fault::Truncate { after_bytes, .. } => cut(steps, after_bytes.unwrap_or(half), []),
            other => break_steps(steps, other),
        };
        Self::stepped(steps, in_flight)
    }

    /// A stream of events at the pace of the behaviour. Its fault is played too, if it is one of the body; `error_events` are what
    /// [`Fault::ErrorInStream`] sends.
    pub(super) fn stream(
        mut events: Vec<Event>,
        error_events: Vec<Event>,
        behaviour: &Behaviour,
        in_flight: InFlight,
    ) -> Self {
        match &behaviour.fault {
            Some(Fault::ErrorInStream { after_events, .. }) => {
                events.truncate(*after_events);
                events.extend(error_events);
            }
            Some(Fault::Truncate { after_events: Some(after_events), .. }) => events.truncate(*after_events),
            Some(Fault::Truncate { after_events: None, after_bytes: None }) => {
                events.pop();
            }
            _ => {}
        }
        let mut steps = pace(events, behaviour);
        if let Some(fault) = &behaviour.fault {
            steps = break_steps(steps, fault);
        }
        Self::stepped(steps, in_flight)
    }

    fn stepped(steps: Vec<Step>, in_flight: InFlight) -> Self {
        Self::Stepped(Box::new(SteppedBody { steps: steps.into(), due_at: Instant::now(), timer: None, in_flight }))
    }
}

impl Body for SimBody {
    type Data = Bytes;
    type Error = Dropped;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stepped(stepped) => stepped.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stepped(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stepped(_) => SizeHint::default(),
        }
    }
}

impl SteppedBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        loop {
            if let Some(timer) = &mut self.timer {
                ready!(timer.as_mut().poll(cx));
                self.timer = None;
            }
            let Some(step) = self.steps.pop_front() else {
                self.in_flight.done();
                return Poll::Ready(None);
            };
            match step {
                Step::Send(payload) => {
                    if self.steps.is_empty() {
                        self.in_flight.done();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(payload.into_bytes()))));
                }
                // Measured from the start rather than from the last event: a late event doesn't delay the ones after it.
                Step::Pause(gap) => {
                    self.due_at += gap;
                    if self.due_at > Instant::now() {
                        self.timer = Some(Box::pin(tokio::time::sleep_until(self.due_at)));
                    }
                }
                Step::Settle => self.timer = Some(Box::pin(tokio::time::sleep(SETTLE))),
                Step::Silence => {
                    self.steps.push_front(Step::Silence);
                    return Poll::Pending;
                }
                Step::Reset => {
                    self.in_flight.done();
                    return Poll::Ready(Some(Err(Dropped)));
                }
            }
        }
    }
}

impl Payload {
    fn into_bytes(self) -> Bytes {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::Stamped { before, after } => {
                let nanos = since_epoch().as_nanos().to_string();
                let mut bytes = BytesMut::with_capacity(before.len() + nanos.len() + after.len());
                bytes.put(before);
                bytes.put(nanos.as_bytes());
                bytes.put(after);
                bytes.freeze()
            }
        }
    }
}

impl std::fmt::Display for Dropped {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the simulated upstream dropped the connection")
    }
}

impl std::error::Error for Dropped {}

/// The wall clock, which the processes of one host share.
#[expect(
    clippy::disallowed_methods,
    reason = "stamps are compared between processes, and a test's clock stays in its own"
)]
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn pace(events: Vec<Event>, behaviour: &Behaviour) -> Vec<Step> {
    let gap = behaviour.token_gap();
    let mut steps = Vec::with_capacity(events.len() * 2);
    if !behaviour.first_event_delay.is_zero() {
        steps.push(Step::Pause(behaviour.first_event_delay));
    }
    let mut first_token = true;
    for Event { payload, token } in events {
        if token && !gap.is_zero() && !std::mem::take(&mut first_token) {
            steps.push(Step::Pause(gap));
        }
        steps.push(Step::Send(payload));
    }
    steps
}

fn break_steps(steps: Vec<Step>, fault: &Fault) -> Vec<Step> {
    match fault {
        Fault::Stall { after_bytes } => cut(steps, *after_bytes, [Step::Silence]),
        Fault::Reset { after_bytes: Some(after_bytes) } => cut(steps, *after_bytes, [Step::Settle, Step::Reset]),
        Fault::Truncate { after_events: None, after_bytes: Some(after_bytes) } => cut(steps, *after_bytes, []),
        _ => steps,
    }
}

/// The steps up to a number of sent bytes, then `ending`. A token cut through carries the time of the cut.
fn cut<const N: usize>(steps: Vec<Step>, after_bytes: usize, ending: [Step; N]) -> Vec<Step> {
    let mut left = after_bytes;
    let mut kept = Vec::with_capacity(steps.len() + N);
    for step in steps {
        if left == 0 {
            break;
        }
        match step {
            Step::Send(payload) => {
                let bytes = payload.clone().into_bytes();
                let whole = bytes.len() <= left;
                kept.push(Step::Send(if whole { payload } else { Payload::Fixed(bytes.slice(..left)) }));
                left = left.saturating_sub(bytes.len());
            }
            other => kept.push(other),
        }
    }
    kept.extend(ending);
    kept
}
