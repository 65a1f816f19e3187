"""Policies with parameters: functions that make one, named as they were called."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from sprint_agents.errors import ConfigurationError

from .planning import Policy

P = ParamSpec("P")


def name_of(policy: object) -> str:
    """Return the name under which the runs of a policy are recorded."""
    return getattr(policy, "__name__", type(policy).__name__)


def factory(make: Callable[P, Policy]) -> Callable[P, Policy]:
    """Name each policy that ``make`` returns, which must be a new function, as the call that made it.

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
        given = [_shown(value) for value in values] + [f"{name}={_shown(value)}" for name, value in options.items()]
        policy.__name__ = f"{name_of(make)}({', '.join(given)})" if given else name_of(make)
        return policy

    return named


def at_least(least: int, **numbers: int) -> None:
    """Refuse numbers that make no sense.

    Raises:
        ConfigurationError: one is less than ``least``.
    """
    for name, number in numbers.items():
        if number < least:
            raise ConfigurationError(f"{name} is {number}: it must be at least {least}")


def _shown(value: object) -> str:
    return name_of(value) if callable(value) else repr(value)
