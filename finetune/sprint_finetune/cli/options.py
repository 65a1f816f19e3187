"""Commands whose options are the fields of a dataclass, each with its type, default and help in one place."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

OptionsT = TypeVar("OptionsT")


def command_of(options: type[OptionsT], run: Callable[[OptionsT], None]) -> Callable[..., None]:
    """Return a function for typer that takes the fields of ``options`` and calls ``run`` with them.

    Its help is the docstring of ``run``.
    """

    def call(**values: Any) -> None:
        run(options(**values))

    call.__doc__ = run.__doc__
    call.__annotations__ = {}
    call.__signature__ = inspect.signature(options)  # type: ignore[attr-defined]
    return call
