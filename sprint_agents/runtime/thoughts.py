"""Thoughts of earlier turns, which the chat templates of most reasoning models drop.

A context then holds what the template would write: executors still read the planner's thoughts, since they run on its
open turn, but a stage joins without them and without those of its executions. The rest of a turn is encoded again,
so the engine computes these tokens once more; they are few compared with the thoughts, which no later request reads.
"""

from sprint_agents.context import Context
from sprint_agents.dialects.base import Dialect, Role
from sprint_agents.dialects.conversation import NO_THOUGHTS, split_thoughts
from sprint_agents.markup import compose
from sprint_agents.state import State


def without_thoughts(dialect: Dialect, role: Role, written: str) -> tuple[str, str]:
    """Return what an earlier turn has instead of the thoughts in ``written``, and the rest of the turn."""
    constraints = dialect.constraints(role)
    if not constraints.drops_thoughts:
        return "", written
    thoughts, rest = split_thoughts(written, constraints.thoughts)
    return (NO_THOUGHTS if thoughts and constraints.thoughts == "open" else ""), rest


async def drop_thoughts(dialect: Dialect, role: Role, planner: State, *, since: Context, written: str) -> None:
    """Replace the completion ``written`` at the end of the planner's context, which began at ``since``."""
    opening, rest = without_thoughts(dialect, role, written)
    if rest != written:
        planner.context = since
        await planner.append(compose([opening, dialect.mark(rest)]))
