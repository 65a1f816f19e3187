"""How a run calls hooks: what one raises prevents what comes after it, or is a diagnostic of what came before.

Invariant: an ``after`` hook changes nothing of what has finished.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from sprint_agents.dialects.completions import Diagnostic
from sprint_agents.errors import FunctionError, describe
from sprint_agents.hooks import HookName, Hooks
from sprint_agents.logs import log

Call = Callable[[Any, object], Awaitable[Any]]
"""Calls a function with a value, for the part of the run that the hook is about."""


@dataclass(slots=True)
class HookCalls:
    """The hooks of a run, and the ``faults`` of those that have failed since the last stage took them."""

    hooks: Hooks
    faults: list[Diagnostic] = field(default_factory=list[Diagnostic])

    async def before(self, name: HookName, value: object, call: Call) -> None:
        """Call a hook.

        Raises:
            FunctionError: it failed.
        """
        hook = getattr(self.hooks, name)
        if hook is None:
            return
        try:
            await call(hook, value)
        except Exception as error:
            raise FunctionError(f"the hook {name} failed, {describe(error)}") from error

    async def after(self, name: HookName, value: object, call: Call, *, stage: int, number: int | None = None) -> None:
        """Call a hook; what it raises is a fault of the ``stage``, and of its execution with this ``number``."""
        try:
            await self.before(name, value, call)
        except FunctionError as error:
            log("warning", "hook.failed", hook=name, error=error)
            self.faults.append(
                Diagnostic(kind="hook_failed", message=str(error), stage=stage, number=number, position=0)
            )

    def take_faults(self) -> tuple[Diagnostic, ...]:
        """Return the faults, and forget them."""
        faults = tuple(self.faults)
        self.faults.clear()
        return faults
