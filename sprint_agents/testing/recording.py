"""Record what a model writes, and replay it without the model.

A completion is found by the text that the model had read, all of it. So a recording replays the runs that it was made
of and nothing else: after a change to a task, an agent or a prompt, record again.
"""

import hashlib
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import date
from os import PathLike
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sprint_agents.arguments import checked
from sprint_agents.engine import Capabilities, ChatTurns, Chunk, Engine, Finish, Request
from sprint_agents.errors import ConfigurationError, UnsupportedTask
from sprint_agents.manifest import Manifest
from sprint_agents.wrapped_engine import WrappedEngine

from .engine import FakeEngine, Latency
from .replies import Prompt

_SHOWN = 160
"""Characters at the end of a context that a recording repeats for its readers."""


class RecordedCompletion(BaseModel):
    """A completion, with the model's own counts of tokens.

    ``context`` is a digest of the text that the model had read, and ``asked`` the end of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    context: str
    asked: str
    text: str
    reason: Literal["stop", "length"]
    prompt_tokens: int = Field(ge=0)
    cached_tokens: int = Field(ge=0)
    generated_tokens: int = Field(ge=0)


class Recording(BaseModel):
    """What a model wrote, in order; ``about`` says which model, and where it ran."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str
    day: date
    turns: ChatTurns | None
    schemas: bool
    manifest: Manifest | None
    completions: tuple[RecordedCompletion, ...]

    @property
    def notice(self) -> str:
        """Say in a sentence that this is a recording."""
        return f"This is a recording of {self.about}, made on {self.day}."

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read the file that ``save`` wrote.

        Raises:
            ConfigurationError: there is no such file, or it is not a recording.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except (OSError, ValidationError) as error:
            raise ConfigurationError(f"{path} cannot be read as a recording: {error}") from error

    def save(self, path: str | PathLike[str]) -> None:
        """Write a file of indented JSON, whose changes are easy to review."""
        Path(path).write_text(self.model_dump_json(indent=1, ensure_ascii=True) + "\n", encoding="utf-8")


@checked
class RecordingEngine(WrappedEngine):
    r"""Passes everything on to ``engine``, and keeps each completion that ended.

    >>> from sprint_agents import Sprint
    >>> from sprint_agents.testing import RecordedEngine, RecordingEngine
    >>> engine = RecordingEngine(FakeEngine(r"<Final_answer>\boxed{42}</Final_answer>"))
    >>> Sprint(engine).run_sync("What is 6*7?").answer
    '42'
    >>> replayed = RecordedEngine(engine.recording(about="a scripted model"))
    >>> Sprint(replayed).run_sync("What is 6*7?").answer
    '42'
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._completions: list[RecordedCompletion] = []

    def recording(self, *, about: str) -> Recording:
        """Return what was recorded so far; ``about`` names the model and where it ran."""
        capabilities = self._engine.capabilities
        return Recording(
            about=about,
            day=date.today(),
            turns=capabilities.chat,
            schemas=capabilities.schemas,
            manifest=self._engine.manifest,
            completions=tuple(self._completions),
        )

    @property
    def capabilities(self) -> Capabilities:
        """The engine's, except that no completion is continued: each is recorded as a whole."""
        return replace(self._engine.capabilities, continues=False)

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Pass a completion on, and keep its text."""
        text, count = "", 0
        async with aclosing(super().complete(request)) as chunks:
            async for chunk in chunks:
                text += chunk.text
                count += len(chunk.ids)
                if chunk.finish and request.max_tokens:
                    self._completions.append(_completion(request, text, chunk.finish, count))
                yield chunk


@checked
class RecordedEngine(FakeEngine):
    """Replays a recording; its token counts are the model's, and a ``latency`` makes it slow enough to watch.

    A request that has fewer tokens than the recorded one used gets the beginning of the text. A request that was not
    recorded raises UnsupportedTask.

    Raises:
        ConfigurationError: the file is not a recording.
    """

    def __init__(self, recording: Recording | str | PathLike[str], *, latency: Latency | None = None) -> None:
        self.recording = recording if isinstance(recording, Recording) else Recording.load(recording)
        self._recorded: dict[str, list[RecordedCompletion]] = defaultdict(list)
        for completion in self.recording.completions:
            self._recorded[completion.context].append(completion)
        self._replayed: dict[str, str] = {}
        super().__init__(
            self._reply_to,
            latency=latency,
            manifest=self.recording.manifest,
            capabilities=Capabilities(chat=self.recording.turns, schemas=self.recording.schemas),
        )

    @property
    def name(self) -> str:
        """``recorded:`` and the model."""
        return f"recorded:{self.recording.about}"

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Replay the completion of the request's context.

        Raises:
            UnsupportedTask: it was not recorded.
            EngineError: as ``FakeEngine`` does.
        """
        recorded = self._next(request) if request.max_tokens and request.continues is None else None
        whole = recorded is not None and request.max_tokens >= recorded.generated_tokens
        if recorded is not None:
            self._replayed[request.id] = recorded.text
            if whole:  # the limit counts the model's tokens, and this engine counts words
                words = len(self._tokenizer.encode_markup(recorded.text))
                request = replace(request, max_tokens=words + (recorded.reason == "stop"))
        async with aclosing(super().complete(request)) as chunks:
            async for chunk in chunks:
                if recorded is not None and whole and chunk.finish:
                    chunk.finish = Finish(
                        recorded.reason,
                        chunk.finish.matched,
                        recorded.prompt_tokens,
                        recorded.cached_tokens,
                        recorded.generated_tokens,
                    )
                yield chunk

    def _next(self, request: Request) -> RecordedCompletion | None:
        """Take the next completion of a context; the last one is replayed as often as it is asked for."""
        recorded = self._recorded.get(context_key(request.context.text), [])
        return recorded.pop(0) if len(recorded) > 1 else next(iter(recorded), None)

    def _reply_to(self, prompt: Prompt) -> str:
        text = self._replayed.pop(prompt.request.id, None)
        if text is None:
            raise UnsupportedTask(
                f"{self.recording.about} was not recorded with this request, which ends in {prompt.tail(_SHOWN)!r}: "
                "use a model, or record again"
            )
        return text


def context_key(text: str) -> str:
    """Return a short name for a context."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _completion(request: Request, text: str, finish: Finish, count: int) -> RecordedCompletion:
    return RecordedCompletion(
        context=context_key(request.context.text),
        asked=request.context.text[-_SHOWN:],
        text=text,
        reason=finish.reason,
        prompt_tokens=finish.prompt_tokens,
        cached_tokens=finish.cached_tokens,
        generated_tokens=count if finish.generated_tokens is None else finish.generated_tokens,
    )
