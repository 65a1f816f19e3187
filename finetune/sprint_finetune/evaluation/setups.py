"""What an outcome depends on besides its seed, as short texts by name, so that a table never mixes two measurements.

Invariant: everything that can change an answer, a count or a verdict is a setting, and nothing that differs between two
processes that measure the same, such as the port of a server.
"""

from typing import Any, cast

from sprint_agents import Executor, Limits, Planner, Sampling, Sprint
from sprint_agents.runtime.settings import digest_of_value

from .checks import Check, grader


async def describe_method(sprint: Sprint[Any, Any, Any]) -> dict[str, str]:
    """Describe a method, whose engines may have to be asked for the name of their model.

    Raises:
        EngineError: a server does not answer.
    """
    manifest, executor = sprint.engine.manifest, sprint.executor
    parts: dict[str, object] = {
        "policy": sprint.policy_name,
        "limits": sprint.limits or Limits.of(manifest),
        "budget": sprint.budget,
        "sampling": sprint.sampling or Sampling.of(manifest),
        "failure policy": sprint.failure,
        "hooks": sprint.hooks,
        "planner's options": _options(sprint.planner),
    }
    described = await sprint.settings()
    if isinstance(executor, Sprint):
        inner = await describe_method(cast("Sprint[Any, Any, Any]", executor))
        described |= {f"executor's {name}": value for name, value in inner.items()}
    else:
        model = cast("Executor[Any]", executor) if isinstance(executor, Executor) else None
        parts["executor's options"] = executor if model is None else _options(model)
    return described | {name: digest_of_value(value) for name, value in parts.items()}


def describe_check(check: Check | None, *, seconds: float) -> dict[str, str]:
    """Describe what decides which answers are right; None is ``grader``."""
    return {"checker": digest_of_value(check or grader), "seconds of a check": str(seconds)}


def _options(agent: Planner[Any] | Executor[Any]) -> list[object]:
    options: list[object] = [agent.attempts, agent.max_tokens, agent.sampling, agent.validator]
    if isinstance(agent, Executor):
        options += [agent.tools, agent.tool_timeout, agent.tool_turns]
    return options
