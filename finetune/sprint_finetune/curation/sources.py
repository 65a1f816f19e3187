"""Where traces come from: JSONL files and Hugging Face data sets.

A source yields traces, and a rejection for each line that is none, in an order that does not change: places name the
lines. What is wrong with a source as a whole (no such file, missing columns) is an error instead.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Protocol, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.dialects.tags.lexer import Lexer, Tag
from sprint_agents.errors import ConfigurationError, MissingExtra

from .lines import lines_of
from .records import Reason, Rejection, Trace

_LONGEST_LINE = 64 * 2**20
"""Bytes; of a longer line only the beginning is read, and it is rejected."""


class Columns(BaseModel):
    """The names of the columns; ``id`` is optional in the data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: str = "problem"
    trace: str = "trace"
    answer: str = "answer"
    id: str = "id"


class Reading(BaseModel):
    """How a source is read: its columns, and the most characters that a trace may have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: Columns = Columns()
    longest: int = Field(default=200_000, ge=1)


class Rows(Protocol):
    """A data set as far as it is read: its columns if they are known, and its rows."""

    @property
    def column_names(self) -> list[str] | None:
        """Return the names of the columns."""
        ...

    def __iter__(self) -> Iterator[Mapping[str, Any]]: ...


def from_jsonl(path: Path, *, reading: Reading | None = None) -> Iterator[Trace | Rejection]:
    """Read a file with one JSON object a line; blank lines are skipped.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    reading = reading or Reading()
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_beginnings(file), 1):
                if line.strip():
                    yield _from_line(f"line-{number}", line, reading)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error


def from_dataset(name: str, *, split: str = "train", reading: Reading | None = None) -> Iterator[Trace | Rejection]:
    """Read a data set of Hugging Face ``datasets``: a folder or file of data, one saved to disk, or a name on the hub.

    Raises:
        MissingExtra: ``datasets`` is not installed.
        ConfigurationError: it cannot be loaded, or lacks a column.
    """
    return from_rows(_load(name, split), name=name, reading=reading)


def from_rows(rows: Rows, *, name: str, reading: Reading | None = None) -> Iterator[Trace | Rejection]:
    """Read the rows of a data set that is loaded already; ``name`` is for messages.

    Raises:
        ConfigurationError: it lacks a column.
    """
    reading = reading or Reading()
    known = rows.column_names
    columns = reading.columns
    missing = [column for column in (columns.problem, columns.trace, columns.answer) if known and column not in known]
    if missing:
        raise ConfigurationError(
            f"{name} has no column {_listed(missing)}: it has {_listed(sorted(known or []))}. "
            "Say which columns hold the problem, the trace and the answer"
        )
    for number, row in enumerate(rows, 1):
        yield _trace(f"row-{number}", row, reading)


def _load(name: str, split: str) -> Rows:
    try:
        datasets: Any = import_module("datasets")
    except ModuleNotFoundError as error:
        raise MissingExtra("finetune", "datasets") from error
    path = Path(name)
    try:
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(name)
            return cast(Rows, loaded[split] if isinstance(loaded, dict) else loaded)
        if path.is_file():
            kind = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}.get(path.suffix, "json")
            return cast(Rows, datasets.load_dataset(kind, data_files=name, split=split, streaming=True))
        return cast(Rows, datasets.load_dataset(name, split=split, streaming=True))
    except Exception as error:  # the library raises of everything: OSError, ValueError, its own, the hub's
        raise ConfigurationError(
            f"the data set {name!r} cannot be loaded: {' '.join(str(error).split())[:300]}"
        ) from error


def _beginnings(file: IO[bytes]) -> Iterator[bytes]:
    """Return lines, of overlong ones only a beginning that is itself too long."""
    while line := file.readline(_LONGEST_LINE + 1):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(_LONGEST_LINE)
        yield line


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _from_line(place: str, line: bytes, reading: Reading) -> Trace | Rejection:
    if len(line) > _LONGEST_LINE:
        return _rejected(place, "too_long", f"the line has more than {_LONGEST_LINE:,} bytes")
    try:
        value: JsonValue = json.loads(line)
    except (ValueError, RecursionError) as error:
        return _rejected(place, "unreadable", f"this is no JSON: {error}")
    if not isinstance(value, dict):
        return _rejected(place, "unreadable", f"this is no JSON object but a {type(value).__name__}")
    return _trace(place, value, reading)


def _trace(place: str, row: Mapping[str, Any], reading: Reading) -> Trace | Rejection:
    columns = reading.columns
    fields: dict[str, str] = {}
    for name, column in (("problem", columns.problem), ("answer", columns.answer), ("trace", columns.trace)):
        value = row.get(column)
        text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        if not isinstance(text, str):
            found = f"its columns are {_listed(row)}" if value is None else f"it holds {value!r:.80}"
            return _rejected(place, "missing_field", f"there is no text in the column {column!r}: {found}")
        if not text.strip():
            reason = "empty_trace" if name == "trace" else "missing_field"
            return _rejected(place, reason, f"the column {column!r} is empty")
        fields[name] = text
    given = row.get(columns.id)
    trace = Trace(id=str(given) if isinstance(given, str | int) and str(given) else _id_of(fields), **fields)
    return _checked(place, trace, reading)


def _checked(place: str, trace: Trace, reading: Reading) -> Trace | Rejection:
    if (size := len(trace.trace)) > reading.longest:
        return _rejected(place, "too_long", f"the trace has {size:,} characters, at most {reading.longest:,} are read")
    lines = lines_of(trace.trace)
    if not lines.chain:
        return _rejected(place, "empty_trace", "the trace has no line of reasoning")
    text = "\n".join([trace.problem, *lines.chain, *lines.conclusion])
    lexer = Lexer(load_tags())
    tags = [piece for piece in (*lexer.feed(text), *lexer.close()) if isinstance(piece, Tag)]
    if tags:
        return _rejected(
            place, "tag_in_text", f"it holds {tags[0].text!r}, a tag of the dialect that it is to be written in"
        )
    return trace


def _id_of(fields: Mapping[str, str]) -> str:
    content = "\0".join((fields["problem"], fields["trace"])).encode(errors="surrogatepass")
    return f"trace-{hashlib.sha256(content).hexdigest()[:16]}"


def _rejected(place: str, reason: Reason, detail: str) -> Rejection:
    return Rejection(id=place, stage="read", reason=reason, detail=detail)
