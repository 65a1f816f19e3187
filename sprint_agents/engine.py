"""The protocol that a model server meets: token ids in, token ids out.

Every engine promises the following; ``sprint_agents.testing.contract`` has a test for each:

- The ids of a completion are the model's own, in order, including the stop token. ``text`` is their text, never
  trimmed at a stop. The concatenated chunks are the completion; only the last chunk has a ``finish``.
- Control tokens, such as those that begin a turn, come from markup and from the model, and from no other text.
- ``max_tokens=0`` computes the context into the cache and ends with reason ``length``.
- With ``Capabilities.continues``, a request that continues a completion generates what one longer request would have.
- With ``Capabilities.logprobs``, a request that asks for log-probabilities gets one for each token, in the same chunk.
- ``Request.whole`` changes nothing but the number of chunks.
- Closing the iterator early, or cancelling the task that reads it, aborts the request at the server.
- Concurrent requests are independent. Shared prefixes are computed once if the engine can do so.
- An engine is not tied to an event loop: it works on the loop that calls it.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from .context import Context
from .errors import ConfigurationError, SprintError
from .manifest import Manifest
from .markup import PromptText, compose, markup
from .step_costs import StepCosts

THOUGHTS = ("<think>", "</think>")
"""The marks around the thoughts of reasoning models."""

Thoughts = Literal["none", "may", "open"]
"""Whether a turn of the model begins with thoughts, ``<think>…</think>``: never, if the model opens them, or always.

With ``open``, the context ends within them: the model only closes them.
"""

MOST_ALTERNATIVES = 20
"""The most alternatives at a token, which is the bound of most servers."""

_OPTIONAL = ("top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias")

Speaker = Literal["system", "user", "assistant", "tool"]
"""The speaker of a turn. A turn of ``tool`` holds what one tool call returned."""


class Sampling(BaseModel):
    """How the next token is drawn. All of it is sent with every request, because servers' defaults differ.

    ``temperature`` 0 is greedy. ``top_k`` None, ``top_p`` 1 and ``min_p`` 0 keep all tokens. With a ``seed``, an engine
    that supports it (``LocalEngine``) draws the same tokens for the same request, whatever else is running. Not every
    engine has every setting: one that would be ignored raises ``ConfigurationError``.

    The penalties count the tokens of the completion itself; vLLM and llama.cpp also count the context's for
    ``repetition_penalty``. On servers, the counts begin again where a budget or a broken stream splits a completion.

    Attributes:
        min_p: the least probability of a token, as a share of the most likely token's.
        presence_penalty: subtracted from the logit of each token that has occurred.
        frequency_penalty: subtracted as often as the token has occurred.
        repetition_penalty: divides positive logits of tokens that have occurred, and multiplies negative ones.
        logit_bias: added to the logits, by token id of the model's own vocabulary; -100 bans a token.
        logprobs: return the log-probability of each token and of this many of the most likely tokens in its place (see
            ``TokenLogprob``). None returns nothing. Needs ``Capabilities.logprobs``.

    >>> Sampling(temperature=0.7, min_p=0.05, logprobs=5).optional
    {'min_p': 0.05}
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    temperature: float = Field(default=0.6, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1)
    min_p: float = Field(default=0.0, ge=0, le=1)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    repetition_penalty: float = Field(default=1.0, gt=0, le=2)
    logit_bias: Mapping[int, float] = {}
    seed: int | None = None
    logprobs: int | None = Field(default=None, ge=0, le=MOST_ALTERNATIVES)

    @classmethod
    def of(cls, manifest: Manifest | None) -> Self:
        """Return the settings that a checkpoint was trained for, or the defaults."""
        return cls(temperature=manifest.temperature, top_p=manifest.top_p) if manifest else cls()

    @property
    def optional(self) -> dict[str, Any]:
        """The settings that some engines do not have, by name, without those that change nothing."""
        return {
            name: value for name in _OPTIONAL if (value := getattr(self, name)) != type(self).model_fields[name].default
        }

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # a dict of biases has no hash

    def with_logprobs(self, alternatives: int | None) -> Self:
        """Return settings that ask for at least so many ``logprobs``."""
        if alternatives is None or (self.logprobs is not None and self.logprobs >= alternatives):
            return self
        return self.model_copy(update={"logprobs": alternatives})


@dataclass(frozen=True, slots=True)
class ToolBrief:
    """The description of a tool for a model; ``schema`` is the JSON schema of its arguments (an object) as text."""

    name: str
    description: str
    schema: str


@dataclass(slots=True, kw_only=True)
class Hints:
    """What an engine may use to place requests and to order them. It changes no completion.

    ``run`` is the same for all requests of a run, whose contexts share prefixes. ``branch`` is the number of the
    subtask in its ``stage``, None for the planner. ``critical`` says that other requests of the run wait for this one.
    """

    run: str = ""
    stage: int = 0
    branch: int | None = None
    critical: bool = True


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """One completion to compute.

    ``id`` is unique among all requests of a server, and no id is a prefix of another (servers abort by prefix).
    The completion ends after ``max_tokens`` tokens, after a token of ``stop_ids`` or the model's own end token, or when
    its text contains one of ``stop_texts``. ``schema`` is a JSON schema, as text, that the completion must satisfy, as
    far as the engine's grammar can enforce it; the engine needs ``Capabilities.schemas`` for it. ``tools`` are the
    tools of the run, which the completion may call if ``may_call``; the engine needs ``Capabilities.native_tools`` for
    them.

    ``thoughts`` says whether the completion may begin with thoughts, to which the schema does not apply.

    ``continues`` is the first request of the completion that this one continues after its limit. All ids since that
    request's context were generated before. The engine needs ``Capabilities.continues``.

    With ``whole``, only the finished completion matters, so an engine may deliver it in few chunks, or in one; with
    ``Capabilities.caches_contexts``, the first token still comes at once. An engine calls ``missed`` with the number of
    tokens that an interrupted completion had beyond those delivered, if it learns that. ``hints`` are for placing it.
    """

    id: str
    context: Context
    max_tokens: int
    sampling: Sampling
    stop_ids: frozenset[int] = frozenset()
    stop_texts: tuple[str, ...] = ()
    schema: str | None = None
    tools: tuple[ToolBrief, ...] = ()
    may_call: bool = False
    thoughts: Thoughts = "none"
    continues: "Request | None" = None
    whole: bool = False
    missed: Callable[[int], object] | None = None
    hints: Hints = field(default_factory=Hints)

    @property
    def written(self) -> int:
        """How many ids at the end of the context belong to the completion, because earlier requests generated them."""
        return 0 if self.continues is None else len(self.context) - len(self.continues.context)


@dataclass(slots=True)
class Finish:
    """Why a completion ended, and its cost; all counts are tokens.

    ``matched`` is the stop id or stop text that ended it; for the model's own end token, its id.
    ``cached_tokens`` of the ``prompt_tokens`` were read from the cache; the others were computed.
    ``generated_tokens`` is the server's count, from engines whose ids are not tokens. If it is None, count the ids.
    ``reasoning_tokens`` of them went into reasoning, from servers that say so.
    ``retries`` counts the requests that the engine had to send again for this completion.
    """

    reason: Literal["stop", "length"]
    matched: int | str | None
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int | None = None
    retries: int = 0
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The log-probability of a generated token, and the most likely tokens in its place.

    Log-probabilities are natural logarithms, of the model's own distribution: before temperature, penalties, bias and
    top-k, top-p or min-p, and before a schema rules tokens out. So a token that a schema forced may be improbable.
    Engines on servers pass on what the server computes.

    ``token`` is an id, or the token's text from engines whose ids are not tokens. ``top`` has as many tokens as the
    request asked for, the most likely first, with the generated one if it is among them.
    """

    token: int | str
    logprob: float
    top: tuple[tuple[int | str, float], ...] = ()


@dataclass(slots=True)
class Chunk:
    """The next tokens of a completion. ``text`` may lag ``ids`` while a character is incomplete.

    Not frozen, since an engine makes one for every token; never change one.

    ``tokens`` estimates their number, from engines whose ids are not tokens; ``Finish.generated_tokens`` is exact.
    ``reasoning`` is what the model thought meanwhile, from servers that send it apart: it is not part of the text.

    ``logprobs``, if the request asked for them, has one item for each id. Where ids are not tokens, it has one for each
    token of ``text`` and ``reasoning``, and their texts may lag or lead by a part of a character or of a stop.
    """

    ids: Sequence[int]
    text: str
    finish: Finish | None = None
    tokens: int | None = None
    reasoning: str = ""
    logprobs: Sequence[TokenLogprob] = ()


class ChatTurns(BaseModel):
    r"""The text that opens and closes a turn of each speaker.

    Attributes:
        opens: by speaker. The system's turn is always the first, so its text includes the beginning of a conversation.
        closes: by speaker.
        user_first: how the user's turn opens if it is the first turn.
        user_after_system: how the user's turn opens after the system's, if the template writes both into one turn.
        alternate: whether user and assistant must take turns.
        calls: what precedes tool calls in the assistant's turn, if the engine has its own way to call tools; results
            are then written into turns of ``tool``.
        thoughts: whether the model thinks before it answers; with ``open``, its turn opens with the mark of thoughts.
        drops_thoughts: whether earlier turns of the model are written without their thoughts.

    >>> chatml = ChatTurns(
    ...     opens={name: f"<|im_start|>{name}\n" for name in ("system", "user", "assistant")},
    ...     closes=dict.fromkeys(("system", "user", "assistant"), "<|im_end|>\n"),
    ... )
    >>> chatml.open("assistant"), chatml.close("assistant")
    ('<|im_start|>assistant\n', '<|im_end|>\n')
    >>> chatml.write([("user", "Hello!")])
    '<|im_start|>user\nHello!<|im_end|>\n'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    opens: Mapping[Speaker, str]
    closes: Mapping[Speaker, str]
    user_first: str | None = None
    user_after_system: str | None = None
    alternate: bool = False
    calls: str | None = None
    thoughts: Thoughts = "none"
    drops_thoughts: bool = False

    def open(self, speaker: Speaker, *, after: Literal["system", "nothing"] | None = None) -> PromptText:
        """Return what opens a turn, as markup; ``after`` says what precedes a user's turn, if not another turn."""
        if speaker == "user" and after == "system" and self.user_after_system is not None:
            return markup(self.user_after_system)
        if speaker == "user" and after == "nothing" and self.user_first is not None:
            return markup(self.user_first)
        return markup(self.opens[speaker])

    def close(self, speaker: Speaker) -> PromptText:
        """Return what closes a turn, as markup. The model may write the beginning of the assistant's itself."""
        return markup(self.closes[speaker])

    def write(self, said: Sequence[tuple[Speaker, str]]) -> PromptText:
        """Write a conversation, given as each turn's speaker and words, which are not markup."""
        texts: list[str] = []
        before: Speaker | None = None
        for speaker, words in said:
            after = "nothing" if before is None else "system" if before == "system" else None
            texts += [self.open(speaker, after=after), words, self.close(speaker)]
            before = speaker
        return compose(texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do besides streaming completions, as data that the runtime reads once per run.

    The defaults describe an engine that only streams completions, from a cache that its requests share at once.

    Attributes:
        chat: how the turns of a conversation are marked in a context; None for a model that knows no conversations.
        chat_error: why ``chat`` cannot be found, such as a chat template that rewrites earlier turns. It is raised
            only when a conversation is needed: a model that was trained on tags works without one.
        schemas: whether the engine can hold a completion to a JSON schema (``Request.schema``). Some schemas may still
            be out of its reach: ``Engine.check_schema`` tells before a run begins.
        caches_running: whether a request finds in the cache what another request, still running, has generated so
            far. If not, the runtime first computes what branches share, by a request for no tokens (``max_tokens=0``).
        caches_contexts: whether others find a request's context in the cache once it has its first token. One branch
            then reads for those that wait: its request is ``critical``, and must not hold its first token back.
        page_tokens: the cache holds whole pages of so many tokens.
        continues: whether another request may continue a completion that reached its ``max_tokens``; its context ends
            with what was generated so far (``Request.continues``). The engine's ids must be tokens. If not, a request
            under a budget reserves all the tokens that it may need, so fewer requests run at the same time.
        logprobs: whether the engine returns log-probabilities (``Sampling.logprobs``).
        asks_to_encode: whether ``encode`` asks a server, so that texts are best encoded at the same time.
        step_costs: how long decode steps take, by how many sequences share one; None if that is not known (yet).
        weights: a short digest of the model's weights, if the engine has their files. Journals and evaluations tell
            models of the same name apart by it.

    >>> Capabilities(schemas=True)
    Capabilities(chat=None, chat_error=None, schemas=True, caches_running=True, caches_contexts=False, page_tokens=1,
                 continues=False, logprobs=False, asks_to_encode=False, step_costs=None, weights=None)
    """

    chat: ChatTurns | None = None
    chat_error: SprintError | None = None
    schemas: bool = False
    caches_running: bool = True
    caches_contexts: bool = False
    page_tokens: int = 1
    continues: bool = False
    logprobs: bool = False
    asks_to_encode: bool = False
    step_costs: StepCosts | None = None
    weights: str | None = None

    @property
    def native_tools(self) -> bool:
        """Whether tools are called in the server's own way (``Request.tools``); otherwise the model writes JSON."""
        return self.chat is not None and self.chat.calls is not None


@runtime_checkable
class Engine(Protocol):
    """A model server, in process or remote. Use it as an async context manager, or call ``aclose``.

    Your own class may inherit from it for the defaults, or have the same members.
    """

    @property
    def name(self) -> str:
        """Return a short name for messages and records, such as ``local:sprint-nano``."""
        ...

    @property
    def manifest(self) -> Manifest | None:
        """Return what ``sprint.json`` beside the weights says; None if there is no such file."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """Return what the engine can do; an engine that must ask its server first returns what it knows so far."""
        return Capabilities()

    def check_schema(self, schema: str, *, what: str) -> None:
        """Raise if the engine cannot hold a completion to ``schema``, which is JSON text; by default it always can.

        The runtime calls it before anything is sent, and only if ``capabilities.schemas``. ``what`` names what the
        schema describes, for the message: ``"a plan"``.

        Raises:
            ConfigurationError: the engine cannot; the message says what to change.
        """
        return

    async def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``; control tokens are recognised in its markup only, and none are added.

        A plain ``str`` has no markup. See ``sprint_agents.markup``.
        """
        ...

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, control tokens shown."""
        ...

    def complete(self, request: Request) -> AsyncIterator[Chunk]:
        """Stream the completion of ``request``; an async generator that must be closed.

        Raises:
            InvalidRequest: ids outside the vocabulary, or an id in use.
            EngineError: see the tree in ``errors``.
        """
        ...

    async def abort(self, request_id: str) -> None:
        """End a request of this engine at the server; unknown and finished ids are ignored."""
        ...

    async def end_run(self, run: str) -> None:
        """Release what is kept for a run that has ended, however it did (``Hints.run``); by default nothing is."""

    async def aclose(self) -> None:
        """Abort everything and release the engine's resources; safe to call twice."""
        ...


def check_logprobs(engine: Engine, sampling: Sampling) -> None:
    """Raise ConfigurationError if the settings ask for log-probabilities and the engine returns none."""
    if sampling.logprobs is not None and not engine.capabilities.logprobs:
        raise ConfigurationError(
            f"{engine.name} returns no log-probabilities, and Sampling(logprobs={sampling.logprobs}) asks for them: "
            "ask only where Engine.capabilities.logprobs is True"
        )
