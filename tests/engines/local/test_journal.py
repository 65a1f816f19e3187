"""Journals on the embedded engine: a killed and resumed run is the uninterrupted one, token for token."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sprint_agents import Sampling, Sprint
from sprint_agents.engines.local import LocalEngine
from sprint_agents.nano import nano_path

pytestmark = pytest.mark.local

TASK = "countdown 20 3 15 45"


async def solve(path: Path | None, *, cancel_after: int = 0, early: bool = False) -> Any:
    """Run greedily in a new engine; cancel it when that many executions have finished.

    Only with ``early`` may stages end early, for then the engine's speed decides what their cut-off executions cost.
    """
    async with LocalEngine(nano_path(), threads=1) as engine:
        sprint = Sprint(engine, sampling=Sampling(temperature=0), settles=None if early else False)
        if not cancel_after:
            return await sprint.run(TASK, journal=path)
        finished = 0
        async with sprint.stream(TASK, journal=path) as events:
            async for event in events:
                finished += event.kind == "execution_finished"
                if finished == cancel_after:
                    return None
    return None


def records(path: Path) -> list[Any]:
    return [json.loads(line)["record"] for line in path.read_text().splitlines()]


def test_a_run_that_was_cut_anywhere_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    whole = asyncio.run(solve(path))
    assert len(whole.stages[0].executions) > 1
    content = path.read_bytes()
    kinds = [record.get("kind") for record in records(path)]
    lines = content.splitlines(keepends=True)
    parts = [index for index, kind in enumerate(kinds) if kind in ("completion", "execution")]
    for kept in {*parts[:2], *parts[2::5]}:
        path.write_bytes(b"".join(lines[: kept + 1]) + lines[-1][:30])
        resumed = asyncio.run(solve(path))
        assert (resumed.transcript, resumed.answer) == (whole.transcript, whole.answer)
        assert resumed.usage.total_tokens == whole.usage.total_tokens
        assert [stage.results for stage in resumed.stages] == [stage.results for stage in whole.stages]


def test_a_run_that_was_cancelled_twice_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    whole = asyncio.run(solve(None))
    for executions in (1, 2):
        asyncio.run(solve(path, cancel_after=executions))
    resumed = asyncio.run(solve(path))
    assert (resumed.transcript, resumed.answer) == (whole.transcript, whole.answer)
    executed = [record for record in records(path) if record.get("kind") == "execution"]
    assert len(executed) == sum(len(stage.executions) for stage in whole.stages)


def test_a_run_whose_stages_end_early_reads_the_same_after_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    whole = asyncio.run(solve(path, early=True))
    assert any(stage.accepted is not None for stage in whole.stages)
    lines = path.read_bytes().splitlines(keepends=True)
    verdict = next(index for index, record in enumerate(records(path)) if record.get("kind") == "verdict")
    for kept in (verdict - 1, verdict):
        path.write_bytes(b"".join(lines[: kept + 1]))
        resumed = asyncio.run(solve(path, early=True))
        assert (resumed.transcript, resumed.answer) == (whole.transcript, whole.answer)
        assert [stage.accepted for stage in resumed.stages] == [stage.accepted for stage in whole.stages]
