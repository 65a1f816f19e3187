"""Policies decide the next stage; each built-in one is a short file here."""

from sprint_agents.errors import UnknownPolicy

from .interleaved import interleaved
from .planning import Planning, Policy
from .sequential import sequential

BUILT_IN: dict[str, Policy] = {"interleaved": interleaved, "sequential": sequential}


def find_policy(policy: Policy | str) -> tuple[str, Policy]:
    """Return the name and function of a built-in policy, or of the caller's own.

    Raises:
        UnknownPolicy: no built-in policy has that name.
    """
    if not isinstance(policy, str):
        return getattr(policy, "__name__", type(policy).__name__), policy
    if policy not in BUILT_IN:
        raise UnknownPolicy(
            f"there is no policy {policy!r}: use one of {', '.join(BUILT_IN)}, or pass an async generator function"
        )
    return policy, BUILT_IN[policy]


__all__ = ["BUILT_IN", "Planning", "Policy", "find_policy", "interleaved", "sequential"]
