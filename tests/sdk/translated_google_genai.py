"""Drives models of other protocols with the official `google-genai` package. See `told.py`."""

import json

from google import genai
from google.genai import errors, types
from told import *

OPTIONS = types.HttpOptions(
    base_url=BASE_URL, api_version="v1beta", timeout=30_000, retry_options=types.HttpRetryOptions(attempts=1)
)
CLIENT = genai.Client(api_key=API_KEY, http_options=OPTIONS)
NAME = "weather.get:now"  # No other vendor takes a dot.
DECLARED = types.FunctionDeclaration(name=NAME, description="The weather.", parameters_json_schema=SCHEMA)
THINKING = types.ThinkingConfig(include_thoughts=True, thinking_level="HIGH")
MODES = {False: "generate_content", True: "generate_content_stream"}


def tool(*declared):
    return [types.Tool(function_declarations=list(declared))]


def create(model, contents, stream=False, **config):
    """The answer; the chunks of a stream put together as far as the SDK's own chat does: content, finish, usage."""
    config.setdefault("automatic_function_calling", types.AutomaticFunctionCallingConfig(disable=True))
    call = getattr(CLIENT.models, MODES[stream])
    answer = call(model=model, contents=contents, config=types.GenerateContentConfig(**config))
    if not stream:
        return answer
    chunks = list(answer)
    same(len([chunk for chunk in chunks if chunk.candidates and chunk.candidates[0].finish_reason]), 1)
    last = chunks[-1]
    assert last.candidates and last.candidates[0].finish_reason, last
    parts = [part for chunk in chunks for part in (chunk.candidates[0].content or types.Content()).parts or []]
    last.candidates[0].content = types.Content(role="model", parts=parts)
    return last


def said(words=ASK):
    return [types.UserContent(words)]


def parts(answer, index=0):
    return answer.candidates[index].content.parts or []


def text(answer, thought=False, index=0):
    return "".join(part.text or "" for part in parts(answer, index) if bool(part.thought) == thought)


def finish(answer):
    return answer.candidates[0].finish_reason.value


def check_usage(upstream, usage, reasons=False):
    spent = reasoned(upstream, reasons)
    found = (usage.prompt_token_count, usage.cached_content_token_count, usage.total_token_count)
    same(found, (INPUT, CACHED, TOTAL))
    same((usage.candidates_token_count, usage.thoughts_token_count or 0), (OUTPUT - spent, spent))


def plain(upstream, model):
    safety = types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="BLOCK_NONE")
    how = {"temperature": 0.5, "top_k": 5, "seed": 7, "safety_settings": [safety]}
    answer = create(model, said(), system_instruction=INSTRUCTION, **how)
    names = lambda *words: [*(f"generationConfig.{word}" for word in words), "safetySettings"]
    expected = {
        "chat": names("temperature", "topK"),
        "responses": names("seed", "temperature", "topK"),
        "messages": names("seed", "temperature", "topK"),
    }
    older = {"chat": names(), "responses": names("seed", "topK"), "messages": names("seed")}
    same(dropped(answer.sdk_http_response.headers), upstream.chosen(expected, older))
    same((text(answer), finish(answer), answer.model_version), (ANSWER, "STOP", model))
    check_usage(upstream, answer.usage_metadata)
    assert answer.response_id, answer


def streaming(upstream, model):
    answer = create(model, said(), stream=True, system_instruction=INSTRUCTION)
    same((text(answer), finish(answer)), (ANSWER, "STOP"))
    assert len(parts(answer)) > 3, answer
    check_usage(upstream, answer.usage_metadata)


def loop(upstream, model, stream, **config):
    """Two calls, and the answer to their results."""
    answer = create(model, said(), stream=stream, tools=tool(DECLARED), **config)
    same(finish(answer), "STOP")
    calls = [part.function_call for part in parts(answer) if part.function_call]
    same([(call.name, call.args) for call in calls], [(NAME, arguments) for arguments in ARGUMENTS])
    results = [
        types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response={"output": words}))
        for call, words in zip(calls, RESULTS)
    ]
    contents = [*said(), answer.candidates[0].content, types.UserContent(results)]
    return answer, create(model, contents, tools=tool(DECLARED), **config)


def tools(upstream, model):
    for stream in (False, True):
        first, answer = loop(upstream, model, stream)
        same(text(answer), quoted())
        # Clients that know no ids: the results stand in the order of the calls.
        calls = [part.function_call for part in parts(first) if part.function_call]
        results = [
            types.Part.from_function_response(name=call.name, response={"error": words})
            for call, words in zip(calls, RESULTS)
        ]
        for part in parts(first):
            if part.function_call:
                part.function_call.id = None
        contents = [*said(), first.candidates[0].content, types.UserContent(results)]
        answer = create(model, contents, tools=tool(DECLARED))
        mark = "[failed] " if upstream in ("messages", "gemini") else "Error: "
        expected = [mark + words for words in RESULTS]
        same(text(answer), quoted(expected))


def tool_choice(upstream, model):
    other = types.FunctionDeclaration(name="other", parameters_json_schema=SCHEMA)
    calling = lambda **how: types.ToolConfig(function_calling_config=types.FunctionCallingConfig(**how))
    config = {"tools": tool(DECLARED, other), "tool_config": calling(mode="ANY", allowed_function_names=["other"])}
    same([call.name for call in create(model, said(), **config).function_calls], ["other", "other"])
    answer = create(model, said(), tools=tool(DECLARED), tool_config=calling(mode="NONE"))
    same(text(answer), f'you say "{ASK}".')


def automatic_calls(upstream, model):
    """The SDK calls a Python function itself, twice, and sends what it answered."""
    asked = []

    def look_up(city: str) -> str:
        """Looks a city up."""
        asked.append(city)
        return f"found {city}"

    config = types.GenerateContentConfig(tools=[look_up])
    answer = CLIENT.models.generate_content(model=model, contents=ASK, config=config)
    same(asked, CITIES)
    assert answer.text.startswith("The tools say: "), answer.text


def image(upstream, model):
    contents = [types.UserContent([types.Part.from_bytes(data=PNG, mime_type="image/png"), "What is it?"])]
    same(text(create(model, contents)), PNG_SEEN)
    contents = [types.UserContent([types.Part.from_uri(file_uri=PNG_URL, mime_type="image/png"), "What is it?"])]
    same(text(create(model, contents)), f"I see {PNG_URL}.")


def structured(upstream, model):
    for stream in (False, True):
        config = {"response_mime_type": "application/json", "response_json_schema": SCHEMA}
        same(json.loads(text(create(model, said(), stream=stream, **config))), FILLED)


def reasoning(upstream, model):
    for stream in (False, True):
        answer = create(model, said(), stream=stream, thinking_config=THINKING, system_instruction=INSTRUCTION)
        same(text(answer), ANSWER)
        check_usage(upstream, answer.usage_metadata, reasons=True)
        if upstream.shows_thoughts():
            same(text(answer, thought=True), THOUGHTS)


def reasoned_tools(upstream, model):
    for stream in (False, True):
        _, answer = loop(upstream, model, stream, thinking_config=THINKING)
        same(text(answer), quoted(remembers=upstream.remembers(True)))


def length(upstream, model):
    for stream in (False, True):
        answer = create(model, said(LONG), stream=stream, max_output_tokens=CUT_AFTER)
        same((text(answer), finish(answer)), (CUT, "MAX_TOKENS"))


def stop(upstream, model):
    call = lambda: create(model, said("one two STOP three"), stop_sequences=[" STOP"])
    if upstream == "responses":
        return refused(errors.ClientError, 400, "INVALID_ARGUMENT", "generationConfig.stopSequences", call)
    same((text(call()), finish(call())), (f'you say "{STOPPED}', "STOP"))


def several(upstream, model):
    call = lambda: create(model, said(), candidate_count=2)
    if upstream in ("messages", "responses"):
        return refused(errors.ClientError, 400, "INVALID_ARGUMENT", "generationConfig.candidateCount", call)
    answer = call()
    same([text(answer, index=index) for index in (0, 1)], [f'you say "{ASK}".'] * 2)


def refused(kind, code, status, words, call):
    try:
        call()
    except kind as error:
        same((error.code, error.status), (code, status))
        assert words in error.message, error
        assert error.response.headers["x-request-id"], "a request id"
        return
    raise AssertionError(f"{kind.__name__} was expected")


def refusals(upstream, model):
    search = [types.Tool(google_search=types.GoogleSearch())]
    if upstream != "gemini":
        refused(errors.ClientError, 400, "INVALID_ARGUMENT", "tools", lambda: create(model, said(), tools=search))
        config = {"cached_content": "cachedContents/abc"}
        refused(errors.ClientError, 400, "INVALID_ARGUMENT", "cachedContent", lambda: create(model, said(), **config))


def upstream_error(upstream, model):
    for stream in (False, True):
        call = lambda: create(model + FAILING, said(), stream=stream)
        refused(errors.ServerError, 503, "UNAVAILABLE", "overloaded", call)


def error_in_stream(upstream, model):
    try:
        chunks = list(CLIENT.models.generate_content_stream(model=model + BREAKING, contents=ASK))
    except errors.APIError as error:
        assert "overloaded" in str(error), error
        return
    raise AssertionError(f"the stream's error is not told: {chunks}")


if __name__ == "__main__":
    run(
        [
            plain, streaming, tools, tool_choice, automatic_calls, image, structured, reasoning, reasoned_tools, length,
            stop, several,
        ],
        [refusals, upstream_error, error_in_stream],
    )
