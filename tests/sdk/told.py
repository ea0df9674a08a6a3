"""What the scripts named `translated_…` know of the simulated vendors (`ez_testkit::upstream::Attentive`).

Environment: EZ_SDK_BASE_URL, EZ_SDK_API_KEY, EZ_SDK_MODELS (`messages=claude-sim,gemini=gemini-sim`: the protocol of an
upstream, and the model that is bound to it; `gemini.older=…` is one of an older family, which is asked in other ways),
EZ_SDK_CLIENT (`-failing-` and it behind a model's name is one whose upstream is overloaded, `-breaking-` and it one whose
streams break with an error; for this client alone).
"""

import base64
import os
import sys
import traceback

BASE_URL = os.environ["EZ_SDK_BASE_URL"]
API_KEY = os.environ["EZ_SDK_API_KEY"]
FAILING = f"-failing-{os.environ['EZ_SDK_CLIENT']}"
BREAKING = f"-breaking-{os.environ['EZ_SDK_CLIENT']}"

INSTRUCTION = "Answer in \u00fcn\u00efcode \U0001f327."
ASK = "Say 'something' \u2013 \"quoted\", with a \\ and \U0001f600."
ANSWER = f'Told "{INSTRUCTION}": you say "{ASK}".'

LONG = " ".join(f"word{number}" for number in range(40))
CUT_AFTER = 16  # The least cap that every vendor takes; a word is a token.
CUT = "".join(f"{word} " for word in f'you say "{LONG}".'.split(" ")[:CUT_AFTER])
STOPPED = "one two"  # Of "one two STOP three".

CITIES = ["Paris", 'Oslo \U0001f327 "N"']
RESULTS = ["sunny, 20\u00b0", "rain & wind"]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
FILLED = {"city": "Paris", "days": 3}
ARGUMENTS = [{"city": city, "days": 3} for city in CITIES]
THOUGHTS = "Let me think: what is asked is clear."
REMEMBERED = " (I remember what I thought.)"

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PNG_SEEN = f"I see image/png of {len(PNG)} bytes."
PNG_URL = "https://example.com/a.png"

INPUT, CACHED, OUTPUT, REASONED = 100, 40, 30, 12
TOTAL = INPUT + OUTPUT


class Upstream(str):
    """The protocol of an upstream, and whether its model is of an older family: a chat server that is not OpenAI's and
    shows what the model thinks, an OpenAI model that does not think, a Claude that thinks for so many tokens and fills
    schemas with a tool, a Gemini that thinks if asked."""

    def __new__(cls, name):
        protocol, _, family = name.partition(".")
        upstream = super().__new__(cls, protocol)
        upstream.is_older = family == "older"
        return upstream

    def thinks(self, asked=False):
        """Whether it thinks: Gemini's newest always do."""
        return (asked and self != "responses") if self.is_older else (asked or self == "gemini")

    def chosen(self, newest, older):
        """What goes for its protocol: an older model goes by the others' where nothing is said of it."""
        return {**newest, **older}[self] if self.is_older else newest[self]

    def shows_thoughts(self):
        return self != ("responses" if self.is_older else "chat")

    def remembers(self, asked=False):
        """Whether it takes back what it thought."""
        return self.thinks(asked) and self.shows_thoughts()


PAIRS = (pair.split("=") for pair in os.environ["EZ_SDK_MODELS"].split(","))
MODELS = [(Upstream(name), model) for name, model in PAIRS]


def written(upstream):
    """Tokens written to the vendor's cache: Gemini writes none."""
    return 0 if upstream == "gemini" else 8


def reasoned(upstream, asked):
    """Tokens of reasoning."""
    return REASONED if upstream.thinks(asked) else 0


def quoted(results=RESULTS, remembers=False):
    """The text that follows the results of tools."""
    return f"The tools say: {' | '.join(results)}" + (REMEMBERED if remembers else "")


def dropped(headers):
    """The parameters that were left out."""
    return sorted(filter(None, (headers.get("x-ez-dropped-params") or "").replace(" ", "").split(",")))


def same(found, expected):
    assert found == expected, f"\n   found: {found!r}\nexpected: {expected!r}"


def run(steps, with_newest):
    """Each step with each upstream, some with models of the newest families alone; goes on behind one that failed."""
    failed = False
    for upstream, model in MODELS:
        for step in steps if upstream.is_older else [*steps, *with_newest]:
            try:
                step(upstream, model)
                print("ok", model, step.__name__)
            except Exception:
                failed = True
                print("FAILED", model, step.__name__, traceback.format_exc(), sep="\n")
    sys.exit(failed)
