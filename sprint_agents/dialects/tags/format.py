"""The paper's tag format: what the runtime writes, and where the model stops (arXiv 2506.05745, section 3.1).

Layout of one stage, one tag a line, where ``|`` marks the end of a request, after which the runtime continues::

    <Plan_1>
    … <prompt_1.1>…</prompt_1.1> …          an executor reads exactly up to here, and starts at once
    </Plan_|1>
    <Execution_1>
    <execution_1.1>
    …</execution_|1.1>
    </Execution_1>

A closing tag stops a request by its constant first part, which is one special token where the tokenizer
has it; the runtime writes the rest. The tags live in ``tags_v1.json``: a change there is a new version.
"""

import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

INVALID = "[invalid: {error}]"
"""The note that follows an invalid turn, on a line between that turn and the next."""
NOTE = "[note: {note}]"
"""A message of the user between two stages."""


class TagPair(NamedTuple):
    """An opening and a closing tag, as templates over ``stage`` and ``number``."""

    open: str
    close: str

    def of(self, stage: int) -> "TagPair":
        """Fill in the stage, but not the number."""
        return TagPair(self.open.replace("{stage}", str(stage)), self.close.replace("{stage}", str(stage)))

    def numbered(self, number: int) -> "TagPair":
        """Fill in the number."""
        return TagPair(self.open.replace("{number}", str(number)), self.close.replace("{number}", str(number)))


class TagStops(BaseModel):
    """The texts at which a request of each role ends."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    plan: tuple[str, ...]
    execution: tuple[str, ...]
    answer: tuple[str, ...]


class Tags(BaseModel):
    """One version of the tags, as its JSON file holds them."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    plan: TagPair
    prompt: TagPair
    executions: TagPair
    execution: TagPair
    answer: TagPair
    chain: TagPair
    separator: str
    stops: TagStops
    special_tokens: tuple[str, ...]


@cache
def load_tags(version: int = 1) -> Tags:
    """Read the tags of a dialect version from the file beside this module."""
    text = files("sprint_agents.dialects.tags").joinpath(f"tags_v{version}.json").read_text(encoding="utf-8")
    return Tags.model_validate(json.loads(text))


def overlap(text: str, close: str) -> int:
    """Return how many characters of the tag ``close`` end the ``text``, whose completion stopped within the tag.

    >>> overlap("none</execution_", "</execution_1.2>")
    12
    """
    start = text.rfind(close[0], max(0, len(text) - len(close)))
    return len(text) - start if start >= 0 and close.startswith(text[start:]) else 0


def closing(text: str, close: str) -> str:
    r"""Return what to append to ``text`` so that it ends with ``close``; on a new line if no part of it is there.

    >>> closing("none</execution_", "</execution_1.2>"), closing("cut off", "</execution_1.2>")
    ('1.2>', '\n</execution_1.2>')
    """
    size = overlap(text, close)
    return close[size:] if size or text.endswith("\n") or not text else f"\n{close}"
