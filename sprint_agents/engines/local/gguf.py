"""GGUF files as checkpoint directories. Imports torch and transformers.

Transformers reads the format, but keeps the weights quantised and makes the tokenizer anew each time, which takes half
a minute. So a file is converted once, and the directory is kept in the user's cache.
"""

import hashlib
import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from sprint_agents.errors import InvalidCheckpoint, MissingExtra

_MADE_ANEW = "quantization_config"
"""The entry of a configuration that says how weights are packed; those of the copy are plain numbers."""


def convert_once(file: Path) -> Path:
    """Return the checkpoint directory for a GGUF file; the first call makes it.

    Raises:
        InvalidCheckpoint: there is no such file, or transformers cannot read it.
        MissingExtra: the package ``gguf`` is not installed.
    """
    try:
        status = file.stat()
    except OSError as error:
        raise InvalidCheckpoint(f"{file} cannot be read: {error.strerror}. Give the path of a GGUF file") from error
    version = f"{file.resolve()} {status.st_size} {status.st_mtime_ns}"
    directory = _cache() / f"{file.stem}-{hashlib.sha256(version.encode()).hexdigest()[:12]}"
    if not (directory / "config.json").is_file():
        if find_spec("gguf") is None:
            raise MissingExtra("gguf", "gguf")
        convert(file, directory)
    return directory


def convert(file: Path, directory: Path) -> None:
    """Write the model and the tokenizer of a GGUF file as a checkpoint directory, in half precision.

    The configuration asks for float32, in which CPUs compute fastest.

    Raises:
        InvalidCheckpoint: transformers cannot read the file.
    """
    # An interrupted conversion leaves no directory that looks whole, and two at once do not meet.
    unfinished = directory.with_name(f"{directory.name}.{os.getpid()}")
    try:
        _write(file, unfinished)
        shutil.rmtree(directory, ignore_errors=True)
        unfinished.rename(directory)
    except Exception as error:  # damaged files raise errors of many types
        raise InvalidCheckpoint(
            f"{file} cannot be converted: {type(error).__name__}: {error}. Download it again, or give the folder of "
            "the original model"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(file: Path, directory: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model_class, tokenizer_class = cast(Any, AutoModelForCausalLM), cast(Any, AutoTokenizer)
    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    packed = model_class.from_pretrained(**place, dtype=torch.float32)
    if hasattr(packed.config, _MADE_ANEW):
        delattr(packed.config, _MADE_ANEW)
    model = model_class.from_config(packed.config, dtype=torch.float16)
    model.load_state_dict(packed.state_dict())
    model.generation_config = packed.generation_config
    model.save_pretrained(directory)
    tokenizer_class.from_pretrained(**place).save_pretrained(directory)
    config = directory / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8")) | {"dtype": "float32"}
    config.write_text(json.dumps(settings, indent=2), encoding="utf-8")


def _cache() -> Path:
    # https://specifications.freedesktop.org/basedir-spec: a relative path is ignored.
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "sprint-agents" / "gguf"
