//! Writes a whole OpenAI Chat Completions answer.

use super::super::answer::{Answer, Choice, WholePart};
use super::super::event::{FinishReason, Part};
use super::super::target::AnswerContext;
use super::reasoning_details;
use super::write_answer::answer_id;
use super::write_parts::{
    CallHead, characters, finish_word, knows_older_calls, write_call, write_citation, write_image, write_older_call,
    write_usage,
};
use crate::json::{Escaped, Writer};

/// A whole answer.
pub(in crate::translate) fn write_plain(answer: &Answer, context: &AnswerContext) -> String {
    let mut json = Writer::with_capacity(1_024);
    let mut calls = 0;
    json.object(|json| {
        json.key("id").escaped(&answer_id(&answer.start, context));
        json.key("object").string("chat.completion");
        json.key("created").count(answer.start.created_at.unwrap_or(context.created_at));
        json.key("model").string(&context.model);
        json.key("choices").array(|json| {
            if answer.choices.is_empty() {
                let empty = Choice { index: 0, parts: Vec::new(), finish: None, stop_sequence: None };
                write_choice(json, &empty, context, &mut calls);
            }
            for choice in &answer.choices {
                write_choice(json, choice, context, &mut calls);
            }
        });
        if let Some(usage) = &answer.usage {
            write_usage(json.key("usage"), usage);
        }
    });
    json.finish()
}

fn write_choice(json: &mut Writer, choice: &Choice, context: &AnswerContext, calls: &mut usize) {
    json.object(|json| {
        json.key("index").count(choice.index.into());
        json.key("message").object(|json| write_message(json, &choice.parts, context, calls));
        json.key("logprobs").null();
        let reason = choice.finish.unwrap_or(FinishReason::Stop);
        json.key("finish_reason").string(finish_word(reason, knows_older_calls(context)));
    });
}

fn write_message(json: &mut Writer, parts: &[WholePart], context: &AnswerContext, calls: &mut usize) {
    let joined = |json: &mut Writer, wanted: &Part<'_>| {
        json.joined(parts.iter().filter(|part| part.part == *wanted).map(|part| &part.text));
    };
    let has = |wanted: &Part<'_>| parts.iter().any(|part| part.part == *wanted);
    json.key("role").string("assistant");
    json.key("content");
    if has(&Part::Text) || parts.is_empty() {
        joined(json, &Part::Text)
    } else {
        json.null()
    }
    json.key("refusal");
    if has(&Part::Refusal) {
        joined(json, &Part::Refusal)
    } else {
        json.null()
    }
    if parts.iter().any(|part| part.part == Part::Reasoning && !part.text.is_empty()) {
        joined(json.key("reasoning_content"), &Part::Reasoning);
    }
    if parts.iter().any(|part| part.signature.is_some()) {
        let mut index = 0;
        json.key("reasoning_details").array(|json| {
            for part in parts {
                let Some(state) = &part.signature else { continue };
                let words = if part.part == Part::Reasoning { &part.text } else { &Escaped::EMPTY };
                reasoning_details::write(json, words, state, &mut index);
            }
        });
    }
    write_citations(json, parts);
    if parts.iter().any(|part| matches!(part.part, Part::Media { .. })) {
        json.key("images").array(|json| {
            for part in parts {
                if let Part::Media { media_type, data } = &part.part {
                    write_image(json, None, media_type, data);
                }
            }
        });
    }
    write_calls(json, parts, context, calls);
}

fn write_citations(json: &mut Writer, parts: &[WholePart]) {
    if parts.iter().all(|part| part.citations.is_empty()) {
        return;
    }
    json.key("annotations").array(|json| {
        let mut from: u64 = 0;
        for part in parts.iter().filter(|part| part.part == Part::Text) {
            let to = from.saturating_add(characters(&part.text));
            part.citations.iter().for_each(|citation| write_citation(json, None, citation, from, to));
            from = to;
        }
    });
}

fn write_calls(json: &mut Writer, parts: &[WholePart], context: &AnswerContext, calls: &mut usize) {
    let nothing = Escaped::of("{}");
    let called = parts.iter().filter_map(|part| match &part.part {
        Part::ToolCall { id, name, is_custom, signature } => {
            let arguments = if part.text.is_empty() && !is_custom { &nothing } else { &part.text };
            let id = context.call_id(id.as_ref(), "call_", *calls);
            *calls += 1;
            Some((id, name, *is_custom, arguments, signature.as_ref()))
        }
        _ => None,
    });
    let mut called = called.peekable();
    if knows_older_calls(context)
        && let Some((_, name, _, arguments, _)) = called.next()
    {
        write_older_call(json, Some(name), arguments);
    }
    if called.peek().is_none() {
        return;
    }
    json.key("tool_calls").array(|json| {
        for (id, name, is_custom, arguments, signature) in called {
            write_call(json, &CallHead { index: None, id: &id, name, is_custom, arguments, signature });
        }
    });
}
