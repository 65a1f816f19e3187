"""The texts between the turns of a conversation, taken from a chat template.

A context grows by appending, so it needs only the texts that a chat template writes between two turns. They are found
by rendering a few conversations of known words (``PROBES``) and cutting the renderings at these words. The result is
then compared with the template. A template that changes earlier turns later in a conversation is refused: a context
that grows by appending cannot match it.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from sprint_agents.engine import THOUGHTS, ChatTurns, Speaker, Thoughts
from sprint_agents.errors import InvalidCheckpoint
from sprint_agents.markup import markup

Message = dict[str, str]
"""One turn as chat templates take it: ``role`` and ``content``."""

History = Literal["exact", "as_written"]
"""The form of earlier turns: exactly what the chat template writes, or else the text that was appended."""


class Render(Protocol):
    """A chat template: writes a conversation, and the beginning of the model's turn if ``add_generation_prompt``."""

    def __call__(self, messages: list[Message], *, add_generation_prompt: bool) -> str:
        """Return the text; raise any exception if the template does not support the conversation."""
        ...


class Probe(NamedTuple):
    """A conversation to render, as pairs of speaker and text."""

    said: tuple[tuple[Speaker, str], ...]
    prompts: bool = False

    @property
    def messages(self) -> list[Message]:
        """The conversation as chat templates take it."""
        return [{"role": speaker, "content": words} for speaker, words in self.said]


def _known(*speakers: Speaker, prompts: bool = False) -> Probe:
    """Make a conversation of words that occur nowhere else."""
    return Probe(tuple((name, f"turn{at}of{len(speakers)}") for at, name in enumerate(speakers)), prompts)


_ANSWER = '{"result": 1}'
_THOUGHTS = "<think>because</think>"

_OPEN_THOUGHTS = re.compile(r"<think>\s*(?P<closed></think>\s*)?$")
"""The mark of thoughts at the end of a prompt; closed at once for a model that does not think."""

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
"""All conversations that ``turns_of`` needs; every template supports the first."""


def turns_of_template(render: Render, *, history: History = "exact") -> ChatTurns:
    """Derive the turns of a chat template.

    With transformers ``render`` is ``partial(tokenizer.apply_chat_template, tokenize=False)``. If a template has no
    system turn, or moves it, the system's text opens the first turn of the user.

    Raises:
        InvalidCheckpoint: see ``turns_of``.
    """
    return turns_of({probe: _rendered(render, probe) for probe in PROBES}, history=history)


def turns_of(renderings: Mapping[Probe, str | None], *, history: History = "exact") -> ChatTurns:
    """Derive turns from a chat template's renderings of ``PROBES``; None marks those that it does not support.

    Raises:
        InvalidCheckpoint: the template does not write a conversation turn by turn, or, with ``history`` ``exact``,
            changes earlier turns in longer conversations.
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
    thoughts = _thoughts(turns.opens["assistant"], renderings)
    drops = thoughts != "none" and _drops_thoughts(renderings)
    turns = turns.model_copy(update={"thoughts": thoughts, "drops_thoughts": drops})
    if history == "exact":
        wholes = (_WHOLE, _WHOLE_WITH_SYSTEM, _THOUGHTFUL) if with_system else (_WHOLE, _THOUGHTFUL)
        _refuse_rewriting(turns, renderings, wholes, answered)
    return turns


def _thoughts(prompt: str, renderings: Mapping[Probe, str | None]) -> Thoughts:
    """Say whether the model thinks, from what the template does with the thoughts in answers."""
    thinks = _OPEN_THOUGHTS.search(prompt)
    if thinks:
        return "none" if thinks["closed"] else "open"
    return "may" if _drops_thoughts(renderings) else "none"


def _drops_thoughts(renderings: Mapping[Probe, str | None]) -> bool:
    thoughtful = renderings[_THOUGHTFUL]
    return thoughtful is not None and _ANSWER in thoughtful and _THOUGHTS not in thoughtful


def _refuse_rewriting(
    turns: ChatTurns, renderings: Mapping[Probe, str | None], wholes: Sequence[Probe], answered: str
) -> None:
    """Check that the turns write the ``wholes`` as the template does, which opens an earlier answer by ``answered``.

    A blank before answers that is missing at the end of a prompt belongs to the model's first token. Thoughts are left
    out of the comparison: a template may open them in the prompt, and drop them from earlier turns.

    Raises:
        InvalidCheckpoint: they do not, so token ids would differ from those of the template's conversations.
    """
    reasons: list[str] = []
    prompt = turns.opens["assistant"]
    if answered.rstrip(" ") != _OPEN_THOUGHTS.sub("", prompt).rstrip(" "):
        reasons.append(
            f"opens the turn that the model is to write by {prompt!r}, and later the same turn by {answered!r}"
        )
    if _drops_thoughts(renderings):
        wholes = [whole for whole in wholes if whole is not _THOUGHTFUL]
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
    """Write a probe as the template would, with ``answered`` before answers."""
    earlier = turns.model_copy(update={"opens": {**turns.opens, "assistant": answered}})
    return earlier.write(probe.said) + (turns.open("assistant") if probe.prompts else "")


def _rendered(render: Render, probe: Probe) -> str | None:
    try:
        return render(probe.messages, add_generation_prompt=probe.prompts)
    except InvalidCheckpoint:
        raise
    except Exception:  # templates raise any exception, most of them because of a system turn
        return None


def _between(renderings: Mapping[Probe, str | None], probe: Probe) -> list[str] | None:
    """Return the texts before, between and after the turns; None if the turns are not all there in order."""
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


# DeepSeek's special tokens have full-width bars.
_SPECIAL = r"<[|\uff5c][^<>|\uff5c\n]{1,40}[|\uff5c]>|</?s>|<(?:start|end)_of_turn>"
_END = re.compile(_SPECIAL)
_TOKEN = re.compile(rf"{_SPECIAL}|\[/?INST\]")
_MARK = re.compile(rf"(?:{_SPECIAL})(?:(?:system|user|assistant|model|tool)\b)?|\[/?INST\]")
ASSISTANT_MARK = (
    r"<\|im_start\|>assistant\b|<[|\uff5c](?:Assistant|assistant)[|\uff5c]>|\[/INST\]|<start_of_turn>model\b"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>"
)
"""The marks that open an assistant's turn, as a regular expression."""


_ASSISTANT = re.compile(ASSISTANT_MARK)


def marks_in(texts: Iterable[str]) -> tuple[str, ...]:
    r"""Return the marks in the texts between turns, longest first: their special tokens, or else a whole text.

    >>> marks_in(["<|im_start|>user\n", "<|im_end|>\n", "Human: "])
    ('<|im_start|>', '<|im_end|>', 'Human:')
    """
    found = {mark for text in texts for mark in _TOKEN.findall(text) or [text.strip()] if mark}
    return tuple(sorted(found, key=lambda mark: (-len(mark), mark)))


def without_marks(text: str) -> str:
    r"""Remove the marks of a chat template, and blanks around the rest.

    >>> without_marks("<|im_end|>\n<|im_start|>user\n")
    ''
    """
    return _MARK.sub("", text).strip()


def without_end_marks(text: str) -> str:
    r"""Strip blanks and the special tokens that end a turn from the end of ``text``.

    >>> without_end_marks(" 42 <|im_end|>\n</s>\n")
    ' 42'
    """
    end = len(text.rstrip())
    while (start := text.rfind("<", 0, end)) >= 0 and _END.fullmatch(text, start, end):
        end = start
        while end and text[end - 1].isspace():
            end -= 1
    return text[:end]


NO_THOUGHTS = markup(f"{THOUGHTS[1]}\n\n")
"""Closes the thoughts of a turn that has none, if its opening has opened them."""


def split_thoughts(written: str, thoughts: Thoughts) -> tuple[str, str]:
    r"""Split a completion after its thoughts, if it ended them; the second part is the rest without empty lines.

    >>> split_thoughts('<think>hm</think>\n\n{"result": 1}', "may")
    ('<think>hm</think>', '{"result": 1}')
    >>> split_thoughts('hm</think>{"result": 1}', "open")
    ('hm</think>', '{"result": 1}')
    """
    opening, closing = THOUGHTS
    if thoughts == "none" or (thoughts == "may" and not written.lstrip().startswith(opening)):
        return "", written
    before, closed, rest = written.partition(closing)
    return (before + closed, rest.lstrip("\n")) if closed else ("", written)


def assistant_turn(text: str, *, before: int) -> int:
    r"""Return the offset of the first assistant's turn; 0 if no mark of a template comes ``before`` that offset.

    >>> assistant_turn("<|im_start|>user\n6*7?<|im_end|>\n<|im_start|>assistant\n<Plan_1>", before=54)
    53
    """
    match = _ASSISTANT.search(text) if _MARK.search(text, 0, before) else None
    return match.end() if match else 0
