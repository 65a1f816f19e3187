"""Typed agents: what a planner's answer and an executor's result are, and how they are read from what a model wrote."""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Annotated, Any, Generic, cast, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic_core import from_json, to_json
from typing_extensions import TypeForm

from .dialects.prompts import AgentBrief
from .engine import Engine, Sampling
from .errors import ConfigurationError, InvalidResult
from .plan import ResultT, Subtask
from .run import AnswerT
from .tools import Tool, explain, json_schema, validate_json

ExecutorFunction = Callable[[Subtask], Awaitable[ResultT] | ResultT]
"""A plain function as executor: its return value is the result, with no model involved."""

_WORDS = {"boolean", "integer", "number", "string"}


class _Agent(Generic[ResultT]):
    """A declared type, the reading of a model's words as it, and how the model is asked."""

    def __init__(
        self,
        declared: TypeForm[ResultT],
        *,
        instructions: str,
        attempts: int,
        max_tokens: int | None,
        sampling: Sampling | None,
        engine: Engine | None,
    ) -> None:
        if attempts < 1:
            raise ConfigurationError(f"attempts is {attempts}: the first attempt counts, so it is at least 1")
        self.declared = declared
        self.type_name = _name(declared)
        self.instructions = inspect.cleandoc(instructions)
        self.attempts = attempts
        self.max_tokens = max_tokens
        self.sampling = sampling
        self.engine = engine
        self._adapter, self.schema = _understood(declared)
        self._plain = self.schema is not None and from_json(self.schema).get("type") in _WORDS

    @cached_property
    def brief(self) -> AgentBrief:
        """What a model is told of this agent."""
        return AgentBrief(instructions=self.instructions, schema=self.schema)

    def read(self, text: str, *, is_json: bool = False) -> ResultT:
        """Read ``text`` as the declared type: as JSON, or unless ``is_json`` as a plain value such as ``81``.

        Raises:
            InvalidResult: it is none; the message says why, in words for the model.
        """
        if self.schema is None and not is_json:
            return text.strip()  # type: ignore[return-value] - without a schema the type is str
        try:
            return validate_json(self._adapter, text)
        except ValidationError as error:
            if is_json:
                raise self._invalid(text, error) from error
            try:
                return self._adapter.validate_strings(text.strip())
            except ValidationError as plain:
                raise self._invalid(text, plain if self._plain else error) from error

    def accept(self, value: object) -> ResultT:
        """Take a Python value, such as a function's, as the declared type.

        Raises:
            InvalidResult: it is none.
        """
        if self.schema is None and not isinstance(value, str):
            value = str(value)
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            raise self._invalid(str(value), error) from error

    def restore(self, value: object) -> ResultT:
        """Take what a journal holds of a value, plain JSON, as the declared type again."""
        return self.read(to_json(value).decode(), is_json=True)

    def _invalid(self, text: str, error: ValidationError) -> InvalidResult:
        reason = f"is no {self.type_name}: {explain(error)}"
        return InvalidResult(f"{text.strip()[:200]!r} {reason}", text=text, reason=f"it {reason}")


class Executor(_Agent[ResultT]):
    """The agent that carries out one subtask over a fork of the planner's context.

    Args:
        result: the type of a result: a pydantic model, a dataclass, or any plain type, unions included.
        instructions: what executors are told beyond their subtask; both agents read it, before the task.
        tools: typed functions that the model may call; see ``Tool.of``.
        tool_timeout: seconds for one call of a tool.
        tool_turns: how often one execution may ask for tools, several at a time counting once.
        attempts: how often the model may try to give a valid result; it is told what was wrong.
        max_tokens: new tokens of one turn; the run's ``Limits.execution_tokens`` by default.
        sampling: how tokens are drawn; the run's by default.
        engine: where executors run; the run's engine by default.

    >>> Executor(int).read(" 42 ")
    42
    """

    def __init__(
        self,
        result: TypeForm[ResultT] = str,
        *,
        instructions: str = "",
        tools: Sequence[Tool[..., Any] | Callable[..., Any]] = (),
        tool_timeout: float = 60.0,
        tool_turns: int = 8,
        attempts: int = 2,
        max_tokens: int | None = None,
        sampling: Sampling | None = None,
        engine: Engine | None = None,
    ) -> None:
        super().__init__(
            result,
            instructions=instructions,
            attempts=attempts,
            max_tokens=max_tokens,
            sampling=sampling,
            engine=engine,
        )
        if tool_timeout <= 0 or tool_turns < 1:
            raise ConfigurationError(
                f"tool_timeout is {tool_timeout:g} s and tool_turns is {tool_turns}: a call needs time, and a turn to "
                "be made in; leave out tools= for an executor without tools"
            )
        self.tools: Mapping[str, Tool[..., Any]] = _by_name(tools)
        self.tool_timeout = tool_timeout
        self.tool_turns = tool_turns

    @cached_property
    def brief(self) -> AgentBrief:
        """What a model is told of this agent."""
        tools = tuple(tool.brief for tool in self.tools.values())
        return AgentBrief(instructions=self.instructions, schema=self.schema, tools=tools)


class Planner(_Agent[AnswerT]):
    r"""The agent that writes the plans and the answer.

    Args:
        answer: the type of the answer, as in ``Executor``.
        instructions: what the planner is told beyond the task.
        attempts: how often the model may try to give a valid answer; it is told what was wrong.
        max_tokens: new tokens of one plan; the run's ``Limits.plan_tokens`` by default.
        sampling: how tokens are drawn; the run's by default.
        engine: where the planner runs; the run's engine by default.

    >>> Planner(list[int]).read("[3, 7]")
    [3, 7]
    """

    def __init__(
        self,
        answer: TypeForm[AnswerT] = str,
        *,
        instructions: str = "",
        attempts: int = 2,
        max_tokens: int | None = None,
        sampling: Sampling | None = None,
        engine: Engine | None = None,
    ) -> None:
        super().__init__(
            answer,
            instructions=instructions,
            attempts=attempts,
            max_tokens=max_tokens,
            sampling=sampling,
            engine=engine,
        )


def as_text(value: Any) -> str:
    """Write what the planner reads of a function's result: strings as they are, anything else as JSON."""
    return value if isinstance(value, str) else to_json(value).decode()


def _understood(declared: Any) -> tuple[TypeAdapter[Any], str | None]:
    """Return the reader of a type and its schema, made once for each type; None for ``str``.

    Raises:
        ConfigurationError: it cannot be read from JSON, or not written to it.
    """
    try:
        return _of_type(declared)
    except TypeError:  # not hashable: an annotation that holds a list, for one
        return _of_type.__wrapped__(declared)


@lru_cache(maxsize=256)
def _of_type(declared: Any) -> tuple[TypeAdapter[Any], str | None]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(declared)
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise ConfigurationError(
            f"{_name(declared)} cannot be a result, pydantic has no schema for it: {str(error).split('. ')[0]}. "
            "Use a pydantic model, a dataclass or a plain type such as int or list[str]"
        ) from error
    return adapter, None if declared is str else json_schema(adapter, what=f"the result {_name(declared)}")


def _by_name(tools: Sequence[Tool[..., Any] | Callable[..., Any]]) -> dict[str, Tool[..., Any]]:
    found: dict[str, Tool[..., Any]] = {}
    for given in tools:
        tool = cast("Tool[..., Any]", given if isinstance(given, Tool) else Tool.of(given))
        if tool.name in found:
            raise ConfigurationError(
                f"two tools are named {tool.name!r}, and a model calls them by name: rename one with Tool.of(f, name=…)"
            )
        found[tool.name] = tool
    return found


def _name(declared: object) -> str:
    """Write a type as one would in an annotation."""
    arguments = get_args(declared)
    if get_origin(declared) is Annotated:
        return _name(arguments[0])
    return declared.__name__ if isinstance(declared, type) and not arguments else inspect.formatannotation(declared)
