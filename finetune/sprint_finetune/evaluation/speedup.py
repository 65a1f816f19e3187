"""The speed-up that planning brings on an engine: recorded runs are replayed there by their lengths alone.

The time of a run depends on how many tokens its planner and its executors write, on when each prompt is closed, and on
what waits for what. A ``RunShape`` is just that. A replay writes as many tokens on another engine, in the same order
and side by side, whatever the tokens are, and then as many tokens in one chain. So no model needs to be trained to
learn what it would gain by planning, and engines and sizes of models can be compared.

Left out is what an engine does not compute: tools, functions, and the time of the library itself. An execution counts
as one completion, even if it called tools or was a run of its own.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Self

from sprint_agents import Sampling
from sprint_agents.context import Context
from sprint_agents.engine import Engine
from sprint_agents.errors import ConfigurationError
from sprint_agents.markup import markup
from sprint_agents.state import State
from sprint_finetune.costs import BranchShape, RunShape

_END_MARKS = ("<|im_end|>", "<|endoftext|>", "</s>", "<|eot_id|>", "<|end_of_text|>", "<｜end▁of▁sentence｜>", "<eos>")
"""How models end a text. They are banned, so that a completion has the length of the recorded one."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many seconds a replay took: as planned, and as chains of as many tokens."""

    planned: float
    chains: float

    @property
    def speed_up(self) -> float:
        """How many times as fast the plans were."""
        return self.chains / self.planned


class Replay:
    """Replays shapes on an engine; ``await Replay.on(engine)`` makes one."""

    def __init__(self, engine: Engine, sampling: Sampling) -> None:
        self._engine = engine
        self._sampling = sampling
        self._count = 0

    @classmethod
    async def on(cls, engine: Engine) -> Self:
        """Prepare an engine.

        Raises:
            ConfigurationError: the engine takes conversations, which cannot be continued token by token.
        """
        if not engine.capabilities.continues:
            raise ConfigurationError(
                f"{engine.name} does not continue a text token by token: replay on the embedded engine or on SGLang"
            )
        encoded = [await engine.encode(markup(mark)) for mark in _END_MARKS]
        return cls(engine, Sampling(temperature=0, logit_bias={ids[0]: -100 for ids in encoded if len(ids) == 1}))

    async def run(self, shapes: Sequence[RunShape], *, chain_tokens: Sequence[int] | None = None) -> Replayed:
        """Replay shapes, all at once, as planned and as chains. Every other replay begins with the chains.

        By default a chain has as many tokens as its run. A model that reasons in a chain may need fewer or more, so
        pass ``chain_tokens`` if you know them.

        Raises:
            EngineError: the engine failed.
        """
        lengths = chain_tokens or [shape.total_tokens for shape in shapes]
        seconds: dict[bool, float] = {}
        self._count += 1
        for planned in (True, False) if self._count % 2 else (False, True):
            states = [await self._prompted(shape) for shape in shapes]
            if planned:
                work = [_plan(state, shape) for state, shape in zip(states, shapes, strict=True)]
            else:
                work = [_write(state, tokens) for state, tokens in zip(states, lengths, strict=True)]
            started = time.perf_counter()
            await asyncio.gather(*work)
            seconds[planned] = time.perf_counter() - started
        return Replayed(planned=seconds[True], chains=seconds[False])

    async def _prompted(self, shape: RunShape) -> State:
        """Return a state with a prompt of about the recorded length, which no cache knows."""
        state = State(self._engine, sampling=self._sampling)
        await state.append(secrets.token_hex(4))
        while (missing := shape.prompt_tokens - len(state.context)) > 0:
            await state.append(" and so on" * max(1, missing // 4))
        return state


async def _plan(state: State, shape: RunShape) -> None:
    for stage in shape.stages:
        order = sorted(range(len(stage.branches)), key=lambda index: stage.branches[index].plan_tokens)
        executions = [_Execution(state, branch) for branch in stage.branches]
        async with asyncio.TaskGroup() as group:
            async for written, context in _written(state, stage.tokens):
                while order and stage.branches[order[0]].plan_tokens <= written:
                    group.create_task(executions[order.pop(0)].run(await context(), executions))
            for index in order:
                group.create_task(executions[index].run(state.context, executions))
        for execution, branch in zip(executions, stage.branches, strict=True):
            if branch.joins:
                execution.join()


class _Execution:
    """A branch of ``planner``, which joins it with what it has written."""

    def __init__(self, planner: State, shape: BranchShape) -> None:
        self._planner = planner
        self._branch = planner.branch()
        self._shape = shape
        self._done = asyncio.Event()
        self._start = planner.context

    async def run(self, start: Context, siblings: "Sequence[_Execution]") -> None:
        """Write the tokens, from ``start``, after the siblings that it waits for."""
        for index in self._shape.after:
            await siblings[index]._done.wait()
        self._branch.context = self._start = start
        await _write(self._branch, self._shape.tokens)
        self._done.set()

    def join(self) -> None:
        """Append what was written to the planner's context."""
        written = self._branch.context
        self._planner.context = self._planner.context.extend(
            written.ids_since(self._start), written.text_since(self._start)
        )


async def _write(state: State, tokens: int) -> None:
    async for _ in _written(state, tokens):
        pass


async def _written(state: State, tokens: int) -> AsyncIterator[tuple[int, Callable[[], Awaitable[Context]]]]:
    """Write tokens, and yield how many are written, and a function that returns the context up to there.

    A completion that ends early is continued by another one.
    """
    before = 0
    while before < tokens:
        async with state.stream(max_tokens=tokens - before) as generation:
            async for _ in generation:
                yield before + generation.tokens, lambda: generation.cut(len(generation.text))
        if not generation.tokens:
            return
        before += generation.tokens
