"""A run with a reviewer, notes, hooks and a validator, resumed from a journal that was cut after any of its records."""

from pathlib import Path

import pytest

from sprint_agents import Executor, Hooks, Plan, Planner, Run, Sprint, Steering
from sprint_agents.errors import ModelRetry
from sprint_agents.testing import FakeEngine, Prompt

NOTE = "Count the windows, too."


def count(prompt: Prompt) -> str:
    """Return a number from what the context says, so that another context shows in the results."""
    return f'{{"result": {len(prompt.text) % 97}}}'


def plan(prompt: Prompt) -> str:
    return '{"subtasks": [{"prompt": "windows"}]}' if NOTE in prompt.text else '{"subtasks": [{"prompt": "lamps"}]}'


REPLIES = {
    "executor": count,
    "planner, stage 1": '{"subtasks": [{"prompt": "doors"}, {"prompt": "chairs"}]}',
    "planner, stage 2": plan,
    "planner, stage 3": lambda prompt: '{"answer": 8}' if "is odd" in prompt.text else '{"answer": 7}',
    "planner": '{"answer": 8}',
}


def refuse_odd(answer: int) -> None:
    if answer % 2:
        raise ModelRetry(f"{answer} is odd")


async def review(plan: Plan) -> Plan | None:
    return Plan.of("doors", "tables", "stairs") if len(plan.subtasks) == 2 else None


def solve(path: Path, *, note: bool) -> tuple[Run[int, int], int]:
    engine, steering = FakeEngine(REPLIES), Steering()
    if note:
        steering.say(NOTE)
    sprint = Sprint(
        engine,
        planner=Planner(int, validator=refuse_odd),
        executor=Executor(int),
        hooks=Hooks(before_stage=lambda step: None, after_execution=lambda execution: None),
        dialect="json",
    )
    return sprint.run_sync("Count.", journal=path, review=review, steering=steering), len(engine.requests)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    path = tmp_path_factory.mktemp("whole") / "journal"
    solve(path, note=True)
    return path.read_bytes().splitlines(keepends=True)


def test_it_ends_as_if_it_had_not_been_interrupted(lines: list[bytes], tmp_path: Path) -> None:
    whole, requests = solve(tmp_path / "whole", note=True)
    assert [[execution.prompt for execution in stage.executions] for stage in whole.stages] == [
        ["doors", "tables", "stairs"],
        ["windows"],
        [],
        [],
    ]
    assert whole.answer == 8
    sent: list[int] = []
    for cut in range(1, len(lines) + 1):
        path = tmp_path / str(cut)
        path.write_bytes(b"".join(lines[:cut]))
        read = any(b'"kind":"notes"' in line for line in lines[:cut])
        run, again = solve(path, note=not read)
        assert (run.answer, run.transcript) == (8, whole.transcript), cut
        assert run.usage.total_tokens >= whole.usage.total_tokens, cut  # what was paid but not recorded is paid again
        sent.append(again)
    assert sent == sorted(sent, reverse=True)
    assert (sent[0], sent[-1]) == (requests, 0)
