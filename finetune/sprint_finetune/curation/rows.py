"""The rows of a file: JSON lines, a JSON array, Parquet or CSV, found by the file's content.

A row that cannot be read is a ``BadRow``; the rows after it are read all the same.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NamedTuple

from sprint_agents.errors import ConfigurationError, MissingExtra

from .records import Reason

LONGEST_LINE = 64 * 2**20
"""In bytes. Of a longer line only the beginning is read, and the line is rejected."""

_DIGITS = 4_000
"""A longer integer is read as text: Python refuses to convert it."""
_MARK = b"\xef\xbb\xbf"
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
}
"""The first bytes of compressed files."""


class SourceRow(NamedTuple):
    """A row and its place in the file, such as ``line-7``."""

    place: str
    columns: Mapping[str, Any]


class BadRow(NamedTuple):
    """A row that cannot be read, and why."""

    place: str
    reason: Reason
    detail: str


def rows_of(path: Path) -> Iterator[SourceRow | BadRow]:
    """Read a file. A byte order mark and blank lines are skipped.

    Raises:
        ConfigurationError: the file cannot be read, or is compressed.
        MissingExtra: it is a Parquet file, and pyarrow is not installed.
    """
    try:
        with path.open("rb") as file:
            start = file.read(1024)
            file.seek(0)
            if kind := next((kind for first, kind in _COMPRESSED.items() if start.startswith(first)), None):
                raise ConfigurationError(f"{path} is compressed with {kind}: decompress it first")
            if start.startswith(b"PAR1"):
                yield from _parquet(path)
            elif path.suffix == ".csv":
                yield from _csv(path)
            elif start.removeprefix(_MARK).lstrip().startswith(b"[") and _is_array(path, start):
                yield from _array(file.read().removeprefix(_MARK))
            else:
                yield from _lines(file)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error


def _is_array(path: Path, start: bytes) -> bool:
    """Tell whether a file that begins with a bracket is one array: of objects, or by its name."""
    return path.suffix == ".json" or start.removeprefix(_MARK).lstrip()[1:].lstrip()[:1] in (b"{", b"]", b"")


def _lines(file: IO[bytes]) -> Iterator[SourceRow | BadRow]:
    for number, line in enumerate(_beginnings(file), 1):
        line = line.removeprefix(_MARK)
        if line.strip():
            yield _row(f"line-{number}", line)


def _beginnings(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file, cutting those that are longer than ``LONGEST_LINE``."""
    while line := file.readline(LONGEST_LINE + 1):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST_LINE)
        yield line


def _row(place: str, line: bytes) -> SourceRow | BadRow:
    if len(line) > LONGEST_LINE:
        return BadRow(place, "too_long", f"the line has more than {LONGEST_LINE:,} bytes")
    try:
        value: Any = json.loads(line.decode(), parse_int=_integer)
    except UnicodeDecodeError as error:
        return _undecodable(place, error)
    except (ValueError, RecursionError) as error:
        return BadRow(place, "unreadable", f"this is not valid JSON: {error}")
    return _object(place, value)


def _undecodable(place: str, error: UnicodeDecodeError) -> BadRow:
    return BadRow(place, "unreadable", f"this is not UTF-8 ({error.reason} at byte {error.start}): convert the file")


def _object(place: str, value: Any) -> SourceRow | BadRow:
    if not isinstance(value, dict):
        return BadRow(place, "unreadable", f"this is not a JSON object but a {type(value).__name__}")
    return SourceRow(place, value)  # pyright: ignore[reportUnknownArgumentType]


def _array(content: bytes) -> Iterator[SourceRow | BadRow]:
    """Read the elements one by one, so that a broken one ends the array but not the elements before it."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        yield _undecodable("file", error)
        return
    decoder = json.JSONDecoder(parse_int=_integer)
    position = text.index("[") + 1
    number = 0
    while (position := _skipped(text, position)) < len(text) and text[position] != "]":
        number += 1
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            yield BadRow(f"row-{number}", "unreadable", f"the array cannot be read from here on: {error}")
            return
        yield _object(f"row-{number}", value)


def _skipped(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n,":
        position += 1
    return position


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _DIGITS else digits


def _csv(path: Path) -> Iterator[SourceRow | BadRow]:
    csv.field_size_limit(LONGEST_LINE)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            for number, row in enumerate(reader, 1):
                yield SourceRow(f"row-{number}", {key: value for key, value in row.items() if key})
        except UnicodeDecodeError as error:
            yield _undecodable("file", error)
        except csv.Error as error:
            yield BadRow(f"row-{reader.line_num}", "unreadable", f"this is not valid CSV: {error}")


def _parquet(path: Path) -> Iterator[SourceRow]:
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise MissingExtra("finetune", "pyarrow") from error
    try:
        number = 0
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=256):
            for row in batch.to_pylist():
                number += 1
                yield SourceRow(f"row-{number}", row)
    except Exception as error:  # pyarrow raises its own types
        raise ConfigurationError(f"{path} is not a readable Parquet file: {error}") from error
