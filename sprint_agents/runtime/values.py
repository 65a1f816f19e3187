"""The values of recorded executions, as what a model wrote for each, from which it is read again.

The JSON form of a value may be lossy: aliases and excluded fields do not come back, secrets are masked. So a journal
keeps the text that the model wrote, and the agent that read it reads it again.

Invariant: a way to read a value again was tried before it is recorded, and gave an equal value, or one of the same type
if that defines no equality.
"""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict
from pydantic_core import from_json, to_json

from sprint_agents.agents import Executor, ExecutorFunction, Planner
from sprint_agents.errors import JournalError
from sprint_agents.plan import Execution, Stage

Agents = Sequence[Executor[Any] | Planner[Any]]
"""The agents of a run, which a record names by their index."""

_MASKED = b'"**********"'


class ValueRecord(BaseModel):
    """How to get a value again: the agent with this index reads ``text``, by default the text of the execution.

    Without an agent, ``text`` is plain JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    agent: int | None = None
    text: str | None = None
    is_json: bool = False

    def read(self, execution: Execution[Any], agents: Agents) -> Any:
        """Return the value.

        Raises:
            InvalidResult: the text does not validate.
        """
        text = execution.text if self.text is None else self.text
        return from_json(text) if self.agent is None else agents[self.agent].read(text, is_json=self.is_json)


def executor_of(function: ExecutorFunction[Any]) -> Executor[Any] | None:
    """Return an executor that reads results of the type that ``function`` declares to return; None if there is none."""
    called = function if inspect.isroutine(function) else type(function).__call__
    try:
        declared = get_type_hints(called, include_extras=True).get("return", Any)
        return None if declared is Any else Executor(declared)
    except Exception:  # annotations may name anything
        return None


def record_values(
    execution: Execution[Any], stage: int, agents: Agents
) -> tuple[Execution[Any], tuple[ValueRecord, ...]]:
    """Return an execution of ``stage`` without its values, and a record of each, those of inner stages included.

    Raises:
        JournalError: its result can only be lost: it is no JSON, and no model wrote it.
    """
    records: list[ValueRecord] = []

    def strip(execution: Execution[Any], stage: int, *, nested: bool) -> Execution[Any]:
        if execution.succeeded:
            records.append(_record(execution, agents) or _as_plain_json(execution, stage, nested=nested))
        stages: list[Stage[Any]] = []
        for inner in execution.stages:
            executions = tuple([strip(each, inner.number, nested=True) for each in inner.executions])
            stages.append(inner.model_copy(update={"executions": executions}))
        return execution.model_copy(update={"value": None, "stages": tuple(stages)})

    return strip(execution, stage, nested=False), tuple(records)


def restore_values(execution: Execution[Any], records: Sequence[ValueRecord], agents: Agents) -> Execution[Any]:
    """Undo ``record_values``.

    Raises:
        InvalidResult: a text no longer validates.
    """
    remaining = iter(records)

    def restore(execution: Execution[Any]) -> Execution[Any]:
        value = next(remaining).read(execution, agents) if execution.succeeded else None
        stages: list[Stage[Any]] = []
        for inner in execution.stages:
            executions = tuple([restore(each) for each in inner.executions])
            stages.append(inner.model_copy(update={"executions": executions}))
        return execution.model_copy(update={"value": value, "stages": tuple(stages)})

    return restore(execution)


def _record(execution: Execution[Any], agents: Agents) -> ValueRecord | None:
    """Return the first way to get the value of an execution again that works."""
    for way in _ways(execution, agents):
        try:
            found = way.read(execution, agents)
        except Exception:  # noqa: S112 - another type; its validators may raise anything
            continue
        value = execution.value
        if _same(found, value) or (type(found) is type(value) and way.text is None and _without_equality(value)):
            return way
    return None


def _ways(execution: Execution[Any], agents: Agents) -> Iterator[ValueRecord]:
    """Yield the ways to try: what the executor wrote, what the planner of its inner run wrote, the value as JSON."""
    numbers = range(len(agents))
    for number in numbers:
        yield ValueRecord(agent=number)
        yield ValueRecord(agent=number, is_json=True)
    if execution.stages and (answer := execution.stages[-1].answer) is not None:
        for number in numbers:
            yield ValueRecord(agent=number, text=answer)
    for by_alias in (False, True):
        try:
            text = to_json(execution.value, by_alias=by_alias, round_trip=True).decode()
        except ValueError:
            return
        for number in numbers:
            yield ValueRecord(agent=number, text=text, is_json=True)


def _same(found: object, value: object) -> bool:
    """Compare two values; NaN, which equals nothing, by what it looks like, unless that hides a secret."""
    if type(found) is not type(value):
        return False
    try:
        return bool(found == value) or (repr(found) == repr(value) and "*****" not in repr(value))
    except Exception:  # such as that of an array, whose comparison has no truth value
        return False


def _without_equality(value: object) -> bool:
    """Say whether a value equals at most itself; what was read from the same text is then taken for it."""
    try:
        return type(value).__eq__ is object.__eq__ or bool(value != value)
    except Exception:
        return True


def _as_plain_json(execution: Execution[Any], stage: int, *, nested: bool) -> ValueRecord:
    """Keep the JSON form of a value that no agent declares, such as the result of a function."""
    reason = "it holds a secret, which JSON masks"
    try:
        text = to_json(execution.value)
        from_json(text)
        if nested or _MASKED not in text:
            return ValueRecord(text=text.decode())
    except ValueError as error:
        if nested:  # only the record of the inner run shows it
            return ValueRecord(text="null")
        reason = str(error)
    raise JournalError(
        f"the journal cannot hold the result of subtask {stage}.{execution.number}, a "
        f"{type(execution.value).__name__}: {reason}. Return a value of a plain type, or run without a journal"
    )
