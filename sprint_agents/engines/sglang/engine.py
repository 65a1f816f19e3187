"""``SGLangEngine``: an SGLang server over its native ``/generate``, token ids in, token ids out.

Invariants:

- No token is drawn twice. A request that was refused, or whose stream broke before its first token, is sent again. A
  stream that broke later is resumed by a new request, after the tokens that had arrived (``PartialCompletion``).
- A request whose stream is left before the server ended it is aborted at the server by its own id, before its
  connection closes (see ``Exchange``), also while the reading task is being cancelled. That takes at most
  ``abort_timeout``.
- Every attempt has its own id at the server, and no id is a prefix of another: SGLang aborts by prefix, and two seconds
  after a stream has ended it aborts its id once more, whatever runs under that id by then.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Self, cast

import httpx2
from pydantic import JsonValue

from sprint_agents.arguments import checked, more_than_zero
from sprint_agents.dialects.conversation import turns_of
from sprint_agents.engine import Capabilities, ChatTurns, Chunk, Request
from sprint_agents.engines.checkpoint import (
    ChatTemplate,
    CheckpointTokenizer,
    check_ids,
    digest_weights,
    turns_of_checkpoint,
    with_chat,
)
from sprint_agents.engines.event_stream import is_keepalive
from sprint_agents.engines.exchange import Exchange
from sprint_agents.engines.http import HttpClient
from sprint_agents.engines.remote import RemoteEngine, counted, first_chunk
from sprint_agents.errors import EngineError, EngineOverloaded, EngineRejected, EngineUnavailable
from sprint_agents.functions import despite_cancellation
from sprint_agents.logs import log
from sprint_agents.manifest import Manifest

from .attempt import Attempt, reader_of
from .batches import Batches, Body, Member
from .generate import DONE, GenerateReader, PartialCompletion, body_of, refine
from .model import ServedModel, ask_model
from .placement import Placement, check_extra, fields_of, headers_of, with_adapter
from .server_tokenizer import Renderings, ServerTokenizer
from .sessions import Sessions
from .thoughts import complete_after_thoughts, thinks_first

_CAPABILITIES = Capabilities(schemas=True, caches_running=False, caches_contexts=True, continues=True, logprobs=True)


@checked
class SGLangEngine(RemoteEngine[Attempt]):
    """An ``Engine`` on an SGLang server, or on SGLang's router in front of many servers.

    Inside ``async with``, connections are kept between requests, and the server is asked for its model on entry.
    Outside, every request opens its own connection.

    ``tokenizer`` is the checkpoint's directory on this machine: texts are then encoded there, otherwise by the server.
    Your own ``client`` brings its own proxies, certificates and limits; the engine does not close it.

    Seconds: ``connect_timeout`` for a connection, ``read_timeout`` for the longest silence before and between tokens,
    ``abort_timeout`` for an abort. A request that was refused or whose stream broke is sent again or, if tokens had
    arrived, resumed after them, until there has been no progress for ``patience`` seconds. So a run survives a restart
    of its server. If a server asks for a longer pause, the request fails at once. A server that has never answered
    gets one second.

    ``chat`` says how conversations mark turns, if that differs from the server's chat template, or from the template
    in the ``tokenizer`` directory.

    All requests of a run go to one data-parallel rank, and have one key for routers. ``headers`` are sent with each
    request, and the fields of ``extra`` with each ``/generate``: ``{"lora_path": "planner"}``. On a server with
    ``--enable-session-radix-cache``, each run is a session, which lasts until the run ends. If the client dies before,
    the server closes it ``session_timeout`` seconds after it was opened.

    A ``Sampling.seed`` is sent, but SGLang uses it only if started with ``--enable-deterministic-inference``. Its
    log-probabilities are after penalties, bias and schema, and after temperature too unless it was started with
    ``SGLANG_RETURN_ORIGINAL_LOGPROB=1``, as ``SGLangServer`` does.

    >>> SGLangEngine("http://127.0.0.1:30000").name
    'sglang:http://127.0.0.1:30000'
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        tokenizer: str | PathLike[str] | None = None,
        client: httpx2.AsyncClient | None = None,
        max_connections: int = 1024,
        connect_timeout: float = 5.0,
        read_timeout: float = 120.0,
        abort_timeout: float = 3.0,
        patience: float = 30.0,
        session_timeout: float = 3600.0,
        chat: ChatTemplate | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, JsonValue] | None = None,
    ) -> None:
        http = HttpClient(
            url,
            api_key=api_key,
            client=client,
            headers=headers,
            max_connections=max_connections,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
        )
        super().__init__(http, patience=patience)
        self._http = http
        more_than_zero(abort_timeout=abort_timeout, session_timeout=session_timeout)
        self._abort_timeout = abort_timeout
        self._extra = dict(extra or {})
        check_extra(self._extra)
        self._placement = Placement()
        self._sessions = Sessions(http, seconds=session_timeout, call_seconds=abort_timeout)
        self._batches = Batches(http, silence=read_timeout, abort=self._abort_quietly)
        self._directory = Path(tokenizer) if tokenizer is not None else None
        self._tokenizer: CheckpointTokenizer | ServerTokenizer
        self._tokenizer = CheckpointTokenizer(self._directory) if self._directory else ServerTokenizer(http)
        self._manifest = Manifest.load(self._directory) if self._directory else None
        self._chat = chat or ChatTemplate()
        self._renderings: Renderings | None = None
        self._model: ServedModel | None = None
        self._weights: str | None = None
        self._capabilities: Capabilities | None = None

    @property
    def name(self) -> str:
        """``sglang:`` and the model's name, or the URL until the server was asked."""
        return f"sglang:{self._model.name if self._model else self._http.url}"

    @property
    def capabilities(self) -> Capabilities:
        """Turns as the chat template marks them, once the server was asked; schemas by its grammar backend.

        SGLang's radix cache gets what a request reads with its first token, and what it generated when it ends. The
        weights are those of a server on this machine, and the name of the LoRA adapter.
        """
        if self._capabilities is None:
            page, remote = self._model.page_tokens if self._model else 1, self._directory is None
            weights = with_adapter(self._weights, self._extra)
            known = replace(_CAPABILITIES, page_tokens=page, asks_to_encode=remote, weights=weights)
            self._capabilities = with_chat(known, self._turns)
        return self._capabilities

    async def __aenter__(self) -> Self:
        """Keep connections from now on, and ask the server for its model.

        Raises:
            EngineError: the server is not ready.
        """
        await self._http.open()
        try:
            await self.model()
        except BaseException:
            await self._http.aclose()
            raise
        return self

    async def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``; control tokens are recognised in its markup, none are added."""
        return await self._retry(lambda: self._tokenizer.encode(text)) if text else []

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, special tokens shown.

        Raises:
            InvalidRequest: ids outside the vocabulary.
        """
        model = await self.model()
        check_ids(ids, size=model.vocabulary_size, model=model.name)
        return await self._retry(lambda: self._tokenizer.decode(ids)) if ids else ""

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Stream the completion of ``request``.

        It ends with reason ``length`` where the model's context ends, even before ``max_tokens``. If the stream broke
        and was resumed, or thoughts come before JSON of a schema, ``finish`` counts the last request alone.

        Raises:
            InvalidRequest: an empty context, ids outside the vocabulary, a negative limit, or an id in use.
            ContextOverflow: the context leaves no room for a token.
            EngineUnavailable: no connection, the server died, or ``abort`` ended the request.
            EngineError: see the tree in ``errors``.
        """
        chunks = complete_after_thoughts(request, self._complete) if thinks_first(request) else self._complete(request)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def end_run(self, run: str) -> None:
        """Let a server with ``--enable-session-radix-cache`` forget the run's tokens before those of running runs."""
        if self._model and self._in_session(self._model, run) and not self._http.closed:
            await self._sessions.close(run)

    async def _complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Stream a completion that the server computes as a whole."""
        model = await self.model()
        if self._in_session(model, request.hints.run):
            await self._sessions.open(request.hints.run)
        busy = (each.rank for each in self._running.values())
        rank = self._placement.rank(request.hints.run, ranks=model.ranks, busy=busy)
        running, partial_completion = Attempt(rank=rank), PartialCompletion(request)
        body = self._body(request, model, rank)
        with self._registered(request, running):
            broke: EngineUnavailable | None = None
            while True:
                begin = partial(self._begin, request, running, body)
                chunks, first = await self._retry(begin, running=running, after=broke)
                try:
                    async with aclosing(chunks):
                        yield partial_completion.add(counted(first, running))
                        async for chunk in chunks:
                            yield partial_completion.add(counted(chunk, running))
                    return
                except EngineUnavailable as error:
                    broke = error
                    body = await self._resume(partial_completion, running, error)

    def _in_session(self, model: ServedModel, run: str) -> bool:
        return bool(model.sessions and run and "session_id" not in self._extra)

    async def model(self) -> ServedModel:
        """Return the model that the server runs; the server is asked once.

        Raises:
            EngineError: the server is not ready.
        """
        if self._model is None:
            model = await self._retry(lambda: ask_model(self._http, self._directory))
            if model.directory:  # on this machine
                self._weights = await asyncio.to_thread(digest_weights, model.directory)
            self._model = model
            if self._manifest is None and model.directory:
                self._manifest = Manifest.load(model.directory)
            if isinstance(self._tokenizer, ServerTokenizer) and self._chat.template is None:
                self._renderings = await self._tokenizer.render(self._chat.variables)
            self._capabilities = None
        return self._model

    def _turns(self) -> ChatTurns | None:
        """Find how the chat template marks turns; None if the server has none, or was not asked yet.

        Raises:
            InvalidCheckpoint: it rewrites history, cannot be parsed, or is missing in a checkpoint on this machine.
        """
        if self._renderings is not None:
            return turns_of(self._renderings, history=self._chat.history)
        directory = self._directory or (self._model.directory if self._model else None)
        return turns_of_checkpoint(directory, self._chat, extra="sglang")

    async def _begin(self, request: Request, running: Attempt, body: Body) -> tuple[AsyncGenerator[Chunk], Chunk]:
        """Send a request and wait for its first chunk."""
        attempt = self._whole if request.whole else self._attempt
        try:
            return await first_chunk(attempt(request, running, body))
        except EngineRejected:
            if not (isinstance(running.exchange, Member) and running.exchange.company):
                raise
        self._batches.refuse()
        return await first_chunk(attempt(request, running, body))

    async def _resume(self, done: PartialCompletion, running: Attempt, error: EngineUnavailable) -> Body:
        """Return the body of the request that resumes a broken stream, or raise ``error`` if it cannot be resumed."""
        may_resume = running.broke and not (running.aborted or self._closing)
        if not (may_resume and (remainder := await done.remainder(self.decode))):
            raise error
        url, rid, tokens = self._http.url, running.rid, len(done.ids)
        log("warning", "engine.resumed", logger=__name__, error=error, url=url, rid=rid, tokens=tokens)
        return self._body(remainder, await self.model(), running.rank)

    def _body(self, request: Request, model: ServedModel, rank: int | None) -> Body:
        body = body_of(request, model)
        if (own := self._extra.get("sampling_params")) is not None:
            body["sampling_params"] = {**cast("Body", body["sampling_params"]), **cast("Body", own)}
        return Body(**body, **fields_of(request.hints, model, rank=rank, extra=self._extra))

    async def _attempt(self, request: Request, running: Attempt, body: Body) -> AsyncGenerator[Chunk]:
        """Stream a completion token by token."""
        reader, last = reader_of(body), None
        body = running.begin(request, body)

        async def farewell() -> None:
            if not reader.ended:
                await despite_cancellation(self._abort_quietly(running.rid))

        running.exchange = exchange = Exchange(farewell)
        try:
            headers = headers_of(request.hints)
            async with self._http.events("/generate", body, exchange, headers=headers) as events:
                async for event in events:
                    if running.aborted:
                        # The abort may have reached the server before the request did, and was ignored.
                        raise EngineUnavailable(f"request {running.rid} was aborted")
                    if event.data == DONE or is_keepalive(event) or (chunk := reader.read(event.data)) is None:
                        continue
                    if chunk.finish is None:
                        yield chunk
                    else:
                        # Read the stream to its end, so that the connection can be used again.
                        last = chunk
        except (EngineRejected, EngineOverloaded) as error:
            reader.ended = True
            raise refine(error) from error
        except EngineError:
            if last is None:  # otherwise the completion had arrived in full
                raise
        finally:
            running.broke = not reader.ended
            await exchange.leave()
        if last is None:
            raise EngineUnavailable(
                f"{self._http.url} ended the stream of {running.rid} before the request was finished"
            )
        yield last

    async def _whole(self, request: Request, running: Attempt, body: Body) -> AsyncGenerator[Chunk]:
        """Stream a completion that is read at its end, in one request with others that are sent now."""
        reader = reader_of(body)
        body = running.begin(request, body)
        alone = running.retries > 0 or not (await self.model()).direct
        member = running.exchange = self._batches.add(body, headers_of(request.hints), alone=alone)
        missed = 0
        try:
            while not reader.ended:
                event = await member.event()
                missed = reader.unread(event)
                if running.aborted:
                    raise EngineUnavailable(f"request {running.rid} was aborted")
                chunk, missed = reader.add(event), 0
                if chunk is not None:
                    yield chunk
        except (EngineRejected, EngineOverloaded) as error:
            raise refine(error) from error
        finally:
            running.broke = not member.over
            if member.running:
                missed = await despite_cancellation(self._abandon(running.rid, member, reader))
            if missed and request.missed:
                request.missed(missed)
            await member.leave()

    async def _abandon(self, rid: str, member: Member, reader: GenerateReader) -> int:
        """Abort a request that has no reader any more; return how many tokens it had generated that were not read."""
        member.left, missed = True, 0
        try:
            async with asyncio.timeout(self._abort_timeout):
                aborted = await self._abort_quietly(rid)
                while (aborted and member.awaits_more) or not member.arrived.empty():
                    missed = reader.unread(await member.event())
        except (EngineError, TimeoutError):
            pass
        return missed

    async def _end(self, running: Attempt) -> None:
        if not await self._abort(running.rid) and running.exchange:
            running.exchange.interrupt(EngineUnavailable(f"request {running.rid} was aborted"))

    async def _end_at_close(self, running: Attempt) -> None:
        await self._abort_quietly(running.rid)

    async def _abort(self, rid: str) -> bool:
        """End a request at the server; return False if the server refuses.

        SGLang's router does not forward aborts. It ends a request whose connection is closed.
        """
        try:
            await self._http.post("/abort_request", {"rid": rid}, urgent=True)
        except EngineRejected as error:
            note = f"the server refuses aborts ({error}): a request ends there when its connection is closed"
            self._log_once([note], url=self._http.url)
            return False
        return True

    async def _abort_quietly(self, rid: str) -> bool:
        """End a request at the server; return False if that failed."""
        if self._http.closed:
            return False
        try:
            async with asyncio.timeout(self._abort_timeout):
                return await self._abort(rid)
        except (EngineError, TimeoutError) as error:
            log("warning", "engine.abort_failed", logger=__name__, error=error, url=self._http.url, rid=rid)
            return False
