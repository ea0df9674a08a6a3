//! What writers are told besides the intermediate form.

use ez_contract::Protocol;

use super::capability::Capabilities;
use super::tool_names::ToolNames;
use crate::json::Escaped;

/// Whom a request is written for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'t> {
    /// The upstream's name for the model.
    pub(crate) model: &'t str,
    /// What the model takes.
    pub(crate) capabilities: &'t Capabilities,
    /// The names to send for tools.
    pub(crate) names: &'t ToolNames,
}

/// A request as it is sent.
#[derive(Debug)]
pub(crate) struct Written {
    /// The JSON body.
    pub(crate) body: String,
    /// The name, as it is sent, of a tool that stands in for the output schema.
    pub(crate) output_tool: Option<String>,
}

/// What an answer is written with.
#[derive(Debug, Clone)]
pub struct AnswerContext {
    /// The client's protocol.
    pub client: Protocol,
    /// The model that the client asked for.
    pub model: String,
    /// What ids are made of where the vendor gives none: letters and digits, another for each call.
    pub seed: String,
    /// When the call arrived, Unix seconds.
    pub created_at: u64,
    /// Whether the client asked for the usage of a stream.
    pub wants_usage: bool,
    /// Whether the stream is one JSON array, each event an element (Gemini).
    pub is_array: bool,
    /// What the answer repeats of the request, as JSON texts (Responses).
    pub echo: Vec<(&'static str, String)>,
}

impl AnswerContext {
    /// An id for something that the vendor gave none: the same for every event of this answer.
    pub(crate) fn made_id(&self, prefix: &str, number: usize) -> Escaped<'static> {
        Escaped::of_owned(format!("{prefix}{}{number}", self.seed))
    }

    /// The id of a call: the vendor's where it gave one.
    pub(crate) fn call_id(&self, told: Option<&Escaped<'_>>, prefix: &str, number: usize) -> Escaped<'static> {
        match told.filter(|id| !id.is_empty()) {
            Some(id) => id.clone().into_owned(),
            None => self.made_id(prefix, number),
        }
    }
}
