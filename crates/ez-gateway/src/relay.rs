//! Relay: hands an answer to the client. A stream passes event by event, its usage is read as it passes, and its end
//! is told truthfully: the terminal event is released only once the call is settled.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ez_protocol::error::{Fault, FaultKind, render_event};
use ez_protocol::redact::redact_bytes;
use ez_protocol::sse::EventFramer;
use ez_protocol::stream::{Meaning, StreamReader};
use futures_util::{FutureExt, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::time::{Instant, timeout, timeout_at};

use crate::call::{AnswerBody, CallScope};
use crate::dispatch::{Answer, AnswerHead, Content, PlainContent};
use crate::inspect::Inspected;
use crate::refusal::{Refusal, full};
use crate::settle::{Account, End, not_accountable};
use crate::upstream::UpstreamBody;

/// How long the end of a stream is awaited behind its terminal event, so that the connection can be used again.
const TAIL_TIMEOUT: Duration = Duration::from_secs(1);
/// No more is gathered into one frame than this, so that a fast upstream still feels a slow client.
const BURST_BYTES: usize = 32 << 10;

/// Makes the client's response of an upstream's answer.
pub(crate) async fn relay(
    scope: &CallScope<'_>,
    inspected: &Inspected,
    answer: Answer,
    mut account: Account,
) -> Result<Response<AnswerBody>, Refusal> {
    account.note_status(answer.head.status.as_u16());
    let mut headers = response_headers(&answer.head, account.attempts());
    let status = answer.head.status;
    let body = match answer.body {
        Content::Plain(content) => {
            let body = plain(content, &mut account).await?;
            if let Some(cost) = account.cost().and_then(|cost| HeaderValue::from_str(cost).ok()) {
                headers.insert(HeaderName::from_static("x-ez-cost"), cost);
            }
            full(body)
        }
        Content::Stream(content) => {
            let asked = inspected.peek.model.as_str();
            let relay = StreamRelay {
                idle_timeout: scope.gateway.config.idle_timeout,
                public_name: (asked != answer.head.choice.upstream_model).then(|| asked.to_owned()),
                withholds_usage: !inspected.peek.wants_usage,
                peeked: content.peeked.into(),
                reader: content.reader,
                ended: None,
                framer: content.framer,
                upstream: content.rest,
                phase: Phase::Passing,
                deadline: scope.deadline,
                account,
            };
            relay.into_body()
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Settles a plain answer; its body may be released once this returns.
async fn plain(content: PlainContent, account: &mut Account) -> Result<Bytes, Refusal> {
    let body = content.answer.renamed.unwrap_or(content.body);
    account.note_sent(body.len());
    if let Some(tokens) = content.answer.tokens {
        account.note_tokens(tokens);
    }
    let end = match content.error {
        None => End::complete(),
        Some(error) => End::upstream(format!("the upstream refused the request: {}", error.message)),
    };
    match account.settle(end).await {
        Ok(()) => Ok(body),
        Err(e) => {
            tracing::error!(error = %e, request_id = account.request_id(), "call not settled; its answer is withheld");
            Err(not_accountable())
        }
    }
}

fn response_headers(head: &AnswerHead, attempts: u32) -> HeaderMap {
    let mut headers = head.headers.clone();
    let provider = &head.choice.upstream.snapshot.name;
    for (name, text) in [("x-ez-provider", provider), ("x-ez-model", &head.choice.upstream_model)] {
        // Names of groups and models may hold what no header can carry.
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers.insert(HeaderName::from_static("x-ez-attempts"), HeaderValue::from(attempts));
    if head.headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream")) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // Tells nginx and its like not to gather events.
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    }
    headers
}

/// Events on their way out together; a single one is not copied.
#[derive(Default)]
struct Burst {
    first: Bytes,
    rest: BytesMut,
}

impl Burst {
    fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    fn len(&self) -> usize {
        self.first.len().max(self.rest.len())
    }

    fn push(&mut self, event: Bytes) {
        if self.first.is_empty() {
            self.first = event;
            return;
        }
        if self.rest.is_empty() {
            self.rest.extend_from_slice(&self.first);
        }
        self.rest.extend_from_slice(&event);
    }

    fn take(&mut self) -> Bytes {
        if self.rest.is_empty() { std::mem::take(&mut self.first) } else { self.rest.split().freeze() }
    }
}

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Events pass.
    Passing,
    /// The terminal event was released; the upstream's end is awaited.
    Finishing,
    /// Nothing more comes.
    Ended,
}

/// Why a stream did not reach its terminal event.
#[derive(Debug)]
enum Break {
    /// The upstream said so itself, in this event.
    Told(Bytes, String),
    /// It stopped; the client is told in the gateway's words.
    Silent(FaultKind, &'static str, String),
}

struct StreamRelay {
    account: Account,
    peeked: VecDeque<(Bytes, Meaning)>,
    reader: StreamReader,
    /// Whether the upstream's body has ended, and if so whether it broke.
    ended: Option<bool>,
    framer: EventFramer,
    upstream: UpstreamBody,
    phase: Phase,
    public_name: Option<String>,
    withholds_usage: bool,
    idle_timeout: Duration,
    deadline: Instant,
}

impl StreamRelay {
    fn into_body(self) -> AnswerBody {
        let frames = stream::unfold(self, |mut relay| async move {
            let bytes = relay.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(bytes)), relay))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    /// What the client gets next: all events that have arrived, in one frame, so that a burst costs one write.
    async fn next(&mut self) -> Option<Bytes> {
        match self.phase {
            Phase::Passing => {}
            Phase::Finishing => {
                self.await_upstream_end().await;
                return None;
            }
            Phase::Ended => return None,
        }
        let mut burst = Burst::default();
        loop {
            let (event, meaning) = match self.arrived_event() {
                Ok(Some(event)) => event,
                Ok(None) if !burst.is_empty() => {
                    if burst.len() < BURST_BYTES && self.take_waiting() {
                        continue;
                    }
                    return Some(burst.take());
                }
                Ok(None) => match self.next_event().await {
                    Ok(event) => event,
                    Err(reason) => return Some(self.break_off(reason).await),
                },
                Err(reason) => {
                    burst.push(self.break_off(reason).await);
                    return Some(burst.take());
                }
            };
            match meaning {
                Meaning::Terminal => {
                    burst.push(self.complete(event).await);
                    return Some(burst.take());
                }
                Meaning::Error(error) => {
                    let told = format!("the upstream broke off: {}", error.message);
                    burst.push(self.break_off(Break::Told(redact_bytes(&event), told)).await);
                    return Some(burst.take());
                }
                Meaning::Usage { usage_only } => {
                    if let Some(tokens) = self.reader.tokens() {
                        self.account.note_tokens(tokens);
                    }
                    if !(usage_only && self.withholds_usage) {
                        burst.push(self.pass(event));
                    }
                }
                Meaning::Content => burst.push(self.pass(event)),
                Meaning::Other => {
                    self.account.note_sent(event.len());
                    burst.push(event);
                }
            }
        }
    }

    /// Takes the upstream's next bytes if they are there already. Whether there were any; an end or a fault is met again
    /// when the stream is next waited for.
    fn take_waiting(&mut self) -> bool {
        let frame = self.upstream.frame().now_or_never();
        let Some(Some(Ok(frame))) = frame else {
            if let Some(ended) = frame {
                self.ended = Some(ended.is_some());
            }
            return false;
        };
        if let Some(data) = frame.data_ref() {
            self.framer.push(data);
        }
        true
    }

    /// The next event of what has been read already.
    fn arrived_event(&mut self) -> Result<Option<(Bytes, Meaning)>, Break> {
        if let Some(event) = self.peeked.pop_front() {
            return Ok(Some(event));
        }
        let framed = self.framer.next_event();
        let event = framed.map_err(|e| Break::Silent(FaultKind::Upstream, "upstream_broken_answer", e.to_string()))?;
        Ok(event.map(|event| self.understood(event)))
    }

    fn understood(&mut self, event: Bytes) -> (Bytes, Meaning) {
        let meaning = self.reader.read(&event);
        (event, meaning)
    }

    async fn next_event(&mut self) -> Result<(Bytes, Meaning), Break> {
        loop {
            if let Some(event) = self.arrived_event()? {
                return Ok(event);
            }
            if let Some(broke) = self.ended {
                return self.end_of_stream(broke);
            }
            let now = Instant::now();
            // Asked first, because a stream that always has a next byte would never let the deadline show.
            if now >= self.deadline {
                return Err(over_deadline());
            }
            let by = (now + self.idle_timeout).min(self.deadline);
            match timeout_at(by, self.upstream.frame()).await {
                Err(_) if by == self.deadline => return Err(over_deadline()),
                Err(_) => {
                    let message = "the upstream's stream fell silent for too long".to_owned();
                    return Err(Break::Silent(FaultKind::Timeout, "upstream_timeout", message));
                }
                Ok(Some(Err(_))) => return self.end_of_stream(true),
                Ok(None) => return self.end_of_stream(false),
                Ok(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        self.framer.push(data);
                    }
                }
            }
        }
    }

    /// What is left when the upstream's body has ended: an event without its blank line, or nothing where one should be.
    fn end_of_stream(&mut self, broke: bool) -> Result<(Bytes, Meaning), Break> {
        self.ended = Some(broke);
        if broke {
            let message = "the upstream's connection broke in the middle of the stream".to_owned();
            return Err(Break::Silent(FaultKind::Upstream, "upstream_broken_answer", message));
        }
        let tail = self.framer.finish().and_then(|tail| self.reader.whole_tail(&tail)).ok_or_else(truncated)?;
        Ok(self.understood(tail))
    }

    fn pass(&mut self, event: Bytes) -> Bytes {
        let event = match &self.public_name {
            Some(name) => self.reader.rename(&event, name),
            None => event,
        };
        self.account.note_sent(event.len());
        event
    }

    /// Settles, then releases the terminal event.
    async fn complete(&mut self, terminal: Bytes) -> Bytes {
        self.phase = Phase::Finishing;
        self.account.note_sent(terminal.len());
        match self.account.settle(End::complete()).await {
            Ok(()) => terminal,
            Err(e) => {
                tracing::error!(error = %e, request_id = self.account.request_id(), "call not settled; its end is withheld");
                self.phase = Phase::Ended;
                render_event(self.account.protocol(), &not_accountable().fault, self.account.request_id())
            }
        }
    }

    /// Settles, then tells the client that this is no proper end.
    async fn break_off(&mut self, reason: Break) -> Bytes {
        self.phase = Phase::Ended;
        let (event, error) = match reason {
            Break::Told(event, error) => (event, error),
            Break::Silent(kind, code, message) => {
                let fault = Fault { status: 502, kind, code, message: message.clone(), param: None };
                (render_event(self.account.protocol(), &fault, self.account.request_id()), message)
            }
        };
        self.account.note_sent(event.len());
        if let Err(e) = self.account.settle(End::upstream(error)).await {
            tracing::error!(error = %e, request_id = self.account.request_id(), "broken call not settled");
        }
        event
    }

    async fn await_upstream_end(&mut self) {
        self.phase = Phase::Ended;
        if self.ended.is_some() {
            return;
        }
        let to_end = async { while let Some(Ok(_)) = self.upstream.frame().await {} };
        // A server that keeps the stream open costs its connection, nothing else.
        let _ = timeout(TAIL_TIMEOUT, to_end).await;
    }
}

fn truncated() -> Break {
    let message = "the upstream's stream ended without its terminal event".to_owned();
    Break::Silent(FaultKind::Upstream, "upstream_truncated", message)
}

fn over_deadline() -> Break {
    Break::Silent(FaultKind::Timeout, "call_timeout", "the call took longer than this gateway allows".to_owned())
}
