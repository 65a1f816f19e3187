"""Every setting of a reinforcement-learning run, in one record. ``finetune/recipes/sprint_7b_rl.toml`` is one."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sprint_agents.errors import ConfigurationError
from sprint_finetune.costs import CostModel

Method = Literal["p-grpo", "expert-iteration"]
"""Policy gradients with advantages within a group, or fine-tuning on the quickest right run of each problem."""


class RlSettings(BaseModel):
    """The settings of one run of ``sprint-finetune rl``.

    >>> costs = CostModel(step={1: 1.0})
    >>> RlSettings(model="base", problems="train.jsonl", output="runs/rl", costs=costs).method
    'p-grpo'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Path
    """The folder of the checkpoint to start from, with its ``sprint.json``."""
    problems: Path
    """A JSONL file with a ``problem`` and its ``answer`` in each line; see ``RlProblem``."""
    output: Path
    """Folder of the run: rollouts, state to resume from, ``log.jsonl``, and ``checkpoint/``, the trained model."""
    costs: CostModel
    """The measured seconds of the engine's steps. Rewards are computed from it, never from the clock."""
    method: Method = "p-grpo"

    server: str | None = None
    """The address of an SGLang server that serves ``model``; None runs the model in this process."""
    concurrency: int = Field(default=32, ge=1)
    """Runs at the same time."""

    iterations: int = Field(default=50, ge=1)
    problems_per_iteration: int = Field(default=16, ge=1)
    group: int = Field(default=8, ge=2)
    """Rollouts of each problem, among which rewards are compared."""
    rho: float = Field(default=0.5, ge=0)
    """How much the seconds of a right run count."""
    clip: float = Field(default=0.2, gt=0, lt=1)
    """How far a token's importance ratio may be from 1 before its gradient is cut off."""
    passes: int = Field(default=1, ge=1)
    """How often the rollouts of an iteration are learned."""
    runs_per_step: int = Field(default=32, ge=1)
    """Rollouts that are learned in one step of the optimiser."""
    learning_rate: float = Field(default=1e-6, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    largest_gradient: float = Field(default=1.0, gt=0)
    row_tokens: int = Field(default=8192, ge=2)
    """The most tokens that are computed at once; a longer rollout is computed alone."""
    bf16: bool = False
    """Compute in bfloat16."""
    seed: int = Field(default=0, ge=0)

    @classmethod
    def load(cls, path: Path, *, changes: Mapping[str, object] | None = None) -> Self:
        """Read a TOML file and apply ``changes`` to it.

        Raises:
            ConfigurationError: the file is missing or damaged, or a setting is missing, unknown or out of range.
        """
        try:
            content: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(f"the settings {path} cannot be read: {error}") from error
        try:
            return cls.model_validate({**content, **(changes or {})})
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()
            )
            raise ConfigurationError(f"the settings {path} are not valid: {faults}") from error


class RlProblem(BaseModel):
    """One line of the file of problems. Other columns are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    problem: str = Field(min_length=1)
    answer: str | None = None
    """The right answer; None for the built-in tasks, whose answers a program checks."""

    @classmethod
    def read(cls, path: Path) -> list[Self]:
        """Read all problems of a file, each once.

        Raises:
            ConfigurationError: the file cannot be read, a line is not a problem, or there is none.
        """
        try:
            lines = path.read_text("utf-8-sig").split("\n")  # JSON may hold other line ends, such as U+2028
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the problems {path} cannot be read: {error}") from error
        found: dict[str, Self] = {}
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    one = cls.model_validate_json(line)
                except ValidationError as error:
                    fault = error.errors()[0]
                    where = ": ".join([*map(str, fault["loc"]), fault["msg"]])
                    raise ConfigurationError(f"{path}, line {number} is not a problem: {where}") from error
                found.setdefault(one.problem, one)
        if not found:
            raise ConfigurationError(f"{path} has no problems: write a `problem` and its `answer` in each line")
        return [*found.values()]
