"""Typed agents: what a planner's answer and an executor's result are, and how they are read from what a model wrote."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import to_json

from .engine import Sampling
from .errors import ConfigurationError, InvalidResult
from .plan import ResultT, Subtask
from .run import AnswerT

ExecutorFunction = Callable[[Subtask], Awaitable[ResultT] | ResultT]
"""A plain function as executor: its return value is the result, with no model involved."""


class _Typed(Generic[ResultT]):
    """A declared type and the reading of a model's words as it."""

    __slots__ = ("adapter", "declared")

    def __init__(self, declared: type[ResultT]) -> None:
        self.declared = declared
        try:
            self.adapter: TypeAdapter[ResultT] | None = None if declared is str else TypeAdapter(declared)
        except PydanticSchemaGenerationError as error:
            raise ConfigurationError(
                f"{declared!r} cannot be a result: pydantic has no schema for it. "
                "Use a pydantic model, a dataclass or a plain type such as int or list[str]"
            ) from error

    def read(self, text: str) -> ResultT:
        """Read ``text`` as the declared type: as JSON, or as a plain value such as ``81``."""
        if self.adapter is None:
            return text.strip()  # type: ignore[return-value]
        try:
            return self.adapter.validate_json(text)
        except ValidationError as error:
            try:
                return self.adapter.validate_strings(text.strip())
            except ValidationError:
                raise InvalidResult(
                    f"{text.strip()[:200]!r} is no {self.declared.__name__}: {error.errors()[0]['msg']}", text=text
                ) from error

    def accept(self, value: object) -> ResultT:
        """Take a Python value, such as a function's or a journal's, as the declared type."""
        if self.adapter is None:
            return value if isinstance(value, str) else str(value)  # type: ignore[return-value]
        try:
            return self.adapter.validate_python(value)
        except ValidationError as error:
            raise InvalidResult(
                f"{value!r} is no {self.declared.__name__}: {error.errors()[0]['msg']}", text=str(value)
            ) from error


class Executor(_Typed[ResultT]):
    """The agent that carries out one subtask over a fork of the planner's context.

    >>> Executor(int).read(" 42 ")
    42
    """

    __slots__ = ("max_tokens", "sampling")

    def __init__(
        self, result: type[ResultT] = str, *, max_tokens: int | None = None, sampling: Sampling | None = None
    ) -> None:
        super().__init__(result)
        self.max_tokens = max_tokens
        self.sampling = sampling


class Planner(_Typed[AnswerT]):
    r"""The agent that writes the plans and the answer.

    >>> Planner(list[int]).read("[3, 7]")
    [3, 7]
    """

    __slots__ = ("max_tokens", "sampling")

    def __init__(
        self, answer: type[AnswerT] = str, *, max_tokens: int | None = None, sampling: Sampling | None = None
    ) -> None:
        super().__init__(answer)
        self.max_tokens = max_tokens
        self.sampling = sampling


def as_text(value: Any) -> str:
    """Write what the planner reads of a function's result: strings as they are, anything else as JSON."""
    return value if isinstance(value, str) else to_json(value).decode()
