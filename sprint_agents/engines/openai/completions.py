"""``/completions`` with token ids both ways, as vLLM (since 0.10.2) and SGLang (since 0.5.23) have it.

The ids are the truth: what the server trimmed from its text, or has not sent yet, is decoded here from the last ids.
"""

from dataclasses import dataclass, field
from pathlib import Path

from sprint_agents.engine import Chunk, Finish, Request
from sprint_agents.engines.sglang.model import vocabulary_size
from sprint_agents.engines.sglang.tokenizer import LocalTokenizer
from sprint_agents.errors import ConfigurationError, EngineProtocolError, InvalidRequest

from .api import Body, Call, Target, check
from .frames import Ending, Frame, Usage


class CompletionsApi:
    """The API of token ids; ``directory`` is the checkpoint that the server runs, as far as its tokenizer goes.

    Raises:
        ConfigurationError: this kind of server takes and returns no ids.
        InvalidCheckpoint: the directory holds no tokenizer.
        MissingExtra: the package ``tokenizers`` is not installed.
    """

    path = "/completions"

    def __init__(self, target: Target, directory: Path) -> None:
        if not target.server.token_ids:
            raise ConfigurationError(
                "this kind of server takes or returns no token ids: name it by server='vllm' or 'sglang' if it is one "
                "of them, else use api='chat'"
            )
        self._target = target
        self._tokenizer = LocalTokenizer(directory)
        self._size = vocabulary_size(directory) or self._tokenizer.size

    async def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``."""
        return await self._tokenizer.encode(text)

    async def decode(self, ids: list[int]) -> str:
        """Return the text of token ids.

        Raises:
            InvalidRequest: one of them is outside the vocabulary.
        """
        self._check(ids)
        return await self._tokenizer.decode(ids)

    def call(self, request: Request) -> Call:
        """Write a request as token ids.

        Raises:
            InvalidRequest: no ids, or ids outside the vocabulary.
        """
        ids = request.context.flatten()
        check(request, ids)
        self._check(ids)
        self._check(list(request.stop_ids))
        fields: Body = {
            "prompt": [*ids],
            "return_token_ids": True,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            "stop": list(request.stop_texts),
            "stop_token_ids": [*sorted(request.stop_ids)],
        }
        body = self._target.body(request, fields)
        return Call(body, len(ids), lambda: CompletionsReader(self._tokenizer, prompt_tokens=len(ids)))

    def _check(self, ids: list[int]) -> None:
        if ids and not 0 <= min(ids) <= max(ids) < self._size:
            wrong = min(ids) if min(ids) < 0 else max(ids)
            raise InvalidRequest(
                f"token id {wrong} is outside the vocabulary of {self._target.model}, which has {self._size} ids: "
                "encode texts with this engine"
            )


@dataclass(slots=True)
class CompletionsReader:
    """Reads the answer to one request; ``prompt_tokens`` is what was sent."""

    tokenizer: LocalTokenizer
    prompt_tokens: int
    over: bool = False
    _ids: list[int] = field(default_factory=list[int])
    _text: str = ""
    _ending: Ending | None = None
    _usage: Usage | None = None

    def read(self, data: str) -> Chunk | None:
        """Return what an event adds, None if that is nothing.

        Raises:
            EngineError: the server ended the request without finishing it, or the event makes no sense.
            EngineProtocolError: the server returns no token ids.
        """
        frame = Frame.read(data)
        self._usage = frame.usage or self._usage
        if (choice := frame.choice) is None:
            return None
        self._ending = Ending.of(choice) or self._ending
        ids, text = choice.token_ids or [], choice.text or ""
        if choice.token_ids is None and text:
            raise EngineProtocolError(
                "the server returned no token ids: it needs return_token_ids, which vLLM has since 0.10.2 and SGLang "
                "since 0.5.23. Use api='chat' instead, or SGLangEngine for an older SGLang"
            )
        self._ids += ids
        self._text += text
        return Chunk(ids, text) if ids or text else None

    async def end(self) -> Chunk | None:
        """Return the last chunk, which has the finish and the text that is still missing."""
        if (ending := self._ending) is None:
            return None
        whole = await self.tokenizer.decode(self._ids)
        rest = whole[len(self._text) :] if whole.startswith(self._text) else ""
        matched = ending.matched
        if ending.reason == "stop" and matched is None and self._ids:
            matched = self._ids[-1]  # vLLM does not name the model's own end token
        usage = self._usage or Usage(prompt_tokens=self.prompt_tokens)
        return Chunk((), rest, Finish(ending.reason, matched, usage.prompt_tokens, usage.cached_tokens))
