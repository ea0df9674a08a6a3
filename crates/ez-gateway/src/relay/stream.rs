//! One stream: passes event by event, its usage is read as it passes, and its end is told truthfully. The end is
//! released only once the call is settled.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use ez_contract::snapshot::ClientGone;
use ez_contract::usage::TokenUsage;
use ez_protocol::answer::VendorError;
use ez_protocol::error::{Fault, FaultKind};
use ez_protocol::framer::Framer;
use ez_protocol::redact::redact_bytes;
use ez_protocol::sample::TextSample;
use ez_protocol::stream::{Meaning, StreamReader};
use ez_protocol::translate::{AnswerTranslator, UnreadableAnswer};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::BrokenOff;
use super::burst::Burst;
use super::patience::{Late, Patience};
use crate::failure::{Blame, UPSTREAM_FAILED, blame_within, told_end};
use crate::metering::{self, Meter};
use crate::settle::{Account, End, not_accountable};
use crate::stored::Spotter;
use crate::upstream::UpstreamBody;

/// How long the end of a stream is awaited behind its terminal event, so that the connection can be used again.
const TAIL_TIMEOUT: Duration = Duration::from_secs(1);
/// No more is gathered into one frame than this, so that a fast upstream still feels a slow client.
const BURST_BYTES: usize = 32 << 10;

/// After a try to gather more found nothing, so many bursts go out without one: models mostly write slowly.
const UNGATHERED: u8 = 15;

const CALL_TIMEOUT: &str = "call_timeout";

/// How the bytes of a stream are read.
pub(crate) enum Content {
    /// As events of the API's protocol.
    Events {
        /// Cuts them apart.
        framer: Framer,
        /// Tells what they mean.
        reader: Box<StreamReader>,
    },
    /// Not at all: sound, text, images. They end where their body ends.
    Opaque {
        /// What has arrived and not passed.
        waiting: VecDeque<Bytes>,
    },
}

/// Where a stream stands. Which event came last, and who ended it, is told by its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Events pass.
    Passing,
    /// The terminal event was released; the upstream's end is awaited.
    Finishing,
    /// Nothing more comes.
    Ended,
}

/// Why a stream did not come to its proper end.
#[derive(Debug)]
enum Break {
    /// The upstream said so itself, in this event.
    Told(Bytes, Box<VendorError>),
    /// It stopped; the client is told in the gateway's words.
    Silent(FaultKind, &'static str, String),
}

/// What a stream is relayed with.
pub(super) struct StreamRelay {
    pub(super) account: Box<Account>,
    /// Read already, with what they mean.
    pub(super) peeked: VecDeque<(Bytes, Meaning)>,
    pub(super) content: Content,
    pub(super) upstream: UpstreamBody,
    /// The name to put in place of the upstream's, where they differ.
    pub(super) public_name: Option<String>,
    /// Makes the client's protocol of it, where that is another one.
    pub(super) translator: Option<Box<AnswerTranslator>>,
    pub(super) withholds_usage: bool,
    pub(super) meter: Meter,
    /// Whether nothing is charged for it.
    pub(super) is_free: bool,
    /// Looks for the id of a response that its vendor stores.
    pub(super) spotter: Option<Spotter>,
    /// What becomes of the upstream when the client leaves, where the binding says so.
    pub(super) on_client_gone: Option<ClientGone>,
    pub(super) patience: Patience,
    pub(super) progress: Progress,
}

/// How far a stream has come.
pub(super) struct Progress {
    phase: Phase,
    /// Whether the upstream's body has ended, and if so whether it broke.
    ended: Option<bool>,
    /// Whether nobody listens any more, and the stream is only heard for its usage.
    is_client_gone: bool,
    /// How many more bursts go out without a try to gather more.
    ungathered: u8,
}

impl Default for Progress {
    fn default() -> Self {
        Self { phase: Phase::Passing, ended: None, is_client_gone: false, ungathered: 0 }
    }
}

impl StreamRelay {
    /// What the client gets next: all events that have arrived, in one frame, so that a burst costs one write.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        match self.progress.phase {
            Phase::Passing => {}
            Phase::Finishing => {
                self.await_upstream_end().await;
                return None;
            }
            Phase::Ended => return None,
        }
        let mut burst = Burst::default();
        let mut has_gathered = false;
        self.progress.ungathered = self.progress.ungathered.saturating_sub(1);
        loop {
            let arrived = match self.arrived_event() {
                Ok(None) if !burst.is_empty() => {
                    if burst.len() < BURST_BYTES && self.take_more(&mut has_gathered).await {
                        continue;
                    }
                    return Some(Ok(burst.take()));
                }
                Ok(None) => self.next_event().await,
                arrived => arrived,
            };
            let (event, meaning) = match arrived {
                Ok(Some(event)) => event,
                Ok(None) => return self.complete_at_end().await,
                Err(reason) => return self.end_with(reason, burst).await,
            };
            match meaning {
                Meaning::Terminal => {
                    let terminal = match self.last_of(event) {
                        Ok(terminal) => terminal,
                        Err(reason) => return self.end_with(reason, burst).await,
                    };
                    burst.push(self.complete(terminal).await);
                    return Some(Ok(burst.take()));
                }
                Meaning::Truncated => return self.end_with(truncated(), burst).await,
                Meaning::Error(error) => {
                    self.note_tokens();
                    if let Some(blame) = blame_within(&error) {
                        self.account.note_broken(blame);
                    }
                    return self.end_with(Break::Told(redact_bytes(&event), Box::new(error)), burst).await;
                }
                Meaning::Usage { usage_only } => {
                    self.note_tokens();
                    // A translation needs it all the same.
                    if !(usage_only && self.withholds_usage) || self.translator.is_some() {
                        burst.push(self.pass(event));
                    }
                }
                Meaning::Content => burst.push(self.pass(event)),
                Meaning::Other => {
                    let event = match &mut self.translator {
                        Some(translator) => translator.event(&event),
                        None => event,
                    };
                    self.note_sent(&event);
                    burst.push(event);
                }
            }
        }
    }

    /// Whether the stream has not come to an end of any kind.
    pub(super) fn is_under_way(&self) -> bool {
        self.progress.phase == Phase::Passing
    }

    /// Whether its account is still open, if only because the client left while it was being closed.
    pub(super) fn is_unsettled(&self) -> bool {
        self.account.is_open()
    }

    /// From here on the stream is heard for its usage alone.
    pub(super) fn note_client_gone(&mut self) {
        self.progress.is_client_gone = true;
    }

    /// Lets the upstream go at once; what it takes to close the account is left to be done.
    pub(super) fn abandon(self) -> impl Future<Output = ()> + Send + 'static {
        let (told, output) = (self.content.told(), self.content.output());
        let Self { mut account, progress, meter, is_free, .. } = self;
        let end = if progress.is_client_gone { End::client_left() } else { account.end_of_dropped() };
        async move {
            if !is_free
                && !meter.is_all_told(told, false)
                && let Some(tokens) = meter.estimate(told, move || output).await
            {
                account.note_estimated(tokens);
            }
            if let Err(e) = account.settle(end).await {
                tracing::error!(error = %e, request_id = account.request_id(), "abandoned call not settled");
            }
        }
    }

    /// Takes the upstream's next bytes if they are there already, or come as soon as its connection has a turn, so that a
    /// flood of small events is no flood of small writes. Whether there were any.
    async fn take_more(&mut self, has_gathered: &mut bool) -> bool {
        if self.take_waiting() {
            return true;
        }
        // A body that broke says nothing of it when it is asked again.
        if self.progress.ended.is_some() || self.progress.ungathered > 0 {
            return false;
        }
        give_way().await;
        let has_more = self.take_waiting();
        *has_gathered |= has_more;
        if !*has_gathered {
            self.progress.ungathered = UNGATHERED;
        }
        has_more
    }

    /// Takes the upstream's next bytes if they are there already. Whether there were any; an end or a fault is met again
    /// when the stream is next waited for.
    fn take_waiting(&mut self) -> bool {
        let frame = self.upstream.frame().now_or_never();
        let Some(Some(Ok(frame))) = frame else {
            if let Some(ended) = frame {
                self.progress.ended = Some(ended.is_some());
            }
            return false;
        };
        if let Ok(data) = frame.into_data() {
            self.content.push(data);
        }
        true
    }

    /// The next event of what has been read already.
    fn arrived_event(&mut self) -> Result<Option<(Bytes, Meaning)>, Break> {
        if let Some(event) = self.peeked.pop_front() {
            return Ok(Some(event));
        }
        let next = self.content.next();
        next.map_err(|message| Break::Silent(FaultKind::Upstream, "upstream_broken_answer", message))
    }

    /// The next event, waited for; `None` at the proper end of a stream that has no terminal event.
    async fn next_event(&mut self) -> Result<Option<(Bytes, Meaning)>, Break> {
        loop {
            if let Some(event) = self.arrived_event()? {
                return Ok(Some(event));
            }
            if let Some(broke) = self.progress.ended {
                return self.end_of_stream(broke);
            }
            let arrived = match self.patience.wait_for(self.upstream.frame()).await {
                Ok(arrived) => arrived,
                Err(Late::Over) => return Err(over_deadline()),
                Err(Late::Silent) => {
                    let message = "the upstream's stream fell silent for too long".to_owned();
                    return Err(Break::Silent(FaultKind::Timeout, "upstream_timeout", message));
                }
            };
            match arrived {
                Some(Err(_)) => return self.end_of_stream(true),
                None => return self.end_of_stream(false),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.content.push(data);
                    }
                }
            }
        }
    }

    /// What is left when the upstream's body has ended: an event without its blank line, nothing where nothing is
    /// missing, or a break.
    fn end_of_stream(&mut self, broke: bool) -> Result<Option<(Bytes, Meaning)>, Break> {
        self.progress.ended = Some(broke);
        if broke {
            let message = "the upstream's connection broke in the middle of the stream".to_owned();
            return Err(Break::Silent(FaultKind::Upstream, "upstream_broken_answer", message));
        }
        match self.content.finish() {
            Some(tail) => Ok(Some(tail)),
            None if self.content.may_end() => Ok(None),
            None => Err(truncated()),
        }
    }

    fn note_tokens(&mut self) {
        if self.is_free {
            self.account.note_tokens(metering::nothing());
        } else if let Content::Events { reader, .. } = &self.content
            && let Some(tokens) = reader.tokens()
        {
            self.account.note_tokens(tokens);
        }
    }

    /// Estimates what was used, where the upstream did not tell all of it before the stream ended as it did.
    async fn note_estimate(&mut self, is_whole: bool) {
        let told = self.content.told();
        if self.is_free || self.meter.is_all_told(told, is_whole) {
            return;
        }
        let output = self.content.output();
        if let Some(tokens) = self.meter.clone().estimate(told, move || output).await {
            self.account.note_estimated(tokens);
        }
    }

    fn pass(&mut self, event: Bytes) -> Bytes {
        if self.spotter.as_mut().is_some_and(|spotter| spotter.see_event(&event)) {
            self.spotter = None;
        }
        let event = match (&mut self.translator, &self.public_name, &self.content) {
            (Some(translator), ..) => translator.event(&event),
            (None, Some(name), Content::Events { reader, .. }) => reader.rename(&event, name),
            _ => event,
        };
        self.note_sent(&event);
        event
    }

    /// The terminal event as the client gets it.
    fn last_of(&mut self, terminal: Bytes) -> Result<Bytes, Break> {
        let Some(translator) = &mut self.translator else {
            return Ok(match (&self.public_name, &self.content) {
                (Some(name), Content::Events { reader, .. }) => reader.rename(&terminal, name),
                _ => terminal,
            });
        };
        let last = translator.event(&terminal);
        let end = translator.finish();
        match translator.failure() {
            Some(failure) => Err(unreadable(failure)),
            None => Ok(Bytes::from([last, end].concat())),
        }
    }

    fn note_sent(&mut self, piece: &Bytes) {
        if !self.progress.is_client_gone {
            self.account.note_sent(piece.len());
        }
    }

    /// Settles, then releases the terminal event.
    async fn complete(&mut self, terminal: Bytes) -> Bytes {
        self.progress.phase = Phase::Finishing;
        self.note_tokens();
        self.note_estimate(true).await;
        self.note_sent(&terminal);
        if self.settle_complete().await {
            return terminal;
        }
        self.progress.phase = Phase::Ended;
        self.error_event(&not_accountable().fault).unwrap_or_default()
    }

    /// The proper end of a stream that ends with its connection: settles, then lets the client see it.
    async fn complete_at_end(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        let end = match &mut self.translator {
            None => None,
            Some(translator) => {
                let end = translator.finish();
                if let Some(failure) = translator.failure() {
                    return self.end_with(unreadable(failure), Burst::default()).await;
                }
                Some(end)
            }
        };
        self.progress.phase = Phase::Ended;
        self.note_tokens();
        self.note_estimate(true).await;
        if let Some(end) = &end {
            self.note_sent(end);
        }
        if self.settle_complete().await {
            return end.map(Ok);
        }
        Some(self.error_event(&not_accountable().fault).ok_or(BrokenOff))
    }

    /// What ends the client's stream with an error; `None` where nothing can be told inside it.
    fn error_event(&mut self, fault: &Fault) -> Option<Bytes> {
        match &mut self.translator {
            Some(translator) => Some(translator.error(fault, self.account.request_id())),
            None => self.content.error_event(fault, self.account.request_id()),
        }
    }

    /// Settles a call that came to its proper end. Whether it could be: the client must not see that end otherwise.
    async fn settle_complete(&mut self) -> bool {
        let end = if self.progress.is_client_gone { End::client_left() } else { End::complete() };
        let settled = self.account.settle(end).await;
        if let Err(e) = &settled {
            tracing::error!(error = %e, request_id = self.account.request_id(), "call not settled; its end is withheld");
        }
        settled.is_ok()
    }

    /// Settles, then tells the client that this is no proper end, behind what has arrived before.
    async fn end_with(&mut self, reason: Break, mut burst: Burst) -> Option<Result<Bytes, BrokenOff>> {
        self.progress.phase = Phase::Ended;
        let (event, error) = match reason {
            Break::Told(event, error) => {
                let event = match &mut self.translator {
                    Some(translator) => translator.error(&told_end(&error), self.account.request_id()),
                    None => self.content.last_event(event),
                };
                (Some(event), format!("the upstream broke off: {}", error.message))
            }
            Break::Silent(kind, code, message) => {
                // A call that takes longer than the gateway allows is nobody's failure, nor is what a model makes of it.
                if !matches!(code, CALL_TIMEOUT | UPSTREAM_FAILED) {
                    self.account.note_broken(Blame::Failed);
                }
                let fault = Fault { status: 502, kind, code, message: message.clone(), param: None };
                (self.error_event(&fault), message)
            }
        };
        let tells_errors = event.is_some();
        if let Some(event) = event {
            self.note_sent(&event);
            burst.push(event);
        }
        self.note_estimate(false).await;
        let end = if self.progress.is_client_gone { End::client_left() } else { End::upstream(error) };
        if let Err(e) = self.account.settle(end).await {
            tracing::error!(error = %e, request_id = self.account.request_id(), "broken call not settled");
        }
        Some(if tells_errors { Ok(burst.take()) } else { Err(BrokenOff) })
    }

    async fn await_upstream_end(&mut self) {
        self.progress.phase = Phase::Ended;
        if self.progress.ended.is_some() {
            return;
        }
        let to_end = async { while let Some(Ok(_)) = self.upstream.frame().await {} };
        // A server that keeps the stream open costs its connection, nothing else.
        let _ = timeout(TAIL_TIMEOUT, to_end).await;
    }
}

impl Content {
    fn push(&mut self, data: Bytes) {
        match self {
            Self::Events { framer, .. } => framer.push(&data),
            Self::Opaque { waiting } => waiting.push_back(data),
        }
    }

    /// The next whole event of what was pushed; an error where it is larger than the gateway takes.
    fn next(&mut self) -> Result<Option<(Bytes, Meaning)>, String> {
        match self {
            Self::Events { framer, reader } => {
                let event = framer.next_event().map_err(|e| e.to_string())?;
                Ok(event.map(|event| {
                    let meaning = reader.read(&event);
                    (event, meaning)
                }))
            }
            Self::Opaque { waiting } => Ok(waiting.pop_front().map(|data| (data, Meaning::Content))),
        }
    }

    /// What stands behind the last blank line when a stream has ended, completed.
    fn finish(&mut self) -> Option<(Bytes, Meaning)> {
        let Self::Events { framer, reader } = self else { return None };
        let tail = framer.finish().and_then(|tail| reader.whole_tail(&tail))?;
        let meaning = reader.read(&tail);
        Some((tail, meaning))
    }

    /// The usage that was reported.
    fn told(&self) -> Option<TokenUsage> {
        match self {
            Self::Events { reader, .. } => reader.tokens(),
            Self::Opaque { .. } => None,
        }
    }

    /// The text that was sent.
    fn output(&self) -> TextSample {
        match self {
            Self::Events { reader, .. } => reader.output().clone(),
            Self::Opaque { .. } => TextSample::default(),
        }
    }

    /// Whether a stream that ends here has come to its proper end.
    fn may_end(&self) -> bool {
        match self {
            Self::Events { reader, .. } => reader.may_end(),
            Self::Opaque { .. } => true,
        }
    }

    /// What ends the stream with an error; `None` where nothing can be told inside it.
    fn error_event(&self, fault: &Fault, request_id: &str) -> Option<Bytes> {
        match self {
            Self::Events { reader, .. } => Some(reader.error_event(fault, request_id)),
            Self::Opaque { .. } => None,
        }
    }

    /// An event behind which nothing follows, with what closes its frame.
    fn last_event(&self, event: Bytes) -> Bytes {
        match self {
            Self::Events { reader, .. } => reader.last_event(event),
            Self::Opaque { .. } => event,
        }
    }
}

/// Lets other tasks of this worker run first: the upstream's connection hands over no more than one piece at a time.
/// Cheaper than tokio's `yield_now`, which also asks the system for news.
async fn give_way() {
    // hyper asks a body that is not ready a second time before it lets its task go.
    let mut asked_again = 2_u8;
    poll_fn(|cx| {
        if asked_again == 0 {
            return Poll::Ready(());
        }
        asked_again -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn unreadable(answer: UnreadableAnswer) -> Break {
    let code = match answer {
        UnreadableAnswer::Failed => UPSTREAM_FAILED,
        UnreadableAnswer::Unknown => "upstream_broken_answer",
    };
    Break::Silent(FaultKind::Upstream, code, answer.to_string())
}

fn truncated() -> Break {
    let message = "the upstream's stream ended without its terminal event".to_owned();
    Break::Silent(FaultKind::Upstream, "upstream_truncated", message)
}

fn over_deadline() -> Break {
    Break::Silent(FaultKind::Timeout, CALL_TIMEOUT, "the call took longer than this gateway allows".to_owned())
}
