"""The files of a model directory, read without loading the model: a check that they are complete, and the tokenizer."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_agents.errors import InvalidCheckpoint

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def check_directory(directory: Path) -> None:
    """Check that a directory holds a model. This is cheap enough for a constructor.

    Raises:
        InvalidCheckpoint: a file is missing or unusable.

    """
    if not directory.is_dir():
        raise InvalidCheckpoint(
            f"{directory} is not a directory: give the folder that holds config.json, tokenizer.json and the weights"
        )
    config = directory / "config.json"
    try:
        content: object = json.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidCheckpoint(
            f"{directory} has no config.json: give the folder that save_pretrained wrote, not its parent or a subfolder"
        ) from None
    except (OSError, ValueError) as error:
        raise InvalidCheckpoint(f"{config} cannot be read: {error}. Copy it again from its source") from error
    if not isinstance(content, dict) or "model_type" not in content:
        raise InvalidCheckpoint(f"{config} has no model_type: it is not the configuration of a transformers model")
    if not any((directory / name).is_file() for name in _WEIGHTS):
        raise InvalidCheckpoint(
            f"{directory} has no {_WEIGHTS[0]}: copy the weights there, or convert other formats with "
            "AutoModelForCausalLM.from_pretrained(…).save_pretrained(…)"
        )
    if not (directory / "tokenizer.json").is_file():
        raise InvalidCheckpoint(
            f"{directory} has no tokenizer.json: copy it there, or make it with "
            "AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        )


def load_tokenizer(directory: Path) -> "Tokenizer":
    """Read ``tokenizer.json``, and turn off truncation and padding, which training may have stored in it.

    Raises:
        InvalidCheckpoint: the file is damaged.

    """
    from tokenizers import Tokenizer

    path = directory / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no narrower type
        raise InvalidCheckpoint(f"{path} cannot be read: {error}. Copy it again from its source") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
