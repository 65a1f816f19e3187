"""``/completions`` with token ids both ways, as vLLM (since 0.10.2) and SGLang (since 0.5.23) support it.

The ids are the truth: text that the server trimmed, or has not sent yet, is decoded here from the ids.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from sprint_agents.engine import Chunk, Finish, Request, TokenLogprob
from sprint_agents.engines.checkpoint import CheckpointTokenizer, check_ids, vocabulary_size
from sprint_agents.engines.remote import check_request
from sprint_agents.errors import ConfigurationError, EngineProtocolError

from .events import Ending, EventReader, TokenCounts
from .logprobs import completion_logprobs
from .server import Body, PreparedRequest, Target


class CompletionsApi:
    """The API of token ids; ``directory`` has the tokenizer of the checkpoint that the server runs.

    Raises:
        ConfigurationError: this kind of server does not accept and return ids.
        InvalidCheckpoint: the directory has no tokenizer.
        MissingExtra: the package ``tokenizers`` is not installed.
    """

    path = "/completions"

    def __init__(self, target: Target, directory: Path) -> None:
        if not target.server.token_ids:
            raise ConfigurationError(
                "this kind of server accepts no token ids, or returns none: name it with server='vllm' or 'sglang' if "
                "it is one of them, otherwise use api='chat'"
            )
        self._target = target
        self._tokenizer = CheckpointTokenizer(directory)
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

    def prepare(self, request: Request) -> PreparedRequest:
        """Write a request as token ids.

        Raises:
            InvalidRequest: no ids, or ids outside the vocabulary.
        """
        ids = request.context.flatten()
        check_request(request, ids)
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
        alternatives = request.sampling.logprobs
        if self._target.asks_logprobs(request.sampling):
            fields |= {"logprobs": alternatives, "return_tokens_as_token_ids": True}
        body = self._target.body(_rest(request), fields)
        reader = partial(CompletionsReader, self._tokenizer, prompt_tokens=len(ids), alternatives=alternatives)
        return PreparedRequest(body, len(ids), reader)

    def _check(self, ids: list[int]) -> None:
        check_ids(ids, size=self._size, model=self._target.model)


def _rest(request: Request) -> Request:
    """Return what a server must know of a request that continues a completion.

    A server starts a grammar only with the completion. With the same seed again, it would repeat its random numbers.
    """
    if not request.written:
        return request
    sampling = request.sampling
    if sampling.seed is not None:
        sampling = sampling.model_copy(update={"seed": sampling.seed + request.written})
    return replace(request, schema=None, sampling=sampling)


@dataclass(slots=True)
class CompletionsReader:
    """Reads the answer to one request of ``prompt_tokens`` ids; ``alternatives`` if it asks for log-probabilities."""

    tokenizer: CheckpointTokenizer
    prompt_tokens: int
    alternatives: int | None = None
    over: bool = False
    _events: EventReader = field(default_factory=EventReader)
    _ids: list[int] = field(default_factory=list[int])
    _text: str = ""
    _ending: Ending | None = None
    _usage: TokenCounts | None = None

    @property
    def ended(self) -> bool:
        """Whether all of the completion has arrived."""
        return self._ending is not None

    @property
    def notes(self) -> Iterable[str]:
        """Sentences about the oddities of the answer."""
        return self._events.notes

    def read(self, data: str) -> Chunk | None:
        """Return what an event adds; None if it adds nothing.

        Raises:
            EngineError: the server ended the request without finishing it, or the event is invalid.
            EngineProtocolError: the server returns no token ids.
        """
        event = self._events.read(data)
        if event.usage:
            self._usage = event.usage.after(self._usage)
        if (choice := event.choice) is None:
            return None
        ids, text = choice.token_ids or [], choice.text or ""
        if choice.token_ids is None and text:
            raise EngineProtocolError(
                "the server returned no token ids: it needs return_token_ids, which vLLM has since 0.10.2 and SGLang "
                "since 0.5.23. Use api='chat' instead, or SGLangEngine for an older SGLang"
            )
        logprobs: Sequence[TokenLogprob] = ()
        if self.alternatives is not None and ids:
            logprobs = completion_logprobs(choice.logprobs, ids, alternatives=self.alternatives)
        # The ending comes last: an event that cannot be read has not ended the completion.
        if ending := Ending.of(choice, any_text=bool(self._ids or ids)):
            self._ending = ending.after(self._ending)
            if not ending.known:
                self._events.note(
                    f"finish_reason {str(choice.finish_reason)[:40]!r} is unknown and was taken as a stop"
                )
        self._ids += ids
        self._text += text
        return Chunk(ids, text, logprobs=logprobs) if ids or text else None

    async def end(self) -> Chunk | None:
        """Return the last chunk, which has the finish and the text that the server did not send."""
        if (ending := self._ending) is None:
            return None
        whole = await self.tokenizer.decode(self._ids)
        rest = whole[len(self._text) :] if whole.startswith(self._text) else ""
        matched = ending.matched
        if ending.reason == "stop" and matched is None and self._ids:
            matched = self._ids[-1]  # vLLM does not name the model's own end token
        usage = self._usage or TokenCounts()
        prompt = max(usage.prompt_tokens or 0, self.prompt_tokens)
        return Chunk((), rest, Finish(ending.reason, matched, prompt, min(usage.cached_tokens, prompt)))
