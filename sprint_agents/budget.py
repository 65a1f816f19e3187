"""What a run may use: limits of each part, and a budget of the whole.

Invariant: tokens, calls and subtasks are reserved before a request is sent and never more than is left, so the
budget holds at any width; what a finished request did not use returns to the ledger.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from .errors import BudgetExceeded
from .manifest import Manifest
from .plan import Stage


class Limits(BaseModel):
    """Bounds on the parts of a run; the defaults are the paper's (PAPER, Inference).

    Attributes:
        stages: at the last of them the planner must answer.
        plan_tokens: new tokens of one plan.
        execution_tokens: new tokens of one execution.
        chain_tokens: new tokens of one sequential chain.
        answer_tokens: new tokens of a forced answer.
        concurrency: executions of a run that may be under way at once; None for all.
        call_seconds: time for one request, from sending it to its last token.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: int = Field(default=12, ge=1)
    plan_tokens: int = Field(default=8_000, ge=1)
    execution_tokens: int = Field(default=8_000, ge=1)
    chain_tokens: int = Field(default=36_000, ge=1)
    answer_tokens: int = Field(default=2_000, ge=1)
    concurrency: int | None = Field(default=None, ge=1)
    call_seconds: float = Field(default=600.0, gt=0)

    @classmethod
    def of(cls, manifest: Manifest | None) -> Self:
        """Take the limits that a checkpoint was trained for, or the defaults."""
        if manifest is None:
            return cls()
        return cls(stages=manifest.stages, plan_tokens=manifest.plan_tokens, execution_tokens=manifest.execution_tokens)


class Budget(BaseModel):
    """What a whole run may use; None is without bound.

    Attributes:
        tokens: generated tokens, all roles and retries together.
        calls: requests sent to the engine.
        subtasks: executions started.
        seconds: wall time, the deadline of the run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int | None = Field(default=None, ge=0)
    calls: int | None = Field(default=None, ge=0)
    subtasks: int | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, gt=0)


@dataclass(slots=True)
class Ledger:
    """The account of one run's budget.

    >>> ledger = Ledger(Budget(tokens=10))
    >>> asyncio.run(ledger.reserve_tokens(8)), ledger.tokens_left
    (8, 2)
    >>> ledger.settle(reserved=8, used=3); ledger.tokens_left
    7
    """

    budget: Budget
    tokens: int = 0
    calls: int = 0
    subtasks: int = 0
    retries: int = 0
    _reserved: int = 0
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque[asyncio.Future[None]])

    @property
    def tokens_left(self) -> int | None:
        """Tokens neither used nor reserved; None without a bound."""
        return None if self.budget.tokens is None else self.budget.tokens - self.tokens - self._reserved

    def take_subtask(self) -> None:
        """Count one execution before it starts.

        Raises:
            BudgetExceeded: the run may start no more.
        """
        if self.budget.subtasks is not None and self.subtasks >= self.budget.subtasks:
            raise BudgetExceeded(f"the budget of {self.budget.subtasks} subtasks is spent: raise Budget(subtasks=…)")
        self.subtasks += 1

    def take_call(self) -> None:
        """Count one request before it is sent.

        Raises:
            BudgetExceeded: the run may send no more.
        """
        if self.budget.calls is not None and self.calls >= self.budget.calls:
            raise BudgetExceeded(f"the budget of {self.budget.calls} calls is spent: raise Budget(calls=…)")
        self.calls += 1

    def note_retry(self) -> None:
        """Count one attempt beyond the first; no budget bounds them but that of what they use."""
        self.retries += 1

    def charge(self, stage: Stage[Any]) -> None:
        """Book a stage that an earlier process of the same run has paid for."""
        self.tokens += stage.usage.total.generated_tokens
        self.calls += stage.usage.total.calls
        self.subtasks += len(stage.executions)
        self.retries += stage.usage.total.retries

    async def reserve_tokens(self, wanted: int) -> int:
        """Reserve up to ``wanted`` tokens for one request and return how many it may generate.

        While less than ``wanted`` is left and other requests may still return some, waits for them; only the last
        request of a budget is cut short.

        Raises:
            BudgetExceeded: nothing is left.
        """
        if self.budget.tokens is None:
            return wanted
        while (left := self.budget.tokens - self.tokens - self._reserved) < wanted and self._reserved:
            settled = asyncio.get_running_loop().create_future()
            self._waiting.append(settled)
            await settled
        if left <= 0:
            raise BudgetExceeded(
                f"the budget of {self.budget.tokens} generated tokens is spent: raise Budget(tokens=…)"
            )
        granted = min(wanted, left)
        self._reserved += granted
        return granted

    def settle(self, *, reserved: int, used: int) -> None:
        """Book what a request used and return the rest of its reservation."""
        self.tokens += used
        if self.budget.tokens is None:
            return
        self._reserved -= reserved
        while self._waiting:
            if not (settled := self._waiting.popleft()).done():
                settled.set_result(None)


class Share(Ledger):
    """The account of a part of a run, within ``budget``; whatever it books, the account of the ``whole`` books too.

    >>> whole = Ledger(Budget(tokens=100))
    >>> half = Share.of(whole, 0.5)
    >>> asyncio.run(half.reserve_tokens(80)), whole.tokens_left
    (50, 50)
    """

    __slots__ = ("_whole",)

    def __init__(self, whole: Ledger, budget: Budget) -> None:
        super().__init__(budget)
        self._whole = whole

    @classmethod
    def of(cls, whole: Ledger, share: float) -> Self:
        """Set aside at most ``share``, from 0 to 1, of what is left of each part of the budget; time is the run's."""
        budget = whole.budget

        def part(most: int | None, used: int) -> int | None:
            return None if most is None else int(share * max(0, most - used))

        return cls(
            whole,
            Budget(
                tokens=part(budget.tokens, whole.tokens),
                calls=part(budget.calls, whole.calls),
                subtasks=part(budget.subtasks, whole.subtasks),
            ),
        )

    @property
    def tokens_left(self) -> int | None:
        """Tokens neither used nor reserved, here or in the whole; None without a bound."""
        left = [left for left in (super().tokens_left, self._whole.tokens_left) if left is not None]
        return min(left, default=None)

    def take_subtask(self) -> None:
        """Count one execution here and in the whole."""
        super().take_subtask()
        self._whole.take_subtask()

    def take_call(self) -> None:
        """Count one request here and in the whole."""
        super().take_call()
        self._whole.take_call()

    def note_retry(self) -> None:
        """Count one attempt beyond the first here and in the whole."""
        super().note_retry()
        self._whole.note_retry()

    async def reserve_tokens(self, wanted: int) -> int:
        """Reserve tokens here, and of these what the whole can grant."""
        own = await super().reserve_tokens(wanted)
        try:
            granted = await self._whole.reserve_tokens(own)
        except BaseException:
            super().settle(reserved=own, used=0)
            raise
        super().settle(reserved=own - granted, used=0)
        return granted

    def settle(self, *, reserved: int, used: int) -> None:
        """Book what a request used here and in the whole."""
        super().settle(reserved=reserved, used=used)
        self._whole.settle(reserved=reserved, used=used)
