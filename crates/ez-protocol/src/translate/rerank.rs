//! Reranking between the shapes that are common: that of Cohere and Jina, Voyage's, and that of Text Embeddings Inference.
//!
//! Source: facts/protocols.md, section 9.

use bytes::Bytes;
use serde::Deserialize;

use super::call::{Call, UnreadableAnswer};
use super::fields::{Fields, Path};
use super::refused::Refused;
use super::report::Report;
use crate::json::{Escaped, Kind, Value, Writer};

/// How reranking is asked for and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RerankStyle {
    /// `documents` and `top_n`, answered with `results` (Cohere, Jina, vLLM, SiliconFlow and others).
    Common,
    /// `documents` and `top_k`, answered with `data` (Voyage).
    Voyage,
    /// `texts`, answered with an array (Text Embeddings Inference).
    Tei,
}

impl RerankStyle {
    /// The style that a request is written in.
    pub fn of_request(body: Value<'_>) -> Self {
        if body.get("texts").is_some() {
            Self::Tei
        } else if body.get("top_k").is_some() && body.get("top_n").is_none() {
            Self::Voyage
        } else {
            Self::Common
        }
    }
}

/// Makes an upstream's ranks the client's.
#[derive(Debug)]
pub(super) struct RerankTranslator {
    client: RerankStyle,
    model: String,
    /// How many results the client asked for, where it did and the upstream cannot be told.
    keep: Option<usize>,
}

/// Translates a request to rerank.
pub(super) fn exchange(
    call: &Call<'_>,
    body: Value<'_>,
    report: &mut Report,
) -> Result<(String, RerankTranslator), Refused> {
    let client = RerankStyle::of_request(body);
    let upstream = call.capabilities.rerank.unwrap_or(client);
    let mut fields = Fields::of(body, Path::Root)?;
    fields.ignore(&["model"]);
    let query = fields.require_string("query")?;
    let documents_key = if client == RerankStyle::Tei { "texts" } else { "documents" };
    let documents = fields.array(documents_key)?.ok_or_else(|| Refused::missing(documents_key))?;
    let texts =
        documents.into_iter().map(|document| text_of(document, documents_key)).collect::<Result<Vec<_>, _>>()?;
    let top_key = if client == RerankStyle::Voyage { "top_k" } else { "top_n" };
    let top = fields.count(top_key)?;
    let returns_documents = match fields.bool("return_documents")? {
        Some(wanted) => Some(wanted),
        None => fields.bool("return_text")?,
    };
    fields.finish(report);
    let mut json = Writer::with_capacity(body.as_str().len() + 64);
    json.object(|json| {
        json.key("model").string(call.upstream_model);
        json.key("query").escaped(&query);
        json.key(if upstream == RerankStyle::Tei { "texts" } else { "documents" })
            .array(|json| texts.iter().for_each(|text| json.escaped(text)));
        if let (Some(top), Some(key)) = (top, top_key_of(upstream)) {
            json.key(key).count(top);
        }
        if let Some(wanted) = returns_documents {
            json.key(if upstream == RerankStyle::Tei { "return_text" } else { "return_documents" }).bool(wanted);
        }
    });
    let keep = top.filter(|_| top_key_of(upstream).is_none()).and_then(|top| usize::try_from(top).ok());
    Ok((json.finish(), RerankTranslator { client, model: call.model.to_owned(), keep }))
}

const fn top_key_of(style: RerankStyle) -> Option<&'static str> {
    match style {
        RerankStyle::Common => Some("top_n"),
        RerankStyle::Voyage => Some("top_k"),
        RerankStyle::Tei => None,
    }
}

/// The text of a document, which is a string or an object with one.
fn text_of<'a>(document: Value<'a>, key: &str) -> Result<Escaped<'a>, Refused> {
    let text = document.string().or_else(|| document.get("text")?.string());
    text.ok_or_else(|| Refused::wrong_type(key, "an array of strings, or of objects with `text`"))
}

/// One rank.
struct Rank<'a> {
    index: u64,
    score: Value<'a>,
    text: Option<Escaped<'a>>,
}

impl RerankTranslator {
    /// The ranks in the client's words.
    pub(super) fn plain(&self, body: &[u8]) -> Result<Bytes, UnreadableAnswer> {
        // Some servers answer with a bare array.
        let boxed = [b"{\"results\":", body, b"}"].concat();
        let answer = match Value::object_in(body) {
            Ok(answer) => answer,
            Err(_) => Value::object_in(&boxed).map_err(|_| UnreadableAnswer::Unknown)?,
        };
        let mut ranks = ranks(answer).ok_or(UnreadableAnswer::Unknown)?;
        if let Some(keep) = self.keep {
            ranks.truncate(keep);
        }
        Ok(self.write(&ranks, answer).into())
    }

    fn write(&self, ranks: &[Rank<'_>], answer: Value<'_>) -> String {
        let mut json = Writer::default();
        if self.client == RerankStyle::Tei {
            json.array(|json| ranks.iter().for_each(|rank| write_rank(rank, self.client, json)));
            return json.finish();
        }
        json.object(|json| {
            match self.client {
                RerankStyle::Voyage => json.key("object").string("list"),
                _ => {
                    if let Some(id) = answer.get("id").and_then(Value::string) {
                        json.key("id").escaped(&id);
                    }
                }
            }
            json.key(if self.client == RerankStyle::Voyage { "data" } else { "results" })
                .array(|json| ranks.iter().for_each(|rank| write_rank(rank, self.client, json)));
            json.key("model").string(&self.model);
            if let Some(usage) = answer.get("usage").filter(|usage| usage.kind() == Kind::Object) {
                json.key("usage").value(usage);
            }
            if let Some(meta) = answer.get("meta").filter(|meta| meta.kind() == Kind::Object) {
                json.key("meta").value(meta);
            }
        });
        json.finish()
    }
}

fn ranks(answer: Value<'_>) -> Option<Vec<Rank<'_>>> {
    let all = answer.get("results").or_else(|| answer.get("data"))?.elements()?;
    let mut ranks = Vec::with_capacity(all.len());
    for one in all {
        let index = one.get("index")?.count()?;
        let score = one.get("relevance_score").or_else(|| one.get("relevanceScore")).or_else(|| one.get("score"))?;
        score.number()?;
        let text = one.get("text").or_else(|| one.get("document"));
        let text = text.and_then(|text| text.string().or_else(|| text.get("text")?.string()));
        ranks.push(Rank { index, score, text });
    }
    Some(ranks)
}

fn write_rank(rank: &Rank<'_>, style: RerankStyle, json: &mut Writer) {
    json.object(|json| {
        json.key("index").count(rank.index);
        json.key(if style == RerankStyle::Tei { "score" } else { "relevance_score" }).value(rank.score);
        if let Some(text) = &rank.text {
            match style {
                RerankStyle::Common => json.key("document").object(|json| json.key("text").escaped(text)),
                RerankStyle::Voyage => json.key("document").escaped(text),
                RerankStyle::Tei => json.key("text").escaped(text),
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::call::request;
    use super::super::capability::Capabilities;
    use super::*;
    use crate::api::Api;

    fn exchanged(style: RerankStyle, body: &str, answer: &str) -> (String, Vec<String>, String) {
        let capabilities = Capabilities { rerank: Some(style), ..Capabilities::default() };
        let call = Call {
            client: Api::Rerank,
            upstream: Api::Rerank,
            model: "public",
            upstream_model: "up",
            capabilities: &capabilities,
            is_vertex: false,
            stream: false,
            is_array: false,
            seed: "s",
            created_at: 0,
        };
        let mut translated = request(call, body.as_bytes()).unwrap();
        let read = translated.answer.plain(answer.as_bytes()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&translated.body), translated.dropped, text(&read))
    }

    #[test]
    fn each_shape_is_asked_and_answered_in_each_other() {
        let common = r#"{"model":"public","query":"q","documents":["a",{"text":"b"}],"top_n":1,"return_documents":true,"rank_fields":["x"]}"#;
        let voyage = r#"{"model":"public","query":"q","documents":["a"],"top_k":1}"#;
        let tei = r#"{"query":"q","texts":["a"],"raw_scores":false,"return_text":true}"#;
        let cases = [
            (
                RerankStyle::Voyage,
                common,
                r#"{"object":"list","data":[{"index":1,"relevance_score":0.50,"document":"b"}],"usage":{"total_tokens":3}}"#,
                r#"{"model":"up","query":"q","documents":["a","b"],"top_k":1,"return_documents":true}"#,
                r#"{"results":[{"index":1,"relevance_score":0.50,"document":{"text":"b"}}],"model":"public","usage":{"total_tokens":3}}"#,
                vec!["rank_fields"],
            ),
            (
                RerankStyle::Tei,
                common,
                r#"[{"index":1,"score":0.9,"text":"b"},{"index":0,"score":0.1,"text":"a"}]"#,
                r#"{"model":"up","query":"q","texts":["a","b"],"return_text":true}"#,
                r#"{"results":[{"index":1,"relevance_score":0.9,"document":{"text":"b"}}],"model":"public"}"#,
                vec!["rank_fields"],
            ),
            (
                RerankStyle::Common,
                voyage,
                r#"{"id":"r","results":[{"index":0,"relevance_score":1}],"meta":{"billed_units":{"search_units":1}}}"#,
                r#"{"model":"up","query":"q","documents":["a"],"top_n":1}"#,
                r#"{"object":"list","data":[{"index":0,"relevance_score":1}],"model":"public","meta":{"billed_units":{"search_units":1}}}"#,
                vec![],
            ),
            (
                RerankStyle::Common,
                tei,
                r#"{"results":[{"index":0,"relevance_score":1,"document":{"text":"a"}}]}"#,
                r#"{"model":"up","query":"q","documents":["a"],"return_documents":true}"#,
                r#"[{"index":0,"score":1,"text":"a"}]"#,
                vec!["raw_scores"],
            ),
        ];
        for (style, body, answer, sent, read, dropped) in cases {
            let exchanged = exchanged(style, body, answer);
            assert_eq!(
                exchanged,
                (sent.to_owned(), dropped.iter().map(|s| (*s).to_owned()).collect(), read.to_owned())
            );
        }
    }

    #[test]
    fn what_ranks_nothing_is_no_answer() {
        let translator = RerankTranslator { client: RerankStyle::Common, model: "m".to_owned(), keep: None };
        for body in ["{}", "1", r#"{"results":[{"index":0}]}"#, r#"{"results":[{"index":0,"score":"1"}]}"#, "[1]"] {
            assert_eq!(translator.plain(body.as_bytes()), Err(UnreadableAnswer::Unknown), "{body}");
        }
    }
}
