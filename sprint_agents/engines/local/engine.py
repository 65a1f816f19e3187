"""``LocalEngine``: the asyncio interface of the worker thread that owns the model."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self
from weakref import WeakValueDictionary

from sprint_agents.arguments import at_least, checked
from sprint_agents.engine import Capabilities, Chunk, Engine, Request
from sprint_agents.engines.checkpoint import (
    ChatTemplate,
    check_directory,
    digest_weights,
    load_tokenizer,
    turns_of_checkpoint,
    with_chat,
)
from sprint_agents.errors import ContextOverflow, EngineUnavailable, InvalidRequest, MissingExtra
from sprint_agents.functions import despite_cancellation
from sprint_agents.manifest import Manifest
from sprint_agents.step_costs import StepCosts

from .files import find_model
from .grammar import check_schema
from .output import Mailbox, OutputStream
from .worker import LocalStatistics, RequestBounds, Submission, Worker, closed_error

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

    from .scheduler import Scheduler

_LONG_TEXT = 20_000
"""Texts with more characters, and lists with more ids, are encoded and decoded in a thread."""


@checked
class LocalEngine(Engine):
    """Any Hugging Face causal language model, in this process, over one radix tree of keys and values.

    A fork shares its whole prefix, to the token, with every request that begins with the same tokens, including those
    that are still being computed; attention reads each shared range of keys once for all of them. The model runs in one
    worker thread, which starts at the first use or ``async with`` and ends with ``aclose``. It never blocks an event
    loop, and any number of loops may use the engine, one after another or at the same time.

    No context may be longer than the model's positions, its sliding window if it has one, and ``cache_tokens``.
    ``Finish.cached_tokens`` is at most the prompt's length minus one, because the last token is always computed.

    Args:
        model: the folder that ``save_pretrained`` wrote, a GGUF file, or a name on the Hugging Face Hub such as
            ``"HuggingFaceTB/SmolLM2-135M-Instruct"``. The first use of a name downloads the model, and the first use of
            a GGUF file converts it, before the constructor returns; both are kept in the user's cache.
        device: such as ``"cuda:1"``; by default the first GPU if there is one, otherwise the CPU.
        dtype: such as ``"float32"``; by default the checkpoint's own.
        threads: torch's number of threads for one operation, which it sets for the whole process. Steps with too little
            work for so many use fewer.
        cache_tokens: how many tokens have their keys and values stored, by default as many as fit into a quarter of
            the free memory, 65,536 at most. Decoding requests take room for about half as many more, at most.
        prefill_chunk: how many prompt tokens one step computes.
        max_running: how many requests are computed at the same time; others wait.
        chat: how the turns of a conversation are marked, if the checkpoint's chat template does not tell.
        step_costs: how long decode steps take, so that stages that may end early run as many executions as pays. By
            default they are known, from the first use, of models with at most 32 million weights on a CPU.
        stock: whether to run transformers' model code even where the engine has a faster forward pass of its own, for
            Llama, Mistral, Qwen2 and Qwen3. It starts slower, and computes the same up to rounding.

    >>> from sprint_agents.errors import InvalidCheckpoint
    >>> try:
    ...     LocalEngine("no/such/folder")  # files are checked at once
    ... except InvalidCheckpoint as error:
    ...     print(error)
    no/such/folder is not a directory: give the folder that holds config.json, tokenizer.json and the weights

    Raises:
        MissingExtra: torch or transformers is not installed.
        ConfigurationError: an option is out of range. An unknown device or dtype is found when the model is loaded.
        InvalidCheckpoint: a file is missing or its JSON is damaged, or the Hub did not give the model. Damaged weights
            are found when the model is loaded, at the first use or ``async with``.

    """

    def __init__(
        self,
        model: str | Path,
        *,
        device: str | None = None,
        dtype: "torch.dtype | str | None" = None,
        threads: int | None = None,
        cache_tokens: int | None = None,
        prefill_chunk: int = 256,
        max_running: int = 128,
        chat: ChatTemplate | None = None,
        step_costs: StepCosts | None = None,
        stock: bool = False,
    ) -> None:
        at_least(1, cache_tokens=cache_tokens, prefill_chunk=prefill_chunk, max_running=max_running, threads=threads)
        for module in ("torch", "transformers"):
            if find_spec(module) is None:
                raise MissingExtra("local", module)
        from sprint_agents.engines.encoding import TextEncoder

        self._name = Path(model).resolve().name
        self._directory = find_model(model)
        check_directory(self._directory)
        self._manifest = Manifest.load(self._directory)
        self._tokenizer: Tokenizer = load_tokenizer(self._directory)
        self._encoder = TextEncoder(self._tokenizer)
        self._chat = chat or ChatTemplate()
        self._capabilities: Capabilities | None = None
        self._device, self._dtype, self._threads, self._stock = device, dtype, threads, stock
        self._cache_tokens, self._prefill_chunk, self._max_running = cache_tokens, prefill_chunk, max_running
        self._step_costs = step_costs
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._closed = False
        self._mailboxes: WeakValueDictionary[asyncio.AbstractEventLoop, Mailbox] = WeakValueDictionary()

    @property
    def name(self) -> str:
        """``local:`` and the model's name from ``sprint.json``, or else the name of its folder."""
        return f"local:{self._manifest.model if self._manifest else self._name}"

    @property
    def manifest(self) -> Manifest | None:
        """The contents of ``sprint.json`` beside the weights; None if there is no such file."""
        return self._manifest

    @property
    def capabilities(self) -> Capabilities:
        """Conversations as the chat template marks them, schemas if llguidance is installed, and costs if known."""
        if self._capabilities is None:
            schemas, weights = find_spec("llguidance") is not None, digest_weights(self._directory)
            known = Capabilities(schemas=schemas, continues=True, logprobs=True, weights=weights)
            turns = partial(turns_of_checkpoint, self._directory, self._chat, extra="local")
            self._capabilities = with_chat(known, turns)
        if self._capabilities.step_costs is not self._step_costs:  # which the loaded model may tell
            self._capabilities = replace(self._capabilities, step_costs=self._step_costs)
        return self._capabilities

    def statistics(self) -> LocalStatistics:
        """Count requests and tokens, as of the end of the last step."""
        return self._worker.statistics if self._worker else LocalStatistics()

    def check_schema(self, schema: str, *, what: str) -> None:
        """Raise if llguidance cannot hold the model to ``schema``; ``what`` names what the schema describes.

        Raises:
            ConfigurationError: it cannot.
            MissingExtra: llguidance is not installed.

        """
        check_schema(schema, what=what)

    async def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``; control tokens are recognised in its markup, and none are added."""
        if len(text) > _LONG_TEXT:
            return await asyncio.to_thread(self._encode, text)
        return self._encode(text)

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, with control tokens.

        Raises:
            InvalidRequest: an id outside the vocabulary.

        """
        if len(ids) > _LONG_TEXT:
            return await asyncio.to_thread(self._decode, ids)
        return self._decode(ids)

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Stream the completion of ``request``.

        A completion that reaches the model's context limit ends there with reason ``length``. Closing the generator, or
        cancelling its reader, aborts the request and returns when it has ended.

        Raises:
            InvalidRequest: ids outside the vocabulary, an empty context, a negative limit, an id in use, or a schema
                that llguidance does not support.
            MissingExtra: the request has a schema, and llguidance is not installed.
            ContextOverflow: the context leaves no room for a token.
            EngineUnavailable: the engine is closed, the model failed, or ``abort`` ended the request.
            InvalidCheckpoint: the weights cannot be loaded.

        """
        if request.schema is not None:
            check_schema(request.schema)
        worker, bounds = await self._ready()
        loop = asyncio.get_running_loop()
        submission = Submission(request, request.context.flatten(), OutputStream(self._mailbox(loop)))
        _check(submission, bounds)
        worker.submit(submission)
        ended = False
        try:
            while not ended:
                output = await submission.stream.read()
                ended = output.finish is not None
                yield Chunk(output.tokens, output.text, output.finish, logprobs=output.logprobs)
        finally:
            if not ended:
                aborted = worker.abort(submission, error=None)
                # A generator may be collected after its loop was closed; then no task can wait.
                if not loop.is_closed():
                    try:
                        await despite_cancellation(asyncio.wrap_future(aborted))
                    finally:
                        if request.missed and (unread := submission.stream.unread()):
                            request.missed(unread)

    async def abort(self, request_id: str) -> None:
        """End a request and return when it has ended. Its reader gets EngineUnavailable; unknown ids are ignored."""
        worker = self._worker
        if worker is not None and (submission := worker.find(request_id)):
            error = EngineUnavailable(f"request {request_id!r} was aborted: send it again under another id if needed")
            await asyncio.wrap_future(worker.abort(submission, error=error))

    async def aclose(self) -> None:
        """Abort all requests, whose readers get EngineUnavailable, and free the model. Safe to call twice."""
        with self._lock:
            self._closed = True
            worker = self._worker
        if worker is not None:
            worker.close()
            await asyncio.wrap_future(worker.ended)
            # Wait for the thread itself too: if the interpreter exits while it frees tensors, the process aborts.
            await asyncio.to_thread(worker.join)

    async def __aenter__(self) -> Self:
        await self._ready()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def _ready(self) -> tuple[Worker, RequestBounds]:
        """Start the worker if necessary, and wait until it has loaded the model."""
        with self._lock:
            if self._closed:
                raise closed_error()
            if self._worker is None:
                self._worker = Worker(self._load)
            worker = self._worker
        return worker, await asyncio.wrap_future(worker.ready)

    def _load(self) -> "Scheduler":
        """Import torch and load the model; runs in the worker thread."""
        import torch

        from .loading import load_model
        from .scheduler import Scheduler

        if self._threads is not None:
            torch.set_num_threads(self._threads)
        model = load_model(self._directory, device=self._device, dtype=self._dtype, stock=self._stock)
        self._step_costs = self._step_costs or model.step_costs
        return Scheduler(
            model,
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
        return self._encoder.encode(text)

    def _decode(self, ids: Sequence[int]) -> str:
        try:
            return self._tokenizer.decode(list(ids), skip_special_tokens=False)
        except OverflowError as error:
            raise InvalidRequest(f"an id is not a token id: {error}") from error


def _check(submission: Submission, bounds: RequestBounds) -> None:
    request, ids = submission.request, submission.ids
    if request.max_tokens < 0:
        raise InvalidRequest(f"max_tokens is {request.max_tokens}: it must be 0 (compute the context only) or more")
    if not ids:
        raise InvalidRequest("the context is empty: a model needs at least one token to continue from")
    if min(ids) < 0 or max(ids) >= bounds.vocabulary:
        wrong = next(id_ for id_ in ids if not 0 <= id_ < bounds.vocabulary)
        raise InvalidRequest(
            f"token id {wrong} is outside the vocabulary of {bounds.vocabulary}: "
            "encode contexts with the engine that completes them"
        )
    if strange := [id_ for id_ in request.sampling.logit_bias if not 0 <= id_ < bounds.vocabulary]:
        raise InvalidRequest(f"logit_bias has token id {strange[0]}, outside the vocabulary of {bounds.vocabulary}")
    if (needed := len(ids) + min(request.max_tokens, 1)) > bounds.context:
        raise ContextOverflow(tokens=needed, limit=bounds.context)
