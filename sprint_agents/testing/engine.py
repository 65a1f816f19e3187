"""An engine whose completions you write: for tests of policies, agents and runtimes, without a model.

Invariants:

- What was computed is in the trie: a context once its prefill is over, generated tokens as they are sent.
- A request that ended stays ended: whoever ends it first (its last chunk, a fault, ``abort``, its reader) decides
  how it is accounted for.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import lru_cache
from inspect import isawaitable
from typing import Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field

from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.engine import Capabilities, Chunk, Engine, Finish, Request
from sprint_agents.errors import (
    ConfigurationError,
    ContextOverflow,
    EngineProtocolError,
    EngineUnavailable,
    InvalidRequest,
)
from sprint_agents.manifest import Manifest

from .account import Account, Ledger, LiveRequest, Outcome, RequestRecord
from .completion import Completion, cut
from .replies import Fault, Prompt, Replies, Reply, responder
from .tokens import END_ID, WordTokenizer
from .trie import Node, TokenTrie

T = TypeVar("T")


class Latency(BaseModel):
    """How long simulated work takes, in seconds of the event loop's clock.

    ``request`` passes before the prefill begins, ``prompt_token`` per token that is not in the cache, ``token`` per
    generated token.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: float = Field(default=0.0, ge=0)
    prompt_token: float = Field(default=0.0, ge=0)
    token: float = Field(default=0.0, ge=0)


class FakeEngine(Engine):
    """An ``Engine`` that answers from ``replies``.

    ``replies`` is one of these, nested at will:

    - a text or a ``Reply``: the answer to every request;
    - a sequence: answers in order of arrival, each used once;
    - a mapping: the answer whose key occurs last in the context, ``""`` for where no other does;
    - a function from a ``Prompt`` to a text or ``Reply``, sync or async.

    A completion that meets no stop of its request ends with the engine's own end token, whose text is ``end_text``:
    none by default; many models have one that shows, such as ``<|im_end|>``.

    ``latency`` is none by default; then a completion comes as one chunk, else token by token, or ``chunk_tokens`` at
    a time. ``faults`` strike the requests of those numbers, from 1 by arrival, whatever the reply. Contexts must be
    shorter than ``context_limit`` tokens, and completions end there. ``capabilities`` are what it says of itself; its
    replies have to keep to the schemas themselves. Use from one event loop at a time.

    >>> from sprint_agents.context import Context
    >>> from sprint_agents.engine import Request, Sampling
    >>> from sprint_agents.testing import run_virtual
    >>> async def ask(engine: FakeEngine, text: str, *, max_tokens: int = 100) -> str:
    ...     context = Context().extend(await engine.encode(text), text)
    ...     request = Request(id=text, context=context, max_tokens=max_tokens, sampling=Sampling())
    ...     return "".join([chunk.text async for chunk in engine.complete(request)])
    >>> engine = FakeEngine({"2+2": "four", "3+3": [Reply("6", delay=60), "six"]})
    >>> run_virtual(ask(engine, "What is 2+2?")), run_virtual(ask(engine, "And 3+3?"))
    ('four', '6')
    >>> run_virtual(ask(FakeEngine(lambda prompt: prompt.text.upper()), "say it louder", max_tokens=2))
    'SAY IT'
    >>> [(record.id, record.outcome, record.started, record.ended) for record in engine.requests]
    [('What is 2+2?', 'finished', 0.0, 0.0), ('And 3+3?', 'finished', 0.0, 60.0)]
    """

    def __init__(
        self,
        replies: Replies,
        *,
        latency: Latency | None = None,
        chunk_tokens: int | None = None,
        faults: Mapping[int, Fault] | None = None,
        context_limit: int | None = None,
        end_text: str = "",
        manifest: Manifest | None = None,
        capabilities: Capabilities | None = None,
    ) -> None:
        if chunk_tokens is not None and chunk_tokens < 1:
            raise ConfigurationError(
                f"chunk_tokens is {chunk_tokens}: a chunk has at least one token; None for the default"
            )
        self._respond = responder(replies)
        self._latency = latency or Latency()
        self._chunk_tokens = chunk_tokens or (1 if self._latency.token else None)
        self._faults = dict(faults or {})
        self._context_limit = context_limit
        self._manifest = manifest
        self._capabilities = capabilities or Capabilities()
        tags = load_tags(manifest.dialect_version) if manifest else load_tags()
        self._tokenizer = WordTokenizer(special=tags.special_tokens, end=end_text)
        # Scripts repeat themselves.
        self._encode_reply = lru_cache(maxsize=256)(self._tokenizer.encode)
        self._trie = TokenTrie(self._tokenizer.check)
        self._ledger = Ledger()
        self._aborts: list[str] = []
        self._closed = False

    @property
    def name(self) -> str:
        """``fake``."""
        return "fake"

    @property
    def manifest(self) -> Manifest | None:
        """The manifest given to the constructor."""
        return self._manifest

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities given to the constructor."""
        return self._capabilities

    @property
    def end_id(self) -> int:
        """The id of the end token, the last of a completion that met no stop of its request."""
        return END_ID

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """A record of every request, in order of arrival."""
        return tuple(live.record() for live in self._ledger.requests)

    @property
    def aborts(self) -> tuple[str, ...]:
        """The ids given to ``abort``, in order, known or not."""
        return tuple(self._aborts)

    def account(self) -> Account:
        """Add up all requests so far."""
        return self._ledger.account()

    async def encode(self, text: str) -> list[int]:
        """Token ids of ``text``: tag parts, words with the space before them, runs of white space, other signs."""
        return self._tokenizer.encode(text)

    async def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``.

        Raises:
            InvalidRequest: an id that this engine never gave.

        """
        return self._tokenizer.decode(ids)

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Stream the scripted completion of ``request``.

        Raises:
            InvalidRequest: ids outside the vocabulary, an empty context, a negative limit, or an id in use.
            ConfigurationError: the request has a schema, and this engine does not constrain.
            ContextOverflow: the context leaves no room under ``context_limit``.
            EngineUnavailable: the engine is closed, or the request was aborted.
            EngineRejected: the script has no reply for it.
            EngineError: what a fault says.

        """
        live = self._admit(request)
        try:
            completion, fault, delay = await self._plan(live)
            first, node = await self._prefill(live, delay)
            total = len(completion.ids)
            end = total if fault is None else min(fault.after, total)
            size = self._chunk_tokens or max(end, 1)
            sent = 0
            while fault is None or sent < end:
                stop = min(sent + size, end)
                await self._until(live, first + stop * self._latency.token)
                ids = completion.ids[sent:stop]
                node = node.extend(ids)
                live.generated_tokens = sent = stop
                finish = self._finish(live, completion) if fault is None and sent == total else None
                yield Chunk(ids, self._tokenizer.text(ids), finish)
                if finish is not None:
                    return
            await self._strike(live, fault)
        except (asyncio.CancelledError, GeneratorExit):
            self._close(live, "aborted")
            raise
        except BaseException:
            self._close(live, "failed")
            raise

    async def abort(self, request_id: str) -> None:
        """End a running request: its reader gets EngineUnavailable. Other ids are only noted in ``aborts``."""
        self._aborts.append(request_id)
        if live := self._ledger.running.get(request_id):
            self._abort(live)

    async def aclose(self) -> None:
        """Abort everything that runs, and refuse what comes; safe to call twice."""
        self._closed = True
        for live in list(self._ledger.running.values()):
            self._abort(live)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def _admit(self, request: Request) -> LiveRequest:
        if self._closed:
            raise EngineUnavailable("the fake engine is closed: make a new one for requests that come later")
        if request.id in self._ledger.running:
            raise InvalidRequest(f"request id {request.id!r} is in use: give every request an id of its own")
        if request.max_tokens < 0:
            raise InvalidRequest(f"max_tokens is {request.max_tokens}: it must be 0 (compute the context only) or more")
        if not len(request.context):
            raise InvalidRequest("the context is empty: a model needs at least one token to go on from")
        if request.schema is not None and not self.capabilities.schemas:
            raise ConfigurationError(
                "the request has a JSON schema, and this engine holds no completion to one: ask only where "
                "Engine.capabilities.schemas is True, or make a FakeEngine(…, capabilities=Capabilities(schemas=True)) "
                "that replies as the schema wants"
            )
        return self._ledger.open(request, now=asyncio.get_running_loop().time())

    async def _plan(self, live: LiveRequest) -> tuple[Completion, Fault | None, float]:
        """Decide what the request will be sent, the fault that ends it, and the delay before anything happens."""
        request = live.request
        prompt_tokens = len(request.context)
        most = request.max_tokens
        if (limit := self._context_limit) is not None:
            if (needed := prompt_tokens + min(most, 1)) > limit:
                raise ContextOverflow(tokens=needed, limit=limit)
            most = min(most, limit - prompt_tokens)
        reply = await self._reply(live) if most else Reply("")
        fault = self._faults.get(live.number, reply.fault)
        ids = self._encode_reply(reply.text)
        if fault is not None and fault.kind == "garbage":
            ids = ids[: fault.after] + self._tokenizer.encode(fault.noise())
            fault = None
        return cut(ids, request, most=most, tokenizer=self._tokenizer), fault, reply.delay

    async def _reply(self, live: LiveRequest) -> Reply:
        prompt = Prompt(live.request, number=live.number, tokenizer=self._tokenizer)
        answer = cast("object", self._respond(prompt))
        if not isinstance(answer, str | Reply) and isawaitable(answer):
            answer = await self._wait(live, asyncio.ensure_future(answer))
        if isinstance(answer, Reply):
            return answer
        if isinstance(answer, str):
            return Reply(answer)
        raise EngineProtocolError(f"the reply to request {live.number} is {answer!r}: it must be a str or a Reply")

    async def _prefill(self, live: LiveRequest, delay: float) -> tuple[float, Node]:
        """Compute the context; return when that was done and the context's node in the trie."""
        context, latency = live.request.context, self._latency
        begin = live.started + delay + latency.request
        await self._until(live, begin)
        if latency.prompt_token:
            live.cached_tokens = self._trie.find(context)
            begin += (len(context) - live.cached_tokens) * latency.prompt_token
            await self._until(live, begin)
            return begin, self._trie.insert(context)[0]
        node, live.cached_tokens = self._trie.insert(context)
        # Even at no latency, other requests get to run before the first token, as on any server.
        await asyncio.sleep(0)
        self._check_running(live)
        return begin, node

    async def _strike(self, live: LiveRequest, fault: Fault) -> None:
        if fault.cause is not None:
            raise fault.cause.with_traceback(None)
        if fault.kind == "error":
            raise EngineUnavailable(f"the connection was lost after {live.generated_tokens} tokens, as the test asked")
        await self._wait(live, asyncio.get_running_loop().create_future())

    async def _until(self, live: LiveRequest, when: float) -> None:
        """Let the clock reach ``when``."""
        loop = asyncio.get_running_loop()
        if when <= loop.time():
            self._check_running(live)
            return
        reached = loop.create_future()
        timer = loop.call_at(when, _resolve, reached)
        try:
            await self._wait(live, reached)
        finally:
            timer.cancel()

    async def _wait(self, live: LiveRequest, future: asyncio.Future[T]) -> T:
        """Wait for ``future``, which dies with the request."""
        live.waits_for = future
        try:
            result = await future
        except asyncio.CancelledError:
            # Cancelled by ``abort``, unless the reader itself is being cancelled: that is never swallowed.
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                self._check_running(live)
            raise
        finally:
            live.waits_for = None
        # The request may have been aborted after the future was done, before this task got to run.
        self._check_running(live)
        return result

    def _check_running(self, live: LiveRequest) -> None:
        if live.outcome != "running":
            raise EngineUnavailable(
                f"request {live.request.id!r} was aborted: send it again under another id if needed"
            )

    def _finish(self, live: LiveRequest, completion: Completion) -> Finish:
        """Account for a whole completion; before its last chunk is handed out, since no reader must come back."""
        self._close(live, "finished")
        return Finish(completion.reason, completion.matched, len(live.request.context), live.cached_tokens)

    def _abort(self, live: LiveRequest) -> None:
        self._close(live, "aborted")
        if live.waits_for is not None:
            live.waits_for.cancel()

    def _close(self, live: LiveRequest, outcome: Outcome) -> None:
        self._ledger.close(live, outcome, now=asyncio.get_running_loop().time())


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
