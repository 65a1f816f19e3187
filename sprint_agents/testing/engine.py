"""An engine with scripted completions, for tests of policies, agents and runtimes without a model.

Invariants:

- The trie contains everything that was computed: a context after its prefill, generated tokens when they are sent.
- A request ends once. Whatever ends it first (its last chunk, a fault, ``abort``, its reader) decides its outcome.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from inspect import isawaitable
from typing import Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field

from sprint_agents.arguments import at_least, checked
from sprint_agents.dialects.conversation import marks_in
from sprint_agents.dialects.json.dialect import PLAIN_TURNS
from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.engine import Capabilities, Chunk, Engine, Finish, Request, check_logprobs
from sprint_agents.errors import (
    ConfigurationError,
    ContextOverflow,
    EngineProtocolError,
    EngineUnavailable,
    InvalidRequest,
)
from sprint_agents.manifest import Manifest

from .account import Account, LiveRequest, Outcome, RequestLog, RequestRecord
from .replies import Fault, Prompt, Replies, Reply, ScriptedCompletion, cut, responder
from .tokenizer import END_ID, WordTokenizer
from .trie import TokenTrie, TrieNode

T = TypeVar("T")


class Latency(BaseModel):
    """The durations of simulated work, in seconds of the event loop's clock.

    ``request`` passes before the prefill begins, ``prompt_token`` for each prompt token that is not in the cache, and
    ``token`` for each generated token.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: float = Field(default=0.0, ge=0)
    prompt_token: float = Field(default=0.0, ge=0)
    token: float = Field(default=0.0, ge=0)


@checked
class FakeEngine(Engine):
    """An ``Engine`` that completes requests from scripted ``replies``.

    ``replies`` is one of these, and they nest:

    - a text or a ``Reply`` answers every request;
    - a sequence answers in order of arrival, and each item is used once;
    - a mapping answers with the value whose key occurs last in the context, or with that of ``""`` if no key occurs;
    - a function maps a ``Prompt`` to a text or a ``Reply``; it may be async.

    A completion that meets no stop of its request ends with the engine's own end token. Its text is ``end_text``, empty
    by default; many models have a visible one, such as ``<|im_end|>``.

    Without ``latency`` a completion arrives as one chunk, otherwise token by token; ``chunk_tokens`` changes that.
    ``faults`` happen to the requests with these numbers, from 1 in order of arrival, whatever their replies. Contexts
    must be shorter than ``context_limit`` tokens, and completions end when they reach it. With other ``capabilities``
    than the default, your replies have to satisfy the schemas of the requests. A request that continues a completion
    gets the rest of its reply, and the script is not asked again. Use it from one event loop at a time.

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
        at_least(1, chunk_tokens=chunk_tokens, context_limit=context_limit)
        self._respond = responder(replies)
        self._latency = latency or Latency()
        self._chunk_tokens = chunk_tokens or (1 if self._latency.token else None)
        self._faults = dict(faults or {})
        self._context_limit = context_limit
        self._manifest = manifest
        self._capabilities = capabilities or Capabilities(continues=True, logprobs=True)
        tags = load_tags(manifest.dialect_version) if manifest else load_tags()
        turns = self._capabilities.chat or PLAIN_TURNS
        marks = marks_in([*turns.opens.values(), *turns.closes.values()])
        self._tokenizer = WordTokenizer(special=(*tags.special_tokens, *marks), end=end_text)
        self._trie = TokenTrie(self._tokenizer.own_text)
        # The replies of completions that reached their limit, by the id of their first request.
        self._unfinished: dict[str, tuple[Reply, Sequence[int]]] = {}
        self._log = RequestLog()
        self._aborts: list[str] = []
        self._closed = False

    @property
    def name(self) -> str:
        """``fake``."""
        return "fake"

    @property
    def manifest(self) -> Manifest | None:
        """The manifest that was given to the constructor."""
        return self._manifest

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities that were given to the constructor."""
        return self._capabilities

    @property
    def end_id(self) -> int:
        """The id of the end token, which ends a completion that met no stop of its request."""
        return END_ID

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """A record of every request, in order of arrival."""
        return tuple(live.record() for live in self._log.requests)

    @property
    def aborts(self) -> tuple[str, ...]:
        """The ids that ``abort`` was called with, in order, unknown ones included."""
        return tuple(self._aborts)

    def account(self) -> Account:
        """Count all requests so far."""
        return self._log.account()

    async def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``: parts of tags in markup, words, runs of white space, other characters."""
        return self._tokenizer.encode(text)

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``.

        Raises:
            InvalidRequest: an id is not that of a token.

        """
        return self._tokenizer.decode(ids)

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Stream the scripted completion of ``request``.

        Raises:
            InvalidRequest: ids outside the vocabulary, an empty context, a negative limit, or an id in use.
            ConfigurationError: the request has a schema, or asks for log-probabilities, and ``capabilities`` has none.
            ContextOverflow: the context leaves no room under ``context_limit``.
            EngineUnavailable: the engine is closed, or the request was aborted.
            EngineRejected: the script has no reply for the request.
            EngineError: the error of a fault.

        """
        live = self._admit(request)
        try:
            completion, reply, fault = await self._plan(live)
            logprobs = completion.logprobs(request, reply, tokenizer=self._tokenizer)
            first, node = await self._prefill(live, reply.delay)
            total = len(completion.ids)
            end = total if fault is None else min(fault.after, total)
            size = self._chunk_tokens or max(end, 1)
            sent = 0
            while fault is None or sent < end:
                stop = min(sent + size, end)
                if self._latency.token:
                    await self._until(live, first + stop * self._latency.token)
                self._check_running(live)
                ids = completion.ids[sent:stop]
                node = node.extend(ids)
                live.generated_tokens = sent = stop
                finish = self._finish(live, completion) if fault is None and sent == total else None
                yield Chunk(ids, self._tokenizer.decode(ids), finish, logprobs=logprobs[stop - len(ids) : stop])
                if finish is not None:
                    return
            await self._fail(live, fault)
        except (asyncio.CancelledError, GeneratorExit):
            self._close(live, "aborted")
            raise
        except BaseException:
            self._close(live, "failed")
            raise

    async def abort(self, request_id: str) -> None:
        """End a running request, whose reader gets EngineUnavailable. Other ids are only recorded in ``aborts``."""
        self._aborts.append(request_id)
        if live := self._log.running.get(request_id):
            self._abort(live)

    async def aclose(self) -> None:
        """Abort all running requests, and refuse new ones. Safe to call twice."""
        self._closed = True
        for live in list(self._log.running.values()):
            self._abort(live)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def _admit(self, request: Request) -> LiveRequest:
        if self._closed:
            raise EngineUnavailable("the fake engine is closed: make a new one for further requests")
        if request.id in self._log.running:
            raise InvalidRequest(f"request id {request.id!r} is in use: give every request its own id")
        if request.max_tokens < 0:
            raise InvalidRequest(f"max_tokens is {request.max_tokens}: it must be 0 (compute the context only) or more")
        if not len(request.context):
            raise InvalidRequest("the context is empty: a model needs at least one token to continue from")
        if request.schema is not None and not self.capabilities.schemas:
            raise ConfigurationError(
                "the request has a JSON schema, and this engine holds no completion to one: ask only where "
                "Engine.capabilities.schemas is True, or make a FakeEngine(…, capabilities=Capabilities(schemas=True)) "
                "with replies that satisfy the schema"
            )
        check_logprobs(self, request.sampling)
        return self._log.open(request, now=asyncio.get_running_loop().time())

    async def _plan(self, live: LiveRequest) -> tuple[ScriptedCompletion, Reply, Fault | None]:
        """Choose the completion of a request, from which reply it is, and its fault."""
        request = live.request
        prompt_tokens = len(request.context)
        max_tokens = request.max_tokens
        if (limit := self._context_limit) is not None:
            if (needed := prompt_tokens + min(max_tokens, 1)) > limit:
                raise ContextOverflow(tokens=needed, limit=limit)
            max_tokens = min(max_tokens, limit - prompt_tokens)
        first = request.continues or request
        if (unfinished := self._unfinished.pop(first.id, None)) is not None and request.continues is not None:
            (reply, ids), fault = unfinished, self._faults.get(live.number)
        else:
            reply = await self._reply(live, first) if max_tokens else Reply("")
            fault = self._faults.get(live.number, reply.fault)
            ids = self._tokenizer.encode_markup(reply.text)
            if fault is not None and fault.kind == "garbage":
                ids = [*ids[: fault.after], *self._tokenizer.encode_markup(fault.noise())]
                fault = None
        completion = cut(ids, request, max_tokens=max_tokens, tokenizer=self._tokenizer)
        if completion.reason == "length" and max_tokens:
            self._unfinished[first.id] = replace(reply, delay=0.0), ids
        return completion, reply, fault

    async def _reply(self, live: LiveRequest, first: Request) -> Reply:
        """Ask the script, which sees the ``first`` request of a completion."""
        prompt = Prompt(first, number=live.number, tokenizer=self._tokenizer)
        answer = cast("object", self._respond(prompt))
        if not isinstance(answer, str | Reply) and isawaitable(answer):
            answer = await self._wait(live, asyncio.ensure_future(answer))
        if isinstance(answer, Reply):
            return answer
        if isinstance(answer, str):
            return Reply(answer)
        raise EngineProtocolError(f"the reply to request {live.number} is {answer!r}: it must be a str or a Reply")

    async def _prefill(self, live: LiveRequest, delay: float) -> tuple[float, TrieNode]:
        """Compute the context; return when that was finished, and the context's node in the trie."""
        context, latency = live.request.context, self._latency
        begin = live.started + delay + latency.request
        if begin > live.started:
            await self._until(live, begin)
        if latency.prompt_token:
            live.cached_tokens = self._trie.find(context)
            begin += (len(context) - live.cached_tokens) * latency.prompt_token
            await self._until(live, begin)
            return begin, self._trie.insert(context)[0]
        node, live.cached_tokens = self._trie.insert(context)
        # Let other requests run before the first token even without latency, as on any server.
        await asyncio.sleep(0)
        self._check_running(live)
        return begin, node

    async def _fail(self, live: LiveRequest, fault: Fault) -> None:
        if fault.cause is not None:
            raise fault.cause.with_traceback(None)
        if fault.kind == "error":
            raise EngineUnavailable(f"the connection was lost after {live.generated_tokens} tokens, as the script says")
        await self._wait(live, asyncio.get_running_loop().create_future())

    async def _until(self, live: LiveRequest, when: float) -> None:
        """Wait until ``when``."""
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
        """Wait for ``future``, which is cancelled if the request ends."""
        live.waits_for = future
        try:
            result = await future
        except asyncio.CancelledError:
            # ``abort`` cancelled the future, unless the reader itself is cancelled, which must be raised again.
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                self._check_running(live)
            raise
        finally:
            live.waits_for = None
        # The request may have been aborted after the future was done and before this task could run.
        self._check_running(live)
        return result

    def _check_running(self, live: LiveRequest) -> None:
        if live.outcome != "running":
            raise EngineUnavailable(
                f"request {live.request.id!r} was aborted: send it again under another id if needed"
            )

    def _finish(self, live: LiveRequest, completion: ScriptedCompletion) -> Finish:
        """Record the end of a completion. This comes before its last chunk, after which a reader may never return."""
        self._close(live, "finished")
        return Finish(completion.reason, completion.matched, len(live.request.context), live.cached_tokens)

    def _abort(self, live: LiveRequest) -> None:
        self._close(live, "aborted")
        if live.waits_for is not None:
            live.waits_for.cancel()

    def _close(self, live: LiveRequest, outcome: Outcome) -> None:
        self._log.close(live, outcome, now=asyncio.get_running_loop().time())


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
