"""What all runs compute together, against a commit for each executor that waits, and against nothing that is shared."""

import re

import pytest

from sprint_agents import Sprint
from sprint_agents.testing import Latency, Prompt, Reply, run_virtual

from .paged_cache import PagedEngine

EXECUTION = re.compile(r"<execution_(\d+)\.(\d+)>\n$")
STAGES, WIDTH = 2, 4


def respond(prompt: Prompt) -> Reply | str:
    """Plans of prompts and results of different lengths, which differ between runs."""
    text = prompt.text
    question = int(text.split()[1])
    if match := EXECUTION.search(text):
        stage, number = int(match[1]), int(match[2])
        return Reply(f"{stage} " * (3 + 5 * ((question + 3 * number) % 5)) + f"</execution_{stage}.{number}>")
    stage = text.count("</Plan_") + 1
    if stage > STAGES:
        return "<Final_answer>\n\\boxed{1}\n</Final_answer>"
    lengths = [1 + (question * number * stage) % 9 for number in range(1, WIDTH + 1)]
    prompts = (
        f"<prompt_{stage}.{number}>{'step ' * length}{stage}</prompt_{stage}.{number}>\n"
        for number, length in enumerate(lengths, 1)
    )
    return f"<Plan_{stage}>\nthinking {question}\n{''.join(prompts)}</Plan_{stage}>"


def computed(shares: str, *, at_once: int, page: int, pool: int | None) -> int:
    latency = Latency(token=0.01, prompt_token=0.001, request=0.002)
    engine = PagedEngine(respond, shares=shares, page=page, pool=pool, latency=latency)

    async def main() -> None:
        tasks = [f"question {number} " + f"{number} fact " * 30 for number in range(1, at_once + 1)]
        async with Sprint(engine).map(tasks, concurrency=at_once) as runs:
            errors = [run.error async for run in runs if run.error]
        assert errors == []

    run_virtual(main())
    return engine.computed


@pytest.mark.parametrize("page", [1, 16])
@pytest.mark.parametrize("at_once", [1, 8, 32])
def test_one_reader_costs_no_more_than_the_better_of_both(at_once: int, page: int) -> None:
    ways = ("one reads", "always", "never")
    ours, always, never = (computed(way, at_once=at_once, page=page, pool=None) for way in ways)
    assert ours <= min(always, never)


@pytest.mark.parametrize("page", [1, 16])
def test_in_a_small_cache_it_costs_hardly_more(page: int) -> None:
    """What is evicted there is a matter of luck, in all three ways."""
    ways = ("one reads", "always", "never")
    ours, always, never = (computed(way, at_once=8, page=page, pool=2560) for way in ways)
    assert ours <= 1.08 * min(always, never)
