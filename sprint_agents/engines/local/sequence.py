"""One request inside the scheduler."""

from dataclasses import dataclass

from .detokenizer import Detokenizer
from .grammar import Grammar
from .kv_cache import KVSegment
from .radix import RadixNode
from .sampling import Sampler


@dataclass(slots=True, eq=False, kw_only=True)
class TokenSequence:
    """A request's prompt and completion and, while it runs, where its keys and values are stored.

    The keys and values of a running sequence are in two places. Those of its prefix are in the segments of other
    requests, found through ``prefix``; the others are in ``segment``. Example, with the prompt ``A B C D`` of which
    ``A B`` were cached, after one decoded token ``E``::

        position      0  1  2  3  4
        token         A  B  C  D  E
        stored in     prefix | segment, offsets 0 and 1; E is stored by the next step

    Here ``segment_start`` is 2, ``computed`` is 4 and ``cached_tokens`` is 2.
    """

    tokens: list[int]
    prompt_tokens: int
    max_tokens: int
    length_limit: int
    """The completion ends when the sequence has this many tokens."""
    stop_ids: frozenset[int]
    sampler: Sampler
    detokenizer: Detokenizer
    grammar: Grammar | None = None
    """Restricts the completion to a JSON schema."""

    cached_tokens: int | None = None
    """How many prompt tokens were in the cache when the request first started."""
    order: int = 0
    """The number of its admission. The scheduler preempts the latest first."""
    segment: KVSegment | None = None
    node: RadixNode[KVSegment] | None = None
    """The node where its tokens in the tree end."""
    prefix: RadixNode[KVSegment] | None = None
    """The node where its prefix ends: everything above belongs to other requests."""
    segment_start: int = 0
    """The position in the sequence of the token at offset 0 of ``segment``."""
    computed: int = 0
    """How many tokens have keys and values, the prefix included."""
    inserted: int = 0
    """How many tokens are in the tree."""
    leader: "TokenSequence | None" = None
    """The sequence that is computing this one's prefix, which waits until ``awaited`` tokens are done."""
    awaited: int = 0
