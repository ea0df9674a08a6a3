//! Writes what whole answers and chunks have in common: the response around candidates, a candidate, its parts.

use ez_contract::Protocol;

use super::super::event::{Citation, FinishReason, Usage};
use super::super::opaque::Opaque;
use super::super::restore::wrapped_input;
use super::finish::reason_word;
use super::write_part::write_written;
use crate::json::{Escaped, Writer};

/// What calls' ids begin with where the vendor gave none.
pub(super) const CALL_PREFIX: &str = "call_";

/// What stands beside the candidates of a response.
pub(super) struct Response<'r> {
    pub(super) id: &'r Escaped<'r>,
    pub(super) model: &'r str,
    pub(super) usage: Option<&'r Usage>,
}

/// What stands beside the parts of a candidate that came to its end.
pub(super) struct Ending<'e> {
    pub(super) reason: FinishReason,
    pub(super) citations: &'e [Citation<'static>],
}

impl Response<'_> {
    /// Writes a response with the candidates that `candidates` writes.
    pub(super) fn write(&self, json: &mut Writer, candidates: impl FnOnce(&mut Writer)) {
        json.object(|json| {
            json.key("candidates").array(candidates);
            if let Some(usage) = self.usage {
                write_usage(json.key("usageMetadata"), usage);
            }
            json.key("modelVersion").string(self.model);
            json.key("responseId").escaped(self.id);
        });
    }
}

/// Writes a candidate with the parts that `parts` writes.
pub(super) fn write_candidate(
    json: &mut Writer,
    index: u32,
    ending: Option<&Ending<'_>>,
    parts: impl FnOnce(&mut Writer),
) {
    json.object(|json| {
        json.key("content").object(|json| {
            json.key("parts").array(parts);
            json.key("role").string("model");
        });
        if let Some(ending) = ending {
            json.key("finishReason").string(reason_word(ending.reason));
            write_citations(json, ending.citations);
        }
        json.key("index").count(u64::from(index));
    });
}

fn write_citations(json: &mut Writer, citations: &[Citation<'_>]) {
    if citations.is_empty() {
        return;
    }
    json.key("citationMetadata").object(|json| {
        json.key("citationSources").array(|json| {
            for citation in citations {
                json.object(|json| {
                    json.key("uri").escaped(&citation.url);
                    if let Some(title) = &citation.title {
                        json.key("title").escaped(title);
                    }
                });
            }
        });
    });
}

/// A call, whole as Gemini has them.
#[derive(Debug)]
pub(super) struct WholeCall<'c> {
    pub(super) id: Escaped<'c>,
    pub(super) name: Escaped<'c>,
    pub(super) is_custom: bool,
    pub(super) signature: Option<Opaque<'c>>,
    pub(super) arguments: Escaped<'c>,
}

impl WholeCall<'_> {
    /// Writes the part.
    pub(super) fn write(&self, json: &mut Writer) {
        json.object(|json| {
            json.key("functionCall").object(|json| {
                json.key("id").escaped(&self.id);
                json.key("name").escaped(&self.name);
                match self.is_custom {
                    true => json.key("args").raw(&wrapped_input(&self.arguments)),
                    false => write_written(json.key("args"), &self.arguments),
                }
            });
            write_signature(json, self.signature.as_ref());
        });
    }
}

/// Writes a part of words; thoughts are marked as such.
pub(super) fn write_words(json: &mut Writer, text: &Escaped<'_>, is_thought: bool, signature: Option<&Opaque<'_>>) {
    json.object(|json| {
        json.key("text").escaped(text);
        if is_thought {
            json.key("thought").bool(true);
        }
        write_signature(json, signature);
    });
}

fn write_signature(json: &mut Writer, signature: Option<&Opaque<'_>>) {
    if let Some(signature) = signature {
        json.key("thoughtSignature").escaped(&signature.carried_by(Protocol::Gemini));
    }
}

/// Writes usage in Gemini's counts: the prompt with what was cached, the candidates without thoughts.
fn write_usage(json: &mut Writer, usage: &Usage) {
    let counts = [
        ("promptTokenCount", usage.input_total()),
        ("cachedContentTokenCount", usage.cache_read),
        ("candidatesTokenCount", usage.output),
        ("thoughtsTokenCount", usage.reasoning),
        ("totalTokenCount", usage.total()),
    ];
    json.object(|json| {
        for (key, count) in counts {
            if let Some(count) = count {
                json.key(key).count(count);
            }
        }
    });
}
