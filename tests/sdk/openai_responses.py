"""Drives a gateway with the official `openai` package beside chat: Responses and their by-id routes, embeddings.

Environment: EZ_SDK_BASE_URL (with /v1), EZ_SDK_API_KEY, EZ_SDK_MODEL, EZ_SDK_FAILING_MODEL (whose upstream is
overloaded). Exits 0 when everything held.
"""

import os

import openai

BASE_URL = os.environ["EZ_SDK_BASE_URL"]
MODEL = os.environ["EZ_SDK_MODEL"]
FAILING_MODEL = os.environ["EZ_SDK_FAILING_MODEL"]
ASK = "Say something."
TOOLS = [
    {
        "type": "function",
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]


def client(api_key=os.environ["EZ_SDK_API_KEY"]):
    return openai.OpenAI(base_url=BASE_URL, api_key=api_key, max_retries=0, timeout=30)


def refused(kind, call):
    """What a call is refused with, which must be an exception of this class that tells a request id."""
    try:
        call()
    except kind as error:
        assert error.request_id, "a request id"
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def plain():
    answer = client().responses.create(model=MODEL, input=ASK)
    assert answer.model == MODEL, answer.model
    assert answer.output_text and answer.status == "completed", answer
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, answer.usage


def streaming():
    kinds, text = [], ""
    for event in client().responses.create(model=MODEL, input=ASK, stream=True):
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
    assert event.response.output_text == text and event.response.model == MODEL, event


def tools():
    asked = [{"role": "user", "content": ASK}]
    answer = client().responses.create(model=MODEL, input=asked, tools=TOOLS)
    call = next(item for item in answer.output if item.type == "function_call")
    assert call.name == "get_weather" and "city" in call.arguments, answer
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    answer = client().responses.create(model=MODEL, input=[*asked, call, result], tools=TOOLS)
    assert answer.output_text, answer


def streamed_tools():
    with client().responses.stream(model=MODEL, input=ASK, tools=TOOLS) as stream:
        answer = stream.get_final_response()
    call = next(item for item in answer.output if item.type == "function_call")
    assert call.name == "get_weather" and "city" in call.arguments, answer


def by_id():
    responses = client().responses
    # Several, so that more than one credential has made some.
    for _ in range(6):
        made = responses.create(model=MODEL, input=ASK)
        assert responses.retrieve(made.id).output_text == made.output_text
        assert responses.input_items.list(made.id).data is not None
        following = responses.create(model=MODEL, input="And then?", previous_response_id=made.id)
        assert following.output_text, following
        assert responses.cancel(made.id).status == "cancelled"
        responses.delete(made.id)
        refused(openai.NotFoundError, lambda: responses.retrieve(made.id))
    refused(openai.NotFoundError, lambda: responses.retrieve("resp_nobody_made_this"))


def embeddings():
    answer = client().embeddings.create(model=MODEL, input=["one", "two"])
    assert [len(item.embedding) for item in answer.data] == [8, 8], answer
    assert answer.usage.prompt_tokens > 0, answer.usage


def models():
    assert client().models.retrieve(MODEL).id == MODEL
    refused(openai.NotFoundError, lambda: client().models.retrieve("no-such-model"))


def bad_key():
    error = refused(openai.AuthenticationError, lambda: client("sk-nobody").responses.create(model=MODEL, input=ASK))
    assert error.code == "invalid_api_key", error


def unknown_model():
    error = refused(openai.NotFoundError, lambda: client().responses.create(model="no-such-model", input=ASK))
    assert error.code == "model_not_found" and "no-such-model" in error.message, error


def wrong_type():
    wrong = {"stream": "maybe"}
    error = refused(openai.BadRequestError, lambda: client().responses.create(model=MODEL, input=ASK, extra_body=wrong))
    assert error.param == "stream", error


def upstream_error():
    for stream in (False, True):
        call = lambda: client().responses.create(model=FAILING_MODEL, input=ASK, stream=stream)
        error = refused(openai.InternalServerError, call)
        assert error.status_code == 503, error
    messages = [{"role": "user", "content": ASK}]
    call = lambda: client().chat.completions.create(model=FAILING_MODEL, messages=messages)
    assert refused(openai.InternalServerError, call).status_code == 503


if __name__ == "__main__":
    steps = [
        plain, streaming, tools, streamed_tools, by_id, embeddings, models, bad_key, unknown_model, wrong_type,
        upstream_error,
    ]
    for step in steps:
        step()
        print("ok", step.__name__)
