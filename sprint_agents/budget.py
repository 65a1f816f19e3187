"""Limits on the parts of a run, and a budget for the whole run.

Invariants:

- Tokens, calls and subtasks are reserved before a request is sent, and never more than is left. So a budget holds at
  any width. A finished request returns the tokens that it did not use.
- A request waits only while another one holds tokens. Running requests hold them, and all of these end.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from .errors import BudgetExceeded
from .manifest import Manifest
from .usage import CallUsage

LEAST_SHARE = 32
"""The fewest tokens worth a request, unless fewer are left: a continued completion costs another request."""

_LEAST_UNKNOWN = 8
"""How many further subtasks are expected, at least, of a plan that is being written."""


class Limits(BaseModel):
    """Bounds on the parts of a run; the defaults are the paper's (arXiv 2506.05745, section 3.1).

    Attributes:
        stages: the most stages of a run; the planner must answer in the last one.
        plan_tokens: the most new tokens of one plan.
        execution_tokens: the most new tokens of one execution.
        chain_tokens: the most new tokens of one sequential chain of thought.
        answer_tokens: the most new tokens of an answer that the runtime asks for.
        concurrency: how many executions of a run may be active at once, and threads for its functions; None for all, or
            as many as pay by the engine's ``StepCosts`` where one of them may settle the stage.
        call_seconds: the most seconds that one request may take, from sending it to its last token, or that one call
            of a function may take: an executor, a checker, or a policy's check.
        review_seconds: the most seconds that a person may take to review a plan, or to approve a tool call.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    stages: int = Field(default=12, ge=1)
    plan_tokens: int = Field(default=8_000, ge=1)
    execution_tokens: int = Field(default=8_000, ge=1)
    chain_tokens: int = Field(default=36_000, ge=1)
    answer_tokens: int = Field(default=2_000, ge=1)
    concurrency: int | None = Field(default=None, ge=1)
    call_seconds: float = Field(default=600.0, gt=0)
    review_seconds: float = Field(default=3600.0, gt=0)

    @classmethod
    def of(cls, manifest: Manifest | None) -> Self:
        """Return the limits that a checkpoint was trained with, or the defaults."""
        if manifest is None:
            return cls()
        return cls(stages=manifest.stages, plan_tokens=manifest.plan_tokens, execution_tokens=manifest.execution_tokens)


class Budget(BaseModel):
    """The most that a whole run may use; None for no bound.

    Attributes:
        tokens: generated tokens of all roles, retries included.
        calls: requests sent to the engine, including those that continue a completion.
        subtasks: executions started.
        seconds: wall time of the run.
        answer_tokens: how many of the ``tokens`` are kept for the answer. When only these are left, the planner must
            answer. It must also if one call or no subtask is left.
        answer_seconds: how many of the ``seconds`` are kept for the answer. When only these are left, executions are
            cancelled and the planner must answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    tokens: int | None = Field(default=None, ge=0)
    calls: int | None = Field(default=None, ge=0)
    subtasks: int | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, gt=0)
    answer_tokens: int = Field(default=0, ge=0)
    answer_seconds: float = Field(default=0.0, ge=0)


@dataclass(slots=True)
class Ledger:
    """The account of one run, or of a part of a run that also books into the account of the ``whole``.

    >>> ledger = Ledger(Budget(tokens=10))
    >>> asyncio.run(ledger.reserve_tokens(8)), ledger.tokens_left
    (8, 2)
    >>> ledger.settle(reserved=8, used=3); ledger.tokens_left
    7
    >>> half = ledger.share(0.5)
    >>> asyncio.run(half.reserve_tokens(8)), ledger.tokens_left
    (3, 4)

    ``_requests`` holds the number of reservations, ``_executions`` of executions that have not ended, and ``_plans`` of
    plans that are being written. ``kept`` tokens are for the answer alone, until ``begin_answer``.
    """

    budget: Budget
    whole: "Ledger | None" = field(default=None, kw_only=True)
    tokens: int = 0
    calls: int = 0
    subtasks: int = 0
    retries: int = 0
    waits: int = 0
    kept: int = field(init=False)
    _reserved: int = 0
    _requests: int = 0
    _executions: int = 0
    _plans: int = 0
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque[asyncio.Future[None]])

    def __post_init__(self) -> None:
        self.kept = 0 if self.budget.tokens is None else self.budget.answer_tokens

    def begin_answer(self) -> None:
        """Let the answer have the tokens that were kept for it."""
        self.kept = 0

    @property
    def nears_end(self) -> bool:
        """Whether a further plan would leave nothing for an answer, or could not be carried out."""
        budget, left = self.budget, self.tokens_left
        return (
            (self.kept > 0 and left is not None and left <= self.kept)
            or (budget.calls is not None and budget.calls - self.calls == 1)
            or (budget.subtasks is not None and budget.subtasks <= self.subtasks)
        )

    def share(self, fraction: float) -> "Ledger":
        """Open an account for a part of the run, with at most ``fraction`` (0 to 1) of what is left; time is shared."""

        def part(most: int | None, used: int) -> int | None:
            return None if most is None else int(fraction * max(0, most - used))

        budget = Budget(
            tokens=part(self.budget.tokens, self.tokens),
            calls=part(self.budget.calls, self.calls),
            subtasks=part(self.budget.subtasks, self.subtasks),
        )
        return Ledger(budget, whole=self)

    @property
    def tokens_left(self) -> int | None:
        """Tokens neither used nor reserved, here or in the whole; None without a bound."""
        own = None if self.budget.tokens is None else self.budget.tokens - self.tokens - self._reserved
        if self.whole is None or (left := self.whole.tokens_left) is None:
            return own
        return left if own is None else min(own, left)

    @property
    def spent(self) -> bool:
        """Whether no tokens are left, except those that are kept for the answer."""
        left = self.tokens_left
        return left is not None and left <= self.kept

    def take_subtask(self) -> None:
        """Count one execution before it starts.

        Raises:
            BudgetExceeded: the run may not start another one.
        """
        if self.budget.subtasks is not None and self.subtasks >= self.budget.subtasks:
            raise BudgetExceeded(f"the budget of {self.budget.subtasks} subtasks is spent: raise Budget(subtasks=…)")
        if self.whole is not None:
            self.whole.take_subtask()
        self.subtasks += 1

    def take_call(self) -> None:
        """Count one request before it is sent.

        Raises:
            BudgetExceeded: the run may not send another one.
        """
        if self.budget.calls is not None and self.calls >= self.budget.calls:
            raise BudgetExceeded(f"the budget of {self.budget.calls} calls is spent: raise Budget(calls=…)")
        if self.whole is not None:
            self.whole.take_call()
        self.calls += 1

    def note_retries(self, count: int = 1) -> None:
        """Count attempts beyond the first; retries are bounded only by the tokens and calls that they use."""
        self.retries += count
        if self.whole is not None:
            self.whole.note_retries(count)

    def note_wait(self) -> bool:
        """Count a request that waits for tokens; return whether it is the first of the run."""
        self.waits += 1
        return self.waits == 1 if self.whole is None else self.whole.note_wait()

    def charge(self, cost: CallUsage, subtasks: int) -> None:
        """Book what an earlier process of the same run has paid for, here but not in the whole."""
        self.tokens += cost.generated_tokens
        self.calls += cost.calls
        self.subtasks += subtasks
        self.retries += cost.retries

    @property
    def may_continue(self) -> bool:
        """Whether the calls left suffice to take all tokens left in the smallest shares."""
        calls, tokens = self.budget.calls, self.budget.tokens
        if calls is not None and (tokens is None or calls - self.calls <= (tokens - self.tokens) // LEAST_SHARE):
            return False
        return self.whole is None or self.whole.may_continue

    @property
    def bounds_calls(self) -> bool:
        """Whether the number of requests is bounded, here or in the whole."""
        return self.budget.calls is not None or (self.whole is not None and self.whole.bounds_calls)

    def follow(self, execution: asyncio.Task[Any]) -> None:
        """Count an execution among those that share what is left, until its task is done."""
        self._expect(executions=1)
        execution.add_done_callback(lambda _: self._expect(executions=-1))

    def begin_plan(self) -> None:
        """Keep tokens for the subtasks of a plan that is going to be written, until ``end_plan``."""
        self._expect(plans=1)

    def end_plan(self) -> None:
        """Record that all subtasks of a plan are known."""
        self._expect(plans=-1)

    def _expect(self, *, executions: int = 0, plans: int = 0) -> None:
        self._executions += executions
        self._plans += plans
        if self.whole is not None:
            self.whole._expect(executions=executions, plans=plans)

    async def reserve_tokens(
        self,
        wanted: int,
        *,
        least: int | None = None,
        written: int = 0,
        waits: Callable[[], object] | None = None,
    ) -> int:
        """Reserve up to ``wanted`` tokens for one request and return how many it may generate.

        By default it waits until ``wanted`` are left, or no active request can return any. A request that can be
        continued says how few tokens are ``least`` worth having: it gets its share of what is left, or as many as its
        completion has ``written``, if that is more. ``waits`` is called once if it must wait.

        Raises:
            BudgetExceeded: no tokens are left.
        """
        own = await self._reserve(wanted, least, written, waits)
        if self.whole is None:
            return own
        least = None if least is None else min(least, own)
        try:
            granted = await self.whole.reserve_tokens(own, least=least, written=written, waits=waits)
        except BaseException:
            self._settle(reserved=own, used=0)
            raise
        if granted < own:
            self._release(own - granted)
        return granted

    def settle(self, *, reserved: int, used: int) -> None:
        """Book the tokens that a request used and return the rest of its reservation."""
        self._settle(reserved=reserved, used=used)
        if self.whole is not None:
            self.whole.settle(reserved=reserved, used=used)

    async def _reserve(self, wanted: int, least: int | None, written: int, waits: Callable[[], object] | None) -> int:
        if self.budget.tokens is None:
            return wanted
        # Example: of 100 tokens, A holds 80. B wants 50, finds 20 and waits, because A may use less than it reserved.
        # A settles with 10 used and wakes B, which finds 90 and takes 50. Had A used all 80, nothing would be reserved
        # any more, so no tokens could come back: B would take the remaining 20.
        # settle() wakes all waiters, and each checks again in the order in which it came; one that was cancelled holds
        # no tokens and blocks no other.
        needed = wanted if least is None else min(least, wanted)
        while (left := self.budget.tokens - self.tokens - self._reserved - self.kept) < needed and self._reserved:
            if waits is not None:
                waits()
                waits = None
            settled = asyncio.get_running_loop().create_future()
            self._waiting.append(settled)
            await settled
        if left <= 0:
            but = f" but for {self.kept} that are kept for the answer" if self.kept else ""
            raise BudgetExceeded(
                f"the budget of {self.budget.tokens} generated tokens is spent{but}: raise Budget(tokens=…)"
            )
        share = wanted if least is None else max(needed, left // self._sharers, written)
        granted = min(wanted, share, left)
        self._reserved += granted
        self._requests += 1
        return granted

    @property
    def _sharers(self) -> int:
        """How many requests may want a part of what is left, including the one that asks.

        Requests that run count as well, because they may continue. So of 64 that start together, the first gets 1/64 of
        what is left and the last about 1/172; a good third remains for those that need more.
        """
        known = max(self._executions + self._plans, self._requests + len(self._waiting) + 1)
        # A plan that is being written is expected to have twice as many subtasks in the end.
        return known + (max(_LEAST_UNKNOWN, self._executions) if self._plans else 0)

    def _settle(self, *, reserved: int, used: int) -> None:
        self.tokens += used
        if self.budget.tokens is not None:
            self._requests -= 1
            self._release(reserved)

    def _release(self, tokens: int) -> None:
        """Return reserved tokens, and wake the requests that wait for some."""
        if self.budget.tokens is None:
            return
        self._reserved -= tokens
        while self._waiting:
            if not (settled := self._waiting.popleft()).done():
                settled.set_result(None)
