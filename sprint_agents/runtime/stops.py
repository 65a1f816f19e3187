"""Where the completions of each role end, in the vocabulary of its engine."""

from sprint_agents.dialects.base import Dialect, Role
from sprint_agents.engine import Engine
from sprint_agents.state import Stops

from .session import Session


async def resolve_stops(dialect: Dialect, engine: Engine, executor_engine: Engine | None) -> dict[Role, Stops]:
    """Resolve where the completions of each role end, in the vocabulary of its engine."""
    engines: dict[Role, Engine] = {
        "plan": engine,
        "graph": engine,
        "execution": executor_engine or engine,
        "answer": engine,
    }
    resolved: dict[tuple[int, tuple[str, ...]], Stops] = {}
    for role, asked in engines.items():
        key = id(asked), dialect.constraints(role).stops
        if key not in resolved:
            resolved[key] = await Stops.resolve(asked, key[1])
    return {role: resolved[id(asked), dialect.constraints(role).stops] for role, asked in engines.items()}


async def planner_or_execution_stops(session: Session) -> dict[Role, Stops]:
    """Add the stops of an execution to those of a planner, because a nested planner may write either."""
    stops = dict(session.stops)
    execution = stops["execution"]
    if session.executor_engine not in (None, session.engine):  # those are for another vocabulary
        execution = await Stops.resolve(session.engine, session.dialect.constraints("execution").stops)
    for role in ("plan", "answer"):
        own = stops[role]
        stops[role] = Stops(own.ids | execution.ids, tuple(dict.fromkeys((*own.texts, *execution.texts))))
    return stops
