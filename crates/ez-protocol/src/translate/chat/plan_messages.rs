//! Decides which messages a conversation is sent as: one of the assistant per step, the results of its calls right behind
//! it, and files where this protocol has a place for them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ez_contract::Protocol;

use super::super::capability::InstructionRole;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Block, Media, MediaKind, MediaSource, Reasoning, Role, ToolCall, ToolResult, Turn};
use super::super::target::Target;
use super::super::tool_names::sent_id;
use super::super::words::Words;
use crate::json::Escaped;

/// A message to be sent.
#[derive(Debug, Default)]
pub(super) struct Message<'r> {
    pub(super) role: &'static str,
    pub(super) parts: Vec<Part<'r>>,
    pub(super) calls: Vec<&'r ToolCall<'r>>,
    /// What was thought before the calls.
    pub(super) thoughts: Vec<&'r Reasoning<'r>>,
    /// The call that a message of the role `tool` answers.
    pub(super) answers: Option<Escaped<'r>>,
}

/// A part of a message's content.
#[derive(Debug)]
pub(super) enum Part<'r> {
    Text(Escaped<'r>),
    Refusal(&'r Escaped<'r>),
    Image { url: Link<'r>, detail: Option<&'r Escaped<'r>> },
    Audio { format: &'static str, data: &'r Escaped<'r> },
    File { name: Escaped<'r>, content: Link<'r> },
}

/// An address, or content as one.
#[derive(Debug)]
pub(super) enum Link<'r> {
    Url(&'r Escaped<'r>),
    Data { media_type: &'r Escaped<'r>, data: &'r Escaped<'r> },
}

/// The messages of a conversation.
pub(super) fn plan<'r>(
    turns: &'r [Turn<'r>],
    target: Target<'_>,
    words: Words,
    report: &mut Report,
) -> Result<Vec<Message<'r>>, Refused> {
    let mut planner = Planner { target, words, messages: Vec::with_capacity(turns.len()), is_step_open: false };
    for turn in turns {
        planner.turn(turn, report)?;
    }
    Ok(planner.messages)
}

struct Planner<'r, 't> {
    target: Target<'t>,
    words: Words,
    messages: Vec<Message<'r>>,
    /// Whether the last message is the assistant's, and more of its step may come.
    is_step_open: bool,
}

impl<'r> Planner<'r, '_> {
    fn turn(&mut self, turn: &'r Turn<'r>, report: &mut Report) -> Result<(), Refused> {
        if turn.role == Role::Assistant {
            return self.assistant(turn);
        }
        self.is_step_open = false;
        let mut message = Message { role: self.role(turn.role), ..Message::default() };
        // Files of results come behind all of them: nothing may stand between messages of the role `tool`.
        let mut files = Vec::new();
        for block in &turn.blocks {
            match block {
                Block::ToolResult(result) => self.result(result, &mut files, report)?,
                Block::Text(text) if text.text.is_empty() => {}
                Block::Text(text) => message.parts.push(Part::Text(text.text.borrowed())),
                Block::Media(media) => message.parts.push(self.media(media, report)?),
                // A turn of this role holds none of these.
                Block::ToolCall(_) | Block::Reasoning(_) | Block::Refusal(_) => {}
            }
        }
        if !files.is_empty() {
            self.messages.push(Message { role: "user", parts: files, ..Message::default() });
        }
        if !message.parts.is_empty() {
            self.messages.push(message);
        }
        Ok(())
    }

    fn role(&self, role: Role) -> &'static str {
        match (role.is_instruction(), self.target.capabilities.instructions) {
            (true, InstructionRole::System) => "system",
            (true, InstructionRole::Developer) => "developer",
            (false, _) => "user",
        }
    }

    fn assistant(&mut self, turn: &'r Turn<'r>) -> Result<(), Refused> {
        let mut message = Message { role: "assistant", ..Message::default() };
        for block in &turn.blocks {
            match block {
                Block::Text(text) if text.text.is_empty() => {}
                Block::Text(text) => message.parts.push(Part::Text(text.text.borrowed())),
                // Other vendors' servers do not know the part.
                Block::Refusal(refusal) if self.target.capabilities.compatible => {
                    message.parts.push(Part::Text(refusal.borrowed()));
                }
                Block::Refusal(refusal) => message.parts.push(Part::Refusal(refusal)),
                Block::ToolCall(call) => message.calls.push(call),
                Block::Reasoning(thought) => message.thoughts.push(thought),
                Block::Media(_) => {
                    let reason = "holds a file of the assistant's, which this model's vendor does not take back: \
                                  send it in a message of the user";
                    return Err(Refused::inexpressible(self.words.turns, reason));
                }
                Block::ToolResult(_) => {}
            }
        }
        match self.messages.last_mut().filter(|_| self.is_step_open) {
            // Calls must stand in one message, and so does what belongs to them. Words that follow words alone are a
            // message of their own.
            Some(last) if !last.calls.is_empty() || last.parts.is_empty() || message.parts.is_empty() => {
                last.parts.append(&mut message.parts);
                last.calls.append(&mut message.calls);
                last.thoughts.append(&mut message.thoughts);
            }
            _ => self.messages.push(message),
        }
        self.is_step_open = true;
        Ok(())
    }

    fn result(
        &mut self,
        result: &'r ToolResult<'r>,
        files: &mut Vec<Part<'r>>,
        report: &mut Report,
    ) -> Result<(), Refused> {
        let mut parts = Vec::new();
        let mut has_files = false;
        for block in &result.content {
            match block {
                Block::Text(text) if text.text.is_empty() => {}
                Block::Text(text) => parts.push(Part::Text(text.text.borrowed())),
                Block::Media(media) => match self.media(media, report)? {
                    text @ Part::Text(_) => parts.push(text),
                    file => {
                        if !has_files {
                            let label = format!("Output of the tool call {}:", result.id.text());
                            files.push(Part::Text(Escaped::of_owned(label)));
                        }
                        has_files = true;
                        files.push(file);
                    }
                },
                _ => {}
            }
        }
        if parts.is_empty() && has_files {
            parts.push(Part::Text(Escaped::of("The output is in the next message of the user.")));
        }
        if result.is_error == Some(true) {
            mark_error(&mut parts);
        }
        let answers = Some(sent_id(&result.id, Protocol::OpenaiChat));
        self.messages.push(Message { role: "tool", parts, answers, ..Message::default() });
        Ok(())
    }

    fn media(&self, media: &'r Media<'r>, report: &mut Report) -> Result<Part<'r>, Refused> {
        let refused = |reason: &str| Err(Refused::inexpressible(self.words.turns, reason));
        let is_named = media.name.is_some();
        if is_named && !matches!(media.kind, MediaKind::Document) {
            report.dropped(&format!("{}.filename", self.words.turns));
        }
        match (media.kind, &media.source) {
            (_, MediaSource::Text(text)) => Ok(Part::Text(titled(media.name.as_ref(), text.borrowed()))),
            (MediaKind::Image, MediaSource::Url { url, .. }) => {
                Ok(Part::Image { url: Link::Url(url), detail: media.detail.as_ref() })
            }
            (MediaKind::Image, MediaSource::Base64 { media_type, data }) => {
                Ok(Part::Image { url: Link::Data { media_type, data }, detail: media.detail.as_ref() })
            }
            (MediaKind::Audio, MediaSource::Base64 { media_type, data }) => match media_type.text().as_ref() {
                "audio/wav" => Ok(Part::Audio { format: "wav", data }),
                "audio/mpeg" => Ok(Part::Audio { format: "mp3", data }),
                _ => refused("holds audio that is neither WAV nor MP3: send it as one of them"),
            },
            (MediaKind::Document, MediaSource::Base64 { media_type, data }) => {
                if media_type.as_str().starts_with("text/")
                    && let Some(text) = decoded(data)
                {
                    return Ok(Part::Text(titled(media.name.as_ref(), Escaped::of_owned(text))));
                }
                let name = media.name.as_ref().filter(|name| !name.is_empty()).map(Escaped::borrowed);
                let usual = if media_type.is("application/pdf") { "document.pdf" } else { "document" };
                let name = name.unwrap_or_else(|| Escaped::of(usual));
                Ok(Part::File { name, content: Link::Data { media_type, data } })
            }
            (MediaKind::Document, MediaSource::Url { .. }) => {
                refused("holds the address of a document, and this model's vendor fetches none: send its content")
            }
            (MediaKind::Audio, MediaSource::Url { .. }) => {
                refused("holds the address of a sound, and this model's vendor fetches none: send its content")
            }
            (MediaKind::Video, _) => refused("holds a film, which this model's vendor does not take: leave it out"),
        }
    }
}

/// A text under its title.
fn titled<'r>(title: Option<&Escaped<'r>>, text: Escaped<'r>) -> Escaped<'r> {
    let Some(title) = title.filter(|title| !title.is_empty()) else { return text };
    let mut titled = title.clone();
    titled.push(&Escaped::of("\n\n"));
    titled.push(&text);
    titled
}

fn decoded(data: &Escaped<'_>) -> Option<String> {
    String::from_utf8(STANDARD.decode(data.text().as_bytes()).ok()?).ok()
}

/// Says in words that a tool failed: there is no field for it.
fn mark_error(parts: &mut Vec<Part<'_>>) {
    const MARK: &str = "Error: ";
    match parts.first_mut() {
        Some(Part::Text(text)) if text.as_str().starts_with("Error:") => {}
        Some(Part::Text(text)) => {
            let mut marked = Escaped::of(MARK);
            marked.push(text);
            *text = marked.into_owned();
        }
        _ => parts.insert(0, Part::Text(Escaped::of("Error"))),
    }
}
