"""A request on its way through the scheduler."""

from dataclasses import dataclass

from .grammar import Grammar
from .radix import Node
from .sampling import Draw
from .storage import Span
from .text import TextStream


@dataclass(slots=True, eq=False, kw_only=True)
class Branch:
    """One request: its tokens so far, and while it runs where they are stored."""

    tokens: list[int]
    prompt_tokens: int
    max_tokens: int
    end: int
    """The number of tokens at which it ends."""
    stop_ids: frozenset[int]
    draw: Draw
    text: TextStream
    grammar: Grammar | None = None
    """What holds it to a schema."""

    cached_tokens: int | None = None
    order: int = 0
    span: Span | None = None
    node: Node[Span] | None = None
    prefix: Node[Span] | None = None
    """Where the prefix ends that it found in the tree; ``node`` is where the tree ends for it by now."""
    first: int = 0
    """The position of the token at offset 0 of its span."""
    done: int = 0
    """How many tokens are stored, the prefix included."""
    known: int = 0
    """How many tokens are in the tree."""
    leader: "Branch | None" = None
    """The branch that is computing this one's prefix, up to ``awaited`` tokens."""
    awaited: int = 0
