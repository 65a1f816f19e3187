"""Every setting that decides how a model is trained, in one record.

The files ``finetune/recipes/*.toml`` are such records.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sprint_agents.errors import ConfigurationError
from sprint_agents.manifest import Manifest

from .trie import Shared

Way = Literal["causal", "calls", "trie"]
"""How a trajectory is learned: as one text (as in the paper), call by call, or all calls in one trie."""

_FROZEN = ConfigDict(frozen=True, extra="forbid")
_BESIDE_THE_FILE = ("deepspeed", "fsdp")


class Lora(BaseModel):
    """Low-rank adapters instead of full fine-tuning. The paper found that they do not learn the format."""

    model_config = _FROZEN

    rank: int = Field(default=64, ge=1)
    alpha: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str | tuple[str, ...] = "all-linear"


class Settings(BaseModel):
    """The settings of one training run.

    >>> settings = Settings(model="base", data=("train.jsonl",), output="runs/a", manifest=Manifest(model="a"))
    >>> settings.way, settings.epochs, settings.learning_rate
    ('trie', 5.0, 1e-05)
    """

    model_config = _FROZEN

    model: str
    """The directory of a checkpoint, or its name on the Hugging Face hub."""
    data: tuple[Path, ...] = Field(min_length=1)
    """JSONL files with one ``TrainingSample`` per line."""
    output: Path
    """Directory of the run: checkpoints to resume from, ``log.jsonl``, and ``checkpoint/``, the trained model."""
    manifest: Manifest
    """Written beside the trained weights. Its ``question`` template also formats the problems in training."""
    held_out: tuple[Path, ...] = ()
    """JSONL files on which the loss is measured after every epoch."""
    solve: tuple[Path, ...] = ()
    """JSONL files whose problems each saved checkpoint solves, with an ``answer`` in each line. See ``solving``."""
    report_to: tuple[str, ...] = ()
    """Where else to log, by transformers' names: ``trackio``, ``wandb``, ``tensorboard``, …"""

    from_scratch: bool = False
    """Start with random weights of the model's architecture."""
    tags: Literal["require", "add", "text"] = "require"
    """What to do if some tags are not single tokens: refuse to train, add them to the vocabulary, or train them as
    several tokens.
    """
    weights: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights. bfloat16 loses small updates, so use it only for frozen weights (``lora``)."""
    bf16: bool = False
    """Compute in bfloat16."""
    lora: Lora | None = None

    way: Way = "trie"
    shared: Shared = "once"
    context: int | None = Field(default=None, ge=2)
    """Longest path in tokens. Default: the model's maximum."""
    row_tokens: int | None = Field(default=None, ge=2)
    """Longest row in tokens, which memory limits. Default: ``context``, or the largest trie if that is longer."""
    logit_tokens: int = Field(default=512, ge=1)
    """Number of tokens whose logits are in memory at the same time. It does not change the loss."""
    loss: Literal["chunks", "liger"] = "chunks"
    """``chunks`` is this package's loss. ``liger`` is the fused kernel of liger-kernel, for NVIDIA GPUs; it needs
    ``shared = "once"`` and ignores ``logit_tokens``.
    """
    pack: bool = True
    """Put several tries into one row."""
    overlong: Literal["error", "skip"] = "error"
    """What to do with a sample that is longer than ``context`` or ``row_tokens``."""
    attention: Literal["auto", "sdpa", "flex_attention"] = "auto"
    """``auto`` is flex attention on a GPU for which triton compiles it, and SDPA elsewhere."""

    epochs: float = Field(default=5.0, gt=0)
    steps: int | None = Field(default=None, ge=1)
    """Number of optimiser steps, instead of ``epochs``."""
    rows_per_device: int = Field(default=1, ge=1)
    accumulate: int = Field(default=1, ge=1)
    """Batches per device and optimiser step."""
    learning_rate: float = Field(default=1e-5, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warm_up: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    largest_gradient: float = Field(default=1.0, gt=0)
    gradient_checkpointing: bool = False
    seed: int = Field(default=0, ge=0)

    save_every: int = Field(default=100, ge=1)
    """Optimiser steps between checkpoints."""
    keep: int = Field(default=2, ge=1)
    """Number of checkpoints to keep."""
    log_every: int = Field(default=10, ge=1)
    deepspeed: Path | None = None
    """DeepSpeed configuration, such as ``zero3.json``. In a recipe file, relative to that file."""
    fsdp: Path | None = None
    """FSDP configuration, such as ``fsdp.json``. In a recipe file, relative to that file."""

    @model_validator(mode="after")
    def _liger_has_no_weights(self) -> Self:
        if self.loss == "liger" and self.shared != "once":
            raise ValueError(f'loss = "liger" weighs all edges alike, so it cannot train with shared = "{self.shared}"')
        return self

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        changes: Mapping[str, object] | None = None,
        defaults: Mapping[str, object] | None = None,
    ) -> Self:
        """Read a TOML file and apply ``changes`` to it. ``defaults`` hold where it says nothing.

        Raises:
            ConfigurationError: the file is missing or damaged, or a setting is missing, unknown or out of range.
        """
        try:
            content: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(f"the settings {path} cannot be read: {error}") from error
        for name in _BESIDE_THE_FILE:
            if isinstance(named := content.get(name), str):
                content[name] = path.parent / named
        try:
            return cls.model_validate({**(defaults or {}), **content, **(changes or {})})
        except ValidationError as error:
            faults = "; ".join(
                ": ".join(filter(None, (".".join(str(part) for part in fault["loc"]), fault["msg"])))
                for fault in error.errors()
            )
            raise ConfigurationError(f"the settings {path} are not valid: {faults}") from error
