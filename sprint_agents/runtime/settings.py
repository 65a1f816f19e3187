"""The settings of a run that a resumed run must share, each as a short text that can be compared.

Invariant: an object is described by its contents, never by its address or by the order of a hash table, so two
processes describe it alike.
"""

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, cast
from weakref import WeakKeyDictionary

from pydantic import BaseModel

from sprint_agents.agents import Executor, Planner
from sprint_agents.dialects.base import AgentBrief, Dialect
from sprint_agents.policies import Policy

_DEEPEST = 100
_MOST = 100_000
"""Bounds on a description; data beyond them, such as a large table that a policy reads, is not compared."""

_digests: WeakKeyDictionary[Policy, str] = WeakKeyDictionary()


def describe_settings(
    policy: Policy,
    planner: Planner[Any],
    executor: Executor[Any] | None,
    dialect: Dialect,
    *,
    settles: object = None,
) -> dict[str, str]:
    """Describe a run's policy, agents and dialect: the name of each setting and a digest of it.

    What ``settles`` a stage is a setting if anything does.

    >>> async def policy(planning):
    ...     yield planning.ask()
    >>> from sprint_agents.dialects.json.dialect import JsonDialect
    >>> for name in describe_settings(policy, Planner(int), Executor(str), JsonDialect()):
    ...     print(name.replace(f"{sys.version_info[0]}.{sys.version_info[1]}", "3.x"))
    code of the policy under Python 3.x
    planner's type
    planner's instructions
    executor's type
    executor's instructions
    executor's tools
    dialect
    """
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"  # which compiles the same code to other bytes
    settings = {
        f"code of the policy under Python {version}": _digest_policy(policy),
        "planner's type": _digest(planner.schema),
        "planner's instructions": _digest(planner.instructions),
    }
    if executor is not None:
        settings |= {
            "executor's type": _digest(executor.schema),
            "executor's instructions": _digest(executor.instructions),
            "executor's tools": _digest(sorted(map(str, executor.brief.tools))),
        }
    if settles:
        settings["what settles a stage"] = digest_of_value(settles)
    return settings | {"dialect": _digest(_describe_dialect(dialect))}


def changed_settings(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the names of the settings that differ.

    Weights that only one side knows are no difference: an engine knows them if it has the model's files.

    >>> changed_settings({"model": "a", "weights": "1"}, {"model": "b"})
    ['model']
    """
    names = (name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return sorted(name for name in names if not name.endswith("weights") or (name in before and name in now))


def digest_of_value(value: object) -> str:
    """Return a digest of a value or a function by its contents: the same in any process.

    A function is its code and what that uses, as far as it is not from another installed package.

    >>> digest_of_value(lambda answer: answer == 4) == digest_of_value(lambda answer: answer == 5)
    False
    """
    return _digest(_Description(value).of(value))


def _digest_policy(policy: Policy) -> str:
    """Return the digest of a policy's code and parameters, once for a function: lists in them may grow as it runs."""
    try:
        digest = _digests.get(policy)
    except TypeError:  # an object that cannot be hashed or referred to weakly
        return digest_of_value(policy)
    if digest is None:
        digest = _digests[policy] = digest_of_value(policy)
    return digest


def _digest(description: object) -> str:
    return hashlib.sha256(repr(description).encode(errors="backslashreplace")).hexdigest()[:16]


def _describe_dialect(dialect: Dialect) -> object:
    """Describe a dialect by what it writes for agents without instructions."""
    neutral = dialect.bind(AgentBrief(), None)
    return (
        type(dialect).__qualname__,
        neutral.write_task("task"),
        [neutral.write_opening(1, form) for form in ("plan", "chain", "answer")],
        neutral.write_header(1, 1),
        neutral.write_plan(1, "text", ["one", "two"], after=[(), (1,)]),
        neutral.write_join(1, [], plan="plan"),
        [str(neutral.constraints(role)) for role in ("plan", "execution", "answer")],
    )


class _Description:
    """Describes values that a policy depends on, each mutable one and each function once.

    Functions of the standard library and of other installed packages are described without what they use in turn.
    """

    def __init__(self, policy: object) -> None:
        self._packages = {"sprint_agents", _package(policy)}
        self._seen: dict[int, object] = {}  # by their ids, which are theirs as long as they are kept here
        self._depth = 0

    def of(self, value: object) -> object:
        """Describe a value by its type and parts."""
        if value is None or isinstance(value, str | bytes | int | float | complex):
            return repr(value)
        kind = type(value).__qualname__
        if not isinstance(value, tuple | frozenset):
            if id(value) in self._seen:
                return kind
            self._seen[id(value)] = value
        if self._depth == _DEEPEST or len(self._seen) > _MOST:
            return kind
        self._depth += 1
        parts = [kind, *self._parts(value)]
        self._depth -= 1
        return parts

    def _parts(self, value: Any) -> Iterator[object]:
        if isinstance(value, FunctionType):
            yield from self._function(value)
        elif isinstance(value, MethodType):
            yield from map(self.of, (value.__func__, value.__self__))
        elif isinstance(value, partial):
            yield from map(self.of, (value.func, value.args, value.keywords))
        elif isinstance(value, CodeType):
            yield from (value.co_code, value.co_names, [self.of(one) for one in value.co_consts])
        elif isinstance(value, Mapping):
            yield from ([self.of(key), self.of(item)] for key, item in cast("Mapping[Any, Any]", value).items())
        elif isinstance(value, Set):
            yield sorted(str(self.of(item)) for item in cast("Set[Any]", value))
        elif isinstance(value, list | tuple):
            yield from map(self.of, cast("Sequence[Any]", value))
        elif isinstance(value, re.Pattern):
            pattern = cast("re.Pattern[Any]", value)
            yield from (pattern.pattern, pattern.flags)
        elif isinstance(value, type | Enum | ModuleType):
            yield getattr(value, "__name__", value)
        elif isinstance(value, BaseModel) or is_dataclass(value):
            names = type(value).model_fields if isinstance(value, BaseModel) else [one.name for one in fields(value)]
            yield from ([name, self.of(getattr(value, name, None))] for name in names)
        elif callable(value):  # an object that is a policy
            yield from (self.of(type(value).__call__), self.of(getattr(value, "__dict__", None)))

    def _function(self, function: FunctionType) -> Iterator[object]:
        yield self.of(function.__code__)
        yield [self.of(function.__defaults__), self.of(function.__kwdefaults__)]
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            yield [name, self.of(_contents(cell))]
        package = _package(function)
        installed = package in sys.stdlib_module_names or "site-packages" in function.__code__.co_filename
        if package in self._packages or not installed:
            known = function.__globals__
            yield from ([name, self.of(known[name])] for name in _names(function.__code__) if name in known)


def _package(function: object) -> str:
    return str(getattr(function, "__module__", "")).partition(".")[0]


def _names(code: CodeType) -> list[str]:
    """Return the names that the code and the functions in it may look up in their module."""
    inner = [name for one in code.co_consts if isinstance(one, CodeType) for name in _names(one)]
    return sorted({*code.co_names, *inner})


def _contents(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None
