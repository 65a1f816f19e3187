"""The file of one stage: one JSON line for each trace that the stage has finished, with a result or a rejection.

Invariants:

- Lines are only appended, and flushed immediately. An incomplete last line is cut off when the file is opened.
- Each id has one line.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sprint_agents.errors import ConfigurationError

from .records import Rejection

RecordT = TypeVar("RecordT", bound=BaseModel)


class _Id(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str


class Line(BaseModel, Generic[RecordT]):
    """A line of a stage's file. Exactly one of ``record`` and ``rejection`` is set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    record: RecordT | None = None
    rejection: Rejection | None = None


class StageFile(Generic[RecordT]):
    """The results of one stage on disk, for appending and for reading by id. Use it as a context manager."""

    def __init__(self, path: Path, record: type[RecordT]) -> None:
        """Open ``path``, which is new or has the lines of an earlier process.

        Raises:
            ConfigurationError: the file cannot be read or written, or is not the file of a stage.
        """
        self._path = path
        self._line = Line[record]
        self._places: dict[str, tuple[int, int]] = {}
        try:
            self._file = path.open("a+b")
            try:
                self._file.truncate(self._index())
            except BaseException:
                self._file.close()
                raise
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read and written: {error.strerror or error}") from error

    def _index(self) -> int:
        """Record the position of each complete line. Return the offset at which the last one ends."""
        self._file.seek(0)
        start = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                found = _Id.model_validate_json(line).id
            except ValidationError as error:
                raise ConfigurationError(
                    f"{self._path}, line {number} is not a line of a stage: {error.errors()[0]['msg']}. "
                    "Use another folder, or remove the line"
                ) from error
            self._places[found] = (start, len(line))
            start += len(line)
        return start

    def __contains__(self, trace_id: str) -> bool:
        return trace_id in self._places

    def __len__(self) -> int:
        return len(self._places)

    def ids(self) -> Iterator[str]:
        """Return the ids, in the order of the lines."""
        return iter(self._places)

    def get(self, trace_id: str) -> RecordT | Rejection | None:
        """Read the result for a trace, or None if the stage has not finished it.

        Raises:
            ConfigurationError: the line is not one that this stage writes.
        """
        if trace_id not in self._places:
            return None
        start, size = self._places[trace_id]
        self._file.seek(start)
        try:
            line = self._line.model_validate_json(self._file.read(size))
        except ValidationError as error:
            raise ConfigurationError(
                f"{self._path} holds {trace_id!r} in another form: {error.errors()[0]['msg']}"
            ) from error
        return line.record if line.rejection is None else line.rejection

    def append(self, trace_id: str, result: RecordT | Rejection) -> None:
        """Write the result for a trace.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        assert trace_id not in self._places, f"{trace_id} already has a line in {self._path}"
        if isinstance(result, Rejection):
            body = self._line(id=trace_id, rejection=result)
        else:
            body = self._line(id=trace_id, record=result)
        line = body.model_dump_json(exclude_none=True).encode() + b"\n"
        try:
            start = self._file.seek(0, 2)
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise ConfigurationError(f"{self._path} cannot be written: {error.strerror or error}") from error
        self._places[trace_id] = (start, len(line))

    def sync(self) -> None:
        """Wait until the lines are on the disk, where they survive a power failure.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ConfigurationError(f"{self._path} cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
