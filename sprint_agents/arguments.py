"""Arguments of constructors: a wrong one is refused when it is given, and the message says what to pass instead.

The annotations of a function are the rule. ``checked`` compares each argument with its annotation, as far as that costs
nothing: a list of texts is checked, the values of a callable are not. Settings such as ``Limits`` are pydantic models
and raise a ``pydantic.ValidationError``.
"""

import inspect
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import cache, lru_cache, wraps
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from typing_extensions import is_typeddict  # the standard one does not know the dicts of this package

from .errors import ConfigurationError, escape_surrogates
from .functions import check_function

T = TypeVar("T", bound=Callable[..., Any])

_UNIONS = (Union, UnionType)


def checked(thing: T) -> T:
    """Check the arguments of each call of a function, or of a class that has its own ``__init__``.

    >>> @checked
    ... def repeat(word: str, times: int = 2) -> str:
    ...     return word * times
    >>> repeat("ab", times="three")
    Traceback (most recent call last):
    sprint_agents.errors.ConfigurationError: times= of repeat is of type str: pass an int
    """
    if isinstance(thing, type):
        kind = cast(Any, thing)
        kind.__init__ = _checked_function(kind.__init__, name=_name_of_kind)
        return kind
    name = thing.__qualname__.rpartition(".<locals>.")[2]
    return cast(T, _checked_function(thing, name=lambda *_: name))


def _name_of_kind(itself: object) -> str:
    return type(itself).__name__


def _checked_function(function: Callable[..., Any], *, name: Callable[..., str]) -> Callable[..., Any]:
    signature = inspect.signature(function)

    @cache
    def annotations() -> dict[str, Any]:  # when first needed, since a class is not complete while it is defined
        return {name: _annotation(function, parameter) for name, parameter in signature.parameters.items()}

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # the interpreter's message is clearer
        for parameter, value in bound.items():
            several = signature.parameters[parameter].kind is inspect.Parameter.VAR_POSITIONAL
            for each in value if several else (value,):
                check_argument(f"{parameter}= of {name(*args[:1])}", each, annotations()[parameter])
        return function(*args, **kwargs)

    return call


def check_argument(what: str, value: object, annotation: Any) -> None:
    """Refuse a value that does not fit an annotation; the message begins with ``what``.

    Raises:
        ConfigurationError: it does not.
    """
    listed = _is_listed(type(value), annotation) and not (isinstance(value, float) and math.isnan(value))
    if not listed and not _fits(value, annotation):
        raise ConfigurationError(f"{what} {_fault(value, annotation)}: {_remedy(value, annotation)}")
    if isinstance(value, str) and value != escape_surrogates(value):
        raise ConfigurationError(f"{what} has half of a surrogate pair, which UTF-8 cannot hold: decode the text again")
    if not callable(value):
        return
    for each in _alternatives(annotation):
        if get_origin(each) is Callable and not isinstance(value, type):
            if _yields(each):
                check_generator(value, what=what)
            else:
                check_function(value, what=what)
            return


def check_generator(function: object, *, what: str) -> None:
    """Refuse a function that cannot be a policy: one that yields nothing, or makes a policy when it is called.

    Raises:
        ConfigurationError: it is such a function.
    """
    wrong = ""
    if getattr(function, "makes_policies", False):
        raise ConfigurationError(f"{what} is {_name(function)}, which makes policies: call it, {_name(function)}(…)")
    if inspect.iscoroutinefunction(function):
        wrong = "does not yield"
    elif inspect.isgeneratorfunction(function):
        wrong = "is not async"
    if wrong:
        raise ConfigurationError(
            f"{what} is {_name(function)}, and a policy is an async generator function; this one {wrong}: write it as "
            "`async def policy(planning): stage = yield planning.ask(); yield Answer(value=stage.answer)`"
        )


def at_least(least: int, **numbers: float | None) -> None:
    """Check numbers against their lower bound; None is no number.

    Raises:
        ConfigurationError: one of them is less than ``least``.
    """
    for name, number in numbers.items():
        if number is not None and number < least:
            raise ConfigurationError(f"{name} is {number}: it must be at least {least}")


def at_most_one(**shares: float) -> None:
    """Check shares of a whole, which are more than 0 and at most 1.

    Raises:
        ConfigurationError: one of them is not.
    """
    for name, share in shares.items():
        if not 0 < share <= 1:
            raise ConfigurationError(f"{name} is {share}: it is a share, more than 0 and at most 1")


def more_than_zero(**numbers: float | None) -> None:
    """Check durations and the like; None is no number.

    Raises:
        ConfigurationError: one of them is zero or less.
    """
    for name, number in numbers.items():
        if number is not None and number <= 0:
            raise ConfigurationError(f"{name} is {number}: it must be more than 0")


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return the annotation of a parameter; Any if it names what is only imported for type checkers."""
    if parameter.annotation is inspect.Parameter.empty:
        return Any
    place = SimpleNamespace(__annotations__={"it": parameter.annotation})
    try:
        return get_type_hints(place, globalns=function.__globals__)["it"]
    except NameError:
        return Any


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in _UNIONS:
        return [each for part in get_args(annotation) for each in _alternatives(part)]
    return [annotation]


@lru_cache(maxsize=1024)
def _is_listed(kind: type, annotation: Any) -> bool:
    """Say whether an annotation names exactly this type, which spares most arguments a closer look."""
    return kind in _alternatives(annotation)


def _fits(value: Any, annotation: Any) -> bool:
    return not _is_class_of(value, annotation) and any(_fits_one(value, each) for each in _alternatives(annotation))


def _is_class_of(value: object, annotation: Any) -> bool:
    """Say whether a value is a class where an instance of it would fit, as a function does not."""
    kinds = [get_origin(each) or each for each in _alternatives(annotation)]
    return isinstance(value, type) and any(kind in value.__mro__ for kind in kinds if kind is not object)


def _fits_one(value: Any, annotation: Any) -> bool:
    """Say whether a value is of a type that is no union."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is None or annotation is NoneType:
        return value is None
    if origin is Literal:
        return isinstance(value, str | int) and value in arguments
    if origin is Callable:
        return callable(value)
    kind = origin or annotation
    if kind is Any or not isinstance(kind, type):
        return True  # a type variable or a forward reference
    if is_typeddict(kind):
        return isinstance(value, Mapping)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is Sequence:
        return _is_sequence(value) and all(_fits(each, arguments[0]) for each in value if arguments)
    if kind is Mapping:
        items = cast(Any, value).items() if isinstance(value, Mapping) and arguments else ()
        return isinstance(value, Mapping) and all(
            _fits(key, arguments[0]) and _fits(it, arguments[1]) for key, it in items
        )
    if getattr(kind, "_is_protocol", False):
        return kind in type(value).__mro__ or (not isinstance(value, type) and _has_members(value, kind))
    return isinstance(value, kind)


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _has_members(value: object, protocol: type) -> bool:
    """Say whether a value has the members of a protocol; isinstance would evaluate its properties."""
    return not _missing_members(value, protocol)


def _missing_members(value: object, protocol: type) -> list[str]:
    names = [name for name in vars(protocol) if not name.startswith("_")]
    kind, own = type(value), getattr(value, "__dict__", ())
    delegates = hasattr(kind, "__getattr__")
    return [name for name in names if not (hasattr(kind, name) or name in own or (delegates and hasattr(value, name)))]


def _yields(annotation: Any) -> bool:
    """Say whether what a callable of this annotation returns is an async generator."""
    return get_origin(get_args(annotation)[-1]) is AsyncGenerator


def _fault(value: object, annotation: Any) -> str:
    # Only values that cannot be secret are shown.
    if value is None or isinstance(value, bool | int | float):
        return f"is {value!r}"
    if isinstance(value, type):
        return f"is the class {value.__name__}"
    if isinstance(value, str) and any(get_origin(each) is Literal for each in _alternatives(annotation)):
        return f"is {value!r}"
    origins = [get_origin(each) for each in _alternatives(annotation)]
    if (Sequence in origins and _is_sequence(value)) or (Mapping in origins and isinstance(value, Mapping)):
        return "has an item of another type"
    return f"is of type {type(value).__name__}"


def _remedy(value: object, annotation: Any) -> str:
    if inspect.iscoroutine(value):
        value.close()  # it is never awaited, which Python would warn about
        return "await it first"
    if _is_class_of(value, annotation):
        return f"make one, {_name(value)}(…)"
    for kind in _alternatives(annotation):
        if getattr(kind, "_is_protocol", False) and len(missing := _missing_members(value, kind)) == 1:
            return f"it lacks {missing[0]}, so inherit from {_name(kind)}, which may have a default"
    return f"pass {_choice(annotation)}"


def _choice(annotation: Any) -> str:
    *others, last = dict.fromkeys(word for each in _alternatives(annotation) for word in _words(each))
    return f"{', '.join(others)} or {last}" if others else last


def _words(annotation: Any) -> list[str]:
    """Name a type as in a sentence: an int, a Limits, a function; or the values of a Literal."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is NoneType:
        return ["None"]
    if is_typeddict(annotation):
        return ["a dict"]
    if origin is Literal:
        return [*map(repr, arguments)]
    if origin is Callable:
        return ["an async generator function" if _yields(annotation) else "a function"]
    if origin is Sequence:
        return [f"a list whose items are each {_choice(arguments[0])}"]
    if origin is Mapping:
        key, item = map(_choice, arguments)
        return [f"a dict whose keys are each {key}, and whose values are each {item}"]
    name = _name(origin or annotation)
    return [f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"]


def _name(thing: object) -> str:
    return getattr(thing, "__name__", str(thing))
