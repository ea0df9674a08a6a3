//! Gives ids to the calls and results of a conversation that has none: Gemini's clients may leave them out, and tell
//! them apart by name and order alone.

use std::collections::{HashMap, HashSet, VecDeque};

use super::super::refused::Refused;
use super::super::request::{Block, ToolResult, Turn};
use crate::json::Escaped;

/// Names each call by its position where it has no id (`call_1`), and each result by the call that it answers: that of
/// its id, else the first open one of its name.
pub(super) fn identify(turns: &mut [Turn<'_>]) -> Result<(), Refused> {
    let mut made = MadeIds::default();
    let mut open = OpenCalls::default();
    for turn in turns {
        // Later turns must not change the ids of earlier ones: prompts are cached by their beginning.
        made.keep_off(turn);
        for block in &mut turn.blocks {
            match block {
                Block::ToolCall(call) => {
                    if call.id.is_empty() {
                        call.id = made.next();
                    }
                    open.call(&call.id, call.name.text().into_owned());
                }
                Block::ToolResult(result) => result.id = open.answer(result)?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// Ids that nobody gave.
#[derive(Default)]
struct MadeIds {
    given: HashSet<String>,
    number: usize,
}

impl MadeIds {
    /// Makes none that a call of this turn has.
    fn keep_off(&mut self, turn: &Turn<'_>) {
        let ids = turn.blocks.iter().filter_map(|block| match block {
            Block::ToolCall(call) if !call.id.is_empty() => Some(call.id.text().into_owned()),
            _ => None,
        });
        self.given.extend(ids);
    }

    fn next<'a>(&mut self) -> Escaped<'a> {
        loop {
            self.number += 1;
            let id = format!("call_{}", self.number);
            if !self.given.contains(&id) {
                return Escaped::of_owned(id);
            }
        }
    }
}

/// The calls that have no result yet.
#[derive(Default)]
struct OpenCalls {
    /// All calls, and whether they are open.
    calls: Vec<(Escaped<'static>, bool)>,
    by_id: HashMap<String, VecDeque<usize>>,
    by_name: HashMap<String, VecDeque<usize>>,
}

impl OpenCalls {
    fn call(&mut self, id: &Escaped<'_>, name: String) {
        let (at, id) = (self.calls.len(), id.clone().into_owned());
        self.by_id.entry(id.text().into_owned()).or_default().push_back(at);
        self.by_name.entry(name).or_default().push_back(at);
        self.calls.push((id, true));
    }

    /// The id of the call that a result answers.
    fn answer(&mut self, result: &ToolResult<'_>) -> Result<Escaped<'static>, Refused> {
        let name = result.name.as_ref().map(|name| name.text().into_owned()).unwrap_or_default();
        let calls = &mut self.calls;
        let mut first = |waiting: Option<&mut VecDeque<usize>>| {
            let waiting = waiting?;
            let at = std::iter::from_fn(|| waiting.pop_front()).find(|at| calls.get(*at).is_some_and(|call| call.1))?;
            let (id, is_open) = calls.get_mut(at)?;
            *is_open = false;
            Some(id.clone())
        };
        let by_id = if result.id.is_empty() { None } else { first(self.by_id.get_mut(result.id.text().as_ref())) };
        by_id.or_else(|| first(self.by_name.get_mut(&name))).ok_or_else(|| {
            let message = format!(
                "`contents`: there is a functionResponse for `{name}`, and no open functionCall of that name before it: send \
                 the call, too, or leave the response out"
            );
            Refused::invalid("contents", message)
        })
    }
}
