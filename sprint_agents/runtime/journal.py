"""A journal: one JSON record per finished stage, from which another process goes on.

Invariants:

- A record is written and flushed before the next stage begins; a finished stage is never run again. Where stages did
  not wait for their executions, that holds of all up to the last place where none was pending.
- A half-written last line, as a killed process leaves it, is cut off; that stage runs again.
- A resumed run replays its policy: the policy yields the same steps and is sent the recorded stages.
"""

import os
from pathlib import Path
from typing import IO, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from sprint_agents.agents import Executor, Planner
from sprint_agents.errors import InvalidResult, JournalError
from sprint_agents.events import Event, StageFinished

from .inner import InnerSprint


class JournalHeader(BaseModel):
    """The first line: what run this is the journal of."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

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
        self._stages: dict[int, StageFinished] = {}
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
            records = [StageFinished.model_validate_json(line) for line in lines[1:]]
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
        cut = max((index for index, record in enumerate(records, 1) if record.cut), default=0)
        self._stages = {record.stage.number: record for record in records[:cut]}
        return sum(len(line) + 1 for line in lines[: cut + 1])

    def replay(self, number: int) -> StageFinished | None:
        """Return the record of stage ``number``; None if it has yet to run."""
        recorded = self._stages.get(number)
        return recorded and recorded.model_copy(update={"replayed": True})

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


def restored(recorded: StageFinished, agent: object) -> StageFinished:
    """Give the values of a recorded stage the type of the ``agent`` that they are from; JSON has lost it.

    Raises:
        JournalError: they are of another type.
    """
    if isinstance(agent, InnerSprint):
        agent = agent.planner
    if not isinstance(agent, Executor | Planner):
        return recorded  # a plain function declares no type
    typed = cast("Executor[Any] | Planner[Any]", agent)
    try:
        executions = tuple(
            execution.model_copy(update={"value": typed.restore(execution.value)}) if execution.succeeded else execution
            for execution in recorded.stage.executions
        )
    except InvalidResult as error:
        raise JournalError(
            f"the journal's stage {recorded.stage.number} was written with another type of results ({error}): "
            "resume with the agents that began the run, or use another path"
        ) from error
    stage = recorded.stage.model_copy(update={"executions": executions})
    return recorded.model_copy(update={"stage": stage})
