"""A journal: one JSON record per finished stage, from which another process goes on.

Invariants:

- A record is written and flushed before the next stage begins; a finished stage is never run again.
- A half-written last line, as a killed process leaves it, is cut off; that stage runs again.
- A resumed run replays its policy: the policy yields the same steps and is sent the recorded stages.
"""

import os
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sprint_agents.errors import JournalError
from sprint_agents.events import Event, StageFinished


class JournalHeader(BaseModel):
    """The first line: what run this is the journal of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    journal: Literal[1] = 1
    run_id: str
    task: str
    policy: str
    engine: str


class Journal:
    """The journal of one run, open for appending; a context manager and a listener of the run's events."""

    def __init__(self, path: Path, header: JournalHeader) -> None:
        """Open ``path``, new or with the records of an earlier process.

        Raises:
            JournalError: the file is another run's, or damaged before its last line.
        """
        self._path = path
        self._stages: list[StageFinished] = []
        self.header = header
        try:
            whole = self._read(header) if path.exists() else 0
            self._file: IO[str] = path.open("a", encoding="utf-8")
        except OSError as error:
            raise JournalError(f"the journal {path} cannot be read and written: {error}") from error
        self._file.truncate(whole)
        if not whole:
            self._write(header.model_dump_json())

    def _read(self, header: JournalHeader) -> int:
        """Take the whole records; return where they end in bytes."""
        content = self._path.read_bytes()
        end = content.rfind(b"\n") + 1
        lines = content[:end].splitlines()
        if not lines:
            return 0
        try:
            found = JournalHeader.model_validate_json(lines[0])
            self._stages = [StageFinished.model_validate_json(line) for line in lines[1:]]
        except ValidationError as error:
            raise JournalError(
                f"{self._path} is no journal, or is damaged: {error.errors()[0]['msg']}; delete it to start anew"
            ) from error
        if (found.task, found.policy) != (header.task, header.policy):
            raise JournalError(
                f"{self._path} is the journal of policy {found.policy!r} on {found.task!r}: "
                "use another path for this run"
            )
        self.header = found
        return end

    def replay(self, number: int) -> StageFinished | None:
        """Return the record of stage ``number``; None if it has yet to run."""
        if number > len(self._stages):
            return None
        return self._stages[number - 1].model_copy(update={"replayed": True})

    def __call__(self, event: Event) -> None:
        """Write a finished stage to the disk."""
        if isinstance(event, StageFinished) and not event.replayed:
            self._write(event.model_dump_json())

    def _write(self, line: str) -> None:
        self._file.write(f"{line}\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
