//! Server-sent events: an answer that goes on, with the same JSON as the plain one about every second, for consoles that
//! watch. Bounded in number, ended when the process drains, when the credential dies, or when what is watched is gone.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use ez_control::sign_in::{self, Principal};
use ez_control::{Control, ControlError};
use ez_telemetry::metrics::CONTROL_EVENT_STREAMS;
use futures_util::stream;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::extract::{Json, bearer};
use crate::problem::{ApiError, ProblemKind};

/// Media type of these answers.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";
/// Between two events.
const INTERVAL: Duration = Duration::from_secs(1);
/// How old what is known of a credential may be; it is looked at before an event, so that a dead one gets none after three
/// seconds.
const CHECK_EVERY: Duration = Duration::from_millis(1_500);
/// Streams of one process; each asks the shared state once a second at most, all of them together five times.
const MAX_STREAMS: usize = 256;
/// Streams of one master, so that one alone cannot take them all.
const MAX_STREAMS_OF_MASTER: usize = 16;
/// Streams of all masters, so that the admin can watch whatever they do.
const MAX_STREAMS_OF_MASTERS: usize = 192;
/// When to come back to a process whose streams are all taken.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// What keeps an idle connection open while there is nothing to tell.
const NOTHING_TO_TELL: &str = ": the figures are not available at the moment\n\n";
/// Proxies that gather answers would hold events back.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The streams of a process. Clones count together.
#[derive(Debug, Clone)]
pub struct EventStreams(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    open: Mutex<Open>,
    /// Set when the process drains.
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    of_masters: usize,
    by_master: HashMap<i64, usize>,
}

/// How a caller wants its answer.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// Once, as JSON.
    Once,
    /// Again and again, as events; with the credential that must stay good for that.
    Events(SecretString),
}

/// Who watches.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) control: Control,
    pub(crate) principal: Principal,
}

/// A stream's place among those that are open; free again when dropped.
struct Seat {
    streams: EventStreams,
    master_id: Option<i64>,
}

/// What becomes of a stream next.
enum Turn<T> {
    Tell(T),
    NothingToTell,
    End,
}

impl EventStreams {
    /// Streams that end when `stop` is set.
    pub fn new(stop: CancellationToken) -> Self {
        Self(Arc::new(Shared { open: Mutex::default(), stop }))
    }

    /// Answers with what `read` tells, once or as events of the name `event`. An error of the first reading is the answer;
    /// of a later one that something is unavailable is waited out, and any other ends the stream.
    pub(crate) async fn answer<T, R, F>(
        &self,
        wanted: Wanted,
        watcher: Watcher,
        event: &'static str,
        read: R,
    ) -> Result<Response, ApiError>
    where
        T: Serialize + Send + 'static,
        R: Fn(Control) -> F + Send + Sync + 'static,
        F: Future<Output = Result<T, ControlError>> + Send + 'static,
    {
        let first = read(watcher.control.clone()).await?;
        let bearer = match wanted {
            Wanted::Once => return Ok(Json(first).into_response()),
            Wanted::Events(bearer) => bearer,
        };
        let master_id = match &watcher.principal {
            Principal::Admin => None,
            Principal::Master(master) => Some(master.id),
        };
        let seat = self.take_seat(master_id)?;
        let mut ticks = interval_at(Instant::now() + INTERVAL, INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (first, checked_at) = (Some(first), Instant::now());
        let watch = Watch { seat, watcher, bearer, event, read, first, checked_at, ticks };
        let mut response = Body::from_stream(stream::unfold(watch, Watch::next)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
        response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
        Ok(response)
    }

    /// A seat for this master, or for the admin.
    fn take_seat(&self, master_id: Option<i64>) -> Result<Seat, ApiError> {
        let mut open = self.open();
        if open.total >= MAX_STREAMS || (master_id.is_some() && open.of_masters >= MAX_STREAMS_OF_MASTERS) {
            let detail = "this process has as many event streams as it may have: try again in a moment, or ask without \
                `Accept: text/event-stream`";
            return Err(ApiError::new(ProblemKind::Unavailable, detail).with_retry_after(RETRY_AFTER));
        }
        if let Some(master_id) = master_id {
            let own = open.by_master.get(&master_id).copied().unwrap_or_default();
            if own >= MAX_STREAMS_OF_MASTER {
                let detail = format!("a master may have {MAX_STREAMS_OF_MASTER} event streams at once: close one");
                return Err(ApiError::new(ProblemKind::TooMany, detail).with_retry_after(RETRY_AFTER));
            }
            open.by_master.insert(master_id, own + 1);
            open.of_masters += 1;
        }
        open.total += 1;
        metrics::gauge!(CONTROL_EVENT_STREAMS).set(open.total as f64);
        drop(open);
        Ok(Seat { streams: self.clone(), master_id })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // The counts change together, and nothing between can panic.
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.streams.open();
        open.total = open.total.saturating_sub(1);
        metrics::gauge!(CONTROL_EVENT_STREAMS).set(open.total as f64);
        let Some(master_id) = self.master_id else { return };
        open.of_masters = open.of_masters.saturating_sub(1);
        if let Some(own) = open.by_master.get_mut(&master_id) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                open.by_master.remove(&master_id);
            }
        }
    }
}

/// A stream under way.
struct Watch<T, R> {
    seat: Seat,
    watcher: Watcher,
    bearer: SecretString,
    event: &'static str,
    read: R,
    /// What was read before the answer began.
    first: Option<T>,
    /// When the credential was last known to be good.
    checked_at: Instant,
    ticks: Interval,
}

impl<T, R, F> Watch<T, R>
where
    T: Serialize,
    R: Fn(Control) -> F,
    F: Future<Output = Result<T, ControlError>>,
{
    /// The next thing to send; `None` is the end.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        let stop = self.seat.streams.0.stop.clone();
        let text = match stop.run_until_cancelled(self.turn()).await? {
            Turn::Tell(told) => event_text(self.event, &told)?,
            Turn::NothingToTell => NOTHING_TO_TELL.to_owned(),
            Turn::End => return None,
        };
        Some((Ok(Bytes::from(text)), self))
    }

    async fn turn(&mut self) -> Turn<T> {
        if let Some(first) = self.first.take() {
            return Turn::Tell(first);
        }
        self.ticks.tick().await;
        if self.checked_at.elapsed() >= CHECK_EVERY {
            let Watcher { control, principal } = &self.watcher;
            // Where nobody can tell, nobody watches.
            if !matches!(sign_in::still_stands(control, self.bearer.expose_secret(), principal).await, Ok(true)) {
                return Turn::End;
            }
            self.checked_at = Instant::now();
        }
        match (self.read)(self.watcher.control.clone()).await {
            Ok(told) => Turn::Tell(told),
            Err(ControlError::Unavailable(_)) => Turn::NothingToTell,
            Err(_) => Turn::End,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let accepted = parts.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        if wants_events(accepted) { Ok(Self::Events(bearer(parts)?.into())) } else { Ok(Self::Once) }
    }
}

/// Whether events are named, and JSON not before them.
fn wants_events<'a>(accepted: impl Iterator<Item = &'a str>) -> bool {
    let types = accepted.flat_map(|value| value.split(','));
    let mut essences = types.map(|media_type| media_type.split(';').next().unwrap_or_default().trim());
    essences
        .find(|essence| [EVENT_STREAM, "application/json"].iter().any(|known| essence.eq_ignore_ascii_case(known)))
        .is_some_and(|essence| essence.eq_ignore_ascii_case(EVENT_STREAM))
}

/// One event; JSON has no line feed of its own.
fn event_text(name: &str, told: &impl Serialize) -> Option<String> {
    let json = serde_json::to_string(told).ok()?;
    Some(format!("event: {name}\ndata: {json}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_for_those_who_ask_for_them() {
        for (accepted, expected) in [
            (&["text/event-stream"][..], true),
            (&["Text/Event-Stream; q=0.9, */*"], true),
            (&["text/html", "text/event-stream, application/json"], true),
            (&["application/json, text/event-stream"], false),
            (&["application/json", "text/event-stream"], false),
            (&["*/*"], false),
            (&["text/event-streams"], false),
            (&[], false),
        ] {
            assert_eq!(wants_events(accepted.iter().copied()), expected, "{accepted:?}");
        }
    }

    #[test]
    fn seats_are_bounded_and_come_free() {
        let streams = EventStreams::new(CancellationToken::new());
        let seats: Vec<Seat> = (0..MAX_STREAMS).map(|_| streams.take_seat(None).unwrap()).collect();
        let refused = streams.take_seat(None).map(drop).unwrap_err().into_response();
        assert_eq!(refused.status(), http::StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()[http::header::RETRY_AFTER], "5");
        drop(seats);
        assert_eq!(streams.open().total, 0);
        streams.take_seat(None).map(drop).unwrap();
    }
    #[test]
    fn masters_leave_seats_to_the_admin() {
        let streams = EventStreams::new(CancellationToken::new());
        let refused = |master_id| streams.take_seat(master_id).map(drop).unwrap_err().into_response().status();
        let of_one = |master_id| (0..MAX_STREAMS_OF_MASTER).map(move |_| Some(master_id));
        let masters = (MAX_STREAMS_OF_MASTERS / MAX_STREAMS_OF_MASTER) as i64;
        let mut seats: Vec<Seat> =
            (0..masters - 1).flat_map(of_one).map(|master_id| streams.take_seat(master_id).unwrap()).collect();
        assert_eq!(refused(Some(0)), http::StatusCode::TOO_MANY_REQUESTS);
        seats.extend(of_one(masters).map(|master_id| streams.take_seat(master_id).unwrap()));
        assert_eq!(refused(Some(-1)), http::StatusCode::SERVICE_UNAVAILABLE);
        seats.extend((MAX_STREAMS_OF_MASTERS..MAX_STREAMS).map(|_| streams.take_seat(None).unwrap()));
        assert_eq!(refused(None), http::StatusCode::SERVICE_UNAVAILABLE);
        drop(seats);
        streams.take_seat(Some(-1)).map(drop).unwrap();
        assert_eq!(streams.open().of_masters, 0);
    }
}
