"""Typed agents: the types of a planner's answer and an executor's result, and how to read them from a model's text."""

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Annotated, Any, Generic, Self, cast, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from typing_extensions import TypeForm

from .arguments import at_least, checked, more_than_zero
from .dialects.base import AgentBrief
from .engine import Engine, Sampling
from .errors import ConfigurationError, InvalidResult, describe, escape_surrogates, show
from .plan import ResultT, Subtask
from .run import AnswerT
from .run_context import DepsT, RunContext
from .tools import Tool, explain, json_schema, make_adapter, validate_json

ExecutorFunction = (
    Callable[[Subtask], Awaitable[ResultT] | ResultT]
    | Callable[[RunContext[DepsT], Subtask], Awaitable[ResultT] | ResultT]
)
"""A plain function as executor, async or not: its return value is the result, without a model."""

Validator = Callable[[ResultT], Awaitable[None] | None] | Callable[[RunContext[Any], ResultT], Awaitable[None] | None]
"""Refuses a value that is of the right type by raising ``ModelRetry``; async or not."""

_WRAPPERS = {"answer", "output", "response", "result", "value"}
_SCALARS = {"boolean", "integer", "number", "string"}


@checked
class _Agent(Generic[ResultT]):
    """A declared type with its reader and its ``validator``, and the settings of the model's requests."""

    tools: Mapping[str, Tool[..., Any]] = MappingProxyType({})

    def __init__(
        self,
        declared: TypeForm[ResultT] = str,
        /,
        *,
        instructions: str = "",
        attempts: int = 2,
        max_tokens: int | None = None,
        sampling: Sampling | None = None,
        engine: Engine | None = None,
        validator: Validator[ResultT] | None = None,
    ) -> None:
        at_least(1, attempts=attempts, max_tokens=max_tokens)
        self.validator = validator
        self.type_name = _name(declared)
        self.instructions = inspect.cleandoc(instructions)
        self.attempts = attempts
        self.max_tokens = max_tokens
        self.sampling = sampling
        self.engine = engine
        self._adapter, self.schema = _reader(declared)
        schema: Mapping[str, Any] = {} if self.schema is None else from_json(self.schema)
        self._scalar = schema.get("type") in _SCALARS
        fields: list[str] = [*schema.get("properties", {})]
        self._only_field = fields[0] if len(fields) == 1 else None

    @cached_property
    def brief(self) -> AgentBrief:
        """The description of this agent and its tools that models read."""
        tools = tuple(tool.brief for tool in self.tools.values())
        return AgentBrief(instructions=self.instructions, schema=self.schema, tools=tools)

    def with_seed(self, seed: int) -> Self:
        """Return the agent with this seed in its own sampling, if it has some."""
        if self.sampling is None:
            return self
        changed = copy(self)
        changed.sampling = self.sampling.model_copy(update={"seed": seed})
        return changed

    def read(self, text: str, *, is_json: bool = False) -> ResultT:
        """Read ``text`` as the declared type: as JSON or, unless ``is_json``, as a plain value such as ``81``.

        Raises:
            InvalidResult: the text does not validate; ``reason`` says why, in words for the model.
        """
        if self.schema is None and not is_json:
            return text.strip()  # type: ignore[return-value] - without a schema the type is str
        try:
            return validate_json(self._adapter, text)
        except ValidationError as error:
            for inner in self._meant(text):
                with suppress(ValueError):  # a ValidationError is one
                    return validate_json(self._adapter, inner)
            if is_json:
                raise self._invalid(text, error) from error
            try:
                return self._adapter.validate_strings(text.strip())
            except ValidationError as plain:
                raise self._invalid(text, plain if self._scalar else error) from error
            except Exception as broken:
                raise self._invalid(text, broken) from broken
        except Exception as error:  # a validator of the type raised an error that pydantic does not collect
            raise self._invalid(text, error) from error

    def accept(self, value: object) -> ResultT:
        """Validate a Python value, such as the result of a function, as the declared type.

        Raises:
            InvalidResult: the value does not validate.
        """
        try:
            if self.schema is None and not isinstance(value, str):
                value = str(value)
            return self._adapter.validate_python(value)
        except Exception as error:
            raise self._invalid(value if isinstance(value, str) else show(value), error) from error

    def _meant(self, text: str) -> Iterator[str]:
        """Yield what an invalid text may mean as JSON: without a wrapper, or as the only field of the declared type."""
        values = [*_unwrapped(text)]
        yield from values
        for value in (text, *values) if self._only_field is not None else ():
            with suppress(ValueError):
                if not isinstance(inner := from_json(value), dict):
                    yield to_json({self._only_field: inner}).decode()

    def _invalid(self, text: str, error: Exception) -> InvalidResult:
        reason = f"is no {self.type_name}: {explain(error) if isinstance(error, ValidationError) else describe(error)}"
        return InvalidResult(f"{text.strip()[:200]!r} {reason}", text=text, reason=f"it {reason}")


@checked
class Executor(_Agent[ResultT]):
    """The agent that carries out one subtask, over a fork of the planner's context.

    Args:
        result: the type of a result: a pydantic model, a dataclass, or any plain type, unions included.
        instructions: further instructions for executors. They come before the task, where the planner reads them too.
        tools: typed functions that the model may call; see ``Tool.of``.
        tool_timeout: the most seconds of one tool call.
        tool_turns: the most turns of one execution that call tools; several calls in one turn count once.
        attempts: the most tries for a valid result; before each further try the model reads the error.
        max_tokens: the most new tokens of one turn; by default the run's ``Limits.execution_tokens``.
        sampling: how to draw tokens; by default as the run does.
        engine: the engine of the executors; by default the run's.
        validator: a function of a result, async or not, that raises ``ModelRetry`` if the model shall try again.

    >>> Executor(int).read(" 42 ")
    42
    """

    def __init__(
        self,
        result: TypeForm[ResultT] = str,
        /,
        *,
        instructions: str = "",
        tools: Sequence[Tool[..., Any] | Callable[..., Any]] = (),
        tool_timeout: float = 60.0,
        tool_turns: int = 8,
        attempts: int = 2,
        max_tokens: int | None = None,
        sampling: Sampling | None = None,
        engine: Engine | None = None,
        validator: Validator[ResultT] | None = None,
    ) -> None:
        super().__init__(
            result,
            instructions=instructions,
            attempts=attempts,
            max_tokens=max_tokens,
            sampling=sampling,
            engine=engine,
            validator=validator,
        )
        at_least(1, tool_turns=tool_turns)
        more_than_zero(tool_timeout=tool_timeout)
        self.tools = _by_name(tools)
        self.tool_timeout = tool_timeout
        self.tool_turns = tool_turns


class Planner(_Agent[AnswerT]):
    r"""The agent that writes the plans and the answer.

    Args:
        declared: the type of the answer, as in ``Executor``.
        instructions: further instructions, which come before the task.
        attempts: the most tries for a valid answer; before each further try the model reads the error.
        max_tokens: the most new tokens of one plan; by default the run's ``Limits.plan_tokens``.
        sampling: how to draw tokens; by default as the run does.
        engine: the engine of the planner; by default the run's.
        validator: a function of the answer, async or not, that raises ``ModelRetry`` if the model shall try again.

    >>> Planner(list[int]).read("[3, 7]")
    [3, 7]
    """


def _unwrapped(text: str) -> Iterator[str]:
    r"""Yield the JSON that models wrap once more, in a string or under one of the keys that they use for a value.

    >>> list(_unwrapped('{"result": "{\\"x\\": 1}"}'))
    ['"{\\"x\\": 1}"', '{"x": 1}']
    """
    while True:
        try:
            value: object = from_json(text)
        except ValueError:
            return
        if isinstance(value, str):
            text = value
        elif isinstance(value, dict) and len(fields := cast("dict[str, object]", value)) == 1:
            ((key, inner),) = fields.items()
            if key not in _WRAPPERS:
                return
            text = to_json(inner).decode()
        else:
            return
        yield text


def as_text(value: Any) -> str:
    """Return a function's result as the planner reads it: strings as text that UTF-8 can hold, other values as JSON."""
    return escape_surrogates(value) if isinstance(value, str) else to_json(value).decode()


def _reader(declared: Any) -> tuple[TypeAdapter[Any], str | None]:
    """Return the adapter of a type and its JSON schema (None for ``str``); cached by type.

    Raises:
        ConfigurationError: JSON cannot hold values of the type.
    """
    try:
        return _make_reader(declared)
    except TypeError:  # an unhashable annotation, such as one that holds a list
        return _make_reader.__wrapped__(declared)


@lru_cache(maxsize=256)
def _make_reader(declared: Any) -> tuple[TypeAdapter[Any], str | None]:
    if inspect.isroutine(declared):
        raise ConfigurationError(
            f"{_name(declared)} cannot be a result, since it is a function: to have it carry out subtasks, pass it to "
            "Sprint as executor="
        )
    what = f"{_name(declared)} cannot be a result, since pydantic has no schema for it"
    adapter = make_adapter(declared, what=what)
    return adapter, None if declared is str else json_schema(adapter, what=f"the result {_name(declared)}")


def _by_name(tools: Sequence[Tool[..., Any] | Callable[..., Any]]) -> dict[str, Tool[..., Any]]:
    found: dict[str, Tool[..., Any]] = {}
    for function in tools:
        tool = cast("Tool[..., Any]", function if isinstance(function, Tool) else Tool.of(function))
        if tool.name in found:
            raise ConfigurationError(
                f"two tools are named {tool.name!r}, and models call tools by name: rename one with Tool.of(f, name=…)"
            )
        found[tool.name] = tool
    return found


def _name(declared: object) -> str:
    """Write a type as in an annotation."""
    arguments = get_args(declared)
    if get_origin(declared) is Annotated:
        return _name(arguments[0])
    if inspect.isroutine(declared) or (isinstance(declared, type) and not arguments):
        return declared.__name__
    return inspect.formatannotation(declared)
