"""Text to ids and back for ``SGLangEngine``: by the server, or by a tokenizer on this machine. Never by both."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ValidationError

from sprint_agents.engines.http import Http
from sprint_agents.errors import EngineProtocolError, EngineRejected, InvalidCheckpoint, MissingExtra

_REMEMBERED = 4096
_REMEMBERED_CHARACTERS = 4096


class Tokenizer(Protocol):
    """Special tokens are recognised and shown; none is added."""

    async def encode(self, text: str) -> list[int]:
        """Token ids of ``text``."""
        ...

    async def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``."""
        ...


class LocalTokenizer:
    """The ``tokenizer.json`` of a checkpoint directory.

    Raises:
        InvalidCheckpoint: there is no such file, or it is no tokenizer.
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
            raise InvalidCheckpoint(f"{path} is no tokenizer: {error}") from error
        self.size: int = self._tokenizer.get_vocab_size()

    async def encode(self, text: str) -> list[int]:
        """Token ids of ``text``."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    async def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)


class _Tokens(BaseModel):
    tokens: list[int]


class _Text(BaseModel):
    text: str


class ServerTokenizer:
    """The server's own tokenizer (``/tokenize``, ``/detokenize``); texts that come again are not sent again."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._encoded: OrderedDict[str, tuple[int, ...]] = OrderedDict()

    async def encode(self, text: str) -> list[int]:
        """Token ids of ``text``."""
        if known := self._encoded.get(text):
            self._encoded.move_to_end(text)
            return list(known)
        ids = await self.encode_by({"prompt": text, "add_special_tokens": False})
        if len(text) <= _REMEMBERED_CHARACTERS:
            self._encoded[text] = tuple(ids)
            if len(self._encoded) > _REMEMBERED:
                self._encoded.popitem(last=False)
        return ids

    async def encode_by(self, body: object) -> list[int]:
        """Token ids of what ``body`` asks for."""
        try:
            return _Tokens.model_validate(await self._post("/tokenize", body)).tokens
        except ValidationError as error:
            raise EngineProtocolError(f"{self._http.url}/tokenize answered with no token ids") from error

    async def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``."""
        answer = await self._post("/detokenize", {"tokens": list(ids), "skip_special_tokens": False})
        try:
            return _Text.model_validate(answer).text
        except ValidationError as error:
            raise EngineProtocolError(f"{self._http.url}/detokenize answered with no text") from error

    async def _post(self, path: str, body: object) -> object:
        try:
            return await self._http.post(path, body)
        except EngineRejected as error:
            raise EngineRejected(
                f"{self._http.url}{path} refused: {error}. A router has no tokenizer: give tokenizer=, the directory "
                "of the checkpoint on this machine"
            ) from error
