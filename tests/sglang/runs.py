"""Tasks for whole runs, and the tokens that their executors computed.

Where tests compare a run's counts with the server's, no stage ends early (``settles=False``): what the server
computed for an execution that was cut off is known only if it had a first token.
"""

import itertools
from collections.abc import Iterable

from sprint_agents import Run, Sampling, Stage
from sprint_agents.engines.sglang import SGLangEngine
from sprint_finetune.nano.countdown import problems

GREEDY = Sampling(temperature=0)
"""Requests that run together round differently from one alone. Greedy runs of this model are the same nevertheless: in
float32, the difference is thousands of times smaller than the distance between its two likeliest tokens' logits."""
HEADER = "\n<execution_1.1>\n"
REST = "1.1>"


def held_out(count: int, *, seed: int, numbers: int = 3) -> list[str]:
    """Different problems that the model was not trained on."""
    drawn = (task.prompt for task, _ in problems(seed=seed, split="held_out", counts=(numbers,)))
    return list(itertools.islice(dict.fromkeys(itertools.islice(drawn, 2 * count)), count))


def computed(stage: Stage) -> list[int]:
    """Return each executor's prompt tokens that were not cached."""
    return [execution.usage.prompt_tokens - execution.usage.cached_tokens for execution in stage.executions]


def assert_written_is_read_once(runs: Iterable[Run], *, most: int) -> None:
    """One executor at a time reads what the planner wrote since the last one did; each computes ``most`` of its own."""
    for stage in (stage for run in runs for stage in run.stages if stage.executions):
        written = max(execution.plan_tokens for execution in stage.executions)
        assert sum(computed(stage)) <= written + most * len(stage.executions)


async def most_of_its_own(engine: SGLangEngine) -> int:
    """Return how many tokens a branch may compute: the rest of its prompt's closing tag, and its header."""
    return len(await engine.encode(REST)) + len(await engine.encode(HEADER)) + 4  # two-digit numbers take more
