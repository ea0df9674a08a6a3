"""Drives models of other protocols with the official `anthropic` package. See `told.py`."""

import base64
import json

import anthropic
from told import *

CLIENT = anthropic.Anthropic(base_url=BASE_URL, api_key=API_KEY, max_retries=0, timeout=30)
NAME = "mcp__weather-server__" + "x" * 50 + "get_weather"  # Longer than OpenAI and Gemini take.
TOOLS = [{"name": NAME, "description": "The weather.", "input_schema": SCHEMA}]
THINKING = {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}}


def user(content):
    return [{"role": "user", "content": content}]


SAID = {"system": INSTRUCTION, "messages": user(ASK)}


def create(model, **how):
    return CLIENT.messages.create(model=model, **{"max_tokens": 5_000, **how})


def check_usage(upstream, usage, reasons=False):
    cache_written = written(upstream)
    same((usage.input_tokens, usage.cache_read_input_tokens), (INPUT - CACHED - cache_written, CACHED))
    same((usage.cache_creation_input_tokens or 0, usage.output_tokens), (cache_written, OUTPUT))
    details = usage.output_tokens_details
    same((details and details.thinking_tokens) or 0, reasoned(upstream, reasons))


def texts(message):
    return "".join(block.text for block in message.content if block.type == "text")


def checked(events):
    """A stream put together as its rules are."""
    events, blocks, message = list(events), [], None
    same((events[0].type, events[-2].type, events[-1].type), ("message_start", "message_delta", "message_stop"))
    opened = None
    for event in events[1:-2]:
        if event.type == "content_block_start":
            same((opened, event.index), (None, len(blocks)))
            opened = event.index
            blocks.append({**event.content_block.to_dict(), "deltas": ""})
        elif event.type == "content_block_delta":
            same(event.index, opened)
            delta = event.delta
            if delta.type == "signature_delta":
                blocks[-1]["signature"] = delta.signature
            else:
                field = {"text_delta": "text", "thinking_delta": "thinking"}.get(delta.type, "partial_json")
                blocks[-1]["deltas"] += getattr(delta, field)
        elif event.type == "content_block_stop":
            same(event.index, opened)
            opened = None
    same(opened, None)
    for block in blocks:
        deltas = block.pop("deltas")
        if block["type"] == "tool_use":
            block["input"] = json.loads(deltas or "{}")
        else:
            block[block["type"]] = deltas
    message = events[0].message.to_dict()
    end = events[-2].delta
    message.update(content=blocks, stop_reason=end.stop_reason, stop_sequence=end.stop_sequence)
    message["usage"] = {**message["usage"], **{k: v for k, v in events[-2].usage.to_dict().items() if v is not None}}
    return anthropic.types.Message.model_validate(message)


def plain(upstream, model):
    how = {
        "metadata": {"user_id": "u-1"}, "extra_body": {"nobody_knows": [1], "top_k": 5},
        "system": [{"type": "text", "text": INSTRUCTION, "cache_control": {"type": "ephemeral"}}],
    }
    raw = CLIENT.messages.with_raw_response.create(model=model, max_tokens=5_000, messages=user(ASK), **how)
    expected = {
        "chat": ["cache_control", "nobody_knows", "top_k"],
        "responses": ["cache_control", "nobody_knows", "top_k"],
        "gemini": ["cache_control", "metadata.user_id", "nobody_knows"],
    }
    same(dropped(raw.headers), upstream.chosen(expected, {"chat": ["cache_control", "nobody_knows"]}))
    answer = raw.parse()
    same((answer.model, answer.type, answer.role, answer.stop_reason), (model, "message", "assistant", "end_turn"))
    same((texts(answer), answer.content[0].type), (ANSWER, "text"))
    check_usage(upstream, answer.usage)


def streaming(upstream, model):
    answer = checked(create(model, stream=True, **SAID))
    same((texts(answer), answer.model, answer.stop_reason), (ANSWER, model, "end_turn"))
    check_usage(upstream, answer.usage)


def stream_helper(upstream, model):
    with CLIENT.messages.stream(model=model, max_tokens=5_000, tools=TOOLS, **SAID) as stream:
        answer = stream.get_final_message()
    same([block.input for block in answer.content if block.type == "tool_use"], ARGUMENTS)


def loop(upstream, model, stream, **how):
    """Two calls, and the answer to their results: the other way round, one of them an error, with a text behind."""
    answer = create(model, messages=user(ASK), tools=TOOLS, stream=stream, **how)
    answer = checked(answer) if stream else answer
    same(answer.stop_reason, "tool_use")
    calls = [block for block in answer.content if block.type == "tool_use"]
    same([(call.name, call.input) for call in calls], [(NAME, arguments) for arguments in ARGUMENTS])
    assert calls[0].id != calls[1].id and calls[0].id, calls
    results = [{"type": "tool_result", "tool_use_id": calls[1].id, "content": RESULTS[1], "is_error": True}]
    results += [{"type": "tool_result", "tool_use_id": calls[0].id, "content": [{"type": "text", "text": RESULTS[0]}]}]
    results += [{"type": "text", "text": "Go on."}]
    content = [block.to_dict() for block in answer.content]
    messages = [*user(ASK), {"role": "assistant", "content": content}, *user(results)]
    return answer, create(model, messages=messages, tools=TOOLS, **how)


def failed(upstream):
    """The results, the second as a vendor is told that it is an error."""
    mark = "[failed] " if upstream in ("messages", "gemini") else "Error: "
    return [RESULTS[0], mark + RESULTS[1]]


def tools(upstream, model):
    for stream in (False, True):
        _, answer = loop(upstream, model, stream)
        same(texts(answer), quoted(failed(upstream), remembers=upstream.remembers()))
        same(answer.stop_reason, "end_turn")


def tool_choice(upstream, model):
    other = {"name": "other", "input_schema": SCHEMA}
    how = {"tools": [*TOOLS, other], "tool_choice": {"type": "tool", "name": "other"}}
    if upstream != "gemini":
        how["tool_choice"]["disable_parallel_tool_use"] = True
    calls = [block for block in create(model, **how, **SAID).content if block.type == "tool_use"]
    same([call.name for call in calls], ["other"] * (2 if upstream == "gemini" else 1))
    same(texts(create(model, tools=TOOLS, tool_choice={"type": "none"}, **SAID)), ANSWER)


def image(upstream, model):
    inline = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
    for source, seen in ((inline, PNG_SEEN), ({"type": "url", "url": PNG_URL}, f"I see {PNG_URL}.")):
        content = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
        same(texts(create(model, messages=user(content))), seen)


def structured(upstream, model):
    how = {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
    same(json.loads(texts(create(model, **how, **SAID))), FILLED)
    same(json.loads(texts(checked(create(model, stream=True, **how, **SAID)))), FILLED)


def reasoning(upstream, model):
    for stream in (False, True):
        answer = create(model, stream=stream, **THINKING, **SAID)
        answer = checked(answer) if stream else answer
        same(texts(answer), ANSWER)
        check_usage(upstream, answer.usage, reasons=True)
        if upstream.shows_thoughts():
            first = answer.content[0]
            same((first.type, first.thinking), ("thinking", THOUGHTS))
    budget = {"thinking": {"type": "enabled", "budget_tokens": 2_000}}
    if upstream != "messages":
        check_usage(upstream, create(model, **budget, **SAID).usage, reasons=True)


def reasoned_tools(upstream, model):
    for stream in (False, True):
        answer, following = loop(upstream, model, stream, **THINKING)
        same(texts(following), quoted(failed(upstream), remembers=upstream.remembers(True)))


def length(upstream, model):
    for stream in (False, True):
        answer = create(model, messages=user(LONG), max_tokens=CUT_AFTER, stream=stream)
        answer = checked(answer) if stream else answer
        same((texts(answer), answer.stop_reason), (CUT, "max_tokens"))


def stop(upstream, model):
    call = lambda: create(model, messages=user("one two STOP three"), stop_sequences=[" STOP"])
    if upstream == "responses":
        return refused(anthropic.BadRequestError, call, "stop_sequences")
    answer = call()
    same(texts(answer), f'you say "{STOPPED}')
    assert answer.stop_reason in ("end_turn", "stop_sequence"), answer


def refused(kind, call, words):
    try:
        call()
    except kind as error:
        assert type(error) is kind and error.request_id and error.body["type"] == "error", error
        assert words in str(error), error
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def refusals(upstream, model):
    prefill = [*user(ASK), {"role": "assistant", "content": "It"}]
    if upstream in ("chat", "responses"):
        refused(anthropic.BadRequestError, lambda: create(model, messages=prefill), "messages")
    search = [{"type": "web_search_20250305", "name": "web_search"}]
    if upstream != "messages":
        refused(anthropic.BadRequestError, lambda: create(model, tools=search, **SAID), "tools")
    called = {"role": "assistant", "content": [{"type": "tool_use", "id": "t_1", "name": NAME, "input": {}}]}
    unanswered = [*user(ASK), called, *user(ASK)]
    refused(anthropic.BadRequestError, lambda: create(model, messages=unanswered, tools=TOOLS), "t_1")
    refused(anthropic.BadRequestError, lambda: create(model, messages=user(7)), "messages")


def upstream_error(upstream, model):
    for stream in (False, True):
        call = lambda: create(model + FAILING, stream=stream, **SAID)
        error = refused(anthropic.OverloadedError, call, "overloaded")
        same(error.body["error"]["type"], "overloaded_error")


def error_in_stream(upstream, model):
    try:
        events = list(create(model + BREAKING, stream=True, **SAID))
    except anthropic.APIStatusError as error:
        same(error.body["error"]["type"], "overloaded_error")
        return
    raise AssertionError(f"the stream's error is not told: {events}")


if __name__ == "__main__":
    run(
        [
            plain, streaming, stream_helper, tools, tool_choice, image, structured, reasoning, reasoned_tools, length,
            stop,
        ],
        [refusals, upstream_error, error_in_stream],
    )
