"""``sprint.json``: how a checkpoint was trained to be run.

The file lies beside the weights, so model, prompt format and runtime never drift apart.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from .errors import InvalidCheckpoint
from .settles import Settles

FILE_NAME = "sprint.json"
"""The name of a checkpoint's manifest, in the folder of its weights."""


class Manifest(BaseModel):
    """The content of ``sprint.json``.

    A general model has no ``tasks`` and gets every task exactly as the user wrote it. A small model lists there the
    only problems it was trained on, as ``sprint_agents.nano.ranges.TaskRanges`` describes them. The library then
    rewrites each task in the words of the training, refuses any other task, and checks the answers.

    ``settles`` says which executions settle a stage: those of all tasks, or of each kind of ``tasks`` that it names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    format: Literal[1] = 1
    model: str
    dialect: Literal["tags", "json"] = "tags"
    dialect_version: int = Field(default=1, ge=1)
    question: str = Field(default="{task}\n", pattern=r"\{task\}")
    """The text that opens the context, such as a chat template, with ``{task}`` where the task belongs."""
    temperature: float = Field(default=0.6, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stages: int = Field(default=12, ge=1)
    plan_tokens: int = Field(default=8000, ge=1)
    execution_tokens: int = Field(default=8000, ge=1)
    tasks: Mapping[str, JsonValue] = {}
    settles: Settles | Mapping[str, Settles] | None = None

    @model_validator(mode="after")
    def _known_kinds(self) -> Self:
        kinds = self.settles if isinstance(self.settles, Mapping) else ()
        if unknown := [kind for kind in kinds if kind not in self.tasks]:
            raise ValueError(f"settles names the kind {unknown[0]!r}, and tasks does not")
        return self

    def settles_stages(self, kind: str | None) -> Settles | None:
        """Return what settles the stages of a task; ``kind`` is its name in ``tasks``."""
        if isinstance(self.settles, Mapping):
            return None if kind is None else self.settles.get(kind)
        return self.settles

    @classmethod
    def load(cls, directory: Path) -> Self | None:
        """Read ``directory/sprint.json``; None if there is no such file.

        Raises:
            InvalidCheckpoint: the file cannot be read, or is not a valid manifest.
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
