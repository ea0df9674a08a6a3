//! Reads the parts of a Gemini content.

use ez_contract::Protocol;

use super::super::fields::{Fields, Path};
use super::super::media;
use super::super::opaque::{Opaque, OpaqueKind};
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{
    Arguments, Block, Media, MediaKind, MediaSource, Reasoning, Role, Text, ToolCall, ToolResult, Turn,
};
use super::file_types::type_of_url;
use super::{NO_SIGNATURE, standard_base64};
use crate::json::{Escaped, Value};

/// Adds what a part says to its turn.
pub(super) fn read_part<'a>(
    part: Value<'a>,
    path: Path<'_>,
    turn: &mut Turn<'a>,
    report: &mut Report,
) -> Result<(), Refused> {
    let mut fields = Fields::of_proto(part, path)?;
    let is_thought = fields.bool("thought")?.unwrap_or(false);
    let signature = fields.string("thoughtSignature")?.and_then(read_signature);
    let is_model = turn.role == Role::Assistant;
    if let Some(call) = fields.take("functionCall") {
        require_role(&fields, "functionCall", is_model, "model")?;
        turn.blocks.push(read_call(call, Path::Key(&path, "functionCall"), signature, report)?);
    } else if let Some(response) = fields.take("functionResponse") {
        require_role(&fields, "functionResponse", !is_model, "user")?;
        turn.blocks.push(read_result(response, Path::Key(&path, "functionResponse"), report)?);
    } else if let Some(media) = read_media(&mut fields, &path, report)? {
        turn.blocks.push(Block::Media(media));
        sign(&mut turn.blocks, signature);
    } else if let Some(text) = fields.string("text")? {
        match (is_model, is_thought) {
            (true, true) => think(&mut turn.blocks, text, signature),
            (true, false) => {
                say(&mut turn.blocks, text);
                sign(&mut turn.blocks, signature);
            }
            (false, true) => require_role(&fields, "thought", false, "model")?,
            (false, false) => turn.blocks.push(Block::Text(Text::plain(text))),
        }
    } else if let Some(kind) = ["executableCode", "codeExecutionResult", "toolCall", "toolResponse"]
        .into_iter()
        .find(|kind| fields.take(kind).is_some())
    {
        let reason = "belongs to a tool that only Google runs: leave it out, or send it as text";
        return Err(Refused::inexpressible(fields.place(kind), reason));
    } else if is_model {
        sign(&mut turn.blocks, signature);
    }
    fields.finish(report);
    Ok(())
}

fn require_role(fields: &Fields<'_, '_>, key: &str, is_there: bool, role: &str) -> Result<(), Refused> {
    if is_there {
        return Ok(());
    }
    let place = fields.place(key);
    let message = format!("`{place}` must stand in a content of the role `{role}`");
    Err(Refused::invalid(place, message))
}

/// The state that goes with a part; the words that stand in for one are none.
fn read_signature(value: Escaped<'_>) -> Option<Opaque<'_>> {
    if value.is_empty() || NO_SIGNATURE.iter().any(|word| value.is(word)) {
        return None;
    }
    Some(Opaque::read(Protocol::Gemini, OpaqueKind::Signature, standard_base64(value)))
}

/// More of what the model said: streams cut it into pieces.
fn say<'a>(blocks: &mut Vec<Block<'a>>, text: Escaped<'a>) {
    match blocks.last_mut() {
        Some(Block::Text(said)) => said.text.push(&text),
        _ if text.is_empty() => {}
        _ => blocks.push(Block::Text(Text::plain(text))),
    }
}

/// More of what the model thought, up to the signature of it.
fn think<'a>(blocks: &mut Vec<Block<'a>>, text: Escaped<'a>, signature: Option<Opaque<'a>>) {
    match blocks.last_mut() {
        Some(Block::Reasoning(Reasoning { text: thought, signature: open @ None })) => {
            thought.push(&text);
            *open = signature;
        }
        _ if text.is_empty() && signature.is_none() => {}
        _ => blocks.push(Block::Reasoning(Reasoning { text, signature })),
    }
}

/// A signature of what is no thought stands behind it, by itself.
fn sign<'a>(blocks: &mut Vec<Block<'a>>, signature: Option<Opaque<'a>>) {
    if signature.is_some() {
        blocks.push(Block::Reasoning(Reasoning { text: Escaped::EMPTY, signature }));
    }
}

fn read_call<'a>(
    call: Value<'a>,
    path: Path<'_>,
    signature: Option<Opaque<'a>>,
    report: &mut Report,
) -> Result<Block<'a>, Refused> {
    let mut fields = Fields::of_proto(call, path)?;
    let id = fields.string("id")?.unwrap_or(Escaped::EMPTY);
    let name = fields.require_string("name")?;
    let arguments = Arguments::Object(fields.object("args")?.unwrap_or(Value::EMPTY_OBJECT));
    fields.finish(report);
    Ok(Block::ToolCall(ToolCall { id, name, arguments, signature, cache: None }))
}

fn read_result<'a>(response: Value<'a>, path: Path<'_>, report: &mut Report) -> Result<Block<'a>, Refused> {
    let mut fields = Fields::of_proto(response, path)?;
    let id = fields.string("id")?.unwrap_or(Escaped::EMPTY);
    let name = fields.require_string("name")?;
    let response = fields.object("response")?.ok_or_else(|| Refused::missing(fields.place("response")))?;
    let (text, is_error) = read_response(response);
    let mut content = vec![Block::Text(Text::plain(text))];
    let list = Path::Key(&path, "parts");
    for (at, part) in fields.array("parts")?.unwrap_or_default().into_iter().enumerate() {
        let path = Path::Index(&list, at);
        let mut fields = Fields::of_proto(part, path)?;
        match read_media(&mut fields, &path, report)? {
            Some(media) => content.push(Block::Media(media)),
            None => return Err(Refused::wrong_type(path.exact(), "a part with `inlineData` or `fileData`")),
        }
        fields.finish(report);
    }
    fields.finish(report);
    Ok(Block::ToolResult(ToolResult { id, name: Some(name), content, is_error, is_custom: false, cache: None }))
}

/// The text of a response, and whether it is an error: the value of the one key that stands for it, else all of it.
fn read_response(response: Value<'_>) -> (Escaped<'_>, Option<bool>) {
    let members = response.members().unwrap_or_default();
    if let [(key, value)] = members.as_slice()
        && let Some(text) = value.string()
        && ["output", "result", "error"].iter().any(|known| key.is(known))
    {
        return (text, key.is("error").then_some(true));
    }
    (Escaped::of(response.as_str()), None)
}

fn read_media<'a>(
    fields: &mut Fields<'a, '_>,
    path: &Path<'_>,
    report: &mut Report,
) -> Result<Option<Media<'a>>, Refused> {
    if let Some(inline) = fields.take("inlineData") {
        return read_inline(inline, Path::Key(path, "inlineData"), report).map(Some);
    }
    match fields.take("fileData") {
        Some(file) => read_file(file, Path::Key(path, "fileData"), report).map(Some),
        None => Ok(None),
    }
}

fn read_inline<'a>(inline: Value<'a>, path: Path<'_>, report: &mut Report) -> Result<Media<'a>, Refused> {
    let mut fields = Fields::of_proto(inline, path)?;
    let media_type = fields.require_string("mimeType")?;
    let data = fields.require_string("data")?;
    let name = fields.string("displayName")?;
    fields.finish(report);
    let kind = media::kind_of(&media_type.text()).unwrap_or(MediaKind::Document);
    Ok(Media { kind, source: media::of_base64(kind, Some(&media_type.text()), data), name, detail: None, cache: None })
}

fn read_file<'a>(file: Value<'a>, path: Path<'_>, report: &mut Report) -> Result<Media<'a>, Refused> {
    let mut fields = Fields::of_proto(file, path)?;
    let url = fields.require_string("fileUri")?;
    let media_type = fields.string("mimeType")?.filter(|media_type| !media_type.is_empty());
    let name = fields.string("displayName")?;
    fields.finish(report);
    let address = url.text();
    let is_public = address.starts_with("https://") || address.starts_with("http://");
    if !is_public || address.contains("://generativelanguage.googleapis.com/") {
        let reason = "is a file that Google keeps, and the upstream of this model cannot fetch it: send the content in \
                      `inlineData`, or a public https URL";
        return Err(Refused::inexpressible(Path::Key(&path, "fileUri").exact(), reason));
    }
    let told = media_type.as_ref().map(|media_type| media_type.text());
    let kind = media::kind_of(told.as_deref().or_else(|| type_of_url(&address)).unwrap_or_default());
    let kind = kind.unwrap_or(if is_film(&address) { MediaKind::Video } else { MediaKind::Document });
    drop((told, address));
    Ok(Media { kind, source: MediaSource::Url { url, media_type }, name, detail: None, cache: None })
}

/// Gemini watches what stands at YouTube.
fn is_film(address: &str) -> bool {
    ["://www.youtube.com/", "://youtube.com/", "://youtu.be/"].iter().any(|host| address.contains(host))
}
