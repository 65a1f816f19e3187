"""Sixteen siblings on a prefix: what each real engine computes of it."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from environments.real.llama_cpp import LlamaCppServer, Options
from sprint_agents import Answer, Executor, Limits, Plan, Planning, Run, Sprint, Stage, Step
from sprint_agents.engine import Engine
from sprint_agents.engines import LocalEngine, OpenAIEngine

from .program import GREEDY

WIDTH = 16
SLOTS = 4
TASK = "The quick brown fox jumps over the lazy dog near the river bank. " * 4


async def wide(planning: Planning) -> AsyncGenerator[Step, Stage[str]]:
    yield Plan.of(*(f"Part {number}" for number in range(WIDTH)))
    yield Answer(value="done")


async def fan_out(engine: Engine) -> Run[str, str]:
    executor = Executor(str, attempts=1)
    async with engine:  # type: ignore[attr-defined]
        limits = Limits(execution_tokens=1)
        return await Sprint(engine, policy=wide, executor=executor, limits=limits, sampling=GREEDY).run(TASK)


def assert_shared(run: Run[str, str]) -> None:
    """One request, the first sibling's or a commit, computed what all siblings begin with, and each the rest."""
    costs = [execution.usage for execution in run.stages[0].executions]
    most = 2 * min(cost.prompt_tokens for cost in costs) // 3
    first, *others = sorted((cost.prompt_tokens - cost.cached_tokens for cost in costs), reverse=True)
    assert len(others) == WIDTH - 1
    # A slot that a sibling has used ends with that one's turn, so the next one computes the plan from there on as well:
    # on a busy machine about half of its prompt.
    assert others[0] < most
    committed = run.usage.recomputed_tokens - first - sum(others)
    assert committed <= max(cost.prompt_tokens for cost in costs)
    assert first < most or not committed


def openai(server: LlamaCppServer) -> OpenAIEngine:
    return OpenAIEngine(f"{server.url}/v1", model=server.name, server="llama.cpp")


@pytest.fixture(scope="module")
def copying(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCppServer]:
    directory = tmp_path_factory.mktemp("slots")
    with LlamaCppServer(gguf, Options(context=SLOTS * 1024, slots=SLOTS, save_path=str(directory))) as server:
        yield server


def test_the_embedded_engine_computes_the_prefix_once(checkpoint: Path) -> None:
    assert_shared(asyncio.run(fan_out(LocalEngine(checkpoint))))


def test_slots_that_can_be_copied_compute_the_prefix_once(copying: LlamaCppServer) -> None:
    assert_shared(asyncio.run(fan_out(openai(copying))))
