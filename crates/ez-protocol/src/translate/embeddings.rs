//! Embeddings between OpenAI and Gemini: texts in, vectors out. What is made of tokens or of files stays with its vendor.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::call::{Call, UnreadableAnswer};
use super::fields::{Fields, Path};
use super::refused::Refused;
use super::report::Report;
use crate::api::Api;
use crate::estimate::BYTES_PER_TOKEN;
use crate::json::{Escaped, Kind, Value, Writer};
use crate::usage::GeminiUsage;

/// Makes an upstream's vectors the client's.
#[derive(Debug)]
pub(super) struct EmbeddingsTranslator {
    client: Api,
    model: String,
    /// Whether the client asked for vectors in base64 (OpenAI's SDKs do).
    is_base64: bool,
    /// How many vectors the client expects.
    count: usize,
    /// How long the texts are together, bytes: Gemini mostly tells no usage, and OpenAI's clients read one.
    text_bytes: u64,
}

/// What a client asks for.
struct EmbeddingsRequest<'a> {
    texts: Vec<Escaped<'a>>,
    dimensions: Option<u64>,
    is_base64: bool,
}

/// Translates a request for embeddings.
pub(super) fn exchange(
    call: &Call<'_>,
    body: Value<'_>,
    report: &mut Report,
) -> Result<(String, EmbeddingsTranslator), Refused> {
    let request = match call.client {
        Api::Embeddings => read_openai(body, report),
        Api::BatchEmbedContents => read_gemini_batch(body, report),
        _ => read_gemini(body, Path::Root, report),
    }?;
    let written = match call.upstream {
        Api::Embeddings => write_openai(&request, call.upstream_model),
        Api::BatchEmbedContents => write_gemini_batch(&request, call.upstream_model),
        _ => match &request.texts[..] {
            [text] => write_gemini(text, request.dimensions, call.upstream_model),
            _ => {
                return Err(Refused::inexpressible(
                    "input",
                    "has several texts, and the upstream embeds one at a time: send one",
                ));
            }
        },
    };
    let answer = EmbeddingsTranslator {
        client: call.client,
        model: call.model.to_owned(),
        is_base64: request.is_base64,
        count: request.texts.len(),
        text_bytes: request.texts.iter().map(|text| text.as_str().len() as u64).sum(),
    };
    Ok((written, answer))
}

fn read_openai<'a>(body: Value<'a>, report: &mut Report) -> Result<EmbeddingsRequest<'a>, Refused> {
    let mut fields = Fields::of(body, Path::Root)?;
    fields.ignore(&["model"]);
    let input = fields.require("input")?;
    let of_tokens =
        || Refused::inexpressible("input", "holds tokens, which the upstream's model does not know: send the text");
    let text = |value: Value<'a>| match value.kind() {
        Kind::String => value.string().ok_or_else(of_tokens),
        Kind::Number | Kind::Array => Err(of_tokens()),
        _ => Err(Refused::wrong_type("input", "a string or an array of strings")),
    };
    let texts = match input.elements() {
        Some(elements) => elements.into_iter().map(text).collect::<Result<Vec<_>, _>>()?,
        None => vec![text(input)?],
    };
    if texts.is_empty() {
        return Err(Refused::wrong_type("input", "a string or an array of at least one"));
    }
    let is_base64 = match fields.string("encoding_format")? {
        None => false,
        Some(format) if format.is("float") => false,
        Some(format) if format.is("base64") => true,
        Some(_) => return Err(fields.wrong("encoding_format", "`float` or `base64`")),
    };
    let dimensions = fields.count("dimensions")?;
    fields.finish(report);
    Ok(EmbeddingsRequest { texts, dimensions, is_base64 })
}

fn read_gemini_batch<'a>(body: Value<'a>, report: &mut Report) -> Result<EmbeddingsRequest<'a>, Refused> {
    let mut fields = Fields::of_proto(body, Path::Root)?;
    let requests = fields.array("requests")?.ok_or_else(|| Refused::missing("requests"))?;
    fields.finish(report);
    let path = Path::Key(&Path::Root, "requests");
    let mut all: Option<EmbeddingsRequest<'a>> = None;
    for (at, request) in requests.into_iter().enumerate() {
        let mut one = read_gemini(request, Path::Index(&path, at), report)?;
        match &mut all {
            None => all = Some(one),
            Some(all) if all.dimensions == one.dimensions => all.texts.append(&mut one.texts),
            Some(_) => {
                let reason = "must be the same in all requests, as the upstream takes one for all";
                return Err(Refused::inexpressible("requests.outputDimensionality", reason));
            }
        }
    }
    all.ok_or_else(|| Refused::wrong_type("requests", "an array of at least one"))
}

fn read_gemini<'a>(body: Value<'a>, path: Path<'_>, report: &mut Report) -> Result<EmbeddingsRequest<'a>, Refused> {
    let mut fields = Fields::of_proto(body, path)?;
    fields.ignore(&["model"]);
    let content = fields.require("content")?;
    let content_path = Path::Key(&path, "content");
    let mut content = Fields::of(content, content_path)?;
    content.ignore(&["role"]);
    let parts = content.array("parts")?.unwrap_or_default();
    content.finish(report);
    let parts_path = Path::Key(&content_path, "parts");
    let mut text: Option<Escaped<'a>> = None;
    for (at, part) in parts.into_iter().enumerate() {
        let mut part = Fields::of(part, Path::Index(&parts_path, at))?;
        let more = part.string("text")?.ok_or_else(|| {
            Refused::inexpressible(part.path().exact(), "is no text, and the upstream embeds texts alone: send text")
        })?;
        part.finish(report);
        match &mut text {
            None => text = Some(more),
            Some(text) => text.push(&more),
        }
    }
    let text = text.ok_or_else(|| Refused::missing(parts_path.exact()))?;
    let dimensions = match fields.take("outputDimensionality") {
        None => None,
        Some(value) => Some(value.count().ok_or_else(|| fields.wrong("outputDimensionality", "a whole number"))?),
    };
    fields.finish(report);
    Ok(EmbeddingsRequest { texts: vec![text], dimensions, is_base64: false })
}

fn write_openai(request: &EmbeddingsRequest<'_>, model: &str) -> String {
    let mut json = Writer::default();
    json.object(|json| {
        json.key("model").string(model);
        json.key("input").array(|json| request.texts.iter().for_each(|text| json.escaped(text)));
        if let Some(dimensions) = request.dimensions {
            json.key("dimensions").count(dimensions);
        }
        json.key("encoding_format").string("float");
    });
    json.finish()
}

fn write_gemini_batch(request: &EmbeddingsRequest<'_>, model: &str) -> String {
    let mut json = Writer::default();
    json.object(|json| {
        json.key("requests").array(|json| {
            for text in &request.texts {
                json.raw(&write_gemini(text, request.dimensions, model));
            }
        });
    });
    json.finish()
}

fn write_gemini(text: &Escaped<'_>, dimensions: Option<u64>, model: &str) -> String {
    let mut json = Writer::default();
    let resource = if model.contains('/') { model.to_owned() } else { format!("models/{model}") };
    json.object(|json| {
        json.key("model").string(&resource);
        json.key("content").object(|json| {
            json.key("parts").array(|json| json.object(|json| json.key("text").escaped(text)));
        });
        if let Some(dimensions) = dimensions {
            json.key("outputDimensionality").count(dimensions);
        }
    });
    json.finish()
}

impl EmbeddingsTranslator {
    /// The vectors in the client's words.
    pub(super) fn plain(&self, body: &[u8]) -> Result<Bytes, UnreadableAnswer> {
        let answer = Value::object_in(body).map_err(|_| UnreadableAnswer::Unknown)?;
        let vectors = vectors(answer).filter(|vectors| vectors.len() == self.count).ok_or(UnreadableAnswer::Unknown)?;
        let written = match self.client {
            Api::Embeddings => self.write_openai(&vectors, answer)?,
            Api::BatchEmbedContents => write_values("embeddings", |json| {
                json.array(|json| vectors.iter().for_each(|vector| write_vector(*vector, json)));
            }),
            _ => {
                let vector = *vectors.first().ok_or(UnreadableAnswer::Unknown)?;
                write_values("embedding", |json| write_vector(vector, json))
            }
        };
        Ok(written.into())
    }

    fn write_openai(&self, vectors: &[Value<'_>], answer: Value<'_>) -> Result<String, UnreadableAnswer> {
        let encoded = if self.is_base64 {
            let encoded: Option<Vec<_>> = vectors.iter().map(|vector| base64_of(*vector)).collect();
            encoded.ok_or(UnreadableAnswer::Unknown)?
        } else {
            Vec::new()
        };
        let usage =
            answer.get("usageMetadata").and_then(|usage| serde_json::from_str::<GeminiUsage>(usage.as_str()).ok());
        let told = usage.and_then(|usage| usage.into_input_only()?.input_tokens);
        let tokens = told.unwrap_or_else(|| self.text_bytes.div_ceil(BYTES_PER_TOKEN));
        let mut json = Writer::default();
        json.object(|json| {
            json.key("object").string("list");
            json.key("data").array(|json| {
                for (index, vector) in vectors.iter().enumerate() {
                    json.object(|json| {
                        json.key("object").string("embedding");
                        json.key("index").count(index as u64);
                        match encoded.get(index) {
                            Some(encoded) => json.key("embedding").string(encoded),
                            None => json.key("embedding").value(*vector),
                        }
                    });
                }
            });
            json.key("model").string(&self.model);
            json.key("usage").object(|json| {
                json.key("prompt_tokens").count(tokens);
                json.key("total_tokens").count(tokens);
            });
        });
        Ok(json.finish())
    }
}

fn write_values(key: &str, fill: impl FnOnce(&mut Writer)) -> String {
    let mut json = Writer::default();
    json.object(|json| fill(json.key(key)));
    json.finish()
}

fn write_vector(vector: Value<'_>, json: &mut Writer) {
    json.object(|json| json.key("values").value(vector));
}

/// The vectors of an answer, as arrays of numbers, in the order of what was asked.
fn vectors(answer: Value<'_>) -> Option<Vec<Value<'_>>> {
    let array = |value: Value<'_>| value.kind() == Kind::Array;
    if let Some(data) = answer.get("data") {
        let mut indexed = Vec::new();
        for (at, one) in data.elements()?.into_iter().enumerate() {
            let index = one.get("index").map_or(Some(at as u64), Value::count)?;
            indexed.push((index, one.get("embedding").filter(|vector| array(*vector))?));
        }
        indexed.sort_by_key(|(index, _)| *index);
        return Some(indexed.into_iter().map(|(_, vector)| vector).collect());
    }
    if let Some(all) = answer.get("embeddings") {
        let all = all.elements()?;
        let mut found = Vec::with_capacity(all.len());
        for one in all {
            found.push(one.get("values").filter(|vector| array(*vector))?);
        }
        return Some(found);
    }
    let one = answer.get("embedding")?;
    let vector = one.get("values").filter(|vector| array(*vector))?;
    Some(vec![vector])
}

/// A vector as OpenAI's SDKs ask for it: 32-bit floats, least byte first, in base64.
fn base64_of(vector: Value<'_>) -> Option<String> {
    let numbers = vector.elements()?;
    let mut bytes = Vec::with_capacity(numbers.len() * 4);
    for number in numbers {
        bytes.extend_from_slice(&(number.number()? as f32).to_le_bytes());
    }
    Some(STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::call::{Call, request};
    use super::super::capability::Capabilities;
    use super::*;

    fn call(client: Api, upstream: Api) -> Call<'static> {
        Call {
            client,
            upstream,
            model: "public",
            upstream_model: "up-1",
            capabilities: Capabilities::of(upstream.protocol(), "up-1"),
            is_vertex: false,
            stream: false,
            is_array: false,
            seed: "s",
            created_at: 0,
        }
    }

    /// The body that is sent, what is dropped, and what the client reads of the answer.
    fn exchanged(client: Api, upstream: Api, body: &str, answer: &str) -> (String, Vec<String>, String) {
        let mut translated = request(call(client, upstream), body.as_bytes()).unwrap();
        let read = translated.answer.plain(answer.as_bytes()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&translated.body), translated.dropped, text(&read))
    }

    #[test]
    fn openai_asks_gemini() {
        let (sent, dropped, read) = exchanged(
            Api::Embeddings,
            Api::BatchEmbedContents,
            r#"{"model":"public","input":["a\u00e9","b"],"dimensions":2,"user":"u"}"#,
            r#"{"embeddings":[{"values":[1.50,-2e-1]},{"values":[3,4]}]}"#,
        );
        let one = |text: &str| {
            format!(r#"{{"model":"models/up-1","content":{{"parts":[{{"text":"{text}"}}]}},"outputDimensionality":2}}"#)
        };
        assert_eq!(sent, format!(r#"{{"requests":[{},{}]}}"#, one("a\\u00e9"), one("b")));
        assert_eq!(dropped, ["user"]);
        let expected = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1.50,-2e-1]},{"object":"embedding","index":1,"embedding":[3,4]}],"model":"public","usage":{"prompt_tokens":2,"total_tokens":2}}"#;
        assert_eq!(read, expected);
        let (sent, _, read) = exchanged(
            Api::Embeddings,
            Api::EmbedContent,
            r#"{"model":"public","input":"a","encoding_format":"base64"}"#,
            r#"{"embedding":{"values":[1.0,-2.0]},"usageMetadata":{"promptTokenCount":9}}"#,
        );
        assert_eq!(sent, r#"{"model":"models/up-1","content":{"parts":[{"text":"a"}]}}"#);
        assert!(read.contains(r#""embedding":"AACAPwAAAMA=""#) && read.contains(r#""prompt_tokens":9"#), "{read}");
    }

    #[test]
    fn gemini_asks_openai() {
        let (sent, dropped, read) = exchanged(
            Api::EmbedContent,
            Api::Embeddings,
            r#"{"content":{"parts":[{"text":"a"},{"text":"b"}]},"taskType":"RETRIEVAL_QUERY","output_dimensionality":3}"#,
            r#"{"object":"list","data":[{"index":0,"embedding":[1,2,3]}],"usage":{"prompt_tokens":1}}"#,
        );
        assert_eq!(sent, r#"{"model":"up-1","input":["ab"],"dimensions":3,"encoding_format":"float"}"#);
        assert_eq!((dropped, read.as_str()), (vec!["taskType".to_owned()], r#"{"embedding":{"values":[1,2,3]}}"#));
        let (_, _, read) = exchanged(
            Api::BatchEmbedContents,
            Api::Embeddings,
            r#"{"requests":[{"content":{"parts":[{"text":"a"}]}},{"content":{"parts":[{"text":"b"}]}}]}"#,
            r#"{"data":[{"index":1,"embedding":[2]},{"index":0,"embedding":[1]}]}"#,
        );
        assert_eq!(read, r#"{"embeddings":[{"values":[1]},{"values":[2]}]}"#);
    }

    #[test]
    fn what_the_other_vendor_cannot_embed_is_refused() {
        let cases = [
            (Api::Embeddings, Api::BatchEmbedContents, r#"{"input":[1,2]}"#, "input"),
            (Api::Embeddings, Api::BatchEmbedContents, r#"{"input":[[1],[2]]}"#, "input"),
            (Api::Embeddings, Api::BatchEmbedContents, r#"{"input":[]}"#, "input"),
            (Api::Embeddings, Api::EmbedContent, r#"{"input":["a","b"]}"#, "input"),
            (Api::Embeddings, Api::BatchEmbedContents, r#"{"input":"a","encoding_format":"hex"}"#, "encoding_format"),
            (Api::EmbedContent, Api::Embeddings, r#"{"content":{"parts":[{"inlineData":{}}]}}"#, "content.parts[0]"),
            (Api::BatchEmbedContents, Api::Embeddings, r#"{"requests":[]}"#, "requests"),
            (
                Api::BatchEmbedContents,
                Api::Embeddings,
                r#"{"requests":[{"content":{"parts":[{"text":"a"}]}},{"content":{"parts":[{"text":"b"}]},"outputDimensionality":1}]}"#,
                "requests.outputDimensionality",
            ),
        ];
        for (client, upstream, body, param) in cases {
            let refused = request(call(client, upstream), body.as_bytes()).expect_err(body);
            assert_eq!(refused.param, param, "{body}: {refused}");
        }
    }

    #[test]
    fn an_answer_with_another_number_of_vectors_is_none() {
        let mut translated =
            request(call(Api::Embeddings, Api::BatchEmbedContents), br#"{"input":["a","b"]}"#).unwrap();
        for answer in ["{}", r#"{"embeddings":[{"values":[1]}]}"#, r#"{"embeddings":[{},{}]}"#] {
            assert_eq!(translated.answer.plain(answer.as_bytes()), Err(UnreadableAnswer::Unknown), "{answer}");
        }
    }
}
