"""The file of a journal: lines of JSON with checksums, appended by one run at a time.

Each line is ``{"crc32":"1a2b3c4d","record":{…}}``.

Invariants:

- A checksum covers its record and the checksum before it, so no line can be changed, lost or added unnoticed. Only an
  incomplete last line, which a killed process leaves, is cut off.
- When ``append`` returns, a line is with the operating system, so it survives the process; after ``sync`` it survives
  the machine. No line is ever written again.
- The file is locked while it is open.
"""

import asyncio
import os
import re
import stat
import sys
import zlib
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

from sprint_agents.errors import JournalError
from sprint_agents.functions import Threads

_LINE = re.compile(rb'\{"crc32":"([0-9a-f]{8})","record":(.*)\}\r?')
_BEGINNING = b'{"crc32":"'
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class JournalFile:
    """An open journal; ``records`` are those that it had when it was opened."""

    def __init__(self, path: Path) -> None:
        """Open and lock ``path``, which need not exist. The first ``append`` changes the file.

        Raises:
            JournalError: it cannot be opened, another run has it open, or it is damaged.
        """
        self._path = path
        self._lines = self._synced_lines = 0
        self._syncing = asyncio.Lock()
        try:
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):  # to read a device or a pipe may never end
                raise JournalError(f"the journal {path} is a device or a pipe: use the path of a file")
            self._lock()
            self._file.seek(0)
            lines, self._end = parse(self._file.readall(), path)
        except BaseException:
            self._file.close()
            raise
        self._checksum = lines[-1][0] if lines else 0
        self.records = [record for _, record in lines]

    def _lock(self) -> None:
        try:
            _lock(self._file)
        except (BlockingIOError, PermissionError) as error:
            raise JournalError(
                f"the journal {self._path} is in use by another run: wait until that ends, or use another path"
            ) from error
        except OSError as error:
            raise self._unusable(error) from error

    def append(self, record: bytes) -> None:
        """Write a record after the last complete one.

        Raises:
            JournalError: the file cannot be written; it ends with the last complete record.
        """
        checksum = zlib.crc32(record, self._checksum)
        line = b'{"crc32":"%08x","record":%b}\n' % (checksum, record)
        try:
            if not self._lines:
                self._file.truncate(self._end)
            remaining = memoryview(line)
            while remaining:
                remaining = remaining[self._file.write(remaining) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._end)
            raise self._unusable(error) from error
        self._checksum = checksum
        self._end += len(line)
        self._lines += 1

    async def sync(self, threads: Threads) -> None:
        """Return when all that was appended before is on the disk; calls that wait meanwhile share one operation.

        Raises:
            JournalError: the disk cannot be written.
        """
        lines = self._lines
        async with self._syncing:
            if self._synced_lines >= lines:
                return
            lines = self._lines
            try:
                await threads.run(partial(os.fsync, self._file.fileno()))
            except OSError as error:
                raise self._unusable(error) from error
            self._synced_lines = lines

    def close(self) -> None:
        """Close and unlock the file."""
        # Closing alone does not unlock it while a thread of a cancelled run still waits for the disk.
        with suppress(OSError):
            _unlock(self._file)
        self._file.close()

    def _unusable(self, error: OSError) -> JournalError:
        return JournalError(f"the journal {self._path} cannot be read and written: {error}")


def is_journal(path: Path) -> bool:
    """Say whether a file begins as a journal does; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            beginning = file.read(len(_BYTE_ORDER_MARK) + len(_BEGINNING))
    except OSError:
        return False
    return beginning.removeprefix(_BYTE_ORDER_MARK).startswith(_BEGINNING)


def parse(content: bytes, path: Path) -> tuple[list[tuple[int, bytes]], int]:
    """Return the checksum and the record of each complete line, and where the last of them ends.

    Windows line ends and a byte order mark, which an editor may have written, do no harm.

    Raises:
        JournalError: a line is damaged, or the content of ``path`` is no journal.
    """
    records: list[tuple[int, bytes]] = []
    checksum = 0
    start = len(_BYTE_ORDER_MARK) if content.startswith(_BYTE_ORDER_MARK) else 0
    first = content[start : start + len(_BEGINNING)]
    if not _BEGINNING.startswith(first):
        raise _not_a_journal(content, path)
    end = 0
    while after := content.find(b"\n", start) + 1:
        line = _LINE.fullmatch(content, start, after - 1)
        checksum = zlib.crc32(line[2], checksum) if line else 0
        if line is None or int(line[1], 16) != checksum:
            raise damaged(path, f"line {len(records) + 1} is not as it was written")
        records.append((checksum, line[2]))
        start = end = after
    return records, end


def damaged(path: Path, reason: str) -> JournalError:
    """Return the error for a file that cannot be read as a journal."""
    return JournalError(f"{path} is not a journal, or is damaged: {reason}; delete it to start again")


def outdated(path: Path) -> JournalError:
    """Return the error for a journal of an older format."""
    return JournalError(
        f"{path} was written by an older version of this library, with which it can be resumed; "
        "use another path for a new run"
    )


def _not_a_journal(content: bytes, path: Path) -> JournalError:
    is_first_format = content.removeprefix(_BYTE_ORDER_MARK).startswith(b'{"journal":1,')
    return outdated(path) if is_first_format else damaged(path, "line 1 is not as it was written")


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        # Other processes cannot read a locked byte, so this one is far after the end of any journal.
        file.seek(2**30)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _unlock(file: IO[bytes]) -> None:
        file.seek(2**30)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
