"""The picture of a run after every event."""

import asyncio
import io
from pathlib import Path

import pytest
from rich.console import Console

from sprint_agents import Budget, FailurePolicy, Sprint
from sprint_agents.cli.display import Lines, draw_run, last_lines
from sprint_agents.cli.engines import recorded_engine
from sprint_agents.cli.progress import RunProgress
from sprint_agents.cli.run import show
from sprint_agents.engine import Capabilities
from sprint_agents.errors import SprintError
from sprint_agents.events import Event
from sprint_agents.testing import FakeEngine, Fault, Latency, Reply, run_virtual

TASK = "countdown 3 7 25 50 81"
WIDE = "".join(f"<prompt_1.{number}>part {number}</prompt_1.{number}>\n" for number in range(1, 65))


def events_of(sprint: Sprint, task: str = TASK, journal: Path | None = None) -> list[Event]:
    async def collect() -> list[Event]:
        seen: list[Event] = []
        async with sprint.stream(task, journal=journal) as events:
            try:
                async for event in events:
                    seen.append(event)  # noqa: PERF401
            except SprintError:
                pass
        return seen

    return run_virtual(collect())


def picture(progress: RunProgress, *, width: int = 100, height: int = 30) -> str:
    console = Console(record=True, force_terminal=True, width=width, height=height, file=io.StringIO())
    console.print(draw_run(progress, engine="fake"))
    return console.export_text()


def pictures(events: list[Event], *, width: int = 100, height: int = 30, every: int = 1) -> list[str]:
    """Draw the run after every so many events, and at its end."""
    progress, drawn = RunProgress(), []
    for number, event in enumerate(events, 1):
        progress.update(event)
        if number % every == 0 or event is events[-1]:
            drawn.append(picture(progress, width=width, height=height))
    return drawn


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_every_picture_of_a_running_run_fits_the_screen(width: int, height: int) -> None:
    events = events_of(Sprint(recorded_engine(paced=True)))
    for drawn in pictures(events, width=width, height=height, every=53)[:-1]:
        assert len(drawn.splitlines()) <= height
        assert max(map(len, drawn.splitlines())) <= width


def test_branches_are_side_by_side_with_their_text() -> None:
    drawn = pictures(events_of(Sprint(recorded_engine(paced=True))), every=53)
    running = next(text for text in drawn if "6 subtasks: 6 running" in text)
    (row,) = (line for line in running.splitlines() if "1.2 " in line)
    assert "▸ 1.1 50 + 25" in row
    assert "▸ 1.2 50 - 25" in row
    assert "Sums and differences first:" in running
    assert "81 no" in running
    mixed = [text for text in drawn if "finished," in text and "running" in text]
    assert any("✓ 1.1 50 + 25" in text and "▸ 1.12 7 - 3" in text for text in mixed)


def test_the_last_picture_sums_the_run_up() -> None:
    events = events_of(Sprint(recorded_engine()), task="countdown 3 7 25 46")
    last = pictures(events)[-1]
    assert "✓ 1.1 25 + 7 → none" in last
    assert "answer  25+(7*3)  (right, a program checked it)" in last
    usage = events[-1].run.usage
    words = " ".join(line.strip(" │├└─") for line in last.splitlines())
    assert f"{usage.total_tokens:,} tokens, {usage.sequential_tokens_strict:,} in sequence" in words
    assert f"speed-up {usage.total_tokens / usage.sequential_tokens_strict:.1f}" in words


def test_a_wide_plan_is_cut_to_the_screen_and_says_so() -> None:
    replies = {"": f"<Plan_1>\n{WIDE}</Plan_1>", "<execution_1.": "one two three</execution_1."}
    engine = FakeEngine({**replies, "</Execution_1>": "<Final_answer>4</Final_answer>"}, latency=Latency(token=0.01))
    drawn = pictures(events_of(Sprint(engine), "any task"), width=80, height=24, every=53)
    running = [text for text in drawn[:-1] if "more" in text]
    assert running
    assert all(len(text.splitlines()) <= 24 for text in drawn[:-1])
    assert all(f"1.{number} part" in drawn[-1] for number in range(1, 65))


def test_retries_and_failures_show() -> None:
    plan = "<Plan_1>\n<prompt_1.1>go</prompt_1.1>\n<prompt_1.2>stay</prompt_1.2>\n</Plan_1>"
    script = {"": plan, "<execution_1.2>": "b</execution_1.2>", "<execution_1.1>": Reply("a", fault=Fault.drop())}
    engine = FakeEngine({**script, "</Execution_1>": "<Final_answer>4</Final_answer>"}, faults={3: Fault.drop()})
    failure = FailurePolicy(mode="retry", attempts=2)
    drawn = pictures(events_of(Sprint(engine, failure=failure), "any task"))
    assert any("(try 2)" in text for text in drawn)
    assert "✗ 1.1 go (try 2) → Eng" in drawn[-1]
    assert "✓ 1.2 stay (try 2) → b" in drawn[-1]


def test_waits_for_the_budget_show_until_they_end() -> None:
    reply = Reply("go " * 30 + "</execution_", delay=5)
    replies = {"": f"<Plan_1>{WIDE}</Plan_1>", "<execution_1.": reply, "</Execution_1>": r"\boxed{1}"}
    engine = FakeEngine(replies, capabilities=Capabilities())  # it cannot continue a completion
    events = events_of(Sprint(engine, budget=Budget(tokens=12_000)))
    drawn = pictures(events, every=20, height=60)
    assert any("waits for the budget" in each for each in drawn)
    assert "waits for the budget" not in drawn[-1]
    written = io.StringIO()
    lines = Lines(Console(file=written), engine="fake")
    for event in events:
        lines.show(event)
    assert "waits for the budget  (" in written.getvalue()


def test_a_failed_run_shows_its_branches_as_stopped() -> None:
    plan = "<Plan_1>\n<prompt_1.1>go</prompt_1.1>\n<prompt_1.2>stay</prompt_1.2>\n</Plan_1>"
    engine = FakeEngine([plan, "a", "b"], faults={2: Fault.hang(), 3: Fault.drop()})
    drawn = pictures(events_of(Sprint(engine, failure="fail_fast"), "any task"))
    assert "■ 1.1 go" in drawn[-1]
    assert "no answer: ExecutionFailed" in drawn[-1]


def test_a_replayed_stage_looks_like_it_did(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    task = "countdown 3 7 25 46"
    sprint = Sprint(recorded_engine())
    first = pictures(events_of(sprint, task, journal))[-1]
    again = pictures(events_of(sprint, task, journal))[-1]
    assert "from the journal" in again
    assert again.replace(" · from the journal", "").splitlines()[:-2] == first.splitlines()[:-2]


def test_model_text_cannot_control_the_terminal() -> None:
    assert last_lines("\x1b[2Jgone\x07\r\n[bold]kept[/bold]\n</Plan_", count=3) == ["[2Jgone", "[bold]kept[/bold]"]
    engine = FakeEngine("<Final_answer>\x1b[31mred [bold]x[/bold]</Final_answer>")
    last = pictures(events_of(Sprint(engine), "any task"))[-1]
    assert "answer  [31mred [bold]x[/bold]" in last


def test_a_task_and_a_model_cannot_control_the_terminal() -> None:
    name, task = "model\x1b]52;c;aGk=\x07", "any\x1b[2J task\rof\nmine"
    events = events_of(Sprint(FakeEngine("<Final_answer>1</Final_answer>")), task)
    written, progress = io.StringIO(), RunProgress()
    lines = Lines(Console(file=written), engine=name)
    for event in events:
        lines.show(event)
        progress.update(event)
    console = Console(record=True, force_terminal=True, width=100, file=io.StringIO())
    console.print(draw_run(progress, engine=name))
    for shown in (written.getvalue(), console.export_text()):
        assert shown.splitlines()[0].rstrip() == "any[2J task of mine  interleaved on model]52;c;aGk="
        assert "\x1b" not in shown


def test_show_draws_on_a_terminal_and_leaves_the_last_picture() -> None:
    console = Console(record=True, force_terminal=True, width=100, height=30, file=io.StringIO())
    run = asyncio.run(show(Sprint(recorded_engine()), "countdown 3 7 25 46", console=console))
    assert run.verified
    assert "answer  25+(7*3)" in console.export_text()


def test_show_draws_nothing_for_a_task_that_cannot_start() -> None:
    console = Console(record=True, force_terminal=True, width=100, height=30, file=io.StringIO())
    with pytest.raises(SprintError):
        asyncio.run(show(Sprint(recorded_engine()), "a poem", console=console))
    assert console.export_text() == ""
