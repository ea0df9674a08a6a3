"""Drives models of other protocols with the official `openai` package: Responses. See `told.py`."""

import base64
import json

import openai
from told import *

CLIENT = openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0, timeout=30)
NAME = "mcp__weather-server__get_weather"
TOOLS = [{"type": "function", "name": NAME, "description": "The weather.", "parameters": SCHEMA, "strict": False}]
SAID = {"instructions": INSTRUCTION, "input": ASK}
EFFORT = {
    "reasoning": {"effort": "high", "summary": "auto"}, "include": ["reasoning.encrypted_content"], "store": False,
}


def create(model, **how):
    return CLIENT.responses.create(model=model, **how)


def user(*content):
    return [{"role": "user", "content": list(content)}]


def text(words):
    return {"type": "input_text", "text": words}


def check_usage(upstream, usage, reasons=False):
    found = (usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.input_tokens_details.cached_tokens)
    same(found, (INPUT, OUTPUT, TOTAL, CACHED))
    same(usage.output_tokens_details.reasoning_tokens or 0, reasoned(upstream, reasons))


def checked(events):
    """The response that a stream ends with, which must be what its events say."""
    events = list(events)
    same([event.sequence_number for event in events], list(range(len(events))))
    same([event.type for event in events[:2]], ["response.created", "response.in_progress"])
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete"), last
    done = [event.item for event in events if event.type == "response.output_item.done"]
    same([item.to_dict() for item in done], [item.to_dict() for item in last.response.output])
    same([event.output_index for event in events if event.type == "response.output_item.added"], list(range(len(done))))
    for index, item in enumerate(done):
        of_it = [event for event in events if getattr(event, "output_index", None) == index]
        same({event.item_id for event in of_it if getattr(event, "item_id", None)} - {item.id}, set())
        joined = lambda kind: "".join(event.delta for event in of_it if event.type == f"response.{kind}.delta")
        if item.type == "message":
            same(joined("output_text"), item.content[0].text)
        elif item.type == "function_call":
            same(joined("function_call_arguments"), item.arguments)
        else:
            same(joined("reasoning_summary_text"), "".join(part.text for part in item.summary))
    return last.response


def plain(upstream, model):
    how = {"temperature": 0.5, "safety_identifier": "u-1", "prompt_cache_key": "k", "extra_body": {"nobody_knows": [1]}}
    raw = CLIENT.responses.with_raw_response.create(model=model, store=False, **how, **SAID)
    expected = {
        "chat": ["nobody_knows", "temperature"],
        "messages": ["nobody_knows", "prompt_cache_key", "temperature"],
        "gemini": ["nobody_knows", "prompt_cache_key", "safety_identifier"],
    }
    older = {protocol: ["nobody_knows", "prompt_cache_key"] for protocol in ("chat", "messages")}
    same(dropped(raw.headers), upstream.chosen(expected, older))
    answer = raw.parse()
    same((answer.model, answer.object, answer.status, answer.error), (model, "response", "completed", None))
    same((answer.output_text, answer.instructions, answer.temperature), (ANSWER, INSTRUCTION, 0.5))
    check_usage(upstream, answer.usage)


def streaming(upstream, model):
    answer = checked(create(model, stream=True, **SAID))
    same((answer.output_text, answer.model, answer.status), (ANSWER, model, "completed"))
    check_usage(upstream, answer.usage)


def stream_helper(upstream, model):
    with CLIENT.responses.stream(model=model, tools=TOOLS, **SAID) as stream:
        answer = stream.get_final_response()
    same([item.name for item in answer.output if item.type == "function_call"], [NAME, NAME])


def loop(upstream, model, stream, **how):
    """Two calls, and the answer to their results, which come in the other order."""
    asked = user(text(ASK))
    answer = create(model, input=asked, tools=TOOLS, stream=stream, **how)
    if stream:
        answer = checked(answer)
    calls = [item for item in answer.output if item.type == "function_call"]
    same([call.name for call in calls], [NAME, NAME])
    same([json.loads(call.arguments) for call in calls], ARGUMENTS)
    assert calls[0].call_id != calls[1].call_id and all(len(call.call_id) <= 64 for call in calls), calls
    result = {"type": "function_call_output"}
    results = [{**result, "call_id": call.call_id, "output": words} for call, words in zip(calls, RESULTS)]
    answer_items = [item.to_dict() for item in answer.output]
    return answer, create(model, input=[*asked, *answer_items, *reversed(results)], tools=TOOLS, **how)


def tools(upstream, model):
    for stream in (False, True):
        _, answer = loop(upstream, model, stream)
        same(answer.output_text, quoted(remembers=upstream.remembers()))
        same(answer.status, "completed")


def tool_choice(upstream, model):
    other = {"type": "function", "name": "other", "parameters": SCHEMA, "strict": True}
    how = {"tools": [*TOOLS, other], "tool_choice": {"type": "function", "name": "other"}}
    if upstream != "gemini":
        how["parallel_tool_calls"] = False
    calls = [item for item in create(model, **how, **SAID).output if item.type == "function_call"]
    same([call.name for call in calls], ["other"] * (2 if upstream == "gemini" else 1))
    same(create(model, tools=TOOLS, tool_choice="none", **SAID).output_text, ANSWER)


def custom_tool(upstream, model):
    shell = {"type": "custom", "name": "shell", "description": "Runs a line."}
    for stream in (False, True):
        answer = create(model, tools=[shell], stream=stream, **SAID)
        answer = [event for event in answer][-1].response if stream else answer
        calls = [item for item in answer.output if item.type == "custom_tool_call"]
        same([(call.name, call.input) for call in calls], [("shell", city) for city in CITIES])
        results = [{"type": "custom_tool_call_output", "call_id": call.call_id, "output": "ok"} for call in calls]
        items = [item.to_dict() for item in answer.output]
        answer = create(model, input=[*user(text(ASK)), *items, *results], tools=[shell])
        same(answer.output_text, quoted(["ok", "ok"], remembers=upstream.remembers()))


def image(upstream, model):
    inline = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    for url, seen in ((inline, PNG_SEEN), (PNG_URL, f"I see {PNG_URL}.")):
        picture = {"type": "input_image", "image_url": url, "detail": "auto"}
        same(create(model, input=user(text("What is it?"), picture)).output_text, seen)


def structured(upstream, model):
    shape = {"format": {"type": "json_schema", "name": "forecast", "schema": SCHEMA, "strict": True}}
    same(json.loads(create(model, text=shape, **SAID).output_text), FILLED)
    same(json.loads(checked(create(model, text=shape, stream=True, **SAID)).output_text), FILLED)


def reasoning(upstream, model):
    for stream in (False, True):
        answer = create(model, stream=stream, **EFFORT, **SAID)
        answer = checked(answer) if stream else answer
        same(answer.output_text, ANSWER)
        check_usage(upstream, answer.usage, reasons=True)
        if upstream.shows_thoughts():
            thoughts = [item for item in answer.output if item.type == "reasoning"]
            same([part.text for item in thoughts for part in item.summary], [THOUGHTS])


def reasoned_tools(upstream, model):
    for stream in (False, True):
        answer, following = loop(upstream, model, stream, **EFFORT)
        same(following.output_text, quoted(remembers=upstream.remembers(True)))
        # Without what the model thought.
        calls = [item.to_dict() for item in answer.output if item.type == "function_call"]
        results = [{"type": "function_call_output", "call_id": call["call_id"], "output": "ok"} for call in calls]
        asked = [*user(text(ASK)), *calls, *results]
        same(create(model, input=asked, tools=TOOLS, **EFFORT).output_text, quoted(["ok", "ok"]))


def length(upstream, model):
    for stream in (False, True):
        answer = create(model, input=LONG, max_output_tokens=CUT_AFTER, stream=stream)
        answer = checked(answer) if stream else answer
        same((answer.output_text, answer.status), (CUT, "incomplete"))
        same(answer.incomplete_details.reason, "max_output_tokens")


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
    if upstream != "responses":
        state = {"previous_response_id": "resp_1"}
        refused(openai.BadRequestError, lambda: create(model, **SAID, **state), "previous_response_id")
        refused(openai.BadRequestError, lambda: create(model, **SAID, background=True), "background")
        search = {"tools": [{"type": "web_search"}]}
        refused(openai.BadRequestError, lambda: create(model, **SAID, **search))
    refused(openai.BadRequestError, lambda: create(model, input=[{"role": "user", "content": 7}]), "input[0].content")


def upstream_error(upstream, model):
    for stream in (False, True):
        error = refused(openai.InternalServerError, lambda: create(model + FAILING, stream=stream, **SAID))
        same(error.status_code, 503)


def error_in_stream(upstream, model):
    last = list(create(model + BREAKING, stream=True, **SAID))[-1]
    same(last.type, "error")
    assert "overloaded" in last.message, last


if __name__ == "__main__":
    run(
        [
            plain, streaming, stream_helper, tools, tool_choice, custom_tool, image, structured, reasoning,
            reasoned_tools, length,
        ],
        [refusals, upstream_error, error_in_stream],
    )
