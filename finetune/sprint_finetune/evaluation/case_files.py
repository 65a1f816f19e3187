"""Files of problems: public benchmarks as they are published, and files of your own.

=============  =====================================================================================================
own            ``task`` (no ``problem`` or ``question``), and optionally ``id``, ``answer``, and what a checker reads
countdown      ``nums``, ``target``
gpqa           ``Question``, ``Correct Answer``, ``Incorrect Answer 1`` to ``3``
other          a problem and an answer that curation recognises: MATH-500, MATH, AIME, GSM8K (see ``formats``)
=============  =====================================================================================================

The order of GPQA's choices depends only on the question and its choices, so it is the same in every run.
"""

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from sprint_agents.errors import ConfigurationError, escape_surrogates
from sprint_agents.nano.tasks import recognise
from sprint_finetune.curation.formats import fields_of
from sprint_finetune.curation.records import Reason
from sprint_finetune.curation.rows import BadRow, SourceRow, rows_of

from .cases import Case

_CHOICES = "ABCD"
_GPQA = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
_JSON = TypeAdapter[JsonValue](JsonValue)


class BadCase(NamedTuple):
    """A row that is not a case: its place in the file, such as ``line-7``, and why."""

    place: str
    reason: Reason
    detail: str


class CaseFile(BaseModel):
    """The cases of a file, how many there are of each format, and the rows that are not cases."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    cases: tuple[Case, ...]
    formats: Mapping[str, int]
    bad: tuple[BadCase, ...] = ()

    def __str__(self) -> str:
        """Say what was read, in a line."""
        formats = ", ".join(f"{name} {count}" for name, count in self.formats.items())
        text = f"{self.path}: {len(self.cases)} cases ({formats})"
        if not self.bad:
            return text
        reasons = ", ".join(f"{name} {count}" for name, count in Counter(row.reason for row in self.bad).items())
        first = self.bad[0]
        return f"{text}; {len(self.bad)} rows left out ({reasons}), the first is {first.place}: {first.detail}"


def load_cases(path: Path, *, limit: int | None = None, checker: bool = False) -> CaseFile:
    """Read a file of problems: JSON lines, a JSON array, Parquet or CSV, at most ``limit`` cases.

    The names of a row's fields determine its format. A row that is not a case is left out and reported. So is one whose
    answers cannot be checked, unless you have a ``checker``. A row without an id, or with one that an earlier row has,
    is named by its number.

    Raises:
        ConfigurationError: the file is missing or unreadable, or none of its rows is a case.
    """
    cases: dict[str, Case] = {}
    bad: list[BadCase] = []
    formats: Counter[str] = Counter()
    for number, row in enumerate(rows_of(path), 1):
        if len(cases) == limit:
            break
        found = BadCase(*row) if isinstance(row, BadRow) else _case(row, checker=checker)
        if isinstance(found, BadCase):
            bad.append(found)
            continue
        form, case = found
        formats[form] += 1
        name = escape_surrogates(case.id)
        if not name or name in cases:
            name = f"{path.stem}-{number}"
        cases[name] = case.model_copy(update={"id": name})
    if not cases:
        why = f": {bad[0].place}: {bad[0].detail}" if bad else ""
        raise ConfigurationError(f"{path} has no cases{why}")
    return CaseFile(path=path, cases=tuple(cases.values()), formats=formats, bad=tuple(bad))


def _case(row: SourceRow, *, checker: bool) -> tuple[str, Case] | BadCase:
    """Read a row as a case, and name its format; the id is empty if the row has none."""
    columns = row.columns
    form, read = _format_of(columns)
    try:
        case = read(columns)
    except (ValueError, TypeError) as error:
        return BadCase(row.place, "missing_field", str(error))
    if odd := [name for name in ("task", "answer") if _is_broken(getattr(case, name))]:
        return BadCase(row.place, "unreadable", f"its {odd[0]} has half of a surrogate pair, which UTF-8 cannot hold")
    if not case.task.strip():
        return BadCase(row.place, "missing_field", f"it has no problem: its fields are {', '.join(columns) or 'none'}")
    if case.answer is None and not checker and recognise(case.task) is None:
        return BadCase(
            row.place,
            "missing_field",
            f"it has no answer, and no program checks this task: its fields are {', '.join(columns)}",
        )
    return form, case.model_copy(update={"row": _as_json(columns)})


def _format_of(columns: Mapping[str, Any]) -> tuple[str, Callable[[Mapping[str, Any]], Case]]:
    if {"nums", "target"} <= columns.keys():
        return "countdown", _countdown
    if {"Question", *_GPQA} <= columns.keys():
        return "gpqa", _gpqa
    if "task" in columns and not {"problem", "question"} & {name.casefold() for name in columns}:
        return "own", _own
    form = fields_of(columns).format
    return "problem" if form == "unknown" else form, _other


def _own(row: Mapping[str, Any]) -> Case:
    answer = row.get("answer")
    return Case(id=_id(row, "id"), task=_text(row, "task"), answer=None if answer is None else str(answer))


def _countdown(row: Mapping[str, Any]) -> Case:
    """Read a row of Countdown-Tasks-3to4; in CSV the numbers are a text such as ``[44 19 35]``."""
    nums = row["nums"]
    numbers = [int(number) for number in (re.findall(r"-?\d+", nums) if isinstance(nums, str) else nums)]
    if len(numbers) < 2:
        raise ValueError(f"the field 'nums' has no two numbers: {nums!r:.80}")
    listed = ", ".join(map(str, sorted(numbers, reverse=True)))
    return Case(id=_id(row, "id"), task=f"Use {listed} to make {int(row['target'])}.")


def _gpqa(row: Mapping[str, Any]) -> Case:
    question = _text(row, "Question").strip()
    choices = [_text(row, name).strip() for name in _GPQA]
    right = choices[0]
    random.Random(hashlib.sha256("\0".join([question, *choices]).encode()).digest()).shuffle(choices)
    listed = "\n".join(f"{letter}) {choice}" for letter, choice in zip(_CHOICES, choices, strict=True))
    task = f"{question}\n\n{listed}\n\nAnswer with the letter of the right choice."
    return Case(id=_id(row, "Record ID"), task=task, answer=_CHOICES[choices.index(right)])


def _other(row: Mapping[str, Any]) -> Case:
    found = fields_of(row)
    return Case(id=found.id or "", task=found.problem or "", answer=found.answer)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"the field {name!r} has no text: it is {value!r:.80}")
    return value


def _is_broken(text: str | None) -> bool:
    return text is not None and escape_surrogates(text) != text


def _id(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value)


def _as_json(row: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return the fields of a row that are JSON values: Parquet also has dates and bytes."""
    values: dict[str, JsonValue] = {}
    for name, value in row.items():
        try:
            values[name] = _JSON.validate_python(value)
        except ValidationError:
            continue
    return values
