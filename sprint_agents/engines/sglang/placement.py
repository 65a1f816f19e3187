"""Where a request is sent, so that it finds the prefix of its run in a cache, and what else goes with it.

Each data-parallel rank of a server, and each worker behind a router, has a radix cache of its own. A server deals
requests to its ranks in turn, so an executor would compute the planner's tokens once more on every other rank. All
requests of a run therefore go to one rank (``routed_dp_rank``), and have one routing key, by which the policies
``manual`` and ``consistent_hashing`` of SGLang's router choose the worker.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping

from pydantic import JsonValue

from sprint_agents.engine import Hints
from sprint_agents.errors import ConfigurationError

from .model import ServedModel

ROUTING_KEY = "X-SMG-Routing-Key"

_MOST_RUNS = 10_000
_ENGINES_OWN = ("input_ids", "n", "rid", "stream", "text")


class Placement:
    """The rank of each run. A new run is placed on the rank with the fewest running requests of this engine."""

    def __init__(self) -> None:
        self._ranks: OrderedDict[str, int] = OrderedDict()

    def rank(self, run: str, *, ranks: int, busy: Iterable[int | None]) -> int | None:
        """Return the rank for a request of ``run``; ``busy`` are the ranks of the running requests.

        None if there is one rank, or the request belongs to no run.
        """
        if ranks < 2 or not run:
            return None
        if (rank := self._ranks.get(run)) is None:
            running, begin = Counter(busy), len(self._ranks)
            rank = min(range(ranks), key=lambda each: (running[each], (each - begin) % ranks))
            if begin >= _MOST_RUNS:
                self._ranks.popitem(last=False)
        self._ranks[run] = rank
        self._ranks.move_to_end(run)
        return rank


def fields_of(
    hints: Hints, model: ServedModel, *, rank: int | None, extra: Mapping[str, JsonValue]
) -> dict[str, object]:
    """Return the fields of a ``/generate`` body that say where and when it is computed, and the user's own."""
    fields: dict[str, object] = {name: value for name, value in extra.items() if name != "sampling_params"}
    if rank is not None:
        fields.setdefault("routed_dp_rank", rank)
    if model.sessions and hints.run:
        fields.setdefault("session_id", hints.run)
    if model.priorities != "none":
        fields.setdefault("priority", int(hints.critical is (model.priorities == "high first")))
    return fields


def headers_of(hints: Hints) -> dict[str, str]:
    """Return the headers by which a router places a request."""
    return {ROUTING_KEY: hints.run} if hints.run else {}


def with_adapter(weights: str | None, extra: Mapping[str, JsonValue]) -> str | None:
    """Return what tells models of one name apart: the digest of the base's ``weights``, and the adapter of ``extra``.

    >>> with_adapter("1f3a", {"lora_path": "planner"})
    '1f3a:planner'
    """
    adapter = extra.get("lora_path")
    return ":".join(part for part in (weights, adapter) if isinstance(part, str)) or None


def check_extra(extra: Mapping[str, JsonValue]) -> None:
    """Refuse fields that belong to the engine.

    Raises:
        ConfigurationError: ``extra`` has one.
    """
    sampling = extra.get("sampling_params", {})
    if not isinstance(sampling, Mapping):
        raise ConfigurationError(f"extra has sampling_params={sampling!r}: pass an object")
    for name in _ENGINES_OWN:
        if name in extra or name in sampling:
            raise ConfigurationError(f"extra has {name!r}, which the engine sets for each request: leave it out")
