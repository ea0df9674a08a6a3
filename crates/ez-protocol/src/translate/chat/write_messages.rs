//! Writes the messages of a request.

use ez_contract::Protocol;

use super::super::media;
use super::super::request::{Arguments, Reasoning, ToolCall};
use super::super::restore::wrapped_input;
use super::super::target::Target;
use super::super::tool_names::sent_id;
use super::plan_messages::{Link, Message, Part};
use super::reasoning_details;
use crate::json::{Escaped, Writer};

/// What Google takes in place of a signature for calls that another model made.
const UNSIGNED: &str = "skip_thought_signature_validator";

/// Writes the elements of `messages`.
pub(super) fn write(json: &mut Writer, messages: &[Message<'_>], target: Target<'_>) {
    for message in messages {
        // A step of which nothing can be told (thoughts alone) is none.
        if message.role == "assistant" && message.parts.is_empty() && message.calls.is_empty() {
            continue;
        }
        json.object(|json| write_message(json, message, target));
    }
}

fn write_message(json: &mut Writer, message: &Message<'_>, target: Target<'_>) {
    json.key("role").string(message.role);
    if let Some(id) = &message.answers {
        json.key("tool_call_id").escaped(id);
    }
    write_content(json, &message.parts, target.capabilities.compatible, message.role);
    if message.calls.is_empty() {
        return;
    }
    if target.capabilities.compatible {
        write_thoughts(json, &message.thoughts);
    }
    json.key("tool_calls").array(|json| {
        for (at, call) in message.calls.iter().enumerate() {
            write_call(json, call, at == 0, target);
        }
    });
}

fn write_content(json: &mut Writer, parts: &[Part<'_>], is_compatible: bool, role: &str) {
    let texts: Option<Vec<&Escaped<'_>>> =
        parts.iter().map(|part| if let Part::Text(text) = part { Some(text) } else { None }).collect();
    json.key("content");
    match texts.as_deref() {
        Some([]) if role == "assistant" => json.null(),
        Some([]) => json.string(""),
        Some([text]) => json.escaped(text),
        // Many servers take a string alone where only texts can be.
        Some([first, rest @ ..]) if is_compatible => {
            let gap = Escaped::of("\n\n");
            let rest = rest.iter().flat_map(|text| [&gap, *text]);
            json.joined(std::iter::once(*first).chain(rest));
        }
        _ => json.array(|json| parts.iter().for_each(|part| write_part(json, part))),
    }
}

fn write_part(json: &mut Writer, part: &Part<'_>) {
    json.object(|json| match part {
        Part::Text(text) => {
            json.key("type").string("text");
            json.key("text").escaped(text);
        }
        Part::Refusal(refusal) => {
            json.key("type").string("refusal");
            json.key("refusal").escaped(refusal);
        }
        Part::Image { url, detail } => {
            json.key("type").string("image_url");
            json.key("image_url").object(|json| {
                write_link(json.key("url"), url);
                if let Some(detail) = detail {
                    json.key("detail").escaped(detail);
                }
            });
        }
        Part::Audio { format, data } => {
            json.key("type").string("input_audio");
            json.key("input_audio").object(|json| {
                json.key("data").escaped(data);
                json.key("format").string(format);
            });
        }
        Part::File { name, content } => {
            json.key("type").string("file");
            json.key("file").object(|json| {
                json.key("filename").escaped(name);
                write_link(json.key("file_data"), content);
            });
        }
    });
}

fn write_link(json: &mut Writer, link: &Link<'_>) {
    match link {
        Link::Url(url) => json.escaped(url),
        Link::Data { media_type, data } => media::write_data_url(json, media_type, data),
    }
}

/// Writes thoughts for servers that want them back with the calls they led to: as they issued them, else as words.
fn write_thoughts(json: &mut Writer, thoughts: &[&Reasoning<'_>]) {
    let issued =
        |thought: &&Reasoning<'_>| thought.signature.as_ref().is_some_and(|state| state.issuer == Protocol::OpenaiChat);
    if thoughts.iter().any(issued) {
        json.key("reasoning_details").array(|json| {
            for thought in thoughts {
                if let Some(state) = thought.signature.as_ref().filter(|_| issued(thought)) {
                    reasoning_details::write_own(json, &thought.text, state);
                }
            }
        });
    } else if thoughts.iter().any(|thought| !thought.text.is_empty()) {
        json.key("reasoning_content").joined(thoughts.iter().map(|thought| &thought.text));
    }
}

fn write_call(json: &mut Writer, call: &ToolCall<'_>, is_first: bool, target: Target<'_>) {
    let name = target.names.sent(&call.name);
    json.object(|json| {
        json.key("id").escaped(&sent_id(&call.id, Protocol::OpenaiChat));
        match &call.arguments {
            Arguments::Free(input) if !target.capabilities.compatible => {
                json.key("type").string("custom");
                json.key("custom").object(|json| {
                    json.key("name").escaped(&name);
                    json.key("input").escaped(input);
                });
            }
            arguments => {
                json.key("type").string("function");
                json.key("function").object(|json| {
                    json.key("name").escaped(&name);
                    write_arguments(json.key("arguments"), arguments);
                });
            }
        }
        if target.capabilities.signs_calls {
            let own = call.signature.as_ref().filter(|state| state.issuer == Protocol::Gemini);
            let placeholder = is_first.then(|| Escaped::of(UNSIGNED));
            if let Some(signature) = own.map(|state| state.data.borrowed()).or(placeholder) {
                write_signature(json, &signature);
            }
        }
    });
}

/// Writes a call's state in Google's OpenAI-compatible form.
pub(super) fn write_signature(json: &mut Writer, signature: &Escaped<'_>) {
    json.key("extra_content").object(|json| {
        json.key("google").object(|json| json.key("thought_signature").escaped(signature));
    });
}

fn write_arguments(json: &mut Writer, arguments: &Arguments<'_>) {
    match arguments {
        Arguments::Written(text) if text.text().trim().is_empty() => json.string("{}"),
        Arguments::Written(text) => json.escaped(text),
        Arguments::Object(object) => json.string(object.as_str()),
        Arguments::Free(input) => json.string(&wrapped_input(input)),
    }
}
