"""A short program in the model's place: it writes true Countdown runs, for a first look and for tests.

It knows nothing of what the trained model has learned: it searches, and is always right.
"""

import itertools
import re
from collections.abc import Iterator, Sequence

from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.manifest import Manifest
from sprint_agents.nano.tasks import Countdown
from sprint_agents.testing import FakeEngine, Latency, Prompt

_TAGS = load_tags(1)
_MANIFEST = Manifest(
    model="the fake engine",
    tasks={Countdown.name: {"counts": [2, 3, 4], "numbers": [1, 1000], "targets": [1, 10_000]}},
)
_PLANS = (("Sums and differences first:", "+-"), ("Nothing found. Products and quotients next:", "*/"))
_SUBTASK = re.compile(r"<prompt_[\d.]+>(\S+)</prompt_[\d.]+>\n<execution_[\d.]+>\n$")
_FOUND = re.compile(r"^found (\S+)\n", re.MULTILINE)

_Term = tuple[int, str]
"""A value, and the expression that makes it."""


def stand_in(*, paced: bool = False) -> FakeEngine:
    """Make an engine that understands Countdown with 2 to 4 numbers; ``paced`` takes 2 ms a token."""
    return FakeEngine(_write, latency=Latency(token=0.002) if paced else None, manifest=_MANIFEST)


def _write(prompt: Prompt) -> str:
    """Go on as a model would that was trained on such runs."""
    text = prompt.text
    task = Countdown.parse(text.partition("\n")[0])
    assert task is not None  # the manifest lets nothing else in
    if match := _SUBTASK.search(text):
        return f"{_explore(task, match[1])}{_TAGS.stops.execution[0]}"
    if text.endswith(f"{_TAGS.chain.open}\n"):
        chain = _chain(task)
        return f"{chain}{_TAGS.chain.close}\n{_TAGS.answer.open}\n{_answer(chain)}"
    if text.endswith(f"{_TAGS.answer.open}\n"):
        return _answer(text)
    planned = text.count(_TAGS.stops.plan[0])
    if planned == len(_PLANS) or _FOUND.search(text):
        return f"{_TAGS.answer.open}\n{_answer(text)}"
    return _plan(task, planned + 1)


def _plan(task: Countdown, stage: int) -> str:
    lead, signs = _PLANS[stage - 1]
    prompts = (
        f"{_TAGS.prompt.open}{opening}{_TAGS.prompt.close}\n".format(stage=stage, number=number)
        for number, opening in enumerate(_openings(task, signs), 1)
    )
    return f"{_TAGS.plan.open.format(stage=stage)}\n{lead}\n{''.join(prompts)}{_TAGS.stops.plan[0]}"


def _chain(task: Countdown) -> str:
    """Write one opening after the other, up to the first that succeeds."""
    chain = ""
    for opening in (opening for _, signs in _PLANS for opening in _openings(task, signs)):
        chain += _explore(task, opening)
        if _FOUND.search(chain):
            break
    return chain


def _answer(text: str) -> str:
    found = _FOUND.search(text)
    result = f"\\boxed{{{found[1]}}}" if found else "no solution found"
    return f"{result}\n{_TAGS.answer.close}"


def _openings(task: Countdown, signs: str) -> list[str]:
    """List the first steps with one of ``signs``, none twice."""
    steps = _steps([(number, str(number)) for number in task.numbers])
    return list(dict.fromkeys(made[1][1:-1] for made, _ in steps if set(signs) & set(made[1])))


def _explore(task: Countdown, opening: str) -> str:
    """Write every way to go on from ``opening``, up to the first that meets the target."""
    steps = _steps([(number, str(number)) for number in task.numbers])
    made, rest = next(step for step in steps if step[0][1][1:-1] == opening)
    lines = [f"{opening}={made[0]}"]
    solution = _search([made, *rest], task.target, lines)
    return "\n".join([*lines, f"found {solution[1:-1]}" if solution else "none"]) + "\n"


def _search(terms: Sequence[_Term], target: int, lines: list[str]) -> str | None:
    """Find an expression, in parentheses, that uses all ``terms``; each step is added to ``lines``."""
    if len(terms) == 1:
        value, expression = terms[0]
        return expression if value == target else None
    for made, rest in _steps(terms):
        lines.append(f"{made[1]}={made[0]}")
        if solution := _search([made, *rest], target, lines):
            return solution
    return None


def _steps(terms: Sequence[_Term]) -> Iterator[tuple[_Term, list[_Term]]]:
    """Combine two of ``terms`` in every way that gives a whole number; return what that makes, and the others."""
    for i, j in itertools.combinations(range(len(terms)), 2):
        (b, y), (a, x) = sorted((terms[i], terms[j]))
        rest = [term for k, term in enumerate(terms) if k not in (i, j)]
        for sign, value in (("+", a + b), ("-", a - b), ("*", a * b)):
            yield (value, f"({x}{sign}{y})"), rest
        if b and a % b == 0:
            yield (a // b, f"({x}/{y})"), rest
