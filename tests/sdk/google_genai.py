"""Drives a gateway with the official `google-genai` package: plain, streaming, tools, counts, embeddings, models, errors.

Environment: EZ_SDK_BASE_URL (without a version), EZ_SDK_API_KEY, EZ_SDK_MODEL, EZ_SDK_EMBEDDING_MODEL,
EZ_SDK_FAILING_MODEL (whose upstream is overloaded). Exits 0 when everything held.
"""

import os

from google import genai
from google.genai import errors, types

BASE_URL = os.environ["EZ_SDK_BASE_URL"]
MODEL = os.environ["EZ_SDK_MODEL"]
EMBEDDING_MODEL = os.environ["EZ_SDK_EMBEDDING_MODEL"]
FAILING_MODEL = os.environ["EZ_SDK_FAILING_MODEL"]
ASK = "Say something."
WEATHER = types.FunctionDeclaration(
    name="get_weather",
    description="The weather in a city.",
    parameters_json_schema={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
TOOLS = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[WEATHER])])


def client(api_key=os.environ["EZ_SDK_API_KEY"], version="v1beta"):
    retries = types.HttpRetryOptions(attempts=1)
    options = types.HttpOptions(base_url=BASE_URL, api_version=version, timeout=30_000, retry_options=retries)
    return genai.Client(api_key=api_key, http_options=options)


CLIENT = client()  # A client that nobody holds closes its connections, and a stream with them.


def refused(kind, code, status, call):
    """What a call is refused with, which must be an exception of this class that tells a request id."""
    try:
        call()
    except kind as error:
        assert (error.code, error.status) == (code, status), error
        assert error.response.headers["x-request-id"], "a request id"
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def plain():
    answer = CLIENT.models.generate_content(model=MODEL, contents=ASK)
    assert answer.text, answer
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP, answer
    usage = answer.usage_metadata
    assert usage.prompt_token_count > 0 and usage.candidates_token_count > 0, usage


def version_1():
    older = client(version="v1")
    assert older.models.generate_content(model=MODEL, contents=ASK).text


def streaming():
    chunks = list(CLIENT.models.generate_content_stream(model=MODEL, contents=ASK))
    assert "".join(chunk.text or "" for chunk in chunks) and len(chunks) > 2, chunks
    last = chunks[-1]
    assert last.candidates[0].finish_reason == types.FinishReason.STOP, last
    assert last.usage_metadata.candidates_token_count > 0, last


def chat():
    conversation = CLIENT.chats.create(model=MODEL)
    assert conversation.send_message(ASK).text
    assert "".join(chunk.text or "" for chunk in conversation.send_message_stream("And now?"))
    assert [turn.role for turn in conversation.get_history()[:4]] == ["user", "model", "user", "model"]


def tools():
    contents = [types.UserContent(ASK)]
    answer = CLIENT.models.generate_content(model=MODEL, contents=contents, config=TOOLS)
    call = answer.function_calls[0]
    assert call.name == "get_weather" and call.args["city"], answer
    result = types.Part.from_function_response(name=call.name, response={"result": "sunny"})
    contents += [answer.candidates[0].content, types.UserContent(result)]
    answer = CLIENT.models.generate_content(model=MODEL, contents=contents, config=TOOLS)
    assert answer.text and not answer.function_calls, answer


def streamed_tools():
    chunks = CLIENT.models.generate_content_stream(model=MODEL, contents=ASK, config=TOOLS)
    calls = [call for chunk in chunks for call in chunk.function_calls or []]
    assert calls[0].name == "get_weather" and calls[0].args["city"], calls


def count_tokens():
    assert CLIENT.models.count_tokens(model=MODEL, contents=ASK).total_tokens > 0


def embeddings():
    # A model of several media makes one embedding of everything, any other one of each text: two routes.
    for model, count in ((MODEL, 1), (EMBEDDING_MODEL, 2)):
        answer = CLIENT.models.embed_content(model=model, contents=["one", "two"])
        assert [len(embedding.values) for embedding in answer.embeddings] == [8] * count, answer


def models():
    listed = [model.name for model in CLIENT.models.list()]
    assert f"models/{MODEL}" in listed, listed
    assert CLIENT.models.get(model=MODEL).name == f"models/{MODEL}"


def bad_key():
    stranger = client(api_key="sk-nobody")
    call = lambda: stranger.models.generate_content(model=MODEL, contents=ASK)
    refused(errors.ClientError, 401, "UNAUTHENTICATED", call)


def unknown_model():
    call = lambda: CLIENT.models.generate_content(model="no-such-model", contents=ASK)
    error = refused(errors.ClientError, 404, "NOT_FOUND", call)
    assert "no-such-model" in error.message, error


def wrong_type():
    wrong = types.HttpOptions(extra_body={"contents": "text where a list belongs"})
    config = types.GenerateContentConfig(http_options=wrong)
    call = lambda: CLIENT.models.generate_content(model=MODEL, contents=ASK, config=config)
    refused(errors.ClientError, 400, "INVALID_ARGUMENT", call)


def upstream_error():
    plain = lambda: CLIENT.models.generate_content(model=FAILING_MODEL, contents=ASK)
    streamed = lambda: list(CLIENT.models.generate_content_stream(model=FAILING_MODEL, contents=ASK))
    for call in (plain, streamed):
        refused(errors.ServerError, 503, "UNAVAILABLE", call)


if __name__ == "__main__":
    steps = [
        plain, version_1, streaming, chat, tools, streamed_tools, count_tokens, embeddings, models, bad_key,
        unknown_model, wrong_type, upstream_error,
    ]
    for step in steps:
        step()
        print("ok", step.__name__)
