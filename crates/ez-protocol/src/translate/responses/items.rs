//! The items of a Responses answer as JSON texts: the same for streams and for whole bodies.

use ez_contract::Protocol;

use super::super::event::Citation;
use super::super::opaque::Opaque;
use super::namespaces::Namespaces;
use crate::json::{Escaped, Writer};

/// How far an item has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ItemStatus {
    InProgress,
    Completed,
    Incomplete,
}

impl ItemStatus {
    const fn word(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
        }
    }
}

/// A JSON text that `fill` writes the members of.
pub(super) fn object(fill: impl FnOnce(&mut Writer)) -> String {
    let mut json = Writer::default();
    json.object(fill);
    json.finish()
}

/// A part of a message: words, or words that refuse.
pub(super) fn words(is_refusal: bool, text: &Escaped<'_>, citations: &[String]) -> String {
    object(|json| {
        if is_refusal {
            json.key("type").string("refusal");
            json.key("refusal").escaped(text);
            return;
        }
        json.key("type").string("output_text");
        json.key("annotations").array(|json| citations.iter().for_each(|citation| json.raw(citation)));
        json.key("logprobs").raw("[]");
        json.key("text").escaped(text);
    })
}

/// Where words are from.
pub(super) fn citation(citation: &Citation<'_>) -> String {
    let (start, end) = citation.range.unwrap_or_default();
    object(|json| {
        json.key("type").string("url_citation");
        json.key("start_index").count(start);
        json.key("end_index").count(end);
        json.key("url").escaped(&citation.url);
        json.key("title").escaped(citation.title.as_ref().unwrap_or(&Escaped::EMPTY));
    })
}

/// A message of the model's.
pub(super) fn message(id: &Escaped<'_>, status: ItemStatus, content: &[String]) -> String {
    object(|json| {
        json.key("id").escaped(id);
        json.key("type").string("message");
        json.key("status").string(status.word());
        json.key("content").array(|json| content.iter().for_each(|part| json.raw(part)));
        json.key("role").string("assistant");
    })
}

/// A part of a summary.
pub(super) fn summary(text: &Escaped<'_>) -> String {
    object(|json| {
        json.key("type").string("summary_text");
        json.key("text").escaped(text);
    })
}

/// Thoughts of the model, with the vendor's state that belongs to them.
pub(super) fn reasoning(id: &Escaped<'_>, text: &Escaped<'_>, state: Option<&Opaque<'_>>) -> String {
    object(|json| {
        json.key("id").escaped(id);
        json.key("type").string("reasoning");
        json.key("summary").array(|json| {
            if !text.is_empty() {
                json.raw(&summary(text));
            }
        });
        if let Some(state) = state {
            json.key("encrypted_content").escaped(&state.carried_by(Protocol::OpenaiResponses));
        }
    })
}

/// What stays the same of a call from its beginning on.
#[derive(Debug)]
pub(super) struct CallHead {
    pub(super) id: Escaped<'static>,
    pub(super) call_id: Escaped<'static>,
    pub(super) name: Escaped<'static>,
    pub(super) is_custom: bool,
}

impl CallHead {
    /// The prefix of the id of such an item.
    pub(super) const fn prefix(is_custom: bool) -> &'static str {
        if is_custom { "ctc_" } else { "fc_" }
    }

    /// The item.
    pub(super) fn item(&self, status: ItemStatus, input: &Escaped<'_>, namespaces: &Namespaces) -> String {
        object(|json| {
            json.key("id").escaped(&self.id);
            json.key("type").string(if self.is_custom { "custom_tool_call" } else { "function_call" });
            json.key("status").string(status.word());
            json.key(if self.is_custom { "input" } else { "arguments" }).escaped(input);
            json.key("call_id").escaped(&self.call_id);
            match namespaces.get(&self.name) {
                Some(spaced) => {
                    json.key("name").escaped(&spaced.name);
                    json.key("namespace").escaped(&spaced.namespace);
                }
                None => json.key("name").escaped(&self.name),
            }
        })
    }
}

/// An image that the model made; none while it is being made.
pub(super) fn image(id: &Escaped<'_>, status: ItemStatus, media_type: &str, data: Option<&Escaped<'_>>) -> String {
    object(|json| {
        json.key("id").escaped(id);
        json.key("type").string("image_generation_call");
        json.key("status").string(status.word());
        json.key("output_format").string(match media_type {
            "image/jpeg" => "jpeg",
            "image/webp" => "webp",
            "image/gif" => "gif",
            "image/svg+xml" => "svg",
            _ => "png",
        });
        match data {
            Some(data) => json.key("result").escaped(data),
            None => json.key("result").null(),
        }
    })
}
