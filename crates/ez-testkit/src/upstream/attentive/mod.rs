//! An attentive model: it answers by what a request holds, and its vendor refuses what the real one refuses. The four chat
//! protocols share one behaviour ([`Heard::reply`]); each has a strict reader (`hear_…`) and a writer (`say_…`).

mod hear_anthropic;
mod hear_chat;
mod hear_gemini;
mod hear_responses;
mod object;
mod say_anthropic;
mod say_chat;
mod say_gemini;
mod say_responses;
mod signature;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{Job, Usage};
use super::body::Event;
use super::error::VendorError;
use super::route::Operation;
use super::tools;

/// What an attentive model does.
///
/// With tools and no results yet it makes two calls at once; when the results are there, a text quotes them, and says so
/// where the thoughts of the calls came back. Images and files are named with type and size, an output schema is filled,
/// reasoning is shown and signed. Else it repeats what it was told. `stop` and the token cap cut the text (a word is a
/// token). The usage is always [`ATTENTIVE_USAGE`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attentive {
    /// What it calls, of the tools that it is offered; where none of them is, the first tool twice.
    pub calls: Vec<PlannedCall>,
}

/// A call that a model is to make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedCall {
    /// The tool's name, or its end: clients put names of their servers in front.
    pub tool: String,
    /// An object for a function, a string for a tool that takes free text.
    pub arguments: Value,
}

/// What an attentive model's answer uses: all input, of which read from and written to the cache, all output, and of it
/// reasoning, where there was some. Gemini writes no cache.
pub const ATTENTIVE_USAGE: [u64; 5] = [100, 40, 8, 30, 12];

/// What a request says, in words of no protocol.
#[derive(Debug, Default)]
struct Heard {
    /// All instructions, one after the other.
    instructions: Vec<String>,
    /// The user's texts since the model's last turn.
    texts: Vec<String>,
    /// The user's files since then: type (or URL) and bytes.
    files: Vec<String>,
    tools: Vec<HeardTool>,
    /// The tool that must be called.
    forced_tool: Option<String>,
    forbids_tools: bool,
    /// Whether only one call may be made at a time.
    one_call: bool,
    /// What tools answered since the model's last turn, in the order of the calls.
    results: Vec<String>,
    /// Whether the thoughts of those calls came back.
    has_thoughts: bool,
    schema: Option<Value>,
    is_json: bool,
    /// Whether it is to think.
    thinks: bool,
    /// Whether its thoughts are to be shown.
    shows: bool,
    /// Whether what it thought is to be given in the vendor's hidden form (OpenAI's `encrypted_content`).
    hides: bool,
    max_tokens: Option<u64>,
    stop: Vec<String>,
    choices: u64,
}

#[derive(Debug)]
struct HeardTool {
    name: String,
    schema: Value,
    is_custom: bool,
}

/// What the model says.
#[derive(Debug)]
pub(super) struct Reply {
    thoughts: Option<Thoughts>,
    text: String,
    calls: Vec<SaidCall>,
    end: End,
    choices: u64,
}

#[derive(Debug)]
struct Thoughts {
    /// Empty where they are not shown.
    shown: String,
    is_hidden_form: bool,
}

#[derive(Debug)]
struct SaidCall {
    name: String,
    /// An object, or a string for a tool that takes free text.
    arguments: Value,
}

impl SaidCall {
    /// What it is called with, as a text.
    fn input(&self) -> String {
        self.arguments.as_str().map_or_else(|| self.arguments.to_string(), str::to_owned)
    }
}

#[derive(Debug, PartialEq)]
enum End {
    Stop,
    StopSequence(String),
    Calls,
    Length,
}

/// Who signs.
const VENDOR_RESPONSES: &str = "openai";
const VENDOR_ANTHROPIC: &str = "anthropic";
const VENDOR_GEMINI: &str = "google";

const THOUGHTS: &str = "Let me think: what is asked is clear.";

/// What the model says to a request in the protocol of an operation; the vendor's refusal where it is not as it should be.
/// `None` where the operation is no chat.
pub(super) fn reply(
    attentive: &Attentive,
    operation: Operation,
    model: &str,
    body: &[u8],
) -> Option<Result<Reply, VendorError>> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let heard = match operation {
        Operation::Chat => hear_chat::hear(&body, model),
        Operation::Responses => hear_responses::hear(&body, model),
        Operation::Messages => hear_anthropic::hear(&body, model),
        Operation::Generate | Operation::StreamGenerate { .. } => hear_gemini::hear(&body, model),
        _ => return None,
    };
    Some(heard.map(|heard| heard.reply(attentive)).map_err(|wrong| VendorError::new(400, wrong.0)))
}

/// The plain answer.
pub(super) fn whole(operation: Operation, job: &Job<'_>, reply: &Reply) -> Bytes {
    let answer = match operation {
        Operation::Chat => say_chat::whole(job, reply),
        Operation::Responses => say_responses::whole(job, reply),
        Operation::Messages => say_anthropic::whole(job, reply),
        _ => say_gemini::whole(job, reply),
    };
    answer.to_string().into()
}

/// The stream.
pub(super) fn events(operation: Operation, job: &Job<'_>, reply: &Reply) -> Vec<Event> {
    let events = match operation {
        Operation::Chat => say_chat::events(job, reply),
        Operation::Responses => say_responses::events(job, reply),
        Operation::Messages => say_anthropic::events(job, reply),
        _ => say_gemini::events(job, reply),
    };
    events.into_iter().map(Event::plain).collect()
}

impl Heard {
    fn reply(self, attentive: &Attentive) -> Reply {
        let calls = self.calls(attentive);
        let thoughts = self.thinks.then(|| Thoughts {
            shown: if self.shows { THOUGHTS.to_owned() } else { String::new() },
            is_hidden_form: self.hides,
        });
        let (text, end) = if calls.is_empty() { self.cut(self.text()) } else { (String::new(), End::Calls) };
        Reply { thoughts, text, calls, end, choices: self.choices.max(1) }
    }

    fn calls(&self, attentive: &Attentive) -> Vec<SaidCall> {
        if self.tools.is_empty() || self.forbids_tools || !self.results.is_empty() {
            return Vec::new();
        }
        let planned = attentive.calls.iter().filter_map(|call| {
            let tool = self.tools.iter().find(|tool| tool.name.ends_with(&call.tool))?;
            Some(SaidCall { name: tool.name.clone(), arguments: call.arguments.clone() })
        });
        let mut calls: Vec<_> = planned.collect();
        if calls.is_empty() {
            let forced = self.tools.iter().find(|tool| Some(&tool.name) == self.forced_tool.as_ref());
            let Some(tool) = forced.or(self.tools.first()) else { return calls };
            calls.extend(["Paris", "Oslo \u{1f327} \"N\""].map(|word| SaidCall {
                name: tool.name.clone(),
                arguments: if tool.is_custom { json!(word) } else { worded(tools::example_of(&tool.schema), word) },
            }));
        }
        if self.one_call {
            calls.truncate(1);
        }
        calls
    }

    fn text(&self) -> String {
        if let Some(schema) = &self.schema {
            return tools::example_of(schema).to_string();
        }
        if self.is_json {
            return json!({"answer": self.texts.join(" ")}).to_string();
        }
        if !self.results.is_empty() {
            let thoughts = if self.has_thoughts { " (I remember what I thought.)" } else { "" };
            return format!("The tools say: {}{thoughts}", self.results.join(" | "));
        }
        if !self.files.is_empty() {
            return format!("I see {}.", self.files.join(" and "));
        }
        let told = self.instructions.join(" ");
        let told = if told.is_empty() { told } else { format!("Told \"{told}\": ") };
        format!("{told}you say \"{}\".", self.texts.join(" "))
    }

    /// A text up to the first stop sequence and at most so many words long.
    fn cut(&self, mut text: String) -> (String, End) {
        let mut end = End::Stop;
        let found = self.stop.iter().filter_map(|stop| Some((text.find(stop.as_str())?, stop)));
        if let Some((at, stop)) = found.min() {
            end = End::StopSequence(stop.clone());
            text.truncate(at);
        }
        if let Some(most) = self.max_tokens.and_then(|most| usize::try_from(most).ok()) {
            let words: Vec<&str> = text.split_inclusive(' ').collect();
            if words.len() > most {
                return (words[..most].concat(), End::Length);
            }
        }
        (text, end)
    }
}

/// The same arguments with another word in the first of their strings.
fn worded(arguments: Value, word: &str) -> Value {
    let Value::Object(mut arguments) = arguments else { return json!({}) };
    if let Some(text) = arguments.values_mut().find(|value| value.is_string()) {
        *text = json!(word);
    }
    Value::Object(arguments)
}

impl Reply {
    fn usage(&self) -> Usage {
        let [input, cache_read, cache_write, output, reasoning] = ATTENTIVE_USAGE;
        let reasoning = if self.thoughts.is_some() { reasoning } else { 0 };
        Usage { input, cache_read, cache_write, output, reasoning }
    }
}

/// A text in pieces of a few characters.
fn pieces(text: &str) -> Vec<String> {
    const PIECE_CHARS: usize = 7;
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(PIECE_CHARS).map(|piece| piece.iter().collect()).collect()
}

/// The id of an answer's call.
fn call_id(job: &Job<'_>, prefix: &str, number: usize) -> String {
    format!("{prefix}{:020x}{number}", job.serial)
}

/// The model's name.
fn model(job: &Job<'_>) -> Value {
    serde_json::from_str(&job.model).unwrap_or_default()
}
