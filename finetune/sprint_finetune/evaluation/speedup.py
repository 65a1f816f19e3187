"""The speed-up that planning brings on an engine: recorded runs are replayed there by their lengths alone.

The time of a run depends on how many tokens its planner and its executors write, on when each prompt is closed, and on
what waits for what. A ``RunShape`` is just that. A replay writes as many tokens on another engine, in the same order
and side by side, whatever the tokens are, and then as many tokens in one chain. So no model needs to be trained to
learn what it would gain by planning, and engines and sizes of models can be compared.

Where an engine takes conversations, each plan, execution and chain is a turn of the assistant. The marks of turns come
on top of the recorded lengths, and so does a short turn of the user's before each.

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
from sprint_agents.engine import ChatTurns, Engine
from sprint_agents.markup import PromptText, compose, markup
from sprint_agents.state import State
from sprint_finetune.costs import BranchShape, RunShape

_END_MARKS = ("<|im_end|>", "<|endoftext|>", "</s>", "<|eot_id|>", "<|end_of_text|>", "<｜end▁of▁sentence｜>", "<eos>")
"""How models end a text. They are banned, so that a completion has the length of the recorded one."""

_FILLER = " and so on"
_FILLER_TOKENS = 3
_NEXT = "Go on."
"""What the user says before a turn that continues the run, where an engine takes conversations."""


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
        self._turns = None if engine.capabilities.continues else engine.capabilities.chat
        self._count = 0

    @classmethod
    async def on(cls, engine: Engine) -> Self:
        """Prepare an engine. One that takes conversations may have to be told itself that no text ends early."""
        if not engine.capabilities.continues:
            return cls(engine, Sampling(temperature=0))
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
            writers = [await self._prompted(shape) for shape in shapes]
            if planned:
                work = [_plan(writer, shape) for writer, shape in zip(writers, shapes, strict=True)]
            else:
                work = [writer.write(tokens) for writer, tokens in zip(writers, lengths, strict=True)]
            started = time.perf_counter()
            await asyncio.gather(*work)
            seconds[planned] = time.perf_counter() - started
        return Replayed(planned=seconds[True], chains=seconds[False])

    async def _prompted(self, shape: RunShape) -> "_Writer":
        """Return a writer after a prompt of about the recorded length, which no cache knows."""
        words = secrets.token_hex(4)
        if self._turns:  # whose ids are no tokens
            words += _FILLER * (shape.prompt_tokens // _FILLER_TOKENS)
        else:
            while (missing := shape.prompt_tokens - len(await self._engine.encode(words))) > 0:
                words += _FILLER * max(1, missing // (_FILLER_TOKENS + 1))
        writer = _Writer(State(self._engine, sampling=self._sampling), self._turns)
        await writer.begin(words)
        return writer


@dataclass(slots=True)
class _Writer:
    """Writes so many tokens into a state, in open turns of the model where the engine takes conversations."""

    state: State
    turns: ChatTurns | None

    async def begin(self, words: str) -> None:
        """Append the prompt."""
        await self.state.append(self._asked(words) if self.turns else words)

    async def continue_after(self, words: str) -> None:
        """In a conversation, end the model's turn, let the user say ``words``, and open another turn."""
        assert self.turns
        await self.state.append(compose([self.turns.close("assistant"), self._asked(words)]))

    def _asked(self, words: str) -> PromptText:
        assert self.turns
        return compose([self.turns.open("user"), words, self.turns.close("user"), self.turns.open("assistant")])

    async def write(self, tokens: int) -> None:
        """Write tokens."""
        async for _ in self.written(tokens):
            pass

    async def written(self, tokens: int) -> AsyncIterator[tuple[int, Callable[[], Awaitable[Context]]]]:
        """Write tokens, and yield how many are written, and a function that returns the context up to there.

        A completion that ends early is continued by another one.
        """
        before = 0
        while before < tokens:
            async with self.state.stream(max_tokens=tokens - before) as generation:
                async for _ in generation:
                    yield before + generation.tokens, lambda: generation.cut(len(generation.text))
            if not generation.tokens:
                return
            before += generation.tokens
            if before < tokens and self.turns:
                await self.continue_after(_NEXT)

    async def join(self, executions: "Sequence[_Execution]") -> None:
        """Append what the executions wrote."""
        if self.turns:
            if executions:
                await self.continue_after("\n".join(execution.result[1] for execution in executions))
        else:
            for execution in executions:
                self.state.context = self.state.context.extend(*execution.result)


async def _plan(planner: _Writer, shape: RunShape) -> None:
    for stage in shape.stages:
        order = sorted(range(len(stage.branches)), key=lambda index: stage.branches[index].plan_tokens)
        executions = [_Execution(planner, branch) for branch in stage.branches]
        async with asyncio.TaskGroup() as group:
            async for written, context in planner.written(stage.tokens):
                while order and stage.branches[order[0]].plan_tokens <= written:
                    group.create_task(executions[order.pop(0)].run(await context(), executions))
            for index in order:
                group.create_task(executions[index].run(planner.state.context, executions))
        await planner.join([execution for execution in executions if execution.shape.joins])


class _Execution:
    """A branch of ``planner``, as long as ``shape`` says."""

    def __init__(self, planner: _Writer, shape: BranchShape) -> None:
        self.shape = shape
        self._writer = _Writer(planner.state.branch(), planner.turns)
        self._done = asyncio.Event()
        self._start = planner.state.context

    async def run(self, start: Context, siblings: "Sequence[_Execution]") -> None:
        """Write the tokens, from ``start``, after the siblings that it waits for."""
        for index in self.shape.after:
            await siblings[index]._done.wait()
        self._writer.state.context = start
        if self._writer.turns:
            await self._writer.continue_after(_NEXT)
        self._start = self._writer.state.context
        await self._writer.write(self.shape.tokens)
        self._done.set()

    @property
    def result(self) -> tuple[list[int], str]:
        """The ids and the text that it wrote."""
        written = self._writer.state.context
        return written.ids_since(self._start), written.text_since(self._start)
