//! Writes an Anthropic Messages request.

use super::super::params::{Param, Params};
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Block, CacheMarker, ChatRequest, OutputFormat};
use super::super::target::{Target, Written};
use super::output_schema;
use super::write_thinking::Thinking;
use super::write_tools::{Choice, Tools};
use super::write_turns::Conversation;
use crate::json::{Escaped, Value, Writer};

/// The most `cache_control` of a request.
const MAX_CACHE_MARKERS: usize = 4;
/// The most characters of `metadata.user_id`.
const MAX_USER_ID: usize = 256;

/// The request for an upstream. What it has no words for is reported as dropped, or refused.
///
/// The conversation comes last, so that the request of the next turn begins with the bytes of this one's.
pub(in crate::translate) fn write_request(
    mut request: ChatRequest<'_>,
    target: Target<'_>,
    report: &mut Report,
) -> Result<Written, Refused> {
    check(&request)?;
    let words = request.words();
    if limit_cache_markers(&mut request) {
        report.dropped(words.cache);
    }
    let (turns, mut params) = (std::mem::take(&mut request.turns), std::mem::take(&mut request.params));
    let conversation = Conversation::of(turns, target.capabilities, words, report)?;
    let tools = Tools::of(&request, &conversation, &target, report);
    let choice = Choice::of(&request, &tools, &target, report)?;
    let mut thinking = Thinking::of(&request, &conversation, choice.is_forced(), &target, report);
    thinking.sample(&mut params, &target, report)?;

    let mut json = Writer::with_capacity(conversation.bytes() + 1_024);
    json.object(|json| {
        json.key("model").string(target.model);
        json.key("max_tokens").count(thinking.max_tokens());
        if request.stream {
            json.key("stream").bool(true);
        }
        thinking.write(json);
        write_output_config(json, &thinking, &request.output, tools.has_output_tool());
        if !request.stop.is_empty() {
            json.key("stop_sequences").array(|json| request.stop.iter().for_each(|stop| json.escaped(stop)));
        }
        write_params(json, &mut params);
        write_cache(json, request.cache);
        choice.write(json);
        tools.write(json, &target);
        conversation.write(json, &target);
    });
    params.drop_rest(report);
    Ok(Written { body: json.finish(), output_tool: tools.into_output_tool() })
}

/// What no Messages request can say.
fn check(request: &ChatRequest<'_>) -> Result<(), Refused> {
    let words = request.words();
    if request.choices > 1 {
        let reason = "is more than 1, and Anthropic gives one answer: send 1, or send the request several times";
        return Err(Refused::inexpressible(words.choices, reason));
    }
    if request.max_output_tokens == Some(0) {
        return Err(Refused::wrong_type(words.max_output_tokens, "1 or more"));
    }
    if request.stop.iter().any(|stop| stop.text().trim().is_empty()) {
        let reason = "has a sequence of white space alone, which Anthropic refuses: leave it out";
        return Err(Refused::inexpressible(words.stop, reason));
    }
    Ok(())
}

/// Takes off the cache markers that are more than Anthropic takes, the foremost first: what is cached up to a later one
/// holds what stands before it. True where there were some.
fn limit_cache_markers(request: &mut ChatRequest<'_>) -> bool {
    let mut markers: Vec<&mut Option<CacheMarker>> = request.tools.iter_mut().map(|tool| &mut tool.cache).collect();
    for block in request.turns.iter_mut().flat_map(|turn| &mut turn.blocks) {
        match block {
            Block::Text(text) => markers.push(&mut text.cache),
            Block::Media(media) => markers.push(&mut media.cache),
            Block::ToolCall(call) => markers.push(&mut call.cache),
            Block::ToolResult(result) => {
                markers.extend(result.content.iter_mut().filter_map(|inner| match inner {
                    Block::Text(text) => Some(&mut text.cache),
                    Block::Media(media) => Some(&mut media.cache),
                    _ => None,
                }));
                markers.push(&mut result.cache);
            }
            Block::Reasoning(_) | Block::Refusal(_) => {}
        }
    }
    markers.retain(|marker| marker.is_some());
    let most = MAX_CACHE_MARKERS - usize::from(request.cache.is_some());
    let excess = markers.len().saturating_sub(most);
    markers.into_iter().take(excess).for_each(|marker| *marker = None);
    excess > 0
}

fn write_output_config(json: &mut Writer, thinking: &Thinking, output: &OutputFormat<'_>, has_output_tool: bool) {
    let schema = match output {
        OutputFormat::JsonSchema { schema, .. } if !has_output_tool => Some(*schema),
        _ => None,
    };
    let effort = thinking.effort();
    if schema.is_none() && effort.is_none() {
        return;
    }
    json.key("output_config").object(|json| {
        if let Some(effort) = effort {
            json.key("effort").string(effort.word());
        }
        if let Some(schema) = schema {
            json.key("format").object(|json| {
                json.key("type").string("json_schema");
                output_schema::write(json.key("schema"), schema);
            });
        }
    });
}

/// Writes the parameters that Anthropic has besides those of sampling. Values that it refuses are left, to be reported.
fn write_params(json: &mut Writer, params: &mut Params<'_>) {
    let user = params.get(Param::User).and_then(Value::string);
    if let Some(user) = user.filter(|user| !user.is_empty() && user.text().chars().count() <= MAX_USER_ID) {
        params.take(Param::User);
        json.key("metadata").object(|json| json.key("user_id").escaped(&user));
    }
    let tier = params.get(Param::ServiceTier).and_then(Value::string);
    let tier = match tier.as_ref().map(Escaped::text).as_deref() {
        Some("auto") => "auto",
        Some("default" | "standard" | "standard_only") => "standard_only",
        _ => return,
    };
    params.take(Param::ServiceTier);
    json.key("service_tier").string(tier);
}

/// Writes the `cache_control` of whatever carries one.
pub(super) fn write_cache(json: &mut Writer, marker: Option<CacheMarker>) {
    let Some(marker) = marker else { return };
    json.key("cache_control").object(|json| {
        json.key("type").string("ephemeral");
        match marker {
            CacheMarker::Default => {}
            CacheMarker::FiveMinutes => json.key("ttl").string("5m"),
            CacheMarker::OneHour => json.key("ttl").string("1h"),
        }
    });
}
