//! Tests over the corpus of this protocol, and what they share.

mod answers;
mod reading;
mod thinking;
mod writing;
mod written;

use ez_contract::Protocol;

use super::super::capability::Capabilities;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Block, ChatRequest, Role, Text, Turn};
use super::super::target::Target;
use super::super::tool_names::ToolNames;
use crate::json::Escaped;

/// The files of a directory of the corpus: their names without the ending, and what is in them.
fn corpus(directory: &str) -> Vec<(String, String)> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/translate/corpus/messages/");
    let mut files: Vec<_> = std::fs::read_dir(format!("{root}{directory}"))
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("text"))
        })
        .collect();
    files.sort();
    files
}

fn file(directory: &str, name: &str) -> String {
    let found = corpus(directory).into_iter().find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("no {directory}/{name}")).1
}

/// A request as it is sent to a model, the output tool's name, and what was dropped.
type Sent = (serde_json::Value, Option<String>, Vec<String>);

/// Writes a request for a model.
fn sent(request: ChatRequest<'_>, model: &str) -> Result<Sent, Refused> {
    let capabilities = Capabilities::of(Protocol::AnthropicMessages, model);
    let names = ToolNames::of(&request, Protocol::AnthropicMessages)?;
    let mut report = Report::default();
    let target = Target { model, capabilities, names: &names };
    let written = super::write_request(request, target, &mut report)?;
    let body = serde_json::from_str(&written.body).unwrap_or_else(|e| panic!("{e}: {}", written.body));
    Ok((body, written.output_tool, report.names().to_vec()))
}

fn text(text: &str) -> Block<'_> {
    Block::Text(Text::plain(Escaped::of(text)))
}

fn turn<'a>(role: Role, blocks: Vec<Block<'a>>) -> Turn<'a> {
    Turn { role, blocks }
}

/// A request of a chat client.
fn chat<'a>(turns: Vec<Turn<'a>>) -> ChatRequest<'a> {
    ChatRequest { turns, ..ChatRequest::new(Protocol::OpenaiChat) }
}

/// A request of a chat client in which the user says something.
fn hello() -> ChatRequest<'static> {
    chat(vec![turn(Role::User, vec![text("hello")])])
}
