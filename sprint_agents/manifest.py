"""``sprint.json``: what a checkpoint says about how it was trained to be run.

It lies beside the weights, so model, prompt format and runtime never drift apart.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import TypedDict  # before Python 3.12, pydantic knows this one only

from .errors import InvalidCheckpoint

FILE_NAME = "sprint.json"
"""The name of a checkpoint's manifest, in the folder of its weights."""

Bounds = tuple[int, int]
"""The lowest and the highest value, both included."""


class CountdownRange(BaseModel):
    """The Countdown problems that a model was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    counts: tuple[int, ...]
    """How many numbers a problem may have."""
    numbers: Bounds
    targets: Bounds


class ArithmeticRange(BaseModel):
    """The expressions that a model was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: Bounds
    """How many groups hold numbers alone."""
    outer: Bounds
    """How many groups hold groups."""
    operations: Bounds
    """How many signs each group has, and the expression around them."""
    levels: Bounds
    """How deep groups are nested."""
    numbers: Bounds
    values: Bounds
    """What every operation makes; whole numbers alone."""


class MultiplicationRange(BaseModel):
    """The products that a model was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    smaller: Bounds
    larger: Bounds
    products: Bounds


class TaskRanges(TypedDict, total=False):
    """The part of each task family that a model was trained on; a family that is missing was not trained."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # pyright: ignore[reportGeneralTypeIssues]

    countdown: CountdownRange
    arithmetic: ArithmeticRange
    multiplication: MultiplicationRange


class Manifest(BaseModel):
    """The content of ``sprint.json``.

    ``tasks`` names the only task families that a small model understands; empty for a general model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    model: str
    dialect: Literal["tags", "json"] = "tags"
    dialect_version: int = Field(default=1, ge=1)
    question: str = Field(default="{task}\n", pattern=r"\{task\}")
    """How a task opens the context: the chat template's words, with ``{task}`` in its place."""
    temperature: float = Field(default=0.6, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stages: int = Field(default=12, ge=1)
    plan_tokens: int = Field(default=8000, ge=1)
    execution_tokens: int = Field(default=8000, ge=1)
    tasks: TaskRanges = {}

    @classmethod
    def load(cls, directory: Path) -> Self | None:
        """Read ``directory/sprint.json``; None where there is no such file.

        Raises:
            InvalidCheckpoint: the file is no valid manifest.
        """
        path = directory / FILE_NAME
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidCheckpoint(f"{path} cannot be read: {error}") from error
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise InvalidCheckpoint(
                f"{path} is not a valid manifest: {place}: {first['msg']}. "
                "Copy sprint.json again from where the weights came from, or delete it to run without one"
            ) from error
