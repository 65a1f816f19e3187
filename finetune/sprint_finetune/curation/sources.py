"""Sources of traces: JSONL files and Hugging Face data sets.

A source yields traces, and a rejection for each line that is not one. The order must not change, because the ids of
rejections contain the line's position. If the source as a whole is unusable (missing file, missing columns), an error
is raised instead.
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
"""In bytes. Of a longer line only the beginning is read, and the line is rejected."""


class Columns(BaseModel):
    """The names of the columns. Data without a column ``id`` gets ids from its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: str = "problem"
    trace: str = "trace"
    answer: str = "answer"
    id: str = "id"


class Reading(BaseModel):
    """How to read a source: its columns, and the maximum length of a trace in characters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: Columns = Columns()
    longest: int = Field(default=200_000, ge=1)


class RowSource(Protocol):
    """The part of a data set's interface that is used: column names, if known, and rows."""

    @property
    def column_names(self) -> list[str] | None:
        """Return the names of the columns, or None if they are not known."""
        ...

    def __iter__(self) -> Iterator[Mapping[str, Any]]: ...


def from_jsonl(path: Path, *, reading: Reading | None = None) -> Iterator[Trace | Rejection]:
    """Read a file with one JSON object per line. Blank lines are skipped.

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
    """Read a data set with Hugging Face ``datasets``: a folder, a data file, a saved data set, or a name on the hub.

    Raises:
        MissingExtra: ``datasets`` is not installed.
        ConfigurationError: the data set cannot be loaded, or a column is missing.
    """
    return from_rows(_load(name, split), name=name, reading=reading)


def from_rows(rows: RowSource, *, name: str, reading: Reading | None = None) -> Iterator[Trace | Rejection]:
    """Read the rows of a data set that is already loaded. ``name`` is used in messages.

    Raises:
        ConfigurationError: a column is missing.
    """
    reading = reading or Reading()
    known = rows.column_names
    columns = reading.columns
    missing = [column for column in (columns.problem, columns.trace, columns.answer) if known and column not in known]
    if missing:
        raise ConfigurationError(
            f"{name} has no column {_listed(missing)}: it has {_listed(sorted(known or []))}. "
            "Name the columns with the problem, the trace and the answer"
        )
    for number, row in enumerate(rows, 1):
        yield _trace(f"row-{number}", row, reading)


def _load(name: str, split: str) -> RowSource:
    try:
        datasets: Any = import_module("datasets")
    except ModuleNotFoundError as error:
        raise MissingExtra("finetune", "datasets") from error
    path = Path(name)
    try:
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(name)
            return cast(RowSource, loaded[split] if isinstance(loaded, dict) else loaded)
        if path.is_file():
            kind = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}.get(path.suffix, "json")
            return cast(RowSource, datasets.load_dataset(kind, data_files=name, split=split, streaming=True))
        return cast(RowSource, datasets.load_dataset(name, split=split, streaming=True))
    except Exception as error:  # the library raises many types: OSError, ValueError, its own, the hub's
        raise ConfigurationError(
            f"the data set {name!r} cannot be loaded: {' '.join(str(error).split())[:300]}"
        ) from error


def _beginnings(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file, cutting those that are longer than ``_LONGEST_LINE``."""
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
        return _rejected(place, "unreadable", f"this is not valid JSON: {error}")
    if not isinstance(value, dict):
        return _rejected(place, "unreadable", f"this is not a JSON object but a {type(value).__name__}")
    return _trace(place, value, reading)


def _trace(place: str, row: Mapping[str, Any], reading: Reading) -> Trace | Rejection:
    columns = reading.columns
    fields: dict[str, str] = {}
    for name, column in (("problem", columns.problem), ("answer", columns.answer), ("trace", columns.trace)):
        value = row.get(column)
        text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        if not isinstance(text, str):
            found = f"its columns are {_listed(row)}" if value is None else f"it holds {value!r:.80}"
            return _rejected(place, "missing_field", f"the column {column!r} has no text: {found}")
        if not text.strip():
            reason = "empty_trace" if name == "trace" else "missing_field"
            return _rejected(place, reason, f"the column {column!r} is empty")
        fields[name] = text
    own = row.get(columns.id)
    trace = Trace(id=str(own) if isinstance(own, str | int) and str(own) else _id_of(fields), **fields)
    return _checked(place, trace, reading)


def _checked(place: str, trace: Trace, reading: Reading) -> Trace | Rejection:
    if (size := len(trace.trace)) > reading.longest:
        return _rejected(
            place, "too_long", f"the trace has {size:,} characters, but at most {reading.longest:,} are allowed"
        )
    lines = lines_of(trace.trace)
    if not lines.chain:
        return _rejected(place, "empty_trace", "the trace has no line of reasoning")
    text = "\n".join([trace.problem, *lines.chain, *lines.conclusion])
    lexer = Lexer(load_tags())
    tags = [piece for piece in (*lexer.feed(text), *lexer.close()) if isinstance(piece, Tag)]
    if tags:
        return _rejected(
            place, "tag_in_text", f"it contains {tags[0].text!r}, a tag of the dialect that the sample is written in"
        )
    return trace


def _id_of(fields: Mapping[str, str]) -> str:
    content = "\0".join((fields["problem"], fields["trace"])).encode(errors="surrogatepass")
    return f"trace-{hashlib.sha256(content).hexdigest()[:16]}"


def _rejected(place: str, reason: Reason, detail: str) -> Rejection:
    return Rejection(id=place, stage="read", reason=reason, detail=detail)
