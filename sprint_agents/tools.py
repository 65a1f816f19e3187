"""Tools: typed Python functions that an executor's model may call.

The signature of a function gives the schema of its arguments, the docstring its description. A call that fails is data:
the model reads the error. Only a mistake in the function's declaration raises, when the tool is made.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Generic, NotRequired, ParamSpec, TypeVar, cast, get_type_hints

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, from_json, to_json
from typing_extensions import TypedDict

from .arguments import checked, more_than_zero
from .dialects.base import ToolOutcome
from .dialects.completions import ToolCall
from .engine import ToolBrief
from .errors import ConfigurationError, FunctionError, ModelRetry, describe, escape_surrogates, message_of, show
from .functions import Threads, ask_person, call_function, check_function
from .run_context import RunContext, takes_context

P = ParamSpec("P")
Q = ParamSpec("Q")
ReturnT = TypeVar("ReturnT")
T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


_Allowed = bool | str | Awaitable[bool | str]
Approve = Callable[[ToolCall], _Allowed] | Callable[[RunContext[Any], ToolCall], _Allowed]
"""Says whether a call of a tool is allowed, or why not; async or not."""


@dataclass(frozen=True, slots=True)
class Tool(Generic[P, ReturnT]):
    """A function that a model may call; make one with ``Tool.of``, also as a decorator, or with ``Tool.from_schema``.

    Attributes:
        name: the name by which the model calls it.
        description: the description that the model reads.
        schema: the JSON schema of its arguments, as JSON text.
        seconds: the most seconds of one call; None for the executor's ``tool_timeout``.
        function: the function, unchanged.
        approve: is asked before each call, or None; see ``of``.
        takes_context: whether its first parameter is a ``RunContext``, which the run gives and the model does not see.

    >>> @Tool.of
    ... def area(width: float, height: float = 1.0) -> float:
    ...     '''Return the area of a rectangle.'''
    ...     return width * height
    >>> area(2, 3), area.name, area.description
    (6, 'area', 'Return the area of a rectangle.')
    >>> import asyncio
    >>> asyncio.run(area.use('{"width": "wide"}', seconds=1)).text
    '"the arguments are wrong: width: Input should be a valid number, unable to parse string as a number"'
    """

    name: str
    description: str
    schema: str
    seconds: float | None
    function: Callable[P, ReturnT]
    _arguments: TypeAdapter[dict[str, Any]]
    takes_context: bool = False
    approve: Approve | None = None

    @staticmethod
    @checked
    def of(
        function: Callable[Q, T],
        *,
        name: str | None = None,
        description: str | None = None,
        seconds: float | None = None,
        approve: Approve | None = None,
    ) -> "Tool[Q, T]":
        """Make a tool from a function, by default with the function's name and docstring.

        A sync function runs in a thread, an async one on the run's event loop. ``approve``, async or not, is asked
        before each call and may wait for a person: True allows it. False, or a text that says why, refuses it, and the
        model reads that. If it raises, or takes longer than ``Limits(review_seconds=…)``, the execution fails.

        Raises:
            ConfigurationError: models cannot call the function; the message names the parameter and the remedy.
        """
        name = name or str(getattr(function, "__name__", ""))
        _check_name(name, function)
        if isinstance(function, type):
            raise ConfigurationError(f"{name} is a class, and a tool is a function: write one that returns it")
        more_than_zero(seconds=seconds)
        check_function(function, what=f"tool {name!r}")
        arguments = _keywords(name, function)
        return Tool(
            name=name,
            description=(inspect.getdoc(function) or "") if description is None else description,
            schema=json_schema(arguments, what=f"tool {name!r}"),
            seconds=seconds,
            function=function,
            _arguments=arguments,
            takes_context=takes_context(function),
            approve=approve,
        )

    @staticmethod
    @checked
    def from_schema(
        name: str,
        *,
        description: str,
        schema: Mapping[str, Any],
        function: Callable[..., T],
        seconds: float | None = None,
        approve: Approve | None = None,
    ) -> "Tool[..., T]":
        """Make a tool from the JSON schema of its arguments, such as the tool of another program.

        ``function``, async or not, is called with the members of the model's JSON object as keyword arguments. They
        are not checked against ``schema``, so the function refuses what it cannot use by raising an error, which the
        model reads.

        >>> weather = Tool.from_schema(
        ...     "weather",
        ...     description="Return the weather of a city.",
        ...     schema={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        ...     function=lambda **arguments: f"Rain in {arguments['city']}.",
        ... )
        >>> import asyncio
        >>> asyncio.run(weather.use('{"city": "Bergen"}', seconds=1)).text
        '"Rain in Bergen."'

        Raises:
            ConfigurationError: the name or the schema is not one of a tool.
        """
        _check_name(name, function)
        more_than_zero(seconds=seconds)
        check_function(function, what=f"tool {name!r}")
        if schema.get("type") != "object":
            raise ConfigurationError(
                f"the schema of tool {name!r} is not that of an object, and models pass arguments by name: "
                'use {"type": "object", "properties": {…}}'
            )
        try:
            text = to_json(dict(schema)).decode()
        except PydanticSerializationError as error:
            raise ConfigurationError(f"the schema of tool {name!r} is not JSON: {error}") from error
        return Tool(name, description, text, seconds, function, _ANY_ARGUMENTS, takes_context(function), approve)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> ReturnT:
        """Call the function directly."""
        return self.function(*args, **kwargs)

    @property
    def brief(self) -> ToolBrief:
        """The description of this tool that models read."""
        return ToolBrief(self.name, self.description, self.schema)

    async def use(
        self,
        arguments: str,
        *,
        seconds: float,
        threads: Threads | None = None,
        context: RunContext[Any] | None = None,
        review_seconds: float | None = None,
    ) -> ToolOutcome:
        """Call the function with ``arguments``, a JSON object, for at most ``seconds``; its errors become outcomes.

        A sync function that takes too long still runs to its end, since a thread cannot be stopped; its result is
        dropped. ``threads`` are those of the run, and ``context`` is its view for a function that takes one.
        ``approve`` may take ``review_seconds``; it is asked only about valid arguments.

        Raises:
            ReviewTimeout: ``approve`` took longer.
            FunctionError: it failed.
        """
        if threads is None:
            with Threads() as threads:
                return await self.use(
                    arguments, seconds=seconds, threads=threads, context=context, review_seconds=review_seconds
                )
        values = (context or RunContext(deps=None),) if self.takes_context else ()
        try:
            keywords = validate_json(self._arguments, arguments)
        except ValidationError as error:
            return self._failed(f"the arguments are wrong: {explain(error)}")
        except Exception as error:  # of a validator of the types
            return self._failed(describe(error))
        if self.approve is not None and (reason := await self._refusal(arguments, context, review_seconds)):
            return self._failed(reason, refused=True)
        try:
            value = await call_function(
                self.function, *values, threads=threads, seconds=self.seconds or seconds, keywords=keywords
            )
            return ToolOutcome(self.name, to_json(value).decode())
        except PydanticSerializationError as error:
            return self._failed(f"it returned a value that JSON cannot hold: {error}")
        except (FunctionError, ModelRetry) as error:
            return self._failed(message_of(error))
        except Exception as error:
            return self._failed(describe(error))

    async def _refusal(self, arguments: str, context: RunContext[Any] | None, seconds: float | None) -> str:
        """Return why a call is not allowed; nothing if it is."""
        assert self.approve is not None
        values = (context or RunContext(deps=None),) if takes_context(self.approve) else ()
        call, what = ToolCall(self.name, arguments), f"approve= of tool {self.name!r}"
        verdict = await ask_person(self.approve, *values, call, what=what, seconds=seconds)
        if isinstance(verdict, bool):
            return "" if verdict else "this call was refused"
        if isinstance(verdict, str):
            return f"this call was refused: {verdict}"
        raise FunctionError(f"{what} returned {show(verdict)}: return True, False, or a text that says why not")

    def _failed(self, message: str, *, refused: bool = False) -> ToolOutcome:
        return ToolOutcome(self.name, to_json(escape_surrogates(message)).decode(), failed=True, refused=refused)


_ANY_ARGUMENTS = TypeAdapter(dict[str, Any])


def _check_name(name: str, function: object) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name or function!r} is no name for a tool: use letters, digits and _, as in Tool.of(f, name='find')"
        )


class _Terse(GenerateJsonSchema):
    """Schemas without titles, which only repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def make_adapter(declared: Any, *, what: str) -> TypeAdapter[Any]:
    """Return the reader of a type.

    Raises:
        ConfigurationError: pydantic has no schema for the type, or it has a constraint that cannot be checked, such as
            a pattern with lookaround; the message begins with ``what``.
    """
    try:
        return TypeAdapter(declared)
    except Exception as error:  # pydantic's own, SchemaError, TypeError, and whatever the code of the type raises
        raise ConfigurationError(f"{what}: {_reason(error)}. {_remedy(error)}") from error


def _reason(error: Exception) -> str:
    """Return the first sentence of an error of pydantic; of one about a pattern, only what is wrong with it."""
    text = " ".join((error.message if isinstance(error, PydanticUserError) else message_of(error)).split())
    return text.rpartition("regex parse error: ")[2].split(". ")[0].rstrip(".") or type(error).__name__


def _remedy(error: Exception) -> str:
    if "regex parse error" in str(error):
        return 'Patterns with lookaround need a pydantic model with ConfigDict(regex_engine="python-re")'
    return "Use a pydantic model, a dataclass or a plain type such as int or list[str]"


def json_schema(adapter: TypeAdapter[Any], *, what: str) -> str:
    """Return the JSON schema of a type, as JSON text.

    Raises:
        ConfigurationError: JSON cannot hold values of this type; the message begins with ``what``.
    """
    try:
        schema = adapter.json_schema(schema_generator=_Terse)
    except Exception as error:  # as above
        raise ConfigurationError(
            f"{what} holds what JSON cannot: {_reason(error)}. Models read and write JSON: "
            "use pydantic models, dataclasses, and plain types such as int or list[str]"
        ) from error
    schema.pop("title", None)
    return to_json(schema).decode()


def validate_json(adapter: TypeAdapter[T], text: str) -> T:
    """Read JSON as a type; a null for an optional field whose type does not allow null is treated as omitted.

    Models write null where they have no value, and the strict schemas of hosted models require it.

    >>> query = TypeAdapter(TypedDict("Query", {"words": str, "limit": NotRequired[int]}))
    >>> validate_json(query, '{"words": "a", "limit": null}')
    {'words': 'a'}

    Raises:
        ValidationError: the text does not validate.
    """
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        nulls = [one["loc"] for one in error.errors(include_url=False, include_context=False) if one["input"] is None]
        if not nulls:
            raise
        value: JsonValue = from_json(text)
        for place in nulls:
            _leave_out(value, place)
        try:
            return adapter.validate_json(to_json(value))
        except ValidationError:
            raise error from None


def _leave_out(value: JsonValue, place: tuple[int | str, ...]) -> None:
    """Remove the null at ``place``, a path that also names the members of unions on its way."""
    parent: dict[str, JsonValue] = {}
    name = ""
    for step in place:
        if isinstance(value, dict) and isinstance(step, str) and step in value:
            parent, name, value = value, step, value[step]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
    if name in parent and value is None:
        del parent[name]


def explain(error: ValidationError) -> str:
    """Describe at most five errors in words for a model, each after its place."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" if one["loc"] else one["msg"] for one in found[:5]]
    return "; ".join(lines if len(found) <= 5 else [*lines, f"and {len(found) - 5} more"])


def _keywords(name: str, function: Callable[..., object]) -> TypeAdapter[dict[str, Any]]:
    """Make the type of a call's arguments from the signature.

    Raises:
        ConfigurationError: a parameter has no annotation, or cannot be passed by name.
    """
    signature, hints = _signature(name, function)
    fields: dict[str, Any] = {}
    for parameter in [*signature.parameters.values()][takes_context(function) :]:
        what = f"parameter {parameter.name!r} of tool {name!r}"
        if parameter.kind not in _NAMED:
            raise ConfigurationError(
                f"{what} is {parameter.kind.description}, and models pass arguments by name: declare each on its own"
            )
        if parameter.name not in hints:
            raise ConfigurationError(
                f"{what} has no annotation, so it has no schema: write `{parameter.name}: str`, or its type"
            )
        fields[parameter.name] = _field(hints[parameter.name], parameter.default)
    keywords: Any = TypedDict(name, fields)  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues] - made at run time
    keywords.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
    return make_adapter(keywords, what=f"a parameter of tool {name!r} has a type that models cannot write")


def _field(annotation: Any, default: object) -> Any:
    """Declare one argument; the schema shows its default, if it has one that JSON can hold."""
    if default is inspect.Parameter.empty:
        return annotation
    try:
        to_json(default)
    except PydanticSerializationError:
        return NotRequired[annotation]
    return NotRequired[Annotated[annotation, Field(json_schema_extra={"default": default})]]  # type: ignore[dict-item]


def _signature(name: str, function: Callable[..., object]) -> tuple[inspect.Signature, dict[str, Any]]:
    try:
        return inspect.signature(function), get_type_hints(_annotated(function), include_extras=True)
    except (NameError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the signature of tool {name!r} cannot be read ({error}): wrap it in a function with plain annotations"
        ) from error


def _annotated(function: Callable[..., object]) -> Callable[..., object]:
    """Return the function or method that has the annotations of a callable."""
    if isinstance(function, partial):
        return _annotated(cast("partial[object]", function).func)
    return function if inspect.isroutine(function) else type(function).__call__
