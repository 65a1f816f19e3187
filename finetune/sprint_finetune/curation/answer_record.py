"""The answers of models on disk, so that no question is paid for twice.

Invariants:

- An answer is on the disk before anything reads it, so it survives a kill and a power failure.
- Only one process at a time works with a file.
"""

import asyncio
import hashlib
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import BaseModel, ConfigDict

from sprint_agents.engine import Sampling
from sprint_agents.errors import ConfigurationError

from .file_lock import locked
from .spending import CallTokens, Spending
from .stage_file import StageFile


class KeptAnswer(BaseModel):
    """What a model answered, and the cost. ``id`` identifies the question (``question_id``).

    ``ids`` are the ids of the text. None means its code points, which are the ids of chat servers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    model: str
    text: str
    counts: CallTokens
    ids: tuple[int, ...] | None = None


def question_id(model: str, context: str, *, sampling: Sampling, max_tokens: int, schema: str | None) -> str:
    """Return a digest of everything that an answer depends on."""
    parts = (model, context, sampling.model_dump_json(), str(max_tokens), schema or "")
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:32]


class AnswerRecord:
    """The file of a model's answers. Use it as a context manager, inside which an ``LLMExtractor`` reads and writes it.

    Raises:
        ConfigurationError: the file is in use, cannot be read or written, or is not a file of answers.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = path.with_suffix(".lock").open("ab")
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror or error}") from error
        try:
            if not locked(self._lock):
                raise ConfigurationError(f"another process is working with {path}: wait for it, or use another folder")
            self._file = StageFile(path, KeptAnswer)
        except BaseException:
            self._lock.close()
            raise

    def get(self, question: str) -> KeptAnswer | None:
        """Return the answer to a question, or None if there is none yet."""
        found = self._file.get(question)
        return found if isinstance(found, KeptAnswer) else None

    async def keep(self, answer: KeptAnswer) -> None:
        """Write an answer to the disk. Return once it is safe there."""
        if answer.id not in self._file:  # two traces may have the same text
            self._file.append(answer.id, answer)
            await asyncio.to_thread(self._file.sync)

    def charge(self, spending: Spending) -> None:
        """Add what all answers of the file have cost."""
        for question in self._file.ids():
            if answer := self.get(question):
                spending.spend(answer.model, answer.counts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.close()
