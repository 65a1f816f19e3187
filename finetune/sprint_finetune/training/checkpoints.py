"""Models on disk: load one, find the newest checkpoint of a killed run, and write the trained model."""

# pyright: reportUnknownMemberType=false
# The annotations of transformers and peft are partial.

import json
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations import deepspeed

from sprint_agents.errors import ConfigurationError, InvalidCheckpoint, MissingExtra
from sprint_agents.manifest import FILE_NAME, Manifest

_STATE = "trainer_state.json"
_NUMBERED = re.compile(r"checkpoint-(\d+)")


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint: a directory or a name on the hub.

    Raises:
        InvalidCheckpoint: the checkpoint has no readable tokenizer.
    """
    try:
        return cast(Any, AutoTokenizer).from_pretrained(model)
    except Exception as error:  # transformers, tokenizers and the hub raise many types
        raise InvalidCheckpoint(
            f"{model} has no readable tokenizer: {first_line(error)}. "
            "Pass a folder written by save_pretrained, or a name on the hub"
        ) from error


def load_model(
    model: str, *, from_scratch: bool = False, dtype: torch.dtype | None = None, attention: str | None = None
) -> PreTrainedModel:
    """Load a causal model, or create one with its architecture and random weights.

    By default ``dtype`` and ``attention`` are those of the checkpoint, and random weights are float32.

    Raises:
        InvalidCheckpoint: the checkpoint has no readable model.
    """
    factory = cast(Any, AutoModelForCausalLM)
    try:
        if from_scratch:
            config = cast(Any, AutoConfig).from_pretrained(model)
            return factory.from_config(config, dtype=dtype or torch.float32, attn_implementation=attention)
        return factory.from_pretrained(model, dtype=dtype or "auto", attn_implementation=attention)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # as above; also safetensors', of a file that was not copied whole
        raise InvalidCheckpoint(f"{model} has no readable model: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """Return the first line of what another library says, or the type of an error that says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__).removesuffix(".")


@contextmanager
def unsharded() -> Generator[None]:
    """Load models whole inside this block, even if DeepSpeed ZeRO-3 is configured to shard them."""
    zero = deepspeed._hf_deepspeed_config_weak_ref  # pyright: ignore[reportPrivateUsage]
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if zero is not None and (config := zero()) is not None:
            deepspeed.set_hf_deepspeed_config(config)


def open_folder(run: Path) -> None:
    """Create the folder of a run if there is none.

    Raises:
        ConfigurationError: it cannot be written.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=run):
            pass
    except OSError as error:
        raise ConfigurationError(f"{run} cannot be written: {error.strerror or error}") from error


def newest_checkpoint(run: Path) -> Path | None:
    """Find the newest complete checkpoint of a run.

    The trainer writes its state last, so a checkpoint whose writing was interrupted has no complete state.
    """
    numbered = [(int(match[1]), path) for path in run.glob("checkpoint-*") if (match := _NUMBERED.fullmatch(path.name))]
    return next((path for step, path in sorted(numbered, reverse=True) if _reached(path) == step), None)


def _reached(checkpoint: Path) -> int | None:
    """Return the step of a checkpoint, or None if it is incomplete."""
    try:
        state: Any = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state.get("global_step") if isinstance(state, dict) else None  # pyright: ignore[reportUnknownVariableType]


def write_checkpoint(
    source: Path, target: Path, *, manifest: Manifest, dtype: torch.dtype, base: str | None = None
) -> None:
    """Write the model in the form that engines open: weights in ``dtype``, tokenizer, ``sprint.json``.

    If ``source`` holds adapters, they are merged into ``base``.
    """
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with unsharded():
        model = load_model(str(source), dtype=dtype) if base is None else _merged(source, base, dtype)
        model.save_pretrained(partial)
    load_tokenizer(str(source)).save_pretrained(partial)
    (partial / FILE_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)  # if the process is killed, target is either complete or absent


def _merged(adapters: Path, base: str, dtype: torch.dtype) -> PreTrainedModel:
    try:
        from peft import PeftModel
    except ModuleNotFoundError:
        raise MissingExtra("lora", "peft") from None
    merging: Any = PeftModel.from_pretrained(load_model(base, dtype=dtype), str(adapters))
    return merging.merge_and_unload()
