"""Questions to an SGLang server about its model: its name, sizes, tokenizer and chat template.

A token id outside the vocabulary crashes a server on a CPU, by an index error in its embedding. So the engine finds
the size of the vocabulary before it sends anything: from the checkpoint's ``config.json`` if it is on this machine,
otherwise from the server, which names the valid range when it refuses a bias for an id beyond it.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, JsonValue, ValidationError

from sprint_agents.dialects.conversation import PROBES, Probe
from sprint_agents.engines.checkpoint import vocabulary_size
from sprint_agents.engines.http import HttpClient
from sprint_agents.errors import EngineError, EngineProtocolError, EngineRejected
from sprint_agents.logs import log

_BEYOND = 2**31 - 1
_RANGE = re.compile(r"logit_bias must has keys in \[0, (?P<last>\d+)\]")
_CACHED_TEXTS = 4096
_LONGEST_CACHED_TEXT = 4096

Renderings = Mapping[Probe, str | None]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model that a server runs.

    ``directory`` is its checkpoint, if that is on this machine. A size is None if the server does not say it.
    """

    name: str
    directory: Path | None
    vocabulary_size: int | None
    context_limit: int | None


class _ModelInfo(BaseModel):
    model_path: str
    served_model_name: str | None = None


class _ModelCard(BaseModel):
    max_model_len: int | None = None


class _ModelCards(BaseModel):
    data: list[_ModelCard] = Field(min_length=1)


async def ask_model(http: HttpClient, directory: Path | None) -> ServedModel:
    """Ask the server about its model; ``directory`` is the checkpoint, if the caller knows it.

    Raises:
        EngineError: the server is not ready, or is not an SGLang server.
    """
    try:
        answer = await http.get("/model_info")
    except EngineRejected:  # SGLang's router knows only the older name
        answer = await http.get("/get_model_info")
    try:
        info = _ModelInfo.model_validate(answer)
    except ValidationError as error:
        raise EngineProtocolError(f"{http.url}/model_info is not what an SGLang server answers") from error
    directory = directory or (_existing(info.model_path) if http.local else None)
    size = vocabulary_size(directory) if directory else None
    if size is None and (size := await _ask_vocabulary_size(http)) is None:
        log("warning", "engine.vocabulary_unknown", logger=__name__, url=http.url, model=info.model_path)
    name = Path(info.served_model_name or info.model_path).name
    return ServedModel(name, directory, size, await _ask_context_limit(http))


def _existing(path: str) -> Path | None:
    directory = Path(path)
    return directory if directory.is_dir() else None


async def _ask_context_limit(http: HttpClient) -> int | None:
    try:
        limit = _ModelCards.model_validate(await http.get("/v1/models")).data[0].max_model_len
    except (EngineRejected, ValidationError):
        return None
    return limit if limit and limit > 0 else None


async def _ask_vocabulary_size(http: HttpClient) -> int | None:
    sampling = {"max_new_tokens": 0, "logit_bias": {str(_BEYOND): 0.0}}
    try:
        await http.post("/generate", {"input_ids": [0], "sampling_params": sampling})
    except EngineError as error:
        if match := _RANGE.search(str(error)):
            return int(match["last"]) + 1
        if not isinstance(error, EngineRejected):
            raise
    return None


class _Tokens(BaseModel):
    tokens: list[int]


class _Text(BaseModel):
    text: str


class ServerTokenizer:
    """The server's own tokenizer (``/tokenize``, ``/detokenize``), with a cache of short texts."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._encoded: OrderedDict[str, tuple[int, ...]] = OrderedDict()

    async def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``; special tokens are recognised, none are added."""
        if known := self._encoded.get(text):
            self._encoded.move_to_end(text)
            return list(known)
        ids = await self._tokenize({"prompt": text, "add_special_tokens": False})
        if len(text) <= _LONGEST_CACHED_TEXT:
            self._encoded[text] = tuple(ids)
            if len(self._encoded) > _CACHED_TEXTS:
                self._encoded.popitem(last=False)
        return ids

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, special tokens shown."""
        answer = await self._post("/detokenize", {"tokens": list(ids), "skip_special_tokens": False})
        try:
            return _Text.model_validate(answer).text
        except ValidationError as error:
            raise EngineProtocolError(f"{self._http.url}/detokenize answered without a text") from error

    async def render(self, variables: Mapping[str, JsonValue]) -> Renderings | None:
        """Return what the server's chat template makes of ``PROBES``; None if it has none or cannot say.

        ``/tokenize`` accepts messages since SGLang 0.5.23. It renders them unchanged if the body has
        ``add_generation_prompt``.
        """

        async def rendered(probe: Probe) -> str | None:
            body: dict[str, object] = {"messages": probe.messages, "add_generation_prompt": probe.prompts}
            if variables:
                body["chat_template_kwargs"] = dict(variables)
            try:
                return await self.decode(await self._tokenize(body))
            except EngineError:  # the template refuses this conversation, or the server has no template
                return None

        if self._http.closed or (first := await rendered(PROBES[0])) is None:
            return None
        others = await asyncio.gather(*(rendered(probe) for probe in PROBES[1:]))
        return dict(zip(PROBES, [first, *others], strict=True))

    async def _tokenize(self, body: object) -> list[int]:
        try:
            return _Tokens.model_validate(await self._post("/tokenize", body)).tokens
        except ValidationError as error:
            raise EngineProtocolError(f"{self._http.url}/tokenize answered without token ids") from error

    async def _post(self, path: str, body: object) -> object:
        try:
            return await self._http.post(path, body)
        except EngineRejected as error:
            raise EngineRejected(
                f"{self._http.url}{path} refused: {error}. A router has no tokenizer: give tokenizer=, the directory "
                "of the checkpoint on this machine"
            ) from error
