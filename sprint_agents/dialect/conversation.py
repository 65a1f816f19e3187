"""How the turns of a conversation stand in the text of a context: a chat template's words, without the template.

A context grows by appending, so it needs of a chat template only what stands between two turns.
``turns_of_template`` finds that by rendering a conversation of known words and cutting the rendering at them.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from sprint_agents.errors import InvalidCheckpoint

Speaker = Literal["system", "user", "assistant"]
"""Whose turn it is."""

Message = dict[str, str]
"""One turn as chat templates take it: ``role`` and ``content``."""


class Turns(BaseModel):
    r"""What opens and what ends a turn of each speaker.

    Attributes:
        opens: by speaker; the system's has whatever begins a conversation, since it is always the first turn.
        closes: by speaker.
        user_first: how the user's turn opens where no system's turn stands before it.
        user_after_system: how it opens after the system's, where the template writes both into one turn.

    >>> chatml = Turns(
    ...     opens={name: f"<|im_start|>{name}\n" for name in ("system", "user", "assistant")},
    ...     closes=dict.fromkeys(("system", "user", "assistant"), "<|im_end|>\n"),
    ... )
    >>> chatml.open("assistant"), chatml.close("assistant")
    ('<|im_start|>assistant\n', '<|im_end|>\n')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    opens: Mapping[Speaker, str]
    closes: Mapping[Speaker, str]
    user_first: str | None = None
    user_after_system: str | None = None

    def open(self, speaker: Speaker, *, after: Literal["system", "nothing"] | None = None) -> str:
        """Return what opens a turn; ``after`` says what stands before a user's turn, if it is not another turn."""
        if speaker == "user" and after == "system" and self.user_after_system is not None:
            return self.user_after_system
        if speaker == "user" and after == "nothing" and self.user_first is not None:
            return self.user_first
        return self.opens[speaker]

    def close(self, speaker: Speaker) -> str:
        """Return what ends a turn; of the assistant's, the model itself may have written the beginning."""
        return self.closes[speaker]


def turns_of_template(render: Callable[[list[Message]], str]) -> Turns:
    """Find out how a chat template writes turns; ``render`` applies it, with no generation prompt.

    With transformers that is ``partial(tokenizer.apply_chat_template, tokenize=False)``. Where a template has no
    system turn, or moves it about, the system's words open the first turn of the user.

    Raises:
        InvalidCheckpoint: the template does not write a conversation turn by turn.
    """
    texts = _between(render, ("user", "assistant", "user", "assistant"))
    if texts is None:
        raise InvalidCheckpoint(
            "this chat template does not write the turns of a user and an assistant one after the other, as they were "
            "said: a conversation cannot be continued with it"
        )
    first, answering, asking, _, end = texts
    closing = _common_start(asking, end)
    user = asking[len(closing) :]
    asked = _between(render, ("user", "assistant", "user"))
    user_closing = _common_start(answering, asked[-1]) if asked else ""
    with_system = _between(render, ("system", "user", "assistant", "user", "assistant"))
    begin, joint = with_system[:2] if with_system else (first, "\n\n")
    apart = joint.endswith(user) and bool(with_system)
    return Turns(
        opens={"system": begin, "user": user, "assistant": answering[len(user_closing) :]},
        closes={
            "system": joint.removesuffix(user) if apart else joint,
            "user": user_closing,
            "assistant": closing,
        },
        user_first=None if first == user else first,
        user_after_system=None if apart else "",
    )


def _between(render: Callable[[list[Message]], str], speakers: Sequence[Speaker]) -> list[str] | None:
    """Return what the template writes before, between and after the turns; None where they are not all in order."""
    words = [f"turn{number}of{len(speakers)}" for number in range(len(speakers))]
    messages = [{"role": speaker, "content": word} for speaker, word in zip(speakers, words, strict=True)]
    try:
        text = render(messages)
    except Exception:  # templates raise whatever they like, most of them about the system's turn
        return None
    places = [text.find(word) for word in words]
    if places[0] < 0 or any(place <= before for before, place in itertools.pairwise(places)):
        return None
    starts = [0, *(place + len(word) for place, word in zip(places, words, strict=True))]
    return [text[start:end] for start, end in zip(starts, [*places, len(text)], strict=True)]


def _common_start(left: str, right: str) -> str:
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    return "".join(one for one, _ in pairs)
