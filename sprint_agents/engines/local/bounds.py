"""What a loaded model allows of a request."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a request must keep to: ids below ``vocabulary``; at most ``limit`` tokens, completion included."""

    vocabulary: int
    limit: int
