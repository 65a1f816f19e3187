"""A journal: one JSON record per finished stage, from which another process can resume the run.

Invariants:

- A record is written and flushed before the next stage begins, so a finished stage is never run again. If stages did
  not wait for their executions, this holds up to the last cut, where none of them was pending.
- An incomplete last line, which a killed process leaves, is cut off; that stage runs again.
- A resumed run replays its policy: the policy yields the same steps and is sent the recorded stages.
"""

import os
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sprint_agents.agents import Executor, Planner
from sprint_agents.engine import Engine
from sprint_agents.errors import InvalidRequest, InvalidResult, JournalError
from sprint_agents.events import Event, StageFinished


class JournalHeader(BaseModel):
    """The first line: the run to which the journal belongs."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    journal: Literal[1] = 1
    run_id: str
    task: str
    policy: str
    engine: str


class Journal:
    """The journal of one run, open for appending; a context manager and a listener of the run's events."""

    def __init__(self, path: Path, header: JournalHeader) -> None:
        """Open ``path``, which may hold the records of an earlier process.

        Raises:
            JournalError: the file belongs to another run, or is damaged before its last line.
        """
        self._path = path
        self._stages: dict[int, StageFinished] = {}
        self.header = header
        try:
            length = self._read(header) if path.exists() else 0
            self._file: IO[str] = path.open("a", encoding="utf-8")
        except OSError as error:
            raise JournalError(f"the journal {path} cannot be read and written: {error}") from error
        self._file.truncate(length)
        if not length:
            self._write(header.model_dump_json())

    def _read(self, header: JournalHeader) -> int:
        """Read the complete records up to the last cut; return where they end, in bytes."""
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
                f"{self._path} is not a journal, or is damaged: {error.errors()[0]['msg']}; delete it to start again"
            ) from error
        if (found.task, found.policy) != (header.task, header.policy):
            raise JournalError(
                f"{self._path} is the journal of policy {found.policy!r} on {found.task!r}: "
                "use another path for this run"
            )
        self.header = found
        # Where stages 1 and 2 are pending, 3 is a cut and 4 is pending, records 1 to 3 are kept and stage 4 runs again.
        cut = max((index for index, record in enumerate(records, 1) if record.cut), default=0)
        self._stages = {record.stage.number: record for record in records[:cut]}
        return sum(len(line) + 1 for line in lines[: cut + 1])

    def replay(self, number: int) -> StageFinished | None:
        """Return the record of stage ``number``; None if it has yet to run."""
        record = self._stages.get(number)
        return record and record.model_copy(update={"replayed": True})

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


def restore_values(record: StageFinished, agent: Executor[Any] | Planner[Any] | None) -> StageFinished:
    """Give the values of a recorded stage the type that ``agent`` declares, since JSON does not keep it.

    Raises:
        JournalError: the values are of another type.
    """
    if agent is None:
        return record
    try:
        executions = tuple(
            execution.model_copy(update={"value": agent.restore(execution.value)}) if execution.succeeded else execution
            for execution in record.stage.executions
        )
    except InvalidResult as error:
        raise JournalError(
            f"the journal's stage {record.stage.number} was written with another type of results ({error}): "
            "resume with the agents that began the run, or use another path"
        ) from error
    stage = record.stage.model_copy(update={"executions": executions})
    return record.model_copy(update={"stage": stage})


async def check_vocabulary(record: StageFinished, engine: Engine) -> None:
    """Refuse a recorded stage whose token ids mean something else to ``engine``.

    Raises:
        JournalError: the engine decodes them to another text.
    """
    try:
        same = await engine.decode(record.token_ids) == record.text
    except InvalidRequest:
        same = False
    if not same:
        raise JournalError(
            f"the journal was written with another tokenizer than that of {engine.name}: "
            "resume with the model that began the run, or use another path"
        )
