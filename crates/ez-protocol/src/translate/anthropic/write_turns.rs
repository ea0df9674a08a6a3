//! Writes the conversation of a request: `system` and `messages`.

use ez_contract::Protocol;

use super::super::capability::Capabilities;
use super::super::conversation;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Block, Reasoning, Role, Text, Turn};
use super::super::target::Target;
use super::super::words::Words;
use super::write_blocks::{self, write_block};
use crate::json::{Escaped, Writer};

/// What stands for the user where the client sends none and Anthropic wants one.
const OPENING: &str = "Begin.";

/// A conversation as Anthropic takes it.
#[derive(Debug)]
pub(super) struct Conversation<'a> {
    /// The instructions at its beginning.
    system: Vec<Text<'a>>,
    /// The rest: sides take turns, the user begins, and nothing in it is empty.
    turns: Vec<Turn<'a>>,
}

impl<'a> Conversation<'a> {
    /// Makes a settled conversation one that Anthropic takes; refuses what it has no place for.
    pub(super) fn of(
        turns: Vec<Turn<'a>>,
        capabilities: &Capabilities,
        words: Words,
        report: &mut Report,
    ) -> Result<Self, Refused> {
        let mut system = Vec::new();
        let mut rest: Vec<Turn<'a>> = Vec::with_capacity(turns.len() + 1);
        for turn in turns {
            let is_leading = rest.is_empty() && turn.role.is_instruction();
            let mut turn = fitted(turn, words, report)?;
            if is_leading {
                system.extend(turn.blocks.into_iter().filter_map(|block| match block {
                    Block::Text(text) => Some(text),
                    _ => None,
                }));
                continue;
            }
            if turn.role.is_instruction() && !capabilities.mid_conversation_system {
                turn = as_words_of_the_user(turn);
            }
            // One role for both kinds of instructions, so that they are put together.
            turn.role = if turn.role == Role::Developer { Role::System } else { turn.role };
            if !turn.blocks.is_empty() {
                rest.push(turn);
            }
        }
        let mut turns = conversation::merged(rest);
        turns.iter_mut().for_each(order);
        turns.retain(|turn| !turn.blocks.is_empty());
        let mut conversation = Self { system, turns: conversation::merged(turns) };
        conversation.end(capabilities, words)?;
        conversation.begin();
        Ok(conversation)
    }

    /// The user begins.
    fn begin(&mut self) {
        if self.turns.first().is_none_or(|turn| turn.role != Role::User) {
            let opening = Block::Text(Text::plain(Escaped::of(OPENING)));
            self.turns.insert(0, Turn { role: Role::User, blocks: vec![opening] });
        }
    }

    /// An answer that the client began must not end in white space, and not every model goes on with one.
    fn end(&mut self, capabilities: &Capabilities, words: Words) -> Result<(), Refused> {
        let Some(last) = self.turns.last_mut().filter(|turn| turn.role == Role::Assistant) else { return Ok(()) };
        if !capabilities.prefill {
            let reason =
                "ends with a turn of the model, which this model does not go on with: end with one of the user";
            return Err(Refused::inexpressible(words.turns, reason));
        }
        if let Some(Block::Text(text)) = last.blocks.last_mut() {
            let told = text.text.text();
            let trimmed = told.trim_end();
            if trimmed.len() < told.len() {
                text.text = Escaped::of_owned(trimmed.to_owned());
            }
        }
        Ok(())
    }

    pub(super) fn turns(&self) -> &[Turn<'a>] {
        &self.turns
    }

    /// Whether the client began the answer.
    pub(super) fn is_prefilled(&self) -> bool {
        self.turns.last().is_some_and(|turn| turn.role == Role::Assistant)
    }

    /// Whether the calls that the model waits for were made without thinking, which models that think by hand refuse: the
    /// turns since the user last spoke must begin with a thought of the vendor's own.
    pub(super) fn calls_without_thinking(&self) -> bool {
        let is_result = |block: &Block<'_>| matches!(block, Block::ToolResult(_));
        let is_spoken = |turn: &Turn<'_>| turn.role == Role::User && !turn.blocks.iter().any(is_result);
        let since = self.turns.iter().rposition(is_spoken).map_or(0, |at| at + 1);
        let answers = || self.turns.iter().skip(since).filter(|turn| turn.role == Role::Assistant);
        let begins_with_thought = |turn: &Turn<'_>| matches!(turn.blocks.first(), Some(Block::Reasoning(_)));
        let has_called = answers().any(|turn| turn.blocks.iter().any(|block| matches!(block, Block::ToolCall(_))));
        let has_thought =
            answers().next().is_some_and(begins_with_thought) || answers().next_back().is_some_and(begins_with_thought);
        has_called && !has_thought
    }

    /// About how many bytes it is written in.
    pub(super) fn bytes(&self) -> usize {
        let texts: usize = self.system.iter().map(|text| text.text.as_str().len() + 32).sum();
        let blocks = self.turns.iter().flat_map(|turn| &turn.blocks);
        texts + blocks.map(|block| write_blocks::bytes(block) + 96).sum::<usize>()
    }

    /// Writes `system` and `messages`. Texts are always blocks, so that a prefix is the same whatever follows it.
    pub(super) fn write(&self, json: &mut Writer, target: &Target<'_>) {
        if !self.system.is_empty() {
            json.key("system").array(|json| {
                for text in &self.system {
                    json.object(|json| write_blocks::write_text(json, &text.text, text.cache));
                }
            });
        }
        json.key("messages").array(|json| {
            for turn in &self.turns {
                json.object(|json| {
                    json.key("role").string(match turn.role {
                        Role::User => "user",
                        Role::Assistant => "assistant",
                        Role::System | Role::Developer => "system",
                    });
                    json.key("content").array(|json| {
                        turn.blocks.iter().for_each(|block| json.object(|json| write_block(json, block, target)));
                    });
                });
            }
        });
    }
}

/// The turn with what Anthropic takes of it: no blank texts, no reasoning of others, refusals as texts.
fn fitted<'a>(turn: Turn<'a>, words: Words, report: &mut Report) -> Result<Turn<'a>, Refused> {
    let mut blocks = Vec::with_capacity(turn.blocks.len());
    for block in turn.blocks {
        match block {
            Block::Text(text) if write_blocks::is_blank(&text.text) => {}
            Block::Refusal(text) if write_blocks::is_blank(&text) => {}
            Block::Refusal(text) => blocks.push(Block::Text(Text::plain(text))),
            Block::Reasoning(reasoning) if !is_own(&reasoning) => {}
            Block::Media(media) => {
                if turn.role != Role::User {
                    let reason = match turn.role {
                        Role::Assistant => {
                            "holds a file in a turn of the model, which Anthropic does not take: leave it out"
                        }
                        _ => {
                            "holds a file in the instructions, which Anthropic does not take: put it into a turn of the user"
                        }
                    };
                    return Err(Refused::inexpressible(words.turns, reason));
                }
                blocks.push(Block::Media(write_blocks::fitted(media, words, report)?));
            }
            Block::ToolResult(mut result) => {
                result.content = write_blocks::fitted_content(result.content, words, report)?;
                blocks.push(Block::ToolResult(result));
            }
            other => blocks.push(other),
        }
    }
    Ok(Turn { role: turn.role, blocks })
}

/// Whether it is reasoning that Anthropic can read.
fn is_own(reasoning: &Reasoning<'_>) -> bool {
    let state = reasoning.signature.as_ref();
    state.is_some_and(|state| state.issuer == Protocol::AnthropicMessages && !state.data.is_empty())
}

/// Instructions in the middle of a conversation, for models that take none there. They stay in their place, so that what
/// stands before them stays the same.
fn as_words_of_the_user(turn: Turn<'_>) -> Turn<'_> {
    let marked = |block| match block {
        Block::Text(text) => {
            let mut marked = Escaped::of("<system>\n");
            marked.push(&text.text);
            marked.push(&Escaped::of("\n</system>"));
            Block::Text(Text { text: marked, cache: text.cache })
        }
        other => other,
    };
    Turn { role: Role::User, blocks: turn.blocks.into_iter().map(marked).collect() }
}

/// Puts the blocks of a turn where Anthropic wants them: results of tools first, and no thoughts at the end, where they
/// belong to nothing.
fn order(turn: &mut Turn<'_>) {
    match turn.role {
        Role::User => turn.blocks.sort_by_key(|block| !matches!(block, Block::ToolResult(_))),
        Role::Assistant => {
            while matches!(turn.blocks.last(), Some(Block::Reasoning(_))) {
                turn.blocks.pop();
            }
        }
        Role::System | Role::Developer => {}
    }
}
