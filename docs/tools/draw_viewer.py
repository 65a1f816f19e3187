"""Draw docs/viewer.png: the run viewer on simulated runs, photographed in Chromium.

    pip install playwright && apt install chromium
    python docs/tools/draw_viewer.py            # writes docs/viewer.png
    python docs/tools/draw_viewer.py --all OUT  # the page, and pictures of it: desktop and phone, light and dark

The runs take virtual time, so the picture is the same each time but for ids and dates.
"""

import argparse
import asyncio
import itertools
import random
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from sprint_agents import Answer, Budget, Executor, Limits, Plan, Planning, Run, Sprint, Stage, Step
from sprint_agents.errors import SprintError
from sprint_agents.testing import FakeEngine, Fault, Latency, Prompt, Reply, run_virtual
from sprint_agents.viewer import render_page

DOCS = Path(__file__).parents[1]
WORDS = ["evidence", "points", "one", "way", "and", "costs", "fall"]
TOPICS = ["wind", "solar", "tides", "storage", "the grid", "prices", "permits", "ports"]
LATENCY = Latency(request=0.05, prompt_token=0.0004, token=0.02)


def plan(stage: int, topics: list[str]) -> str:
    """Write a plan as a model would, with words around its prompts."""
    prompts = [
        f"Part {number} is about {topic}, which the others do not need.\n"
        f"<prompt_{stage}.{number}>Summarise what is known about {topic}.</prompt_{stage}.{number}>\n"
        for number, topic in enumerate(topics, 1)
    ]
    return f"<Plan_{stage}>\nThe question has {len(topics)} parts.\n{''.join(prompts)}That covers it.\n</Plan_{stage}>"


def script(seed: int, width: int) -> Any:
    """Return a scripted model that plans twice, then answers."""
    chance = random.Random(seed)  # noqa: S311 - it makes a picture
    lengths = {number: chance.randint(15, 110) for number in range(1, width + 1)}
    faults = iter([Fault.drop(after=12)] if seed == 2 else [])

    def respond(prompt: Prompt) -> Reply | str:
        text = prompt.text
        opened = text.rfind("<execution_")
        if opened >= 0 and "</execution_" not in text[opened:]:
            number = int(text[opened:].split(".")[1].split(">")[0])
            words = " ".join(itertools.islice(itertools.cycle(WORDS), lengths[number]))
            fault = next(faults, None) if number == 3 else None
            return Reply(f"{words}.", fault=fault)
        if "</Execution_2>" in text:
            return "<Final_answer>\nOffshore wind first: \\boxed{wind, then storage}\n</Final_answer>"
        if "</Execution_1>" in text:
            return plan(2, TOPICS[: max(2, width // 3)])
        return plan(1, TOPICS[:width])

    return respond


async def research(planning: Planning) -> AsyncGenerator[Step, Stage[Any]]:
    """Check three sources, then write, with a part that plans itself."""
    stage = yield Plan.of("read the report", "read the law", "compare them", after={3: (1, 2)})
    stage = yield Plan.of("write the first half", "write the second half", nested=halves)
    yield Answer(value=f"two halves, {len(stage.results)} written")


async def halves(planning: Planning) -> AsyncGenerator[Step, Stage[Any]]:
    """Write one half in three parts."""
    stage = yield Plan.of("draft", "check", "polish")
    yield Answer(value=" ".join(map(str, stage.results)))


async def look_up(source: str) -> str:
    """Look a source up."""
    await asyncio.sleep(0.4)
    return f"{source}: 4 of 5 agree"


def simulated_runs() -> list[Run[Any, Any]]:
    """Run everything that a picture should show: early starts, waits, retries, failures, tools, nested policies."""
    question = "Which form of renewable energy should a small coastal town invest in first, and why?"
    sprints: list[tuple[Sprint[Any, Any], str]] = [
        (Sprint(FakeEngine(script(1, 6), latency=LATENCY)), question),
        (Sprint(FakeEngine(script(2, 8), latency=LATENCY), failure="retry", limits=Limits(concurrency=4)), question),
        (Sprint(FakeEngine(script(3, 3), latency=LATENCY), budget=Budget(seconds=4)), "The same, in a hurry"),
    ]
    engine = FakeEngine(
        {
            "the report": [
                '{"call": [{"tool": "look_up", "arguments": {"source": "the report"}}]}',
                '{"result": "4 of 5"}',
            ],
            "the law": '{"result": "it says little"}',
            "compare them": '{"result": "they agree in all but one point"}',
            "draft": '{"result": "a draft of some length, with two open questions"}',
            "check": '{"result": "checked"}',
            "polish": '{"result": "polished"}',
        },
        latency=LATENCY,
    )
    tools = Executor(str, tools=[look_up])
    sprints.append(
        (Sprint(engine, policy=research, executor=tools, dialect="json"), "Compare the report with the law.")
    )
    return [run_virtual(solve(sprint, task)) for sprint, task in sprints]


async def solve(sprint: Sprint[Any, Any], task: str) -> Run[Any, Any]:
    """Return the run of a task, failed or not."""
    try:
        return await sprint.run(task)
    except SprintError as error:
        if error.run is None:
            raise
        return error.run


def photograph(page_file: Path, out: Path, *, width: int, height: int, dark: bool, steps: list[str]) -> None:
    """Open the page in Chromium, click on each of ``steps``, and save a picture."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", device_scale_factor=1
        )
        page.on("console", lambda message: print("console:", message.text))
        page.on("pageerror", lambda error: print("error:", error))
        page.goto(page_file.absolute().as_uri())
        for step in steps:
            page.locator(step).first.click()
        page.screenshot(path=out)
        browser.close()


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", type=Path)
    folder: Path | None = parser.parse_args().all
    (folder or Path("build")).mkdir(exist_ok=True)
    page = (folder or Path("build")) / "runs.html"
    page.write_text(render_page([run.model_dump_json() for run in simulated_runs()]), "utf-8")
    row = "g.row.execution"
    if folder is None:
        photograph(page, DOCS / "viewer.png", width=1360, height=640, dark=False, steps=[row])
        return
    for dark in (False, True):
        name = "dark" if dark else "light"
        photograph(page, folder / f"desktop-{name}.png", width=1360, height=760, dark=dark, steps=[row])
        photograph(page, folder / f"phone-{name}.png", width=390, height=844, dark=dark, steps=[])
    compare = ["tbody tr:nth-child(1) input", "tbody tr:nth-child(2) input"]
    photograph(page, folder / "compare.png", width=1360, height=760, dark=False, steps=compare)
    nested = ["tbody tr:nth-child(4) button", "g.row.execution[data-index='5']", "g.row.execution[data-index='5']"]
    photograph(page, folder / "nested.png", width=1360, height=760, dark=True, steps=nested)
    photograph(page, folder / "phone-details.png", width=390, height=844, dark=False, steps=["g.row.execution"])
    photograph(page, folder / "failed.png", width=1000, height=760, dark=False, steps=["tbody tr:nth-child(3) button"])


if __name__ == "__main__":
    main()
