"""Checks JSON against the official SDKs' own types: what the gateway sends to vendors, and what it answers clients.

Standard input is a JSON text sequence (RFC 7464) of `{"kind": "request" | "answer" | "event", "protocol": "chat" |
"responses" | "messages" | "gemini", "name": …, "body": …}`. Prints every one that the types refuse, with the reasons,
and how many were checked; exits 1 where one was refused or there was none.

Requests are checked strictly: no unknown keys, no value of another type. Two things are changed in the types for it:
iterables are lists, as pydantic would look into them too late, and what cannot stand in JSON or is a model of answers is
no choice. Not checked is what no type tells: rules between fields and between turns, bounds of numbers and lengths,
patterns of names; the simulated upstream has those (`upstream/attentive`). Google's SDK has no type of a whole body, but
of each member. Answers may hold more than the types know, as the SDKs themselves take it; what the types require must be
there, and of the right type. Left out are chunks with calls of custom tools, which the type of chunks does not know.
"""

import collections.abc
import json
import sys
import types as builtin_types
import typing
import warnings

import anthropic.types
import openai.types.chat
import openai.types.responses
import pydantic
import typing_extensions
from anthropic.types import message_create_params
from google.genai import types as genai
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params

UNIONS = (typing.Union, builtin_types.UnionType)
# OpenAI takes reasoning without its id where nothing is stored (its own agent sends it so), and refuses one that is made up.
OPTIONAL = {("ResponseReasoningItemParam", "id")}
# A word that Google's types do not know is a warning to them.
warnings.simplefilter("error")
warnings.simplefilter("ignore", DeprecationWarning)
warnings.simplefilter("ignore", pydantic.warnings.PydanticDeprecatedSince20)


def strict(kind, seen):
    """A type of an input as it is in JSON; typed dictionaries are changed where they are."""
    if typing_extensions.is_typeddict(kind):
        if kind not in seen:
            seen.add(kind)
            hints = typing_extensions.get_type_hints(kind, include_extras=True)
            for key in hints:
                if (kind.__name__, key) in OPTIONAL:
                    hints[key] = typing_extensions.NotRequired[typing_extensions.get_args(hints[key])[0]]
            kind.__pydantic_config__ = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True)
            kind.__annotations__ = {key: strict(hint, seen) for key, hint in hints.items()}
        return kind
    origin, arguments = typing_extensions.get_origin(kind), typing_extensions.get_args(kind)
    if origin is None or origin is typing_extensions.Literal:
        return kind
    if origin in (typing_extensions.Required, typing_extensions.NotRequired):
        return origin[strict(arguments[0], seen)]
    if origin is typing_extensions.Annotated:
        return strict(arguments[0], seen)
    if origin in UNIONS:
        return typing.Union[tuple(strict(argument, seen) for argument in arguments if is_json(argument))]
    arguments = tuple(strict(argument, seen) for argument in arguments)
    if origin in (collections.abc.Iterable, collections.abc.Sequence):
        return list[arguments]
    return origin[arguments]


def is_json(kind):
    """Whether a value of this type may stand in a request's JSON."""
    kind = typing_extensions.get_origin(kind) or kind
    if not isinstance(kind, type):
        return True
    is_model = issubclass(kind, pydantic.BaseModel)
    return not is_model and kind.__module__ not in ("os", "typing", "io") and kind is not bytes


class GeminiRequest(pydantic.BaseModel):
    """The body of generateContent: the SDK has no one type of it, but one of each of its members."""

    model_config = pydantic.ConfigDict(extra="forbid")

    contents: list[genai.Content]
    systemInstruction: genai.Content | None = None
    tools: list[genai.Tool] | None = None
    toolConfig: genai.ToolConfig | None = None
    safetySettings: list[genai.SafetySetting] | None = None
    generationConfig: genai.GenerationConfig | None = None
    cachedContent: str | None = None
    labels: dict[str, str] | None = None
    serviceTier: genai.ServiceTier | None = None


def checkers():
    """What checks a body of each kind and protocol, given its JSON."""
    seen = set()
    requests = {
        "chat": completion_create_params.CompletionCreateParams,
        "responses": response_create_params.ResponseCreateParams,
        "messages": message_create_params.MessageCreateParams,
    }
    answers = {
        "chat": (openai.types.chat.ChatCompletion, openai.types.chat.ChatCompletionChunk),
        "responses": (openai.types.responses.Response, openai.types.responses.ResponseStreamEvent),
        "messages": (anthropic.types.Message, anthropic.types.RawMessageStreamEvent),
        "gemini": (genai.GenerateContentResponse, genai.GenerateContentResponse),
    }
    made = {("request", "gemini"): pydantic.TypeAdapter(GeminiRequest).validate_json}
    for protocol, kind in requests.items():
        adapter = pydantic.TypeAdapter(strict(kind, seen))
        made["request", protocol] = lambda body, adapter=adapter: adapter.validate_json(body, strict=True)
    for protocol, (whole, event) in answers.items():
        made["answer", protocol] = pydantic.TypeAdapter(whole).validate_json
        made["event", protocol] = pydantic.TypeAdapter(event).validate_json
    return made


def reasons(error):
    """What is wrong, without the members of unions that say of themselves (`type`, `role`) that they are another."""
    errors = error.errors(include_url=False, include_input=True)
    says_so = lambda e: e["loc"] and e["loc"][-1] in ("type", "role") and e["type"] in ("literal_error", "missing")
    others = {e["loc"][:-1] for e in errors if says_so(e)}
    told = [e for e in errors if not any(e["loc"][: len(other)] == other for other in others)] or errors
    place = lambda e: ".".join(str(step) for step in e["loc"] if "[" not in str(step))
    line = lambda e: f"  {place(e)}: {e['msg']} ({str(e.get('input'))[:80]})"
    return "\n".join(line(e) for e in told[:6])


def streams_free_text(body):
    """Whether it is a chunk with a call of a custom tool: OpenAI's types of answers know those, the one of chunks does not."""
    choices = body.get("choices") or []
    calls = [call for choice in choices for call in (choice.get("delta") or {}).get("tool_calls") or []]
    return any(call.get("type") == "custom" or "custom" in call for call in calls)


def main():
    made, checked, failed = checkers(), 0, 0
    for text in sys.stdin.buffer.read().split(b"\x1e")[1:]:
        line = json.loads(text)
        if line["kind"] == "event" and streams_free_text(line["body"]):
            continue
        checked += 1
        try:
            made[line["kind"], line["protocol"]](json.dumps(line["body"]))
        except (pydantic.ValidationError, Warning) as error:
            failed += 1
            why = reasons(error) if isinstance(error, pydantic.ValidationError) else f"  {error}"
            print(f"{line['kind']} {line['protocol']} {line['name']}\n{why}")
    print(f"{checked} checked, {failed} refused")
    sys.exit(failed > 0 or checked == 0)


if __name__ == "__main__":
    main()
