"""Hidden reasoning, which some servers send apart, is shown in events; thoughts in the text leave earlier turns."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from sprint_agents import Answer, Planning, Policy, Sprint, Stage, Step
from sprint_agents.dialects.json.dialect import JsonDialect
from sprint_agents.engine import ChatTurns, Chunk, Request
from sprint_agents.events import Event, ExecutorWrote, PlannerWrote
from sprint_agents.testing import FakeEngine


class Reasoning(FakeEngine):
    """Thinks before each completion."""

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        first = True
        async for chunk in super().complete(request):
            yield replace(chunk, reasoning="hm" if first else "")
            first = False


def test_reasoning_is_in_the_events() -> None:
    replies = {
        "planner, stage 1": '{"subtasks": ["a", "b"]}',
        "executor": '{"result": "x"}',
        "planner, stage 2": '{"answer": "y"}',
    }

    async def watch() -> list[Event]:
        async with Sprint(Reasoning(replies), dialect="json").stream("Think.") as events:
            return [event async for event in events]

    written = [event for event in asyncio.run(watch()) if isinstance(event, PlannerWrote | ExecutorWrote)]
    assert [event.kind for event in written if event.reasoning].count("planner_wrote") == 2
    assert [event.kind for event in written if event.reasoning].count("executor_wrote") == 2


TURNS = ChatTurns(
    opens={name: f"<|{name}|>" for name in ("system", "user", "assistant")},
    closes=dict.fromkeys(("system", "user", "assistant"), "<|end|>\n"),
    thoughts="may",
    drops_thoughts=True,
)
OPEN = TURNS.model_copy(update={"thoughts": "open", "opens": {**TURNS.opens, "assistant": "<|assistant|><think>\n"}})
THINKING = {
    "planner, stage 1": '<think>how?</think>\n\n{"subtasks": ["a", "b"]}',
    "executor": '<think>x!</think>{"result": "x"}',
    "planner, stage 2": '<think>so</think>{"answer": "y"}',
}


def thinking(turns: ChatTurns, *, policy: Policy | str = "interleaved") -> Sprint[str, str]:
    replies = THINKING
    if turns.thoughts == "open":
        replies = {key: reply.removeprefix("<think>") for key, reply in THINKING.items()}
    return Sprint(FakeEngine(replies), dialect=JsonDialect(turns), policy=policy)


async def late(planning: Planning) -> AsyncGenerator[Step, Stage[str]]:
    """Joins the first stage after the planner was asked again."""
    yield planning.ask(wait=False)
    stage = yield planning.ask()
    yield Answer(value=stage.answer)


class TestEarlierTurns:
    @pytest.mark.parametrize("turns", [TURNS, OPEN])
    def test_lose_their_thoughts_if_the_template_drops_them(self, turns: ChatTurns) -> None:
        run = asyncio.run(thinking(turns).run("Think."))
        assert run.answer == "y"
        mark = "<think>\n</think>\n\n" if turns is OPEN else ""
        assert f'<|assistant|>{mark}{{"subtasks": ["a", "b"]}}<|end|>' in run.transcript
        assert run.transcript.count(f'<|assistant|>{mark}{{"result": "x"}}<|end|>') == 2
        assert not any(thought in run.transcript for thought in ("how?", "x!", "so"))

    @pytest.mark.parametrize("turns", [TURNS, OPEN])
    def test_count_as_reasoning(self, turns: ChatTurns) -> None:
        run = asyncio.run(thinking(turns).run("Think."))
        calls = [call for stage in run.stages for call in stage.calls]
        calls += [call for stage in run.stages for execution in stage.executions for call in execution.calls]
        assert len(calls) == 4
        assert all(0 < call.usage.reasoning_tokens < call.usage.generated_tokens for call in calls)
        assert run.usage.reasoning_tokens == sum(call.usage.reasoning_tokens for call in calls)

    def test_keep_them_otherwise(self) -> None:
        run = asyncio.run(thinking(TURNS.model_copy(update={"drops_thoughts": False})).run("Think."))
        assert all(thought in run.transcript for thought in ("how?", "x!", "so"))

    def test_lose_them_in_a_pending_stage(self) -> None:
        run = asyncio.run(thinking(TURNS, policy=late).run("Think."))
        assert run.answer == "y"
        assert "how?" not in run.transcript

    @pytest.mark.parametrize("turns", [TURNS, OPEN])
    def test_are_the_same_after_a_resume(self, turns: ChatTurns, tmp_path: Path) -> None:
        journal = tmp_path / "run.jsonl"
        whole = asyncio.run(thinking(turns).run("Think.", journal=journal))
        lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
        for kept in range(2, len(lines)):
            journal.write_text("".join(lines[:kept]), encoding="utf-8")
            assert asyncio.run(thinking(turns).run("Think.", journal=journal)).transcript == whole.transcript
