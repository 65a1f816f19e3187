"""A journal: one JSON record per finished stage, from which another process can resume the run.

Each line is ``{"crc32":"1a2b3c4d","record":{…}}``, first the header, then the stages.

Invariants:

- A record is written and flushed before the next stage begins, so a finished stage is never run again. If stages did
  not wait for their executions, this holds up to the last cut, where none of them was pending.
- An incomplete last line, which a killed process leaves, is cut off; that stage runs again. Any other damage is an
  error: a checksum covers its record and the checksum before it, so no line can be changed, lost or added unnoticed.
- One run at a time has the journal open.
- A resumed run replays its policy: the policy yields the same steps and is sent the recorded stages. So a journal is
  only resumed with the settings that began it.
"""

import os
import re
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sprint_agents.agents import Executor, Planner
from sprint_agents.engine import Engine
from sprint_agents.errors import InvalidRequest, InvalidResult, JournalError
from sprint_agents.events import Event, StageFinished

from .values import ValueRecord, record_values, restore_values

_LINE = re.compile(rb'\{"crc32":"([0-9a-f]{8})","record":(.*)\}\r?')
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class JournalHeader(BaseModel):
    """The first line: the run to which the journal belongs, and its ``settings``, which a resumed run must share."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    journal: Literal[2] = 2
    run_id: str
    task: str
    policy: str
    settings: Mapping[str, str]


class StageRecord(BaseModel):
    """A finished stage without its values, and how each value is read again."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    finished: StageFinished
    values: tuple[ValueRecord, ...]


class Journal:
    """The journal of one run, open for appending; a context manager and a listener of the run's events."""

    def __init__(self, path: Path, header: JournalHeader, agents: Sequence[Executor[Any] | Planner[Any]]) -> None:
        """Open ``path``, which may hold the records of an earlier process; ``agents`` read the values of results.

        Raises:
            JournalError: the file belongs to another run, is damaged before its last line, or is in use.
        """
        self._path = path
        self._agents = agents
        self._stages: dict[int, StageRecord] = {}
        self._checksum = 0
        self.header = header
        try:
            self._file: IO[bytes] = path.open("a+b")
        except OSError as error:
            raise self._unusable(error) from error
        try:
            self._lock()
            length = self._read(header)
            self._file.truncate(length)
            if not length:
                self._write(header)
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            _lock(self._file)
        except (BlockingIOError, PermissionError) as error:
            raise JournalError(
                f"the journal {self._path} is in use by another run: wait until that ends, or use another path"
            ) from error
        except OSError as error:
            raise self._unusable(error) from error

    def _read(self, header: JournalHeader) -> int:
        """Read the complete records up to the last cut; return where they end, in bytes."""
        self._file.seek(0)
        lines = self._lines(self._file.read())
        first = next(lines, None)
        if first is None:
            return 0
        end, self._checksum, content = first
        try:
            found = JournalHeader.model_validate_json(content)
            self._check_header(found, header)
            self.header = found
            # If stages 1 and 2 are pending, 3 is a cut and 4 is pending, records 1 to 3 are kept; stage 4 runs again.
            since_cut: list[StageRecord] = []
            for record_end, checksum, content in lines:
                record = StageRecord.model_validate_json(content)
                since_cut.append(record)
                if record.finished.cut:
                    end, self._checksum = record_end, checksum
                    self._stages.update({record.finished.stage.number: record for record in since_cut})
                    since_cut.clear()
        except ValidationError as error:
            raise self._damaged(error.errors()[0]["msg"]) from error
        return end

    def _lines(self, content: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yield each complete line: where it ends, its checksum, and its record; also if an editor wrote CRLF or a BOM.

        Raises:
            JournalError: a line is damaged.
        """
        checksum = 0
        start = len(_BYTE_ORDER_MARK) if content.startswith(_BYTE_ORDER_MARK) else 0
        number = 1
        while end := content.find(b"\n", start) + 1:
            line = _LINE.fullmatch(content, start, end - 1)
            if line is None and number == 1 and content.startswith(b'{"journal":1,', start):
                raise JournalError(
                    f"{self._path} was written by an older version of this library, with which it can be resumed; "
                    "use another path for a new run"
                )
            checksum = zlib.crc32(line[2], checksum) if line else 0
            if line is None or int(line[1], 16) != checksum:
                raise self._damaged(f"line {number} is not as it was written")
            yield end, checksum, line[2]
            start, number = end, number + 1

    def _check_header(self, found: JournalHeader, header: JournalHeader) -> None:
        """Refuse to resume another run.

        Raises:
            JournalError: the task, the policy, or a setting differs.
        """
        if (found.task, found.policy) != (header.task, header.policy):
            raise JournalError(
                f"{self._path} is the journal of policy {found.policy!r} on {found.task!r}: "
                "use another path for this run"
            )
        before, now = dict(found.settings), dict(header.settings)
        if changed := sorted(name for name in before | now if before.get(name) != now.get(name)):
            raise JournalError(
                f"{self._path} was written with other settings, and a resumed run would mix both. Changed since: "
                f"{', '.join(changed)}. Resume with the settings that began the run, or use another path"
            )

    def replay(self, number: int) -> StageFinished | None:
        """Return the record of stage ``number``, with its values; None if it has yet to run.

        Raises:
            JournalError: a value no longer validates.
        """
        record = self._stages.get(number)
        if record is None:
            return None
        try:
            stage = restore_values(record.finished.stage, record.values, self._agents)
        except InvalidResult as error:
            raise JournalError(
                f"the journal's stage {number} was written with another type of results ({error}): "
                "resume with the agents that began the run, or use another path"
            ) from error
        return record.finished.model_copy(update={"stage": stage, "replayed": True})

    def __call__(self, event: Event) -> None:
        """Write a finished stage to the disk.

        Raises:
            JournalError: the journal cannot hold one of its values, or the disk is full.
        """
        if isinstance(event, StageFinished) and not event.replayed:
            stage, values = record_values(event.stage, self._agents)
            self._write(StageRecord(finished=event.model_copy(update={"stage": stage}), values=values))

    def _write(self, record: JournalHeader | StageRecord) -> None:
        try:
            content = record.model_dump_json().encode()
        except ValueError as error:  # half of a surrogate pair in a text
            raise JournalError(f"the journal {self._path} cannot hold a record: {error}") from error
        self._checksum = zlib.crc32(content, self._checksum)
        try:
            self._file.write(b'{"crc32":"%08x","record":%b}\n' % (self._checksum, content))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> JournalError:
        return JournalError(f"the journal {self._path} cannot be read and written: {error}")

    def _damaged(self, reason: str) -> JournalError:
        return JournalError(f"{self._path} is not a journal, or is damaged: {reason}; delete it to start again")

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        # Other processes cannot read a locked byte, so this one is far after the end of any journal.
        file.seek(2**30)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


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
