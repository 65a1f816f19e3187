"""``/chat/completions``: messages out, text in; for every server, and for hosted models the only way.

A server that does not say which stop text it met is given one at most, and then a completion that ends by itself is
taken for one that met it: such servers trim the stop, so the two look alike. Where there are more, none is sent: they
are looked for in the stream, which is left when one is found, before the server has counted its tokens.

The model's hidden words (``reasoning_content``) are counted, not kept: no server wants them back.

Calls of tools come whole, as the last text of a completion, behind ``CALLS`` (see ``conversation``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil

from pydantic import JsonValue

from sprint_agents.engine import Chunk, Finish, Request
from sprint_agents.errors import ConfigurationError, EngineRejected

from .api import Body, Call, Target, check
from .calls import Calls, offered, read_calls
from .conversation import CALLS, MARKS, conversation_of, decode, encode, joined
from .frames import CHARACTERS_PER_TOKEN, Delta, Ending, Frame, Usage
from .stops import StopWatch


@dataclass(frozen=True, slots=True)
class _Stops:
    """All stop texts with what a ``Finish`` calls them, those the server is told, and whether it tells which it met."""

    names: Mapping[str, int | str]
    sent: tuple[str, ...]
    tells: bool

    @classmethod
    def of(cls, request: Request, target: Target) -> "_Stops":
        server = target.server
        names: dict[str, int | str] = {decode([stop]): stop for stop in sorted(request.stop_ids)}
        names |= {text: text for text in request.stop_texts if text}
        # No model writes a mark, so none can stop it.
        names = {text: name for text, name in names.items() if not MARKS & set(text)}
        sent = tuple(names) if server.tells_stop or len(names) == 1 else ()
        return cls(names, sent[: server.most_stops], server.tells_stop)


@dataclass(frozen=True, slots=True)
class ChatApi:
    """The API of messages; ``calls`` says whether tools may be offered in it."""

    target: Target
    calls: bool = False
    path: str = "/chat/completions"

    async def encode(self, text: str) -> list[int]:
        """Return the code points of ``text``."""
        return encode(text)

    async def decode(self, ids: list[int]) -> str:
        """Return the text of code points."""
        return decode(ids)

    def call(self, request: Request) -> Call:
        """Write a request as messages.

        Raises:
            InvalidRequest: no text, nobody to answer, or ids that are no characters.
            ConfigurationError: the last turn is to be gone on with, and this kind of server cannot; or there are tools.
        """
        ids = request.context.flatten()
        check(request, ids)
        conversation = conversation_of(decode(ids), read_calls)
        stops = _Stops.of(request, self.target)
        messages = conversation.messages
        if self.target.server.alternates:
            messages = joined(messages)
        fields: Body = {"messages": [dict(message) for message in messages]}
        if conversation.open:
            fields |= self._continuing()
        if stops.sent:
            fields["stop"] = list(stops.sent)
        if request.tools:
            fields |= self._offered(request)
            if request.may_call and not self.target.server.schemas_beside_tools:
                request = replace(request, schema=None)
        tokens = ceil(conversation.characters / CHARACTERS_PER_TOKEN)
        body = self.target.body(request, fields)
        may_call = bool(request.tools) and request.may_call
        reader = partial(ChatReader, stops, request.max_tokens, prompt_tokens=tokens, may_call=may_call)
        return Call(body, tokens, reader)

    def _offered(self, request: Request) -> Body:
        if not self.calls:
            raise ConfigurationError(
                "the request offers tools, and this engine has models write their calls: let the server call them by "
                "OpenAIEngine(…, tools='native')"
            )
        return offered(request.tools, self.target, may_call=request.may_call)

    def _continuing(self) -> Mapping[str, JsonValue]:
        if self.target.server.continues is None:
            raise ConfigurationError(
                "the context ends inside a turn of the assistant, and this server is not known to go on with one: "
                "end the turn and ask in a new one, or name the kind of server by server='vllm' or 'sglang'"
            )
        return self.target.server.continues


@dataclass(slots=True)
class ChatReader:
    """Reads the answer to one request; ``prompt_tokens`` is an estimate, used if the server does not count."""

    stops: _Stops
    max_tokens: int
    prompt_tokens: int
    may_call: bool = False
    over: bool = False
    _calls: Calls = field(default_factory=Calls)
    _watch: StopWatch = field(init=False)
    _ending: Ending | None = None
    _usage: Usage | None = None
    _tokens: int = 0
    _refusal: str = ""

    def __post_init__(self) -> None:
        self._watch = StopWatch(tuple(self.stops.names))

    def read(self, data: str) -> Chunk | None:
        """Return what an event adds, None if that is nothing.

        Raises:
            EngineError: the server ended the request without finishing it, or the event makes no sense.
        """
        frame = Frame.read(data)
        self._usage = frame.usage or self._usage
        if (choice := frame.choice) is None:
            return None
        chunk = self._added(choice.delta) if choice.delta else None
        self._ending = Ending.of(choice, may_call=self.may_call) or self._ending
        return chunk

    async def end(self) -> Chunk | None:
        """Return the last chunk, which has the finish and, where a server trimmed it, the stop text.

        Raises:
            EngineRejected: the model refused to answer.
        """
        if self._refusal:
            raise EngineRejected(f"the model refused: {self._refusal}")
        if self._watch.found is not None:
            return self._last("", Ending("stop", self._watch.found))
        if self._ending is None:
            return None
        if self._calls:
            return self._last(f"{CALLS}{self._calls.written()}", Ending(self._ending.reason))
        stop = self._stop_of(self._ending)
        return self._last(stop or "", Ending(self._ending.reason, stop))

    def _added(self, delta: Delta) -> Chunk | None:
        self._refusal += delta.refusal or ""
        if delta.tool_calls and self.may_call:
            for call in delta.tool_calls:
                self._calls.add(call)
        text = delta.content or ""
        if self._watch.found is not None:
            # The server goes on after a stop that it was told: it heeds none.
            self.over = self.over or bool(text)
            return None
        if not text:
            unseen = delta.reasoning_content or delta.reasoning or delta.tool_calls
            return Chunk((), "", tokens=self._estimate(1)) if unseen else None
        text = self._watch.feed(text)
        if self._watch.found is not None and self._watch.found not in self.stops.sent:
            self.over = True
        return Chunk(encode(text), text, tokens=self._estimate(max(1, len(text) // CHARACTERS_PER_TOKEN)))

    def _estimate(self, tokens: int) -> int:
        """Count towards the limit, never beyond it."""
        tokens = min(tokens, self.max_tokens - self._tokens)
        self._tokens += tokens
        return tokens

    def _stop_of(self, ending: Ending) -> str | None:
        """Find the stop text that ended a completion in which it does not stand."""
        if ending.reason != "stop" or not self.stops.sent:
            return None
        if not self.stops.tells:
            return self.stops.sent[0]
        return ending.matched if ending.matched in self.stops.names and isinstance(ending.matched, str) else None

    def _last(self, text: str, ending: Ending) -> Chunk:
        usage = self._usage or Usage(prompt_tokens=self.prompt_tokens)
        matched = None if ending.matched is None else self.stops.names[str(ending.matched)]
        tokens = self._tokens if usage.completion_tokens is None else usage.completion_tokens
        finish = Finish(ending.reason, matched, usage.prompt_tokens, usage.cached_tokens, tokens)
        return Chunk(encode(text), text, finish)
