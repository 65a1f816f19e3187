"""What each kind of OpenAI-compatible server supports, as data, and the body of a request to it.

Sources: OpenAI's API reference (chat completions); the request models of vLLM (``entrypoints/openai``), SGLang 0.5.23
(``entrypoints/openai/protocol.py``) and Ollama (``openai/openai.go``); the README of llama.cpp's server.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import httpx2
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from sprint_agents.engine import Request, Sampling
from sprint_agents.engines.schemas import JsonSchema, parse_schema, portable_schema
from sprint_agents.errors import ConfigurationError

from .events import AnswerReader
from .schema import NotStrict, make_strict, merge_choices

Body = dict[str, JsonValue]

ServerName = Literal["openai", "openai-reasoning", "vllm", "sglang", "llama.cpp", "ollama", "other"]
"""The kinds of servers that the engine knows."""


Setting = Literal["min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias"]
"""A setting of ``Sampling`` that not every server supports."""

_OPENAI_SETTINGS: Mapping[Setting, str] = {
    name: name for name in ("presence_penalty", "frequency_penalty", "logit_bias")
}
_ALL_SETTINGS: Mapping[Setting, str] = {
    **_OPENAI_SETTINGS,
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
}


class Server(BaseModel):
    """One kind of server.

    Attributes:
        limit: the field that limits the new tokens. A server ignores or refuses the field that it does not know.
        most_stops: how many stop texts it accepts; None means any number. The engine looks for the others itself.
        tells_stop: whether it says which stop text ended a completion.
        top_k_off: the value of ``top_k`` that keeps all tokens; None if the server does not support ``top_k``.
        settings: its fields for the further settings of ``Sampling`` that it supports, by the name of the setting.
        logprobs: whether it returns log-probabilities.
        schemas: which JSON schemas it accepts: any, those of OpenAI's strict mode (for others the engine asks for JSON
            of any kind), or none.
        schemas_beside_tools: whether a schema applies only to text in a completion that may call tools instead. Other
            servers apply it to everything that the model writes, including calls.
        alternates: whether the model's chat template requires user and assistant to take turns, as Mistral's and
            Gemma's do. Neighbouring turns of one speaker are then sent as one.
        continues: the fields that make it continue a message of the assistant; None if it cannot.
        token_ids: whether ``/completions`` accepts and returns token ids.
        any_model: whether it answers under any name of a model. The engine then compares the name with ``/models``.
        slots: whether it has llama.cpp's slots. The prefix of a fan-out is then computed in one of them and copied to
            the others, if the server was started with ``--slot-save-path``.
        whole: whether it ends a request whose connection is closed also where the answer is not streamed. Completions
            that nobody reads before their end are then requested whole, which costs the client much less.
        fields: sent with every request; None leaves out a field that would be sent otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    most_stops: int | None = Field(default=4, ge=0)
    tells_stop: bool = False
    top_k_off: int | None = None
    settings: Mapping[Setting, str] = _OPENAI_SETTINGS
    logprobs: bool = False
    schemas: Literal["any", "strict", "none"] = "strict"
    schemas_beside_tools: bool = False
    alternates: bool = False
    continues: Mapping[str, JsonValue] | None = None
    token_ids: bool = False
    any_model: bool = False
    slots: bool = False
    whole: bool = False
    fields: Mapping[str, JsonValue] = {}


# Sent explicitly, because the defaults come from the checkpoint or differ between servers.
_PLAIN_SAMPLING: dict[str, JsonValue] = {
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
}

SERVERS: Mapping[ServerName, Server] = {
    "other": Server(),
    "openai": Server(limit="max_completion_tokens", logprobs=True, schemas_beside_tools=True),
    # Reasoning models refuse these two fields, all further settings, and all stop texts.
    "openai-reasoning": Server(
        limit="max_completion_tokens",
        most_stops=0,
        settings={},
        schemas_beside_tools=True,
        fields={"temperature": None, "top_p": None},
    ),
    "vllm": Server(
        most_stops=None,
        tells_stop=True,
        top_k_off=-1,
        settings=_ALL_SETTINGS,
        logprobs=True,
        schemas="any",
        continues={"continue_final_message": True, "add_generation_prompt": False},
        token_ids=True,
        whole=True,
        fields=_PLAIN_SAMPLING | {"include_stop_str_in_output": True},
    ),
    "sglang": Server(
        most_stops=None,
        tells_stop=True,
        top_k_off=-1,
        settings=_ALL_SETTINGS,
        logprobs=True,
        schemas="any",
        continues={"continue_final_message": True},
        token_ids=True,
        any_model=True,
        whole=True,
        fields=_PLAIN_SAMPLING | {"no_stop_trim": True},
    ),
    # It continues a last message of the assistant without being asked.
    "llama.cpp": Server(
        most_stops=None,
        top_k_off=0,
        settings={**_ALL_SETTINGS, "repetition_penalty": "repeat_penalty"},
        logprobs=True,
        schemas="any",
        continues={},
        any_model=True,
        slots=True,
        whole=True,
        fields={"min_p": 0.0, "repeat_penalty": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0},
    ),
    # It ignores a bias. Log-probabilities came with 0.12.11.
    "ollama": Server(
        most_stops=None,
        settings={name: name for name in ("presence_penalty", "frequency_penalty")},
        logprobs=True,
        schemas="any",
    ),
}
"""The settings for each kind of server."""


def server_of(server: Server | ServerName | None, url: str) -> Server:
    """Return the kind of a server by its name. Without a name, OpenAI's own servers are recognised by their host.

    Raises:
        ConfigurationError: there is no kind of that name.
    """
    if isinstance(server, Server):
        return server
    if server is None:
        host = httpx2.URL(url).host
        server = "openai" if host == "api.openai.com" or host.endswith(".openai.azure.com") else "other"
    if server not in SERVERS:
        raise ConfigurationError(f"there is no kind of server {server!r}: use one of {', '.join(SERVERS)}, or a Server")
    return SERVERS[server]


@dataclass(frozen=True, slots=True)
class Target:
    """A model on a kind of server, and the fields that the caller adds to each request (None leaves a field out).

    ``strict`` is about servers that only know OpenAI's strict form of schemas: True insists on it, None falls back to
    schemas that are not enforced, and False never uses it.
    """

    model: str
    server: Server
    extra: Mapping[str, JsonValue]
    strict: bool | None = None

    def body(self, request: Request, fields: Body, *, stops_itself: bool = True) -> Body:
        """Write the body of a request; ``fields`` are those of one API.

        The answer may come whole only if the server itself stops at each stop, otherwise it is streamed.

        Raises:
            ConfigurationError: the server cannot sample or constrain as asked.
        """
        whole = request.whole and self.server.whole and stops_itself
        body: Body = {
            "model": self.model,
            **fields,
            "stream": not whole,
            "stream_options": None if whole else {"include_usage": True},
            self.server.limit: request.max_tokens,
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            "seed": request.sampling.seed,
            "top_k": self._top_k(request.sampling),
            "response_format": self.format_of(request.schema),
            **self.server.fields,
            **self._settings(request.sampling),
            **self.extra,
        }
        return {name: value for name, value in body.items() if value is not None}

    def _top_k(self, sampling: Sampling) -> int | None:
        if sampling.top_k is None:
            return self.server.top_k_off
        if self.server.top_k_off is None and "top_k" not in self.extra:
            raise ConfigurationError(
                f"this server is not known to support top_k, which is {sampling.top_k}: leave it out of Sampling, or "
                "name the kind of server with server=…"
            )
        return sampling.top_k

    def _settings(self, sampling: Sampling) -> Body:
        """Return the further settings, by the names of the server's fields."""
        found: Body = {}
        for name, value in sampling.optional.items():
            if name == "top_k":
                continue
            field = self.server.settings.get(cast("Setting", name))
            if field is None and name not in self.extra:
                raise ConfigurationError(
                    f"this server is not known to support {name}, which is {value}: leave it out of Sampling, or name "
                    "the kind of server with server=…"
                )
            found[field or name] = (
                {str(token): bias for token, bias in value.items()} if name == "logit_bias" else value
            )
        return found

    def asks_logprobs(self, sampling: Sampling) -> bool:
        """Say whether log-probabilities are asked for.

        Raises:
            ConfigurationError: they are, and the server is not known to return them.
        """
        if sampling.logprobs is not None and not self.server.logprobs:
            raise ConfigurationError(
                f"Sampling(logprobs={sampling.logprobs}) asks for log-probabilities, which this server is not known to "
                "return: leave it out, or name the kind of server with server=…"
            )
        return sampling.logprobs is not None

    def format_of(self, schema: str | None) -> JsonValue:
        """Write the ``response_format`` that holds a completion to a schema, as far as the server supports it.

        Raises:
            ConfigurationError: the server takes no schemas, or ``strict`` is True and strict mode cannot express it.
            InvalidRequest: it is not a schema.
        """
        if schema is None:
            return None
        if self.server.schemas == "none":
            raise ConfigurationError(
                "this server takes no JSON schema: ask only where Engine.capabilities.schemas is True"
            )
        content, held = self.express(schema, what="a completion")
        if content.get("type") != "object" and not held:
            return {"type": "json_object"}  # JSON at least; the caller validates it anyway
        return {"type": "json_schema", "json_schema": {"name": "completion", "schema": content, "strict": held}}

    def express(self, text: str, *, what: str) -> tuple[JsonSchema, bool]:
        """Return a schema, given as text, in the form for this server, and whether the server enforces it.

        Raises:
            ConfigurationError: strict mode cannot express it, and ``strict`` is True.
            InvalidRequest: it is not a JSON object.
        """
        if self.server.schemas != "strict":
            return parse_schema(portable_schema(text)), True
        schema = parse_schema(text)
        if self.strict is not False:
            try:
                return make_strict(schema), True
            except NotStrict as error:
                if self.strict:
                    raise ConfigurationError(
                        f"strict=True, and strict mode cannot express the schema of {what}: {error}. Declare its "
                        "fields in a pydantic model or dataclass instead of dict, tuple or Any, or leave out strict="
                    ) from error
        return merge_choices(schema), False


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request in the server's form, and a factory for the reader of its answer: every attempt needs a new one."""

    body: Body
    prompt_tokens: int
    reader: Callable[[], AnswerReader]
