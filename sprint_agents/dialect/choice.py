"""Which dialect a run speaks."""

from typing import Literal

from sprint_agents.engine import Converses, Engine
from sprint_agents.errors import ConfigurationError

from .conversation import Turns
from .json_dialect import PLAIN_TURNS, JsonDialect
from .json_words import load_words
from .protocol import Dialect
from .tagged import TagDialect

DialectName = Literal["tags", "json"]
"""The paper's tags, for models that were trained on them; JSON, for any model that follows instructions."""


def choose_dialect(
    dialect: Dialect | DialectName | None, engine: Engine, *, executors: Engine | None = None
) -> Dialect:
    """Return the dialect of that name as ``engine`` needs it, or a dialect of the caller's own as it is.

    None stands for what the checkpoint's ``sprint.json`` says; where there is none, json if the engine's model was made
    for conversations, tags otherwise. ``executors`` is where executors run, if that is not where the planner does.

    Raises:
        ConfigurationError: there is no dialect of that name, or the two engines write turns in different ways.
    """
    if dialect is not None and not isinstance(dialect, str):
        return dialect
    manifest = engine.manifest
    name = dialect or (manifest.dialect if manifest else "json" if isinstance(engine, Converses) else "tags")
    trained = manifest if manifest is not None and manifest.dialect == name else None
    if name == "tags":
        return TagDialect.of(trained)
    if name == "json":
        turns = _turns(engine)
        if executors is not None and _turns(executors) != turns:
            raise ConfigurationError(
                f"{engine.name} and {executors.name} mark the turns of a conversation differently, and executors go on "
                "with the planner's turns: run both on engines of one kind, or give dialect=JsonDialect(turns)"
            )
        return JsonDialect(turns, words=load_words(trained.dialect_version if trained else 1))
    raise ConfigurationError(f"there is no dialect {name!r}: use 'tags', 'json', or a Dialect of your own")


def _turns(engine: Engine) -> Turns:
    return engine.turns if isinstance(engine, Converses) else PLAIN_TURNS
