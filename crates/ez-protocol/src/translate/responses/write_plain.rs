//! Writes an OpenAI Responses answer as a whole body: the object that its stream would end with.

use super::super::answer::{Answer, WholePart};
use super::super::event::{Part, Start};
use super::super::target::AnswerContext;
use super::items::{self, CallHead, ItemStatus};
use super::namespaces::Namespaces;
use super::response::{Head, Status, write_response};
use crate::json::{Escaped, Writer};

/// A whole answer. There is one choice.
pub(in crate::translate) fn write_plain(answer: &Answer, context: &AnswerContext) -> String {
    let choice = answer.choices.iter().find(|choice| choice.index == 0);
    let parts = choice.map_or(&[][..], |choice| choice.parts.as_slice());
    let status = Status::of(choice.and_then(|choice| choice.finish));
    let namespaces = Namespaces::of(context);
    let mut output = Vec::with_capacity(parts.len());
    let mut runs = parts.chunk_by(|a, b| is_words(a) && is_words(b)).peekable();
    while let Some(run) = runs.next() {
        match run {
            [part] if !is_words(part) => push_item(&mut output, part, context, &namespaces),
            words => {
                let ends = runs.peek().is_none();
                let status = if ends { status.of_last_message() } else { ItemStatus::Completed };
                let content: Vec<String> = words.iter().map(content_part).collect();
                output.push(items::message(&context.made_id("msg_", output.len()), status, &content));
            }
        }
    }
    let start = Start { id: answer.start.id.clone(), created_at: answer.start.created_at };
    let mut json = Writer::with_capacity(1_024 + output.iter().map(String::len).sum::<usize>());
    write_response(&mut json, context, &Head::of(start, context), status, &output, answer.usage.as_ref());
    json.finish()
}

const fn is_words(part: &WholePart) -> bool {
    matches!(part.part, Part::Text | Part::Refusal)
}

fn content_part(part: &WholePart) -> String {
    let is_refusal = matches!(part.part, Part::Refusal);
    let citations: Vec<String> = part.citations.iter().map(items::citation).collect();
    items::words(is_refusal, &part.text, &citations)
}

/// Adds what is no message.
fn push_item(output: &mut Vec<String>, part: &WholePart, context: &AnswerContext, namespaces: &Namespaces) {
    match &part.part {
        Part::ToolCall { id, name, is_custom, signature } => {
            if let Some(state) = signature {
                let id = context.made_id("rs_", output.len());
                output.push(items::reasoning(&id, &Escaped::EMPTY, Some(state)));
            }
            let head = CallHead {
                id: context.made_id(CallHead::prefix(*is_custom), output.len()),
                call_id: context.call_id(id.as_ref(), "call_", output.len()),
                name: name.clone(),
                is_custom: *is_custom,
            };
            let nothing = Escaped::of("{}");
            let input = if part.text.is_empty() && !is_custom { &nothing } else { &part.text };
            output.push(head.item(ItemStatus::Completed, input, namespaces));
        }
        Part::Media { media_type, data } => {
            let media_type = media_type.text();
            if media_type.starts_with("image/") {
                let id = context.made_id("ig_", output.len());
                output.push(items::image(&id, ItemStatus::Completed, &media_type, Some(data)));
            }
        }
        Part::Reasoning | Part::Text | Part::Refusal => {
            let id = context.made_id("rs_", output.len());
            output.push(items::reasoning(&id, &part.text, part.signature.as_ref()));
        }
    }
}
