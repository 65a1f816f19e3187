"""A checkpoint directory, read without torch and transformers: its files, tokenizer, vocabulary and chat template.

A chat template is the file ``chat_template.jinja`` or a field of ``tokenizer_config.json``; older checkpoints have
several by name. It is rendered by ``template``.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from sprint_agents.dialects.conversation import History, Render, turns_of_template
from sprint_agents.engine import Capabilities, ChatTurns
from sprint_agents.errors import InvalidCheckpoint, InvalidRequest, MissingExtra, NoChatTemplate, SprintError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_SAMPLES, _SAMPLE_BYTES = 16, 4096


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


def digest_weights(directory: Path) -> str | None:
    """Return a short digest of the weights; None if there are none, or a file cannot be read.

    It reads samples of each file, which takes milliseconds. Training changes nearly all weights, so samples tell two
    trained models apart.
    """
    digest = hashlib.sha256()
    files = sorted(directory.glob("*.safetensors"))
    try:
        for path in files:
            size = path.stat().st_size
            digest.update(f"{path.name} {size}\n".encode())
            with path.open("rb") as file:
                for sample in range(_SAMPLES):
                    file.seek(sample * size // _SAMPLES)
                    digest.update(file.read(_SAMPLE_BYTES))
    except OSError:
        return None  # whoever loads the weights will say why
    return digest.hexdigest()[:16] if files else None


def load_tokenizer(directory: Path) -> "Tokenizer":
    """Read ``tokenizer.json``.

    Raises:
        InvalidCheckpoint: the file is damaged.

    """
    from tokenizers import Tokenizer

    path = directory / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no narrower type
        raise InvalidCheckpoint(f"{path} cannot be read: {error}. Copy it again from its source") from error


_FILE = "chat_template.jinja"
_CONFIG = "tokenizer_config.json"


class CheckpointTokenizer:
    """The ``tokenizer.json`` of a checkpoint directory. Control tokens are recognised in markup; none are added.

    Raises:
        InvalidCheckpoint: the file does not exist or is not a tokenizer.
        MissingExtra: the package ``tokenizers`` is not installed.
    """

    def __init__(self, directory: Path) -> None:
        try:
            import tokenizers

            from .encoding import TextEncoder
        except ImportError as error:
            raise MissingExtra("sglang", "tokenizers") from error
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise InvalidCheckpoint(f"{path} does not exist: name the directory of the checkpoint that the server runs")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises bare Exceptions
            raise InvalidCheckpoint(f"{path} is not a tokenizer: {error}") from error
        self._encoder = TextEncoder(self._tokenizer)
        self.size: int = self._tokenizer.get_vocab_size()

    async def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``."""
        return self._encoder.encode(text)

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


class ChatTemplate(BaseModel):
    """How an engine's model marks turns, if that differs from what its checkpoint says.

    Attributes:
        template: a Jinja template that replaces the checkpoint's.
        variables: variables of the template besides the messages, such as ``{"enable_thinking": False}``.
        history: ``exact`` refuses a template that changes earlier turns, for example by dropping their thoughts.
            ``as_written`` accepts it: its marks are used, and earlier turns stay as the model wrote them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: str | None = None
    variables: Mapping[str, JsonValue] = {}
    history: History = "exact"


def turns_of_checkpoint(directory: Path | None, chat: ChatTemplate, *, extra: str) -> ChatTurns | None:
    """Return how the model in ``directory`` marks turns; None if ``directory`` is, and ``chat`` has no template.

    Raises:
        NoChatTemplate: there is none.
        InvalidCheckpoint: a file is damaged, or the template cannot be parsed or rewrites history (see ``turns_of``).
        MissingExtra: jinja2 is not installed; ``extra`` installs it.
    """
    settings = _settings(directory) if directory else {}
    template = chat.template or (_template(directory, settings) if directory else None)
    if template is None:
        if directory is None:
            return None
        raise NoChatTemplate(str(directory))
    special = {name: _token(settings.get(name)) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    known = {name: token for name, token in special.items() if token is not None}
    return turns_of_template(_renderer(template, {**known, **chat.variables}, extra=extra), history=chat.history)


def with_chat(capabilities: Capabilities, find: Callable[[], ChatTurns | None]) -> Capabilities:
    """Return the capabilities with the turns that ``find`` returns, or with the error that it raises."""
    try:
        return replace(capabilities, chat=find())
    except SprintError as error:
        return replace(capabilities, chat_error=error)


def _settings(directory: Path) -> dict[str, Any]:
    path = directory / _CONFIG
    try:
        value: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidCheckpoint(f"{path} cannot be read: {error}. Copy it again from its source") from error
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _template(directory: Path, settings: Mapping[str, Any]) -> str | None:
    path = directory / _FILE
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template: Any = settings.get("chat_template")
    if isinstance(template, list):
        named = {each.get("name"): each.get("template") for each in cast("list[dict[str, Any]]", template)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _token(value: Any) -> str | None:
    """Read a special token, which is a text or an object with the text as its ``content``."""
    if isinstance(value, dict):
        value = cast("dict[str, Any]", value).get("content")
    return value if isinstance(value, str) else None


def _renderer(source: str, variables: Mapping[str, JsonValue], *, extra: str) -> Render:
    try:
        import_module("jinja2")
    except ImportError as error:
        raise MissingExtra(extra, "jinja2") from error
    from .template import compile_template

    return compile_template(source, variables)
