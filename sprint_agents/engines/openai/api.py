"""What the two kinds of requests share: what a body says of sampling, limits and stops."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from sprint_agents.engine import Request, Sampling
from sprint_agents.errors import ConfigurationError, InvalidRequest

from .frames import Reader
from .schema import parsed, strict
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
    """Which model of what kind of server, and what the caller adds to each request (None leaves a field out)."""

    model: str
    server: Server
    extra: Mapping[str, JsonValue]

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
            "response_format": self._format(request.schema),
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

    def _format(self, schema: str | None) -> JsonValue:
        if schema is None:
            return None
        if self.server.schemas == "none":
            raise ConfigurationError("this server takes no JSON schema: ask the engine whether it Constrains")
        content: JsonValue = parsed(schema)
        if self.server.schemas == "strict" and (content := strict(content)) is None:
            return {"type": "json_object"}  # JSON at least; whoever asked validates it anyway
        return {"type": "json_schema", "json_schema": {"name": "completion", "schema": content, "strict": True}}


def check(request: Request, ids: list[int]) -> None:
    """Refuse what no server may be asked.

    Raises:
        InvalidRequest: an empty context or a negative limit.
    """
    if not ids:
        raise InvalidRequest("the context is empty: a model needs something to begin with")
    if request.max_tokens < 0:
        raise InvalidRequest(f"max_tokens is {request.max_tokens}: it cannot be negative")
