"""Dialects: how plans, results and answers are written as text, and the choice of one for a run."""

from typing import Literal

from sprint_agents.engine import ChatTurns, Engine
from sprint_agents.errors import ConfigurationError, NoChatTemplate

from .base import Dialect, Role
from .json.dialect import PLAIN_TURNS, JsonDialect
from .json.words import LATEST, load_words
from .tags.dialect import TagDialect

DialectName = Literal["tags", "json"]
"""The paper's tags, for models trained on them; JSON, for any model that follows instructions."""


def choose_dialect(
    dialect: Dialect | DialectName | None, engine: Engine, *, executors: Engine | None = None
) -> Dialect:
    """Return the dialect of that name for ``engine``; a ``Dialect`` of the caller is returned unchanged.

    By default the checkpoint's ``sprint.json`` decides. Without that file it is json if the engine has turns of a
    conversation, otherwise tags. ``executors`` is the engine of the executors if it is not the planner's.

    Raises:
        ConfigurationError: there is no dialect of that name, the two engines mark turns differently, or the dialect is
            tags, for a model of conversations that was not trained on them.
        NoChatTemplate: the dialect is not named, and the model has neither a ``sprint.json`` nor a chat template.
        InvalidCheckpoint: the model's chat template rewrites earlier turns.
    """
    if dialect is not None and not isinstance(dialect, str):
        return dialect
    manifest = engine.manifest
    name = dialect or (manifest.dialect if manifest else _dialect_of_other_model(engine))
    trained = manifest if manifest is not None and manifest.dialect == name else None
    if name == "tags":
        if trained is None and engine.capabilities.chat is not None:
            raise ConfigurationError(
                f"dialect='tags' is for models trained on the paper's format, and {engine.name} holds conversations "
                "without a sprint.json that says so: it would be told of no format, and read its own words as the "
                "user's. Leave out dialect=, for JSON; or, if the model was trained on tags, pass TagDialect.of(None)"
            )
        return TagDialect.of(trained)
    if name == "json":
        turns = turns_of_engine(engine) or PLAIN_TURNS
        if executors is not None and (turns_of_engine(executors) or PLAIN_TURNS) != turns:
            raise ConfigurationError(
                f"{engine.name} and {executors.name} mark the turns of a conversation differently, and executors go on "
                "with the planner's turns: run both on engines of one kind, or give dialect=JsonDialect(turns)"
            )
        held = all(one.capabilities.schemas for one in (engine, executors) if one is not None)
        words = load_words(trained.dialect_version if trained else LATEST)
        return JsonDialect(turns, words=words, example=not held and trained is None)
    raise ConfigurationError(f"there is no dialect {name!r}: use 'tags', 'json', or a Dialect of your own")


def check_schemas(dialect: Dialect, engine: Engine, executors: Engine) -> None:
    """Check that the engines support the schemas of a run, before anything is sent.

    Raises:
        ConfigurationError: an engine does not.
    """
    asked_of: dict[Role, tuple[Engine, str]] = {
        "plan": (engine, "a plan"),
        "graph": (engine, "a plan"),
        "answer": (engine, "an answer"),
        "execution": (executors, "an execution"),
    }
    for role, (asked, what) in asked_of.items():
        if asked.capabilities.schemas and (schema := dialect.constraints(role).schema) is not None:
            asked.check_schema(schema, what=what)
    if executors.capabilities.schemas:
        for tool in dialect.constraints("execution").tools:
            executors.check_schema(tool.schema, what=f"tool {tool.name!r}")


def turns_of_engine(engine: Engine) -> ChatTurns | None:
    """Return how an engine marks turns; None if its model knows no conversations.

    Raises:
        InvalidCheckpoint: the model's chat template rewrites earlier turns.
    """
    capabilities = engine.capabilities
    if capabilities.chat_error is not None and not isinstance(capabilities.chat_error, NoChatTemplate):
        raise capabilities.chat_error.with_traceback(None)
    return capabilities.chat


def _dialect_of_other_model(engine: Engine) -> DialectName:
    """Return the dialect of a model that was not trained on one."""
    if turns_of_engine(engine) is not None:
        return "json"
    error = engine.capabilities.chat_error
    if error is not None:
        raise error.with_traceback(None)
    return "tags"
