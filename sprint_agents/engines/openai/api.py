"""What the two kinds of requests share: what a body says of sampling, limits and stops."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from sprint_agents.engine import Request, Sampling
from sprint_agents.errors import ConfigurationError, InvalidRequest

from .frames import Reader
from .schema import NotStrict, Schema, merged, parsed, strict
from .server import Server

Body = dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it is sent, and what reads the answer; every attempt has a reader of its own."""

    body: Body
    prompt_tokens: int
    reader: Callable[[], Reader]


class Api(Protocol):
    """One of the server's two ways to complete a context."""

    @property
    def path(self) -> str:
        """Where requests go, below the base URL."""
        ...

    async def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``."""
        ...

    async def decode(self, ids: list[int]) -> str:
        """Return the text of ``ids``."""
        ...

    def call(self, request: Request) -> Call:
        """Write a request as the server expects it.

        Raises:
            InvalidRequest: what it asks for cannot be sent.
            ConfigurationError: this kind of server cannot do it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """Which model of what kind of server, and what the caller adds to each request (None leaves a field out).

    ``strict`` says whether schemas go out in OpenAI's strict form, where the server knows only that: True insists, None
    does without where it cannot be had.
    """

    model: str
    server: Server
    extra: Mapping[str, JsonValue]
    strict: bool | None = None

    def body(self, request: Request, fields: Body) -> Body:
        """Write the body of a request, ``fields`` being the API's own.

        Raises:
            ConfigurationError: the server cannot sample or constrain as asked.
        """
        body: Body = {
            "model": self.model,
            **fields,
            "stream": True,
            "stream_options": {"include_usage": True},
            self.server.limit: request.max_tokens,
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            "seed": request.sampling.seed,
            "top_k": self._top_k(request.sampling),
            "response_format": self.format_of(request.schema),
            **self.server.fields,
            **self.extra,
        }
        return {name: value for name, value in body.items() if value is not None}

    def _top_k(self, sampling: Sampling) -> int | None:
        if sampling.top_k is None:
            return self.server.top_k_off
        if self.server.top_k_off is None and "top_k" not in self.extra:
            raise ConfigurationError(
                f"this server is not known to take top_k, which is {sampling.top_k}: leave it out of Sampling, or name "
                "the kind of server by server=…"
            )
        return sampling.top_k

    def format_of(self, schema: str | None) -> JsonValue:
        """Write the ``response_format`` that holds a completion to a schema, as far as the server can.

        Raises:
            ConfigurationError: the server takes none, or strict mode has no words for it and ``strict`` is True.
            InvalidRequest: it is no schema.
        """
        if schema is None:
            return None
        if self.server.schemas == "none":
            raise ConfigurationError(
                "this server takes no JSON schema: ask only where Engine.capabilities.schemas is True"
            )
        content, held = self.told(parsed(schema), what="a completion")
        if content.get("type") != "object" and not held:
            return {"type": "json_object"}  # JSON at least; whoever asked validates it anyway
        return {"type": "json_schema", "json_schema": {"name": "completion", "schema": content, "strict": held}}

    def told(self, schema: Schema, *, what: str) -> tuple[Schema, bool]:
        """Return a schema as this server is told of it, and whether it is held to it.

        Raises:
            ConfigurationError: strict mode has no words for it, and ``strict`` is True.
        """
        if self.server.schemas != "strict":
            return schema, True
        if self.strict is not False:
            try:
                return strict(schema), True
            except NotStrict as error:
                if self.strict:
                    raise ConfigurationError(
                        f"strict=True, and strict mode has no words for the schema of {what}: {error}. Declare its "
                        "fields in a pydantic model or dataclass instead of dict, tuple or Any, or leave out strict="
                    ) from error
        return merged(schema), False


def check(request: Request, ids: list[int]) -> None:
    """Refuse what no server may be asked.

    Raises:
        InvalidRequest: an empty context or a negative limit.
    """
    if not ids:
        raise InvalidRequest("the context is empty: a model needs something to begin with")
    if request.max_tokens < 0:
        raise InvalidRequest(f"max_tokens is {request.max_tokens}: it cannot be negative")
