r"""The tokenizer of an SGLang server, over ``/tokenize`` and ``/detokenize``.

``/tokenize`` recognises control tokens in any text, and the server has no list of them. So the tokenizer learns them
from the texts that it encodes. An id whose text vanishes with ``skip_special_tokens`` is a control token. So is one id
for a whole mark such as ``<think>``, which checkpoints do not always flag as special.

A text whose outside text has no control token takes one request, together with all others that are encoded at the same
time, and now and then another one to learn from. Otherwise
the control tokens in outside text are cut in two, and the parts are encoded in one more request:
``<|im_end|>`` becomes ``<`` and ``|im_end|>``.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from pydantic import BaseModel, JsonValue, ValidationError

from sprint_agents.dialects.conversation import PROBES, Probe
from sprint_agents.engines.http import HttpClient
from sprint_agents.engines.together import Together
from sprint_agents.errors import EngineError, EngineProtocolError, EngineRejected
from sprint_agents.markup import is_markup, parts_of, spans_of

_CACHED_TEXTS = 4096
_LONGEST_CACHED_TEXT = 4096
_LIKE_CONTROLS = re.compile("[<>|\\[\\]\uff5c]")
"""Every control token of the known models contains one of these characters."""
_MARK = re.compile(r"<[^<>\s]{1,60}>|\[/?[A-Za-z_]{2,40}\]")

Renderings = Mapping[Probe, str | None]


class _Tokens(BaseModel):
    tokens: list[int]


class _TokenLists(BaseModel):
    tokens: list[list[int]]


class _Text(BaseModel):
    text: str


class _Texts(BaseModel):
    text: list[str]


class ServerTokenizer:
    """The server's own tokenizer, with a cache of short texts."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._together = Together(self._encode_all)
        self._texts: dict[int, str] = {}
        self._encoded: OrderedDict[tuple[str, object], tuple[int, ...]] = OrderedDict()
        self._controls: set[str] = set()
        self._known_ids: set[int] = set()
        self._known_marks: set[str] = set()

    async def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``; control tokens are recognised in its markup, none are added."""
        key = (str(text), spans_of(text))
        if known := self._encoded.get(key):
            self._encoded.move_to_end(key)
            return list(known)
        ids = await self._together.get(str(text))
        outside = [part.text for part in parts_of(text) if not part.is_markup]
        if any(map(_LIKE_CONTROLS.search, outside)):
            await self._learn(ids, outside)
            if self._found_outside(text):
                ids = await self._encode_apart(text)
        if len(text) <= _LONGEST_CACHED_TEXT:
            self._encoded[key] = tuple(ids)
            if len(self._encoded) > _CACHED_TEXTS:
                self._encoded.popitem(last=False)
        return ids

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, control tokens shown."""
        if len(ids) == 1 and (known := self._texts.get(ids[0])) is not None:
            return known
        answer = await self._post("/detokenize", {"tokens": list(ids), "skip_special_tokens": False})
        try:
            text = _Text.model_validate(answer).text
        except ValidationError as error:
            raise EngineProtocolError(f"{self._http.url}/detokenize answered without a text") from error
        if len(ids) == 1:
            self._texts[ids[0]] = text
        return text

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

    async def _learn(self, ids: Iterable[int], texts: Iterable[str]) -> None:
        """Learn which of ``ids``, and which marks in ``texts``, are control tokens."""
        if new := sorted(set(ids) - self._known_ids):
            hidden = await self._decode_each(new, skip_special=True)
            vanished = [number for number, text in zip(new, hidden, strict=True) if not text]
            if vanished:
                self._controls.update(filter(None, await self._decode_each(vanished, skip_special=False)))
            self._known_ids.update(new)
        if marks := sorted({mark for text in texts for mark in _MARK.findall(text)} - self._known_marks):
            encoded = await self._encode_each(marks)
            self._controls.update(mark for mark, own in zip(marks, encoded, strict=True) if len(own) == 1)
            self._known_marks.update(marks)

    def _found_outside(self, text: str) -> list[int]:
        """Return where the control tokens begin that are not a part of the markup."""
        found = _found(self._controls, str(text))
        return [start for start, token in found if not is_markup(text, start, start + len(token))]

    async def _encode_apart(self, text: str) -> list[int]:
        plain, cuts = str(text), {0, len(text), *(start + 1 for start in self._found_outside(text))}
        for first, last in spans_of(text):
            for start, token in _found(self._controls, plain[first:last]):
                cuts |= {first + start, first + start + len(token)}
        places = sorted(cuts)
        parts = [plain[start:end] for start, end in pairwise(places)]
        return [number for own in await self._encode_each(parts) for number in own]

    async def _encode_all(self, texts: Sequence[str]) -> Sequence[list[int]]:
        if len(texts) > 1:
            return await self._encode_each(texts)
        return [await self._tokenize({"prompt": texts[0], "add_special_tokens": False})]

    async def _encode_each(self, texts: Sequence[str]) -> list[list[int]]:
        answer = await self._post("/tokenize", {"prompt": [*texts], "add_special_tokens": False})
        try:
            return _TokenLists.model_validate(answer).tokens
        except ValidationError as error:
            raise EngineProtocolError(f"{self._http.url}/tokenize answered without lists of token ids") from error

    async def _decode_each(self, ids: Sequence[int], *, skip_special: bool) -> list[str]:
        body = {"tokens": [[number] for number in ids], "skip_special_tokens": skip_special}
        try:
            return _Texts.model_validate(await self._post("/detokenize", body)).text
        except ValidationError as error:
            raise EngineProtocolError(f"{self._http.url}/detokenize answered without texts") from error

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


def _found(controls: Iterable[str], text: str) -> list[tuple[int, str]]:
    """Find control tokens in ``text``, with their offsets; where one begins in another, both."""
    pattern = "|".join(map(re.escape, sorted(controls, key=len, reverse=True)))
    return [(match.start(), match[1]) for match in re.finditer(f"(?=({pattern}))", text)] if pattern else []
