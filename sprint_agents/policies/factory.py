"""Functions that make policies, and the names of the policies that they make."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from sprint_agents.errors import ConfigurationError

from .planning import Policy

P = ParamSpec("P")


def name_of(policy: object) -> str:
    """Return the name that identifies a policy in records and journals."""
    return getattr(policy, "__name__", type(policy).__name__)


def factory(make: Callable[P, Policy]) -> Callable[P, Policy]:
    """Name each policy after the call of ``make`` that returned it; ``make`` must return a new function each time.

    >>> @factory
    ... def parts(count: int = 2) -> Policy:
    ...     async def policy(planning):
    ...         yield
    ...     return policy
    >>> name_of(parts()), name_of(parts(count=3))
    ('parts', 'parts(count=3)')
    """

    @wraps(make)
    def named(*values: P.args, **options: P.kwargs) -> Policy:
        policy = make(*values, **options)
        arguments = [_text(value) for value in values] + [f"{name}={_text(value)}" for name, value in options.items()]
        policy.__name__ = f"{name_of(make)}({', '.join(arguments)})" if arguments else name_of(make)
        return policy

    return named


def at_least(least: int, **numbers: int) -> None:
    """Check numbers against their lower bound.

    Raises:
        ConfigurationError: one of them is less than ``least``.
    """
    for name, number in numbers.items():
        if number < least:
            raise ConfigurationError(f"{name} is {number}: it must be at least {least}")


def _text(value: object) -> str:
    return name_of(value) if callable(value) else repr(value)
