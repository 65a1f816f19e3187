"""Where the files of a model are: a directory, a GGUF file, or a name on the Hugging Face Hub."""

import re
from pathlib import Path

from sprint_agents.errors import InvalidCheckpoint

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_WANTED = ("*.json", "*.safetensors", "*.jinja")
"""What the engine reads of a repository; others have the weights in several formats."""


def find_model(model: str | Path) -> Path:
    """Return the checkpoint directory of a model, which may have to be downloaded or converted first.

    A ``Path`` is always a path, and so is a text that exists as a directory. ``owner/name`` is a name on the Hub,
    unless there is a directory ``owner`` here: then it is a path with a mistake.

    Raises:
        InvalidCheckpoint: the Hub cannot give the model, or the GGUF file cannot be read.
        MissingExtra: a GGUF file needs the package ``gguf``.
    """
    path = Path(model).expanduser()
    if path.suffix == ".gguf" and not path.is_dir():
        from .gguf import convert_once  # loads torch

        return convert_once(path)
    if isinstance(model, Path) or path.is_dir() or path.parent.is_dir() or not _NAME.fullmatch(model):
        return path
    return _download(model)


def _download(name: str) -> Path:
    from huggingface_hub import constants, snapshot_download  # pyright: ignore[reportUnknownVariableType]

    try:
        return Path(snapshot_download(name, allow_patterns=list(_WANTED)))
    except Exception as error:  # the library raises errors of several libraries
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if constants.is_offline_mode():
            advice = "HF_HUB_OFFLINE is set, and the model is not in the cache: unset it, or download the model first"
        else:
            advice = "check the name and the connection; for a private or gated model, log in with `hf auth login`"
        raise InvalidCheckpoint(
            f"{name} is not a directory here, and the Hub ({constants.ENDPOINT}) did not give it: {reason}. To use a "
            f"model of the Hub, {advice}. To use a folder, correct its path"
        ) from error
