"""Processes that take each training step together, as an alternative to threads.

Threads meet several times in each operation of a model, and wait for the one whose core is busy with other work. The
processes of a team meet once a step. Each computes the gradients of its share of the batches; the sum of all shares is
the gradient of the step, so a team learns what a single process learns, up to rounding.

Invariants: every member has the same weights after each step, and member 0 is the process that started the others, so
that if it is killed the others lose their connection and end as well.
"""

# pyright: reportUnknownMemberType=false
# The annotations of torch are partial.

import multiprocessing
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from sprint_finetune.training.collation import Batch

T = TypeVar("T")

_HOST = "127.0.0.1"
_EVEN = 1_200
"""Length of rows, in tokens, at which attention takes about as long as everything else."""


@dataclass(frozen=True, slots=True)
class Team:
    """One member's view of ``size`` processes, of which it is number ``member``."""

    member: int = 0
    size: int = 1

    def each(self, make: Callable[[int], T], steps: Iterable[int]) -> Iterator[T]:
        """Yield ``make(step)`` for each step to every member. Members make different steps at the same time."""
        waiting = list(steps)
        if self.size == 1:
            yield from map(make, waiting)
            return
        for start in range(0, len(waiting), self.size):
            group = waiting[start : start + self.size]
            made: list[Any] = [None] * self.size
            dist.all_gather_object(made, make(group[self.member]) if self.member < len(group) else None)
            yield from made[: len(group)]

    def share(self, batches: Sequence[Batch]) -> list[Batch]:
        """Return this member's batches, so that all members have about equally much work.

        >>> batches = [{"input_ids": torch.zeros(1, length)} for length in (100, 60, 50)]
        >>> [[batch["input_ids"].shape[1] for batch in Team(member, 2).share(batches)] for member in (0, 1)]
        [[100], [60, 50]]
        """
        if self.size == 1:
            return list(batches)
        shares: list[list[Batch]] = [[] for _ in range(self.size)]
        work = [0] * self.size
        for batch in sorted(batches, key=_work, reverse=True):
            least = work.index(min(work))
            shares[least].append(batch)
            work[least] += _work(batch)
        return shares[self.member]

    def add_up(self, model: nn.Module, loss: float) -> float:
        """Replace the gradients by their sums over all members, and return the sum of ``loss``."""
        if self.size == 1:
            return loss
        parameters = list(model.parameters())
        own = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
        summed = torch.cat([torch.tensor([loss]), *(gradient.flatten() for gradient in own)])
        dist.all_reduce(summed)
        place = 1
        for one in parameters:
            one.grad = summed[place : place + one.numel()].view_as(one)
            place += one.numel()
        return float(summed[0])


@contextmanager
def gathered(size: int, work: Callable[..., None], *arguments: Any) -> Generator[Team]:
    """Start ``size - 1`` more processes that call ``work(team, *arguments)``, and yield this process's ``Team``.

    ``work`` and ``arguments`` must be picklable. The other processes have as many threads as this one.
    """
    if size == 1:
        yield Team()
        return
    store = TCPStore(_HOST, 0, size, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(
            target=_join, args=(member, size, store.port, torch.get_num_threads(), work, arguments), daemon=True
        )
        for member in range(1, size)
    ]
    for process in others:
        process.start()
    dist.init_process_group("gloo", store=store, rank=0, world_size=size)
    try:
        yield Team(0, size)
        dist.barrier()
    finally:
        dist.destroy_process_group()
        for process in others:
            process.join()


def _join(
    member: int, size: int, port: int, threads: int, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(threads)
    store = TCPStore(_HOST, port, size, is_master=False)
    dist.init_process_group("gloo", store=store, rank=member, world_size=size)
    work(Team(member, size), *arguments)
    dist.barrier()
    dist.destroy_process_group()


def _work(batch: Batch) -> int:
    ids = batch["input_ids"]
    return ids.numel() * (_EVEN + ids.shape[1])
