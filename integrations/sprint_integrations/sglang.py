"""SGLang inside this process: its offline engine, and the ``fork`` of its frontend language.

You need neither to use an SGLang server: ``sprint_agents.engines.SGLangEngine`` works from any environment. These are
for programs that already run in SGLang's environment.

- ``InProcessEngine(sglang.Engine(…), directory)`` is an engine like any other.
- ``execute(state, texts, …)`` runs executors on the branches of a ``sglang.function``'s ``ProgramState``.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from sprint_agents.agents import Executor
from sprint_agents.engine import Capabilities, Chunk, Engine, Request, Sampling
from sprint_agents.engines.checkpoint import (
    ChatTemplate,
    CheckpointTokenizer,
    check_ids,
    turns_of_checkpoint,
    vocabulary_size,
    with_chat,
)
from sprint_agents.engines.sglang.attempt import server_id
from sprint_agents.engines.sglang.generate import GenerateReader, body_of
from sprint_agents.engines.sglang.model import ServedModel
from sprint_agents.engines.sglang.thoughts import complete_after_thoughts, thinks_first
from sprint_agents.errors import ConfigurationError, EngineRejected, EngineUnavailable, InvalidRequest
from sprint_agents.manifest import Manifest
from sprint_agents.plan import Execution, Failure
from sprint_agents.usage import CallUsage

T = TypeVar("T")

_NOT_IN_PROGRAMS = {"repetition_penalty", "logit_bias", "logprobs"}
_CAPABILITIES = Capabilities(schemas=True, caches_running=False, caches_contexts=True, continues=True, logprobs=True)


class OfflineEngine(Protocol):
    """The used part of ``sglang.Engine``."""

    loop: asyncio.AbstractEventLoop
    tokenizer_manager: Any

    async def async_generate(self, **options: Any) -> Any:
        """Start a completion; with ``stream``, return an async iterator of events."""
        ...


class InProcessEngine(Engine):
    """An ``Engine`` on a ``sglang.Engine`` of this process, for the checkpoint in ``directory``.

    Unlike other engines it works on one event loop only, SGLang's own: run your program with
    ``engine.loop.run_until_complete(main())``. You made the ``sglang.Engine``, so you shut it down.

    ``chat`` says how conversations mark turns, if that differs from the template in the ``directory``.
    """

    def __init__(
        self, engine: OfflineEngine, directory: str | PathLike[str], *, chat: ChatTemplate | None = None
    ) -> None:
        path, chat = Path(directory), chat or ChatTemplate()
        self._capabilities = with_chat(_CAPABILITIES, lambda: turns_of_checkpoint(path, chat, extra="sglang"))
        self._engine = engine
        self._tokenizer = CheckpointTokenizer(path)
        self._manifest = Manifest.load(path)
        limit: int = engine.tokenizer_manager.model_config.context_len
        self._model = ServedModel(path.name, path, vocabulary_size(path), limit)
        self._running: dict[str, str] = {}

    @property
    def name(self) -> str:
        """``sglang:`` and the checkpoint's name."""
        return f"sglang:{self._model.name}"

    @property
    def manifest(self) -> Manifest | None:
        """``sprint.json`` of the checkpoint."""
        return self._manifest

    @property
    def capabilities(self) -> Capabilities:
        """Turns as the chat template marks them; schemas, and the cache, as on a server."""
        return self._capabilities

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``; control tokens are recognised in its markup, none are added."""
        return await self._tokenizer.encode(text)

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, special tokens shown.

        Raises:
            InvalidRequest: ids outside the vocabulary.
        """
        check_ids(ids, size=self._model.vocabulary_size, model=self._model.name)
        return await self._tokenizer.decode(ids)

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Stream the completion of ``request``.

        Raises:
            ConfigurationError: the running event loop is not the engine's.
            InvalidRequest: an empty context, ids outside the vocabulary, a negative limit, or an id in use.
            EngineError: see the tree in ``errors``.
        """
        chunks = complete_after_thoughts(request, self._complete) if thinks_first(request) else self._complete(request)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def _complete(self, request: Request) -> AsyncGenerator[Chunk]:
        if asyncio.get_running_loop() is not self._engine.loop:
            raise ConfigurationError("this engine has its own event loop: use engine.loop.run_until_complete(main())")
        if request.id in self._running:
            raise InvalidRequest(f"request id {request.id!r} is in use: give every request its own id")
        body = body_of(request, self._model)
        self._running[request.id] = rid = server_id(request.id)
        reader = GenerateReader(len(request.context.flatten()), logprobs="return_logprob" in body)
        try:
            async for event in await self._engine.async_generate(rid=rid, **body):
                if chunk := reader.take(event):
                    yield chunk
        except ValueError as error:  # how SGLang refuses a request
            reader.ended = True
            raise EngineRejected(str(error)) from error
        finally:
            del self._running[request.id]
            if not reader.ended:
                self._engine.tokenizer_manager.abort_request(rid=rid)

    async def abort(self, request_id: str) -> None:
        """End a request of this engine; unknown and finished ids are ignored."""
        if rid := self._running.get(request_id):
            self._engine.tokenizer_manager.abort_request(rid=rid)

    async def aclose(self) -> None:
        """Abort everything that runs; safe to call twice."""
        for request_id in list(self._running):
            await self.abort(request_id)


class Program(Protocol):
    """The used part of SGLang's ``ProgramState``."""

    stream_executor: Any

    def fork(self, size: int) -> Any:
        """Branch the program's text."""
        ...

    def error(self) -> Exception | None:
        """Wait until everything added so far has run; return the error that ended the program early, if any."""
        ...

    def get_var(self, name: str) -> str:
        """Return the text that was generated under a name."""
        ...

    def get_meta_info(self, name: str) -> Mapping[str, Any]:
        """Return the server's counts for it."""
        ...


async def execute(
    program: Program,
    texts: Sequence[str],
    executor: Executor[T],
    *,
    max_tokens: int = 256,
    sampling: Sampling | None = None,
    stop: Sequence[str] = (),
) -> list[Execution[T]]:
    """Continue ``program`` with each of ``texts`` on its own branch, and read what the model writes there.

    The program's text is computed once, because this call waits for it before the fork; otherwise SGLang's frontend
    skips the commit. A branch that fails becomes an execution with a ``failure``, where SGLang only warns. SGLang's
    branches are threads, so a cancelled call returns once the running ones have ended.

    Raises:
        ConfigurationError: ``sampling`` has a setting that SGLang's frontend lacks, or asks for log-probabilities.
        EngineUnavailable: ``program`` itself has failed before.
    """
    if not texts:
        return []
    sampling = executor.sampling or sampling or Sampling()
    if strange := _NOT_IN_PROGRAMS & {*sampling.optional, *(["logprobs"] if sampling.logprobs is not None else [])}:
        raise ConfigurationError(f"SGLang's frontend has no {min(strange)}: leave it out of Sampling")
    generate = import_module("sglang").gen(
        "execution",
        max_tokens=executor.max_tokens or max_tokens,
        stop=list(stop),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=-1 if sampling.top_k is None else sampling.top_k,
        min_p=sampling.min_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
    )
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(len(texts)) as threads:
        if error := await loop.run_in_executor(threads, program.error):
            raise EngineUnavailable(f"the SGLang program failed before it forked: {error}") from error
        group = await loop.run_in_executor(threads, program.fork, len(texts))
        branches: list[Any] = list(group.states)
        try:
            for branch, text in zip(branches, texts, strict=True):
                branch.stream_executor.submit(text + generate)
            errors = await asyncio.gather(*(loop.run_in_executor(threads, branch.error) for branch in branches))
        finally:
            for branch in branches:
                branch.stream_executor.end()
    return [
        _execution(number, text, branch, error, executor)
        for number, (text, branch, error) in enumerate(zip(texts, branches, errors, strict=True), 1)
    ]


def _execution(
    number: int, prompt: str, branch: Program, error: Exception | None, executor: Executor[T]
) -> Execution[T]:
    if error:
        return Execution[Any](number=number, prompt=prompt, failure=Failure.of(error))
    text, meta = branch.get_var("execution"), branch.get_meta_info("execution")
    usage = CallUsage(
        calls=1,
        prompt_tokens=meta["prompt_tokens"],
        cached_tokens=meta["cached_tokens"],
        generated_tokens=meta["completion_tokens"],
    )
    try:
        value = executor.read(text)
    except Exception as invalid:
        return Execution[Any](number=number, prompt=prompt, text=text, failure=Failure.of(invalid), usage=usage)
    return Execution[Any](number=number, prompt=prompt, text=text, value=value, usage=usage)


__all__ = ["InProcessEngine", "OfflineEngine", "Program", "execute"]
