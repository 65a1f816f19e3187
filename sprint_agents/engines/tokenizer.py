"""The tokenizer and the vocabulary of a checkpoint directory, without torch."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from sprint_agents.errors import InvalidCheckpoint, InvalidRequest, MissingExtra


class CheckpointTokenizer:
    """The ``tokenizer.json`` of a checkpoint directory. Special tokens are recognised and shown; none are added.

    Raises:
        InvalidCheckpoint: the file does not exist or is not a tokenizer.
        MissingExtra: the package ``tokenizers`` is not installed.
    """

    def __init__(self, directory: Path) -> None:
        try:
            import tokenizers
        except ImportError as error:
            raise MissingExtra("sglang", "tokenizers") from error
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise InvalidCheckpoint(f"{path} does not exist: name the directory of the checkpoint that the server runs")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises bare Exceptions
            raise InvalidCheckpoint(f"{path} is not a tokenizer: {error}") from error
        self.size: int = self._tokenizer.get_vocab_size()

    async def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)


class _ModelConfig(BaseModel):
    vocab_size: int


def vocabulary_size(directory: Path) -> int | None:
    """Read how many token ids the model in ``directory`` has; None if its ``config.json`` does not say.

    Raises:
        InvalidCheckpoint: the file cannot be read.
    """
    path = directory / "config.json"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidCheckpoint(f"{path} cannot be read: {error}") from error
    try:
        return _ModelConfig.model_validate_json(text).vocab_size
    except ValidationError:
        return None


def check_ids(ids: Sequence[int], *, size: int | None, model: str) -> None:
    """Refuse ids outside a vocabulary of ``size`` ids; negative ids only, if the size is not known.

    Raises:
        InvalidRequest: an id is outside the vocabulary.
    """
    if not ids:
        return
    low, high = min(ids), max(ids)
    if low < 0 or (size is not None and high >= size):
        wrong = low if low < 0 else high
        raise InvalidRequest(
            f"token id {wrong} is outside the vocabulary of {model}, which has {size} ids: "
            "encode texts with this engine"
        )
