//! Between reader and writer: what was changed for the upstream is changed back. Tools have their own names again, text
//! that stands in for a custom tool's input is taken out of its wrapping, the tool that stood in for an output schema is
//! text, and characters that were cut in two are whole.

use std::collections::HashMap;

use super::event::{Event, FinishReason, Part};
use super::tool_names::ToolNames;
use crate::json::{Escaped, Value, Writer};

/// The property that a custom tool's input is wrapped in, for upstreams that know functions alone.
pub(crate) const CUSTOM_INPUT: &str = "input";

/// The schema of a custom tool, for upstreams that know functions alone.
pub(crate) const CUSTOM_SCHEMA: &str =
    r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}"#;

/// A custom tool's input as the object that its schema asks for.
pub(crate) fn wrapped_input(input: &Escaped<'_>) -> String {
    let mut json = Writer::with_capacity(input.as_str().len() + 16);
    json.object(|json| json.key(CUSTOM_INPUT).escaped(input));
    json.finish()
}

/// Changes an answer's events back.
#[derive(Debug)]
pub(crate) struct Restorer {
    names: ToolNames,
    /// The name, as it was sent, of the tool that stands in for an output schema.
    output_tool: Option<String>,
    choices: HashMap<u32, Restoring>,
}

/// What a choice is doing.
#[derive(Debug, Default)]
struct Restoring {
    /// A custom tool's arguments so far.
    wrapped: Option<Escaped<'static>>,
    /// The first half of a character, whose other half comes next.
    half: Option<Escaped<'static>>,
    /// Whether the client sees a call.
    has_called: bool,
}

impl Restorer {
    pub(crate) fn new(names: ToolNames, output_tool: Option<String>) -> Self {
        Self { names, output_tool, choices: HashMap::new() }
    }

    /// Passes an event on, as the client is to see it.
    pub(crate) fn restore(&mut self, event: Event<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        match event {
            Event::Open { choice, part: Part::ToolCall { id, name, is_custom, signature } } => {
                if self.output_tool.as_deref().is_some_and(|tool| name.is(tool)) {
                    return sink(Event::Open { choice, part: Part::Text });
                }
                let restoring = self.choices.entry(choice).or_default();
                restoring.has_called = true;
                let name = self.names.client(&name);
                let takes_text = self.names.is_custom(&name);
                if takes_text && !is_custom {
                    restoring.wrapped = Some(Escaped::EMPTY.into_owned());
                }
                let part = Part::ToolCall { id, name, is_custom: is_custom || takes_text, signature };
                sink(Event::Open { choice, part });
            }
            Event::Delta { choice, text } => match self.choices.get_mut(&choice).and_then(|c| c.wrapped.as_mut()) {
                Some(wrapped) => wrapped.push(&text),
                None => self.whole(choice, text, sink),
            },
            Event::Close { choice } => {
                if let Some(half) = self.choices.get_mut(&choice).and_then(|c| c.half.take()) {
                    sink(Event::Delta { choice, text: half });
                }
                if let Some(wrapped) = self.choices.get_mut(&choice).and_then(|c| c.wrapped.take()) {
                    let written = wrapped.text();
                    let input = Value::parse_object(&written).and_then(|object| object.get(CUSTOM_INPUT)?.string());
                    // A call that was cut off is passed as far as it came.
                    sink(Event::Delta { choice, text: input.unwrap_or_else(|| wrapped.borrowed()) });
                }
                sink(Event::Close { choice });
            }
            Event::Finish { choice, reason: FinishReason::ToolCalls, stop_sequence } => {
                let has_called = self.choices.get(&choice).is_some_and(|c| c.has_called);
                let reason = if has_called { FinishReason::ToolCalls } else { FinishReason::Stop };
                sink(Event::Finish { choice, reason, stop_sequence });
            }
            other => sink(other),
        }
    }

    /// Passes a fragment on without a half of a character at its end, and with the one that came before.
    fn whole(&mut self, choice: u32, text: Escaped<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let before = self.choices.get_mut(&choice).and_then(|c| c.half.take());
        let mut text = match before {
            None => text,
            Some(mut half) => {
                half.push(&text);
                half
            }
        };
        if let Some(half) = text.take_cut_end() {
            self.choices.entry(choice).or_default().half = Some(half);
        }
        if !text.is_empty() {
            sink(Event::Delta { choice, text });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_are_cut_in_two_are_put_together() {
        let mut restorer = Restorer::new(ToolNames::default(), None);
        let mut told = Vec::new();
        let open = Event::Open { choice: 0, part: Part::Text };
        let fragments = [r#"{"t":"a\ud83d"}"#, r#"{"t":"\ude00\ud83d"}"#, r#"{"t":""}"#, r#"{"t":"b\ud83d"}"#];
        let deltas = fragments.iter().map(|fragment| {
            let text = Value::parse_object(fragment).and_then(|object| object.get("t")?.string()).unwrap();
            Event::Delta { choice: 0, text }
        });
        for event in [open].into_iter().chain(deltas).chain([Event::Close { choice: 0 }]) {
            restorer.restore(event, &mut |event| match event {
                Event::Delta { text, .. } => told.push(text.as_str().to_owned()),
                Event::Close { .. } => told.push("end".to_owned()),
                _ => {}
            });
        }
        assert_eq!(told, ["a", r"\ud83d\ude00", r"\ud83db", r"\ud83d", "end"]);
    }
}
