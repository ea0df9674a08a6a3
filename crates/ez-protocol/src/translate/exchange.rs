//! A chat call's translation: its request once, then its answer, streamed or whole.

use std::sync::Arc;

use bytes::Bytes;
use ez_contract::Protocol;

use super::answer::Answer;
use super::call::{Call, UnreadableAnswer};
use super::event::{Event, FinishReason};
use super::refused::Refused;
use super::report::Report;
use super::restore::Restorer;
use super::target::{AnswerContext, Target};
use super::tool_names::ToolNames;
use super::{anthropic, chat, conversation, gemini, responses};
use crate::api::Api;
use crate::error::{self, Fault};
use crate::json::Value;
use crate::sse;
use crate::stream::data_of;

/// A chat request as it is sent, and what makes its answer the client's.
pub(super) struct ChatExchange {
    pub(super) body: String,
    pub(super) answer: ChatTranslator,
}

/// Translates a chat request.
pub(super) fn exchange(call: &Call<'_>, body: Value<'_>, report: &mut Report) -> Result<ChatExchange, Refused> {
    let (client, upstream) = (call.client.protocol(), call.upstream.protocol());
    // Schemas that clients of Gemini write in OpenAPI's words are JSON Schema for everybody else.
    let rewritten = if client == Protocol::Gemini { gemini::with_json_schemas(body) } else { None };
    let body = rewritten.as_deref().and_then(Value::parse_object).unwrap_or(body);
    let mut request = match client {
        Protocol::OpenaiChat => chat::read_request(body, report),
        Protocol::OpenaiResponses => responses::read_request(body, report),
        Protocol::AnthropicMessages => anthropic::read_request(body, report),
        Protocol::Gemini => gemini::read_request(body, report),
    }?;
    request.stream = call.stream;
    let turns = std::mem::take(&mut request.turns);
    request.turns = conversation::settle(turns, request.words().turns)?;
    let names = ToolNames::of(&request, upstream)?;
    let echo = request.echo.iter().map(|(key, value)| (*key, value.as_str().to_owned())).collect();
    let wants_usage = request.wants_usage;
    let target = Target { model: call.upstream_model, capabilities: call.capabilities, names: &names };
    let written = match upstream {
        Protocol::OpenaiChat => chat::write_request(request, target, report),
        Protocol::OpenaiResponses => responses::write_request(request, target, report),
        Protocol::AnthropicMessages => anthropic::write_request(request, target, report),
        Protocol::Gemini => gemini::write_request(request, target, report),
    }?;
    let context = AnswerContext {
        client,
        model: call.model.to_owned(),
        seed: call.seed.to_owned(),
        created_at: call.created_at,
        wants_usage,
        is_array: call.is_array,
        echo,
    };
    let restorer = Restorer::new(names, written.output_tool);
    Ok(ChatExchange { body: written.body, answer: ChatTranslator::new(upstream, context, restorer) })
}

/// Makes an upstream's answer to a chat the client's.
#[derive(Debug)]
pub(super) struct ChatTranslator {
    upstream: Protocol,
    context: Arc<AnswerContext>,
    reader: Reader,
    restorer: Restorer,
    writer: Writer,
    /// What is wrong with the answer, so that it has no proper end.
    failure: Option<UnreadableAnswer>,
    /// Of the event under way; kept for its room.
    out: String,
}

#[derive(Debug)]
enum Reader {
    Chat(chat::AnswerReader),
    Responses(responses::AnswerReader),
    Anthropic(anthropic::AnswerReader),
    Gemini(gemini::AnswerReader),
}

#[derive(Debug)]
enum Writer {
    Chat(chat::AnswerWriter),
    Responses(responses::AnswerWriter),
    Anthropic(anthropic::AnswerWriter),
    Gemini(gemini::AnswerWriter),
}

impl ChatTranslator {
    fn new(upstream: Protocol, context: AnswerContext, restorer: Restorer) -> Self {
        let context = Arc::new(context);
        let reader = Reader::new(upstream);
        let writer = match context.client {
            Protocol::OpenaiChat => Writer::Chat(chat::AnswerWriter::new(context.clone())),
            Protocol::OpenaiResponses => Writer::Responses(responses::AnswerWriter::new(context.clone())),
            Protocol::AnthropicMessages => Writer::Anthropic(anthropic::AnswerWriter::new(context.clone())),
            Protocol::Gemini => Writer::Gemini(gemini::AnswerWriter::new(context.clone())),
        };
        Self { upstream, context, reader, restorer, writer, failure: None, out: String::new() }
    }

    /// A whole body.
    pub(super) fn plain(&mut self, body: &[u8]) -> Result<Bytes, UnreadableAnswer> {
        let answer = self.whole(body).ok_or(UnreadableAnswer::Unknown)?;
        if answer.choices.iter().any(|choice| choice.finish == Some(FinishReason::Failed)) {
            return Err(UnreadableAnswer::Failed);
        }
        let written = match self.context.client {
            Protocol::OpenaiChat => chat::write_plain(&answer, &self.context),
            Protocol::OpenaiResponses => responses::write_plain(&answer, &self.context),
            Protocol::AnthropicMessages => anthropic::write_plain(&answer, &self.context),
            Protocol::Gemini => gemini::write_plain(&answer, &self.context),
        };
        Ok(written.into())
    }

    /// A whole body as the stream that the client asked for: some servers do not stream.
    pub(super) fn streamed(&mut self, body: &[u8]) -> Result<Bytes, UnreadableAnswer> {
        let body = Value::object_in(body).map_err(|_| UnreadableAnswer::Unknown)?;
        let (upstream, mut is_answer) = (self.upstream, false);
        self.pass(|_, sink| is_answer = read_plain(upstream, body, sink).is_some());
        match self.failure {
            Some(failure) => Err(failure),
            None if is_answer => {
                self.writer.finish(&mut self.out);
                Ok(self.take())
            }
            None => Err(UnreadableAnswer::Unknown),
        }
    }

    /// The intermediate form of a whole body, as the client is to see it.
    fn whole(&mut self, body: &[u8]) -> Option<Answer> {
        let body = Value::object_in(body).ok()?;
        let mut answer = Answer::default();
        let restorer = &mut self.restorer;
        let sink = &mut |event: Event<'_>| restorer.restore(event, &mut |event| answer.add(event));
        read_plain(self.upstream, body, sink)?;
        Some(answer)
    }

    /// What the client gets for an event of the upstream's stream, framed; nothing for those that only mean something
    /// together with later ones. Comments and keep-alives become what the client takes for none of its data.
    pub(super) fn event(&mut self, event: &[u8]) -> Bytes {
        let Some(data) = stream_data(self.upstream, event) else { return self.keep_alive() };
        let Ok(data) = Value::object_in(data.as_ref()) else {
            // What began as an object and is none was a part of the answer: without it there is no proper end.
            if data.as_ref().trim_ascii_start().first() == Some(&b'{') {
                self.failure = Some(UnreadableAnswer::Unknown);
            }
            return Bytes::new();
        };
        let is_ping = self.upstream == Protocol::AnthropicMessages && sse::event_name(event) == Some(b"ping");
        if is_ping {
            return self.keep_alive();
        }
        self.pass(|reader, sink| reader.read(data, sink));
        self.take()
    }

    /// What ends the client's stream, where the upstream's has come to its proper end.
    pub(super) fn finish(&mut self) -> Bytes {
        self.pass(|reader, sink| reader.finish(sink));
        if self.failure.is_none() {
            self.writer.finish(&mut self.out);
        }
        self.take()
    }

    /// What is wrong with the answer, so that nothing may be made of its end but an error.
    pub(super) fn failure(&self) -> Option<UnreadableAnswer> {
        self.failure
    }

    fn pass(&mut self, read: impl FnOnce(&mut Reader, &mut dyn FnMut(Event<'_>))) {
        let Self { reader, restorer, writer, failure, out, .. } = self;
        read(reader, &mut |event| {
            restorer.restore(event, &mut |event| match event {
                Event::Finish { reason: FinishReason::Failed, .. } => *failure = Some(UnreadableAnswer::Failed),
                event => writer.write(event, out),
            });
        });
    }

    /// What ends the client's stream with an error.
    pub(super) fn error(&mut self, fault: &Fault, request_id: &str) -> Bytes {
        if self.context.is_array {
            let element = error::render(self.context.client, fault, request_id);
            let open: &[u8] = if self.writer.events() == 0 { b"[" } else { b",\r\n" };
            return Bytes::from([open, &element, b"]"].concat());
        }
        error::render_event(self.context.client, fault, request_id, self.writer.events())
    }

    /// The content type of the client's stream.
    pub(super) fn stream_content_type(&self) -> &'static str {
        if self.context.is_array { "application/json" } else { "text/event-stream" }
    }

    /// What says that the stream is alive, and nothing else.
    fn keep_alive(&self) -> Bytes {
        Bytes::from_static(match self.context.client {
            // Google's SDK takes a comment for the JSON text of an error. Empty lines it passes over, and between the
            // elements of an array they are none of its data.
            Protocol::Gemini => b"\r\n",
            Protocol::OpenaiChat | Protocol::OpenaiResponses | Protocol::AnthropicMessages => b": keep-alive\n\n",
        })
    }

    fn take(&mut self) -> Bytes {
        let written = Bytes::copy_from_slice(self.out.as_bytes());
        self.out.clear();
        written
    }
}

/// Puts the events of a stream together.
#[derive(Debug)]
pub struct Gatherer {
    reader: Reader,
    answer: Answer,
}

impl Gatherer {
    /// For a stream of this protocol.
    pub fn new(protocol: Protocol) -> Self {
        Self { reader: Reader::new(protocol), answer: Answer::default() }
    }

    /// Takes in an event as it came.
    pub fn event(&mut self, event: &[u8]) {
        let data = stream_data(self.reader.protocol(), event);
        if let Some(data) = data.as_ref().and_then(|data| Value::object_in(data.as_ref()).ok()) {
            self.reader.read(data, &mut |event| self.answer.add(event));
        }
    }

    /// The answer, where the stream has come to its proper end.
    pub fn finish(mut self) -> Answer {
        self.reader.finish(&mut |event| self.answer.add(event));
        self.answer
    }
}

/// The intermediate form of a whole answer. `None` where the body is none.
pub fn whole_answer(protocol: Protocol, body: &[u8]) -> Option<Answer> {
    let mut answer = Answer::default();
    read_plain(protocol, Value::object_in(body).ok()?, &mut |event| answer.add(event))?;
    Some(answer)
}

fn read_plain(protocol: Protocol, body: Value<'_>, sink: &mut dyn FnMut(Event<'_>)) -> Option<()> {
    match protocol {
        Protocol::OpenaiChat => chat::read_plain(body, sink),
        Protocol::OpenaiResponses => responses::read_plain(body, sink),
        Protocol::AnthropicMessages => anthropic::read_plain(body, sink),
        Protocol::Gemini => gemini::read_plain(body, sink),
    }
}

/// The data of an event of an upstream's stream.
fn stream_data(upstream: Protocol, event: &[u8]) -> Option<sse::Data<'_>> {
    // Some servers send Gemini's chunks as one array, whatever they are asked for.
    if upstream == Protocol::Gemini { data_of(Api::StreamGenerateContent, event) } else { sse::data(event) }
}

impl Reader {
    const fn protocol(&self) -> Protocol {
        match self {
            Self::Chat(_) => Protocol::OpenaiChat,
            Self::Responses(_) => Protocol::OpenaiResponses,
            Self::Anthropic(_) => Protocol::AnthropicMessages,
            Self::Gemini(_) => Protocol::Gemini,
        }
    }

    fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::OpenaiChat => Self::Chat(chat::AnswerReader::default()),
            Protocol::OpenaiResponses => Self::Responses(responses::AnswerReader::default()),
            Protocol::AnthropicMessages => Self::Anthropic(anthropic::AnswerReader::default()),
            Protocol::Gemini => Self::Gemini(gemini::AnswerReader::default()),
        }
    }

    fn read(&mut self, data: Value<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        match self {
            Self::Chat(reader) => reader.read(data, sink),
            Self::Responses(reader) => reader.read(data, sink),
            Self::Anthropic(reader) => reader.read(data, sink),
            Self::Gemini(reader) => reader.read(data, sink),
        }
    }

    fn finish(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        match self {
            Self::Chat(reader) => reader.finish(sink),
            Self::Responses(reader) => reader.finish(sink),
            Self::Anthropic(reader) => reader.finish(sink),
            Self::Gemini(reader) => reader.finish(sink),
        }
    }
}

impl Writer {
    fn write(&mut self, event: Event<'_>, out: &mut String) {
        match self {
            Self::Chat(writer) => writer.write(event, out),
            Self::Responses(writer) => writer.write(event, out),
            Self::Anthropic(writer) => writer.write(event, out),
            Self::Gemini(writer) => writer.write(event, out),
        }
    }

    fn finish(&mut self, out: &mut String) {
        match self {
            Self::Chat(writer) => writer.finish(out),
            Self::Responses(writer) => writer.finish(out),
            Self::Anthropic(writer) => writer.finish(out),
            Self::Gemini(writer) => writer.finish(out),
        }
    }

    fn events(&self) -> u64 {
        match self {
            Self::Chat(writer) => writer.events(),
            Self::Responses(writer) => writer.events(),
            Self::Anthropic(writer) => writer.events(),
            Self::Gemini(writer) => writer.events(),
        }
    }
}
