"""The end of a run: engines hear of it, and its context is kept, so that a conversation continues on its tokens.

Invariants:

- A run that continues another one begins with all of its token ids, in order, so a cache serves them.
- A record that was copied still has its ending; one that was pickled, or read from JSON, has none.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from sprint_agents.dialects.base import Dialect
from sprint_agents.engine import Engine
from sprint_agents.errors import ConfigurationError
from sprint_agents.functions import as_exception
from sprint_agents.logs import log
from sprint_agents.run import Run
from sprint_agents.state import State

_KEY = "_ending"


@dataclass(frozen=True, slots=True)
class RunEnding:
    """The end of a run: its ``planner``, the number of plans in its context, and whether that ends with an answer."""

    planner: State
    dialect: Dialect
    plans: int
    answered: bool

    def __deepcopy__(self, memo: object) -> "RunEnding":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing, ()

    @property
    def digest(self) -> str:
        """Identifies the token ids of the context."""
        return blake2b(
            b"".join([b"%d," % token for token in self.planner.context.ids_since(None)]), digest_size=12
        ).hexdigest()


def _nothing() -> None:
    return None


def keep_ending(run: Run[Any, Any], planner: State, dialect: Dialect, plans: int) -> None:
    """Keep where a run ended beside its record, of which it is not a part; it began with so many ``plans``."""
    answered = bool(run.stages) and run.stages[-1].answer is not None
    plans = max((stage.plan_number for stage in run.stages), default=plans)
    vars(run)[_KEY] = RunEnding(planner, dialect, plans, answered)


async def end_run(run: str, engines: Iterable[Engine | None]) -> None:
    """Tell each engine that a run has ended; what one raises is logged, since the run has its result, or its error."""
    for engine in {each for each in engines if each is not None}:
        try:
            await engine.end_run(run)
        except BaseException as error:
            log("warning", "run.end_failed", logger=__name__, error=as_exception(error), engine=engine.name)


def begin_context(engine: Engine, dialect: Dialect, task: str, after: Run[Any, Any] | None) -> tuple[State, str, int]:
    """Return the planner of a run, the text of the task that it begins with, and the number of plans in its context.

    If the run continues another one on the same engine, the requests of both belong together (``Hints.run``).

    Raises:
        ConfigurationError: the run cannot continue ``after``.
    """
    if after is None:
        return State(engine), dialect.write_task(task), 0
    ending = ending_of(after, engine, dialect)
    before = ending.planner
    planner = before.branch() if engine is before.engine else State(engine, before.context)
    message = dialect.write_message(task, task=True)
    if ending.answered:
        message = dialect.write_end("answer", before.context.own_text) + message
    return planner, message, ending.plans


def ending_of(run: Run[Any, Any], engine: Engine, dialect: Dialect) -> RunEnding:
    """Return where a run ended, for another one with this ``engine`` and ``dialect``.

    Raises:
        ConfigurationError: it failed, has only been read from a file, or was about another model or other agents.
    """
    ending: RunEnding | None = vars(run).get(_KEY)
    if run.error is not None:
        raise ConfigurationError(f"after= is a run that failed ({run.error.type}): continue one that has an answer")
    if ending is None:
        raise ConfigurationError(
            "after= is a record without its token ids, since it comes from a file or another process: "
            "run its task again with its journal, which sends no request, and continue the run that this returns"
        )
    if engine.name != ending.planner.engine.name:
        raise ConfigurationError(
            f"after= is a run of {ending.planner.engine.name}, and tokens mean something else to {engine.name}: "
            "continue with the same model"
        )
    if dialect.write_task("") != ending.dialect.write_task(""):
        raise ConfigurationError(
            "after= is a run of other agents, which its context describes: continue with the same types, tools and "
            "instructions"
        )
    return ending
