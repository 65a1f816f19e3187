"""Reads from a server's refusal how the request must change, or which error it is.

Servers have one status for every mistake, so a refusal is recognised by its message. Each pattern names its server.
"""

import re
from collections.abc import Mapping

import httpx2

from sprint_agents.errors import ContextOverflow, EngineError, EngineOverloaded, EngineRejected, EngineUnavailable

_N = r"\d{1,9}"

# The tokens of the prompt and of the whole context. Some messages have them in one sentence …
_BOTH = re.compile(
    rf"exceed context limit: ({_N}) \+ {_N} > ({_N})"  # Anthropic
    rf"|prompt is too long: ({_N}) tokens > ({_N})"  # Anthropic
    rf"|input token count \(?({_N})\)? exceeds the maximum number of tokens allowed \(?({_N})"  # Gemini
    rf"|[Pp]rompt contains ({_N}) tokens.{{0,40}}too large for model with ({_N})"  # Mistral
    rf"|prompt \((?:total )?length ({_N})\) is .{{0,40}}(?:model length of|model \(context length) ({_N})"  # vLLM
    rf"|Input prompt \(({_N}) tokens\) is too long and exceeds limit of ({_N})"  # vLLM
    rf"|keep the first ({_N}) tokens when.{{0,80}}context length of only ({_N}) tokens"  # LM Studio
    rf"|prompt is too long: ({_N}), model maximum context length: ({_N})"  # Fireworks
    rf"|Current length is ({_N}) while limit is ({_N})"  # Cerebras
    rf"|prompt token count of ({_N}) exceeds the limit of ({_N})",  # GitHub
    re.DOTALL,
)
# … some with the context first …
_BOTH_REVERSED = re.compile(
    rf"`inputs` must have less than ({_N}) tokens\. Given: ({_N})"  # TGI
    rf"|`max_new_tokens` must be <= ({_N})\. Given: ({_N}) `inputs` tokens"  # TGI
    rf"|maximum prompt length is ({_N}) but the request contains ({_N})"  # xAI
)
# … others apart.
_LIMIT = re.compile(
    r"(?:(?:maximum|model's) context length (?:is only|is|of)|context length \(|configured limit of"
    rf"|available context size \(|maximum allowed length \() ?(?P<count>{_N})"
)
_PROMPT = re.compile(
    rf"(?P<before>{_N}) (?:in the (?:messages|prompt)|input tokens|tokens from the input|of text input)"
    rf"|(?:messages resulted in|[Ii]nput(?: length)? \(|request \() ?(?P<after>{_N})"
)
# A bound on the completion alone, not the end of the context.
_COMPLETION = re.compile(
    rf"supports at most ({_N}) completion tokens"  # OpenAI
    rf"|max_tokens: {_N} > ({_N})"  # Anthropic
    rf"|max_(?:completion_)?tokens`?.{{0,120}}? must be less than or equal to `?({_N})"  # Groq
    rf"|range of max_tokens (?:is|should be) \[{_N}, ?({_N})\]"  # DeepSeek, Qwen
    rf"|supported range is from {_N} \(inclusive\) to (?P<beyond>{_N}) \(exclusive\)"  # Gemini
    rf"|exceeds model's maximum output tokens \(({_N})\)"  # Ollama's cloud
    rf"|maximum tokens you requested exceeds? the model limit of ({_N})",  # Bedrock
    re.IGNORECASE | re.DOTALL,
)
_LEAST = re.compile(rf"max_(?:output_|completion_)?tokens.{{0,120}}?Expected a value >= ({_N})", re.DOTALL)  # OpenAI
_NO_CREDIT = re.compile(r"exceeded your current quota|insufficient[_ ]quota", re.IGNORECASE)
_SOON = re.compile(r"\b(?:retry|try again) (?:in|after) \d", re.IGNORECASE)
_RATE = re.compile(rf"Limit ({_N}), Requested ({_N})")  # OpenAI, Groq
_NO_ROUTE = re.compile(r"^(?!.*\bmodel\b).*\bnot found\b", re.IGNORECASE | re.DOTALL)
_NO_ACCESS = re.compile(r"^the server refuses access|\bAPI.key\b", re.IGNORECASE)
_REFUSES = re.compile(
    r"\b(?:unsupported|unrecognized|unknown|unexpected|extraneous|extra_forbidden)\b|\bextra (?:inputs|fields)\b"
    r"|\bnot support|\bnot permitted\b|\bdeprecated\b|\bonly \S+ is allowed\b|\bcannot both be specified\b",
    re.IGNORECASE,
)
"""How servers refuse a field that they do not know, or whose every other value they refuse."""
_NO_SCHEMA = re.compile(
    r"response_format|json_schema|json_object"
    r"|\b(?:structured.outputs?|guided.(?:decoding|json|grammar)|grammar)\b"  # vLLM, llama.cpp
    r"|(?:invalid|unsupported) (?:json )?schema",
    re.IGNORECASE,
)
_OPTIONAL = frozenset(
    (
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "repeat_penalty",
        "stream_options",
    )
)
"""The fields that a request can do without: they say how a token is drawn, or ask for the usage, which is estimated."""
_LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""The two names of the limit, each with the other one."""

_HOSTED: Mapping[str, str] = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
    "aiplatform.googleapis.com": "google-cloud",
    "api.deepseek.com": "deepseek",
    "api.mistral.ai": "mistral",
    "api.groq.com": "groq",
    "api.x.ai": "xai",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.together.xyz": "together",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.moonshot.ai": "moonshotai",
    "openrouter.ai": "openrouter",
    "amazonaws.com": "bedrock",
}
"""The hosts of hosted models, and the names of their providers in pydantic-ai."""


def refine(error: EngineError) -> EngineError:
    """Return the more specific error that a refusal's message tells, or ``error`` itself."""
    message = str(error)
    if isinstance(error, EngineOverloaded):
        return EngineRejected(message) if _in_vain(error) else error
    if not isinstance(error, EngineRejected | EngineUnavailable):
        return error
    if (sizes := _sizes(message)) and sizes[0] >= sizes[1]:
        return ContextOverflow(tokens=sizes[0], limit=sizes[1])
    if isinstance(error, EngineUnavailable):
        # Some servers fail (500) where others refuse (400). The same request would fail again.
        return EngineRejected(message) if sizes else error
    if _NO_ROUTE.search(message):
        return EngineRejected(f"{message}: is the URL right? It usually ends with /v1")
    return error


def _in_vain(error: EngineOverloaded) -> bool:
    """Say whether it does not help to wait: there is no credit, or the request is larger than a minute's limit."""
    message = str(error)
    if match := _RATE.search(message):
        return int(match[2]) > int(match[1])
    # Gemini's API has the same words for the limits of a minute, with the time to come back.
    return bool(_NO_CREDIT.search(message)) and error.retry_after is None and not _SOON.search(message)


def room_left(error: EngineRejected) -> int | None:
    """Return how many tokens a completion may have, if the request was refused because it asked for more.

    A refusal such as "maximum context length is 4096 … 4000 in the messages" leaves room for 96.

    >>> room_left(EngineRejected("max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens"))
    64000
    """
    message = str(error)
    if match := _COMPLETION.search(message):
        count = int(next(group for group in match.groups() if group))
        return count - 1 if match["beyond"] else count
    sizes = _sizes(message)
    return sizes[1] - sizes[0] if sizes else None


def least_limit(error: EngineRejected) -> int | None:
    """Return the smallest limit of a completion, if the request was refused because it asked for a smaller one.

    >>> least_limit(EngineRejected(
    ...     "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 5 instead."
    ... ))
    16
    """
    match = _LEAST.search(str(error))
    return int(match[1]) if match else None


def refused_field(error: EngineRejected, body: Mapping[str, object]) -> tuple[str, str | None] | None:
    """Return the field that the server refused and that the request can do without, and what to send instead, if any.

    >>> refused_field(EngineRejected("Unsupported parameter: 'max_tokens' is not supported"), {"max_tokens": 9})
    ('max_tokens', 'max_completion_tokens')
    >>> refused_field(EngineRejected("Unsupported value: 'temperature' does not support 0.6"), {"temperature": 0.6})
    ('temperature', None)
    """
    message = str(error)
    if not _REFUSES.search(message):
        return None
    places = {
        name: match.start()
        for name in (*_OPTIONAL, *_LIMITS)
        if body.get(name) is not None and (match := re.search(rf"(?<![\w-]){name}(?![\w-])", message))
    }
    if not places:
        return None
    # Where two cannot be combined, temperature is the one to keep. Otherwise the first is the one that is refused.
    field = "top_p" if "top_p" in places and "both" in message else min(places, key=places.__getitem__)
    return field, _LIMITS.get(field)


def with_hint(error: EngineError, url: str, body: Mapping[str, object]) -> EngineError:
    """Add what helps to a refusal: the engine for hosted models, or the setting for servers without schemas.

    >>> error = EngineRejected("This response_format type is unavailable now")
    >>> str(with_hint(error, "http://127.0.0.1:8000/v1", {"response_format": {"type": "json_schema"}})).splitlines()[0]
    'This response_format type is unavailable now'
    """
    host = httpx2.URL(url).host
    provider = next((name for end, name in _HOSTED.items() if host == end or host.endswith(f".{end}")), None)
    if type(error) is not EngineRejected or _NO_ACCESS.search(str(error)):
        return error
    if provider is not None:
        return EngineRejected(
            f"{error}\n{host} is a hosted API, and its parameters are not those of the servers that OpenAIEngine "
            f"knows. PydanticAIEngine knows them: from sprint_integrations.pydantic_ai import PydanticAIEngine; "
            f"PydanticAIEngine('{provider}:…'); pip install 'sprint-agents[pydantic-ai]'"
        )
    if body.get("response_format") is not None and _NO_SCHEMA.search(str(error)):
        return EngineRejected(
            f"{error}\nThe server refuses the JSON schema that was sent as response_format. If it supports none, use "
            "OpenAIEngine(…, server=Server(schemas='none')), from sprint_agents.engines.openai: the model reads an "
            "example instead, and what it writes is validated. If it supports any kind of JSON, use strict=False"
        )
    return error


def _sizes(message: str) -> tuple[int, int] | None:
    """Return the numbers of tokens in the prompt and in the whole context, if a refusal names both."""
    if match := _BOTH.search(message):
        prompt, limit = (int(group) for group in match.groups() if group)
        return prompt, limit
    if match := _BOTH_REVERSED.search(message):
        limit, prompt = (int(group) for group in match.groups() if group)
        return prompt, limit
    limit, prompt = _LIMIT.search(message), _PROMPT.search(message)
    return (int(prompt["before"] or prompt["after"]), int(limit["count"])) if limit and prompt else None
