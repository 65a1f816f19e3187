"""The prefill of a join while executions still run, so that the next plan's first token does not wait for it.

The results that come first in prompt order are known before the last execution ends. A request for no tokens computes
them into the engine's cache, and the planner's next request then computes only those that came later.

Invariants:

- The join itself is the same. The prefill reads a prefix of the ids that will be joined, and nothing depends on it.
- One request runs at a time, and the join waits for it, because the next plan would compute the same tokens again.
- The request belongs to the stage's fork, which ends it whenever the stage ends early.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from sprint_agents.context import Context
from sprint_agents.errors import SprintError
from sprint_agents.plan import Ask, Attempts, Plan
from sprint_agents.settles import Settles
from sprint_agents.state import Fork, State
from sprint_agents.usage import EngineCall

from .executor import SubtaskOutcome
from .join import append_executions
from .session import Session

LEAST_TOKENS = 64
"""The fewest new tokens for which a request is sent: an engine computes so many in about the time of a round trip."""
GRACE = 0.1
"""How long results wait for others, as a share of what the longest one took, before they are computed.

Executions of about the same length end at about the same time, and then all of them are joined at once. What arrives
during a request has waited when that ends.
"""


@dataclass(slots=True)
class JoinPrefill:
    """Computes the join of stage ``stage`` ahead, after the planner's context with ``plan``; ``calls`` gets its cost.

    The first ``cached`` tokens of the context should be in the cache. If the engine had to compute some of them again,
    its cache is too small for what runs, and nothing else is computed ahead.
    """

    session: Session
    planner: State
    fork: Fork
    stage: int
    plan: str
    cached: int
    calls: list[EngineCall]
    _offered: tuple[Sequence[SubtaskOutcome], asyncio.Task[Any]] | None = None
    _task: asyncio.Task[None] | None = None
    _since: float | None = None
    _computed: int = 0
    _evicted: bool = False

    @classmethod
    def of(
        cls,
        session: Session,
        planner: State,
        fork: Fork,
        step: Plan | Ask | Attempts,
        plan: str | None,
        stage: int,
        cached: int,
        calls: list[EngineCall],
    ) -> Self | None:
        """Return what computes the join of ``step``; None if the engine cannot, or the planner may not read all of it.

        What functions return has no token ids yet. A bound on requests is for those that the run needs.
        """
        if plan is None or not isinstance(step, Ask) or step.keep is not None or _ends_anyhow(step):
            return None
        if session.executor_engine is None or not session.engine.capabilities.caches_contexts:
            return None
        return None if session.ledger.bounds_calls else cls(session, planner, fork, stage, plan, cached, calls)

    def offer(self, leading: Sequence[SubtaskOutcome], until: asyncio.Task[Any]) -> None:
        """Compute the ``leading`` results soon, unless the next execution in prompt order, ``until``, ends first."""
        if not leading or self._evicted:
            return
        if self._since is None:
            self._since = self.session.clock.now()
        self._offered = leading, until
        if self._task is None or self._task.done():
            self._task = self.fork.start(self._work())

    async def finish(self) -> None:
        """Wait for the request that runs, and send no other."""
        self._offered = None
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        while self._offered is not None and not self._evicted:
            (leading, until), self._offered = self._offered, None
            longest = max(item.execution.ended - item.execution.started for item in leading)
            assert self._since is not None
            begin = self._since + GRACE * longest
            await asyncio.wait([until], timeout=max(0.0, begin - self.session.clock.now()))
            if not until.done():
                since, self._since = self._since, None  # what arrives meanwhile waits from its own arrival on
                if not await self._compute(leading):
                    self._since = since

    async def _compute(self, leading: Sequence[SubtaskOutcome]) -> bool:
        """Compute the join up to the end of ``leading``; return False if that is too little for a request."""
        state = self.planner.branch()
        await append_executions(self.session.dialect, state, self.stage, leading, plan=self.plan, more=True)
        context = _whole_pages(state.context, self.session.engine.capabilities.page_tokens)
        if len(context) - (self._computed or len(self.planner.context)) < LEAST_TOKENS:
            return False
        with suppress(SprintError):  # the next plan's request then computes the join
            call = self.session.call(state.branch(context), None, max_tokens=0, stage=self.stage)
            async with call as generation:
                await generation.drain()
            self.calls.append(call.record())
            self._evicted = generation.cached_tokens < self.cached - self.session.engine.capabilities.page_tokens
            self._computed = self.cached = len(context)
        return True


def _ends_anyhow(step: Ask) -> bool:
    """Say whether any execution may end the stage, so that the planner may not read the first ones of the plan."""
    return step.accept is not None and not Settles.of(step.accept).in_order


def _whole_pages(context: Context, page: int) -> Context:
    """Return the beginning of ``context`` that a cache of whole pages keeps; the next request computes the rest."""
    rest = len(context) % page
    return Context().extend(context.flatten()[:-rest], "") if rest else context
