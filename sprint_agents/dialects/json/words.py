"""The prompts and keys of the JSON dialect, from the versioned file beside this module."""

import re
import tomllib
from collections.abc import Sequence
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

_FROZEN = ConfigDict(frozen=True, extra="forbid", defer_build=True)
LATEST = 2
"""The version for models that were not trained on another one."""

_GAP = re.compile(r"[\s_-]+")


class Format(BaseModel):
    """The form of the turns in one version.

    Attributes:
        thoughts: whether each turn has to begin with them, so that a model under a schema can think before it answers.
            A grammar may write the required keys first, and optional ones after them.
        after: whether every plan may have dependencies, or only those of a policy that asks for a ``graph``.
        most: the most subtasks of a plan, and of ``after``.
    """

    model_config = _FROZEN

    thoughts: Literal["optional", "required"] = "optional"
    after: Literal["always", "graph"] = "always"
    most: int | None = None


class SystemWords(BaseModel):
    """The parts of the system's turn."""

    model_config = _FROZEN

    planner: str
    executor: str
    program: str
    tools: str
    tool: str
    offered: str
    thoughts: str
    text: str
    typed: str
    answer: str
    result: str
    instructions: str


class TurnWords(BaseModel):
    """The texts of the user's turns, which ask for the model's.

    After a turn in prose, a planner that was asked for a plan reads ``prose``. All read their own words again as
    thoughts in JSON, unless ``prose`` is empty: a small model goes on as its last turn was written.
    """

    model_config = _FROZEN

    plan: str
    graph: str
    chain: str
    answer: str
    execution: str
    nested: str
    results: str
    ready: str
    invalid_execution: str
    invalid_answer: str
    invalid_plan: str
    prose: str = ""


class ExampleWords(BaseModel):
    """The words of an example conversation, and of the turn that asks for a ``plan`` after it.

    ``done`` has the thoughts before each result and the answer, which are also the texts in them. ``again`` shows the
    model's turn again after a wrong one.
    """

    model_config = _FROZEN

    plan: str
    again: str
    task: str
    split: str
    prompts: tuple[str, ...]
    done: tuple[str, ...]


class JsonKeys(BaseModel):
    """The keys that a model writes: each by its name, followed by accepted synonyms."""

    model_config = _FROZEN

    thoughts: tuple[str, ...]
    subtasks: tuple[str, ...]
    prompt: tuple[str, ...]
    name: tuple[str, ...]
    after: tuple[str, ...]
    answer: tuple[str, ...]
    result: tuple[str, ...]
    call: tuple[str, ...]
    tool: tuple[str, ...]
    arguments: tuple[str, ...]
    failed: tuple[str, ...]


class JsonWords(BaseModel, frozen=True):
    """One version of the words, as its file holds them."""

    model_config = _FROZEN

    format: Format = Format()
    system: SystemWords
    turns: TurnWords
    example: ExampleWords | None = None
    keys: JsonKeys

    @cached_property
    def told(self) -> str:
        """The planner's instructions, in small letters and on one line."""
        words = (self.system.planner, self.system.executor, self.turns.plan, self.turns.graph)
        return " ".join(" ".join(words).lower().split())


@lru_cache(maxsize=1024)
def normal(key: str) -> str:
    """Normalise a key to the spelling that ``JsonKeys`` lists.

    >>> normal("Final Answer"), normal(" depends-on")
    ('final_answer', 'depends_on')
    """
    return _GAP.sub("_", key.strip().lower())


def pick(value: JsonValue, names: Sequence[str]) -> JsonValue:
    """Return the item under the first of ``names`` that is a key of ``value``; None if there is none.

    >>> pick({"Depends on": [1]}, load_words().keys.after)
    [1]
    """
    if not isinstance(value, dict):
        return None
    if names[0] in value:  # as most models write it
        return value[names[0]]
    found = {normal(key): item for key, item in value.items()}
    return next((found[name] for name in names if name in found), None)


def fill(text: str, **words: str | int) -> str:
    """Insert words into the placeholders of a text.

    >>> fill("executor <stage>.<number>", stage=1, number=2)
    'executor 1.2'
    """
    return _template(text) % words


@cache
def _template(text: str) -> str:
    """Convert placeholders to Python's ``%`` format, which fills all at once: inserted text is never filled again."""
    return re.sub("<([a-z]+)>", r"%(\1)s", text.replace("%", "%%"))


@cache
def load_words(version: int = LATEST) -> JsonWords:
    """Read the words of a dialect version from the file beside this module."""
    text = files("sprint_agents.dialects.json").joinpath(f"json_v{version}.toml").read_text(encoding="utf-8")
    return JsonWords.model_validate(tomllib.loads(text))
