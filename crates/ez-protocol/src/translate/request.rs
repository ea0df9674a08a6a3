//! The intermediate form of a chat request: what any of the protocols can say, in words of none. Readers make it, writers
//! use it; texts, schemas and arguments stay as they were written.

use ez_contract::Protocol;

use super::opaque::Opaque;
use super::params::Params;
use super::words::Words;
use crate::json::{Escaped, Value};

/// A chat request.
#[derive(Debug, Clone)]
pub struct ChatRequest<'a> {
    /// The client's protocol.
    pub source: Protocol,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// The conversation in its order, instructions included wherever they stand. Turns of one role may follow each other.
    pub turns: Vec<Turn<'a>>,
    /// What the model may call.
    pub tools: Vec<Tool<'a>>,
    /// What the model should or must call.
    pub tool_choice: Option<ToolChoice<'a>>,
    /// Whether several tools may be called at once.
    pub parallel_tool_calls: Option<bool>,
    /// The most output, tokens, reasoning included.
    pub max_output_tokens: Option<u64>,
    /// What ends the output where the model writes it.
    pub stop: Vec<Escaped<'a>>,
    /// How many answers, 1 at least.
    pub choices: u32,
    /// The shape of the output.
    pub output: OutputFormat<'a>,
    /// How much the model should reason, and what is shown of it.
    pub reasoning: ReasoningRequest,
    /// Cache markers for the whole request (Anthropic's top-level `cache_control`).
    pub cache: Option<CacheMarker>,
    /// Parameters that are one value each.
    pub params: Params<'a>,
    /// What the answer is to repeat, as it was written (Responses).
    pub echo: Vec<(&'static str, Value<'a>)>,
    /// Whether the client asked for the usage of a stream (OpenAI Chat).
    pub wants_usage: bool,
}

impl ChatRequest<'_> {
    /// A request that asks for nothing.
    pub fn new(source: Protocol) -> Self {
        Self {
            source,
            stream: false,
            turns: Vec::new(),
            tools: Vec::new(),
            tool_choice: None,
            parallel_tool_calls: None,
            max_output_tokens: None,
            stop: Vec::new(),
            choices: 1,
            output: OutputFormat::Text,
            reasoning: ReasoningRequest::default(),
            cache: None,
            params: Params::default(),
            echo: Vec::new(),
            wants_usage: true,
        }
    }

    /// The client's names for the parts of the request.
    pub fn words(&self) -> Words {
        Words::of(self.source)
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions of the operator.
    System,
    /// The same under OpenAI's newer name; a target that knows one name takes both for it.
    Developer,
    /// The user, and what tools answered.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// Whether it instructs.
    pub const fn is_instruction(self) -> bool {
        matches!(self, Self::System | Self::Developer)
    }
}

/// What one side says in one go.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn<'a> {
    /// Who speaks.
    pub role: Role,
    /// In the order it was said. [`Role::System`] and [`Role::Developer`] hold texts alone, [`Role::Assistant`] no tool
    /// results, [`Role::User`] no calls, reasoning or refusals.
    pub blocks: Vec<Block<'a>>,
}

/// A piece of a turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Block<'a> {
    /// Text. Writers leave out empty ones where the target refuses them.
    Text(Text<'a>),
    /// An image, a document, a sound.
    Media(Media<'a>),
    /// What the model called.
    ToolCall(ToolCall<'a>),
    /// What a tool answered.
    ToolResult(ToolResult<'a>),
    /// What the model thought.
    Reasoning(Reasoning<'a>),
    /// The model's refusal (OpenAI).
    Refusal(Escaped<'a>),
}

/// A text.
#[derive(Debug, Clone, PartialEq)]
pub struct Text<'a> {
    /// The words.
    pub text: Escaped<'a>,
    /// Up to here the prompt may be cached.
    pub cache: Option<CacheMarker>,
}

impl<'a> Text<'a> {
    /// A text without a marker.
    pub fn plain(text: Escaped<'a>) -> Self {
        Self { text, cache: None }
    }
}

/// Where Anthropic's prompt cache may end a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheMarker {
    /// For as long as the vendor does by itself (5 minutes).
    Default,
    /// For 5 minutes.
    FiveMinutes,
    /// For an hour.
    OneHour,
}

/// A file inside the conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Media<'a> {
    /// What kind of thing it is.
    pub kind: MediaKind,
    /// Where its content is.
    pub source: MediaSource<'a>,
    /// Its file name or title.
    pub name: Option<Escaped<'a>>,
    /// OpenAI's `detail` of an image (`low`, `high`, `auto`, `original`).
    pub detail: Option<Escaped<'a>>,
    /// Up to here the prompt may be cached.
    pub cache: Option<CacheMarker>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    /// An image.
    Image,
    /// A document: PDF, text.
    Document,
    /// Sound.
    Audio,
    /// A film.
    Video,
}

/// Where a file's content is.
#[derive(Debug, Clone, PartialEq)]
pub enum MediaSource<'a> {
    /// Here, in base64 (the standard alphabet, with padding).
    Base64 {
        /// Its type, such as `image/png`; already made right where clients write it wrong (`image/jpg`).
        media_type: Escaped<'a>,
        /// The content.
        data: Escaped<'a>,
    },
    /// Here, as plain text (Anthropic's `text` documents).
    Text(Escaped<'a>),
    /// There, to be fetched by the vendor.
    Url {
        /// The address.
        url: Escaped<'a>,
        /// Its type, where the client told it.
        media_type: Option<Escaped<'a>>,
    },
}

/// A call that the model made.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall<'a> {
    /// What its result refers to. Readers of protocols without ids make one by position (`call_1`).
    pub id: Escaped<'a>,
    /// As the client names the tool.
    pub name: Escaped<'a>,
    /// What it was called with.
    pub arguments: Arguments<'a>,
    /// The state of the vendor that goes with it (Gemini's `thoughtSignature`).
    pub signature: Option<Opaque<'a>>,
    /// Up to here the prompt may be cached.
    pub cache: Option<CacheMarker>,
}

/// What a tool is called with.
#[derive(Debug, Clone, PartialEq)]
pub enum Arguments<'a> {
    /// A JSON text in a string, as OpenAI writes it. It may be empty or broken: models cut it off.
    Written(Escaped<'a>),
    /// A JSON object.
    Object(Value<'a>),
    /// Free text, for a tool of the kind [`ToolKind::Custom`].
    Free(Escaped<'a>),
}

/// What a tool answered.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolResult<'a> {
    /// Which call it answers.
    pub id: Escaped<'a>,
    /// The tool's name, where the protocol tells it; [`super::conversation::settle`] fills it in from the call.
    pub name: Option<Escaped<'a>>,
    /// The answer: texts and media alone.
    pub content: Vec<Block<'a>>,
    /// Whether the tool failed, where the protocol tells it.
    pub is_error: Option<bool>,
    /// Whether it answers a call of a [`ToolKind::Custom`] tool.
    pub is_custom: bool,
    /// Up to here the prompt may be cached.
    pub cache: Option<CacheMarker>,
}

/// What the model thought.
#[derive(Debug, Clone, PartialEq)]
pub struct Reasoning<'a> {
    /// The words, or a summary of them; empty where they were not shown.
    pub text: Escaped<'a>,
    /// The vendor's state that belongs to it: a signature, or thoughts that only the vendor can read. `None` where the
    /// client kept none; no vendor that signs takes such reasoning back.
    pub signature: Option<Opaque<'a>>,
}

/// Something that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool<'a> {
    /// As the client names it.
    pub name: Escaped<'a>,
    /// What it does.
    pub description: Option<Escaped<'a>>,
    /// What it takes.
    pub kind: ToolKind<'a>,
    /// Whether the vendor should hold the model to the schema, where the client said.
    pub strict: Option<bool>,
    /// Up to here the prompt may be cached.
    pub cache: Option<CacheMarker>,
}

/// What a tool takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ToolKind<'a> {
    /// An object of this JSON schema; `None` where it takes nothing.
    Function {
        /// The schema, as it was written.
        schema: Option<Value<'a>>,
    },
    /// Text in a format of OpenAI's (`type: custom`).
    Custom {
        /// The format (a grammar), as it was written.
        format: Option<Value<'a>>,
    },
}

/// What the model should or must call.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolChoice<'a> {
    /// What it sees fit.
    Auto,
    /// Nothing.
    None,
    /// Something.
    Required,
    /// This one.
    Tool(Escaped<'a>),
    /// Some of these.
    Allowed {
        /// Their names.
        names: Vec<Escaped<'a>>,
        /// Whether it must call one.
        required: bool,
    },
}

/// The shape of the output.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputFormat<'a> {
    /// Words.
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON of this schema.
    JsonSchema {
        /// What the client calls it.
        name: Option<Escaped<'a>>,
        /// What it is for.
        description: Option<Escaped<'a>>,
        /// The schema, as it was written.
        schema: Value<'a>,
        /// Whether the vendor should hold the model to it, where the client said.
        strict: Option<bool>,
    },
}

/// How much the model should reason, and what is shown of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReasoningRequest {
    /// How hard, where the client said so in words.
    pub effort: Option<Effort>,
    /// How hard, where the client said so in tokens.
    pub budget: Option<Budget>,
    /// Whether and how reasoning is shown, where the client said.
    pub shown: Option<Shown>,
}

/// How hard to reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Not at all.
    None,
    /// As little as may be.
    Minimal,
    /// A little.
    Low,
    /// OpenAI's default.
    Medium,
    /// Much.
    High,
    /// More.
    Xhigh,
    /// All that the model can.
    Max,
}

/// How many tokens to reason for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// None at all.
    Off,
    /// As the model sees fit.
    Adaptive,
    /// At most so many.
    Tokens(u64),
}

/// What is shown of reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Nothing.
    Omitted,
    /// A summary, or the words themselves where the vendor shows them.
    Summary(SummaryLength),
}

/// How long a summary is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SummaryLength {
    /// As the vendor sees fit.
    Auto,
    /// Short.
    Concise,
    /// Long.
    Detailed,
}
