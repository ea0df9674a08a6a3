//! What the gateway asks for: a request translated once, and then its answer.

use bytes::Bytes;

use super::capability::Capabilities;
use super::count::{self, CountTranslator};
use super::embeddings::{self, EmbeddingsTranslator};
use super::exchange::{self, ChatExchange, ChatTranslator};
use super::refused::Refused;
use super::report::Report;
use super::rerank::{self, RerankStyle, RerankTranslator};
use crate::api::Api;
use crate::error::Fault;
use crate::json::Value;

/// What a translation is made with.
#[derive(Debug, Clone, Copy)]
pub struct Call<'c> {
    /// The endpoint that the client called.
    pub client: Api,
    /// The endpoint that the upstream is asked at, one of its [`super::counterparts`].
    pub upstream: Api,
    /// The model that the client asked for.
    pub model: &'c str,
    /// The upstream's name for it.
    pub upstream_model: &'c str,
    /// What it takes.
    pub capabilities: &'c Capabilities,
    /// Whether the upstream is Vertex AI, whose endpoints differ from Gemini's in places.
    pub is_vertex: bool,
    /// Whether the client asked for a stream, which Gemini's body does not say.
    pub stream: bool,
    /// Whether a Gemini client's stream is one JSON array (without `alt=sse`).
    pub is_array: bool,
    /// What ids are made of: letters and digits, another for each call.
    pub seed: &'c str,
    /// When the call arrived, Unix seconds.
    pub created_at: u64,
}

impl Call<'_> {
    /// Whether bytes can pass as they are: the endpoint is the client's own, and asked as the client asks.
    pub fn is_native(&self, body: &[u8]) -> bool {
        if self.client != self.upstream {
            return false;
        }
        let asked = || Value::object_in(body).map(RerankStyle::of_request).ok();
        self.client != Api::Rerank
            || self.capabilities.rerank.is_none_or(|style| asked().is_none_or(|asked| asked == style))
    }
}

/// A request for the upstream, and what makes its answer the client's.
#[derive(Debug)]
pub struct Translated {
    /// The body to send.
    pub body: Bytes,
    /// The client's names of the parameters that were left out.
    pub dropped: Vec<String>,
    /// Translates the answer.
    pub answer: AnswerTranslator,
}

/// Translates a request body.
pub fn request(call: Call<'_>, body: &[u8]) -> Result<Translated, Refused> {
    let body = Value::object_in(body).map_err(|e| Refused::invalid("", e.to_string()))?;
    let mut report = Report::default();
    let (body, answer) = match call.client {
        Api::MessagesCountTokens | Api::CountTokens | Api::ResponsesInputTokens => {
            let (body, answer) = count::exchange(&call, body, &mut report)?;
            (body, Kind::Count(answer))
        }
        Api::Embeddings | Api::EmbedContent | Api::BatchEmbedContents => {
            let (body, answer) = embeddings::exchange(&call, body, &mut report)?;
            (body, Kind::Embeddings(answer))
        }
        Api::Rerank => {
            let (body, answer) = rerank::exchange(&call, body, &mut report)?;
            (body, Kind::Rerank(answer))
        }
        _ => {
            let ChatExchange { body, answer } = exchange::exchange(&call, body, &mut report)?;
            (body, Kind::Chat(Box::new(answer)))
        }
    };
    Ok(Translated { body: body.into(), dropped: report.names().to_vec(), answer: AnswerTranslator(answer) })
}

/// An upstream's body that nothing can be made of for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableAnswer {
    /// It, or a part of it, is none of its protocol.
    #[error("the upstream's answer is none of its protocol")]
    Unknown,
    /// It says that it went wrong. That is the model's doing, and nobody else's.
    #[error("the upstream says that the model's answer went wrong: try again")]
    Failed,
}

/// Makes an upstream's answer the client's.
#[derive(Debug)]
pub struct AnswerTranslator(Kind);

#[derive(Debug)]
enum Kind {
    Chat(Box<ChatTranslator>),
    Count(CountTranslator),
    Embeddings(EmbeddingsTranslator),
    Rerank(RerankTranslator),
}

impl AnswerTranslator {
    /// A whole body.
    pub fn plain(&mut self, body: &[u8]) -> Result<Bytes, UnreadableAnswer> {
        match &mut self.0 {
            Kind::Chat(chat) => chat.plain(body),
            Kind::Count(count) => count.plain(body),
            Kind::Embeddings(embeddings) => embeddings.plain(body),
            Kind::Rerank(rerank) => rerank.plain(body),
        }
    }

    /// A whole body as the stream that the client asked for: some servers do not stream.
    pub fn streamed(&mut self, body: &[u8]) -> Result<Bytes, UnreadableAnswer> {
        match &mut self.0 {
            Kind::Chat(chat) => chat.streamed(body),
            Kind::Count(_) | Kind::Embeddings(_) | Kind::Rerank(_) => self.plain(body),
        }
    }

    /// What the client gets for an event of the upstream's stream, framed; nothing for those that only mean something
    /// together with later ones. Comments and keep-alives become what the client takes for none of its data.
    pub fn event(&mut self, event: &[u8]) -> Bytes {
        match &mut self.0 {
            Kind::Chat(chat) => chat.event(event),
            // Never streamed.
            Kind::Count(_) | Kind::Embeddings(_) | Kind::Rerank(_) => Bytes::new(),
        }
    }

    /// What ends the client's stream, where the upstream's has come to its proper end and has not failed.
    pub fn finish(&mut self) -> Bytes {
        match &mut self.0 {
            Kind::Chat(chat) => chat.finish(),
            // Never streamed.
            Kind::Count(_) | Kind::Embeddings(_) | Kind::Rerank(_) => Bytes::new(),
        }
    }

    /// What is wrong with the answer as far as it came, so that nothing may be made of its end but an error.
    pub fn failure(&self) -> Option<UnreadableAnswer> {
        match &self.0 {
            Kind::Chat(chat) => chat.failure(),
            // Never streamed.
            Kind::Count(_) | Kind::Embeddings(_) | Kind::Rerank(_) => None,
        }
    }

    /// What ends the client's stream with an error.
    pub fn error(&mut self, fault: &Fault, request_id: &str) -> Bytes {
        match &mut self.0 {
            Kind::Chat(chat) => chat.error(fault, request_id),
            // Never streamed.
            Kind::Count(_) | Kind::Embeddings(_) | Kind::Rerank(_) => Bytes::new(),
        }
    }

    /// The content type of the client's stream.
    pub fn stream_content_type(&self) -> &'static str {
        match &self.0 {
            Kind::Chat(chat) => chat.stream_content_type(),
            // Never streamed.
            Kind::Count(_) | Kind::Embeddings(_) | Kind::Rerank(_) => "application/json",
        }
    }
}
