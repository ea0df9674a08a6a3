//! One request from its head to its answer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, Version, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::answer::{Job, Plan, json_string};
use super::attentive::Reply;
use super::body::{Counters, Dropped, Event, InFlight, SimBody, since_epoch};
use super::connection::SocketFault;
use super::error::VendorError;
use super::request::Ask;
use super::route::{NoRoute, Operation, Route, Vendor, credential};
use super::script::{Record, RecordedRequest, Script};
use super::stored::{Stored, StoredRoute};
use super::tools::ToolCall;
use super::{
    Behaviour, Fault, admin, anthropic, attentive, chat, completions, embeddings, gemini, input_tokens, media, models,
    multipart, responses, scores,
};

/// Larger requests get 413.
const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What all connections of an upstream share.
pub(super) struct SimState {
    pub(super) script: Mutex<Script>,
    pub(super) record: Mutex<Record>,
    pub(super) counters: Arc<Counters>,
    pub(super) stored: Mutex<Stored>,
}

/// A request that has been understood.
struct Order<'a> {
    route: Route,
    ask: Option<Ask<'a>>,
    body: &'a Bytes,
    credential: String,
    serial: u64,
}

/// Answers a request; an error ends the connection.
pub(super) async fn serve(
    state: Arc<SimState>,
    socket: Arc<SocketFault>,
    request: Request<Incoming>,
) -> Result<Response<SimBody>, Dropped> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, REQUEST_BYTES_MAX).collect().await.map(|body| body.to_bytes());
    let query = parts.uri.query().unwrap_or_default();
    if parts.uri.path().starts_with("/_sim/") {
        return Ok(admin::answer(&state, &parts, &body.unwrap_or_default()));
    }
    let credential = credential(&parts.headers, query);
    let serial = state.counters.requests.fetch_add(1, Ordering::Relaxed);
    record(&state, &parts, credential.as_deref(), body.as_ref().ok());
    if let (Some(stored), Some(credential)) = (StoredRoute::find(parts.uri.path()), &credential) {
        return Ok(state.stored.lock().unwrap().answer(&parts.method, stored, credential, serial));
    }
    let route = match Route::find(&parts.method, parts.uri.path(), query, &parts.headers) {
        Ok(route) => route,
        Err(NoRoute { vendor, status }) => {
            return Ok(VendorError { status, ..VendorError::default() }.response(vendor, serial));
        }
    };
    let vendor = route.vendor;
    let Ok(body) = body else {
        return Ok(VendorError { status: 413, ..VendorError::default() }.response(vendor, serial));
    };
    let Some(credential) = credential else {
        return Ok(VendorError::unauthenticated(vendor).response(vendor, serial));
    };
    let ask = match read_ask(&route, &parts, &body) {
        Ok(ask) => ask,
        Err(error) => return Ok(error.response(vendor, serial)),
    };
    let order = Order { route, ask, body: &body, credential, serial };
    order.serve(&state, &socket, &parts).await
}

impl Order<'_> {
    async fn serve(self, state: &SimState, socket: &SocketFault, parts: &Parts) -> Result<Response<SimBody>, Dropped> {
        let plan = state.script.lock().unwrap().choose(&self.credential, self.model());
        let mut answer = self.follow(state, socket, parts, &plan).await?;
        for (name, value) in &plan.behaviour.headers {
            let name: HeaderName = name.parse().expect("a behaviour's header has a name that can be sent");
            answer.headers_mut().insert(name, value.parse().expect("a behaviour's header can be sent"));
        }
        Ok(answer)
    }

    async fn follow(
        self,
        state: &SimState,
        socket: &SocketFault,
        parts: &Parts,
        plan: &Plan,
    ) -> Result<Response<SimBody>, Dropped> {
        let (vendor, serial) = (self.route.vendor, self.serial);
        let mut in_flight = InFlight::new(&state.counters);
        let behaviour = &plan.behaviour;
        let one_request_per_connection = parts.version < Version::HTTP_2;

        if !behaviour.first_byte_delay.is_zero() {
            tokio::time::sleep(behaviour.first_byte_delay).await;
        }
        match &behaviour.fault {
            Some(Fault::Close) => {
                in_flight.done();
                return Err(Dropped);
            }
            Some(Fault::Reset { after_bytes }) => {
                // On HTTP/2 the connection carries other requests; there the stream alone is reset.
                if one_request_per_connection {
                    socket.reset_on_close();
                }
                if after_bytes.is_none() {
                    in_flight.done();
                    return Err(Dropped);
                }
            }
            Some(Fault::SlowHeaders { delay }) => socket.slow_headers(*delay),
            Some(fault) => {
                if let Some(answer) = self.refusal(fault) {
                    in_flight.done();
                    return Ok(answer);
                }
            }
            None => {}
        }
        let checked = self.check(plan, parts).and_then(|()| self.check_previous(state));
        let reply = match checked.and_then(|()| self.reply(behaviour)) {
            Ok(reply) => reply,
            Err(error) => {
                in_flight.done();
                return Ok(error.response(vendor, serial));
            }
        };
        self.answer(state, plan, reply, in_flight).await
    }

    /// What an attentive model says; none where the behaviour has no such.
    fn reply(&self, behaviour: &Behaviour) -> Result<Option<Reply>, VendorError> {
        let Some(attentive) = &behaviour.attentive else { return Ok(None) };
        let model = self.model().unwrap_or_default();
        attentive::reply(attentive, self.route.operation, model, self.body).transpose()
    }

    /// A response can only be gone on from with the credential that made it.
    fn check_previous(&self, state: &SimState) -> Result<(), VendorError> {
        let previous = self.ask.as_ref().and_then(|ask| ask.previous_response_id.as_deref());
        let Some(id) = previous.filter(|id| !state.stored.lock().unwrap().has(id, &self.credential)) else {
            return Ok(());
        };
        let message = format!("Previous response with id '{id}' not found.");
        Err(VendorError::new(400, message).code("previous_response_not_found"))
    }

    /// The answer to a fault that is one.
    fn refusal(&self, fault: &Fault) -> Option<Response<SimBody>> {
        let error = match fault {
            Fault::Status { status, retry_after, code, message, html } => {
                let retry_after = *retry_after;
                let error = VendorError { status: *status, code: code.clone(), message: message.clone(), retry_after };
                let mut answer = error.response(self.route.vendor, self.serial);
                if let Some(html) = html {
                    *answer.body_mut() = SimBody::whole(html.clone().into());
                    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
                }
                return Some(answer);
            }
            Fault::ErrorInStream { status, code, message, .. } if !self.streams() => {
                VendorError { status: *status, code: code.clone(), message: message.clone(), retry_after: None }
            }
            _ => return None,
        };
        Some(error.response(self.route.vendor, self.serial))
    }

    /// What the vendor insists on.
    fn check(&self, plan: &Plan, parts: &Parts) -> Result<(), VendorError> {
        let Some(ask) = &self.ask else { return Ok(()) };
        let vendor = self.route.vendor;
        let require = |present: bool, message: &str| {
            if present { Ok(()) } else { Err(VendorError::new(400, message)) }
        };
        match self.route.operation {
            Operation::Chat => require(ask.messages.is_some(), "Missing required parameter: 'messages'.")?,
            Operation::Responses | Operation::Embeddings | Operation::Moderations | Operation::Speech => {
                require(ask.input.is_some(), "Missing required parameter: 'input'.")?;
            }
            Operation::Completions | Operation::Images => {
                require(ask.is_form || ask.prompt.is_some(), "Missing required parameter: 'prompt'.")?;
            }
            Operation::Rerank => require(ask.documents.is_some(), "Missing required parameter: 'documents'.")?,
            Operation::Transcriptions => require(ask.is_form, "The body isn't a form.")?,
            Operation::EmbedContent => {
                require(ask.content.is_some(), "* EmbedContentRequest.content: contents is not specified")?;
            }
            Operation::BatchEmbedContents => {
                require(ask.requests.is_some(), "* BatchEmbedContentsRequest.requests: is not specified")?;
            }
            Operation::Messages | Operation::CountMessageTokens => {
                require(parts.headers.contains_key("anthropic-version"), "anthropic-version: header is required")?;
                let counts = self.route.operation == Operation::CountMessageTokens;
                require(counts || ask.max_tokens.is_some(), "max_tokens: Field required")?;
                require(ask.messages.is_some(), "messages: Field required")?;
            }
            _ => {
                let is_count = self.route.operation == Operation::CountTokens;
                let is_given = ask.contents.is_some() || (is_count && ask.counted.is_some());
                require(is_given, "* GenerateContentRequest.contents: contents is not specified")?;
                let is_list = ask.contents.is_none_or(|contents| contents.get().starts_with('['));
                require(is_list, "Invalid value at 'contents': a list is expected")?;
            }
        }
        let Some(model) = self.model() else { return Err(VendorError::new(400, "you must provide a model parameter")) };
        let known = plan.behaviour.models.is_empty() || plan.behaviour.models.iter().any(|known| known == model);
        if known { Ok(()) } else { Err(VendorError::unknown_model(vendor, model)) }
    }

    async fn answer(
        self,
        state: &SimState,
        plan: &Plan,
        reply: Option<Reply>,
        mut in_flight: InFlight,
    ) -> Result<Response<SimBody>, Dropped> {
        let (vendor, operation, serial) = (self.route.vendor, self.route.operation, self.serial);
        let behaviour = &plan.behaviour;
        let Some(ask) = &self.ask else {
            in_flight.done();
            let body = SimBody::whole(models::whole(vendor, &behaviour.models));
            return Ok(response(vendor, serial, "application/json", body));
        };
        let job = Job {
            plan,
            serial,
            created_at: since_epoch().as_secs(),
            model: json_string(self.model().unwrap_or_default()),
            usage: plan.usage(input_tokens(self.body)),
            include_usage: ask.wants_usage(),
            sse: operation == Operation::StreamGenerate { sse: true },
            tool_call: ToolCall::answering(ask),
            reply,
        };
        if operation == Operation::Responses && ask.store != Some(false) {
            let (_, made) = whole(operation, &job, ask);
            state.stored.lock().unwrap().keep(job.id("resp_"), &self.credential, made);
        }
        if self.streams() {
            let events = events(operation, &job);
            let error_events = match &behaviour.fault {
                Some(Fault::ErrorInStream { after_events, status, code, message }) => {
                    let index = (*after_events).min(events.len());
                    VendorError { status: *status, code: code.clone(), message: message.clone(), retry_after: None }
                        .events(vendor, operation, index)
                }
                _ => Vec::new(),
            };
            let is_array = operation == Operation::StreamGenerate { sse: false };
            let content_type = if is_array { "application/json" } else { "text/event-stream; charset=utf-8" };
            let body = SimBody::stream(events, error_events, behaviour, in_flight);
            return Ok(response(vendor, serial, content_type, body));
        }
        let (content_type, bytes) = whole(operation, &job, ask);
        if operation.generates() && behaviour.tokens_per_second.is_some() {
            tokio::time::sleep(behaviour.token_gap().saturating_mul(behaviour.tokens)).await;
        }
        let mut answer = plain(vendor, serial, bytes, behaviour.fault.as_ref(), in_flight);
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Ok(answer)
    }

    fn streams(&self) -> bool {
        match self.route.operation {
            Operation::Chat
            | Operation::Completions
            | Operation::Transcriptions
            | Operation::Responses
            | Operation::Messages => self.ask.as_ref().is_some_and(Ask::wants_stream),
            Operation::StreamGenerate { .. } => true,
            _ => false,
        }
    }

    fn model(&self) -> Option<&str> {
        let in_body = self.ask.as_ref().and_then(|ask| ask.model.as_deref());
        match self.route.vendor {
            Vendor::Gemini => self.route.model.as_deref(),
            _ => in_body.or(self.route.model.as_deref()),
        }
    }
}

/// The events of a stream.
fn events(operation: Operation, job: &Job<'_>) -> Vec<Event> {
    if let Some(reply) = &job.reply {
        return attentive::events(operation, job, reply);
    }
    match operation {
        Operation::Chat => chat::events(job),
        Operation::Completions => completions::events(job),
        Operation::Transcriptions => media::transcription_events(job),
        Operation::Responses => responses::events(job),
        Operation::Messages => anthropic::events(job),
        _ => gemini::events(job),
    }
}

/// A plain answer: its content type and its bytes.
fn whole(operation: Operation, job: &Job<'_>, ask: &Ask<'_>) -> (&'static str, Bytes) {
    let behaviour = &job.plan.behaviour;
    if let Some(reply) = &job.reply {
        return ("application/json", attentive::whole(operation, job, reply));
    }
    let bytes = match operation {
        Operation::Chat => chat::whole(job),
        Operation::Completions => completions::whole(job),
        Operation::Responses => responses::whole(job),
        Operation::Embeddings => embeddings::whole(job, ask, ask.dimensions.unwrap_or(behaviour.embedding_dimensions)),
        Operation::Rerank => scores::rerank(job, ask),
        Operation::Moderations => scores::moderations(job),
        Operation::Images => media::image(job),
        Operation::Speech => return ("audio/mpeg", media::speech(job)),
        Operation::Transcriptions if ask.wants_text() => {
            return ("text/plain; charset=utf-8", media::transcribed_text(job));
        }
        Operation::Transcriptions => media::transcription(job),
        Operation::Messages => anthropic::whole(job),
        Operation::CountMessageTokens => anthropic::count(job),
        Operation::CountTokens => gemini::count(job),
        Operation::EmbedContent => embeddings::gemini(ask.output_dimensions(behaviour.embedding_dimensions)),
        Operation::BatchEmbedContents => embeddings::gemini_batch(ask, behaviour.embedding_dimensions),
        _ => gemini::whole(job),
    };
    ("application/json", bytes)
}

impl Operation {
    /// Whether the answer is made of output tokens.
    fn generates(self) -> bool {
        matches!(self, Self::Chat | Self::Completions | Self::Responses | Self::Messages | Self::Generate)
    }
}

/// A 200 with the vendor's usual headers.
pub(super) fn response(vendor: Vendor, serial: u64, content_type: &'static str, body: SimBody) -> Response<SimBody> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let id = HeaderValue::from_str(&request_id(serial)).expect("an id is ASCII");
    match vendor {
        Vendor::OpenAi => {
            headers.insert("x-request-id", id);
            headers.insert("openai-processing-ms", HeaderValue::from_static("12"));
            headers.insert("openai-version", HeaderValue::from_static("2020-10-01"));
        }
        Vendor::Anthropic => {
            headers.insert("request-id", id);
        }
        Vendor::Gemini => {}
    }
    response
}

/// The id that a vendor gives a request.
pub(super) fn request_id(serial: u64) -> String {
    format!("req_{serial:024x}")
}

/// A plain answer, whole or broken. A broken one keeps its length unless it pretends to be complete.
fn plain(
    vendor: Vendor,
    serial: u64,
    bytes: Bytes,
    fault: Option<&Fault>,
    mut in_flight: InFlight,
) -> Response<SimBody> {
    let length = bytes.len();
    let (body, keeps_length) = match fault {
        Some(fault @ (Fault::Stall { .. } | Fault::Reset { .. })) => (SimBody::broken(bytes, fault, in_flight), true),
        Some(fault @ Fault::Truncate { .. }) => (SimBody::broken(bytes, fault, in_flight), false),
        _ => {
            in_flight.done();
            (SimBody::whole(bytes), false)
        }
    };
    let mut response = response(vendor, serial, "application/json", body);
    if keeps_length {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    response
}

fn read_ask<'a>(route: &Route, parts: &Parts, body: &'a Bytes) -> Result<Option<Ask<'a>>, VendorError> {
    if route.operation == Operation::Models {
        return Ok(None);
    }
    let content_type =
        parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.starts_with("multipart/form-data") {
        return Ok(Some(multipart::read(content_type, body)));
    }
    let malformed = |error: serde_json::Error| match route.vendor {
        Vendor::OpenAi => VendorError::new(400, format!("We could not parse the JSON body of your request. ({error})")),
        Vendor::Anthropic => VendorError::new(400, format!("The request body is not valid JSON: {error}")),
        Vendor::Gemini => VendorError::new(400, format!("Invalid JSON payload received. {error}")),
    };
    Ask::parse(body).map(Some).map_err(malformed)
}

fn record(state: &SimState, parts: &Parts, credential: Option<&str>, body: Option<&Bytes>) {
    let mut record = state.record.lock().unwrap();
    if !record.enabled {
        return;
    }
    record.push(RecordedRequest {
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers.clone(),
        credential: credential.map(str::to_owned),
        body: body.cloned().unwrap_or_default(),
    });
}
