"""Drives a gateway with the official `anthropic` package: plain, streaming, tools, a token count, models, errors.

Environment: EZ_SDK_BASE_URL (without /v1), EZ_SDK_API_KEY, EZ_SDK_MODEL, EZ_SDK_FAILING_MODEL (whose upstream is
overloaded). Exits 0 when everything held.
"""

import os

import anthropic

BASE_URL = os.environ["EZ_SDK_BASE_URL"]
MODEL = os.environ["EZ_SDK_MODEL"]
FAILING_MODEL = os.environ["EZ_SDK_FAILING_MODEL"]
ASK = {"max_tokens": 64, "messages": [{"role": "user", "content": "Say something."}]}
TOOLS = [
    {
        "name": "get_weather",
        "description": "The weather in a city.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]


def client(**how):
    how = {"api_key": os.environ["EZ_SDK_API_KEY"], **how}
    return anthropic.Anthropic(base_url=BASE_URL, max_retries=0, timeout=30, **how)


def refused(kind, call):
    """What a call is refused with, which must be an exception of this class that tells a request id."""
    try:
        call()
    except kind as error:
        assert type(error) is kind, type(error)
        assert error.request_id, "a request id"
        assert error.body["type"] == "error", error.body
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def plain():
    answer = client().messages.create(model=MODEL, **ASK)
    assert answer.model == MODEL, answer.model
    assert answer.content[0].text, answer
    assert answer.stop_reason == "end_turn", answer
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, answer.usage
    assert answer._request_id, "a request id"


def key_as_bearer():
    answer = client(api_key=None, auth_token=os.environ["EZ_SDK_API_KEY"]).messages.create(model=MODEL, **ASK)
    assert answer.content[0].text, answer


def betas_and_query():
    betas = ["prompt-caching-2024-07-31", "context-1m-2025-08-07", "interleaved-thinking-2025-05-14"]
    answer = client().beta.messages.create(model=MODEL, betas=betas, **ASK)
    assert answer.content[0].text, answer


def streaming():
    kinds, text = [], ""
    for event in client().messages.create(model=MODEL, stream=True, **ASK):
        kinds.append(event.type)
        if event.type == "message_start":
            assert event.message.model == MODEL, event
        if event.type == "content_block_delta":
            text += event.delta.text
    assert text and kinds[0] == "message_start" and kinds[-1] == "message_stop", kinds


def stream_helper():
    with client().messages.stream(model=MODEL, **ASK) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert message.content[0].text == text and message.usage.output_tokens > 0, message


def tools():
    messages = list(ASK["messages"])
    answer = client().messages.create(model=MODEL, max_tokens=64, messages=messages, tools=TOOLS)
    call = next(block for block in answer.content if block.type == "tool_use")
    assert answer.stop_reason == "tool_use" and call.name == "get_weather" and call.input["city"], answer
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    answer = client().messages.create(model=MODEL, max_tokens=64, messages=messages, tools=TOOLS)
    assert answer.stop_reason == "end_turn" and answer.content[0].text, answer


def streamed_tools():
    with client().messages.stream(model=MODEL, tools=TOOLS, **ASK) as stream:
        message = stream.get_final_message()
    call = next(block for block in message.content if block.type == "tool_use")
    assert call.name == "get_weather" and call.input["city"], message


def count_tokens():
    counted = client().messages.count_tokens(model=MODEL, messages=ASK["messages"])
    assert counted.input_tokens > 0, counted


def models():
    listed = client().models.list()
    assert MODEL in [model.id for model in listed], listed
    assert client().models.retrieve(MODEL).id == MODEL


def bad_key():
    error = refused(anthropic.AuthenticationError, lambda: client(api_key="sk-nobody").messages.create(model=MODEL, **ASK))
    assert error.body["error"]["type"] == "authentication_error", error.body


def unknown_model():
    error = refused(anthropic.NotFoundError, lambda: client().messages.create(model="no-such-model", **ASK))
    assert error.body["error"]["type"] == "not_found_error" and "no-such-model" in str(error), error.body


def wrong_type():
    wrong = {"stream": "maybe"}
    error = refused(anthropic.BadRequestError, lambda: client().messages.create(model=MODEL, extra_body=wrong, **ASK))
    assert error.body["error"]["type"] == "invalid_request_error" and "stream" in str(error), error.body


def upstream_error():
    for stream in (False, True):
        call = lambda: client().messages.create(model=FAILING_MODEL, stream=stream, **ASK)
        error = refused(anthropic.OverloadedError, call)
        assert error.body["error"]["type"] == "overloaded_error", error.body


if __name__ == "__main__":
    steps = [
        plain, key_as_bearer, betas_and_query, streaming, stream_helper, tools, streamed_tools, count_tokens, models,
        bad_key, unknown_model, wrong_type, upstream_error,
    ]
    for step in steps:
        step()
        print("ok", step.__name__)
