"""Drives models of other protocols with the official `openai` package: Chat Completions. See `told.py`."""

import base64
import json

import openai
from told import *

CLIENT = openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0, timeout=30)
MESSAGES = [{"role": "developer", "content": INSTRUCTION}, {"role": "user", "content": ASK}]
NAME = "mcp__weather-server__get_weather"
TOOLS = [{"type": "function", "function": {"name": NAME, "description": "The weather.", "parameters": SCHEMA}}]
EFFORT = {"reasoning_effort": "high"}
SHOWN = {**EFFORT, "extra_body": {"reasoning": {"exclude": False}}}


def create(model, messages, **how):
    return CLIENT.chat.completions.create(model=model, messages=messages, **how)


def user(content):
    return [{"role": "user", "content": content}]


def check_usage(upstream, usage, reasons=False):
    same((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (INPUT, OUTPUT, TOTAL))
    same(usage.prompt_tokens_details.cached_tokens, CACHED)
    details = usage.completion_tokens_details
    same((details and details.reasoning_tokens) or 0, reasoned(upstream, reasons))


def gathered(stream):
    """A stream put together: the message, its finish reason and its usage."""
    message, calls, finish, usage = {"role": "assistant", "content": "", "reasoning_details": []}, {}, [], None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            delta = choice.delta
            message["content"] += delta.content or ""
            thoughts = getattr(delta, "reasoning_content", None)
            if thoughts:
                message["reasoning_content"] = message.get("reasoning_content", "") + thoughts
            message["reasoning_details"] += getattr(delta, "reasoning_details", None) or []
            for call in delta.tool_calls or []:
                if call.id:
                    assert call.index not in calls, call
                    called = {"name": call.function.name, "arguments": ""}
                    calls[call.index] = {"id": call.id, "type": "function", "function": called, **call.model_extra}
                calls[call.index]["function"]["arguments"] += call.function.arguments or ""
            finish += [choice.finish_reason] if choice.finish_reason else []
    same(sorted(calls), list(range(len(calls))))
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    same(len(finish), 1)
    return message, finish[0], usage


def plain(upstream, model):
    how = {"temperature": 0.5, "seed": 7, "user": "u-1", "top_p": 1, "extra_body": {"nobody_knows": [1]}}
    raw = CLIENT.chat.completions.with_raw_response.create(model=model, messages=MESSAGES, **how)
    expected = {
        "responses": ["nobody_knows", "seed", "temperature", "top_p"],
        "messages": ["nobody_knows", "seed", "temperature", "top_p"],
        "gemini": ["nobody_knows", "user"],
    }
    older = {"responses": ["nobody_knows", "seed"], "messages": ["nobody_knows", "seed"]}
    same(dropped(raw.headers), upstream.chosen(expected, older))
    answer = raw.parse()
    same((answer.model, answer.object, len(answer.choices)), (model, "chat.completion", 1))
    same((answer.choices[0].message.content, answer.choices[0].finish_reason), (ANSWER, "stop"))
    assert answer.id and answer.created, answer
    check_usage(upstream, answer.usage)


def streaming(upstream, model):
    chunks = list(create(model, MESSAGES, stream=True, stream_options={"include_usage": True}))
    assert all(chunk.model == model and chunk.id == chunks[0].id for chunk in chunks), chunks
    assert len(chunks) > 4 and not chunks[-1].choices, chunks
    message, finish, usage = gathered(chunks)
    same((message["content"], finish), (ANSWER, "stop"))
    check_usage(upstream, usage)
    unasked = list(create(model, MESSAGES, stream=True))
    assert all(chunk.choices and not chunk.usage for chunk in unasked), "usage that was not asked for"


def loop(upstream, model, stream, **how):
    """Two calls, and the answer to their results, which come in the other order."""
    messages = user(ASK)
    if stream:
        message, finish, _ = gathered(create(model, messages, tools=TOOLS, stream=True, **how))
    else:
        choice = create(model, messages, tools=TOOLS, **how).choices[0]
        message, finish = choice.message.to_dict(), choice.finish_reason
    same(finish, "tool_calls")
    calls = message["tool_calls"]
    same([call["function"]["name"] for call in calls], [NAME, NAME])
    same([json.loads(call["function"]["arguments"]) for call in calls], ARGUMENTS)
    assert calls[0]["id"] != calls[1]["id"] and calls[0]["id"], calls
    results = [{"role": "tool", "tool_call_id": call["id"], "content": text} for call, text in zip(calls, RESULTS)]
    messages = [*messages, message, *reversed(results)]
    return message, create(model, messages, tools=TOOLS, **how)


def tools(upstream, model):
    for stream in (False, True):
        _, answer = loop(upstream, model, stream)
        same(answer.choices[0].message.content, quoted(remembers=upstream.remembers()))
        same(answer.choices[0].finish_reason, "stop")


def tool_choice(upstream, model):
    forced = {"type": "function", "function": {"name": "other"}}
    other = {"type": "function", "function": {"name": "other", "parameters": SCHEMA}}
    how = {"tools": [*TOOLS, other], "tool_choice": forced}
    if upstream != "gemini":
        how["parallel_tool_calls"] = False
    calls = create(model, MESSAGES, **how).choices[0].message.tool_calls
    same([call.function.name for call in calls], ["other"] * (2 if upstream == "gemini" else 1))
    answer = create(model, MESSAGES, tools=TOOLS, tool_choice="none")
    same(answer.choices[0].message.content, ANSWER)


def image(upstream, model):
    inline = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    for url, seen in ((inline, PNG_SEEN), (PNG_URL, f"I see {PNG_URL}.")):
        content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
        same(create(model, user(content)).choices[0].message.content, seen)


def structured(upstream, model):
    shape = {"name": "forecast", "schema": SCHEMA, "strict": True}
    how = {"response_format": {"type": "json_schema", "json_schema": shape}}
    same(json.loads(create(model, MESSAGES, **how).choices[0].message.content), FILLED)
    message, finish, _ = gathered(create(model, MESSAGES, stream=True, **how))
    same((json.loads(message["content"]), finish), (FILLED, "stop"))


def reasoning(upstream, model):
    answer = create(model, MESSAGES, **EFFORT)
    same(answer.choices[0].message.content, ANSWER)
    check_usage(upstream, answer.usage, reasons=True)
    if upstream.shows_thoughts():
        same(create(model, MESSAGES, **SHOWN).choices[0].message.reasoning_content, THOUGHTS)
        same(gathered(create(model, MESSAGES, stream=True, **SHOWN))[0]["reasoning_content"], THOUGHTS)


def reasoned_tools(upstream, model):
    for how in (EFFORT, SHOWN):
        for stream in (False, True):
            message, answer = loop(upstream, model, stream, **how)
            same(answer.choices[0].message.content, quoted(remembers=upstream.remembers(True)))
            # What a client that knows nothing of thoughts sends back is taken, too.
            calls = [{key: call[key] for key in ("id", "type", "function")} for call in message["tool_calls"]]
            results = [{"role": "tool", "tool_call_id": call["id"], "content": "ok"} for call in calls]
            messages = [*user(ASK), {"role": "assistant", "content": None, "tool_calls": calls}, *results]
            same(create(model, messages, tools=TOOLS, **how).choices[0].message.content, quoted(["ok", "ok"]))


def length(upstream, model):
    answer = create(model, user(LONG), max_completion_tokens=CUT_AFTER)
    same((answer.choices[0].message.content, answer.choices[0].finish_reason), (CUT, "length"))
    _, finish, _ = gathered(create(model, user(LONG), max_completion_tokens=CUT_AFTER, stream=True))
    same(finish, "length")


def stop(upstream, model):
    call = lambda: create(model, user("one two STOP three"), stop=[" STOP"])
    if upstream == "responses":
        return refused(openai.BadRequestError, call, "stop")
    answer = call()
    same((answer.choices[0].message.content, answer.choices[0].finish_reason), (f'you say "{STOPPED}', "stop"))


def several(upstream, model):
    call = lambda: create(model, MESSAGES, n=2)
    if upstream in ("messages", "responses"):
        return refused(openai.BadRequestError, call, "n")
    same([choice.message.content for choice in call().choices], [ANSWER, ANSWER])


def refused(kind, call, param=None):
    try:
        call()
    except kind as error:
        assert type(error) is kind and error.request_id and error.message, error
        if param:
            same(error.param, param)
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def refusals(upstream, model):
    if upstream != "chat":
        refused(openai.BadRequestError, lambda: create(model, MESSAGES, logprobs=True), "logprobs")
    refused(openai.BadRequestError, lambda: create(model, [{"role": "user", "content": 7}]), "messages[0].content")


def upstream_error(upstream, model):
    for stream in (False, True):
        error = refused(openai.InternalServerError, lambda: create(model + FAILING, MESSAGES, stream=stream))
        same(error.status_code, 503)


def error_in_stream(upstream, model):
    stream = create(model + BREAKING, MESSAGES, stream=True)
    try:
        chunks = list(stream)
    except openai.APIError as error:
        assert "overloaded" in error.message, error
        return
    raise AssertionError(f"the stream's error is not told: {chunks}")


if __name__ == "__main__":
    run(
        [plain, streaming, tools, tool_choice, image, structured, reasoning, reasoned_tools, length, stop, several],
        [refusals, upstream_error, error_in_stream],
    )
