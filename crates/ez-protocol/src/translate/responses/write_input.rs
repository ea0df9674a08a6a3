//! Writes the conversation of a Responses request: its turns made into items.

use ez_contract::Protocol;

use super::super::capability::{InstructionRole, ReasoningStyle};
use super::super::refused::Refused;
use super::super::request::{Arguments, Block, Reasoning, Role, Text, ToolCall, ToolResult, Turn};
use super::super::target::Target;
use super::super::tool_names::{ToolNames, sent_id};
use super::write_content::{write_image_call, write_media, write_text_part};
use crate::json::{Escaped, Value, Writer};

const OWN: Protocol = Protocol::OpenaiResponses;

/// Writes the first turn as `instructions` where it instructs and others follow, and gives the turns that are left.
/// Servers behind subscriptions want the field; later instructions stay where they are said.
pub(super) fn write_instructions<'t, 'a>(json: &mut Writer, turns: &'t [Turn<'a>]) -> &'t [Turn<'a>] {
    let Some((first, rest)) = turns.split_first() else { return turns };
    let texts = first.blocks.iter().map(|block| match block {
        Block::Text(text) => Some(text),
        _ => None,
    });
    let Some(texts) = texts.collect::<Option<Vec<&Text<'_>>>>() else { return turns };
    if !first.role.is_instruction() || texts.is_empty() || rest.iter().all(|turn| turn.blocks.is_empty()) {
        return turns;
    }
    let between = Escaped::of("\n\n");
    let paragraphs = texts.iter().enumerate().flat_map(|(at, text)| {
        let gap = if at == 0 { &Escaped::EMPTY } else { &between };
        [gap, &text.text]
    });
    json.key("instructions").joined(paragraphs);
    rest
}

/// Writes the value of `input`. `field` is the client's name for the conversation, for faults.
pub(super) fn write_input(
    json: &mut Writer,
    turns: &[Turn<'_>],
    target: &Target<'_>,
    field: &'static str,
) -> Result<(), Refused> {
    let mut input = Input { target, field, reasoning: Vec::new(), items: 0 };
    let mut result = Ok(());
    json.array(|json| result = turns.iter().try_for_each(|turn| input.turn(json, turn)));
    result
}

/// Items under way.
struct Input<'w> {
    target: &'w Target<'w>,
    /// The client's name for the conversation.
    field: &'static str,
    /// Thoughts that wait for what they led to: the vendor refuses those that nothing follows.
    reasoning: Vec<&'w Reasoning<'w>>,
    /// How many items have an id that is made of their place.
    items: usize,
}

impl<'w> Input<'w> {
    fn turn(&mut self, json: &mut Writer, turn: &'w Turn<'w>) -> Result<(), Refused> {
        match turn.role {
            Role::Assistant => self.said(json, &turn.blocks),
            Role::System | Role::Developer => {
                let role = match self.target.capabilities.instructions {
                    InstructionRole::System => "system",
                    InstructionRole::Developer => "developer",
                };
                self.message(json, role, &turn.blocks)
            }
            Role::User => self.message(json, "user", &turn.blocks),
        }
    }

    /// What is not the model's: results as items of their own, all else as messages.
    fn message(&mut self, json: &mut Writer, role: &str, blocks: &'w [Block<'w>]) -> Result<(), Refused> {
        self.reasoning.clear();
        for run in blocks.chunk_by(|a, b| !is_result(a) && !is_result(b)) {
            if let [Block::ToolResult(result)] = run {
                self.result(json, result)?;
                continue;
            }
            let mut outcome = Ok(());
            json.object(|json| {
                json.key("type").string("message");
                json.key("role").string(role);
                json.key("content").array(|json| {
                    outcome = run.iter().try_for_each(|block| self.part(json, role, block));
                });
            });
            outcome?;
        }
        Ok(())
    }

    fn part(&mut self, json: &mut Writer, role: &str, block: &Block<'_>) -> Result<(), Refused> {
        match block {
            Block::Text(text) => write_text_part(json, &text.text),
            Block::Media(media) if role == "user" => write_media(json, media, self.field)?,
            Block::Media(_) => {
                let reason = "holds a file in its instructions, which may hold text alone: send it as the user's";
                return Err(Refused::inexpressible(self.field, reason));
            }
            // No reader makes these of a turn that is not the model's.
            Block::ToolCall(_) | Block::ToolResult(_) | Block::Reasoning(_) | Block::Refusal(_) => {}
        }
        Ok(())
    }

    /// What the model said.
    fn said(&mut self, json: &mut Writer, blocks: &'w [Block<'w>]) -> Result<(), Refused> {
        for run in blocks.chunk_by(|a, b| is_words(a) && is_words(b)) {
            match run {
                [Block::Reasoning(reasoning)] if self.takes(reasoning) => self.reasoning.push(reasoning),
                [Block::Reasoning(_)] => {}
                [Block::ToolCall(call)] => {
                    self.thoughts(json);
                    write_call(json, call, self.target.names);
                }
                [Block::Media(media)] => {
                    self.thoughts(json);
                    let id = self.made_id("ig_");
                    write_image_call(json, media, &id, self.field)?;
                }
                words if words.first().is_some_and(is_words) => {
                    self.thoughts(json);
                    let id = self.made_id("msg_");
                    write_words(json, words, &id);
                }
                // No reader makes a result of what the model said.
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the model can read these thoughts: its vendor's own, and no model that does not think has any.
    fn takes(&self, reasoning: &Reasoning<'_>) -> bool {
        let is_own = reasoning.signature.as_ref().is_some_and(|state| state.issuer == OWN);
        is_own && self.target.capabilities.reasoning != ReasoningStyle::None
    }

    fn thoughts(&mut self, json: &mut Writer) {
        std::mem::take(&mut self.reasoning).into_iter().for_each(|reasoning| write_reasoning(json, reasoning));
    }

    /// An id by place, so that the same conversation gives the same bytes.
    fn made_id(&mut self, prefix: &str) -> String {
        self.items += 1;
        format!("{prefix}{}", self.items)
    }

    fn result(&mut self, json: &mut Writer, result: &ToolResult<'_>) -> Result<(), Refused> {
        let mut outcome = Ok(());
        json.object(|json| {
            let kind = if result.is_custom { "custom_tool_call_output" } else { "function_call_output" };
            json.key("type").string(kind);
            json.key("call_id").escaped(&sent_id(&result.id, OWN));
            json.key("output");
            outcome = write_output(json, result, self.field);
        });
        outcome
    }
}

const fn is_result(block: &Block<'_>) -> bool {
    matches!(block, Block::ToolResult(_))
}

const fn is_words(block: &Block<'_>) -> bool {
    matches!(block, Block::Text(_) | Block::Refusal(_))
}

fn write_words(json: &mut Writer, words: &[Block<'_>], id: &str) {
    json.object(|json| {
        json.key("type").string("message");
        json.key("id").string(id);
        json.key("status").string("completed");
        json.key("role").string("assistant");
        json.key("content").array(|json| {
            for block in words {
                match block {
                    Block::Text(text) => json.object(|json| {
                        json.key("type").string("output_text");
                        json.key("text").escaped(&text.text);
                        json.key("annotations").raw("[]");
                    }),
                    Block::Refusal(words) => json.object(|json| {
                        json.key("type").string("refusal");
                        json.key("refusal").escaped(words);
                    }),
                    _ => {}
                }
            }
        });
    });
}

/// Writes thoughts without an id: the vendor compares one with that inside the encrypted content, and refuses any other
/// (`invalid_encrypted_content`); without one it does not ask. Its own agent sends none.
fn write_reasoning(json: &mut Writer, reasoning: &Reasoning<'_>) {
    json.object(|json| {
        json.key("type").string("reasoning");
        json.key("summary").array(|json| {
            if !reasoning.text.is_empty() {
                json.object(|json| {
                    json.key("type").string("summary_text");
                    json.key("text").escaped(&reasoning.text);
                });
            }
        });
        if let Some(state) = &reasoning.signature {
            json.key("encrypted_content").escaped(&state.data);
        }
    });
}

fn write_call(json: &mut Writer, call: &ToolCall<'_>, names: &ToolNames) {
    let is_custom = matches!(call.arguments, Arguments::Free(_));
    json.object(|json| {
        json.key("type").string(if is_custom { "custom_tool_call" } else { "function_call" });
        json.key("call_id").escaped(&sent_id(&call.id, OWN));
        json.key("name").escaped(&names.sent(&call.name));
        match &call.arguments {
            Arguments::Free(input) => json.key("input").escaped(input),
            Arguments::Written(written) if written.is_empty() => json.key("arguments").string("{}"),
            Arguments::Written(written) => json.key("arguments").escaped(written),
            Arguments::Object(value) => json.key("arguments").string(Value::as_str(*value)),
        }
    });
}

/// What a tool answered: a string where it is one text, else parts. The protocol has no field for failures.
fn write_output(json: &mut Writer, result: &ToolResult<'_>, field: &str) -> Result<(), Refused> {
    let mark = if result.is_error == Some(true) && !says_error(&result.content) { "Error: " } else { "" };
    let mark = Escaped::of(mark);
    match result.content.as_slice() {
        [] => json.escaped(&mark),
        [Block::Text(text)] => json.joined([&mark, &text.text]),
        blocks => {
            let mut outcome = Ok(());
            json.array(|json| {
                if !mark.is_empty() {
                    write_text_part(json, &mark);
                }
                outcome = blocks.iter().try_for_each(|block| match block {
                    Block::Text(text) => {
                        write_text_part(json, &text.text);
                        Ok(())
                    }
                    Block::Media(media) => write_media(json, media, field),
                    // Tools answer with texts and media alone.
                    _ => Ok(()),
                });
            });
            return outcome;
        }
    }
    Ok(())
}

fn says_error(content: &[Block<'_>]) -> bool {
    matches!(content.first(), Some(Block::Text(text)) if text.text.as_str().starts_with("Error: "))
}
