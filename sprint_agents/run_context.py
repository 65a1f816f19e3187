"""What a run hands to your functions, if their first parameter asks for it by its annotation.

Invariant: whether a function takes a ``RunContext`` is read from its annotations alone, so it is not called.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType, MethodType, SimpleNamespace, UnionType
from typing import Any, Generic, Union, cast, get_args, get_origin, get_type_hints

from typing_extensions import TypeVar

DepsT = TypeVar("DepsT", default=Any)
_DepsT_co = TypeVar("_DepsT_co", covariant=True, default=Any)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext(Generic[_DepsT_co]):
    """The run that calls a function of yours; annotate the function's first parameter with it.

    Attributes:
        deps: the object that the run was given, ``sprint.run(task, deps=…)``: a database, a client, a user.
        run_id: the id of the run; ``task`` is its task, ``metadata`` what the caller attached to it.
        stage: the stage for which the function is called; None outside of stages.
        number: the subtask for which it is called; None if it is not called for one.

    >>> def greet(context: RunContext[str], name: str) -> str:
    ...     return f"{context.deps}, {name}!"
    >>> greet(RunContext(deps="Hello"), "Ada"), takes_context(greet), takes_context(len)
    ('Hello, Ada!', True, False)
    """

    deps: _DepsT_co
    run_id: str = ""
    task: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    stage: int | None = None
    number: int | None = None


def takes_context(function: Callable[..., Any]) -> bool:
    """Say whether a function's first parameter is annotated as a ``RunContext``."""
    found = _first_annotation(function)
    return found is not None and _is_context(*found)


def wanted_deps(function: Callable[..., Any]) -> Any:
    """Return the type of ``RunContext.deps`` that a function asks for; Any if it names none."""
    found = _first_annotation(function)
    if found is None or not _is_context(*found):
        return Any
    annotation, namespace = found
    if isinstance(annotation, str):
        place = SimpleNamespace(__annotations__={"it": annotation})
        try:
            annotation = get_type_hints(place, globalns=namespace)["it"]
        except Exception:  # it may name what is imported for type checkers alone
            return Any
    (wanted,) = get_args(annotation) or (Any,)
    plain = isinstance(wanted, type) or wanted is None or get_origin(wanted) in (Union, UnionType)
    return wanted if plain else get_origin(wanted) or Any


def _first_annotation(function: Callable[..., Any]) -> tuple[Any, dict[str, Any]] | None:
    """Return the annotation of the first parameter, evaluated or not, and the names that it may use."""
    skipped = 0
    called: Any = function
    if isinstance(called, MethodType):
        called, skipped = called.__func__, 1
    if isinstance(called, FunctionType):  # the fast way, since this is asked at each call
        code = called.__code__
        if not called.__annotations__ or code.co_argcount <= skipped:
            return None
        annotation = called.__annotations__.get(code.co_varnames[skipped])
        return None if annotation is None else (annotation, called.__globals__)
    if isinstance(called, type | partial):
        return _first_of_signature(function)
    method: object = getattr(cast(Any, type(called)), "__call__", None)  # noqa: B004 - it may be anything that can be called
    return _first_annotation(MethodType(method, called)) if isinstance(method, FunctionType) else None


def _first_of_signature(function: Callable[..., Any]) -> tuple[Any, dict[str, Any]] | None:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if not parameters or parameters[0].annotation is inspect.Parameter.empty:
        return None
    inner: Any = function
    while isinstance(inner, partial):
        inner = cast("partial[Any]", inner).func
    return parameters[0].annotation, getattr(inspect.unwrap(inner), "__globals__", {})


def _is_context(annotation: Any, namespace: Mapping[str, Any]) -> bool:
    if isinstance(annotation, str):
        name, *path = annotation.partition("[")[0].strip().split(".")
        annotation = namespace.get(name)
        for part in path:
            annotation = getattr(annotation, part, None)
    # Not get_origin(), which takes microseconds for a pydantic model: this is asked at each call of a function.
    return annotation is RunContext or (type(annotation) is _ALIAS and annotation.__origin__ is RunContext)


_ALIAS: Any = type(RunContext[int])
