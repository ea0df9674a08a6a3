"""Drives a gateway with the official `openai` package: plain, streaming, tools, an error, a bad key.

Environment: EZ_SDK_BASE_URL (with /v1), EZ_SDK_API_KEY, EZ_SDK_MODEL. Exits 0 when everything held.
"""

import os

import openai

BASE_URL = os.environ["EZ_SDK_BASE_URL"]
MODEL = os.environ["EZ_SDK_MODEL"]
MESSAGES = [{"role": "user", "content": "Say something."}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def client(api_key=os.environ["EZ_SDK_API_KEY"]):
    return openai.OpenAI(base_url=BASE_URL, api_key=api_key, max_retries=0, timeout=30)


def plain():
    answer = client().chat.completions.create(model=MODEL, messages=MESSAGES)
    assert answer.model == MODEL, answer.model
    assert answer.choices[0].message.content, answer
    assert answer.choices[0].finish_reason == "stop", answer
    assert answer.usage.completion_tokens > 0 and answer.usage.prompt_tokens > 0, answer.usage


def streaming():
    text, chunks = "", 0
    with client().chat.completions.create(model=MODEL, messages=MESSAGES, stream=True) as stream:
        for chunk in stream:
            assert chunk.model == MODEL, chunk
            assert chunk.choices, "the usage chunk that was not asked for is withheld"
            text += chunk.choices[0].delta.content or ""
            chunks += 1
    assert text and chunks > 2, (text, chunks)


def streaming_with_usage():
    options = {"include_usage": True}
    stream = client().chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, stream_options=options)
    last = list(stream)[-1]
    assert not last.choices and last.usage.completion_tokens > 0, last


def tools():
    messages = list(MESSAGES)
    answer = client().chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    call = answer.choices[0].message.tool_calls[0]
    assert answer.choices[0].finish_reason == "tool_calls", answer
    assert call.function.name == "get_weather", call
    messages += [answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    answer = client().chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    assert answer.choices[0].finish_reason == "stop" and answer.choices[0].message.content, answer


def streamed_tools():
    arguments, name = "", None
    for chunk in client().chat.completions.create(model=MODEL, messages=MESSAGES, tools=TOOLS, stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            name = call.function.name or name
            arguments += call.function.arguments or ""
    assert name == "get_weather" and arguments.startswith("{") and arguments.endswith("}"), (name, arguments)


def models():
    assert MODEL in [model.id for model in client().models.list()]


def unknown_model():
    try:
        client().chat.completions.create(model="no-such-model", messages=MESSAGES)
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error
        assert "no-such-model" in error.message, error
        assert error.request_id, "a request id"
    else:
        raise AssertionError("an unknown model must be refused")


def bad_key():
    try:
        client(api_key="sk-nobody").chat.completions.create(model=MODEL, messages=MESSAGES)
    except openai.AuthenticationError as error:
        assert error.code == "invalid_api_key", error
        assert error.request_id, "a request id"
    else:
        raise AssertionError("an unknown key must be refused")


def malformed_request():
    try:
        client().chat.completions.create(model=MODEL, messages=MESSAGES, extra_body={"stream": "maybe"})
    except openai.BadRequestError as error:
        assert error.param == "stream", error
    else:
        raise AssertionError("a wrong type must be refused")


if __name__ == "__main__":
    steps = [
        plain, streaming, streaming_with_usage, tools, streamed_tools, models, unknown_model, bad_key, malformed_request,
    ]
    for step in steps:
        step()
        print("ok", step.__name__)
