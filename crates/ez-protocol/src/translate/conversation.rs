//! Conversations as every vendor wants them: each call is answered, right behind it, and nothing is answered that was not
//! called.

use std::collections::{HashMap, VecDeque};

use super::refused::Refused;
use super::request::{Block, Role, ToolResult, Turn};
use crate::json::Escaped;

/// Puts the results of calls behind the turns that made them, in the order of the calls, and gives each the name of its
/// tool. Results may come late (agents put words of the user in between). `field` is where the conversation stands
/// (`messages`), for faults: a call without a result, a result without a call, two of the same.
pub(crate) fn settle<'a>(turns: Vec<Turn<'a>>, field: &str) -> Result<Vec<Turn<'a>>, Refused> {
    let has_tools =
        turns.iter().flat_map(|turn| &turn.blocks).any(|b| matches!(b, Block::ToolCall(_) | Block::ToolResult(_)));
    if !has_tools {
        return Ok(turns);
    }
    let mut results = Results::default();
    // Results are taken out first; what is left of their turns keeps its place.
    let mut rest: Vec<Turn<'a>> = Vec::with_capacity(turns.len());
    for (at, turn) in turns.into_iter().enumerate() {
        let mut kept = Vec::with_capacity(turn.blocks.len());
        for block in turn.blocks {
            match block {
                Block::ToolResult(result) => results.add(at, result),
                other => kept.push(other),
            }
        }
        rest.push(Turn { role: turn.role, blocks: kept });
    }
    let mut settled: Vec<Turn<'a>> = Vec::with_capacity(rest.len() + results.all.len());
    let mut called = Vec::new();
    let mut uses: HashMap<Escaped<'a>, usize> = HashMap::new();
    for (at, mut turn) in rest.into_iter().enumerate() {
        if turn.role != Role::Assistant {
            results.answer(&mut called, &mut settled, field)?;
        }
        for block in &mut turn.blocks {
            if let Block::ToolCall(call) = block {
                let id = call.id.clone();
                let used = uses.entry(id.clone()).or_default();
                *used += 1;
                // Servers that count their calls anew in each answer give ids twice, which Anthropic refuses.
                if *used > 1 {
                    call.id.push(&Escaped::of_owned(format!("_use_{used}")));
                }
                called.push(Called { at, id, sent: call.id.clone(), name: call.name.clone() });
            }
        }
        // A turn that held results alone is nothing any more.
        if !turn.blocks.is_empty() {
            settled.push(turn);
        }
    }
    results.answer(&mut called, &mut settled, field)?;
    match results.all.into_iter().flatten().next() {
        None => Ok(settled),
        Some((_, orphan)) => Err(uncalled(field, &orphan.id)),
    }
}

/// A call that waits for its result.
struct Called<'a> {
    /// Its turn.
    at: usize,
    /// As the client's result has it.
    id: Escaped<'a>,
    /// The same, unlike that of any call before.
    sent: Escaped<'a>,
    name: Escaped<'a>,
}

/// The results of a conversation, each to be taken once.
#[derive(Default)]
struct Results<'a> {
    /// With the turn that it stood in.
    all: Vec<Option<(usize, ToolResult<'a>)>>,
    /// Where those of each id stand.
    by_id: HashMap<Escaped<'a>, VecDeque<usize>>,
}

impl<'a> Results<'a> {
    fn add(&mut self, at: usize, result: ToolResult<'a>) {
        self.by_id.entry(result.id.clone()).or_default().push_back(self.all.len());
        self.all.push(Some((at, result)));
    }

    /// Adds a turn with the results of what was called.
    fn answer(&mut self, called: &mut Vec<Called<'a>>, to: &mut Vec<Turn<'a>>, field: &str) -> Result<(), Refused> {
        if called.is_empty() {
            return Ok(());
        }
        let mut blocks = Vec::with_capacity(called.len());
        for call in called.drain(..) {
            let first = self.by_id.get_mut(&call.id).and_then(VecDeque::pop_front);
            let result = first.and_then(|first| self.all[first].take()).filter(|(at, _)| *at > call.at);
            let (_, mut result) = result.ok_or_else(|| unanswered(field, &call.id))?;
            (result.id, result.name) = (call.sent, Some(call.name));
            blocks.push(Block::ToolResult(result));
        }
        to.push(Turn { role: Role::User, blocks });
        Ok(())
    }
}

fn unanswered(field: &str, id: &Escaped<'_>) -> Refused {
    let message = format!("`{field}`: the tool call `{}` has no result: send one, or leave the call out", id.text());
    Refused::invalid(field, message)
}

fn uncalled(field: &str, id: &Escaped<'_>) -> Refused {
    let id = id.text();
    let message = format!(
        "`{field}`: there is a result for `{id}`, and no open tool call with this id before it: send the call, too, or \
         leave the result out"
    );
    Refused::invalid(field, message)
}

/// The turns with those of one side put together, as Anthropic and Gemini want them: instructions stand alone.
pub(crate) fn merged(turns: Vec<Turn<'_>>) -> Vec<Turn<'_>> {
    let mut out: Vec<Turn<'_>> = Vec::with_capacity(turns.len());
    for turn in turns {
        match out.last_mut() {
            Some(last) if last.role == turn.role => last.blocks.extend(turn.blocks),
            _ => out.push(turn),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::request::{Arguments, Text, ToolCall};
    use super::*;

    fn turn(role: Role, blocks: &[&'static str]) -> Turn<'static> {
        let block = |text: &&'static str| match text.split_once(':') {
            Some(("call", id)) => Block::ToolCall(ToolCall {
                id: Escaped::of(id),
                name: Escaped::of("f"),
                arguments: Arguments::Written(Escaped::EMPTY),
                signature: None,
                cache: None,
            }),
            Some(("result", id)) => Block::ToolResult(ToolResult {
                id: Escaped::of(id),
                name: None,
                content: Vec::new(),
                is_error: None,
                is_custom: false,
                cache: None,
            }),
            _ => Block::Text(Text::plain(Escaped::of(text))),
        };
        Turn { role, blocks: blocks.iter().map(block).collect() }
    }

    fn shown(turns: &[Turn<'_>]) -> Vec<String> {
        let block = |block: &Block<'_>| match block {
            Block::ToolCall(call) => format!("call:{}", call.id.text()),
            Block::ToolResult(result) => {
                assert!(result.name.as_ref().is_some_and(|name| name.is("f")));
                format!("result:{}", result.id.text())
            }
            Block::Text(text) => text.text.text().into_owned(),
            other => format!("{other:?}"),
        };
        let line = |turn: &Turn<'_>| {
            let blocks: Vec<_> = turn.blocks.iter().map(block).collect();
            format!("{:?} {}", turn.role, blocks.join(" "))
        };
        turns.iter().map(line).collect()
    }

    #[test]
    fn results_follow_their_calls() {
        use Role::{Assistant, User};
        let turns = vec![
            turn(User, &["hi"]),
            turn(Assistant, &["call:a"]),
            turn(Assistant, &["call:b"]),
            turn(User, &["wait"]),
            turn(User, &["result:b", "there"]),
            turn(User, &["result:a"]),
            turn(Assistant, &["call:a", "ok"]),
            turn(User, &["result:a"]),
        ];
        let settled = settle(turns, "messages").unwrap();
        let expected = [
            "User hi",
            "Assistant call:a",
            "Assistant call:b",
            "User result:a result:b",
            "User wait",
            "User there",
            "Assistant call:a_use_2 ok",
            "User result:a_use_2",
        ];
        assert_eq!(shown(&settled), expected);
        let expected = [
            "User hi",
            "Assistant call:a call:b",
            "User result:a result:b wait there",
            "Assistant call:a_use_2 ok",
            "User result:a_use_2",
        ];
        assert_eq!(shown(&merged(settled)), expected);
    }

    #[test]
    fn what_does_not_match_is_refused() {
        use Role::{Assistant, User};
        let cases = [
            vec![turn(Assistant, &["call:a"]), turn(User, &["hi"])],
            vec![turn(User, &["result:a"])],
            vec![turn(User, &["result:a"]), turn(Assistant, &["call:a"])],
            vec![turn(Assistant, &["call:a"]), turn(User, &["result:a", "result:a"])],
            vec![turn(Assistant, &["call:a", "call:a"]), turn(User, &["result:a"])],
        ];
        for turns in cases {
            let refused = settle(turns.clone(), "input").expect_err("refused");
            assert!(refused.message.contains("`a`") && refused.param == "input", "{turns:?}: {refused}");
        }
    }
}
