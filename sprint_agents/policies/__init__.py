"""Policies decide the next stage; each built-in policy is one short module."""

from sprint_agents.errors import UnknownPolicy

from .aggregation import aggregation
from .as_needed import as_needed
from .combinators import first_success, limit_width, race, until, with_fallback
from .confidence_vote import confidence_of, confidence_vote
from .dag import dag
from .fork_join_async import fork_join_async
from .interleaved import interleaved
from .policy import Planning, Policy, name_of, steps_of
from .self_consistency import self_consistency
from .sequential import sequential
from .skeleton import skeleton
from .spawn_join import spawn_join
from .tree_search import tree_search

BUILT_IN: dict[str, Policy] = {
    "interleaved": interleaved,
    "sequential": sequential,
    "self_consistency": self_consistency(),
    "skeleton": skeleton(),
    "spawn_join": spawn_join(),
    "fork_join_async": fork_join_async(),
    "dag": dag(),
    "as_needed": as_needed(),
    "tree_search": tree_search(),
    "aggregation": aggregation(),
    "confidence_vote": confidence_vote(),
}
"""The built-in policies by name, with their default parameters."""


def find_policy(policy: Policy | str) -> tuple[str, Policy]:
    """Return the name and the function of a policy, which may be the name of a built-in one.

    Raises:
        UnknownPolicy: no built-in policy has that name.
    """
    if not isinstance(policy, str):
        return name_of(policy), policy
    if policy not in BUILT_IN:
        raise UnknownPolicy(
            f"there is no policy {policy!r}: use one of {', '.join(BUILT_IN)}, or pass an async generator function"
        )
    return policy, BUILT_IN[policy]


__all__ = [
    "BUILT_IN",
    "Planning",
    "Policy",
    "find_policy",
    "steps_of",
    "interleaved",
    "sequential",
    "self_consistency",
    "skeleton",
    "spawn_join",
    "fork_join_async",
    "dag",
    "as_needed",
    "tree_search",
    "aggregation",
    "confidence_vote",
    "confidence_of",
    "limit_width",
    "first_success",
    "race",
    "with_fallback",
    "until",
]
