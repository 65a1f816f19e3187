"""The protocol that a model server must meet: token ids in, token ids out.

What every engine promises (``sprint_agents.testing.contract`` has a test for each):

- The ids of a completion are the model's own, in order, the stop token included; ``text`` is their text,
  never trimmed at a stop. Concatenated chunks are the completion; the last chunk, and only it, has ``finish``.
- ``max_tokens=0`` computes the context into the cache and ends with reason ``length``.
- Closing the iterator early, or cancelling the task that reads it, aborts the request at the server.
- Concurrent requests are independent; shared prefixes are computed once where the engine can.
- Engines hold no event loop: they work from whichever loop calls them.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from .context import Context
from .errors import SprintError
from .manifest import Manifest

if TYPE_CHECKING:
    from .dialects.conversation import ChatTurns
    from .dialects.prompts import ToolBrief


class Sampling(BaseModel):
    """How the next token is drawn. Always sent in full: servers' defaults differ.

    ``temperature`` 0 is greedy. ``top_k`` None and ``top_p`` 1 keep all tokens. With a ``seed`` an engine that
    supports it (``LocalEngine``) draws the same tokens for the same request whatever runs beside it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    temperature: float = Field(default=0.6, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1)
    seed: int | None = None

    @classmethod
    def of(cls, manifest: Manifest | None) -> Self:
        """Take the settings that a checkpoint was trained for, or the defaults."""
        return cls(temperature=manifest.temperature, top_p=manifest.top_p) if manifest else cls()


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """One completion to compute.

    ``id`` is unique among all requests of a server, and no id is a prefix of another (servers abort by prefix).
    A completion ends after ``max_tokens`` tokens, after a token of ``stop_ids`` or the model's own end token, or when
    its text contains one of ``stop_texts``. ``schema`` is a JSON schema, as text, that the completion must satisfy; the
    engine needs ``Capabilities.schemas`` for it. ``tools`` are the tools of the run, which the completion may call if
    ``may_call``; the engine needs ``Capabilities.native_tools`` for them.
    """

    id: str
    context: Context
    max_tokens: int
    sampling: Sampling
    stop_ids: frozenset[int] = frozenset()
    stop_texts: tuple[str, ...] = ()
    schema: str | None = None
    tools: tuple["ToolBrief", ...] = ()
    may_call: bool = False


@dataclass(slots=True)
class Finish:
    """Why and at what cost a completion ended; all counts are tokens.

    ``matched`` is the stop id or stop text that ended it; for the model's own end token, that id.
    ``cached_tokens`` of the ``prompt_tokens`` were read from the cache, the others were computed.
    ``generated_tokens`` is the server's own count where the engine's ids are no tokens; None: the ids count.
    """

    reason: Literal["stop", "length"]
    matched: int | str | None
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int | None = None


@dataclass(slots=True)
class Chunk:
    """The next tokens of a completion. ``text`` may lag ``ids`` while a character is incomplete.

    Not frozen, since an engine makes one for every token; never change one.

    ``tokens`` estimates how many they are where ids are no tokens, until ``Finish.generated_tokens`` says it.
    """

    ids: Sequence[int]
    text: str
    finish: Finish | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do besides streaming completions, as data that the runtime reads once per run.

    The defaults describe an engine that only streams completions, from a cache that its requests share at once.

    Attributes:
        chat: how the turns of a conversation are marked in a context; None for a model that knows no conversations.
        chat_error: why ``chat`` cannot be found, such as a chat template that rewrites earlier turns. It is raised
            only when a conversation is needed: a model that was trained on tags works without one.
        schemas: whether the engine can hold a completion to a JSON schema (``Request.schema``). Some schemas may still
            be out of its reach: ``Engine.check_schema`` tells before a run begins.
        caches_running: whether a request finds in the cache what another request, still running, has generated so
            far. If not, the runtime sends a request for no tokens (``max_tokens=0``) to compute what branches share
            before it starts them.

    >>> Capabilities(schemas=True)
    Capabilities(chat=None, chat_error=None, schemas=True, caches_running=True)
    """

    chat: "ChatTurns | None" = None
    chat_error: SprintError | None = None
    schemas: bool = False
    caches_running: bool = True

    @property
    def native_tools(self) -> bool:
        """Whether tools are called in the server's own way (``Request.tools``); otherwise the model writes JSON."""
        return self.chat is not None and self.chat.calls is not None


@runtime_checkable
class Engine(Protocol):
    """A model server, in process or remote. Use it as an async context manager, or call ``aclose``.

    A class of your own may inherit from it for the defaults, or have the same members.
    """

    @property
    def name(self) -> str:
        """Return a short name for messages and records, such as ``local:sprint-nano``."""
        ...

    @property
    def manifest(self) -> Manifest | None:
        """Return what ``sprint.json`` beside the weights says; None if there is no such file."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """Return what the engine can do; an engine that must ask its server first returns what it knows so far."""
        ...

    def check_schema(self, schema: str, *, what: str) -> None:
        """Raise if the engine cannot hold a completion to ``schema``, which is JSON text; by default it always can.

        The runtime calls it before anything is sent, and only if ``capabilities.schemas``. ``what`` names what the
        schema describes, for the message: ``"a plan"``.

        Raises:
            ConfigurationError: the engine cannot; the message says what to change.
        """
        return

    async def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``, special tokens recognised, none added."""
        ...

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, special tokens shown."""
        ...

    def complete(self, request: Request) -> AsyncIterator[Chunk]:
        """Stream the completion of ``request``; an async generator that must be closed.

        Raises:
            InvalidRequest: ids outside the vocabulary, or an id in use.
            EngineError: see the tree in ``errors``.
        """
        ...

    async def abort(self, request_id: str) -> None:
        """End a request of this engine at the server; unknown and finished ids are ignored."""
        ...

    async def aclose(self) -> None:
        """Abort everything and release the engine's resources; safe to call twice."""
        ...
