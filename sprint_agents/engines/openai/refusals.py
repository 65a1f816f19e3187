"""What servers say when they refuse a request, in their own words, read as numbers and more exact errors.

The words are those of OpenAI, vLLM (since 0.6), SGLang 0.5.23 and llama.cpp.
"""

import re

from sprint_agents.errors import ContextOverflow, EngineError, EngineOverloaded, EngineRejected

_LIMIT = re.compile(
    r"(?:maximum context length (?:is|of)|context length \(|configured limit of|available context size \("
    r"|maximum allowed length \() ?(?P<count>\d+)"
)
_PROMPT = re.compile(
    r"(?P<before>\d+) (?:in the (?:messages|prompt)|input tokens|tokens from the input)"
    r"|(?:messages resulted in|[Ii]nput(?: length)? \(|request \() ?(?P<after>\d+)"
)
# Not the context's end but a bound on the completion alone.
_COMPLETION = re.compile(r"supports at most (?P<count>\d+) completion tokens")
_NO_CREDIT = re.compile(r"exceeded your current quota|insufficient[_ ]quota", re.IGNORECASE)
_NO_ROUTE = re.compile(r"^(?!.*\bmodel\b).*\bnot found\b", re.IGNORECASE | re.DOTALL)


def recognised(error: EngineError) -> EngineError:
    """Return the more exact error that a server's words stand for, or ``error`` itself."""
    message = str(error)
    if isinstance(error, EngineOverloaded) and _NO_CREDIT.search(message):
        # A 429 as well, but no waiting helps.
        return EngineRejected(message)
    if not isinstance(error, EngineRejected):
        return error
    if (sizes := _sizes(message)) and sizes[0] >= sizes[1]:
        return ContextOverflow(tokens=sizes[0], limit=sizes[1])
    if _NO_ROUTE.search(message):
        return EngineRejected(f"{message}: is the URL right? It usually ends with /v1")
    return error


def room_left(error: EngineRejected) -> int | None:
    """Return how many tokens a completion may have, if the request was refused because it asked for more."""
    message = str(error)
    if match := _COMPLETION.search(message):
        return int(match["count"])
    sizes = _sizes(message)
    return sizes[1] - sizes[0] if sizes else None


def _sizes(message: str) -> tuple[int, int] | None:
    """Return the tokens of the prompt and of the whole context, if a refusal names both."""
    limit, prompt = _LIMIT.search(message), _PROMPT.search(message)
    return (int(prompt["before"] or prompt["after"]), int(limit["count"])) if limit and prompt else None
