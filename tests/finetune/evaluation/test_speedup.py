"""Replays of recorded runs: the same lengths, at the same time, on another engine."""

import asyncio
import json
from pathlib import Path

from typer.testing import CliRunner

from sprint_agents import Plan, Run, Sprint
from sprint_agents.dialects import PLAIN_TURNS
from sprint_agents.engine import Capabilities
from sprint_agents.engines import LocalEngine
from sprint_agents.nano import nano_path
from sprint_agents.plan import Answer
from sprint_agents.testing import FakeEngine, Latency
from sprint_finetune.cli.commands import app
from sprint_finetune.costs import BranchShape, RunShape, StageShape
from sprint_finetune.evaluation.speedup import Replay

SHAPE = RunShape(
    prompt_tokens=50,
    stages=(
        StageShape(
            tokens=30,
            branches=(
                BranchShape(plan_tokens=10, tokens=7),
                BranchShape(plan_tokens=20, tokens=9, after=(0,)),
                BranchShape(plan_tokens=30, tokens=5),
            ),
        ),
        StageShape(tokens=12),
    ),
)


def replay(engine: FakeEngine, shape: RunShape, **options: list[int]) -> None:
    async def main() -> None:
        async with engine:
            await (await Replay.on(engine)).run([shape], **options)

    asyncio.run(main())


def test_a_replay_has_the_lengths_and_the_order_of_the_run() -> None:
    engine = FakeEngine(lambda request: " w" * 1000, latency=Latency(token=1e-4))  # token by token
    replay(engine, SHAPE)
    assert SHAPE.total_tokens == 63
    plan, *executors, answer, chain = engine.requests
    assert (plan.generated_tokens, answer.generated_tokens, chain.generated_tokens) == (30, 12, 63)
    left = {one.prompt_tokens - plan.prompt_tokens: one for one in executors}  # where each leaves the plan
    assert {at: one.generated_tokens for at, one in left.items()} == {10: 7, 20: 9, 30: 5}
    assert left[20].started >= (left[10].ended or 0)
    assert answer.prompt_tokens == plan.prompt_tokens + 30 + 7 + 9 + 5
    assert chain.prompt_tokens == plan.prompt_tokens >= 50
    assert chain.cached_tokens < 10


def test_a_conversation_has_the_lengths_too_and_is_asked_to_go_on() -> None:
    engine = FakeEngine(lambda request: " w" * 10, capabilities=Capabilities(chat=PLAIN_TURNS))
    replay(engine, SHAPE)
    assert sum(one.generated_tokens for one in engine.requests) == 2 * SHAPE.total_tokens
    assert max(one.generated_tokens for one in engine.requests) == 11  # ten words, and the end of a turn


def test_chains_may_have_lengths_of_their_own() -> None:
    engine = FakeEngine(lambda request: " w" * 1000)
    replay(engine, SHAPE, chain_tokens=[20])
    assert engine.requests[-1].generated_tokens == 20


def test_a_completion_that_ends_early_is_continued() -> None:
    engine = FakeEngine(lambda request: " w" * 8)
    replay(engine, RunShape(prompt_tokens=5, stages=(StageShape(tokens=20),)))
    assert sum(one.generated_tokens for one in engine.requests) == 40


async def halves(planning):
    stage = yield Plan.of("one", "two")
    yield Answer(value=" and ".join(stage.results))


def test_a_run_in_which_no_model_wrote_has_no_shape() -> None:
    run = Sprint(FakeEngine({}), policy=halves, executor=lambda subtask: subtask.prompt).run_sync("Count.")
    assert RunShape.of(run) is None


def test_the_command_replays_a_recorded_run_on_a_real_engine(tmp_path: Path) -> None:
    runs, out = tmp_path / "runs.jsonl", tmp_path / "table.json"
    run = Sprint(LocalEngine(nano_path())).run_sync("countdown 3 7 25 46")
    shape = RunShape.of(run)
    assert shape is not None
    assert shape.total_tokens == run.usage.total_tokens
    runs.write_text(run.model_dump_json() + "\n")
    command = ["speedup", str(runs), "--at-once", "1", "--at-once", "2", "--twin", str(runs), "--out", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert [row["at_once"] for row in json.loads(out.read_text())] == [1, 2]
    assert all(row["speed_up"] > 0 for row in json.loads(out.read_text()))
    done = CliRunner().invoke(app, ["speedup", str(runs), "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr


def test_files_without_runs_of_a_model_are_refused(tmp_path: Path) -> None:
    runs = tmp_path / "runs.jsonl"
    runs.write_text(Run(id="1", task="a", policy="x").model_dump_json() + "\n")
    done = CliRunner().invoke(app, ["speedup", str(runs)])
    assert done.exit_code == 2
    assert "has no finished run in which a model wrote" in done.stderr.replace("\n", " ")
