"""The dialect that ``docs/dialects.md`` shows, in whole runs."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents import Answer, Executor, Plan, Planner, Sprint
from sprint_agents.dialects.base import Dialect
from sprint_agents.dialects.completions import PlanReader
from sprint_agents.events import ExecutionFinished, PlannerWrote, SubtaskStarted
from sprint_agents.policies import interleaved
from sprint_agents.testing import FakeEngine, Latency, Reply, run_virtual

PAGE = Path(__file__).parents[2] / "docs" / "dialects.md"
(SHOWN,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "Checklist" in block]
shown: dict[str, Any] = {}
exec(SHOWN, shown)

REPLIES = {
    "## Plan 1": "- [ ] 3 + 7\n- [ ] 12 + 20\n---",
    "## Result 1.1": "10\n---",
    "## Result 1.2": Reply("32\n---", delay=1),
    "## Plan 2": "Answer: 42\n---",
}


def checklist() -> Dialect:
    return shown["ChecklistDialect"]()


def solve(replies: Any, **options: Any) -> tuple[Any, FakeEngine]:
    engine = FakeEngine(replies, latency=options.pop("latency", None))
    return run_virtual(Sprint(engine, dialect=checklist(), **options).run("Add.")), engine


def test_executors_read_the_plan_up_to_their_own_line() -> None:
    run, engine = solve(REPLIES, planner=Planner(int), executor=Executor(int), latency=Latency(token=0.01))
    assert (run.answer, run.stages[0].results) == (42, [10, 32])
    contexts = sorted((record.request.context.text for record in engine.requests), key=len)
    assert contexts[1:3] == [
        "# Add.\n## Plan 1\n- [ ] 3 + 7\n---\n## Result 1.1\n",
        "# Add.\n## Plan 1\n- [ ] 3 + 7\n- [ ] 12 + 20\n---\n## Result 1.2\n",
    ]


def test_a_subtask_starts_while_the_plan_is_written() -> None:
    engine = FakeEngine({**REPLIES, "## Result 1.2": "32\n---"}, latency=Latency(token=1.0))

    async def watch() -> list[Any]:
        async with Sprint(engine, dialect=checklist()).stream("Add.") as stream:
            return [event async for event in stream]

    events = run_virtual(watch())
    started = next(i for i, event in enumerate(events) if isinstance(event, SubtaskStarted))
    written = "".join(event.text for event in events[:started] if isinstance(event, PlannerWrote))
    assert written == "- [ ] 3 + 7\n"
    finished = next(i for i, event in enumerate(events) if isinstance(event, ExecutionFinished))
    assert any(isinstance(event, PlannerWrote) and event.stage == 1 for event in events[finished:])


def test_invalid_results_are_corrected() -> None:
    replies = [REPLIES["## Plan 1"], "ten\n---", "32\n---", "10\n---", REPLIES["## Plan 2"]]
    run, engine = solve(replies, executor=Executor(int))
    assert run.stages[0].results == [10, 32]
    assert any("ten\n---\nInvalid: it is no int" in record.request.context.text for record in engine.requests)


def test_a_policys_plan_with_dependencies_and_functions() -> None:
    async def halves(planning: Any) -> Any:
        stage = yield Plan.of("3 + 7", "12 + 20", after={2: [1]}, text="two halves")
        yield Answer(value=str(sum(stage.results)))

    run, engine = solve(REPLIES, policy=halves, executor=Executor(int))
    assert run.answer == "42"
    plan = "# Add.\n## Plan 1\ntwo halves\n- [ ] 3 + 7\n- [ ] 12 + 20"
    assert engine.requests[-1].request.context.text == plan + "\n---\n## Result 1.1\n10\n---\n## Result 1.2\n"
    assert run.transcript == plan + "\n---\n## Result 1.1\n10\n---\n## Result 1.2\n32\n---\n"
    run, _ = solve(REPLIES, executor=lambda subtask: len(subtask.prompt))
    assert "## Result 1.1\n5\n---\n## Result 1.2\n7\n---\n## Plan 2\n" in run.transcript


def test_a_subtask_may_be_planned_itself() -> None:
    async def nesting(planning: Any) -> Any:
        stage = yield planning.ask(nested=interleaved)
        while stage.answer is None:
            stage = yield planning.ask()
        yield Answer(value=stage.answer)

    replies = ["- [ ] everything\n---", "- [ ] a half\n---", "10\n---", "32\n---", "Answer: 42\n---"]
    run, _ = solve(replies, policy=nesting, executor=Executor(int))
    assert (run.answer, run.stages[0].results) == ("42", [32])


@pytest.mark.parametrize("form", ["plan", "chain", "answer"])
@given(st.lists(st.sampled_from(["- [ ] ", "a", "\n", "Answer: ", "---", " "])), st.lists(st.integers(0, 60)))
def test_subtasks_do_not_depend_on_the_chunks(form: Any, parts: list[str], places: list[int]) -> None:
    text = "".join(parts)
    cuts = sorted(place % (len(text) + 1) for place in places)
    chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    def read(chunks: list[str]) -> tuple[Any, ...]:
        reader: PlanReader = checklist().read_plan(1, form)
        return ([item for chunk in chunks for item in reader.feed(chunk)] + list(reader.close()), reader.answer)

    assert read(chunks) == read([text])
