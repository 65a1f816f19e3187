"""How the turns of a conversation stand in the text of a context: a chat template's words, without the template.

A context grows by appending, so it needs of a chat template only what stands between two turns. That is found by
rendering a few conversations of known words (``PROBES``) and cutting the renderings at them. Then what the turns write
is compared with what the template does: one that changes earlier turns as a conversation goes on is refused, for no
context that grows by appending could be what it writes.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from sprint_agents.engine import ChatTurns, Speaker
from sprint_agents.errors import InvalidCheckpoint

Message = dict[str, str]
"""One turn as chat templates take it: ``role`` and ``content``."""

History = Literal["exact", "as_written"]
"""What a conversation's earlier turns are: as the chat template writes them, or else as they were written."""


class Render(Protocol):
    """A chat template: writes a conversation, with what opens the model's next turn if ``add_generation_prompt``."""

    def __call__(self, messages: list[Message], *, add_generation_prompt: bool) -> str:
        """Return the text; raise anything where the template has no such conversation."""
        ...


class Probe(NamedTuple):
    """A conversation to be rendered, by the speakers of its turns."""

    said: tuple[tuple[Speaker, str], ...]
    prompts: bool = False

    @property
    def messages(self) -> list[Message]:
        """The conversation as chat templates take it."""
        return [{"role": speaker, "content": words} for speaker, words in self.said]


def _known(*speakers: Speaker, prompts: bool = False) -> Probe:
    """Make a conversation of words that stand nowhere else."""
    return Probe(tuple((name, f"turn{at}of{len(speakers)}") for at, name in enumerate(speakers)), prompts)


_ANSWER = '{"result": 1}'
_THOUGHTS = "<think>because</think>"

_ALTERNATING = _known("user", "assistant", "user", "assistant")
_WITH_SYSTEM = _known("system", "user", "assistant", "user", "assistant")
_ASKED = _known("user", "assistant", "user")
_PROMPTED = _known("user", "assistant", "user", prompts=True)
_NEIGHBOURS = _known("user", "user", "assistant", "user")
_WHOLE = Probe((("user", "Plan."), ("assistant", _ANSWER), ("user", "Go on.")), True)
_WHOLE_WITH_SYSTEM = Probe((("system", "Be brief."), *_WHOLE.said), True)
_THOUGHTFUL = Probe((("user", "Plan."), ("assistant", f"{_THOUGHTS}{_ANSWER}"), ("user", "Go on.")), True)

PROBES = (
    _ALTERNATING,
    _WITH_SYSTEM,
    _ASKED,
    _PROMPTED,
    _NEIGHBOURS,
    _WHOLE,
    _WHOLE_WITH_SYSTEM,
    _THOUGHTFUL,
)
"""All conversations that ``turns_of`` wants to see; the first is one that every template has."""


def turns_of_template(render: Render, *, history: History = "exact") -> ChatTurns:
    """Find out how a chat template writes turns.

    With transformers ``render`` is ``partial(tokenizer.apply_chat_template, tokenize=False)``. Where a template has no
    system turn, or moves it about, the system's words open the first turn of the user.

    Raises:
        InvalidCheckpoint: see ``turns_of``.
    """
    return turns_of({probe: _rendered(render, probe) for probe in PROBES}, history=history)


def turns_of(renderings: Mapping[Probe, str | None], *, history: History = "exact") -> ChatTurns:
    """Find out how turns are written from what a chat template made of ``PROBES``; None where it had no words.

    Raises:
        InvalidCheckpoint: the template does not write a conversation turn by turn, or, with ``history`` ``exact``,
            changes earlier turns as it goes on.
    """
    texts, asked, prompted = (_between(renderings, probe) for probe in (_ALTERNATING, _ASKED, _PROMPTED))
    if texts is None or asked is None or prompted is None:
        raise InvalidCheckpoint(
            "this chat template does not write the turns of a user and an assistant one after the other, as they were "
            "said: a conversation cannot be continued with it"
        )
    first, answering, asking, _, end = texts
    closing = _common_start(asking, end)
    user = asking[len(closing) :]
    user_closing = _common_start(answering, asked[-1])
    answered = answering.removeprefix(user_closing)
    with_system = _between(renderings, _WITH_SYSTEM)
    begin, joint = with_system[:2] if with_system else (first, "\n\n")
    apart = joint.endswith(user) and bool(with_system)
    turns = ChatTurns(
        opens={"system": begin, "user": user, "assistant": prompted[-1].removeprefix(user_closing)},
        closes={
            "system": joint.removesuffix(user) if apart else joint,
            "user": user_closing,
            "assistant": closing,
        },
        user_first=None if first == user else first,
        user_after_system=None if apart else "",
    )
    if renderings[_NEIGHBOURS] != _written(turns, _NEIGHBOURS, answered):
        turns = turns.model_copy(update={"alternate": True})
    if history == "exact":
        wholes = (_WHOLE, _WHOLE_WITH_SYSTEM, _THOUGHTFUL) if with_system else (_WHOLE, _THOUGHTFUL)
        _refuse_rewriting(turns, renderings, wholes, answered)
    return turns


def _refuse_rewriting(
    turns: ChatTurns, renderings: Mapping[Probe, str | None], wholes: Sequence[Probe], answered: str
) -> None:
    """See that the turns write the ``wholes`` as the template does, which opens an earlier answer by ``answered``.

    A blank that stands before answers and not at the end of a prompt is the model's own: it is part of its first token.

    Raises:
        InvalidCheckpoint: they do not, so that ids would not be those of the template's conversations.
    """
    reasons: list[str] = []
    prompt, thoughtful = turns.opens["assistant"], renderings[_THOUGHTFUL]
    if answered.rstrip(" ") != prompt.rstrip(" "):
        reasons.append(
            f"opens the turn that the model is to write by {prompt!r}, and later the same turn by {answered!r}"
        )
    if thoughtful is not None and _ANSWER in thoughtful and _THOUGHTS not in thoughtful:
        reasons.append("drops the thoughts (<think>…</think>) of earlier turns")
    if not reasons and any(renderings[whole] not in (None, _written(turns, whole, answered)) for whole in wholes):
        reasons.append("writes the turns of a longer conversation differently from those of a shorter one")
    if reasons:
        raise InvalidCheckpoint(
            f"this chat template rewrites history: it {', and '.join(reasons)}. A context grows by appending what the "
            "model wrote, so it would not be what the template writes. Accept that by "
            "chat=ChatTemplate(history='as_written'), or give a template that keeps turns as they are, by "
            "chat=ChatTemplate(template=…)"
        )


def _written(turns: ChatTurns, probe: Probe, answered: str) -> str:
    """Write a probe as the template would, with what it puts before answers."""
    earlier = turns.model_copy(update={"opens": {**turns.opens, "assistant": answered}})
    return earlier.write(probe.said) + (turns.open("assistant") if probe.prompts else "")


def _rendered(render: Render, probe: Probe) -> str | None:
    try:
        return render(probe.messages, add_generation_prompt=probe.prompts)
    except Exception:  # templates raise whatever they like, most of them about the system's turn
        return None


def _between(renderings: Mapping[Probe, str | None], probe: Probe) -> list[str] | None:
    """Return what the template writes before, between and after the turns; None where they are not all in order."""
    text, words = renderings[probe], [words for _, words in probe.said]
    if text is None:
        return None
    places = [text.find(word) for word in words]
    if places[0] < 0 or any(place <= before for before, place in itertools.pairwise(places)):
        return None
    starts = [0, *(place + len(word) for place, word in zip(places, words, strict=True))]
    return [text[start:end] for start, end in zip(starts, [*places, len(text)], strict=True)]


def _common_start(left: str, right: str) -> str:
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    return "".join(one for one, _ in pairs)
