"""``/chat/completions``: messages out, text in. Every server has it, and hosted models have nothing else.

A server that does not say which stop text it met is sent at most one. A completion that ends by itself then counts as
one that met the stop: such servers trim the stop, so the two look the same. If there are more stops, none is sent. The
engine looks for them in the stream and leaves it at the first one, before the server has counted the tokens.

Hidden reasoning (``reasoning_content``) is counted and shown in events. It is not kept, because few servers accept it
back.

Tool calls are the last text of a completion, after ``CALLS`` (see ``conversation``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil

from pydantic import JsonValue

from sprint_agents.engine import Chunk, Request
from sprint_agents.engines.remote import check_request
from sprint_agents.errors import ConfigurationError, EngineProtocolError, EngineRejected
from sprint_agents.markup import markup

from .conversation import (
    CALLS,
    REPLACEMENT,
    StreamedCalls,
    conversation_of,
    decode,
    describe_tools,
    encode,
    join_neighbours,
)
from .events import CHARACTERS_PER_TOKEN, CallDelta, Choice, Delta, Ending, EventReader, TokenCounts
from .logprobs import ChatLogprobs
from .server import Body, PreparedRequest, Target
from .streamed import StreamedText, names_of_stops


@dataclass(frozen=True, slots=True)
class _Stops:
    """All stop texts with their names in a ``Finish``, those sent to the server, and whether it says which it met."""

    names: Mapping[str, int | str]
    sent: tuple[str, ...]
    tells: bool

    @classmethod
    def of(cls, request: Request, target: Target) -> "_Stops":
        server, names = target.server, names_of_stops(request)
        sent = tuple(names) if server.tells_stop or len(names) == 1 else ()
        return cls(names, sent[: server.most_stops], server.tells_stop)


@dataclass(frozen=True, slots=True)
class ChatApi:
    """The API of messages; ``native_tools`` says whether requests may offer tools."""

    target: Target
    native_tools: bool = False
    path: str = "/chat/completions"

    async def encode(self, text: str) -> list[int]:
        """Return the code points of ``text``."""
        return encode(text)

    async def decode(self, ids: list[int]) -> str:
        """Return the text of code points."""
        return decode(ids)

    def prepare(self, request: Request) -> PreparedRequest:
        """Write a request as messages.

        Raises:
            InvalidRequest: no text, no turn to answer, or ids that are not characters.
            ConfigurationError: the context ends inside the assistant's turn, which this kind of server cannot continue,
                or the request offers tools, which the engine was not made for.
        """
        ids = request.context.flatten()
        check_request(request, ids)
        conversation = conversation_of(decode(ids, mark=REPLACEMENT))
        stops = _Stops.of(request, self.target)
        messages = conversation.messages
        if self.target.server.alternates:
            messages = join_neighbours(messages)
        fields: Body = {"messages": [dict(message) for message in messages]}
        if conversation.open:
            fields |= self._continuing()
        if stops.sent:
            fields["stop"] = list(stops.sent)
        if request.tools:
            fields |= self._offered(request)
            if request.may_call and not self.target.server.schemas_beside_tools:
                request = replace(request, schema=None)
        logprobs = request.sampling.logprobs
        if self.target.asks_logprobs(request.sampling):
            # llama.cpp returns none if it is asked for no alternatives.
            fields |= {"logprobs": True, "top_logprobs": max(1, logprobs or 0)}
        tokens = ceil(conversation.characters / CHARACTERS_PER_TOKEN)
        body = self.target.body(request, fields, stops_itself=len(stops.sent) == len(stops.names))
        may_call = bool(request.tools) and request.may_call
        reader = partial(
            ChatReader, stops, request.max_tokens, prompt_tokens=tokens, may_call=may_call, alternatives=logprobs
        )
        return PreparedRequest(body, tokens, reader)

    def _offered(self, request: Request) -> Body:
        if not self.native_tools:
            raise ConfigurationError(
                "the request offers tools, and this engine has the model write its calls: let the server call tools "
                "with OpenAIEngine(…, tools='native')"
            )
        return describe_tools(request.tools, self.target, may_call=request.may_call)

    def _continuing(self) -> Mapping[str, JsonValue]:
        if self.target.server.continues is None:
            raise ConfigurationError(
                "the context ends inside a turn of the assistant, and this server is not known to continue one: end "
                "the turn and ask in a new one, or name the kind of server with server='vllm' or 'sglang'"
            )
        return self.target.server.continues


@dataclass(slots=True)
class ChatReader:
    """Reads the answer to one request; the estimate ``prompt_tokens`` is used if the server does not count.

    ``alternatives`` is set if it asks for log-probabilities.
    """

    stops: _Stops
    max_tokens: int
    prompt_tokens: int
    may_call: bool = False
    alternatives: int | None = None
    over: bool = False
    _events: EventReader = field(default_factory=EventReader)
    _calls: StreamedCalls = field(default_factory=StreamedCalls)
    _text: StreamedText = field(init=False)
    _logprobs: ChatLogprobs | None = field(init=False)
    _ending: Ending | None = None
    _usage: TokenCounts | None = None
    _counted: bool = False
    _message: str = ""
    _refusal: str = ""

    def __post_init__(self) -> None:
        self._text = StreamedText(self.stops.names, self.max_tokens, self.prompt_tokens, self._events.note)
        self._logprobs = None if self.alternatives is None else ChatLogprobs(self.alternatives)

    @property
    def notes(self) -> Iterable[str]:
        """Sentences about the oddities of the answer."""
        return self._events.notes

    def read(self, data: str) -> Chunk | None:
        """Return what an event adds; None if it adds nothing.

        Raises:
            EngineError: the server ended the request without finishing it, or the event is invalid.
        """
        event = self._events.read(data)
        if event.usage:
            self._usage = event.usage.after(self._usage)
        if (choice := event.choice) is None:
            self._counted = self._counted or bool(event.usage and event.usage.completion_tokens)
            return None
        self._counted = False
        delta = choice.delta if choice.delta and not choice.message else self._delta_of(choice)
        if self._logprobs and choice.logprobs and self._text.stop is None:
            self._logprobs.add(choice.logprobs)
        chunk = self._added(delta) if delta else None
        if self._logprobs and chunk:
            dropped = len(delta.content or "") - len(chunk.text) if delta and self._text.stop is not None else 0
            chunk.logprobs = self._logprobs.take(without=dropped)
        if ending := Ending.of(choice, may_call=self.may_call, any_text=self._text.characters > 0):
            self._ending = ending.after(self._ending)
            if not ending.known:
                self._events.note(
                    f"finish_reason {str(choice.finish_reason)[:40]!r} is unknown and was taken as a stop"
                )
        return chunk

    async def end(self) -> Chunk | None:
        """Return the last chunk, which has the finish and, if the server trimmed it, the stop text.

        Raises:
            EngineRejected: the model refused to answer.
        """
        if self._refusal:
            raise EngineRejected(f"the model refused: {self._refusal}")
        if self._logprobs and not self._logprobs.arrived and self._text.characters:
            raise EngineProtocolError(
                "the server returned no log-probabilities, which the request asked for: leave out Sampling(logprobs=…)"
            )
        last = self._last()
        if last is not None and self._logprobs:
            last.logprobs = self._logprobs.take()
        return last

    def _last(self) -> Chunk | None:
        if self._text.stop is not None:
            return self._text.last("", "stop", self._text.stop, usage=self._usage)
        if not self.ended:
            return None
        if self._ending is None:
            self._events.note("there was no finish_reason, and the usage was taken as the end")
            self._ending = Ending("length" if self._reached_limit else "stop")
        if self._calls:
            return self._text.last(markup(CALLS) + self._calls.write(), self._ending.reason, usage=self._usage)
        stop = self._stop_of(self._ending)
        return self._text.last(stop or "", self._ending.reason, stop, usage=self._usage)

    @property
    def ended(self) -> bool:
        """Whether all of the completion has arrived."""
        # Some gateways send no finish_reason. The last event of OpenAI's API, which has the usage and no choice, comes
        # only after a completion that was not interrupted.
        counted = self._counted and self._text.characters > 0
        return self._text.stop is not None or self._ending is not None or counted

    @property
    def _reached_limit(self) -> bool:
        return ((self._usage and self._usage.completion_tokens) or 0) >= self.max_tokens

    def _delta_of(self, choice: Choice) -> Delta | None:
        """Return what a choice adds that is not a plain delta: a whole message, or a text."""
        if choice.message is None:
            return Delta(content=choice.text) if choice.text else None
        if self._text.characters and not self._message:
            return choice.delta  # the deltas have had the text of the message
        # The next message may be the next part of the text, or repeat all of it so far.
        content = choice.message.content or ""
        repeats = len(content) > len(self._message) and content.startswith(self._message)
        news = content[len(self._message) :] if repeats else content
        self._message += news
        return choice.message.model_copy(update={"content": news})

    def _added(self, delta: Delta) -> Chunk | None:
        self._refusal += delta.refusal or ""
        if delta.tool_calls and self.may_call:
            for call in delta.tool_calls:
                self._calls.add(call)
        text = delta.content or ""
        if self._text.stop is not None:
            # The server continues after a stop that it was sent, so it does not support stops.
            self.over = self.over or bool(text)
            return None
        reasoning = delta.reasoning_content or delta.reasoning
        reasoning = reasoning if isinstance(reasoning, str) else ""
        if not text:
            calls = delta.tool_calls or ()
            hidden = reasoning or calls or delta.reasoning
            return self._text.hide(_call_characters(calls), reasoning=reasoning) if hidden else None
        chunk = self._text.add(text)
        if reasoning:
            hidden = self._text.hide(0, reasoning=reasoning)
            chunk.tokens, chunk.reasoning = (chunk.tokens or 0) + (hidden.tokens or 0), reasoning
        if self._text.stop is not None and self._text.stop not in self.stops.sent:
            self.over = True
        return chunk

    def _stop_of(self, ending: Ending) -> str | None:
        """Return the stop text that ended a completion and that the server trimmed from it."""
        if ending.reason != "stop" or not self.stops.sent:
            return None
        if not self.stops.tells:
            return self.stops.sent[0]
        return ending.matched if ending.matched in self.stops.names and isinstance(ending.matched, str) else None


def _call_characters(calls: Sequence[CallDelta]) -> int:
    """Count what a delta adds to the arguments of tool calls."""
    texts = [call.function.arguments for call in calls if call.function]
    return sum(len(text) for text in texts if isinstance(text, str))
