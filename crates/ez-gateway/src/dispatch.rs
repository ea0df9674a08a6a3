//! Dispatch: sends a call upstream, classifies what comes back, and goes on to the next candidate as long as the
//! client has not seen a byte.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use ez_protocol::Api;
use ez_protocol::answer::{self, PlainAnswer, VendorError};
use ez_protocol::framer::Framer;
use ez_protocol::inspect::RequestPeek;
use ez_protocol::redact::redact_bytes;
use ez_protocol::stream::{Meaning, StreamReader};
use ez_protocol::translate::{AnswerTranslator, Translated, without_foreign_state};
use ez_protocol::vendor_limits::read_limit;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use tokio::time::{Instant, timeout_at};

use crate::call::CallScope;
use crate::failure::{
    Blame, blame_of, blame_within, broken, chain, client_fault, sign_in_failed, status_of, timed_out, told_fault,
    unreachable_upstream, unreadable, vendor_failure, without_url,
};
use crate::headers;
use crate::inspect::Inspected;
use crate::observe::AttemptEnd;
use crate::pick::{PickRules, Picker, Preference};
use crate::plan::{Plan, UpstreamChoice};
use crate::refusal::Refusal;
use crate::relay::StreamedContent;
use crate::route::Route;
use crate::routing::Model;
use crate::settle::Account;
use crate::stored::{self, StoredAction};
use crate::translation::{beside_other_calls, translate};
use crate::upstream::{UpstreamBody, UpstreamTarget};

/// What an upstream answered, as far as it was read before the client may see any of it.
pub(crate) struct Answer {
    pub(crate) head: AnswerHead,
    pub(crate) body: Content,
}

/// What the client's answer is made of besides its body.
pub(crate) struct AnswerHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) choice: UpstreamChoice,
    /// The client's names of the parameters that a translation left out.
    pub(crate) dropped: Vec<String>,
}

/// The body of an answer.
pub(crate) enum Content {
    /// All of it.
    Plain(PlainContent),
    /// A stream whose first meaningful event was looked at.
    Stream(StreamContent),
}

/// A whole body.
pub(crate) struct PlainContent {
    /// As the upstream wrote it.
    pub(crate) body: Bytes,
    pub(crate) answer: PlainAnswer,
    /// In the client's protocol, where that is another one.
    pub(crate) translated: Option<Bytes>,
    /// What the vendor complained of, where the answer is an error of the client's making.
    pub(crate) error: Option<VendorError>,
}

/// A stream and the events already taken from it.
pub(crate) struct StreamContent {
    /// With what they mean.
    pub(crate) peeked: Vec<(Bytes, Meaning)>,
    pub(crate) content: StreamedContent,
    pub(crate) rest: UpstreamBody,
    /// Makes the client's protocol of it, where that is another one.
    pub(crate) translator: Option<Box<AnswerTranslator>>,
}

/// What a request was sent as.
struct Sent {
    choice: UpstreamChoice,
    translator: Option<Box<AnswerTranslator>>,
    dropped: Vec<String>,
}

impl Sent {
    /// In the client's own bytes.
    fn as_it_came(choice: UpstreamChoice) -> Self {
        Self { choice, translator: None, dropped: Vec::new() }
    }

    /// The head of its answer.
    fn head(self, parts: &http::response::Parts) -> AnswerHead {
        let headers = headers::for_client(&parts.headers);
        AnswerHead { status: parts.status, headers, choice: self.choice, dropped: self.dropped }
    }
}

/// A request that is still to be signed in and sent.
struct Prepared {
    request: Request<Full<Bytes>>,
    sent: Sent,
}

/// What an attempt came to.
enum Outcome {
    /// The client gets this.
    Deliver(Box<Answer>),
    /// The next candidate may do better; else the client gets the refusal.
    TryNext(Refusal),
    /// No candidate would do better.
    Refuse(Refusal),
}

impl Outcome {
    fn end(&self) -> AttemptEnd {
        match self {
            Self::Deliver(_) => AttemptEnd::Delivered,
            Self::TryNext(_) => AttemptEnd::Failed,
            Self::Refuse(_) => AttemptEnd::Refused,
        }
    }
}

/// Bound on waiting for the body of an error answer, which only explains what the status says.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(3);
/// Bound on the body of an error answer, bytes.
const MAX_ERROR_BODY_BYTES: usize = 256 << 10;

/// Tries one credential after the other, as [`Picker`] has them. The refusal is that of the last attempt.
pub(crate) async fn dispatch(
    scope: &CallScope<'_>,
    inspected: &Inspected,
    model: Option<&Model>,
    plan: &Plan,
    account: &mut Account,
) -> Result<Box<Answer>, Refusal> {
    let config = &scope.gateway.config;
    let preference = Preference::of(scope, inspected);
    let pin = stored::pin(scope, inspected, plan).await?;
    let book = &scope.gateway.health;
    let observer = &scope.gateway.settler.observer;
    let mut picker = Picker::new(PickRules { book, plan, preference, pin, deadline: scope.deadline });
    let mut last = None;
    let mut denied = Vec::new();
    for _ in 0..config.max_attempts {
        if Instant::now() >= scope.deadline {
            break;
        }
        let mut permit = match picker.next().await {
            Ok(permit) => permit,
            Err(unpicked) => return Err(picker.refusal(Some(unpicked), last)),
        };
        let provider = &permit.choice().upstream.snapshot;
        let (provider_type, api_key_id) = (provider.provider_type, provider.id);
        let attempt = Attempt { scope, inspected, model };
        let outcome = match attempt.prepare(permit.choice().clone()) {
            Ok(prepared) => {
                account.note_attempt(permit.choice());
                permit.count();
                let outcome = attempt.send(prepared).await;
                observer.attempted(provider_type, outcome.end());
                outcome
            }
            // Nobody was asked, so that it is no attempt.
            Err(refusal) => Outcome::TryNext(refusal),
        };
        match outcome {
            Outcome::Deliver(answer) => {
                if answer.head.status.is_success() {
                    denied.iter().for_each(|choice| book.note_denied(choice, scope.arrival.request_id.as_str()));
                }
                match &answer.body {
                    Content::Plain(_) => permit.succeeded(),
                    Content::Stream(_) => {
                        permit.answered();
                        account.hold(permit);
                    }
                }
                return Ok(answer);
            }
            Outcome::Refuse(refusal) => return Err(refusal),
            Outcome::TryNext(refusal) => {
                let request_id = scope.arrival.request_id.as_str();
                if refusal.blame.is_some() {
                    permit.count_failure();
                }
                // What the call's own deadline cut short may have been about to answer.
                if let Some(blame) = refusal.blame.filter(|_| Instant::now() < scope.deadline) {
                    permit.failed(blame, refusal.retry_after, request_id);
                    denied.extend((blame == Blame::Denied).then(|| permit.choice().clone()));
                }
                let (reason, detail) = (&refusal.fault.message, refusal.detail.as_deref());
                tracing::info!(request_id, api_key_id, reason, detail, "upstream attempt failed");
                last = Some(refusal);
            }
        }
    }
    let over = || timed_out("the call's deadline passed before an upstream could be tried");
    Err(picker.refusal(None, Some(last.unwrap_or_else(over))))
}

/// Calls for a stored response, at the credential that made it.
pub(crate) async fn fetch_stored(
    scope: &CallScope<'_>,
    inspected: &Inspected,
    choice: UpstreamChoice,
    stored: (&str, StoredAction),
    account: &mut Account,
) -> Result<Box<Answer>, Refusal> {
    // Its protocol is the client's, so that nothing is asked of its model.
    let attempt = Attempt { scope, inspected, model: None };
    let prepared = attempt.prepare_stored(choice, stored)?;
    account.note_attempt(&prepared.sent.choice);
    let mut counted = scope.gateway.health.attempts().begin(prepared.sent.choice.upstream.snapshot.id);
    match attempt.send(prepared).await {
        Outcome::Deliver(answer) => Ok(answer),
        Outcome::Refuse(refusal) => Err(refusal),
        Outcome::TryNext(refusal) => {
            if refusal.blame.is_some() {
                counted.failed();
            }
            Err(refusal)
        }
    }
}

fn target_of(choice: &UpstreamChoice) -> Result<&UpstreamTarget, Refusal> {
    let target = choice.upstream.target.as_ref();
    target.ok_or_else(|| unreachable_upstream("its base URL or secret cannot be used".to_owned()))
}

struct Attempt<'c> {
    scope: &'c CallScope<'c>,
    inspected: &'c Inspected,
    /// What is published of the model, where something is.
    model: Option<&'c Model>,
}

impl Attempt<'_> {
    /// Makes the request, before anybody is asked. Errors: why this credential cannot be asked it.
    fn prepare(&self, choice: UpstreamChoice) -> Result<Prepared, Refusal> {
        let (body, sent, query) = match translate(self.scope, self.inspected, self.model, &choice)? {
            None => {
                let body = self.inspected.peek.upstream_body(&self.inspected.body, &choice.upstream_model);
                // A conversation may have begun at an upstream of another protocol.
                let cleaned = without_foreign_state(choice.api.protocol(), &body);
                (cleaned.unwrap_or(body), Sent::as_it_came(choice), self.client_query())
            }
            Some(Translated { body, dropped, answer }) => {
                let query = if choice.api == Api::StreamGenerateContent { "alt=sse" } else { "" };
                (body, Sent { choice, translator: Some(Box::new(answer)), dropped }, query)
            }
        };
        let Sent { choice, .. } = &sent;
        let uri = target_of(choice)?.url(choice.api, &choice.upstream_model, query).map_err(|e| without_url(&e))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers::for_upstream(&self.scope.arrival.headers, choice.api.protocol());
        request.headers_mut().insert(CONTENT_TYPE, content_type_of(&self.inspected.peek, &self.scope.arrival.headers));
        Ok(Prepared { request, sent })
    }

    /// The same for a stored response.
    fn prepare_stored(&self, choice: UpstreamChoice, (id, action): (&str, StoredAction)) -> Result<Prepared, Refusal> {
        let uri = target_of(&choice)?.response_url(id, action.suffix(), self.client_query());
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = action.method();
        *request.uri_mut() = uri.map_err(|e| without_url(&e))?;
        *request.headers_mut() = headers::for_upstream(&self.scope.arrival.headers, choice.api.protocol());
        Ok(Prepared { request, sent: Sent::as_it_came(choice) })
    }

    fn client_query(&self) -> &str {
        self.scope.arrival.query.as_deref().unwrap_or_default()
    }

    /// Signs the request in, and sends it.
    async fn send(&self, prepared: Prepared) -> Outcome {
        let head_by = self.by(self.scope.gateway.config.first_byte_timeout);
        let Prepared { mut request, sent } = prepared;
        match timeout_at(head_by, self.sign_in(&mut request, &sent.choice)).await {
            Err(_) => Outcome::TryNext(timed_out("the upstream's token endpoint did not answer in time")),
            Ok(Err(refusal)) => Outcome::TryNext(refusal),
            Ok(Ok(())) => self.exchange(request, sent, head_by).await,
        }
    }

    async fn sign_in(&self, request: &mut Request<Full<Bytes>>, choice: &UpstreamChoice) -> Result<(), Refusal> {
        let sign_in = target_of(choice)?.sign_in(choice.api.protocol(), &self.scope.gateway.tokens).await;
        let (name, value) = sign_in.map_err(|e| sign_in_failed(&e))?;
        request.headers_mut().insert(name, value);
        Ok(())
    }

    /// Sends a request, and reads what comes back as far as no byte of it may reach the client yet.
    async fn exchange(&self, request: Request<Full<Bytes>>, sent: Sent, head_by: Instant) -> Outcome {
        let response = match timeout_at(head_by, self.scope.gateway.transport.send(request)).await {
            Err(_) => return Outcome::TryNext(timed_out("the upstream did not answer in time")),
            Ok(Err(e)) => return Outcome::TryNext(unreachable_upstream(chain(&e))),
            Ok(Ok(response)) => response,
        };
        if !response.status().is_success() {
            return self.classify_error(response, sent).await;
        }
        if headers::is_coded(response.headers()) {
            return Outcome::TryNext(broken("the upstream coded its answer, although it was asked not to"));
        }
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let api = sent.choice.api;
        if let Some(framer) = Framer::of(api, content_type, self.scope.gateway.config.max_answer_bytes) {
            self.peek_stream(response, sent, framer, head_by).await
        } else if answer::is_opaque(api, content_type) {
            self.peek_opaque(response, sent, head_by).await
        } else {
            self.read_plain(response, sent).await
        }
    }

    /// A status outside 2xx: the client's own fault is told to it in the vendor's words, all else goes on.
    async fn classify_error(&self, response: Response<UpstreamBody>, sent: Sent) -> Outcome {
        let (parts, body) = response.into_parts();
        let status = parts.status;
        // Redirects are never followed: they would carry the credential to another host.
        if status.is_redirection() {
            let detail = "it answered with a redirect; check the base URL".to_owned();
            return Outcome::TryNext(unreachable_upstream(detail));
        }
        let read_by = self.by(ERROR_BODY_TIMEOUT);
        let collected = timeout_at(read_by, Limited::new(body, MAX_ERROR_BODY_BYTES).collect()).await;
        let body = collected.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
        let error = answer::vendor_error(sent.choice.api.protocol(), &body);
        let header = |name: &'static str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let limit = read_limit(header, &body, error.as_ref(), self.scope.gateway.clock.now());
        if let Some(blame) = blame_of(status.as_u16(), error.as_ref(), limit.scope) {
            let target = sent.choice.upstream.target.as_ref();
            if let Some(target) = target.filter(|_| status == StatusCode::UNAUTHORIZED) {
                target.forget_token();
            }
            let blame = if target.is_some_and(UpstreamTarget::signs_in_with_tokens) { blame.of_token() } else { blame };
            return Outcome::TryNext(vendor_failure(status.as_u16(), error.as_ref(), blame, limit.pause));
        }
        match error {
            // Another protocol's clients do not read the vendor's shape.
            Some(error) if sent.translator.is_some() => Outcome::Refuse(told_fault(status, &error)),
            Some(error) => deliver_error(sent.head(&parts), redact_bytes(&body), error),
            // A page of some proxy, or nothing: told in the caller's dialect instead.
            None => Outcome::Refuse(client_fault(status, "the upstream refused the request without saying why")),
        }
    }

    async fn read_plain(&self, response: Response<UpstreamBody>, mut sent: Sent) -> Outcome {
        let (parts, body) = response.into_parts();
        let body = match self.collect(body).await {
            Ok(body) => body,
            Err(refusal) => return Outcome::TryNext(refusal),
        };
        // A stored response may tell how it failed; that is the answer then.
        let is_stored = matches!(self.scope.arrival.route, Route::Stored { .. });
        if !is_stored && let Some(error) = answer::vendor_error(sent.choice.api.protocol(), &body) {
            return self.error_in_success(&error);
        }
        let public_name = self.public_name(&sent.choice).filter(|_| sent.translator.is_none());
        let Some(answer) = answer::read_answer(sent.choice.api, &body, public_name) else {
            return Outcome::TryNext(broken("the upstream's answer is no JSON object"));
        };
        let is_stream = self.inspected.peek.stream;
        let (mut translated, mut content_type) = (None, None);
        if let Some(translator) = &mut sent.translator {
            let read = || if is_stream { translator.streamed(&body) } else { translator.plain(&body) };
            match beside_other_calls(body.len(), read) {
                Ok(read) => translated = Some(read),
                Err(e) => return Outcome::TryNext(unreadable(e)),
            }
            content_type = Some(if is_stream { translator.stream_content_type() } else { "application/json" });
        }
        let mut head = sent.head(&parts);
        if let Some(content_type) = content_type {
            head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        let content = PlainContent { body, answer, translated, error: None };
        Outcome::Deliver(Box::new(Answer { head, body: Content::Plain(content) }))
    }

    /// A whole plain body: bounded in size, in silence and by the call's deadline.
    async fn collect(&self, mut body: UpstreamBody) -> Result<Bytes, Refusal> {
        let mut whole = BytesMut::new();
        loop {
            match timeout_at(self.by(self.scope.gateway.config.idle_timeout), body.frame()).await {
                Err(_) => return Err(timed_out("the upstream's answer did not arrive in time")),
                Ok(Some(Err(_))) => return Err(broken("the upstream broke off in the middle of its answer")),
                Ok(None) => return Ok(whole.freeze()),
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if whole.len() + data.len() > self.scope.gateway.config.max_answer_bytes {
                        let refusal = broken("the upstream's answer is larger than this gateway takes");
                        // It is what the client asked for.
                        return Err(Refusal { blame: None, ..refusal });
                    }
                    whole.extend_from_slice(&data);
                }
            }
        }
    }

    /// Reads a stream up to its first meaningful event, because vendors send errors inside a 200 stream.
    async fn peek_stream(
        &self,
        response: Response<UpstreamBody>,
        mut sent: Sent,
        mut framer: Framer,
        peek_by: Instant,
    ) -> Outcome {
        let (parts, mut rest) = response.into_parts();
        let mut reader = Box::new(StreamReader::new(sent.choice.api));
        let mut peeked = Vec::new();
        let mut peeked_bytes = 0;
        loop {
            match framer.next_event() {
                Err(e) => return Outcome::TryNext(broken(&e.to_string())),
                Ok(Some(event)) => {
                    let meaning = reader.read(&event);
                    match &meaning {
                        Meaning::Error(error) => return self.error_in_success(error),
                        Meaning::Truncated => return Outcome::TryNext(broken("the upstream's stream is empty")),
                        _ => {}
                    }
                    // An empty event takes memory as well.
                    peeked_bytes += event.len() + size_of::<(Bytes, Meaning)>();
                    let is_meaningful = meaning != Meaning::Other;
                    peeked.push((event, meaning));
                    if peeked_bytes > self.scope.gateway.config.max_answer_bytes {
                        return Outcome::TryNext(broken("the upstream's stream does not come to its first event"));
                    }
                    if !is_meaningful {
                        continue;
                    }
                    let translator = sent.translator.take();
                    let mut head = sent.head(&parts);
                    if let Some(translator) = &translator {
                        let content_type = HeaderValue::from_static(translator.stream_content_type());
                        head.headers.insert(CONTENT_TYPE, content_type);
                    }
                    let content = StreamedContent::Events { framer, reader };
                    let body = Content::Stream(StreamContent { peeked, content, rest, translator });
                    return Outcome::Deliver(Box::new(Answer { head, body }));
                }
                Ok(None) => match timeout_at(peek_by, rest.frame()).await {
                    Err(_) => return Outcome::TryNext(timed_out("the upstream's stream did not start in time")),
                    Ok(None) => return Outcome::TryNext(broken("the upstream's stream ended before its first event")),
                    Ok(Some(Err(_))) => {
                        return Outcome::TryNext(broken("the upstream's stream broke off before its first event"));
                    }
                    Ok(Some(Ok(frame))) => {
                        if let Some(data) = frame.data_ref() {
                            framer.push(data);
                        }
                    }
                },
            }
        }
    }

    /// Waits for the first bytes of a body that is nothing to be read: sound, or text.
    async fn peek_opaque(&self, response: Response<UpstreamBody>, sent: Sent, peek_by: Instant) -> Outcome {
        let (parts, mut rest) = response.into_parts();
        let mut waiting = VecDeque::new();
        while waiting.is_empty() {
            match timeout_at(peek_by, rest.frame()).await {
                Err(_) => return Outcome::TryNext(timed_out("the upstream's answer did not start in time")),
                Ok(Some(Err(_))) => return Outcome::TryNext(broken("the upstream broke off before its answer")),
                Ok(Some(Ok(frame))) => waiting.extend(frame.into_data().ok().filter(|data| !data.is_empty())),
                // Nothing was said, so nothing was heard.
                Ok(None) => break,
            }
        }
        let head = sent.head(&parts);
        let content = StreamedContent::Opaque { waiting };
        let body = Content::Stream(StreamContent { peeked: Vec::new(), content, rest, translator: None });
        Outcome::Deliver(Box::new(Answer { head, body }))
    }

    /// An error object where an answer should be: the same rules as for the status that it stands for.
    fn error_in_success(&self, error: &VendorError) -> Outcome {
        let status = status_of(error);
        match (blame_within(error), StatusCode::from_u16(status)) {
            (Some(blame), _) => Outcome::TryNext(vendor_failure(status, Some(error), blame, None)),
            (None, Ok(status)) => Outcome::Refuse(told_fault(status, error)),
            (None, Err(_)) => Outcome::TryNext(vendor_failure(status, Some(error), Blame::Failed, None)),
        }
    }

    /// The name to put in place of the upstream's, where they differ.
    fn public_name(&self, choice: &UpstreamChoice) -> Option<&str> {
        let asked = self.inspected.peek.model.as_str();
        (asked != choice.upstream_model).then_some(asked)
    }

    fn by(&self, bound: Duration) -> Instant {
        (Instant::now() + bound).min(self.scope.deadline)
    }
}

/// What the body is told to be: what it was read as. The boundary of a form has to stay.
fn content_type_of(peek: &RequestPeek, client: &HeaderMap) -> HeaderValue {
    let form = client.get(CONTENT_TYPE).filter(|_| peek.is_form());
    form.cloned().unwrap_or(HeaderValue::from_static("application/json"))
}

/// The client's own fault, in the vendor's shape and words.
fn deliver_error(head: AnswerHead, body: Bytes, error: VendorError) -> Outcome {
    let content = PlainContent { body, answer: PlainAnswer::default(), translated: None, error: Some(error) };
    let body = Content::Plain(content);
    Outcome::Deliver(Box::new(Answer { head, body }))
}
