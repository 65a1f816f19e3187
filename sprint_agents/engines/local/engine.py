"""``LocalEngine``: the asyncio face of the worker thread that owns the model."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self
from weakref import WeakValueDictionary

from sprint_agents.engine import Capabilities, Chunk, Engine, Request
from sprint_agents.engines.chat_template import ChatTemplate, turns_of_checkpoint, with_chat
from sprint_agents.errors import ConfigurationError, ContextOverflow, EngineUnavailable, InvalidRequest, MissingExtra
from sprint_agents.manifest import Manifest

from .bounds import Bounds
from .checkpoint import check_directory, load_tokenizer
from .grammar import check_schema
from .stream import Mailbox, Stream
from .worker import LocalStatistics, Ticket, Worker, closed_error

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

    from .scheduler import Scheduler

_LONG_TEXT = 20_000
"""Texts of more characters, and lists of more ids, are encoded and decoded in a thread."""


class LocalEngine(Engine):
    """Any Hugging Face causal language model, in this process, over one radix tree of keys and values.

    A fork shares its whole prefix, to the token, with everything else that begins like it, also with what is being
    decoded or computed right now; a step of many branches reads each shared run of keys once. The model runs in one
    worker thread, which starts with the first use (or ``async with``) and ends with ``aclose``; event loops never
    wait for it, and any number of them may use the engine, one after the other or at once.

    ``directory`` is what ``save_pretrained`` wrote. ``device`` is the first GPU if there is one, else the CPU.
    ``dtype``, such as ``"float32"``, is the checkpoint's own. ``threads`` is torch's number of threads for one
    operation; it holds for the process. ``cache_tokens`` bounds the tokens whose keys and values are stored,
    ``max_running`` the branches that are computed at once (others wait), ``prefill_chunk`` the prompt tokens of one
    step. Besides ``cache_tokens``, the branches that decode take room for about half as many tokens more, at most.

    ``chat`` says how the turns of conversations are marked, if that is not just the checkpoint's chat template.

    No context may be longer than the model's positions, its sliding window if it has one, and ``cache_tokens``.
    ``Finish.cached_tokens`` is at most the prompt's length less one: the last token is always computed.

    >>> from sprint_agents.errors import InvalidCheckpoint
    >>> try:
    ...     LocalEngine("no/such/folder")  # what is missing shows at once
    ... except InvalidCheckpoint as error:
    ...     print(error)
    no/such/folder is no directory: give the folder that holds config.json, tokenizer.json and the weights

    Raises:
        MissingExtra: torch or transformers is not installed.
        ConfigurationError: an option makes no sense; an unknown device or dtype shows when the model is loaded.
        InvalidCheckpoint: here if a file is missing or its JSON is damaged; on ``async with`` or first use if the
            weights are.

    """

    def __init__(
        self,
        directory: str | Path,
        *,
        device: str | None = None,
        dtype: "torch.dtype | str | None" = None,
        threads: int | None = None,
        cache_tokens: int | None = None,
        prefill_chunk: int = 256,
        max_running: int = 128,
        chat: ChatTemplate | None = None,
    ) -> None:
        for option, value in {
            "cache_tokens": cache_tokens,
            "prefill_chunk": prefill_chunk,
            "max_running": max_running,
            "threads": threads,
        }.items():
            if value is not None and value < 1:
                raise ConfigurationError(f"{option} is {value}: it must be 1 or more")
        for module in ("torch", "transformers"):
            if find_spec(module) is None:
                raise MissingExtra("local", module)
        self._directory = Path(directory)
        check_directory(self._directory)
        self._manifest = Manifest.load(self._directory)
        self._tokenizer: Tokenizer = load_tokenizer(self._directory)
        self._chat = chat or ChatTemplate()
        self._capabilities: Capabilities | None = None
        self._device, self._dtype, self._threads = device, dtype, threads
        self._cache_tokens, self._prefill_chunk, self._max_running = cache_tokens, prefill_chunk, max_running
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._closed = False
        self._mailboxes: WeakValueDictionary[asyncio.AbstractEventLoop, Mailbox] = WeakValueDictionary()

    @property
    def name(self) -> str:
        """``local:`` and the model's name in ``sprint.json``, or its folder's."""
        return f"local:{self._manifest.model if self._manifest else self._directory.resolve().name}"

    @property
    def manifest(self) -> Manifest | None:
        """What ``sprint.json`` beside the weights says; None where there is none."""
        return self._manifest

    @property
    def capabilities(self) -> Capabilities:
        """ChatTurns as the checkpoint's chat template marks them, and schemas if llguidance is installed."""
        if self._capabilities is None:
            known = Capabilities(schemas=find_spec("llguidance") is not None)
            turns = partial(turns_of_checkpoint, self._directory, self._chat, extra="local")
            self._capabilities = with_chat(known, turns)
        return self._capabilities

    def statistics(self) -> LocalStatistics:
        """Say what the engine holds and has done, as it was between the last two steps."""
        return self._worker.statistics if self._worker else LocalStatistics()

    def check_schema(self, schema: str, *, what: str) -> None:
        """Raise if llguidance cannot hold the model to ``schema``; ``what`` names what the schema describes.

        Raises:
            ConfigurationError: it cannot.
            MissingExtra: llguidance is not installed.

        """
        check_schema(schema, what=what)

    async def encode(self, text: str) -> list[int]:
        """Token ids of ``text``, special tokens recognised, none added."""
        if len(text) > _LONG_TEXT:
            return await asyncio.to_thread(self._encode, text)
        return self._encode(text)

    async def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``, special tokens shown.

        Raises:
            InvalidRequest: an id outside the vocabulary.

        """
        if len(ids) > _LONG_TEXT:
            return await asyncio.to_thread(self._decode, ids)
        return self._decode(ids)

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Stream the completion of ``request``.

        A context and its limit that are together longer than the model reads are computed up to there and end with
        reason ``length``. Closing the generator, or cancelling its reader, returns when the request is gone.

        Raises:
            InvalidRequest: ids outside the vocabulary, an empty context, a negative limit, an id in use, or a schema
                that the model cannot be held to.
            MissingExtra: there is a schema, and llguidance is not installed.
            ContextOverflow: the context leaves no room for a token.
            EngineUnavailable: the engine is closed, the model failed, or ``abort`` ended the request.
            InvalidCheckpoint: the weights cannot be loaded.

        """
        if request.schema is not None:
            check_schema(request.schema)
        worker, bounds = await self._ready()
        loop = asyncio.get_running_loop()
        ticket = Ticket(request, request.context.flatten(), Stream(self._mailbox(loop)))
        _check(ticket, bounds)
        worker.submit(ticket)
        ended = False
        try:
            while not ended:
                piece = await ticket.stream.read()
                ended = piece.finish is not None
                yield Chunk(piece.tokens, piece.text, piece.finish)
        finally:
            if not ended:
                gone = worker.abort(ticket, error=None)
                # A generator that is collected after its loop was closed has nobody to wait for it.
                if not loop.is_closed():
                    await asyncio.wrap_future(gone)

    async def abort(self, request_id: str) -> None:
        """End a request, whoever reads it; that reader gets EngineUnavailable. Returns once the request is gone."""
        worker = self._worker
        if worker is not None and (ticket := worker.find(request_id)):
            error = EngineUnavailable(f"request {request_id!r} was aborted: send it again under another id if needed")
            await asyncio.wrap_future(worker.abort(ticket, error=error))

    async def aclose(self) -> None:
        """Abort everything, whose readers get EngineUnavailable, and free the model; safe to call twice."""
        with self._lock:
            self._closed = True
            worker = self._worker
        if worker is not None:
            worker.close()
            await asyncio.wrap_future(worker.over)
            # To its very end: an interpreter that exits while the thread still frees tensors aborts the process.
            await asyncio.to_thread(worker.join)

    async def __aenter__(self) -> Self:
        await self._ready()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def _ready(self) -> tuple[Worker, Bounds]:
        """Start the worker if need be, and wait until it has loaded the model."""
        with self._lock:
            if self._closed:
                raise closed_error()
            if self._worker is None:
                self._worker = Worker(self._load)
            worker = self._worker
        return worker, await asyncio.wrap_future(worker.ready)

    def _load(self) -> "Scheduler":
        """Import torch and load the model; in the worker thread."""
        import torch

        from .model import load_model
        from .scheduler import Scheduler

        if self._threads is not None:
            torch.set_num_threads(self._threads)
        return Scheduler(
            load_model(self._directory, device=self._device, dtype=self._dtype),
            self._tokenizer,
            cache_tokens=self._cache_tokens,
            prefill_chunk=self._prefill_chunk,
            max_running=self._max_running,
        )

    def _mailbox(self, loop: asyncio.AbstractEventLoop) -> Mailbox:
        with self._lock:
            mailbox = self._mailboxes.get(loop)
            if mailbox is None:
                mailbox = self._mailboxes[loop] = Mailbox(loop)
            return mailbox

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _decode(self, ids: Sequence[int]) -> str:
        try:
            return self._tokenizer.decode(list(ids), skip_special_tokens=False)
        except OverflowError as error:
            raise InvalidRequest(f"an id is no token id: {error}") from error


def _check(ticket: Ticket, bounds: Bounds) -> None:
    request, ids = ticket.request, ticket.ids
    if request.max_tokens < 0:
        raise InvalidRequest(f"max_tokens is {request.max_tokens}: it must be 0 (compute the context only) or more")
    if not ids:
        raise InvalidRequest("the context is empty: a model needs at least one token to go on from")
    if min(ids) < 0 or max(ids) >= bounds.vocabulary:
        wrong = next(id_ for id_ in ids if not 0 <= id_ < bounds.vocabulary)
        raise InvalidRequest(
            f"token id {wrong} is outside the vocabulary of {bounds.vocabulary}: "
            "encode contexts by the engine that completes them"
        )
    if (needed := len(ids) + min(request.max_tokens, 1)) > bounds.limit:
        raise ContextOverflow(tokens=needed, limit=bounds.limit)
