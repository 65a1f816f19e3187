"""How sure a model was of what it wrote, from log-probabilities (DeepConf, arXiv 2508.15260, section 3).

A token's confidence is the negative mean log-probability of the most likely tokens in its place: high where one token
has all of the probability, and the others almost none. A group is a window of successive tokens, and its confidence is
the mean of theirs. A text is as confident as its weakest group.
"""

from collections import deque
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from .engine import TokenLogprob
from .errors import LowConfidence

LEAST_ALTERNATIVES = 2
"""With one alternative, the confidence of a sure token would be the lowest."""


def token_confidence(token: TokenLogprob) -> float | None:
    """Return the confidence at a token; None without alternatives.

    >>> token_confidence(TokenLogprob(5, -0.1, ((5, -0.1), (7, -2.9), (3, -3.0))))
    2.0
    """
    return -sum([logprob for _, logprob in token.top]) / len(token.top) if token.top else None


class GroupConfidence:
    """The confidence of the weakest group of ``window`` tokens so far.

    >>> sure, torn = TokenLogprob(5, 0.0, ((5, 0.0), (7, -8.0))), TokenLogprob(5, -0.7, ((5, -0.7), (7, -0.7)))
    >>> groups = GroupConfidence(window=2)
    >>> groups.add([sure, sure, torn])
    >>> groups.lowest
    2.35
    """

    __slots__ = ("_lowest", "_recent", "_sum")

    def __init__(self, *, window: int) -> None:
        self._recent: deque[float] = deque(maxlen=window)
        self._sum = 0.0
        self._lowest: float | None = None

    def add(self, tokens: Sequence[TokenLogprob]) -> None:
        """Add the next tokens."""
        recent = self._recent
        for token in tokens:
            if (confidence := token_confidence(token)) is None:
                continue
            if len(recent) == recent.maxlen:
                self._sum -= recent[0]
            recent.append(confidence)
            self._sum += confidence
            if len(recent) == recent.maxlen:
                mean = self._sum / len(recent)
                self._lowest = mean if self._lowest is None else min(self._lowest, mean)

    @property
    def full(self) -> float | None:
        """The confidence of the weakest whole group; None while there are fewer tokens than the window has."""
        return self._lowest

    @property
    def lowest(self) -> float | None:
        """The same; of a text that is shorter than the window, the mean of all its tokens. None without tokens."""
        if self._lowest is not None or not self._recent:
            return self._lowest
        return self._sum / len(self._recent)


def lowest_confidence(tokens: Sequence[TokenLogprob], *, window: int) -> float | None:
    """Return the confidence of the weakest group of a text; None if its tokens have no alternatives."""
    groups = GroupConfidence(window=window)
    groups.add(tokens)
    return groups.lowest


class ConfidenceBound(BaseModel):
    """The ``least`` confidence that each group of ``window`` tokens must have."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    least: float
    window: int = Field(ge=1)


class ConfidenceWatch:
    """Watches one completion while it streams in; ``bound`` ends it."""

    __slots__ = ("_bound", "_groups")

    def __init__(self, bound: ConfidenceBound) -> None:
        self._bound = bound
        self._groups = GroupConfidence(window=bound.window)

    def __call__(self, tokens: Sequence[TokenLogprob]) -> None:
        """Add the next tokens.

        Raises:
            LowConfidence: a group is below the bound.
        """
        self._groups.add(tokens)
        found, least = self._groups.full, self._bound.least
        if found is not None and found < least:
            raise LowConfidence(
                f"the model was not sure: over {self._bound.window} tokens its confidence is {found:.3f}, "
                f"below {least:.3f}"
            )
