"""A loaded model: the forward pass that computes its logits over the radix tree, and its dimensions."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sprint_agents.step_costs import StepCosts

from .attention import ForwardBatch
from .kv_cache import Geometry

_MIN_CACHE_TOKENS, _MAX_CACHE_TOKENS = 1024, 65_536

_THREAD_WORK = 16_000_000
"""A further thread pays if each has this many multiplications in a step. With fewer, threads wait for each other."""

SMALL = 32_000_000
"""A model with at most so many weights is small: its steps take longer the wider they are.

A larger model reads its weights for each step, which takes about as long for one sequence as for several.
"""

_COSTS_ON_CPU = StepCosts(seconds={1: 0.0011, 3: 0.0017, 5: 0.0021, 8: 0.0027, 12: 0.0034})
"""Medians of sprint-nano's steps in Countdown runs, and the time between steps, on one thread of an idle CPU."""


class Network(Protocol):
    """The weights of a model and its forward pass, whose keys and values are those of a ``ForwardBatch``."""

    def __call__(self, ids: Tensor, positions: Tensor, wanted: Tensor | None, batch: ForwardBatch) -> Tensor:
        """Compute the logits, ``[wanted, vocabulary]``, of the ``wanted`` queries, or of all if None.

        ``ids`` and ``positions`` are ``[queries]``.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A network and its dimensions."""

    network: Network
    parameters: int
    geometry: Geometry
    vocabulary: int
    context_limit: int
    """The longest context that the engine computes exactly, in tokens."""
    end_ids: frozenset[int]

    @property
    def step_costs(self) -> StepCosts | None:
        """What decode steps cost relative to each other, by their width; None if the widest are about as quick."""
        return _COSTS_ON_CPU if self.parameters <= SMALL and self.geometry.device.type == "cpu" else None

    def forward(self, ids: Tensor, positions: Tensor, wanted: Tensor | None, batch: ForwardBatch) -> Tensor:
        """Run the network, on as many of torch's threads as pay for this number of queries."""
        if self.geometry.device.type != "cpu":
            return self.network(ids, positions, wanted, batch)
        with _threads_for(self.parameters * ids.shape[0]):
            return self.network(ids, positions, wanted, batch)

    def default_cache_tokens(self) -> int:
        """Count the tokens whose keys and values fit into a quarter of the free memory: 1,024 to 65,536."""
        device = self.geometry.device
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_memory()
        return max(_MIN_CACHE_TOKENS, min(_MAX_CACHE_TOKENS, free // 4 // self.geometry.bytes_per_token))


@contextmanager
def _threads_for(work: int) -> Generator[None]:
    """Use fewer of torch's threads for ``work`` multiplications than there are, if they would not pay.

    Where other programs keep the cores busy, a thread waits, spinning, for another one that has no core: steps then
    took six times as long. So there is one thread then.
    """
    most = torch.get_num_threads()
    chosen = 1 if _cores_are_busy() else max(1, min(most, work // _THREAD_WORK))
    if chosen == most:
        yield
        return
    torch.set_num_threads(chosen)
    try:
        yield
    finally:
        torch.set_num_threads(most)


def _cores_are_busy() -> bool:
    """Say whether more threads want to run than there are cores, this engine's own included (False on Windows)."""
    average = getattr(os, "getloadavg", None)  # over the last minute; costs 2 µs
    return average is not None and average()[0] > (os.cpu_count() or 1) + 0.5


def _free_memory() -> int:
    """Count the bytes of free main memory; a quarter of all where the system does not report them (macOS)."""
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
