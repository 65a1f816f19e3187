"""``sprint.json``: what a checkpoint says about how it was trained to be run.

It lies beside the weights, so model, prompt format and runtime never drift apart.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import InvalidCheckpoint

FILE_NAME = "sprint.json"


class TaskRange(BaseModel):
    """The part of a task family that a model was trained on; bounds are inclusive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    counts: tuple[int, ...]
    """How many numbers a problem may have."""
    numbers: tuple[int, int]
    targets: tuple[int, int]


class Manifest(BaseModel):
    """The content of ``sprint.json``.

    ``tasks`` names the only task families that a small model understands; empty for a general model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    model: str
    dialect: Literal["tags"] = "tags"
    dialect_version: int = Field(default=1, ge=1)
    question: str = Field(default="{task}\n", pattern=r"\{task\}")
    """How a task opens the context: the chat template's words, with ``{task}`` in its place."""
    temperature: float = Field(default=0.6, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stages: int = Field(default=12, ge=1)
    plan_tokens: int = Field(default=8000, ge=1)
    execution_tokens: int = Field(default=8000, ge=1)
    tasks: Mapping[str, TaskRange] = {}

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
