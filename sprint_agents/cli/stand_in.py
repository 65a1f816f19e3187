"""A short program in the model's place: it writes real Countdown runs without any model, for a first look and for tests.

It knows nothing that the trained model knows: it searches, and is always right.
"""

import itertools
import re
from collections.abc import Iterator

from sprint_agents.dialect.tags import load_tags
from sprint_agents.manifest import Manifest, TaskRange
from sprint_agents.tasks import Countdown
from sprint_agents.testing import FakeEngine, Latency, Prompt

_TAGS = load_tags(1)
_MANIFEST = Manifest(
    model="the fake engine",
    tasks={Countdown.name: TaskRange(counts=(2, 3, 4), numbers=(1, 1000), targets=(1, 10_000))},
)
_SUBTASK = re.compile(r"(\d+)([-+*/])(\d+)</prompt_[\d.]+>\n<execution_[\d.]+>\n$")
_FOUND = re.compile(r"<execution_([\d.]+)>\n(?:(?!</execution).*\n)*?found (.+)\n")
_PLANS = {1: ("Sums and differences first:", "+-"), 2: ("Nothing found. Products and quotients next:", "*/")}

_Term = tuple[int, str]


def stand_in(*, paced: bool = False) -> FakeEngine:
    """Make an engine that understands Countdown with 2 to 4 numbers; ``paced`` takes 2 ms a token."""
    return FakeEngine(_write, latency=Latency(token=0.002) if paced else None, manifest=_MANIFEST)


def _write(prompt: Prompt) -> str:
    """Write what a model trained on such runs would."""
    text = prompt.text
    task = Countdown.parse(text.partition("\n")[0])
    assert task is not None  # the manifest lets nothing else in
    numbers = sorted(task.numbers, reverse=True)
    if match := _SUBTASK.search(text):
        return f"{_explore(numbers, match[0].split('<')[0], task.target)}{_TAGS.stops.execution[0]}"
    if text.endswith(f"{_TAGS.chain.open}\n"):
        openings = (step for _, signs in _PLANS.values() for step in _openings(numbers, signs))
        traces = [_explore(numbers, step, task.target) for step in openings]
        last = next((count for count, trace in enumerate(traces, 1) if "found" in trace), len(traces))
        chain = "".join(traces[:last])
        return f"{chain}{_TAGS.chain.close}\n{_answer(re.search('()found (.+)', chain))}"
    found, stage = _FOUND.search(text), text.count(_TAGS.stops.plan[0]) + 1
    if found or stage not in _PLANS or text.endswith(f"{_TAGS.answer.open}\n"):
        return _answer(found).removeprefix(f"{_TAGS.answer.open}\n" if text.endswith(f"{_TAGS.answer.open}\n") else "")
    return _plan(stage, _openings(numbers, _PLANS[stage][1]))
